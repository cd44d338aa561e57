"""``evaluate`` with gradients in bfloat16, channels-last memory and compilation."""

from __future__ import annotations

import json

import pytest
import torch
from typer.testing import CliRunner

from art_ext.cli import app
from art_ext.evaluation import Watcher, evaluate, read_records


class Notes(Watcher):
    def __init__(self):
        self.lines = []

    def note(self, text):
        self.lines.append(text)


def run(out, model, digits, **options):
    given = {"attacks": ["pgd", "rays"], "eps": 0.1, "max_queries": 60, **options}
    return evaluate({"digits": model}, digits, out, **given)


def recorded(out):
    return json.loads((out / "run.json").read_text(encoding="utf-8"))


def test_amp_is_recorded_and_judged_in_float32(digits_net, digits, tmp_path):
    run(tmp_path / "plain", digits_net, digits)
    run(tmp_path / "amp", digits_net, digits, amp=True, save_images=True)
    plain, low = (read_records(tmp_path / name) for name in ("plain", "amp"))
    of_rays = [one[one.attack == "rays"].drop(columns="seconds") for one in (plain, low)]
    assert of_rays[0].reset_index(drop=True).equals(of_rays[1].reset_index(drop=True))
    ascents = low[low.attack == "pgd"]
    assert abs(int(ascents.success.sum()) - int(plain[plain.attack == "pgd"].success.sum())) <= 2
    # a success costs a query more than an answer
    assert int(ascents.queries.max()) > int(plain[plain.attack == "pgd"].queries.max())

    run_of = recorded(tmp_path / "amp")
    assert run_of["arguments"]["amp"] is True
    assert run_of["settings"]["amp"] is True
    assert any("gradients in bfloat16" in line for line in run_of["protocol"])
    assert "amp" not in recorded(tmp_path / "plain")["arguments"]


@pytest.mark.parametrize("name", ["amp", "channels_last", "compile"])
def test_a_run_with_another_precision_is_another_run(
    name, digits_net, digits, tmp_path, monkeypatch
):
    monkeypatch.setattr(torch, "compile", lambda network: network)
    run(tmp_path, digits_net, digits, **{name: True})
    run(tmp_path, digits_net, digits, **{name: True})
    with pytest.raises(ValueError, match=f"{name}: true there, none here"):
        run(tmp_path, digits_net, digits)


def test_settings_that_no_attack_takes_are_told(digits_net, digits, tmp_path):
    notes = Notes()
    run(tmp_path, digits_net, digits, attacks=["rays"], amp=True, channels_last=True, watcher=notes)
    assert notes.lines == ["amp changes nothing: no attack of this run takes it (rays)"]


def test_values_are_checked(digits_net, digits, tmp_path):
    with pytest.raises(ValueError, match="amp must be True or False, got 'bf16'"):
        run(tmp_path, digits_net, digits, amp="bf16")
    with pytest.raises(ValueError, match=r"rays: compile needs an nn\.Module in Python code"):
        run(tmp_path, lambda rows: digits_net(rows), digits, attacks=["rays"], compile=True)


COMMAND = ["evaluate", "--model", "digits-cnn", "--untrained", "--data", "digits", "--n", "8"]


def test_on_the_command_line_and_in_a_file(tmp_path, monkeypatch):
    file = tmp_path / "run.toml"
    file.write_text('amp = true\nattacks = ["pgd"]\neps = [0.1]\n', encoding="utf-8")
    out = tmp_path / "out"
    done = CliRunner().invoke(
        app, [*COMMAND, "--config", str(file), "--channels-last", "--out", str(out)]
    )
    assert done.exit_code == 0, done.output
    assert recorded(out)["arguments"]["amp"]
    assert recorded(out)["arguments"]["channels_last"]
    monkeypatch.setattr(torch.amp, "is_autocast_available", lambda kind: False)
    refused = [*COMMAND, "--attack", "pgd", "--amp", "--out", str(tmp_path / "other")]
    done = CliRunner().invoke(app, refused)
    assert done.exit_code == 2
    assert "amp needs a device with bfloat16" in done.output
    assert not (tmp_path / "other").exists()
