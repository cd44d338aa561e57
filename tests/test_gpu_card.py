"""The card of a GPU: its file, its time, its parts, rehearsed on the CPU."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
import warnings

import pytest
import torch

from art_ext.benchmarks.gpu import attacks, command, training, verdict
from art_ext.benchmarks.gpu.card import Card, Deadline, line_of, read_card, table
from art_ext.benchmarks.gpu.subject import SMALL, Subject, host_waits, noise
from art_ext.core.attacks import pgd, registry
from art_ext.core.interruption import AttackInterrupted
from tests.accelerator import Accelerator

FACTS = {"device": "a card", "sizes": {"rows": [1, 2]}}
# distributions that an image with PyTorch usually lacks
MISSING = (
    "art torchattacks pyautoattack autoattack robustbench torchvision foolbox tomli tomli_w cv2"
)
MISSING += " ray submitit distributed upath playwright"


def test_a_row_is_saved_at_once_and_read_again(tmp_path):
    card = Card(tmp_path / "card.json", FACTS)
    sheet = card.begin("attacks", 60)
    sheet.measure("pgd", lambda: {"seconds": 0.123456, "over_bare": 1.05})
    assert read_card(card.file)["parts"]["attacks"]["rows"] == [
        {"name": "pgd", "seconds": 0.123456, "over_bare": 1.05}
    ]
    assert not Card(card.file, FACTS).holds("attacks")  # it was killed
    card.end("attacks", "complete", 1.0)
    assert Card(card.file, FACTS).holds("attacks")


def test_an_error_is_a_row_and_the_part_goes_on(tmp_path, capsys):
    sheet = Card(tmp_path / "card.json", FACTS).begin("rays", 60)

    def fails():
        raise RuntimeError("no kernel\nimage is available")

    assert sheet.measure("one", fails) is None
    assert sheet.measure("two", lambda: {"seconds": 1.0}) == {"seconds": 1.0}
    first, second = sheet.card.content["parts"]["rays"]["rows"]
    assert first["error"] == "RuntimeError: no kernel image is available"
    assert first["at"].startswith("test_gpu_card.py:")
    assert second == {"name": "two", "seconds": 1.0}
    assert "| rays | two |  | 1 |  |  |  |" in capsys.readouterr().out


def test_rows_without_time_are_named_in_one_row(tmp_path):
    sheet = Card(tmp_path / "card.json", FACTS).begin("rays", 0)
    for name in ("one", "two"):
        assert sheet.measure(name, lambda: pytest.fail("there was no time")) is None
    sheet.close()
    (row,) = sheet.card.content["parts"]["rays"]["rows"]
    assert row["rows"] == "one, two"


@pytest.mark.parametrize("content", ["{", "[]", '{"format": "another"}'])
def test_no_other_file_is_written(tmp_path, content):
    file = tmp_path / "card.json"
    file.write_text(content)
    with pytest.raises(ValueError, match="must be a file that this command wrote"):
        Card(file, FACTS)
    assert file.read_text() == content


def test_a_card_of_another_machine_is_an_error(tmp_path):
    Card(tmp_path / "card.json", FACTS).save()
    with pytest.raises(ValueError, match="device 'a card', and this run has 'another'"):
        Card(tmp_path / "card.json", FACTS | {"device": "another"})


def test_an_attack_ends_with_the_time_and_keeps_its_successes():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))
    x = torch.rand(4, 3, 2, 2)
    y = network(x).argmax(1)
    model = Deadline(network, time.perf_counter() + 60)

    def stop(progress):
        model.end = 0.0

    with pytest.raises(AttackInterrupted, match="the time of the part is over") as stopped:
        pgd(model, x, y, eps=0.5, seed=0, callback=stop)
    assert stopped.value.result.queries.tolist() == [1] * 4


def test_time_that_a_part_leaves_goes_to_the_later_ones(tmp_path, monkeypatch):
    budgets = {}

    def part(name):
        return lambda subject, sheet: budgets.update({name: sheet.left})

    parts = {
        name: command.Part(part(name), 0, share)
        for name, share in zip("abc", (1, 1, 2), strict=True)
    }
    monkeypatch.setattr(command, "PARTS", parts)
    subject = Subject(torch.device("cpu"), SMALL, None, tmp_path / "w.safetensors", "fast")
    card = Card(tmp_path / "card.json", FACTS)
    assert command.run_parts(list("abc"), subject, card, time.perf_counter() + 400) == []
    assert budgets == pytest.approx({"a": 100, "b": 400 / 3, "c": 400}, rel=0.05)


def test_a_part_that_fails_is_a_row(tmp_path, monkeypatch):
    def fails(subject, sheet):
        raise ValueError("no weights")

    monkeypatch.setattr(command, "PARTS", {"a": command.Part(fails, 1, 1)})
    subject = Subject(torch.device("cpu"), SMALL, None, tmp_path / "w.safetensors", "fast")
    card = Card(tmp_path / "card.json", FACTS)
    command.run_parts(["a"], subject, card, time.perf_counter() + 60)
    part = card.content["parts"]["a"]
    assert part["state"] == "failed"
    assert part["rows"][0]["error"] == "ValueError: no weights"


def test_a_new_process_runs_the_parts_after_one_that_lost_the_device(tmp_path, monkeypatch):
    ran = []
    started = []
    parts = {
        name: command.Part(lambda subject, sheet, name=name: ran.append(name), 1, 1)
        for name in "abc"
    }
    monkeypatch.setattr(command, "PARTS", parts)
    monkeypatch.setattr(command, "context_lost", lambda device: ran == ["a"])
    monkeypatch.setattr(command.os, "execv", lambda program, given: started.append(given))
    given = ["--rehearse", "--out", str(tmp_path / "card.json"), "--minutes", "5"]
    command.main(given, begun=time.perf_counter() - 60)
    assert ran == ["a"]
    (given,) = started
    again = command.parser().parse_args(given[3:])
    assert again.parts == "b,c"
    assert 3 < again.minutes <= 4  # a minute had gone before the parts
    assert again.out == tmp_path / "card.json"
    assert Card(again.out, read_card(again.out)["facts"]).holds("a")


def test_the_table_has_a_cell_for_each_column():
    row = {"name": "a|b", "images_per_s": 12345.6, "seconds": 0.0123, "calls": 4, "on_device": True}
    assert line_of("p", row) == "| p | a/b | 12,346 | 0.0123 |  |  | calls: 4, on device |"
    parts = {"p": {"rows": [row]}}
    lines = table({"facts": {"device": "card"}, "parts": parts}).splitlines()
    assert lines[0] == "* device: card"
    assert len({line.count("|") for line in lines[2:]}) == 1


def test_waits_are_counted_as_torch_tells_them(monkeypatch):
    modes = []
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)

    def call():
        for message in (
            "called a synchronizing CUDA operation",
            "another",
            "called a synchronizing",
        ):
            warnings.warn(message, stacklevel=1)

    assert host_waits(torch.device("cuda"), call) == 2
    assert modes == ["warn", 0]


def test_noise_has_labels_that_a_network_can_learn():
    x, y = noise(64, seed=1)
    assert x.shape == (64, 3, 32, 32)
    assert len(y.unique()) > 5
    assert torch.equal(noise(64, seed=1)[1], y)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device", "cpu"], "add --rehearse"),
        (["--device", "gpu"], "device must be a name that torch knows"),
        (["--rehearse", "--data", "nowhere"], "--data must be a folder that exists"),
        (["--rehearse", "--parts", "attack"], "did you mean 'attacks'"),
        (["--rehearse", "--recipe", "trade"], "did you mean 'trades'"),
        (["--show", "--out", "none.json"], "must be a file that this command wrote"),
    ],
)
def test_errors_of_the_user_have_no_traceback(tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        command.main(options)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_weights_of_others_are_not_written_over(tmp_path, capsys):
    (tmp_path / "mine.safetensors").write_bytes(b"mine")
    with pytest.raises(SystemExit):
        command.main(["--rehearse", "--out", str(tmp_path / "mine.json")])
    assert "give another --out" in capsys.readouterr().err
    assert (tmp_path / "mine.safetensors").read_bytes() == b"mine"


class InFull(torch.nn.Module):
    """Autocast of a device that has none."""

    def __init__(self, network, device):
        super().__init__()
        self.network = network

    def forward(self, rows):
        return self.network(rows)


@pytest.mark.slow
def test_no_part_mixes_devices(tmp_path, monkeypatch):
    def linear(subject):
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 10)).eval()

    monkeypatch.setattr(Subject, "untrained", linear)
    monkeypatch.setattr(training, "FAST", {})
    monkeypatch.setattr(training, "Autocast", InFull)
    monkeypatch.setattr(training, "TRAINING_SHARE", 0.05)
    monkeypatch.setattr(training, "DISTANCE_QUERIES", 10)
    monkeypatch.setattr(training, "RECIPE_NAMES", ("fast",))
    monkeypatch.setattr(attacks, "FORMS", attacks.FORMS[:1])
    monkeypatch.setattr(attacks, "built_in", lambda: [registry.get("pgd"), registry.get("square")])
    monkeypatch.setattr(attacks, "importable", lambda module: False)
    monkeypatch.setattr(verdict, "importable", lambda module: False)
    sizes = dataclasses.replace(SMALL, rays_rows=(2,), rays_queries=6, training_images=16, judged=4)
    subject = Subject(torch.device("meta"), sizes, None, tmp_path / "w.safetensors", "fast")
    card = Card(tmp_path / "card.json", subject.facts())
    # only a training fills its time
    budgets = {"attacks": 200, "rays": 200, "training": 4, "trained": 60, "autoattack": 20}
    with Accelerator().running():
        for name, seconds in budgets.items():
            command.run_part(name, subject, card, seconds)
    for name in budgets:
        rows = card.content["parts"][name]["rows"]
        assert [row for row in rows if "error" in row] == [], name
        assert any("seconds" in row for row in rows), name


REHEARSAL = f"""
import importlib.abc, sys

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {MISSING.split()!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
from art_ext.benchmarks.gpu.command import main
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_the_rehearsal_runs_without_other_toolkits(tmp_path):
    out = tmp_path / "card.json"
    given = ["--rehearse", "--minutes", "3", "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-c", REHEARSAL, *given], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    card = json.loads(out.read_text())
    assert list(card["parts"]) == list(command.PARTS)
    rows = [row for part in card["parts"].values() for row in part["rows"]]
    assert [row for row in rows if "error" in row] == []
    assert {part["state"] for part in card["parts"].values()} == {"complete"}
    assert all(any("skipped" not in row for row in part["rows"]) for part in card["parts"].values())
    assert card["facts"]["torchattacks"].startswith("not importable")
    assert out.with_suffix(".safetensors").is_file()
    assert table(card) in done.stdout
