"""Attacks of users: one file, an entry point, everything that a built-in attack gets."""

from __future__ import annotations

import gc
import json
import pickle
import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn
from typer.testing import CliRunner

from art_ext import cli
from art_ext.core.attacks import registry
from art_ext.data import Dataset
from art_ext.evaluation import PANELS, Panel, evaluate, find_panel, read_records, read_run
from art_ext.evaluation.panel.members import find_attack
from art_ext.evaluation.panel.user_attacks import load_attack
from tests.toys import run

SHAKE = '''
import torch


def shake(model, x, y, *, eps, norm, seed=0, steps=3):
    """Keep the last random corner of the ball that is misclassified."""
    found = x.clone()
    stream = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        corner = torch.rand(x.shape, generator=stream).sub(0.5).sign()
        moved = (x + eps * corner).clamp(0, 1)
        wrong = model(moved).argmax(dim=1) != y
        found[wrong] = moved[wrong]
    return found
'''


pytestmark = pytest.mark.usefixtures("attacks_as_before", "no_plots")


@pytest.fixture
def data(digits: tuple[Tensor, Tensor]) -> Dataset:
    return Dataset("digits", *digits)


def written(folder: Path, code: str, name: str = "mine.py") -> Path:
    file = folder / name
    file.write_text(code)
    return file


