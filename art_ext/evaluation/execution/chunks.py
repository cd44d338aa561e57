"""Chunks of samples: their clean pass, facts about the outputs, targets, and successes so far."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from art_ext.core.calls import scope
from art_ext.core.checks import listed
from art_ext.core.ensemble import Ensemble
from art_ext.core.expectation import Expectation
from art_ext.core.interruption import ModelStopped
from art_ext.core.losses import logits_of, margin
from art_ext.core.oracle import GradientOracle, LabelOracle, Model, ScoreOracle
from art_ext.core.outputs import sums_differ
from art_ext.core.probe import SAMPLES, probe_model
from art_ext.core.samples import admit
from art_ext.core.streams import fingerprint
from art_ext.errors import UserCodeError, describe, is_plain
from art_ext.evaluation.analysis.examples import choose, holds_examples, kept_successes
from art_ext.evaluation.execution.job import Job
from art_ext.evaluation.panel.targets import choose_targets
from art_ext.models.remote import RemoteClassifier
from art_ext.storage.records import STABLE, success_column

if TYPE_CHECKING:
    import pyarrow as pa

    from art_ext.evaluation.panel.attack import Attack, Settings

_Oracle = TypeVar("_Oracle", bound=LabelOracle)


@dataclass(eq=False)
class CleanPass:
    """The clean samples of a chunk (K of them) before one model.

    Attributes:
        labels: (K,) int64 labels of the samples.
        predictions: (K,) int64 predicted classes.
        targets: (K,) int64 target classes, -1 for none.
        targeted: True if the attacks have targets.
        facts: of the probe, in the types of JSON.
        successes: by eps, (K,) bool: samples with a success of an attack that has run. With a
            detector, those with an accepted one.
        unstable: by eps, (K,) bool: samples whose prediction an attack has changed. Empty without
            stability.
        scores: (K,) float32 scores of the model's detector. None: it has none.
        accepted: (K,) bool, what the detector accepts. None: there is none.
    """

    labels: Tensor
    predictions: Tensor
    targets: Tensor
    targeted: bool
    facts: Mapping[str, Any]
    successes: dict[float, Tensor] = field(default_factory=dict)
    unstable: dict[float, Tensor] = field(default_factory=dict)
    scores: Tensor | None = None
    accepted: Tensor | None = None

    @property
    def wrong(self) -> Tensor:
        """(K,) bool, misclassified before any attack."""
        return self.predictions != self.labels

    @property
    def failed(self) -> Tensor:
        """(K,) bool, misclassified before any attack, or rejected by the detector."""
        return self.wrong if self.accepted is None else self.wrong | ~self.accepted

    @property
    def goals(self) -> Tensor:
        """(K,) int64, the classes to leave or, with targets, to reach."""
        return self.targets if self.targeted else self.labels

    def goals_of(self, attack: Attack) -> Tensor:
        """Return (K,) the goals of an attack: with stability also to change wrong predictions."""
        own = self.keeps_predictions(attack)
        return torch.where(self.wrong, self.predictions, self.labels) if own else self.goals

    def keeps_predictions(self, attack: Attack) -> bool:
        """Return True if an attack tries to change the predictions of misclassified samples."""
        return bool(self.unstable) and not attack.nearest

    def wanted(self, attack: Attack, eps: float) -> Tensor:
        """Return (K,) bool, the samples for an attack of a cascade. Its smallest radius is eps."""
        wanted = self.attackable & ~self.wrong & ~self.successes[eps]
        if self.keeps_predictions(attack):
            wanted |= self.wrong & ~self.unstable[eps]
        return wanted

    @property
    def attackable(self) -> Tensor:
        """(K,) bool, the samples to attack: all, or with targets those not yet at their target."""
        if not self.targeted:
            return torch.ones_like(self.wrong)
        return ~self.wrong & (self.targets != self.labels)

    @property
    def held(self) -> Tensor:
        """(K,) bool, samples that are right and without a success within the largest eps so far."""
        return ~self.failed & ~self.successes[max(self.successes)]

    @property
    def robust(self) -> int:
        """Number of samples without a success within the largest eps so far."""
        return int(self.held.sum())

    def count(self, records: pa.Table, start: int) -> None:
        """Add the successes of a unit. A success at eps counts as a success at every larger eps,
        and so does a changed prediction.

        Args:
            records: of the unit.
            start: position of the chunk's first sample.
        """
        column = success_column(records.column_names)
        success, radius, index = (records[name].to_numpy() for name in (column, "eps", "index"))
        for eps, successes in self.successes.items():
            found = index[success & (radius <= eps)]
            successes[torch.from_numpy(found) - start] = True
        for eps, unstable in self.unstable.items():
            found = index[(records[STABLE].to_numpy() == 0) & (radius <= eps)]
            unstable[torch.from_numpy(found) - start] = True


@dataclass(frozen=True, eq=False)
class Chunk:
    """Samples that are attacked together.

    Attributes:
        number: of the chunk.
        samples: their positions in the data.
        x, y: (K, *S) the samples and (K,) their labels.
        ids: (K,) fingerprints of the samples.
        clean: by model, the clean pass.
        shown: positions in the chunk of the samples that every attack may keep.
        kept_successes: number of its first successes that each unit keeps.
    """

    number: int
    samples: slice
    x: Tensor
    y: Tensor
    ids: Tensor
    clean: Mapping[str, CleanPass]
    shown: Tensor
    kept_successes: int

    @property
    def facts(self) -> dict[str, Any]:
        """Facts about the clean samples, by model."""
        return {name: dict(clean.facts) for name, clean in self.clean.items()}


def clean_pass(job: Job, number: int, samples: slice, x: Tensor, y: Tensor) -> Chunk:
    """Return a chunk after one clean pass of each model.

    Only the first chunk of the data is evaluated more than once, to find models whose answers
    depend on chance or on the batch. So the result depends on the samples alone.

    Raises:
        TypeError, ValueError: as ``probe``, and if an attack of the panel cannot run on a model.
    """
    ids = fingerprint(x)
    clean: dict[str, CleanPass] = {}
    for name, model in job.models.items():
        # with several detectors a model has several names
        same = next((one for one in clean if job.models[one] is model), None)
        with scope(f"clean-{number:05d} {name}"):
            if same is None:
                found = _clean_pass(job, name, (x, y, ids), samples.start, repeat=number == 0)
            else:
                found = replace(clean[same], **_nothing(job, y))
            clean[name] = _scored(job, name, x, found)
    shown = choose(y, _right(clean)) if holds_examples(samples.start) else torch.arange(0)
    image = x[:1].numel() * torch.float32.itemsize
    kept = kept_successes(number, samples.start, image, len(job.attack_runs), len(job.models))
    return Chunk(number, samples, x, y, ids, clean, shown, kept)


def images_of(job: Job, chunk: Chunk, kept: Iterable[Tensor]) -> dict[str, Tensor]:
    """Return the samples of a chunk to keep: those that the report may show, or all.

    Empty if there are none.

    Args:
        job: of the run.
        chunk: whose ``successes`` are those of the units that have ended.
        kept: positions in the data of the samples whose adversarials these units kept.
    """
    right = _right(chunk.clean)
    y = chunk.y
    shown = torch.zeros_like(right).index_fill(0, chunk.shown, True)
    wanted = shown | job.save_images
    for positions in kept:
        wanted[positions - chunk.samples.start] = True
    for clean in chunk.clean.values():
        wanted[clean.held.nonzero().squeeze(1)[: chunk.kept_successes]] = True
    rows = wanted.nonzero().squeeze(1)
    if not len(rows):
        return {}
    return {
        "index": rows + chunk.samples.start,
        "x": chunk.x[rows].to(torch.float32).contiguous(),
        "y": y[rows],
        "right": right[rows],
        "shown": shown[rows],
    }


def _right(clean: Mapping[str, CleanPass]) -> Tensor:
    """Return bool (K,), the samples to attack that every model classifies correctly."""
    return torch.stack([one.attackable & ~one.wrong for one in clean.values()]).all(dim=0)


def _clean_pass(
    job: Job, name: str, samples: tuple[Tensor, Tensor, Tensor], start: int, repeat: bool
) -> CleanPass:
    """Return the clean pass of one model over the samples, labels and fingerprints of a chunk."""
    x, y, ids = samples
    model = job.models[name]
    gradients = any(attack.access == "gradients" for attack in job.panel)
    found = probe(model, x, y, job.settings, gradients, start=start, repeat=repeat)
    generator = job.resources.generator
    check_members(job.panel, generator, name, found.classes, found.facts.get("not_differentiable"))
    targets = choose_targets(
        job.settings.targeted,
        y,
        ids,
        job.settings.seed,
        found.classes or job.known_classes,
        _least_likely(job, model, x),
    )
    return CleanPass(
        labels=y,
        predictions=found.labels,
        targets=targets,
        targeted=job.settings.targeted is not None,
        facts=found.facts,
        **_nothing(job, y),
    )


def _nothing(job: Job, y: Tensor) -> dict[str, Any]:
    """Return the fields of ``CleanPass`` on attacks before the first one."""
    names = ["successes", *(["unstable"] if job.settings.stability else [])]
    return {
        name: {eps: torch.zeros(len(y), dtype=torch.bool) for eps in job.settings.eps}
        for name in names
    }


def _scored(job: Job, name: str, x: Tensor, clean: CleanPass) -> CleanPass:
    """Return a clean pass with the scores of the model's detector, if it has one."""
    if job.detection is None:
        return clean
    scores = job.detection.scores(name, x)
    unknown = scores.isnan().nonzero()
    if len(unknown):
        raise ValueError(
            f"the detector {job.detection.names[name]} must return numbers, got NaN for the clean"
            f" sample {clean.facts['start'] + int(unknown[0])}"
        )
    return replace(clean, scores=scores, accepted=job.detection.accepts(name, scores))


