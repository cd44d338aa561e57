"""Expectations: averages of the answers of a randomised model over fresh draws."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.core.calling import ModelCall
from art_ext.core.checks import check_choice, check_count
from art_ext.core.inspection import Columns
from art_ext.core.ledger import Ledger
from art_ext.core.outputs import OUTPUTS, OutputReader, predicted_classes
from art_ext.core.passes import Passes
from art_ext.core.streams import global_streams_kept

logger = logging.getLogger("art_ext")

DRAWS = 20
VERIFICATION_DRAWS = 100
FIRST_PART = 5  # of so many parts of the votes may end a candidate
AVERAGES = ("probabilities", "logits")
MIXER = 0x9E3779B97F4A7C15  # odd, so that the products differ for all numbers of a call
SAME_ANSWERS = (
    "Expectation: the model gave the same scores in all %d draws. It is deterministic, and its own"
    " answers cost one draw. Attacks run the model in eval mode, which switches nn.Dropout off:"
    " randomness of the defence must not depend on the mode"
)


class Expectation(nn.Module):
    """Average of a randomised model's answers over fresh draws (expectation over transformation).

    ``log 1/draws sum_k softmax(z_k(x))``, where ``z_k`` are the scores of the k-th call of the
    model. Each call draws again, and gradients pass through all of them. One row is one query and
    one gradient of an attack, whatever the number of draws. ``AttackResult.model_rows`` counts the
    rows of the model itself.

    Where the averaged answer reaches the goal of an attack, the candidate is verified by
    ``verification_draws`` further calls. It is a success if more than half of them reach the goal,
    and more than half of the first fifth of them, after which all other candidates are dropped.
    Functions of ``art_ext`` do this for a model that is an ``Expectation`` or contains one. Other
    toolkits see a network that returns averages, and judge by these.

    Args:
        model: ``nn.Module``, or a callable of a batch (R, *S), whose answers are random. It must
            draw at each call.
        draws: calls of the model that an answer averages. Default: 20.
        verification_draws: further calls that decide about a candidate. Default: 100.
        average: ``"probabilities"``: the logarithm of the mean softmax, as above. ``"logits"``: the
            mean of the logits. It counts for models of logits only. Default: probabilities.
        outputs: what the model returns and the expectation too. ``"logits"``, ``"probabilities"``
            (their mean), or ``"labels"`` (the most frequent one, which has no gradient). Default:
            logits.
        seed: key of the draws from PyTorch's random streams. The same calls in the same order then
            get the same draws, an attack begins them again, and the caller's streams stay as they
            are. A model that draws elsewhere, such as from a generator of its own, is not
            reproducible. Default: None, the model draws from the streams as they are.

    Raises:
        ValueError: if an argument is out of range, or the model is no callable or contains an
            expectation. A forward raises it for outputs of another kind.

    Attributes:
        model_rows: rows that the model has been sent so far.

    References:
        Athalye, Engstrom, Ilyas, Kwok. Synthesizing robust adversarial examples. ICML 2018.
        Athalye, Carlini, Wagner. Obfuscated gradients give a false sense of security. ICML 2018.
    """

    copies_rows = True

    def __init__(
        self,
        model: nn.Module | Callable[[Tensor], Tensor],
        draws: int = DRAWS,
        verification_draws: int = VERIFICATION_DRAWS,
        *,
        average: str = "probabilities",
        outputs: str = "logits",
        seed: int | None = None,
    ) -> None:
        super().__init__()
        if not callable(model):
            raise ValueError(
                f"model must be an nn.Module or a callable of a tensor, got {type(model).__name__}"
            )
        inner = model.modules() if isinstance(model, nn.Module) else (model,)
        if any(isinstance(one, Expectation) for one in inner):
            raise ValueError("model must not contain an Expectation, whose draws would multiply")
        check_count("draws", draws)
        check_count("verification_draws", verification_draws)
        check_choice("average", average, AVERAGES)
        check_choice("outputs", outputs, OUTPUTS)
        if seed is not None:
            check_count("seed", seed, least=0)
        self.model = model
        self.call = ModelCall(model)  # its rejected rows are found under this name
        self.draws = draws
        self.verification_draws = verification_draws
        self.average = average
        self.outputs = outputs
        self.seed = seed
        self.model_rows = 0
        self._reader = OutputReader(outputs)
        self._number = 0  # of the forward, for its seed
        self._compared = False

    @property
    def identity(self) -> dict[str, Any]:
        """Class of the model and numbers of draws, for the identity of a run."""
        own = getattr(self.model, "__name__", type(self.model).__name__)
        known = getattr(self.model, "identity", {"class": own})
        return {**known, "draws": self.draws, "verification_draws": self.verification_draws}

    def forward(self, rows: Tensor) -> Tensor:
        """Return the averaged answers (R, classes), or labels (R,), for rows (R, *S).

        Raises:
            ValueError: if the model's outputs are of another kind.
        """
        drawn = []
        with self._streams(rows.device):
            for _ in range(self.draws):
                answers = self.call(rows)
                self._check_scores(answers)
                drawn.append(self._reader(answers, len(rows)))
                self.model_rows += len(rows)
        self._reader.output_dtype = self.call.output_dtype
        if len(drawn) == 1:
            return drawn[0]
        if not self._compared and len(rows):
            self._compared = True
            if all(torch.equal(drawn[0], other) for other in drawn[1:]):
                logger.warning(SAME_ANSWERS, self.draws)
        return self._mean(torch.stack(drawn))

    def _check_scores(self, answers: object) -> None:
        """Raise ValueError for class indices of a model that should return scores."""
        scores = not isinstance(answers, Tensor) or answers.is_floating_point()
        if self.outputs != "labels" and not scores:
            raise ValueError(
                f"an Expectation with outputs={self.outputs!r} needs scores, but the model returns"
                " class indices: give outputs='labels' to the Expectation and to the attack"
            )

    def _mean(self, drawn: Tensor) -> Tensor:
        """Return the average of answers (draws, R, K), or the mode of labels (draws, R)."""
        if self.outputs == "labels":
            return drawn.mode(dim=0).values
        if self.outputs == "probabilities" or self.average == "logits":
            return drawn.mean(dim=0)
        return drawn.log_softmax(dim=2).logsumexp(dim=0) - math.log(len(drawn))

    def restart(self) -> None:
        """Begin the draws of a seed again, as the oracle of an attack does."""
        self._number = 0

    @contextmanager
    def single(self) -> Iterator[None]:
        """Give single draws in the place of averages for a block."""
        draws = self.draws
        self.draws = 1
        try:
            yield
        finally:
            self.draws = draws

    @contextmanager
    def _streams(self, device: torch.device) -> Iterator[None]:
        """Draw from streams of this forward, if there is a seed. The caller's are restored."""
        if self.seed is None:
            yield
            return
        key = (self.seed + MIXER * self._number) % 2**63
        self._number += 1
        with global_streams_kept(device):
            torch.default_generator.manual_seed(key)
            if device.type == "cuda":
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(key)
            elif device.type == "mps":
                torch.mps.manual_seed(key)
            yield


