"""The configurations of the papers' tables are ones that the command reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from art_ext.configuration.limits import resolve_limits
from art_ext.core.limits import intrinsic_robustness_bound

PAPERS = Path(__file__).parents[2] / "benchmarks" / "papers" / "configurations"


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_the_command_reads_the_configuration(name):
    found = resolve_limits({}, PAPERS / f"limits-{name}.toml", out="runs/limits")
    assert found.generator == "runs/gan"
    assert found.model[0] == "runs/natural"
    assert (found.radius, found.delta) == (0.5, 1e-3)  # of Table 4.3


def test_the_published_bounds_follow_from_the_published_constants():
    path = PAPERS / "limits-mnist.toml"
    settings = resolve_limits({}, path, out="runs/limits")
    line = next(one for one in path.read_text().splitlines() if "(Table 4.3)" in one)
    constants = [float(word) for word in line.partition(": ")[2].split()[:10]]
    bound = intrinsic_robustness_bound(
        eps=settings.eps, alpha=settings.alpha, lipschitz=constants, radius=settings.radius
    )
    assert bound.value.tolist() == pytest.approx([0.982, 0.978, 0.972], abs=5e-4)
    assert bound.radius_ok.all()
