"""Ensembles: weighted averages of the logits, probabilities or losses of several models."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from art_ext.core.calling import ModelCall
from art_ext.core.checks import check_choice, check_number
from art_ext.core.losses import Loss, logits_of
from art_ext.core.outputs import OutputReader

AVERAGES = ("logits", "probabilities", "losses")


class Ensemble(nn.Module):
    """Ensemble that returns the logits ``sum_k w_k z_k``, or ``log sum_k w_k softmax(z_k)``.

    With ``average="losses"`` the loss is ``sum_k w_k J(z_k, y)``, and the averaged probabilities
    give the prediction. One row through the ensemble is one query, whatever K. The members are
    submodules: an attack runs them in eval mode and restores each one's own mode.

    Args:
        models: networks, or callables of a batch, with the same classes. One column stands for two
            classes.
        weights: one number >= 0 per model, divided by their sum. None: equal weights.
        average: ``"logits"``, ``"probabilities"`` or ``"losses"``.
        outputs: what the members return, ``"logits"`` or ``"probabilities"``. The ensemble itself
            returns logits.

    Raises:
        ValueError: without a model, for invalid weights, or for unknown names.

    References:
        Dong et al., "Boosting adversarial attacks with momentum", CVPR 2018 (the three averages).
    """

    copies_rows = True

    def __init__(
        self,
        models: Sequence[nn.Module | Callable[[Tensor], Tensor]],
        weights: Sequence[float] | None = None,
        *,
        average: str = "logits",
        outputs: str = "logits",
    ) -> None:
        super().__init__()
        if not isinstance(models, Sequence) or not all(callable(model) for model in models):
            raise ValueError(f"models must be a list of networks or callables, got {models!r}")
        shares = [1.0] * len(models) if weights is None else list(weights)
        for share in shares:
            check_number("each weight", share)
        if (
            not models
            or len(shares) != len(models)
            or min(shares) < 0
            or not 0 < sum(shares) < math.inf
        ):
            raise ValueError(
                "models must hold at least one model, and weights one number >= 0 for each, not all"
                f" 0, got {len(models)} models and weights {weights}"
            )
        check_choice("average", average, AVERAGES)
        check_choice("outputs", outputs, ("logits", "probabilities"))
        self.members = list(models)
        self._calls = [ModelCall(model) for model in models]
        self.networks = nn.ModuleList(model for model in models if isinstance(model, nn.Module))
        self.weights = [share / sum(shares) for share in shares]
        self.average = average
        self.outputs = outputs
        self._readers = [OutputReader(outputs) for _ in models]
        self._log_weights = torch.tensor(self.weights).log()

    def forward(self, rows: Tensor) -> Tensor:
        """Return (R, classes) logits of the ensemble for rows (R, *S).

        Raises:
            RuntimeError: if the output of an ensemble that averages losses is differentiated.
        """
        if self.average == "losses" and rows.requires_grad and torch.is_grad_enabled():
            raise RuntimeError(
                "an ensemble that averages losses has no single output to differentiate: attack it"
                " with a function of art_ext.core.attacks, or use average='probabilities'"
            )
        return self.combine(self.member_logits(rows))

    def member_logits(self, rows: Tensor) -> list[Tensor]:
        """Return K logits (R, classes).

        Raises:
            ValueError: if the members differ in their numbers of classes, or their outputs are of
                another kind.
        """
        members = []
        for call, reader in zip(self._calls, self._readers, strict=True):
            first = reader.num_classes is None
            scores = reader(call(rows), len(rows))
            reader.output_dtype = call.output_dtype
            if first:  # the first rows of an attack are clean
                reader.check_clean(scores.detach())
            members.append(logits_of(scores, self.outputs))
        shapes = {tuple(logits.shape) for logits in members}
        if len(shapes) > 1:
            raise ValueError(
                f"the members of an ensemble must return the same shape, got {sorted(shapes)}"
            )
        return members

    def combine(self, members: list[Tensor]) -> Tensor:
        """Return the ensemble's logits (R, classes) from those of its members."""
        if self.average == "logits":
            return torch.stack(
                [weight * z for weight, z in zip(self.weights, members, strict=True)]
            ).sum(dim=0)
        # moved once, because a copy to a device waits for it
        shares = self._log_weights = self._log_weights.to(members[0].device)
        return (torch.stack(members).log_softmax(dim=2) + shares[:, None, None]).logsumexp(dim=0)

    def average_loss(self, members: list[Tensor], index: Tensor, loss: Loss) -> Tensor:
        """Return (R,) the weighted average of the members' losses."""
        losses = [
            weight * loss(logits, index)
            for weight, logits in zip(self.weights, members, strict=True)
        ]
        return torch.stack(losses).sum(dim=0)
