"""AutoAttack over pyautoattack, and over a stand-in with git's signature: outcome, counts,
flags, resume, refusals.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import random
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from art_ext.adapters.autoattack import AutoAttackResult, run_autoattack
from art_ext.adapters.autoattack import package as backends
from art_ext.core.attacks import pgd, rays
from art_ext.core.geometry import distances
from art_ext.core.result import Progress
from art_ext.data import Dataset
from art_ext.evaluation import Watcher, evaluate

EPS = 0.06
SMALL = {
    "apgd": {"n_iter": 8, "n_restarts": 1},
    "apgd_targeted": {"n_iter": 5, "n_target_classes": 2},
    "fab": {"n_iter": 4, "n_target_classes": 2},
    "square": {"n_queries": 40},
}
CHECKED = ("apgd-ce", "square")


@pytest.fixture(autouse=True)
def pyautoattack() -> Any:
    return pytest.importorskip("pyautoattack", reason="pyautoattack is not installed")


def run(model: Any, x: Tensor, y: Tensor, **options: Any) -> AutoAttackResult:
    given: dict[str, Any] = {
        "eps": EPS,
        "version": "custom",
        "attacks": CHECKED,
        "adjust": SMALL,
        "batch_size": 16,
    }
    return run_autoattack(model, x, y, **given | options)


def raised(result: AutoAttackResult) -> dict[str, str]:
    return {flag.name: flag.detail for flag in result.flags if flag.raised}


def same(one: AutoAttackResult, other: AutoAttackResult) -> bool:
    tensors = (
        "x_adv",
        "success",
        "already_adversarial",
        "distance",
        "queries",
        "queries_to_success",
        "gradients",
        "broken_by",
    )
    equal = all(torch.equal(getattr(one, name), getattr(other, name)) for name in tensors)
    return equal and (one.flags, one.accuracies, one.seed) == (
        other.flags,
        other.accuracies,
        other.seed,
    )


class Wrapped(nn.Module):
    """A model with something done to its input or output, that counts its rows; it may stop
    after some calls.
    """

    def __init__(
        self, network: nn.Module, before: Any = None, after: Any = None, calls: int = 10**9
    ) -> None:
        super().__init__()
        self.network = network
        self.before, self.after, self.calls = before, after, calls
        self.rows = 0

    def forward(self, x: Tensor) -> Tensor:
        self.rows += len(x)
        self.calls -= 1
        if self.calls < 0:
            raise KeyboardInterrupt
        outputs: Tensor = self.network(x if self.before is None else self.before(x))
        return outputs if self.after is None else self.after(outputs)


class TestOutcome:
    def test_is_what_pyautoattack_itself_finds(
        self,
        pyautoattack: Any,
        linear_net: nn.Module,
        digits: tuple[Tensor, Tensor],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        x, y = digits
        right = linear_net(x).argmax(dim=1) == y
        own = pyautoattack.AutoAttack(linear_net, eps=EPS, norm="Linf", seed=3)
        for part, settings in SMALL.items():
            for name, value in settings.items():
                setattr(getattr(own, part), name, value)
        with torch.random.fork_rng(devices=[]), caplog.at_level(logging.DEBUG, "auto-attack"):
            theirs, labels = own.run_standard_evaluation(x[right], y[right], batch_size=16)
        ours = run(linear_net, x, y, version="standard", attacks=None, seed=3)
        assert torch.equal(ours.x_adv[right], theirs)
        assert ours.success[right].tolist() == (labels != y[right]).tolist()
        said = [
            line.split("after ")[1].split(" (")[0]
            for line in caplog.messages
            if "robust accuracy after" in line
        ]
        share = len(x) / int(right.sum())  # they were given the samples that the model gets right
        counted = [
            f"{name.upper()}: {value * share:.2%}"
            for name, value in ours.accuracies.items()
            if name != "clean"
        ]
        assert said == counted
        assert ours.accuracies["clean"] == right.double().mean()
        assert 0.5 < ours.accuracies["square"] < ours.accuracies["clean"]

    @pytest.mark.parametrize(("norm", "eps"), [("linf", 0.08), ("l2", 0.5), ("l1", 2.0)])
    def test_successes_fool_inside_ball_and_box(
        self, norm: str, eps: float, linear_net: nn.Module, digits: tuple[Tensor, Tensor]
    ) -> None:
        x, y = digits
        result = run(linear_net, x, y, norm=norm, eps=eps, version="rand", attacks=None)
        wrong = linear_net(x).argmax(dim=1) != y
        assert result.success.tolist() == (linear_net(result.x_adv).argmax(dim=1) != y).tolist()
        assert result.already_adversarial.tolist() == wrong.tolist()
        assert int((result.success & ~wrong).sum()) > 3
        length = distances(result.x_adv, x, norm)
        assert torch.equal(
            result.distance[result.success].double(), length[result.success].float().double()
        )
        assert float(length.max()) <= eps + 1e-6
        assert 0 <= float(result.x_adv.min()) <= float(result.x_adv.max()) <= 1
        assert torch.equal(result.x_adv[~result.success], x[~result.success])
        assert (result.norm, result.eps, result.seed, result.stop_on_success) == (
            norm,
            eps,
            0,
            False,
        )

    def test_every_row_is_charged_and_a_broken_sample_costs_no_more(
        self, linear_net: nn.Module, digits: tuple[Tensor, Tensor]
    ) -> None:
        x, y = digits
        model = Wrapped(linear_net)
        result = run(model, x, y, chunk_size=25)
        assert model.rows == int(result.queries.sum())
        assert result.broken_by is not None
        order = list(result.accuracies)
        assert order == ["clean", *CHECKED]
        for number, name in enumerate(order):
            stands = (result.broken_by < 0) | (result.broken_by > number)
            assert result.accuracies[name] == stands.double().mean()
        assert (result.queries[result.broken_by == 0] == 1).all()
        first, last = result.queries[result.broken_by == 1], result.queries[result.broken_by < 0]
        assert len(first)
        assert int(first.max()) < int(last.min())
        assert torch.equal(result.queries_to_success >= 0, result.success)
        assert (result.gradients > 0).tolist() == (result.broken_by != 0).tolist()

    def test_what_the_package_calls_a_success_is_not_taken(
        self,
        pyautoattack: Any,
        linear_net: nn.Module,
        digits: tuple[Tensor, Tensor],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def leave(self: Any, x: Tensor, y: Tensor, **rest: Any) -> tuple[Tensor, Tensor]:
            return 1 - x, y

        monkeypatch.setattr(pyautoattack.AutoAttack, "run_standard_evaluation", leave)
        result = run(linear_net, *digits)
        assert torch.equal(result.success, result.already_adversarial)
        assert torch.equal(result.x_adv, digits[0])
        monkeypatch.setattr(
            pyautoattack.AutoAttack,
            "run_standard_evaluation",
            lambda self, x, y, **rest: (x[:1], y),
        )
        with pytest.raises(
            ValueError,
            match=r"AutoAttack must return the shape \(38, 1, 8, 8\), got \(1, 1, 8, 8\)",
        ):
            run(linear_net, *digits)

    def test_nothing_to_attack(self, linear_net: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
        x, y = digits
        wrong = (linear_net(x).argmax(dim=1) + 1) % 10
        result = run(linear_net, x, wrong)
        assert result.accuracies == {"clean": 0, "apgd-ce": 0, "square": 0}
        assert {flag.detail for flag in result.flags} == {"not checked: no sample to attack"}
        assert (result.queries == 1).all()
        assert len(run(lambda rows: pytest.fail("asked"), x[:0], y[:0])) == 0

    def test_tells_the_positions_in_x(
        self, linear_net: nn.Module, digits: tuple[Tensor, Tensor]
    ) -> None:
        heard: list[Progress] = []
        result = run(linear_net, *digits, chunk_size=25, callback=heard.append)
        assert [progress.step for progress in heard] == [0, 1, 2] * 2
        done = torch.cat([progress.index[progress.finished] for progress in heard])
        assert sorted(done.tolist()) == list(range(40))
        hit = torch.cat([progress.index[progress.success] for progress in heard if progress.step])
        assert (
            sorted(hit.tolist())
            == (result.success & ~result.already_adversarial).nonzero()[:, 0].tolist()
        )


def _dynamic(x: Tensor) -> Tensor:
    """The input, moved along a gradient that the model itself takes."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_(True)
        (slope,) = torch.autograd.grad(leaf.square().sum(), leaf)
    return x + 1e-6 * slope