class TestOneFile:
    def test_is_evaluated_counted_and_resumed(
        self, tmp_path: Path, linear_net: nn.Module, data: Dataset
    ) -> None:
        source = f"{written(tmp_path, SHAKE)}:shake"
        rows = []
        hook = linear_net.register_forward_hook(lambda _, inputs, __: rows.append(len(inputs[0])))
        outcome = run(
            linear_net,
            data,
            tmp_path / "run",
            source,
            "fgsm",
            attack_args={"shake": {"steps": 5}},
            chunk_size=30,
        )
        records = read_records(tmp_path / "run").query("attack == 'shake'")
        attacked = records.query("not already_adversarial")
        assert set(attacked["queries"]) == {5 + 2}
        assert set(attacked["gradients"]) == {0}
        assert 0 < records["success"].sum() < len(records)
        assert [row.attack for row in outcome.rows] == ["shake", "fgsm"]
        said = read_run(tmp_path / "run")
        assert said is not None
        assert said["attacks"]["shake"]["arguments"] == {"steps": 5}
        assert any("Keep the last random corner" in one for one in said["protocol"])
        assert "shake" in (tmp_path / "run" / "index.html").read_text(encoding="utf-8")
        before = sum(rows)
        again = run(
            linear_net,
            data,
            tmp_path / "run",
            source,
            "fgsm",
            attack_args={"shake": {"steps": 5}},
            chunk_size=30,
        )
        assert again.records.equals(outcome.records)
        probing = 140
        assert sum(rows) - before == probing, "the clean checks, and no attack"
        hook.remove()
        assert before > probing + int(records["queries"].sum())

    def test_another_version_of_the_file_is_another_run(
        self, tmp_path: Path, linear_net: nn.Module, data: Dataset
    ) -> None:
        file = written(tmp_path, SHAKE)
        run(linear_net, data, tmp_path / "run", f"{file}:shake")
        written(tmp_path, SHAKE.replace("steps=3", "steps=4"))
        with pytest.raises(ValueError, match=r"another run \(attack shake: its file has changed\)"):
            run(linear_net, data, tmp_path / "run", f"{file}:shake")

    def test_in_a_panel(self, tmp_path: Path, linear_net: nn.Module, data: Dataset) -> None:
        file = written(tmp_path, SHAKE)
        panel = tmp_path / "panel.toml"
        panel.write_text(
            f"[[attack]]\nattack = 'fgsm'\n[[attack]]\nattack = '{file}:shake'\n"
            "arguments = { steps = 2 }\n"
        )
        outcome = evaluate(linear_net, data, tmp_path / "run", eps=0.1, panel=panel)
        assert [row.attack for row in outcome.rows] == ["fgsm", "shake"]
        queries = outcome.records.query("attack == 'shake' and queries > 0")["queries"]
        assert set(queries) == {4}

    def test_knows_its_budget(self, tmp_path: Path, linear_net: nn.Module, data: Dataset) -> None:
        greedy = SHAKE.replace("steps=3", "max_queries").replace("steps", "max_queries")
        file = written(tmp_path, greedy)
        for budget in (1, 2, 9):
            outcome = run(
                linear_net, data, tmp_path / str(budget), f"{file}:shake", max_queries=budget
            )
            attacked = outcome.records.query("not already_adversarial")
            assert set(attacked["queries"]) == {budget if budget > 2 else 1}
        written(tmp_path, greedy.replace("range(max_queries)", "range(max_queries + 1)"))
        with pytest.raises(
            ValueError, match=r"shake fails: .*budget is 7 rows per sample, and it sends 8 "
        ):
            run(linear_net, data, tmp_path / "over", f"{file}:shake", max_queries=9)

    @pytest.mark.parametrize(
        "made",
        [
            "lambda model, x, y, *, eps: x",
            "functools.partial(inner, steps=2)",
            "Shaker()",
            "Shaker().shake",
            "inner",
        ],
    )
    def test_is_called_what_it_is_called_in_the_file(
        self, tmp_path: Path, linear_net: nn.Module, data: Dataset, made: str
    ) -> None:
        code = (
            "import functools\n" + SHAKE.replace("def shake", "def inner") + "\n\nclass Shaker:\n"
            "    def __call__(self, model, x, y, *, eps):\n        return x\n"
            "    def shake(self, model, x, y, *, eps):\n        return x\n\n\n"
            f"mine = {made}\n"
        )
        outcome = run(linear_net, data, tmp_path / "run", f"{written(tmp_path, code)}:mine")
        assert {row.attack for row in outcome.rows} == {"mine"}
        assert set(outcome.records["attack"]) == {"mine"}

    def test_gets_the_targets(self, tmp_path: Path, linear_net: nn.Module, data: Dataset) -> None:
        code = SHAKE.replace("steps=3", "targeted=False, steps=9").replace(
            "!= y\n", "== y\n        assert targeted and bool((y == 3).all())\n"
        )
        file = f"{written(tmp_path, code)}:shake"
        outcome = evaluate(linear_net, data, tmp_path / "run", eps=0.4, attacks=[file], targeted=3)
        assert outcome.records["success"].any()
        with pytest.raises(ValueError, match="shake fails: AssertionError"):
            run(linear_net, data, tmp_path / "untargeted", file)

    def test_without_a_name_of_its_own(self) -> None:
        with pytest.raises(ValueError, match="a lambda has no name of its own: give the attack"):
            registry.spec_of(lambda model, x, y, *, eps: x)
        assert registry.spec_of(lambda model, x, y, *, eps: x, "still").name == "still"

    def test_takes_tensors_and_may_return_arrays(
        self, tmp_path: Path, linear_net: nn.Module, data: Dataset
    ) -> None:
        code = SHAKE.replace(
            "    found = x", "    assert isinstance(x, torch.Tensor)\n    found = x"
        )
        tensors = run(linear_net, data, tmp_path / "one", f"{written(tmp_path, code)}:shake")
        code = code.replace("return found", "return found.double().numpy()")
        arrays = run(linear_net, data, tmp_path / "two", f"{written(tmp_path, code)}:shake")
        columns = [column for column in tensors.records if column != "seconds"]
        assert tensors.records[columns].equals(arrays.records[columns])
        assert tensors.records["success"].any()

    def test_may_register_itself(
        self, tmp_path: Path, linear_net: nn.Module, data: Dataset
    ) -> None:
        code = (
            (
                "from art_ext.core.attacks import pgd\n"
                "from art_ext.core.attacks.registry import AttackSpec, register\n\n"
                "def short(model, x, y=None, *, eps, norm='linf', num_steps=2, **options):\n"
                "    return pgd(model, x, y, eps=eps, norm=norm, num_steps=num_steps, **options)\n\n"
                "register(AttackSpec('short', short, 'gradients', 'fixed-radius', 'Short.'))\n"
            )
            .replace("num_steps=2, **options):", "num_steps=2, max_queries=None):")
            .replace(
                "num_steps=num_steps, **options)", "num_steps=num_steps, max_queries=max_queries)"
            )
        )
        file = written(tmp_path, code)
        outcome = run(linear_net, data, tmp_path / "run", f"{file}:short")
        attacked = outcome.records.query("not already_adversarial")
        assert set(attacked["gradients"]) == {2}
        said = read_run(tmp_path / "run")
        assert said is not None
        assert said["attacks"]["short"]["access"] == "gradients"
        assert registry.get("short").summary == "Short."


