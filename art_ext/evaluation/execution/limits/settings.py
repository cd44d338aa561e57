"""Settings of a run on limits, which pickle, and the seeds of its parts."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from art_ext.core.checks import check_choice, check_count, check_number, check_positive
from art_ext.core.limits.lipschitz import ESTIMATORS, UNITS
from art_ext.core.limits.neighbours import NEIGHBOURS
from art_ext.core.limits.risk import check_shares

# latents and neighbours of each estimator: in short, and as in the paper
SHORT = {"sampled": (200, 500), "spectral": (1000, 0), "ascent": (200, 500)}
FULL = {"sampled": (1000, 2000), "spectral": (1000, 0), "ascent": (1000, 2000)}
_ESTIMATORS = "estimators (--estimator)"  # in files and Python, and on the command line
REPEATS = 3  # of sampled constants, whose deviation the table shows


@dataclass(frozen=True)
class LimitsSettings:
    """Settings that decide constants and risks.

    Attributes:
        estimators, radius, delta, num_latents, num_neighbours, num_iterations, repeats,
        neighbours, image_range, lipschitz_units, num_samples, priors, full, outputs: as of
        ``limits``, checked by ``check``.
        seed: key of the run, resolved.
        memory_mb, batch_size, device: of the machine, which decide nothing.
    """

    estimators: tuple[str, ...]
    radius: float
    delta: float
    num_latents: int | None
    num_neighbours: int | None
    num_iterations: int
    repeats: int | None
    neighbours: str
    image_range: tuple[float, float] | None
    lipschitz_units: str
    num_samples: int
    priors: tuple[float, ...] | None
    full: bool
    outputs: str
    seed: int
    memory_mb: float
    batch_size: int
    device: str | None

    def check(self, classes: int) -> None:
        """Raise ValueError unless the settings are valid, before anything is computed.

        Args:
            classes: number of classes of the generator.
        """
        if not self.estimators:
            raise ValueError(f"{_ESTIMATORS} must name at least one of {', '.join(ESTIMATORS)}")
        for name in self.estimators:
            check_choice(_ESTIMATORS, name, ESTIMATORS)
        check_choice("neighbours", self.neighbours, NEIGHBOURS)
        check_choice("lipschitz_units", self.lipschitz_units, UNITS)
        check_positive("radius", self.radius)
        check_number("delta", self.delta)
        if not 0 <= self.delta < 1:
            raise ValueError(f"delta must lie in [0, 1), got {self.delta!r}")
        counts = {
            "num_iterations": self.num_iterations,
            "num_samples": self.num_samples,
            "batch_size": self.batch_size,
        }
        given = {
            "num_latents": self.num_latents,
            "num_neighbours": self.num_neighbours,
            "repeats": self.repeats,
        }
        for name, count in (counts | given).items():
            if count is not None:
                check_count(name, count)
        check_shares(self.num_samples, self.priors, classes)

    def lipschitz(self, estimator: str) -> dict[str, Any]:
        """Return the keywords of ``generator_lipschitz`` for an estimator."""
        latents, neighbours = (FULL if self.full else SHORT)[estimator]
        repeats = REPEATS if estimator == "sampled" else 1
        return {
            "estimator": estimator,
            "radius": self.radius,
            "delta": self.delta,
            "num_latents": self.num_latents or latents,
            # the spectral norm takes none, but its argument is checked
            "num_neighbours": self.num_neighbours or neighbours or 1,
            "num_iterations": self.num_iterations,
            "repeats": self.repeats or repeats,
            "neighbours": self.neighbours,
            "image_range": self.image_range,
            "lipschitz_units": self.lipschitz_units,
            "memory_mb": self.memory_mb,
            "device": self.device,
            "seed": seed_of("lipschitz", self.seed),
        }

    @property
    def risk(self) -> dict[str, Any]:
        """The keywords of ``risk_on``."""
        return {
            "num_samples": self.num_samples,
            "priors": self.priors,
            "outputs": self.outputs,
            "image_range": self.image_range,
            "batch_size": self.batch_size,
            "device": self.device,
            "seed": seed_of("risk", self.seed),
        }

    @property
    def decisive(self) -> dict[str, Any]:
        """The settings that decide constants and risks, in the types of JSON."""
        machine = ("memory_mb", "batch_size", "device")
        return {name: value for name, value in asdict(self).items() if name not in machine}


def seed_of(purpose: str, seed: int) -> int:
    """Return the seed of a part of the run.

    Parts with one seed would share latents: a classifier that was trained on images of
    ``art-ext generator sample --seed 0`` would be judged on its own training images.
    """
    digest = hashlib.sha256(f"art-ext limits {purpose} {seed}".encode()).digest()
    return int.from_bytes(digest[:7], "big")


def check_n(n: int | None) -> None:
    """Raise ValueError unless n is None or an integer >= 1."""
    if n is None:
        return
    if isinstance(n, int) and not isinstance(n, bool) and n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    check_count("n", n)


def listed_values(name: str, values: Any) -> tuple[Any, ...]:
    """Return the values of an argument that takes several. One text is one value.

    Raises:
        ValueError: for an argument of another kind.
    """
    if isinstance(values, str):
        return (values,)
    if not isinstance(values, Iterable):
        raise ValueError(f"{name} must be a list of values, got {values!r}")
    return tuple(values)


def check_alpha(alpha: float | None) -> None:
    """Raise ValueError unless alpha is None or a number in [0, 1]."""
    if alpha is None:
        return
    check_number("alpha", alpha)
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must lie in [0, 1], got {alpha!r}")


def radii_of(eps: float | Sequence[float]) -> tuple[float, ...]:
    """Return radii, ascending.

    Raises:
        ValueError: without one, or if one is no number > 0 or not finite.
    """
    given = eps if isinstance(eps, Sequence) and not isinstance(eps, str) else (eps,)
    for one in given:
        check_number("eps", one)
    radii = tuple(sorted({float(one) for one in given}))
    if not radii or not all(math.isfinite(one) and one > 0 for one in radii):
        raise ValueError(f"eps must hold at least one finite radius > 0, got {list(given)}")
    return radii