class TestFlags:
    @pytest.mark.parametrize(
        ("name", "before", "after", "options", "words"),
        [
            (
                "randomised",
                lambda x: x + 0.02 * torch.randn_like(x),
                None,
                {},
                'use version="rand"',
            ),
            ("probabilities", None, lambda z: z.softmax(dim=1), {}, "probability distribution"),
            (
                "zero-gradients",
                lambda x: (8 * x).round() / 8,
                None,
                {"attacks": ("apgd-dlr",)},
                "16 points with zero",
            ),
            (
                "square-better",
                lambda x: (8 * x).round() / 8,
                None,
                {},
                "has decreased the robust accuracy of",
            ),
            ("dynamic", _dynamic, None, {}, "dynamic defense"),
            (
                "classes",
                None,
                lambda z: z[:, :3],
                {"attacks": ("apgd-dlr",)},
                "with only 3 classes",
            ),
        ],
    )
    def test_each_is_raised_by_what_it_is_for(
        self,
        name: str,
        before: Any,
        after: Any,
        options: dict[str, Any],
        words: str,
        linear_net: nn.Module,
        digits: tuple[Tensor, Tensor],
    ) -> None:
        x, y = digits
        kept = y < 3 if name == "classes" else y >= 0
        result = run(Wrapped(linear_net, before, after), x[kept], y[kept], eps=0.12, **options)
        assert words in raised(result)[name].replace("Please ", "")
        assert "flags_doc" not in raised(result)[name]
        assert {"zero-gradients", "square-better"} >= raised(result).keys() - {name}, (
            "no flag without a reason"
        )

    def test_none_for_a_model_that_is_as_it_should_be_even_after_a_dynamic_one(
        self, linear_net: nn.Module, digits: tuple[Tensor, Tensor]
    ) -> None:
        assert "dynamic" in raised(run(Wrapped(linear_net, _dynamic), *digits))
        result = run(linear_net, *digits)
        assert raised(result) == {}
        names = [
            "randomised",
            "probabilities",
            "zero-gradients",
            "square-better",
            "dynamic",
            "classes",
        ]
        assert [flag.name for flag in result.flags] == names

    def test_probabilities_that_are_said_to_be_some(
        self, linear_net: nn.Module, digits: tuple[Tensor, Tensor]
    ) -> None:
        softmax = nn.Sequential(linear_net, nn.Softmax(dim=1))
        result = run(softmax, *digits, outputs="probabilities")
        assert raised(result) == {}
        assert result.success.tolist() == run(linear_net, *digits).success.tolist()

    def test_square_is_judged_over_all_chunks(
        self, linear_net: nn.Module, digits: tuple[Tensor, Tensor]
    ) -> None:
        model = Wrapped(linear_net, lambda x: (8 * x).round() / 8)
        result = run(model, *digits, eps=0.12, chunk_size=10)
        gap = (
            min(result.accuracies["clean"], result.accuracies["apgd-ce"])
            - result.accuracies["square"]
        )
        assert gap > 0.002
        assert f"{gap:.2%}" in raised(result)["square-better"]

    def test_a_disabled_logger_is_heard_all_the_same(
        self, linear_net: nn.Module, digits: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # as logging.config leaves those that it does not know
        logger = logging.getLogger("auto-attack")
        monkeypatch.setattr(logger, "disabled", True)
        monkeypatch.setattr(logger, "level", logging.CRITICAL)
        assert "dynamic" in raised(run(Wrapped(linear_net, _dynamic), *digits))
        assert (logger.disabled, logger.level, logger.handlers, logger.propagate) == (
            True,
            logging.CRITICAL,
            [],
            True,
        )


class TestHygiene:
    def test_streams_tracing_model_samples_and_terminal_stay_as_they_were(
        self,
        linear_net: nn.Module,
        digits: tuple[Tensor, Tensor],
        capfd: pytest.CaptureFixture[str],
        recwarn: pytest.WarningsRecorder,
    ) -> None:
        def states() -> tuple[Any, ...]:
            numpy: Any = np.random.get_state()  # noqa: NPY002 - what toolkits draw from
            return torch.get_rng_state().tolist(), numpy[1].tolist(), numpy[2:], random.getstate()

        x = digits[0].clone()
        model = nn.Sequential(nn.Dropout(0.5), Wrapped(linear_net, _dynamic)).train()
        model[1].eval()
        trace, seen = sys.gettrace(), states()

        def tracer(frame: Any, event: str, argument: Any) -> None:
            return None

        sys.settrace(tracer)
        try:
            run(model, x, digits[1])
            assert sys.gettrace() is tracer
        finally:
            sys.settrace(trace)
        assert states() == seen
        assert torch.equal(x, digits[0])
        assert [module.training for module in model] == [True, False]
        assert all(parameter.requires_grad for parameter in model.parameters())
        out = capfd.readouterr()
        assert (out.out, out.err) == ("", "")
        assert not recwarn.list

    def test_depends_on_the_seed_and_on_nothing_else(
        self, linear_net: nn.Module, digits: tuple[Tensor, Tensor]
    ) -> None:
        first = run(linear_net, *digits, seed=1 << 40)
        torch.rand(3)
        assert same(run(lambda rows: linear_net(rows), *digits, seed=1 << 40), first)
        by_chance = [
            run(linear_net, *digits, seed=seed, attacks="square", eps=0.12).x_adv
            for seed in (0, 1, 0)
        ]
        assert torch.equal(by_chance[0], by_chance[2])
        assert not torch.equal(by_chance[0], by_chance[1])
        drawn = run(linear_net, *digits, seed=None)
        assert drawn.seed is not None
        assert same(run(linear_net, *digits, seed=drawn.seed), drawn)

    def test_chunks_begin_from_the_same_seed(
        self, linear_net: nn.Module, digits: tuple[Tensor, Tensor]
    ) -> None:
        x, y = digits
        cut = run(linear_net, x, y, chunk_size=20)
        parts = [run(linear_net, x[part], y[part]) for part in (slice(0, 20), slice(20, 40))]
        assert torch.equal(cut.x_adv, torch.cat([part.x_adv for part in parts]))


class TestResume:
    def test_goes_on_where_it_was_stopped(
        self, linear_net: nn.Module, digits: tuple[Tensor, Tensor], tmp_path: Path
    ) -> None:
        counted = Wrapped(linear_net)
        whole = run(counted, *digits, chunk_size=10)
        calls = 10**9 - counted.calls
        folder = tmp_path / "a" / "state"
        interrupted = Wrapped(linear_net, calls=calls * 2 // 3)
        with pytest.raises(KeyboardInterrupt):
            run(interrupted, *digits, chunk_size=10, state_dir=folder)
        kept = sorted(file.name for file in folder.glob("*.safetensors"))
        assert 1 <= len(kept) < 4
        resumed = Wrapped(linear_net)
        assert same(run(resumed, *digits, chunk_size=10, state_dir=folder), whole)
        assert resumed.rows == int(whole.queries[10 * len(kept) :].sum()), (
            "finished chunks are not computed again"
        )
        asleep = Wrapped(linear_net, calls=0)
        heard: list[Progress] = []
        assert same(
            run(asleep, *digits, chunk_size=10, state_dir=folder, callback=heard.append), whole
        )
        assert not heard, "nothing happens"

    def test_flags_survive(
        self, linear_net: nn.Module, digits: tuple[Tensor, Tensor], tmp_path: Path
    ) -> None:
        model = Wrapped(linear_net, _dynamic)
        first = run(model, *digits, state_dir=tmp_path)
        assert "dynamic" in raised(first)
        assert same(run(model, *digits, state_dir=tmp_path), first)

    def test_another_configuration_is_refused_with_the_differences(
        self, linear_net: nn.Module, digits: tuple[Tensor, Tensor], tmp_path: Path
    ) -> None:
        x, y = digits
        run(linear_net, x, y, state_dir=tmp_path)
        before = sorted(tmp_path.iterdir())
        with pytest.raises(
            ValueError,
            match=r"another configuration \(eps: 0.06 there, 0.05 here; seed: 0 there, 1",
        ):
            run(linear_net, x, y, eps=0.05, seed=1, state_dir=tmp_path)
        changed = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        with pytest.raises(
            ValueError, match=r"\(model: 'torch.nn[^;]* there, 'torch.nn[^;]* here\)"
        ):
            run(changed, x, y, state_dir=tmp_path)
        with pytest.raises(
            ValueError, match=r"\(data: '40 samples, \w+' there, '40 samples, \w+' here\)"
        ):
            run(linear_net, x.flip(0), y.flip(0), state_dir=tmp_path)
        with pytest.raises(ValueError, match="then: "):
            run(linear_net, x, y, then=[functools.partial(pgd, eps=EPS)], state_dir=tmp_path)
        assert sorted(tmp_path.iterdir()) == before

    def test_attacks_that_follow_in_another_order_are_another_configuration(
        self, linear_net: nn.Module, digits: tuple[Tensor, Tensor], tmp_path: Path
    ) -> None:
        x, y = digits
        then = [
            ("first", functools.partial(pgd, eps=EPS)),
            ("second", functools.partial(pgd, eps=EPS, seed=1)),
        ]
        run(linear_net, x, y, then=then, state_dir=tmp_path)
        with pytest.raises(ValueError, match=r"another configuration \(then: "):
            run(linear_net, x, y, then=then[::-1], state_dir=tmp_path)

    @pytest.mark.parametrize(
        "damage", [lambda bits: bits[: len(bits) // 2], lambda bits: b"", lambda bits: b"x" * 99]
    )
    def test_a_damaged_chunk_is_named(
        self, damage: Any, linear_net: nn.Module, digits: tuple[Tensor, Tensor], tmp_path: Path
    ) -> None:
        whole = run(linear_net, *digits, chunk_size=20, state_dir=tmp_path)
        file = tmp_path / "chunk-00001.safetensors"
        file.write_bytes(damage(file.read_bytes()))
        with pytest.raises(ValueError, match=r"chunk-00001.safetensors is damaged \(.*delete it"):
            run(linear_net, *digits, chunk_size=20, state_dir=tmp_path)
        file.unlink()
        assert same(run(linear_net, *digits, chunk_size=20, state_dir=tmp_path), whole)

    def test_chunks_of_others(
        self, linear_net: nn.Module, digits: tuple[Tensor, Tensor], tmp_path: Path
    ) -> None:
        for seed in (0, 1):
            run(linear_net, *digits, state_dir=tmp_path / str(seed), seed=seed)
        name = "chunk-00000.safetensors"
        (tmp_path / "0" / name).write_bytes((tmp_path / "1" / name).read_bytes())
        with pytest.raises(ValueError, match=f"{name} is of another run"):
            run(linear_net, *digits, state_dir=tmp_path / "0")
        (tmp_path / "0" / "autoattack.json").write_text("{")
        with pytest.raises(
            ValueError, match="must say what its chunks are of, but it cannot be read"
        ):
            run(linear_net, *digits, state_dir=tmp_path / "0")
        (tmp_path / "0" / "autoattack.json").unlink()
        with pytest.raises(ValueError, match=r"holds chunks, but no autoattack\.json"):
            run(linear_net, *digits, state_dir=tmp_path / "0")
        with pytest.raises(ValueError, match="state_dir must be a folder"):
            run(linear_net, *digits, state_dir=tmp_path / "1" / name)

    def test_a_full_disk_loses_nothing(
        self,
        linear_net: nn.Module,
        digits: tuple[Tensor, Tensor],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        written: list[str] = []
        real = os.replace

        def replace(source: Any, target: Any) -> None:
            if len(written) == 2:
                raise OSError(28, "No space left on device")
            written.append(str(target))
            real(source, target)

        monkeypatch.setattr(os, "replace", replace)
        with pytest.raises(OSError, match="No space left"):
            run(linear_net, *digits, chunk_size=10, state_dir=tmp_path)
        monkeypatch.undo()
        assert sorted(file.name for file in tmp_path.iterdir()) == [
            "autoattack.json",
            "chunk-00000.safetensors",
        ]
        resumed = run(linear_net, *digits, chunk_size=10, state_dir=tmp_path)
        assert same(resumed, run(linear_net, *digits, chunk_size=10))

    def test_killed_outright(self, digits: tuple[Tensor, Tensor], tmp_path: Path) -> None:
        program = textwrap.dedent("""
            import os, signal, sys
            import torch
            from torch import nn
            from art_ext.adapters.autoattack import run_autoattack

            torch.set_num_threads(1)
            model, calls = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), []
            given = torch.load(sys.argv[1])
            model[1].weight.data, model[1].bias.data = given["weight"], given["bias"]

            def kill(module, rows):
                calls.append(len(rows))
                if len(calls) == 40:
                    os.kill(os.getpid(), signal.SIGKILL)

            model.register_forward_pre_hook(kill)
            run_autoattack(model, given["x"], given["y"], eps=0.02, version="custom", attacks="apgd-ce", chunk_size=10,
                           adjust={"apgd": {"n_iter": 5, "n_restarts": 1}}, state_dir=sys.argv[2])
        """)
        layer = nn.Linear(64, 10)
        model = nn.Sequential(nn.Flatten(), layer)
        y = model(digits[0]).argmax(dim=1)
        torch.save({**layer.state_dict(), "x": digits[0], "y": y}, tmp_path / "given.pt")
        command = [
            sys.executable,
            "-c",
            program,
            str(tmp_path / "given.pt"),
            str(tmp_path / "state"),
        ]
        killed = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1]
        )
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        finished = len(list((tmp_path / "state").glob("chunk-*.safetensors")))
        assert 1 <= finished < 4
        options: dict[str, Any] = {
            "eps": 0.02,
            "attacks": "apgd-ce",
            "chunk_size": 10,
            "adjust": {"apgd": {"n_iter": 5, "n_restarts": 1}},
            "batch_size": 250,
        }
        whole = run(model, digits[0], y, **options)
        calls: list[int] = []
        handle = model.register_forward_pre_hook(lambda module, rows: calls.append(len(rows[0])))
        resumed = run(model, digits[0], y, state_dir=tmp_path / "state", **options)
        handle.remove()
        assert same(resumed, whole)
        assert sum(calls) == int(whole.queries[10 * finished :].sum())


class TestThen:
    def test_our_attacks_run_on_what_stands(
        self, linear_net: nn.Module, digits: tuple[Tensor, Tensor]
    ) -> None:
        x, y = digits
        model = Wrapped(linear_net)
        follower = functools.partial(rays, eps=EPS, max_queries=300, stop_on_success=True)
        quick = {"attacks": ("square",), "adjust": {"square": {"n_queries": 3}}}
        alone = run(linear_net, x, y, **quick)
        result = run(
            model, x, y, then=[functools.partial(pgd, eps=EPS), ("more", follower)], **quick
        )
        assert list(result.accuracies) == ["clean", "square", "pgd", "more"]
        assert result.accuracies["square"] == alone.accuracies["square"] > result.accuracies["pgd"]
        assert model.rows == int(result.queries.sum() + result.wasted_rows.sum())
        standing = ~alone.success
        own = pgd(linear_net, x[standing], y[standing], eps=EPS)
        assert result.broken_by is not None
        by_square = result.broken_by[standing] == 2
        assert torch.equal(result.success[standing] & by_square, own.success)
        assert result.success.tolist() == (linear_net(result.x_adv).argmax(dim=1) != y).tolist()

    @pytest.mark.parametrize(
        ("then", "message"),
        [
            (
                [functools.partial(pgd, eps=0.1)],
                "pgd of then must fill the same ball, norm='linf' and eps=0.06, got",
            ),
            ([functools.partial(pgd, eps=EPS, norm="l2")], "got norm='l2'"),
            (
                [("mine", lambda model, x, y: x)],
                "mine of then must return an AttackResult, got Tensor",
            ),
            ([functools.partial(pgd, eps=EPS)] * 2, "names of their own"),
            ([("square", functools.partial(pgd, eps=EPS))], "names of their own"),
            (["pgd"], "got 'pgd' beside AutoAttack"),
        ],
    )
    def test_refusals_before_the_model_is_asked(
        self, then: Any, message: str, digits: tuple[Tensor, Tensor]
    ) -> None:
        with pytest.raises(ValueError, match=message):
            run(lambda rows: pytest.fail("asked"), *digits, then=then)


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"norm": "L0"}, "norm must be one of 'linf', 'l2', 'l1', got 'L0'"),
            ({"eps": 8}, "eps must not exceed the box width 1 .* 8/255 for images in"),
            ({"eps": 0}, "eps must be > 0"),
            ({"clip_values": (0, 255)}, r"no box but clip_values=\(0, 1\), got \(0, 255\)"),
            (
                {"version": "fast"},
                "version must be one of 'standard', 'plus', 'rand', 'custom', got 'fast'",
            ),
            ({"version": "standard"}, "attacks must be given with version='custom', and only then"),
            ({"attacks": None}, "attacks must be given with version='custom'"),
            ({"attacks": "apgd-ce, pgd"}, "each of attacks must be one of 'apgd-ce', .* got 'pgd'"),
            ({"attacks": ("square", "square")}, "attacks must hold each attack once"),
            (
                {"adjust": {"pgd": {"n_iter": 3}}},
                "adjust must hold settings of apgd, apgd_targeted, fab, square, got",
            ),
            ({"adjust": {"apgd": {"steps": 3}}}, "numbers that the attack has, got apgd.steps: 3"),
            ({"adjust": {"apgd": {"n_iter": "3"}}}, "got apgd.n_iter: '3'"),
            ({"outputs": "labels"}, "needs scores"),
            ({"batch_size": 0}, "batch_size must be an integer >= 1"),
            ({"chunk_size": 0}, "chunk_size must be an integer >= 1"),
            ({"seed": 0.5}, "seed must be an integer"),
            (
                {"backend": "git"},
                "backend must be one of 'auto', 'autoattack', 'pyautoattack', got 'git'",
            ),
        ],
    )
    def test_before_the_model_is_asked(
        self, options: dict[str, Any], message: str, digits: tuple[Tensor, Tensor], tmp_path: Path
    ) -> None:
        with pytest.raises(ValueError, match=message):
            run(lambda rows: pytest.fail("asked"), *digits, state_dir=tmp_path / "state", **options)
        assert not (tmp_path / "state").exists()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                lambda x, y: (x[:, 0], y),
                r"images of shape \(N, C, H, W\) for AutoAttack, got \(40, 8, 8\)",
            ),
            (lambda x, y: (x * 255, y), r"x must lie in \[0, 1\]"),
            (lambda x, y: (x * torch.nan, y), "x must be finite"),
            (lambda x, y: (x, None), "y must be given"),
            (lambda x, y: (x, y[:5]), r"y must have shape \(40,\)"),
            (lambda x, y: (x, y.float()), "y must be a tensor of integer class indices"),
            (lambda x, y: (x, y + 10), "y must hold class indices below 10, the model's width"),
        ],
    )
    def test_samples(
        self, change: Any, message: str, linear_net: nn.Module, digits: tuple[Tensor, Tensor]
    ) -> None:
        with pytest.raises(ValueError, match=message):
            run(linear_net, *change(*digits))

    def test_the_chunk_of_a_trouble_is_named(
        self, linear_net: nn.Module, digits: tuple[Tensor, Tensor]
    ) -> None:
        broken = digits[0].clone()
        broken[25] = 0.123
        model = Wrapped(
            linear_net, lambda x: x.masked_fill((x == 0.123).all(dim=3, keepdim=True), torch.nan)
        )
        with pytest.raises(
            ValueError, match=r"chunk that begins with sample 20: the model returns NaN .* sample 5"
        ):
            run(model, broken, digits[1], chunk_size=20)

    def test_a_package_that_fails_says_what_it_had_warned_of(
        self, linear_net: nn.Module, digits: tuple[Tensor, Tensor]
    ) -> None:
        x, y = digits[0][digits[1] < 3], digits[1][digits[1] < 3]
        asked = 0

        def fail_late(scores: Tensor) -> Tensor:
            nonlocal asked
            asked += 1
            if asked > 12:
                raise IndexError("no such luck")
            return scores[:, :3]

        model = Wrapped(linear_net, after=fail_late)
        with pytest.raises(
            ValueError, match=r"pyautoattack fails in apgd-dlr: IndexError.*had warned: with only 3"
        ):
            run(model, x, y, attacks=("apgd-dlr",))