def expectation_in(model: object) -> Expectation | None:
    """Return the expectation that a model is, or contains. None if there is none."""
    modules = model.modules() if isinstance(model, nn.Module) else ()
    return next((module for module in modules if isinstance(module, Expectation)), None)


class Confirmation(Columns):
    """Votes of fresh draws on those rows whose averaged answer reaches the goal.

    Args:
        expectation: inside the model.
        outputs: what the model returns.

    Attributes:
        reached: from answers (r, K) and their samples (r,) to (r,) bool. None: no row is voted on.
        unknown: number of rows, from the first one on, whose goals are not known yet.
    """

    def __init__(self, expectation: Expectation, outputs: str) -> None:
        if expectation.outputs != outputs:
            raise ValueError(
                "an Expectation and its attack must have the same outputs, got"
                f" Expectation(outputs={expectation.outputs!r}) and outputs={outputs!r}"
            )
        super().__init__(outputs)
        self.expectation = expectation
        self.reached: Callable[[Tensor, Tensor], Tensor] | None = None
        self.unknown = 0

    def passes(
        self, model_call: ModelCall, reader: OutputReader, ledger: Ledger, **sizes: int
    ) -> Passes:
        """Return passes whose outputs carry the votes."""
        return ConfirmingPasses(self, model_call, reader, ledger, **sizes)

    def reaches(self, labels: Tensor, targeted: bool = False) -> None:
        """Vote on rows whose class differs from the labels (N,) of their samples, or is theirs."""

        def reached(outputs: Tensor, owner: Tensor) -> Tensor:
            classes = predicted_classes(outputs, self.kind)
            wanted = labels.index_select(0, owner)
            return classes == wanted if targeted else (classes != wanted) & (classes >= 0)

        self.reached = reached


