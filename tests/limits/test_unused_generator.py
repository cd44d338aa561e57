"""An evaluation with a generator that no attack uses."""

from __future__ import annotations

import torch
from torch import nn

from art_ext.evaluation import evaluate
from tests.toys import Sines

ATTACKS = {"pgd": {"num_steps": 1}, "in_distribution": {"num_steps": 1, "init_steps": 1}}


def test_a_generator_that_no_attack_uses_is_told(caplog, tmp_path):
    generator = Sines((1, 4, 4), 3)
    data = generator(torch.zeros(2, generator.latent_dim), torch.arange(2)), torch.arange(2)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    for names, told in (["pgd"], 1), (["pgd", "in_distribution"], 0):
        caplog.clear()
        arguments = {name: ATTACKS[name] for name in names}
        options = {"eps": 0.1, "norm": "l2", "attacks": names, "attack_args": arguments}
        evaluate({"net": model}, data, tmp_path / str(told), generator=generator, **options)
        lines = [one for one in caplog.messages if "uses the generator Sines" in one]
        assert len(lines) == told
