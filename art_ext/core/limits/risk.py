"""Risk of a classifier on a generator's images, and the bounds at that risk."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from art_ext.core.checks import check_count
from art_ext.core.keywords import public
from art_ext.core.limits.bounds import (
    FORMS,
    RATIO_TOLERANCE,
    Numbers,
    check_priors,
    intrinsic_robustness_bound,
    numbers,
)
from art_ext.core.limits.generator import Generator, GeneratorOracle, check_generator, draw_latents
from art_ext.core.metrics import Rate
from art_ext.core.oracle import LabelOracle, Model
from art_ext.core.outputs import NO_LABEL
from art_ext.core.streams import resolve_seed

# readings of alpha in a measured risk
SMALLEST_CLASS_RISK = "smallest class risk"
OVERALL_RISK = "overall risk"
PAPERS_READING = "papers' reading"
ZERO_RISK = "The measured risk is 0, so this bound holds for other classifiers only."
NO_STATEMENT = "alpha / p_i exceeds 1, so the theorem says nothing in the overall form."


@dataclass(frozen=True)
class Alpha:
    """One reading of a measured risk as the alpha of a bound.

    Attributes:
        form: of the bound, ``"class-wise"`` or ``"overall"``.
        reading: ``"smallest class risk"``, ``"overall risk"`` or ``"papers' reading"``.
        value: alpha.
        low: lower end of its 95 % interval.
        high: upper end.
    """

    form: str
    reading: str
    value: float
    low: float
    high: float

    @property
    def remark(self) -> str:
        """The sentence on a risk of 0, or an empty one."""
        return "" if self.value else ZERO_RISK


@dataclass(frozen=True, eq=False)
class GeneratorRisk:
    """Risk of a classifier on N images of a generator. The label is the class of the generator.

    ``draw_latents(latent_dim, y, index, seed)`` gives the latents of the images again.

    Attributes:
        overall: rate of misclassified images, with its interval.
        classes: (K,) the same for each class.
        y: (N,) int64 classes, on the CPU as the other tensors.
        index: (N,) int64, the number of the latent within its class.
        predictions: (N,) int64 predicted classes.
        seed: key of the latents.
        queries: rows of the classifier.
        generator_rows: rows of the generator, without those that check it.
    """

    overall: Rate
    classes: tuple[Rate, ...]
    y: Tensor
    index: Tensor
    predictions: Tensor
    seed: int
    queries: int
    generator_rows: int

    @property
    def wrong(self) -> Tensor:
        """(N,) bool: misclassified images."""
        return self.predictions != self.y

    @property
    def alphas(self) -> tuple[Alpha, ...]:
        """The readings of alpha: for both forms, and the papers' one.

        The class-wise form holds for classifiers with a risk of at least alpha on every class. So
        alpha is the smallest class risk there. The papers put the overall risk into that form.
        """
        smallest = min(self.classes, key=lambda one: one.share)
        low = min(one.low for one in self.classes)
        high = min(one.high for one in self.classes)
        overall = self.overall.share, self.overall.low, self.overall.high
        class_wise, whole = FORMS
        return (
            Alpha(class_wise, SMALLEST_CLASS_RISK, smallest.share, low, high),
            Alpha(whole, OVERALL_RISK, *overall),
            Alpha(class_wise, PAPERS_READING, *overall),
        )


@dataclass(frozen=True, eq=False)
class RiskBound:
    """Upper bound on robustness at one reading of a measured risk.

    Attributes:
        alpha: the reading.
        value: float64 bounds of the shape of eps. NaN if the theorem says nothing.
        low: the bounds at ``alpha.high``.
        high: the bounds at ``alpha.low``.
        remark: sentences that belong beside the bound, or empty.
    """

    alpha: Alpha
    value: Tensor
    low: Tensor
    high: Tensor
    remark: str


@public()
def risk_on(
    model: Model,
    generator: Generator,
    *,
    num_samples: int = 10_000,
    priors: Numbers | None = None,
    seed: int = 0,
    outputs: str = "logits",
    image_range: tuple[float, float] | None = (0.0, 1.0),
    batch_size: int = 256,
    device: torch.device | str | None = None,
) -> GeneratorRisk:
    """Measure the risk of a classifier on images of a conditional generator.

        Risk_i = P(f(g_i(z)) != i), z ~ N(0, I), and Risk = sum_i p_i Risk_i.

    The label of an image is the class that was given to the generator. A generator whose images do
    not show their class therefore raises the risk of every classifier. Each image costs one query
    and one row of the generator.

    Args:
        model: an ``nn.Module`` or a callable, run in eval mode.
        generator: module or callable from latents (N, d) and classes (N,) to images (N, *S), with
            the attributes ``latent_dim`` and ``num_classes``.
        num_samples: number of images. They are shared out to the classes by their priors.
        priors: (K,) probabilities of the classes, > 0. Default: equal ones.
        seed: key of the latents, >= 0. None: a fresh one.
        outputs: what the model returns: ``"logits"``, ``"probabilities"`` or ``"labels"``.
        image_range: range of the generator's images, which are mapped to [0, 1]. None: neither
            mapped nor checked.
        batch_size: maximum number of rows in one call.
        device: device of the inputs, for models without parameters.

    Raises:
        ValueError: if an argument is out of range, a class gets no sample, the generator is no
            conditional generator, its images leave ``image_range`` or do not fit the model, the
            model has another number of classes, or it returns NaN.
    """
    check_count("num_samples", num_samples)
    seed = resolve_seed(seed, least=0)
    images_of = GeneratorOracle(generator, image_range=image_range, device=device)
    y, index = _classes(check_shares(num_samples, priors, images_of.num_classes))
    oracle = LabelOracle(
        model,
        num_samples,
        outputs=outputs,
        batch_size=batch_size,
        device=device,
        default_device=images_of.device,
    )
    predictions = []
    with images_of, oracle, torch.no_grad():
        check_generator(images_of, seed=seed)
        rows_before = images_of.rows
        for part in torch.arange(num_samples).split(batch_size):
            z = draw_latents(images_of.latent_dim, y[part], index[part], seed)
            images = images_of(z, y[part]).to(oracle.device)
            predictions.append(_predicted(oracle, images, part.to(oracle.device)))
            _check_classes(oracle, images_of.num_classes)
    predicted = torch.cat(predictions).cpu()
    if bool((predicted == NO_LABEL).any()):
        raise ValueError("the model returns NaN for an image of the generator")
    wrong = predicted != y
    return GeneratorRisk(
        overall=Rate.of(wrong),
        classes=tuple(Rate.of(wrong[y == label]) for label in range(images_of.num_classes)),
        y=y,
        index=index,
        predictions=predicted,
        seed=seed,
        queries=int(oracle.queries.sum()),
        generator_rows=images_of.rows - rows_before,
    )


@public()
def bounds_at_risk(
    risk: GeneratorRisk,
    *,
    eps: Numbers,
    lipschitz: Numbers,
    delta: float = 1e-3,
    priors: Numbers | None = None,
) -> tuple[RiskBound, ...]:
    """Compute the bounds of ``intrinsic_robustness_bound`` at a measured risk and its interval.

    Args:
        risk: of a classifier, from ``risk_on``.
        eps: radius of the L2 ball, a number or a tensor.
        lipschitz: a number, or one per class (K,).
        delta: probability that the Lipschitz condition fails, in [0, 1]. Default: 0.001.
        priors: (K,) probabilities of the classes. Default: equal ones.

    Returns:
        One bound for each of ``risk.alphas``.

    Raises:
        ValueError: as ``intrinsic_robustness_bound``, except that a theorem that says nothing gives
            NaN.
    """
    count = len(risk.classes)
    shares = torch.full((count,), 1 / count, dtype=torch.float64)
    if priors is not None:
        shares = check_priors(priors, count)
    radii = numbers("eps", eps)
    found = []
    for alpha in risk.alphas:
        ends = torch.tensor([alpha.value, alpha.high, alpha.low], dtype=torch.float64)
        stated = torch.ones(3, dtype=torch.bool)
        if alpha.form == "overall":
            stated = ends / shares.min() <= 1 + RATIO_TOLERANCE
        bound = intrinsic_robustness_bound(
            eps=radii,
            alpha=ends.where(stated, 0.0).view(3, *[1] * radii.dim()),
            lipschitz=lipschitz,
            delta=delta,
            priors=shares,
            form=alpha.form,
        )
        value, low, high = bound.value.where(stated.view(3, *[1] * radii.dim()), torch.nan)
        remarks = [alpha.remark, "" if stated[0] else NO_STATEMENT]
        found.append(RiskBound(alpha, value, low, high, " ".join(filter(None, remarks))))
    return tuple(found)


def check_shares(num_samples: int, priors: object | None, num_classes: int) -> Tensor:
    """Return (K,) int64 numbers of samples of the classes, shared out by the priors.

    Args:
        num_samples: of all classes together.
        priors: (K,) probabilities of the classes. None: equal ones.
        num_classes: K.

    Raises:
        ValueError: if a prior is 0, a class gets no sample, or priors do not fit.
    """
    shares = torch.full((num_classes,), 1 / num_classes, dtype=torch.float64)
    if priors is not None:
        shares = check_priors(priors, num_classes)
        if bool((shares == 0).any()):
            raise ValueError(
                "priors must be > 0 where the risk is measured, because each class needs samples,"
                f" got 0 for class {int(shares.argmin())}"
            )
    wanted = shares * num_samples
    counts = wanted.floor().to(torch.int64)
    # the rest goes to the largest remainders
    order = (wanted - counts).argsort(descending=True, stable=True)
    counts[order[: num_samples - int(counts.sum())]] += 1
    if bool((counts == 0).any()):
        label = int(counts.argmin())
        raise ValueError(
            f"num_samples must give every class a sample, got {num_samples} for {num_classes}"
            f" classes, which leaves none for class {label}"
        )
    return counts


def _classes(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return classes (N,) and numbers within the class (N,) of so many samples of each class."""
    y = torch.arange(len(counts)).repeat_interleave(counts)
    first = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)[:-1]])
    return y, torch.arange(len(y)) - first[y]


def _predicted(oracle: LabelOracle, images: Tensor, index: Tensor) -> Tensor:
    """Return (r,) predicted classes of images (r, *S).

    Raises:
        ValueError: if the first images do not fit the model.
    """
    try:
        return oracle.labels(images, index, fresh=True)
    except RuntimeError as error:
        if int(index[0]) or isinstance(error, torch.OutOfMemoryError):
            raise
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"the generator's images must fit the model's input, got shape"
            f" {tuple(images.shape[1:])}, for which the model fails: {reason}"
        ) from error


def _check_classes(oracle: LabelOracle, num_classes: int) -> None:
    """Raise ValueError if the model has another number of classes than the generator."""
    if oracle.num_classes not in (None, num_classes):
        raise ValueError(
            f"the model must have the generator's {num_classes} classes, got {oracle.num_classes}"
        )
