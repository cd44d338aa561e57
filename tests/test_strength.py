"""The benchmark of strength: the stage at which each image falls, its files and its tables."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from art_ext.benchmarks import strength
from art_ext.benchmarks.common import autoattack_stages
from art_ext.benchmarks.strength import Side, chosen_cases, image_counts
from art_ext.benchmarks.strength_runs import CASES, CLEAN, Case, Run, Stage
from art_ext.benchmarks.strength_tables import report
from art_ext.core.attacks import fgsm, pgd
from art_ext.evaluation import Member, Panel

CASE = Case("cifar_net", "linf", "1/10")
PANEL = Panel("mine", "cascade", (Member("fgsm"), Member("pgd", {"num_steps": 5})), version="1")


def run_of(
    by: str, seconds: float, *fell: tuple[int, ...], seed: int = 0, case: Case = CASE
) -> Run:
    """Return a run of 10 images whose stages take so many seconds each."""
    names = [CLEAN, "first", "second"]
    stages = tuple(Stage(name, seconds, own) for name, own in zip(names, fell, strict=False))
    return Run(by, case, 10, seed, stages, (0.5, 0.5))


@pytest.fixture
def on_digits(
    monkeypatch: pytest.MonkeyPatch, linear_net: nn.Module, digits: tuple[Tensor, Tensor]
) -> tuple[nn.Module, Tensor, Tensor]:
    x, y = digits
    monkeypatch.setattr(strength, "stored_network", lambda name: linear_net)
    monkeypatch.setattr(Case, "samples", lambda self, count: (x[:count], y[:count]))
    monkeypatch.setattr(strength, "row_seconds", lambda *arguments: 1.0)
    return linear_net, x, y


class TestStages:
    def test_each_image_falls_once_in_a_cascade(
        self, tmp_path: Path, on_digits: tuple[nn.Module, Tensor, Tensor]
    ) -> None:
        model, x, y = on_digits
        run = Side(PANEL).run(CASE, 40, 0, tmp_path, False)
        assert run is not None
        wrong = model(x[:40]).argmax(1) != y[:40]
        first = fgsm(model, x[:40], y[:40], eps=0.1).success
        second = pgd(model, x[:40], y[:40], eps=0.1, num_steps=5, seed=0).success
        expected = [wrong, first & ~wrong, second & ~first & ~wrong]
        assert [stage.name for stage in run.stages] == [CLEAN, "fgsm", "pgd"]
        assert [set(stage.fell) for stage in run.stages] == [
            set(mask.nonzero().flatten().tolist()) for mask in expected
        ]

    def test_every_member_gets_all_images(
        self, tmp_path: Path, on_digits: tuple[nn.Module, Tensor, Tensor]
    ) -> None:
        model, x, y = on_digits
        run = Side(PANEL, True).run(CASE, 40, 0, tmp_path, False)
        assert run is not None
        correct = model(x[:40]).argmax(1) == y[:40]
        second = pgd(model, x[:40], y[:40], eps=0.1, num_steps=5, seed=0).success & correct
        assert set(run.stages[2].fell) == set(second.nonzero().flatten().tolist())

    @pytest.mark.slow
    def test_autoattack_tells_them_by_its_own_lines(
        self, tmp_path: Path, cifar_like: tuple[nn.Module, Tensor, Tensor]
    ) -> None:
        package = pytest.importorskip("pyautoattack")
        model, x, y = cifar_like
        case = Case("cifar_net", "linf", "1/50")
        stages = list(strength.autoattack(model, x, y, case, 0))
        assert [one.name for one in stages][:2] == [CLEAN, "APGD-CE"]
        theirs = package.AutoAttack(model, norm="Linf", eps=0.02, seed=0, version="standard")
        moved, _ = theirs.run_standard_evaluation(x, y, batch_size=250)
        broken = (model(moved).argmax(1) != y).nonzero().flatten().tolist()
        fallen = [image for stage in stages for image in stage.fell]
        assert sorted(fallen) == broken
        assert all(stage.seconds > 0 for stage in stages)


def test_autoattacks_log_names_its_stages_and_is_as_before_afterwards() -> None:
    log = logging.getLogger("auto-attack")
    before = (log.level, log.propagate, list(log.handlers))
    ended: list[tuple[str | None, float]] = []

    def stop() -> None:
        with autoattack_stages(lambda *stage: ended.append(stage)):
            log.debug("using standard version including apgd-ce, apgd-t, fab-t, square.")
            log.debug("initial accuracy: 97.50%")
            log.debug("apgd-ce - 1/1 - 3 out of 39 successfully perturbed")
            log.debug("robust accuracy after APGD-CE: 90.00% (total time 0.1 s)")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        stop()
    assert ended == [(None, 97.5), ("APGD-CE", 90.0)]
    assert (log.level, log.propagate, log.handlers) == before


class TestFiles:
    def test_a_run_is_read_again(
        self, tmp_path: Path, on_digits: tuple[nn.Module, Tensor, Tensor]
    ) -> None:
        side = Side(PANEL)
        assert side.run(CASE, 20, 0, tmp_path, True) is None
        made = side.run(CASE, 20, 0, tmp_path, False)
        (file,) = tmp_path.iterdir()
        assert file.name.startswith("cifar_net-linf-1_10-n20-seed0-mine-1-")
        assert side.run(CASE, 20, 0, tmp_path, True) == made

    def test_other_members_have_another_file(self) -> None:
        other = Panel("mine", "cascade", (Member("fgsm"),), version="1")
        assert Side(PANEL).digest("linf") != Side(other).digest("linf")


class TestTables:
    def test_images_of_one_side_and_ratios(self) -> None:
        second = Case("mnist_net", "l2", "2")
        ours = [
            run_of("mine-1", 1.0, (0,), (1, 2), (3,)),
            run_of("mine-1", 1.0, (0,), (1, 2), (), seed=1),
            run_of("mine-1", 1.0, (0,), (), case=second),
        ]
        theirs = [
            run_of("AutoAttack", 10.0, (0,), (1,), (2,)),
            run_of("AutoAttack", 10.0, (0,), (1,), (4,), seed=1),
            run_of("AutoAttack", 2.5, (0,), (5,), case=second),
        ]
        told = report(ours, theirs)
        assert (
            "| `cifar_net` | L-inf 1/10 | 10 x 2 | 90.0 | 65.00 | 70.00 | 2: 2, 3 | 1: 4 |"
            " 0.100 | 0.100 |"
        ) in told
        assert (
            "| `mnist_net` | L2 2 | 10 x 1 | 90.0 | 90.00 | 80.00 | 0 | 1: 5 | 0.400 | 0.400 |"
        ) in told
        assert (
            "mine-1 breaks more on 1, equally many on 0, fewer on 1 of 2 networks. Time ratio:"
            " geometric mean 0.200, largest 0.400."
        ) in told
        assert "| 2 (2.0 s) | 4 (2.0 s) | 1 (2.0 s) | 13 | 6.0 |" in told

    def test_images_that_one_member_alone_breaks(self) -> None:
        told = report([run_of("mine-1", 2.0, (0,), (1, 2), (2, 3, 4))], [], True)
        assert "| 2 | 1: 1 | 3 | 2: 3, 4 |" in told

    def test_nothing_stored(self) -> None:
        assert report([], []) == "no runs are stored"


class TestCases:
    def test_by_norm_network_and_in_full(self) -> None:
        assert chosen_cases([]) == list(CASES)
        assert {case.norm for case in chosen_cases(["l1"])} == {"l1"}
        assert chosen_cases(["net:l2:3/2"]) == [Case("net", "l2", "3/2")]
        assert chosen_cases(["net:l2:3/2"])[0].radius == 1.5
        assert Case("net", "linf", "2/255").radius == 2 / 255

    def test_number_of_images(self) -> None:
        cases = chosen_cases(["a:l2:1", "b:l2:1", "b:l1:1"])
        assert list(image_counts("20,b=30", cases).values()) == [20, 30, 30]
        with pytest.raises(ValueError, match="n must be NUMBER or"):
            image_counts("20,b", cases)
        with pytest.raises(ValueError, match="a network of n must be one of 'a', 'b'"):
            image_counts("20,c=3", cases)

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("mnist_smallcnn_trade", "did you mean 'mnist_smallcnn_trades'"),
            ("net:l3:1", "norm must be one of"),
        ],
    )
    def test_unknown_ones(self, name: str, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            chosen_cases([name])


@pytest.fixture
def cifar_like() -> tuple[nn.Module, Tensor, Tensor]:
    """A small network of 10 classes, with 4 colour images."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(4, 3, 8, 8, generator=generator)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 10)).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) / 4)
    y = model(x).argmax(1)
    y[0] = (y[0] + 1) % 10
    return model, x, y