class TestFewClasses:
    """AutoAttack's defaults aim at 9 wrong classes, and its DLR losses compare three or four
    scores.
    """

    @staticmethod
    def reduced(
        net: nn.Module, data: tuple[Tensor, Tensor], classes: int
    ) -> tuple[Wrapped, Tensor, Tensor]:
        kept = data[1] < classes
        return Wrapped(net, after=lambda scores: scores[:, :classes]), data[0][kept], data[1][kept]

    @pytest.mark.parametrize(
        ("classes", "norm"),
        [(4, "linf"), (8, "linf"), (10, "linf"), pytest.param(5, "l1", marks=pytest.mark.slow)],
    )
    def test_as_many_targets_as_there_are_wrong_classes(
        self, classes: int, norm: str, linear_net: nn.Module, digits: tuple[Tensor, Tensor]
    ) -> None:
        model, x, y = self.reduced(linear_net, digits, classes)
        few = {
            "apgd": {"n_iter": 5},
            "apgd_targeted": {"n_iter": 3},
            "fab": {"n_iter": 3},
            "square": {"n_queries": 9},
        }
        eps = EPS if norm == "linf" else 1.0
        result = run(model, x, y, eps=eps, norm=norm, version="standard", attacks=None, adjust=few)
        asked = {"apgd-t": 9 if norm == "linf" else 5, "fab-t": 9}
        fewer = [
            f"{name} takes {classes - 1} targets instead of {count}: the model has {classes} classes"
            for name, count in asked.items()
            if count > classes - 1
        ]
        settings = [
            f"{part}.{key} = {value}, by adjust"
            for part, given in few.items()
            for key, value in given.items()
        ]
        assert result.deviations == (*settings, *fewer)
        assert list(result.accuracies) == ["clean", "apgd-ce", "apgd-t", "fab-t", "square"]
        assert "classes" not in raised(result)
        assert result.accuracies["square"] < result.accuracies["clean"]
        moved = model(result.x_adv).argmax(dim=1)
        assert torch.equal(moved != y, result.success)

    def test_deviations_survive_a_stop(
        self, linear_net: nn.Module, digits: tuple[Tensor, Tensor], tmp_path: Path
    ) -> None:
        model, x, y = self.reduced(linear_net, digits, 6)
        options: dict[str, Any] = {
            "attacks": ("fab-t",),
            "adjust": {"fab": {"n_iter": 2}},
            "state_dir": tmp_path,
        }
        first = run(model, x, y, **options)
        assert first.deviations[1:] == (
            "fab-t takes 5 targets instead of 9: the model has 6 classes",
        )
        assert run(model, x, y, **options).deviations == first.deviations

    @pytest.mark.parametrize(
        ("classes", "options", "names", "least"),
        [
            (2, {"version": "standard", "attacks": None}, "apgd-t", 4),
            (3, {"version": "standard", "attacks": None}, "apgd-t", 4),
            (2, {"version": "plus", "attacks": None}, "apgd-dlr and apgd-t", 4),
            (2, {"version": "rand", "attacks": None}, "apgd-dlr", 3),
            (3, {"attacks": "apgd-ce, apgd-t"}, "apgd-t", 4),
        ],
    )
    def test_too_few_are_refused_after_the_clean_check(
        self,
        classes: int,
        options: Any,
        names: str,
        least: int,
        linear_net: nn.Module,
        digits: tuple[Tensor, Tensor],
    ) -> None:
        model, x, y = self.reduced(linear_net, digits, classes)
        message = (
            rf"{names} need a model of at least {least} classes, .* got {classes}: use version=\"custom\", "
            r'attacks=\("apgd-ce", "fab", "square"\), which run there, or --panel standard'
        )
        with pytest.raises(ValueError, match=message):
            run(model, x, y, adjust={}, **options)
        assert model.rows == len(x)

    @pytest.mark.parametrize("classes", [2, 3])
    def test_the_remedy_runs(
        self, classes: int, linear_net: nn.Module, digits: tuple[Tensor, Tensor]
    ) -> None:
        model, x, y = self.reduced(linear_net, digits, classes)
        result = run(model, x, y, eps=0.3, attacks=("apgd-ce", "fab", "square"))
        assert result.accuracies["square"] < result.accuracies["clean"]
        assert bool((model(result.x_adv[result.success]).argmax(dim=1) != y[result.success]).all())

    def test_a_panel_is_refused_before_its_first_member(
        self, linear_net: nn.Module, digits: tuple[Tensor, Tensor], tmp_path: Path
    ) -> None:
        model, x, y = self.reduced(linear_net, digits, 3)
        started = []

        class Heard(Watcher):
            def start(self, model: str, attack: str, eps: float, samples: int) -> None:
                started.append(attack)

        data = Dataset("three", x, y, None)
        with pytest.raises(
            ValueError, match=r"apgd-t need a model of at least 4 classes.*or --panel standard"
        ):
            evaluate(
                model,
                data,
                tmp_path / "run",
                eps=EPS,
                attacks=["pgd", "AutoAttack"],
                watcher=Heard(),
            )
        assert started == []
        given = {
            "autoattack": {"version": "custom", "attacks": ("apgd-ce", "square"), "adjust": SMALL}
        }
        outcome = evaluate(
            model,
            data,
            tmp_path / "run",
            eps=EPS,
            attacks=["fgsm", "AutoAttack"],
            attack_args=given,
            watcher=Heard(),
        )
        assert started == ["fgsm", "autoattack"]
        protocol = " ".join(json.loads((outcome.folder / "run.json").read_text())["protocol"])
        assert "apgd-t and fab-t target min(9, K - 1) of a model's K classes" in protocol

    @pytest.mark.parametrize("name", ["torchattacks:APGDT", "torchattacks:AutoAttack"])
    def test_the_same_attacks_of_torchattacks(
        self, name: str, linear_net: nn.Module, digits: tuple[Tensor, Tensor], tmp_path: Path
    ) -> None:
        pytest.importorskip("torchattacks")
        model, x, y = self.reduced(linear_net, digits, 3)
        message = rf"{name} needs a model of at least 4 classes, .* got 3: use torchattacks:APGD and .*--panel standard"
        with pytest.raises(ValueError, match=message):
            evaluate(
                model,
                Dataset("three", x, y, None),
                tmp_path / "run",
                eps=EPS,
                attacks=["pgd", name],
            )
        assert not (tmp_path / "run").exists()

    def test_no_package(
        self, linear_net: nn.Module, digits: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(backends, "find_spec", lambda name: None)
        with pytest.raises(
            ImportError,
            match=r"neither autoattack nor pyautoattack found: pip install 'art-ext\[rob",
        ):
            run(linear_net, *digits)
        for backend in ("autoattack", "pyautoattack"):
            with pytest.raises(
                ImportError, match=f"^{backend} is not installed: pip install .*backend='auto'"
            ):
                run(linear_net, *digits, backend=backend)


CHECKS = '''
"""Part of the stand-in."""
import warnings
funcs = {"grad": 0, "backward": 0, "_make_grads": 0}
def check_square_sr(acc_dict, alpha=.002, logger=None):
    if "square" in acc_dict:
        warnings.warn(Warning("Square Attack has decreased the robust accuracy of 1.00%. See flags_doc.md for."))
'''
STAND_IN = '''
"""A stand-in for git's autoattack with its signature: not run against the original."""
import sys
import torch
from autoattack import checks

class Part:
    n_iter = n_queries = n_target_classes = n_restarts = 1

class AutoAttack:
    def __init__(self, model, norm="Linf", eps=.3, seed=None, verbose=True, attacks_to_run=[], version="standard",
                 is_tf_model=False, device="cuda", log_path=None):
        self.model, self.eps, self.norm, self.seed, self.device = model, eps, norm, seed, device
        self.apgd, self.apgd_targeted, self.fab, self.square = Part(), Part(), Part(), Part()
        self.attacks_to_run = ["apgd-ce", "square"] if version == "standard" else attacks_to_run
        print("setting parameters for standard version")

    def run_standard_evaluation(self, x_orig, y_orig, bs=250, return_labels=False):
        assert not return_labels and self.norm == "Linf" and len(self.attacks_to_run) == 1
        sys.settrace(None)
        if any(checks.funcs.values()):
            print("Warning: it seems to be a dynamic defense! The evaluation. See flags_doc.md for details.")
        checks.funcs["grad"] += 1
        x_adv = x_orig.clone()
        for x, y, out in zip(x_orig.split(bs), y_orig.split(bs), x_adv.split(bs)):
            torch.manual_seed(self.seed)
            if self.attacks_to_run == ["apgd-ce"]:
                with torch.enable_grad():
                    leaf = x.clone().requires_grad_(True)
                    loss = torch.nn.functional.cross_entropy(self.model(leaf), y, reduction="sum")
                    step = torch.autograd.grad(loss, leaf)[0].sign()
                print("Warning: there are 7 points with zero gradient! Unreliable. See flags_doc.md for details.")
            else:
                step = torch.randn_like(x).sign()
            out.copy_((x + self.eps * step).clamp(0, 1))
        return x_adv
'''


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Git's package as far as its signature goes: not run against the original, which no
    registry holds.
    """
    package = tmp_path / "site" / "autoattack"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(STAND_IN)
    (package / "checks.py").write_text(CHECKS)
    if "autoattack" in sys.modules or backends.find_spec("autoattack"):
        pytest.skip("a real autoattack is installed")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    yield
    for name in ("autoattack", "autoattack.checks"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("stand_in")
class TestGitPackage:
    def test_one_call_serves_both(
        self,
        linear_net: nn.Module,
        digits: tuple[Tensor, Tensor],
        capfd: pytest.CaptureFixture[str],
        tmp_path: Path,
    ) -> None:
        x, y = digits
        trace = sys.gettrace()
        model = Wrapped(linear_net)
        options: dict[str, Any] = {
            "version": "standard",
            "attacks": None,
            "state_dir": tmp_path / "state",
        }
        result = run(model, x, y, **options)
        assert sys.gettrace() is trace
        assert list(result.accuracies) == ["clean", "apgd-ce", "square"]
        leaf = x.clone().requires_grad_(True)
        nn.functional.cross_entropy(linear_net(leaf), y, reduction="sum").backward()
        moved = (x + EPS * leaf.grad.sign()).clamp(0, 1)  # type: ignore[union-attr]
        fooled = linear_net(moved).argmax(dim=1) != y
        assert result.broken_by is not None
        assert (result.broken_by == 1).tolist() == (fooled & ~result.already_adversarial).tolist()
        assert torch.equal(result.x_adv[result.broken_by == 1], moved[result.broken_by == 1])
        assert model.rows == int(result.queries.sum())
        assert raised(result) == {
            "zero-gradients": "there are 7 points with zero gradient! Unreliable.",
            "square-better": "Square Attack has decreased the robust accuracy of 1.00%.",
        }
        assert capfd.readouterr().out == ""
        assert (
            json.loads((tmp_path / "state" / "autoattack.json").read_text())["package"]
            == "autoattack unknown"
        )

    def test_either_may_be_asked_for(
        self, linear_net: nn.Module, digits: tuple[Tensor, Tensor]
    ) -> None:
        assert "zero-gradients" in raised(run(linear_net, *digits, backend="autoattack"))
        assert raised(run(linear_net, *digits, backend="pyautoattack")) == {}
