"""Folders to hand in to RobustBench: what is in them, and that their check finds what is wrong."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from art_ext.adapters.robustbench import (
    Check,
    Evidence,
    Metadata,
    Source,
    check_submission,
    import_robustbench,
    submission,
    write_model_info,
    writing,
)
from art_ext.adapters.robustbench.check import _as_robustbench_names
from art_ext.adapters.robustbench.info import (
    check_identifier,
    format_eps,
    format_percent,
    problems_of,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning"
)
MODEL = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width=10):
        super().__init__()
        self.flat = nn.Flatten()
        self.last = nn.Linear(3072, width)

    def forward(self, x):
        return self.last(self.flat(x))

def build(width=10):
    return Net(width)
"""
EPS = 8 / 255
SAID = Metadata(
    name="Mine2026Robust",
    authors="A. Author, B. Author",
    paper_title="Robust: a title",
    paper_link="https://arxiv.org/abs/1",
    architecture="linear",
    additional_data=False,
    venue="ICLR 2026",
    license="MIT",
)
PAPER: dict[str, Any] = {
    "title": "t",
    "link": "l",
    "authors": "a",
    "architecture": "n",
    "additional_data": False,
}


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """A linear network of random weights, made by a file of the user."""
    file = tmp_path / "mine.py"
    file.write_text(MODEL)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        last = nn.Linear(3072, 10)
    names: dict[str, Any] = {}
    exec(MODEL, names)  # noqa: S102  # the text above
    model = names["build"]()
    model.last.load_state_dict(last.state_dict())
    return Source(model, file, "build", {"width": "10"})


@pytest.fixture
def evidence(source: Source) -> Evidence:
    """Thirty random images: three are misclassified, and of the others each of two attacks
    breaks a quarter.
    """
    x = torch.rand((30, 3, 32, 32), generator=torch.Generator().manual_seed(1)).requires_grad_()
    logits = source.model(x)
    y = logits.argmax(dim=1)
    (gradient,) = torch.autograd.grad(logits.amax(dim=1).sum() - logits.sum() / 10, x)
    x = x.detach()
    stepped = (x - EPS * gradient.sign()).clamp(0, 1)
    assert bool((source.model(stepped).argmax(dim=1) != y).all())
    y[:3] = (y[:3] + 1) % 10
    wrong, place = torch.arange(30) < 3, torch.arange(30)
    broken = {"ascent": (place % 4 == 0) & ~wrong, "square": (place % 4 == 2) & ~wrong}
    hit = broken["ascent"] | broken["square"]
    return Evidence(
        x=x,
        y=y,
        wrong=wrong,
        broken=broken,
        attacked={"ascent": ~wrong, "square": ~wrong & ~broken["ascent"]},
        norm="linf",
        eps=EPS,
        images=torch.where(hit[:, None, None, None], stepped, x),
        details={
            "attacks": {"ascent": {"arguments": {"steps": 3}}, "square": {"arguments": {}}},
            "seed": 7,
            "protocol": ["A sentence."],
            "versions": {"torch": "2"},
            "warnings": [{"kind": "odd", "message": "somebody warns"}],
        },
    )


@pytest.fixture
def folder(tmp_path: Path, evidence: Evidence, source: Source) -> Path:
    return submission(tmp_path / "out", SAID, evidence, source, allow_partial=True)


@pytest.fixture
def external(tmp_path: Path, evidence: Evidence, source: Source) -> Path:
    said = Metadata(name="Wong2020Fast", authors="A. Attacker", method="https://example.org/attack")
    return submission(tmp_path / "out", said, evidence, source, external=True, allow_partial=True)


def failed(checks: list[Check]) -> set[str]:
    return {one.name for one in checks if one.ok is False}


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