class ConfirmingPasses(Passes):
    """Passes that draw again for the rows whose averaged answers reach the goal.

    Args:
        confirmation: that votes.
        *arguments, **options: as for ``Passes``.
    """

    def __init__(self, confirmation: Confirmation, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.confirmation = confirmation
        self.ledger.model_rows = torch.zeros_like(self.ledger.queries)

    def read(self, outputs: Tensor, rows: Tensor, index: Tensor) -> Tensor:
        """Read the model's outputs for one padded slice, and append the columns of the votes."""
        found = super().read(outputs, rows, index)
        count = len(index)
        draws = self.confirmation.expectation.draws
        self._count(index, draws)
        if len(rows) > count:
            self._count(index[-1:], draws * (len(rows) - count))
        excess = self._excess(found.detach(), rows.detach()[:count], index).to(torch.float32)
        columns = torch.stack([excess, torch.zeros_like(excess)], dim=1)
        if found.dim() == 1:
            found = found.to(columns.dtype).unsqueeze(1)
        return torch.cat([found, columns.to(found.dtype)], dim=1)

    def _excess(self, found: Tensor, rows: Tensor, index: Tensor) -> Tensor:
        """Return (r,) 1 where the votes are against a row that reaches the goal, else -1."""
        excess = -torch.ones_like(index)
        confirmation = self.confirmation
        if confirmation.unknown > 0:
            confirmation.unknown -= len(index)
            return excess
        if confirmation.reached is None:
            return excess
        chosen = confirmation.reached(found, index).nonzero().squeeze(1)
        if not len(chosen):
            return excess
        excess = excess.index_fill(0, chosen, 1)
        draws = confirmation.expectation.verification_draws
        first = -(-draws // FIRST_PART)
        votes = self._votes(rows[chosen], index[chosen], first)
        left = (2 * votes > first).nonzero().squeeze(1)
        votes, chosen = votes[left], chosen[left]
        if len(chosen):
            votes = votes + self._votes(rows[chosen], index[chosen], draws - first)
        return excess.index_fill(0, chosen[2 * votes > draws], -1)

    def _votes(self, rows: Tensor, owner: Tensor, draws: int) -> Tensor:
        """Return (r,) the number of fresh draws in which rows of the samples in owner (r,) reach
        the goal.
        """
        confirmation = self.confirmation
        votes = torch.zeros_like(owner)
        if confirmation.reached is None:
            return votes
        with torch.no_grad(), confirmation.expectation.single():
            for _ in range(draws):
                drawn = self.checked(self.model_call(rows), rows, len(rows))
                votes += confirmation.reached(drawn, owner)
                self._count(owner, 1)
        return votes

    def _count(self, index: Tensor, rows: int) -> None:
        """Count so many rows of the model for each entry of index (R,)."""
        counted = self.ledger.model_rows
        if counted is not None:
            counted.index_add_(0, index, torch.full_like(index, rows))