class TestMistakes:
    @pytest.mark.parametrize(
        ("code", "name", "message"),
        [
            (None, "shake", "the attack's file must exist"),
            (SHAKE, "shak", "there is no 'shak' for .* .did you mean 'shake'"),
            ("import torch\n1 / 0\n", "shake", "fails on import: ZeroDivisionError"),
            ("shake = 3\n", "shake", "must name a function, got an instance of int"),
            ("def shake(x, *, eps): pass\n", "shake", r"shake must take \(model, x, y, \*, eps"),
            ("def shake(model, x, y): pass\n", "shake", "shake must name the keyword eps"),
            (SHAKE.replace("shake", "pgd"), "pgd", "art-ext has an attack 'pgd'"),
            (
                SHAKE.replace("steps=3", "steps"),
                "shake",
                "shake needs its argument steps: give it shake.steps",
            ),
            (
                SHAKE.replace("return found", "return found.tolist()"),
                "shake",
                "must return x_adv as a tensor or a NumPy array, or an AttackResult, got list",
            ),
            (
                SHAKE.replace("return found", "return found[:, 0]"),
                "shake",
                "shake must return the shape",
            ),
            (
                SHAKE.replace("def shake", "async def shake"),
                "shake",
                "shake must be a plain function .*, got an async function",
            ),
            (
                SHAKE.replace("return found", "yield found"),
                "shake",
                "shake must be a plain function .*, got a generator function",
            ),
            (
                SHAKE.replace("def shake", "async def shake").replace("return found", "yield 1"),
                "shake",
                "shake must be a plain function .*, got an async generator function",
            ),
            (
                f"{SHAKE}\n\nclass Shaker:\n    async def __call__(self, model, x, y, *, eps):\n"
                "        return x\n\n\nmine = Shaker()\n",
                "mine",
                "mine must be a plain function .*, got an async function",
            ),
            (
                SHAKE.replace("def shake", "async def inner")
                + "\n\nimport functools\n\nmine = functools.partial(inner, steps=2)\n",
                "mine",
                "mine must be a plain function .*, got an async function",
            ),
            (
                SHAKE.replace("def shake", "async def inner")
                + "\n\nmine = lambda model, x, y, *, eps: inner(model, x, y, eps=eps, norm='linf')\n",
                "mine",
                "mine fails: .*must return x_adv as a tensor or a NumPy array, .*got coroutine",
            ),
            (
                SHAKE.replace("norm, ", "").replace("steps=3", "steps=3, depth"),
                "shake",
                "shake needs its argument depth",
            ),
        ],
    )
    def test_are_one_line(
        self,
        tmp_path: Path,
        code: str | None,
        name: str,
        message: str,
        recwarn: pytest.WarningsRecorder,
    ) -> None:
        if code is not None:
            written(tmp_path, code)
        model = written(
            tmp_path,
            "import torch\nfrom torch import nn\n\ndef build():\n"
            "    torch.manual_seed(0)\n"
            "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n",
            "net.py",
        )
        done = CliRunner().invoke(
            cli.app,
            [
                *("evaluate", "--model", f"{model}:build", "--data", "digits", "--n", "40"),
                *("--attack", f"{tmp_path / 'mine.py'}:{name}", "--out", str(tmp_path / "run")),
            ],
        )
        gc.collect()  # a coroutine that nothing awaits warns when it is collected
        assert not recwarn.list
        assert done.exit_code == 2
        *_, line = done.output.strip().splitlines()
        assert line.startswith("error: ")
        assert len(done.output.split("error: ")) == 2
        assert re.search(message, line), line

    def test_an_argument_that_it_does_not_take(self, tmp_path: Path) -> None:
        file = written(tmp_path, SHAKE)
        with pytest.raises(
            ValueError, match=r"shake takes steps; got 'step' .did you mean 'steps'"
        ):
            find_attack(f"{file}:shake", {"step": 3})
        with pytest.raises(ValueError, match="use --eps"):
            find_attack(f"{file}:shake", {"eps": 3})

    def test_a_norm_or_targets_that_it_does_not_know(
        self, tmp_path: Path, linear_net: nn.Module, data: Dataset
    ) -> None:
        file = written(tmp_path, SHAKE.replace("norm, ", ""))
        with pytest.raises(ValueError, match="fills a ball of norm='linf' only, got norm='l2'"):
            run(linear_net, data, tmp_path / "run", f"{file}:shake", norm="l2")
        with pytest.raises(ValueError, match="cannot be targeted: it has no parameter 'targeted'"):
            run(linear_net, data, tmp_path / "run", f"{file}:shake", targeted=3)