class TestContent:
    def test_numbers_are_counted_from_the_verdicts(self, evidence: Evidence) -> None:
        # 27 of 30 are right; of the positions 3 to 29 seven are 0 mod 4, and six 2 mod 4
        assert evidence.clean_accuracy == pytest.approx(27 / 30)
        assert evidence.accuracies == pytest.approx(
            {"clean": 27 / 30, "ascent": 20 / 30, "square": 14 / 30}
        )
        assert evidence.robust_accuracy == pytest.approx(14 / 30)

    def test_everything_is_there(self, folder: Path, source: Source) -> None:
        info = "model_info/cifar10/Linf/Mine2026Robust.json"
        files = {
            file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()
        }
        assert files == {
            "mine.py",
            "model.safetensors",
            "model.pt",
            info,
            "issue.md",
            "log.txt",
            "submission.json",
            "evidence.safetensors",
        }
        assert (folder / "mine.py").read_bytes() == source.file.read_bytes()
        for state in (
            load_file(folder / "model.safetensors"),
            torch.load(folder / "model.pt", weights_only=True),
        ):
            assert state.keys() == source.model.state_dict().keys()
            assert all(
                torch.equal(one, state[name]) for name, one in source.model.state_dict().items()
            )
        assert json.loads((folder / info).read_text()) == {
            "link": "https://arxiv.org/abs/1",
            "name": "Robust: a title",
            "authors": "A. Author, B. Author",
            "additional_data": False,
            "number_forward_passes": 1,
            "dataset": "cifar10",
            "venue": "ICLR 2026",
            "architecture": "linear",
            "eps": "8/255",
            "clean_acc": "90.00",
            "reported": "46.67",
            "footnote": "Measured on the first 30 test images.",
            "unreliable": False,
        }

    def test_issue_for_a_new_model(self, folder: Path) -> None:
        lines = (folder / "issue.md").read_text().splitlines()
        assert lines[0] == "[New Model] Mine2026Robust"
        for line in (
            "- **Paper Title**: Robust: a title",
            "- **Threat Model**: Linf",
            "- **eps**: 8/255",
            "- **Clean accuracy**: 90.00%",
            "- **Robust accuracy**: 46.67% (first 30 of 10000 test images)",
            "- **Additional data**: false",
            "- [x] I want to add my models to the Model Zoo (check if true)",
            "- [x] I agree to release my model(s) under MIT license (check if true) **OR**",
        ):
            assert line in lines
        assert "- **Evaluation method**: ascent, square; worst case over all" in "\n".join(lines)

    @pytest.mark.parametrize("external", [False, True])
    def test_the_issue_tells_that_declared_attacks_were_left_out(
        self, external: bool, tmp_path: Path, evidence: Evidence, source: Source
    ) -> None:
        details = {**evidence.details, "left_out": ["pgd", "auto_pgd"]}
        less = dataclasses.replace(evidence, details=details)
        options: dict[str, Any] = {"external": external, "allow_partial": True}
        out = submission(tmp_path / "out", SAID, less, source, **options)
        text = (out / "issue.md").read_text()
        (line,) = [one for one in text.splitlines() if "ascent, square; worst case" in one]
        assert line.endswith(
            "; attacks that the model declares against itself were left out (pgd, auto_pgd): the"
            " robust accuracy may be too high"
        )

    def test_log(self, folder: Path) -> None:
        text = (folder / "log.txt").read_text()
        rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if "%" in line}
        assert rows["(clean)"] == ["30", "3", "90.00%"]
        assert rows["ascent"] == ["27", "7", "66.67%"]
        assert rows["square"] == ["20", "6", "46.67%"]
        # Wilson's for 14 of 30
        assert "Robust accuracy 46.67%, 95 % interval 30.2 to 63.9 %" in text
        assert "  somebody warns" in text
        assert "seed: 7" in text
        assert '  torch: "2"' in text
        assert '  ascent: {"arguments": {"steps": 3}}' in text

    def test_external_evaluation(self, external: Path, evidence: Evidence) -> None:
        images = torch.load(external / "adversarial_images.pt", weights_only=True)
        assert evidence.images is not None
        assert torch.equal(images, evidence.images)
        assert not (external / "model_info").exists()
        lines = (external / "issue.md").read_text().splitlines()
        assert "+ **Model identifier(s):** Wong2020Fast" in lines
        assert "+ **Leaderboard(s):** cifar10, Linf" in lines
        assert "+ **Robust accuracy:** 46.67% (first 30 of 10000 test images)" in lines
        assert lines[-1].startswith(
            "+ **Description of the method used:** https://example.org/attack ascent, square"
        )

    def test_text_of_others_stays_in_its_line(
        self, tmp_path: Path, evidence: Evidence, source: Source
    ) -> None:
        said = dataclasses.replace(SAID, paper_title="a\n- **Robust accuracy**: 99.00%")
        out = submission(tmp_path / "out", said, evidence, source, allow_partial=True)
        assert "- **Robust accuracy**: 99.00%" not in (out / "issue.md").read_text().splitlines()


