"""What fails in the user's model or factory ends a command with one line, and reaches Python
callers with its cause.
"""

from __future__ import annotations

import os
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner, Result

from art_ext.cli import app
from art_ext.data import Dataset, load_data
from art_ext.errors import UserCodeError, describe, is_plain
from art_ext.evaluation import Watcher, evaluate
from art_ext.models import resolve_factory

DATA = load_data("digits").first(12)
MODELS = """
    import sys
    import numpy as np
    import torch
    from torch import nn

    generator = torch.Generator().manual_seed(0)
    WEIGHT = torch.randn(64, 10, generator=generator)

    class Failing(nn.Module):
        def __init__(self, calls, error):
            super().__init__()
            self.calls, self.error = calls, error
            self.layer = nn.Linear(64, 10)

        def forward(self, rows):
            self.calls -= 1
            if self.calls < 0:
                raise self.error
            return self.layer(rows.flatten(1)) if self.training else rows.flatten(1) @ WEIGHT

    def key(calls=0):
        return Failing(calls, KeyError("depth"))

    def value(calls=0):
        return Failing(calls, ValueError("no\\nsuch luck"))

    def silent(calls=0):
        return Failing(calls, AssertionError())

    def missing(calls=0):
        return Failing(calls, FileNotFoundError(2, "No such file or directory", "scale.npy"))

    def broken():
        raise LookupError("no weights here")

    def leaving():
        sys.exit("use main()")

    def detached():
        def model(rows):
            return torch.from_numpy(np.asarray(rows.detach().flatten(1)) @ WEIGHT.numpy())
        return model

    def arrays():
        def model(rows):
            return torch.from_numpy(rows.flatten(1).numpy() @ WEIGHT.numpy())
        return model
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "models.py"
    path.write_text(textwrap.dedent(MODELS))
    return path


def command(*arguments: Any, shown: bool = False) -> Result:
    environment = {"ART_EXT_TRACEBACK": "1" if shown else None}
    return CliRunner().invoke(app, [str(one) for one in arguments], env=environment)


def evaluated(file: Path, factory: str, *more: Any, shown: bool = False) -> Result:
    return command(
        "evaluate",
        "--model",
        f"{file}:{factory}",
        "--data",
        "digits",
        "--n",
        12,
        "--eps",
        0.1,
        "--out",
        file.parent / "run",
        "--quiet",
        *more,
        shown=shown,
    )


class TestCommandLine:
    @pytest.mark.parametrize(
        ("factory", "words"),
        [
            ("key", "KeyError: 'depth'"),
            ("value", "ValueError: no such luck"),
            ("silent", "AssertionError"),
            ("missing", "FileNotFoundError: [Errno 2] No such file or directory: 'scale.npy'"),
        ],
    )
    def test_a_model_that_fails_in_an_attack(self, file: Path, factory: str, words: str) -> None:
        result = evaluated(
            file, factory, "--model-args", "calls=30", "--attack", "rays", "--max-queries", 500
        )
        assert result.exit_code == 2
        line = f"error: rays fails on the model '{factory}': {words} (ART_EXT_TRACEBACK=1 shows where)\n"
        assert result.stderr == line
        assert result.stdout == ""

    @pytest.mark.parametrize(
        ("factory", "words"),
        [
            ("key", "samples of shape (1, 8, 8): KeyError: 'depth'"),
            ("value", "the clean samples: ValueError: no such luck"),
            ("silent", "samples of shape (1, 8, 8): AssertionError"),
            (
                "missing",
                "samples of shape (1, 8, 8): FileNotFoundError: [Errno 2] No such file or directory: 'scale.npy'",
            ),
        ],
    )
    def test_a_model_that_fails_at_once(self, file: Path, factory: str, words: str) -> None:
        result = evaluated(file, factory)
        assert result.exit_code == 2
        assert (
            result.stderr
            == f"error: the model fails on {words} (ART_EXT_TRACEBACK=1 shows where)\n"
        )

    @pytest.mark.parametrize(
        ("factory", "words"),
        [
            ("broken", "with arguments {} fails: LookupError: no weights here"),
            ("leaving", "with arguments {} fails: SystemExit: use main()"),
        ],
    )
    def test_a_factory_that_fails(self, file: Path, factory: str, words: str) -> None:
        for result in (
            evaluated(file, factory),
            command(
                "train",
                "--recipe",
                "natural",
                "--data",
                "digits",
                "--model",
                f"{file}:{factory}",
                "--out",
                file.parent / "t",
                "--epochs",
                1,
                "--quiet",
            ),
        ):
            assert result.exit_code == 2
            assert (
                result.stderr
                == f"error: '{file}:{factory}' {words} (ART_EXT_TRACEBACK=1 shows where)\n"
            )

    def test_a_file_that_leaves_on_import(self, file: Path) -> None:
        file.write_text("import sys\nsys.exit(3)\n")
        result = evaluated(file, "key")
        assert result.exit_code == 2
        assert f"the model's file {file} fails on import: SystemExit: 3" in result.stderr

    def test_training(self, file: Path) -> None:
        result = command(
            "train",
            "--recipe",
            "natural",
            "--data",
            "digits",
            "--model",
            f"{file}:key",
            "--model-args",
            "calls=9",
            "--out",
            file.parent / "t",
            "--epochs",
            1,
            "--quiet",
        )
        assert result.exit_code == 2
        assert (
            result.stderr.splitlines()[-1]
            == "error: KeyError: 'depth' (ART_EXT_TRACEBACK=1 shows where)"
        )
        assert "Traceback" not in result.stderr

    def test_the_whole_traceback_is_shown_on_demand(self, file: Path) -> None:
        result = evaluated(file, "key", "--model-args", "calls=30", "--attack", "rays", shown=True)
        assert result.exit_code == 2
        # the cause, and what was made of it
        assert result.stderr.count("Traceback (most recent call last)") == 2
        assert "raise self.error" in result.stderr
        assert (
            result.stderr.splitlines()[-1]
            == "error: rays fails on the model 'key': KeyError: 'depth'"
        )

    def test_our_own_words_need_no_hint(self, file: Path) -> None:
        result = evaluated(file, "key", "--attack", "pdg")
        assert result.exit_code == 2
        assert result.stderr.endswith("got 'pdg' (did you mean 'pgd'?)\n")
        assert "ART_EXT_TRACEBACK" not in result.stderr
        assert os.environ.get("ART_EXT_TRACEBACK") is None


class Late(nn.Module):
    """Fails after some calls."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.calls = calls
        self.layer = nn.Linear(64, 10)

    def forward(self, rows: Tensor) -> Tensor:
        self.calls -= 1
        if self.calls < 0:
            raise KeyError("depth")
        scores: Tensor = self.layer(rows.flatten(1))
        return scores