@pytest.mark.parametrize(
    ("outputs", "reasons"),
    [
        ("x * float('nan')", "{count} with NaN or infinity"),
        ("x - eps", "by up to 0.1 beyond the box"),
        ("(x - 3 * eps).clamp(0, 1)", "by up to 0.2 beyond eps"),
        ("x - 2 * eps", "by up to 0.1 beyond eps, by up to 0.2 beyond the box"),
    ],
)
@pytest.mark.parametrize("chunk_size", [None, 7])
def test_outputs_outside_ball_or_box_are_failures_with_a_warning(
    tmp_path: Path,
    linear_net: nn.Module,
    data: Dataset,
    outputs: str,
    reasons: str,
    chunk_size: int | None,
) -> None:
    file = written(tmp_path, f"def lost(model, x, y, *, eps):\n    return {outputs}\n")
    finished = run(
        linear_net, data, tmp_path / "out", f"{file}:lost", chunk_size=chunk_size, batch_size=5
    )
    attacked = finished.records[~finished.records["already_adversarial"]]
    assert not attacked["success"].any()
    (found,) = (one for one in finished.warnings if one.kind == "outside")
    count = len(attacked)
    assert f"lost at eps 0.1: {count} of {count} outputs lie outside the ball" in found.message
    assert f"({reasons.format(count=count)})" in found.message
    assert (found.model, found.attack, found.eps) == ("model", "lost", 0.1)
    assert (found.count, found.samples, found.level) == (count, count, "warning")
    assert list(found.indices) == sorted(attacked["index"])
    assert "lost at eps 0.1" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")


def test_only_the_outputs_outside_are_counted(
    tmp_path: Path, linear_net: nn.Module, data: Dataset
) -> None:
    code = (
        "def lost(model, x, y, *, eps):\n"
        "    moved = x.clone()\n"
        "    moved[y == 3] += 1\n"
        "    return moved\n"
    )
    finished = run(linear_net, data, tmp_path / "out", f"{written(tmp_path, code)}:lost")
    threes = finished.records.query("label == 3 and not already_adversarial")["index"]
    (found,) = (one for one in finished.warnings if one.kind == "outside")
    assert list(found.indices) == sorted(threes)
    inside = code.replace("+= 1", "+= 0")
    finished = run(linear_net, data, tmp_path / "in", f"{written(tmp_path, inside)}:lost")
    assert not any(one.kind == "outside" for one in finished.warnings)