class TestAutoAttacksNumber:
    def named(self, evidence: Evidence, attacked: Tensor, **arguments: object) -> Evidence:
        broken = {"first": evidence.broken["ascent"], "autoattack": evidence.broken["square"]}
        return dataclasses.replace(
            evidence,
            broken=broken,
            attacked={"first": ~evidence.wrong, "autoattack": attacked},
            details={"attacks": {"autoattack": {"arguments": arguments}}},
        )

    def test_is_that_of_its_standard_version_on_all_samples(self, evidence: Evidence) -> None:
        everything = self.named(evidence, ~evidence.wrong, version="standard", batch_size=9)
        assert everything.autoattack_accuracy == pytest.approx(21 / 30)
        assert everything.robust_accuracy == pytest.approx(14 / 30)
        survivors = self.named(evidence, ~evidence.wrong & ~evidence.broken["ascent"])
        assert survivors.autoattack_accuracy is None
        assert self.named(evidence, ~evidence.wrong, version="rand").autoattack_accuracy is None
        assert (
            self.named(evidence, ~evidence.wrong, adjust={"apgd": {}}).autoattack_accuracy is None
        )
        assert evidence.autoattack_accuracy is None

    def test_goes_into_model_info_and_a_better_attack_beside_it(
        self, tmp_path: Path, evidence: Evidence, source: Source, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # where there is CIFAR-10, these images are not of it
        monkeypatch.delenv("ART_EXT_DATA", raising=False)
        out = submission(
            tmp_path / "out",
            SAID,
            self.named(evidence, ~evidence.wrong),
            source,
            allow_partial=True,
        )
        info = json.loads((out / "model_info/cifar10/Linf/Mine2026Robust.json").read_text())
        assert (info["autoattack_acc"], info["reported"], info["external"]) == (
            "70.00",
            "46.67",
            "46.67",
        )
        assert failed(check_submission(out)) == set()


class TestRefusing:
    def test_a_part_of_the_test_set(
        self, tmp_path: Path, evidence: Evidence, source: Source
    ) -> None:
        for external in (False, True):
            with pytest.raises(
                ValueError, match=r"full test set, 10000 images, got 30.*--allow-partial"
            ):
                submission(tmp_path / "out", SAID, evidence, source, external=external)
        assert not (tmp_path / "out").exists()

    def test_nothing_is_overwritten(
        self, tmp_path: Path, evidence: Evidence, source: Source
    ) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "notes.txt").write_text("mine")
        with pytest.raises(ValueError, match="new or empty folder"):
            submission(tmp_path / "out", SAID, evidence, source, allow_partial=True)
        assert [file.name for file in (tmp_path / "out").iterdir()] == ["notes.txt"]
        (tmp_path / "out" / "notes.txt").unlink()
        submission(tmp_path / "out", SAID, evidence, source, allow_partial=True)
        assert (tmp_path / "out" / "issue.md").exists()

    def test_a_failure_leaves_nothing(
        self, tmp_path: Path, evidence: Evidence, source: Source, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*arguments: object, **options: object) -> None:
            raise OSError(28, "No space left on device")

        before = sorted(tmp_path.iterdir())
        monkeypatch.setattr(writing, "write_model_info", full)
        with pytest.raises(OSError, match="No space left"):
            submission(tmp_path / "out", SAID, evidence, source, allow_partial=True)
        assert sorted(tmp_path.iterdir()) == before

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"name": "robust"}, "model id must be"),
            ({"name": "../../Mine2026Robust"}, "model id must be"),
            ({"dataset": "mnist"}, "dataset must be one of"),
            (
                {"paper_title": " ", "additional_data": None},
                "must say paper_title, additional_data",
            ),
        ],
    )
    def test_metadata(
        self,
        change: dict[str, Any],
        message: str,
        tmp_path: Path,
        evidence: Evidence,
        source: Source,
    ) -> None:
        with pytest.raises(ValueError, match=message):
            submission(
                tmp_path / "out",
                dataclasses.replace(SAID, **change),
                evidence,
                source,
                allow_partial=True,
            )

    def test_what_a_submission_cannot_do_without(
        self, tmp_path: Path, evidence: Evidence, source: Source
    ) -> None:
        without = dataclasses.replace(evidence, images=None)
        with pytest.raises(ValueError, match="save_images"):
            submission(tmp_path / "out", SAID, without, source, external=True, allow_partial=True)
        with pytest.raises(ValueError, match="its file and weights"):
            submission(tmp_path / "out", SAID, evidence, allow_partial=True)
        small = dataclasses.replace(evidence, x=evidence.x[..., :8, :8], images=None)
        with pytest.raises(ValueError, match=r"shape \(3, 32, 32\), got \(3, 8, 8\)"):
            submission(tmp_path / "out", SAID, small, source, allow_partial=True)

    def test_evidence_that_does_not_fit_together(self, evidence: Evidence) -> None:
        with pytest.raises(ValueError, match=r"wrong must be bool of shape \(30,\)"):
            dataclasses.replace(evidence, wrong=evidence.wrong[:9])
        with pytest.raises(ValueError, match="same attacks"):
            dataclasses.replace(evidence, attacked={})


