"""Results on the disk: every field of every attack comes back."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor, nn

from art_ext.core.attacks import ead, hmcam, i_fgm, pgd, rays
from art_ext.core.result import AttackResult
from tests.toys import inputs, waves

MAKE = {
    "rays": lambda model, x, y: rays(model, x, y, eps=None, max_queries=40),
    "pgd": lambda model, x, y: pgd(model, x, y, eps=0.1, num_steps=3),
    "hmcam": lambda model, x, y: hmcam(
        model, x, y, eps=0.1, num_steps=3, num_transitions=2, keep_samples=True, seed=(1 << 62) + 1
    ),
    "ead": lambda model, x, y: ead(model, x, y, num_steps=5, search_steps=2, eps=None),
    "i_fgm": lambda model, x, y: i_fgm(model, x, targets="best", num_steps=3),
    "nothing": lambda model, x, y: pgd(model, x[:0], y[:0], eps=0.1),
}


def same(left, right):
    assert type(left) is type(right)
    for name in (field.name for field in fields(left)):
        a, b = getattr(left, name), getattr(right, name)
        if isinstance(a, Tensor):
            assert a.dtype == b.dtype, name
            torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
        elif isinstance(a, dict):
            assert list(a) == list(b)
            torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
        else:
            assert a == b, name
            assert type(a) is type(b), name


@pytest.mark.parametrize("name", MAKE)
def test_every_field_comes_back(name, tmp_path):
    model = waves(12)
    result = MAKE[name](model, *inputs(model))
    result.save(tmp_path / "result.safetensors")
    same(AttackResult.load(tmp_path / "result.safetensors"), result)
    same(AttackResult.load(str(tmp_path / "result.safetensors")), result)
    assert [path.name for path in tmp_path.iterdir()] == ["result.safetensors"]


def test_an_infinite_radius_and_tied_tensors_come_back(tmp_path):
    model = waves(12)
    result = replace(pgd(model, *inputs(model), eps=0.1), eps=float("inf"), seed=None)
    tied = replace(result, x_nearest=result.x_adv)
    tied.save(tmp_path / "tied")
    same(AttackResult.load(tmp_path / "tied"), tied)


def test_the_result_of_autoattack_comes_back_with_its_flags(tmp_path):
    from art_ext.adapters.autoattack import AutoAttackResult, Flag

    model = waves(12)
    plain = pgd(model, *inputs(model), eps=0.1)
    own = {field.name: getattr(plain, field.name) for field in fields(plain)}
    flags = (Flag("dynamic", True, "it said so"), Flag("classes", False, ""))
    result = AutoAttackResult(
        **own, flags=flags, accuracies={"clean": 0.5}, broken_by=torch.tensor([0, -1])
    )
    result.save(tmp_path / "result")
    same(AutoAttackResult.load(tmp_path / "result"), result)
    same(AttackResult.load(tmp_path / "result"), plain)


def test_other_files_are_refused_by_name(tmp_path):
    from safetensors.torch import save_file

    with pytest.raises(FileNotFoundError, match=r"there is no file .*nowhere"):
        AttackResult.load(tmp_path / "nowhere")
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "pickle")
    save_file({"weight": torch.ones(2)}, tmp_path / "weights")
    (tmp_path / "text").write_text("{}")
    for name in ("pickle", "weights", "text"):
        with pytest.raises(
            ValueError, match=f"must name a file that AttackResult.save wrote, got .*{name}"
        ):
            AttackResult.load(tmp_path / name)
    content = json.dumps({"plain": {"norm": "linf"}, "named": {}})
    save_file({"success": torch.ones(2)}, tmp_path / "half", {"art_ext.AttackResult": content})
    with pytest.raises(
        ValueError, match=r"holds no already_adversarial, distance, .*, which AttackResult needs"
    ):
        AttackResult.load(tmp_path / "half")