def plain(model: Any, x: Tensor, y: Tensor, *, eps: float, norm: str) -> Tensor:
    """Move to the upper corner."""
    return (x + eps).clamp(max=1)


class TestEntryPoints:
    @pytest.fixture(autouse=True)
    def _points(self, monkeypatch: pytest.MonkeyPatch) -> None:
        points = [
            EntryPoint("upper", f"{__name__}:plain", registry.PLUGINS.group),
            EntryPoint("lost", "no_such_module:attack", registry.PLUGINS.group),
        ]
        monkeypatch.setitem(sys.modules, __name__, sys.modules[plain.__module__])
        monkeypatch.setattr("art_ext.core.plugins.entry_points", lambda group: points)

    def test_an_attack_of_another_package(
        self, tmp_path: Path, linear_net: nn.Module, data: Dataset
    ) -> None:
        outcome = run(linear_net, data, tmp_path / "run", "Upper")
        assert set(outcome.records["attack"]) == {"upper"}
        member = find_attack("upper")
        assert pickle.loads(pickle.dumps(member)) == member  # noqa: S301

    def test_one_that_fails(self) -> None:
        assert find_attack("pgd").name == "pgd"
        with pytest.raises(ValueError, match=r"'lost' .* cannot be imported: ModuleNotFoundError"):
            find_attack("lost")
        with pytest.raises(ValueError, match=r"rays, .*, upper, lost, .*got 'uper'.*'upper'"):
            find_attack("uper")

    def test_the_listing_says_what_fails_and_goes_on(self) -> None:
        done = CliRunner().invoke(cli.app, ["attacks"])
        assert done.exit_code == 0
        lines = {line.split()[0]: line for line in done.output.splitlines()}
        assert lines["upper"].endswith("an unknown package  Move to the upper corner.")
        assert "error: the attack 'lost'" in lines["lost"]


class TestListing:
    def test_every_attack_in_a_line(self) -> None:
        lines = CliRunner().invoke(cli.app, ["attacks"]).output.splitlines()
        assert lines[0].split() == [
            "name",
            "access",
            "family",
            "norms",
            "targets",
            "origin",
            "summary",
        ]
        assert [line.split()[0] for line in lines[1:]] == registry.names()
        only = CliRunner().invoke(cli.app, ["attacks", "--access", "labels"]).output
        assert [line.split()[0] for line in only.splitlines()[1:]] == ["opt", "rays", "sign_opt"]

    def test_json_with_parameters_and_ones_own(self, tmp_path: Path) -> None:
        file = written(tmp_path, SHAKE)
        done = CliRunner().invoke(cli.app, ["attacks", "--json", "--attack", f"{file}:shake"])
        rows = {row["name"]: row for row in json.loads(done.output)}
        assert rows["shake"]["summary"] == (
            "Keep the last random corner of the ball that is misclassified."
        )
        assert rows["shake"]["access"] == "unknown"
        assert rows["shake"]["parameters"]["steps"] == 3
        assert rows["pgd"]["norms"] == ["linf", "l2", "l1"]
        assert rows["rays"]["targets"] is False

    def test_a_wrong_filter(self) -> None:
        done = CliRunner().invoke(cli.app, ["attacks", "--access", "label"])
        assert done.exit_code == 2
        assert "did you mean 'labels'" in done.output