class TestCheck:
    def test_a_good_submission(self, folder: Path) -> None:
        checks = {one.name: one for one in check_submission(folder)}
        # no CIFAR-10 of this kind
        assert {name for name, one in checks.items() if one.ok is not True} == {"data"}
        assert checks["clean accuracy"].detail.startswith(
            "clean accuracy 90.0% on 30 samples; 0 verdicts differ"
        )
        assert checks["robust accuracy"].detail.startswith(
            "robust accuracy 46.7% on 30 samples; 0 verdicts differ"
        )

    @pytest.fixture(autouse=True)
    def _without_data(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("ART_EXT_DATA", raising=False)

    def test_data_at_hand(self, tmp_path: Path, evidence: Evidence, source: Source) -> None:
        import numpy as np

        np.savez(tmp_path / "data.npz", x=evidence.x.numpy(), y=evidence.y.numpy())
        known = dataclasses.replace(evidence, details={"data": str(tmp_path / "data.npz")})
        out = submission(tmp_path / "out", SAID, known, source, allow_partial=True, sample=4)
        assert {one.name for one in check_submission(out) if one.ok is not True} == set()
        np.savez(tmp_path / "data.npz", x=evidence.x.flip(0).numpy(), y=evidence.y.numpy())
        assert failed(check_submission(out)) == {"data"}

    @pytest.mark.parametrize(
        ("forward", "name"),
        [
            ("torch.softmax(self.last(self.flat(x)), 1)", "logits"),
            ("self.last(self.flat(x)) + torch.rand(len(x), 10)", "deterministic"),
            ("self.last(self.flat(x.detach())) + 0 * x.sum()", "input gradients"),
            ("self.search(x)", "no optimisation"),
        ],
    )
    def test_what_robustbench_does_not_take(self, forward: str, name: str, folder: Path) -> None:
        edit(folder / "mine.py", "return self.last(self.flat(x))", f"return {forward}")
        edit(
            folder / "mine.py",
            "    def forward",
            "    def search(self, x):\n        with torch.enable_grad():\n"
            "            moved = x.clone().requires_grad_()\n"
            "            torch.autograd.grad(self.last(self.flat(moved)).sum(), moved)\n"
            "        return self.last(self.flat(x))\n\n    def forward",
        )
        assert (
            name in failed(check_submission(folder)) <= {name, "clean accuracy", "robust accuracy"}
        )

    def test_other_weights(self, folder: Path) -> None:
        state = torch.load(folder / "model.pt", weights_only=True)
        torch.save({name: -one for name, one in state.items()}, folder / "model.pt")
        assert failed(check_submission(folder)) == {"weights", "clean accuracy", "robust accuracy"}

    def test_code_in_the_checkpoint_is_not_run(self, folder: Path, tmp_path: Path) -> None:
        class Code:
            def __reduce__(self) -> tuple[Any, ...]:
                return os.mkdir, (str(tmp_path / "executed"),)

        torch.save({"code": Code()}, folder / "model.pt")
        checks = check_submission(folder)
        assert {"weights", "model"} <= failed(checks)
        assert {one.ok for one in checks if one.name in ("logits", "clean accuracy")} == {None}
        assert not (tmp_path / "executed").exists()

    def test_layers_called_model_are_lost_in_robustbench(
        self, tmp_path: Path, evidence: Evidence, source: Source
    ) -> None:
        file = tmp_path / "wrapped.py"
        file.write_text(MODEL.replace("self.last", "self.model"))
        state = {
            name.replace("last", "model"): one for name, one in source.model.state_dict().items()
        }
        names: dict[str, Any] = {}
        exec(file.read_text(), names)  # noqa: S102  # as in source
        model = names["build"]()
        model.load_state_dict(state)
        out = submission(
            tmp_path / "out", SAID, evidence, Source(model, file, "build"), allow_partial=True
        )
        assert failed(check_submission(out)) == {"model"}

    def test_numbers_typed_by_hand(self, folder: Path) -> None:
        edit(folder / "issue.md", "46.67%", "56.67%")
        edit(folder / "model_info/cifar10/Linf/Mine2026Robust.json", '"90.00"', '"91.00"')
        assert failed(check_submission(folder)) == {"issue", "model_info"}
        facts = json.loads((folder / "submission.json").read_text())
        (folder / "submission.json").write_text(json.dumps(facts | {"robust_accuracy": 17 / 30}))
        assert "numbers" in failed(check_submission(folder))

    def test_links_may_be_filled_in(self, folder: Path) -> None:
        edit(folder / "issue.md", "(insert the URL of mine.py and model.pt)", "https://example.org")
        (issue,) = [one for one in check_submission(folder) if one.name == "issue"]
        assert (issue.ok, issue.detail) == (True, "issue.md claims what the records say")

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda x_adv, x: x_adv.add_(2 * EPS).clamp_(0, 1), "leave the ball or the box"),
            (lambda x_adv, x: x_adv.copy_(x), "verdicts differ"),
        ],
        ids=["outside", "clean"],
    )
    def test_images_that_are_no_adversarials(
        self, spoil: Callable[[Tensor, Tensor], Tensor], message: str, folder: Path
    ) -> None:
        tensors = load_file(folder / "evidence.safetensors")
        spoil(tensors["x_adv"], tensors["x"])
        save_file(tensors, folder / "evidence.safetensors")
        checks = check_submission(folder)
        assert failed(checks) == {"robust accuracy"}
        assert message in next(one.detail for one in checks if one.ok is False)

    def test_without_images_nothing_is_said_of_robustness(
        self, tmp_path: Path, evidence: Evidence, source: Source
    ) -> None:
        without = dataclasses.replace(evidence, images=None)
        checks = check_submission(
            submission(tmp_path / "out", SAID, without, source, allow_partial=True)
        )
        assert [one.ok for one in checks if one.name == "robust accuracy"] == [None]

    def test_external_images(self, external: Path) -> None:
        assert failed(check_submission(external)) == set()
        images = torch.load(external / "adversarial_images.pt", weights_only=True)
        for spoilt, message in (
            (images[:20], "shape"),
            (images + 1, r"\[0, 1\]"),
            (images.flip(0), "differs"),
        ):
            torch.save(spoilt.clone(), external / "adversarial_images.pt")
            (one,) = [one for one in check_submission(external) if one.name == "adversarial images"]
            assert one.ok is False
            assert message.replace("\\", "") in one.detail

    def test_external_evaluation_of_the_zoos_model(
        self, tmp_path: Path, evidence: Evidence, source: Source, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import_robustbench()
        utils = sys.modules["robustbench.utils"]
        models = utils.all_models[utils.BenchmarkDataset("cifar10")][utils.ThreatModel("Linf")]
        made = {"model": type(source.model), "gdrive_id": "drive"}
        monkeypatch.setitem(models, "Zoo2026Model", made)
        said = Metadata(name="Zoo2026Model", authors="A. Attacker")
        out = submission(tmp_path / "out", said, evidence, external=True, allow_partial=True)
        checks = check_submission(out, model_dir=tmp_path / "models")
        assert {one.name: one.ok for one in checks}["robust accuracy"] is None
        place = tmp_path / "models" / "cifar10" / "Linf"
        place.mkdir(parents=True)
        torch.save(source.model.state_dict(), place / "Zoo2026Model.pt")
        checks = check_submission(out, model_dir=tmp_path / "models")
        assert {one.name: one.ok for one in checks}["robust accuracy"] is True

    def test_folders_that_are_no_submission(self, tmp_path: Path, folder: Path) -> None:
        with pytest.raises(ValueError, match="must be a folder made by art-ext submit"):
            check_submission(tmp_path)
        facts = json.loads((folder / "submission.json").read_text())
        (folder / "submission.json").write_text(json.dumps(facts | {"format": 0}))
        with pytest.raises(ValueError, match="submission of format 0, wanted 1"):
            check_submission(folder)
        (folder / "evidence.safetensors").write_bytes(b"12345678")
        with pytest.raises(ValueError, match="must be a folder made by art-ext submit"):
            check_submission(folder)


class TestModelInfo:
    def test_names_are_robustbenchs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import_robustbench()
        utils = sys.modules["robustbench.utils"]
        file = write_model_info(
            tmp_path,
            "Wong2020Fast",
            **PAPER,
            eps=EPS,
            clean_accuracy=0.8334,
            reported=0.4321,
            autoattack_accuracy=0.45,
            external=0.4321,
        )
        info = json.loads(file.read_text())
        known = {one.name for one in dataclasses.fields(utils.ModelInfo)}
        # these two are in its files, not in its class
        assert info.keys() - known == {"external", "unreliable"}
        monkeypatch.chdir(tmp_path)
        printed: list[str] = []
        monkeypatch.setitem(vars(utils), "print", printed.append)
        utils.list_available_models("cifar10", "Linf")
        assert "Wong2020Fast" in printed[-1]
        assert "83.34%" in printed[-1]
        assert "43.21%" in printed[-1]

    def test_a_file_that_robustbench_ships_fits(self) -> None:
        # values of Wang2023Better_WRN-28-10, model_info/cifar10/Linf in RobustBench's repository
        shipped = {
            "link": "https://arxiv.org/abs/2302.04638",
            "name": "Better Diffusion Models",
            "authors": "Zekai Wang",
            "additional_data": False,
            "number_forward_passes": 1,
            "dataset": "cifar10",
            "venue": "ICML 2023",
            "architecture": "WideResNet-28-10",
            "eps": "8/255",
            "clean_acc": "92.44",
            "reported": "67.31",
            "autoattack_acc": "67.31",
            "footnote": "",
            "unreliable": False,
        }
        assert problems_of(shipped) == []
        wrong = {
            **shipped,
            "eps": 8 / 255,
            "clean_acc": "92.4",
            "number_forward_passes": True,
            "odd": 1,
        }
        del wrong["venue"]
        assert [text.split()[0] for text in problems_of(wrong)] == [
            "venue",
            "number_forward_passes",
            "eps",
            "clean_acc",
            "odd",
        ]

    def test_files_are_not_replaced_unasked(self, tmp_path: Path) -> None:
        numbers: dict[str, Any] = {
            "eps": 0.5,
            "clean_accuracy": 0.9,
            "threat_model": "L2",
            "dataset": "cifar100",
        }
        file = write_model_info(tmp_path, "Mine2026Robust", **PAPER, **numbers, reported=0.5)
        assert file == tmp_path / "model_info" / "cifar100" / "L2" / "Mine2026Robust.json"
        with pytest.raises(ValueError, match="exists"):
            write_model_info(tmp_path, "Mine2026Robust", **PAPER, **numbers, reported=0.6)
        assert json.loads(file.read_text())["reported"] == "50.00"
        write_model_info(
            tmp_path, "Mine2026Robust", **PAPER, **numbers, reported=0.6, overwrite=True
        )
        assert json.loads(file.read_text())["reported"] == "60.00"

    def test_formats(self) -> None:
        assert [format_percent(share) for share in (0.53424, 1, 0)] == ["53.42", "100.00", "0.00"]
        assert [format_eps(eps) for eps in (8 / 255, 4 / 255, 0.5, 1.0, 0.031, 128 / 255)] == [
            "8/255",
            "4/255",
            "0.5",
            "1",
            "0.031",
            "128/255",
        ]
        with pytest.raises(ValueError, match=r"share in \[0, 1\], got 53.42"):
            format_percent(53.42)
        for name in (
            "Moosavi-Dezfooli2019Robustness",
            "Jia2022LAS-AT_34_10",
            "Wang2023Better_WRN-28-10",
        ):
            check_identifier(name)

    def test_names_of_layers_become_what_robustbench_makes_of_them(self) -> None:
        import_robustbench()
        cut = sys.modules["robustbench.utils"].rm_substr_from_state_dict
        names = (
            "module.model.a",
            "module.a",
            "model.a",
            "b.model.a",
            "plain",
            "modules.a",
            "a.module.b",
        )
        state = {name: torch.tensor(number) for number, name in enumerate(names)}
        assert _as_robustbench_names(state) == dict(cut(cut(state, "module."), "model."))