def _least_likely(job: Job, model: Model, x: Tensor) -> Tensor | None:
    """Return the classes (K,) of the lowest clean score, if the targets need them.

    This costs one more forward each, outside of any attack.
    """
    if job.settings.targeted != "least-likely":
        return None
    with make_oracle(ScoreOracle, model, len(x), job.settings) as oracle:
        samples = admit(oracle, x)[0]
        scores = oracle.scores(samples, torch.arange(len(x), device=oracle.device))
        return scores.argmin(dim=1).cpu()


def check_members(
    panel: Sequence[Attack],
    generator: Any,
    name: str,
    classes: int | None,
    reason: str | None = None,
) -> None:
    """Raise ValueError unless all attacks of a panel can run on a model.

    Args:
        panel: the attacks.
        generator: of the run, or None.
        name: of the model.
        classes: number of its classes, or None if it returns labels only.
        reason: why it has no gradient, if an attack needs one, or None.
    """
    wanted = getattr(generator, "num_classes", None)
    if wanted is not None and classes and wanted != classes:
        raise ValueError(
            f"the model {name!r} has {classes} classes, but the generator makes images of {wanted}:"
            " both must number the same classes"
        )
    if reason:
        members = [attack.name for attack in panel if attack.access == "gradients"]
        raise ValueError(
            f"{listed(members)} {'needs' if len(members) == 1 else 'need'} gradients, and the"
            f" model {name!r} gives none ({reason}). Attacks that need no gradients: --panel"
            " black-box, or --attack rays"
        )
    for attack in panel:
        if attack.check_classes is not None and classes:
            attack.check_classes(classes)