class TestPickling:
    @pytest.mark.parametrize("panel", PANELS.values(), ids=lambda panel: panel.name)
    def test_every_member_of_every_panel(self, panel: Panel) -> None:
        for member in panel.attacks():
            assert pickle.loads(pickle.dumps(member)) == member  # noqa: S301

    @pytest.mark.parametrize(
        "name", ["torchattacks:PGD", "torchattacks:APGDT", "art:SquareAttack", "autoattack"]
    )
    def test_external_attacks(self, name: str) -> None:
        if name.startswith("torchattacks"):
            pytest.importorskip("torchattacks", reason="torchattacks is not installed")
        member = find_attack(name)
        again = pickle.loads(pickle.dumps(member))  # noqa: S301
        assert again == member
        if member.check_classes is not None:
            with pytest.raises(ValueError, match="at least 4 classes"):
                again.check_classes(3)

    def test_ones_own_in_another_process(self, tmp_path: Path) -> None:
        file = written(tmp_path, SHAKE)
        (tmp_path / "member.pickle").write_bytes(
            pickle.dumps(find_attack(f"{file}:shake", {"steps": 2}))
        )
        code = (
            "import pickle, sys, torch\n"
            "from art_ext.evaluation.panel.attack import AttackRequest, Settings\n"
            "member = pickle.load(open(sys.argv[1], 'rb'))\n"
            "settings = Settings((.1,), 9, 'linf', True, 'logits', (0., 1.), 16, None, 0)\n"
            "x = torch.rand(3, 1, 2, 2)\n"
            "classes = x.flatten(1).argmax(1)\n"
            "request = AttackRequest(lambda x: x.flatten(1), x, classes, .1, settings)\n"
            "found = member.run(request)\n"
            "print(member.name, member.arguments, found.queries.max().item())\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "member.pickle")],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == ["shake", "{'steps':", "2}", "4"]


def test_a_panel_finds_the_file_by_its_function(tmp_path: Path) -> None:
    file = written(tmp_path, SHAKE)
    panel = tmp_path / "mine.toml"
    panel.write_text(f"[[attack]]\nattack = '{file}:shake'\n")
    (member,) = find_panel(panel).attacks({"shake": {"steps": 7}})
    assert (member.name, member.arguments) == ("shake", {"steps": 7})


def test_a_name_where_a_file_is_wanted_names_both() -> None:
    done = CliRunner().invoke(cli.app, ["attacks", "--attack", "pgdd"])
    assert done.exit_code == 2
    assert "must be given as FILE.py:FUNCTION, got 'pgdd' (did you mean 'pgd'?)" in done.output


class TestPickledSpecs:
    DECLARED = (
        "from art_ext.core.attacks import fgsm\n"
        "from art_ext.core.attacks.registry import AttackSpec, register\n\n"
        "def own(model, x, y=None, *, eps, norm='linf'):\n    return fgsm(model, x, y, eps=eps)\n\n"
        "register(AttackSpec('own', own, 'scores', 'fixed-radius', 'Mine.', budget=''))\n"
    )

    @pytest.mark.parametrize(("code", "name"), [(SHAKE, "shake"), (DECLARED, "own")])
    def test_equals_the_spec_while_the_file_stays(
        self, tmp_path: Path, code: str, name: str
    ) -> None:
        file = written(tmp_path, code)
        spec = load_attack(f"{file}:{name}")
        again = pickle.loads(pickle.dumps(spec))  # noqa: S301
        assert again == spec
        assert registry.get(name) == spec
        member = find_attack(f"{file}:{name}")
        assert pickle.loads(pickle.dumps(member)) == member  # noqa: S301
        registry.unregister(name)
        assert load_attack(f"{file}:{name}") == spec
        assert registry.get(name) == spec

    def test_a_changed_file_is_another_attack(self, tmp_path: Path) -> None:
        file = written(tmp_path, SHAKE)
        spec = load_attack(f"{file}:shake")
        pickled = pickle.dumps(spec)
        written(tmp_path, SHAKE.replace("steps=3", "steps=4"))
        again = pickle.loads(pickled)  # noqa: S301
        assert again != spec
        assert again.parameters["steps"] == 4


def test_a_plain_function_cannot_become_a_class_and_is_told_the_remedy(tmp_path: Path) -> None:
    from art_ext.adapters.torchattacks import make as make_torchattacks
    from art_ext.attacks import make as make_art

    spec = load_attack(f"{written(tmp_path, SHAKE)}:shake")
    for make in (make_art, make_torchattacks):
        with pytest.raises(
            ValueError, match=r"shake has access 'unknown': let it return an Attack"
        ):
            make(spec)