class TestPython:
    @pytest.mark.parametrize("attack", ["rays", "pgd", "torchattacks:PGD", "autoattack"])
    def test_the_cause_is_chained(self, attack: str, tmp_path: Path) -> None:
        model = Late(10**9)
        data = Dataset("own", DATA.x, model(DATA.x).argmax(dim=1))

        class Begun(Watcher):
            def start(self, name: str, attack: str, eps: float, samples: int) -> None:
                model.calls = 1  # the clean check

        with pytest.raises(
            ValueError, match=rf"{attack} fails.*KeyError: 'depth'|fails in apgd-ce: KeyErr"
        ) as caught:
            evaluate(model, data, tmp_path / "run", attacks=[attack], eps=0.1, watcher=Begun())
        cause: BaseException | None = caught.value
        while cause is not None and not isinstance(cause, KeyError):
            cause = cause.__cause__
        assert isinstance(cause, KeyError)

    def test_ours_stay_as_they_are(self, tmp_path: Path) -> None:
        columns = 10

        def model(rows: Tensor) -> Tensor:
            return (rows.flatten(1) @ torch.eye(64, 10))[:, :columns]

        class Begun(Watcher):
            def start(self, name: str, attack: str, eps: float, samples: int) -> None:
                nonlocal columns
                columns = 0

        with pytest.raises(ValueError, match=r"rays: .*must return") as caught:
            evaluate(model, DATA, tmp_path / "run", attacks=["rays"], eps=0.1, watcher=Begun())
        assert not isinstance(caught.value, UserCodeError)

    def test_factory(self, file: Path) -> None:
        with pytest.raises(UserCodeError) as caught:
            resolve_factory(f"{file}:broken")
        assert isinstance(caught.value.__cause__, LookupError)

    def test_words(self) -> None:
        assert describe(KeyError("a\nb")) == "KeyError: 'a\\nb'"
        assert describe(RuntimeError("two\n  lines")) == "RuntimeError: two lines"
        assert describe(UserCodeError("pgd fails: KeyError: 3")) == "pgd fails: KeyError: 3"
        assert is_plain(ValueError("never raised"))
        for error in (KeyError(), TypeError("x"), UserCodeError("x")):
            assert not is_plain(error)


