"""Tables of HMCAM and CAT that are no runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from art_ext.core.attacks import fgsm, hmcam, i_fgsm, mi_fgsm, pgd
from art_ext.core.result import AttackResult

Numbers = Mapping[str, Mapping[str, float]]
EPS, STEP, STEPS = 0.5, 0.1, 6
BOX = (-10.0, 10.0)


def _scores(x: Tensor) -> Tensor:
    """Return two scores (R, 2). The second class always wins, and gradients change their signs."""
    wave = torch.sin(4 * x + torch.arange(x.shape[1])).sum(1)
    return torch.stack([wave, torch.full_like(wave, 40.0)], dim=1)


def _trajectory(x: Tensor, origin: Tensor, steps: int, size: float, decay: float) -> Tensor:
    """Return the end of steps of a Hamiltonian system with the potential energy -J.

    v_t = decay v_{t-1} + grad J / ||grad J||_1 and x_t = P(x_{t-1} + size sgn v_t) (8), P being the
    projection onto the ball.
    """
    velocity = torch.zeros_like(x)
    for _ in range(steps):
        leaf = x.clone().requires_grad_()
        # the cross-entropy of the second class, as the attacks differentiate it
        loss = torch.nn.functional.cross_entropy(
            _scores(leaf), torch.ones(len(x), dtype=torch.long), reduction="sum"
        )
        (gradient,) = torch.autograd.grad(loss, leaf)
        # the sign of the first velocity does not depend on the length of the gradient
        velocity = decay * velocity + gradient / gradient.abs().sum(1, keepdim=True)
        x = origin + (x + size * velocity.sign() - origin).clamp(-EPS, EPS)
    return x


def family() -> Numbers:
    """Measure which parts of a Hamiltonian chain each attack of Table 1 of HMCAM has.

    ``difference`` is the largest distance between the attack and the Hamiltonian system with these
    parts, from the same start. The other columns are 1 if the attack has the part: ``sampling`` if
    seeds differ, ``theta`` if it moves more than once, ``v`` if a step depends on earlier ones, and
    ``mh`` if it accepts or rejects.
    """
    x = torch.linspace(-1, 1, 24).reshape(3, 8)
    own: dict[str, Any] = {"eps": EPS, "clip_values": BOX, "on_failure": "last"}
    labels = torch.ones(3, dtype=torch.long)
    attacks: dict[str, Callable[[int, int], AttackResult]] = {
        "fgsm": lambda steps, seed: fgsm(_scores, x, labels, seed=seed, **own),
        "i_fgsm": lambda steps, seed: i_fgsm(
            _scores, x, labels, num_steps=steps, step_size=STEP, seed=seed, **own
        ),
        "pgd": lambda steps, seed: pgd(
            _scores, x, labels, num_steps=steps, step_size=STEP, seed=seed, **own
        ),
        "mi_fgsm": lambda steps, seed: mi_fgsm(
            _scores, x, labels, num_steps=steps, step_size=STEP, seed=seed, **own
        ),
        "hmcam": lambda steps, seed: hmcam(
            _scores, x, labels, num_steps=steps, num_transitions=3, seed=seed, **own
        ),
    }
    return {name: _parts(attack, x, name) for name, attack in attacks.items()}


def _parts(attack: Callable[[int, int], AttackResult], x: Tensor, name: str) -> dict[str, float]:
    """Return the columns of a row of Table 1 of HMCAM."""
    first, last, other = attack(1, 0), attack(STEPS, 0), attack(STEPS, 1)
    mh = "accepted" in (last.trace or {})
    found = {
        "sampling": float(not mh and not torch.equal(last.x_adv, other.x_adv)),
        "theta": float(not torch.equal(first.x_adv, last.x_adv)),
        "mh": float(mh),
    }
    if mh:
        return {**found, "sampling": 1.0, "v": 1.0}
    size = EPS if name == "fgsm" else STEP
    # of a random start the point after one step is known
    start = first.x_adv if found["sampling"] else x
    steps = 1 if not found["theta"] else STEPS - int(found["sampling"])
    ends = {
        decay: float((_trajectory(start, x, steps, size, decay) - last.x_adv).abs().max())
        for decay in (0.0, 1.0)
    }
    depends = ends[0.0] > ends[1.0] if steps > 1 else False
    return {**found, "v": float(depends), "difference": min(ends.values())}