@dataclass(frozen=True, eq=False)
class Probe:
    """The clean pass over K samples.

    Attributes:
        labels: (K,) int64 predicted classes, on the CPU.
        classes: number of classes of the model, or None if it returns labels only.
        facts: values for JSON. Positions count from the beginning of the data set. Keys:

            * ``samples`` (K) and ``start`` (position of the first).
            * ``classes``: width of the model's output, or None.
            * ``training``: True if a module was passed in training mode.
            * ``lowest`` and ``highest`` value of the samples.
            * ``values``: the number of values, and ``on_box``: the number on the edge of the box.
            * ``probabilities``: rows that are probabilities although logits were announced.
            * ``unnormalised``: rows of probabilities that do not sum to 1.
            * ``repeated``: samples that were evaluated again.
            * ``not_checked``: True if a service answers repeated rows from its log.
            * ``randomised``: positions with two different answers.
            * ``batch_dependent``: positions whose answer differs in another batch.
            * ``differentiated``: correctly classified samples whose gradient was computed.
            * ``zero_gradients``: positions where it is zero everywhere.
            * ``gradients_not_finite``: positions where it holds NaN or an infinity.
            * ``not_differentiable``: the reason why there is no gradient, or None.
    """

    labels: Tensor
    classes: int | None
    facts: dict[str, Any]


class _CleanOracle(LabelOracle):
    """Oracle that keeps the outputs of the clean check: ``answers``, (K, classes) or (K,)."""

    answers: Tensor

    def check_clean(self, outputs: Tensor) -> None:
        super().check_clean(outputs)
        self.answers = outputs