class TestModelsWithoutGradients:
    @pytest.mark.parametrize("factory", ["detached", "arrays"])
    @pytest.mark.parametrize(
        ("options", "members"),
        [
            (("--panel", "quick"), "pgd, frank_wolfe need"),
            (("--attack", "rays,fgsm"), "fgsm needs"),
            (("--attack", "rays,torchattacks:PGD"), "torchattacks:PGD needs"),
            (("--attack", "rays,torchattacks:AutoAttack"), "torchattacks:AutoAttack needs"),
            (
                ("--attack", "rays,art:ProjectedGradientDescent"),
                "art:ProjectedGradientDescent needs",
            ),
            (("--attack", "rays,foolbox:LinfPGD"), "foolbox:LinfPGD needs"),
            (
                ("--attack", "foolbox:LInfFMNAttack,autoattack"),
                "foolbox:LInfFMNAttack, autoattack need",
            ),
            (
                ("--panel", "standard"),
                "auto_pgd_probability, auto_pgd_targeted, auto_pgd_searched need",
            ),
        ],
    )
    def test_a_panel_is_refused_before_its_first_attack(
        self, file: Path, factory: str, options: tuple[str, str], members: str
    ) -> None:
        result = evaluated(file, factory, *options)
        assert result.exit_code == 2
        assert result.stderr.startswith(
            f"error: {members} gradients, and the model '{factory}' gives none ("
        )
        assert result.stderr.endswith("need no gradients: --panel black-box, or --attack rays\n")
        assert not (file.parent / "run" / "run.json").exists()

    def test_before_any_attack_on_any_model(self, file: Path, tmp_path: Path) -> None:
        started = []

        class Heard(Watcher):
            def start(self, model: str, attack: str, eps: float, samples: int) -> None:
                started.append((model, attack))

        models: dict[str, Any] = {"good": nn.Sequential(nn.Flatten(), nn.Linear(64, 10))}
        models["bad"] = resolve_factory(f"{file}:detached")
        with pytest.raises(
            ValueError, match="fgsm needs gradients, and the model 'bad' gives none"
        ):
            evaluate(
                models, DATA, tmp_path / "two", attacks=["rays", "fgsm"], eps=0.1, watcher=Heard()
            )
        assert started == []

    @pytest.mark.parametrize(
        ("attack", "arguments"),
        [
            ("art:SquareAttack", "art:SquareAttack.max_iter=5"),
            ("torchattacks:Square", "torchattacks:Square.n_queries=5"),
        ],
    )
    def test_external_attacks_on_scores_run(self, file: Path, attack: str, arguments: str) -> None:
        result = evaluated(file, "arrays", "--attack", attack, "--attack-args", arguments)
        assert result.exit_code == 0, result.stderr

    @pytest.mark.parametrize("factory", ["detached", "arrays"])
    def test_the_remedy_runs(self, file: Path, factory: str) -> None:
        result = evaluated(file, factory, "--panel", "black-box", "--max-queries", 60)
        assert result.exit_code == 0, result.stderr
        assert "rays" in result.stdout