def probe(
    model: Model,
    x: Tensor,
    y: Tensor,
    settings: Settings,
    gradients: bool,
    *,
    start: int = 0,
    repeat: bool = True,
) -> Probe:
    """Evaluate a model on the clean samples, before and outside of any attack.

    Costs one forward per sample, two more for those of the first batch if ``repeat`` (one if they
    are fewer than four), and one more with a backward for every sample if ``gradients``. Modules
    are evaluated in eval mode, and their mode is restored.

    Args:
        model: the model that will be attacked.
        x: (K, *S) samples.
        y: (K,) int64 labels.
        settings: of the evaluation.
        gradients: True if an attack uses gradients.
        start: position of the first sample in the data set.
        repeat: True to evaluate the first batch again, as it is and in other batches.

    Raises:
        TypeError, ValueError: for samples outside the box, labels beyond the model's width, or a
            model that returns NaN, has outputs of the wrong shape or fails on the samples.
    """
    modules = model.modules() if isinstance(model, nn.Module) else ()
    # a wrapper of ours has a mode of its own, which changes no answer
    training = any(one.training for one in modules if not isinstance(one, Ensemble | Expectation))
    try:
        with make_oracle(_CleanOracle, model, len(x), settings) as oracle:
            admitted = admit(oracle, x)[0]
            labels = oracle.clean_labels(admitted)
        answers = oracle.answers
        part = admitted[: repeated_rows(model, settings.batch_size, len(x)) if repeat else 0]
        again = probe_model(
            model, part, samples=len(part), first=answers[: len(part)], **settings.model_keywords
        )
    except ValueError as error:  # its sample numbers count from the first one here
        if not is_plain(error):
            raise UserCodeError(
                f"the model fails on the clean samples: {describe(error)}"
            ) from error
        raise ValueError(f"{error} (counted from sample {start})" if start else error) from error
    except ModelStopped:
        raise
    except Exception as error:  # the model is the user's
        raise UserCodeError(
            f"the model fails on samples of shape {tuple(x.shape[1:])}: {describe(error)}"
        ) from error
    if oracle.num_classes is not None and int(y.max()) >= oracle.num_classes:
        raise ValueError(
            f"labels must be below {oracle.num_classes}, the model's width, got {int(y.max())}"
        )
    lower, upper = settings.clip_values
    facts: dict[str, Any] = {
        "samples": len(x),
        "start": start,
        "training": training,
        "classes": oracle.num_classes,
        "lowest": float(admitted.min()),
        "highest": float(admitted.max()),
        "values": admitted.numel(),
        "on_box": int(((admitted == lower) | (admitted == upper)).sum()),
        **_doubtful_rows(oracle, answers),
        "repeated": len(part),
        "randomised": _positions(again.randomised, start),
        "batch_dependent": _positions(again.batch_dependent, start),
    }
    if repeat and not len(part):
        facts["not_checked"] = True
    if gradients and settings.outputs != "labels":
        facts |= gradient_facts(model, admitted, y.to(oracle.device), labels, settings, start)
    return Probe(labels.cpu(), oracle.num_classes, facts)


def repeated_rows(model: Model, batch_size: int, samples: int) -> int:
    """Return the number of samples that a model is evaluated on again, to find randomness.

    A service gets few, and none if it answers repeated rows from its log.
    """
    if isinstance(model, RemoteClassifier):
        return 0 if model.reuse else min(SAMPLES, batch_size, samples)
    return min(batch_size, samples)


def make_oracle(kind: type[_Oracle], model: Model, count: int, settings: Settings) -> _Oracle:
    """Oracle of the given kind for ``count`` samples, with the settings of an evaluation."""
    return kind(model, count, **settings.model_keywords)


def _doubtful_rows(oracle: LabelOracle, answers: Tensor) -> dict[str, int]:
    """Numbers of logits rows that sum to 1, as probabilities do, and of probability rows that do
    not.
    """
    kind = oracle.outputs
    reader = oracle.reader
    return {
        "probabilities": int(reader.like_probabilities(answers).sum()) if kind == "logits" else 0,
        "unnormalised": int(sums_differ(answers, reader.output_dtype).sum())
        if kind == "probabilities"
        else 0,
    }


def _positions(flags: Tensor, start: int) -> list[int]:
    return (flags.nonzero().flatten() + start).tolist()


def gradient_facts(
    model: Model, x: Tensor, y: Tensor, labels: Tensor, settings: Settings, start: int
) -> dict[str, Any]:
    """Return positions of correctly classified samples where the gradient of the margin loss is
    zero or not finite, and the reason if there is no gradient.
    """
    right = labels == y

    def loss(outputs: Tensor, index: Tensor) -> Tensor:
        return margin(logits_of(outputs, settings.outputs), y[index])

    reason = None
    zero = right
    broken = torch.zeros_like(right)
    try:
        with make_oracle(GradientOracle, model, len(x), settings) as oracle:
            found = oracle.gradient(
                x, torch.arange(len(x), device=x.device), loss, lambda _, index: right[index]
            )
        gradient = found.gradient.flatten(1)
        zero = right & (gradient == 0).all(dim=1)
        broken = right & ~gradient.isfinite().all(dim=1)
    except (torch.OutOfMemoryError, ModelStopped):
        raise
    except Exception as error:
        # no graph from the input to the scores, or a model that works on arrays only
        reason = describe(error)
    return {
        "differentiated": int(right.sum()),
        "zero_gradients": _positions(zero, start),
        "gradients_not_finite": _positions(broken, start),
        "not_differentiable": reason,
    }
