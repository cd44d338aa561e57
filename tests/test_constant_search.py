"""The search over c of EAD, C&W and ZOO against a slow reading of it, sample by sample,
iteration by iteration.
"""

from __future__ import annotations

import math

import pytest
import torch

from art_ext.core.attacks import cw, ead, zoo

SEARCHES = {"ead": ead, "cw": cw, "zoo": zoo}
every = pytest.mark.parametrize("name", SEARCHES)
ALWAYS = {
    "ead": {"num_steps": 3},
    "cw": {"num_steps": 3},
    "zoo": {"num_steps": 3, "coordinates": 4, "seed": 0},
}


def margin(scores, label, targeted):
    """Of one sample: how far beyond the boundary, from scores (K,)."""
    others = torch.cat([scores[:label], scores[label + 1 :]]).max()
    return scores[label] - others if targeted else others - scores[label]


# ---- the iterates of one optimisation, read from the papers for one sample


def fista(model, x0, label, targeted, kappa, c, settings):
    """Algorithm 4, with the threshold and momentum of the authors' program."""
    beta, steps = settings["beta"], settings["num_steps"]
    x = y = x0
    for k in range(steps):
        point = y.clone().requires_grad_(True)
        hinge = torch.clamp(kappa - margin(model(point[None])[0], label, targeted), min=0)
        (slope,) = torch.autograd.grad(c * hinge + ((point - x0) ** 2).sum(), point)
        z = y - settings["step_size"] * math.sqrt(1 - k / steps) * slope
        new = torch.where(z - x0 > beta, (z - beta).clamp(max=1.0), x0)
        new = torch.where(z - x0 < -beta, (z + beta).clamp(min=0.0), new)
        y = new + (k + 1) / (k + 4) * (new - x)
        x = new
        yield x


def adam(model, x0, label, targeted, kappa, c, settings):
    """C&W: Adam on w, the moments corrected as in the authors' framework."""
    w = torch.atanh((2 * x0 - 1) * 0.9999995)
    first, second = torch.zeros_like(w), torch.zeros_like(w)
    for t in range(1, settings["num_steps"] + 1):
        w = w.detach().requires_grad_(True)
        x = (torch.tanh(w) + 1) / 2
        yield x.detach()
        hinge = torch.clamp(kappa - margin(model(x[None])[0], label, targeted), min=0)
        (slope,) = torch.autograd.grad(c * hinge + ((x - x0) ** 2).sum(), w)
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
        rate = settings["step_size"] * math.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        w = w - rate * first / (second.sqrt() + 1e-8)


def read(model, x0, label, targeted, kappa, settings, abort, descend, beta):
    """One sample's whole attack: the c of each step, the best value after it, the nearest
    success, iterations made.
    """
    lower, upper, c = 0.0, 1e10, settings["initial_const"]
    constants, values, counts, best, nearest = [], [], [], math.inf, math.inf
    for step in range(settings["search_steps"]):
        if settings["search_steps"] >= 10 and step == settings["search_steps"] - 1:
            c = upper
        constants.append(c)
        hit, before = False, math.inf
        for k, x in enumerate(descend(model, x0, label, targeted, kappa, c, settings)):
            with torch.no_grad():
                scores = model(x[None])[0]
            reached = (int(scores.argmax()) == label) == targeted
            gap = float(margin(scores, label, targeted))
            length, square = float((x - x0).abs().sum()), float(((x - x0) ** 2).sum())
            if reached and gap >= kappa:
                hit, best = True, min(best, square + beta * length)
                nearest = min(nearest, length)
            if k % max(1, settings["num_steps"] // 10) == 0:
                loss = c * max(kappa - gap, 0) + square + beta * length
                if loss > 0.9999 * before and (abort == "always" or (abort and not hit)):
                    break
                before = loss
        counts.append(k + 1)
        values.append(best)
        if hit:
            upper = min(upper, c)
            c = (lower + upper) / 2
        else:
            lower = max(lower, c)
            c = (lower + upper) / 2 if upper < 1e9 else 10 * c
    return constants, values, nearest, counts


CASES = [
    ("ead", {"beta": 1e-2, "step_size": 1e-2}, fista, 0.0),
    ("ead", {"beta": 1e-3, "step_size": 5e-2}, fista, 1.0),
    ("cw", {"step_size": 3e-2}, adam, 0.0),
    ("cw", {"step_size": 1e-1}, adam, 1.0),
]


@pytest.mark.parametrize(("name", "own", "descend", "kappa"), CASES)
@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("abort", [False, True, "always"])
def test_a_slow_reading_finds_the_same(
    name, own, descend, kappa, targeted, abort, digits, linear_net
):
    right = (linear_net(digits[0]).argmax(1) == digits[1]).nonzero().squeeze(1)[:3]
    x, y = digits[0][right], digits[1][right]
    if targeted:
        y = (y + 2) % 10
    settings = {"num_steps": 25, "search_steps": 4, "initial_const": 0.05, **own}
    result = SEARCHES[name](
        linear_net,
        x,
        y,
        targeted=targeted,
        confidence=kappa,
        norm="l1",
        abort_early=abort,
        **settings,
    )
    aborted = 0
    for sample in range(3):
        constants, values, nearest, counts = read(
            linear_net,
            x[sample],
            int(y[sample]),
            targeted,
            kappa,
            settings,
            abort,
            descend,
            own.get("beta", 0.0),
        )
        torch.testing.assert_close(
            result.trace["const"][:, sample], torch.tensor(constants), rtol=1e-6, atol=0
        )
        torch.testing.assert_close(
            result.trace["value"][:, sample], torch.tensor(values), rtol=1e-3, atol=1e-5
        )
        assert bool(result.success[sample]) == math.isfinite(nearest)
        assert float(result.nearest_distance[sample]) == pytest.approx(nearest, rel=1e-3)
        asked = sum(2 * count - 1 for count in counts) if name == "ead" else sum(counts)
        assert int(result.queries[sample]) == 1 + asked
        assert int(result.gradients[sample]) == (
            1 + asked - sum(counts) if name == "ead" else sum(counts)
        )
        aborted += sum(count < 25 for count in counts)
    assert bool(result.success.any())
    assert (aborted > 0) == bool(abort)


# ---- the trace of c


def never(rows):
    """Class 0 wins by 20 at least, and falls with every coordinate."""
    return torch.stack([30 - rows.flatten(1).sum(1), rows.flatten(1).sum(1) * 0], dim=1)


def at_once(rows):
    """The input 0 alone is class 0; any step up the slope leaves it."""
    total = rows.flatten(1).sum(1)
    return torch.stack([1e-4 - total, total], dim=1)


@every
def test_c_grows_tenfold_while_nothing_succeeds(name):
    result = SEARCHES[name](
        never, torch.zeros(2, 4), torch.tensor([0, 0]), initial_const=1e-3, **ALWAYS[name]
    )
    expected = torch.tensor([1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3, 1e4, 1e5])
    torch.testing.assert_close(result.trace["const"], expected[:, None].expand(9, 2))
    assert bool(result.trace["value"].isinf().all())
    assert not bool(result.success.any())


@every
def test_c_is_halved_while_everything_succeeds(name):
    x, step = torch.zeros(2, 4), {"step_size": 0.5}
    if name == "cw":  # Adam needs more than an edge of the box, where tanh is flat
        x = torch.full((2, 4), 1e-5)
    result = SEARCHES[name](
        at_once, x, torch.tensor([0, 0]), initial_const=8.0, **{**ALWAYS[name], **step}
    )
    torch.testing.assert_close(
        result.trace["const"], (8.0 * 0.5 ** torch.arange(9.0))[:, None].expand(9, 2)
    )
    assert bool(result.success.all())


@every
@pytest.mark.parametrize("steps", [9, 10, 12])
def test_c_closes_in_on_the_smallest_that_succeeds(name, steps):
    """Each c is what those before tell, and of ten steps or more the last takes the smallest
    that succeeded again.
    """
    x, y = torch.full((1, 4), 0.5), torch.tensor([0])

    def model(rows):
        moved = (rows.flatten(1) - 0.5).sum(1)
        return torch.stack([0.8 - moved, moved], dim=1)

    # all coordinates in each iteration: no draw tells one optimisation from another
    options = {"num_steps": 30, "step_size": 0.05, "abort_early": False}
    options |= {"coordinates": 4, "seed": 0} if name == "zoo" else {}
    result = SEARCHES[name](model, x, y, search_steps=steps, initial_const=0.01, **options)
    lower, upper, c = 0.0, 1e10, 0.01
    for step, used in enumerate(result.trace["const"][:, 0].tolist()):
        if steps >= 10 and step == steps - 1:
            c = upper
        assert used == pytest.approx(c, rel=1e-6)
        # every optimisation begins at the input: by itself it ends alike
        if SEARCHES[name](model, x, y, search_steps=1, initial_const=c, **options).success.item():
            upper = min(upper, c)
        else:
            lower = max(lower, c)
        c = (lower + upper) / 2 if upper < 1e9 else 10 * c
    assert 0 < lower < upper < 1


def test_c_stops_growing_before_it_overflows():
    result = ead(never, torch.zeros(1, 4), torch.tensor([0]), search_steps=60, num_steps=2)
    constants = result.trace["const"][:, 0]
    assert float(constants.max()) <= 1e10 * (1 + 1e-6)
    assert constants[:14].tolist() == pytest.approx([10.0**power for power in range(-3, 11)])


@every
def test_the_best_value_never_rises_over_the_steps(name, digits, linear_net):
    options = {"coordinates": 8, "step_size": 0.1, "seed": 0} if name == "zoo" else {}
    result = SEARCHES[name](
        linear_net, *digits, num_steps=20, search_steps=5, initial_const=1.0, **options
    )
    live = ~result.already_adversarial
    value = result.trace["value"][:, live]
    assert bool((value[1:] <= value[:-1]).all())
    assert bool((value[-1] < value[0]).any())
    assert not bool(value.isnan().any())
    assert torch.equal(value[-1].isfinite(), result.success[live])


# ---- what an optimisation costs, and who ends it


@pytest.mark.parametrize(("steps", "iterations"), [(1, 1), (1, 7), (3, 1), (2, 5)])
def test_queries_of_whole_optimisations_have_a_closed_form(steps, iterations, digits, linear_net):
    x, y = digits
    common = {"search_steps": steps, "num_steps": iterations, "abort_early": False}
    clean = linear_net(x).argmax(1) != y
    for attack, more, asked, slopes in (
        (ead, {}, 1 + steps * (2 * iterations - 1), 1 + steps * (iterations - 1)),
        (cw, {}, 1 + steps * iterations, steps * iterations),
        (zoo, {"coordinates": 3, "seed": 0}, 1 + steps * (iterations + 6 * (iterations - 1)), 0),
    ):
        result = attack(linear_net, x, y, **common, **more)
        assert result.queries.tolist() == torch.where(clean, 1, asked).tolist()
        assert result.gradients.tolist() == torch.where(clean, 0, slopes).tolist()
        assert int(result.wasted_rows.sum()) == 0


class Rows:
    """Remembers which samples, told by their first coordinate, the model was asked about after
    every round.
    """

    def __init__(self, model):
        self.model, self.seen = model, []

    def __call__(self, rows):
        self.seen.append(rows.detach()[:, 0].tolist())
        return self.model(rows)


@every
def test_an_optimisation_is_given_up_per_sample(name):
    """Two samples of one loss each: flat for the second, which gives up while the first goes on
    and asks alone.
    """

    def model(rows):  # the first coordinate tells the samples apart, and is masked
        steep = torch.where(rows[:, 0] < 0.5, 1.0, 0.0)
        return torch.stack([9 - steep * rows[:, 1:].sum(1), 0 * rows[:, 1]], dim=1)

    x, y = torch.tensor([[0.1, 0.3, 0.3, 0.3], [0.9, 0.3, 0.3, 0.3]]), torch.tensor([0, 0])
    options = {"zoo": {"coordinates": 3, "seed": 0}, "ead": {"step_size": 0.003}}.get(name, {})
    options |= {
        "search_steps": 1,
        "num_steps": 50,
        "initial_const": 1.0,
        "mask": torch.tensor([0, 1, 1, 1]),
    }
    recorder = Rows(model)
    both = SEARCHES[name](recorder, x, y, **options)
    whole = {"ead": 1 + 2 * 50 - 1, "cw": 1 + 50, "zoo": 1 + 50 + 6 * 49}[name]
    # the window is 5 iterations: the loss at the sixth iterate is that at the first
    early = {"ead": 1 + 2 * 6 - 1, "cw": 1 + 6, "zoo": 1 + 6 + 6 * 5}[name]
    assert both.queries.tolist() == [whole, early]
    asked = [value for rows in recorder.seen for value in rows]
    assert sum(value < 0.5 for value in asked) == whole
    assert sum(value > 0.5 for value in asked) == early
    assert all(value < 0.5 for value in recorder.seen[-1])
    assert SEARCHES[name](model, x, y, abort_early=False, **options).queries.tolist() == [whole] * 2


@every
@pytest.mark.parametrize("abort", [True, False])
def test_neighbours_change_no_bit(name, abort, digits, linear_net):
    weight = linear_net[1].weight.detach()

    def model(rows):
        return (rows.flatten(1)[:, None] * weight).sum(-1)

    x, y = digits[0][:12], digits[1][:12]
    mask = torch.ones_like(x)
    mask[:3] = 0
    # a single pixel succeeds nowhere: where that ends early, the first to leave are in front
    mask[:3, :, 4, 4] = 1
    options = {"zoo": {"coordinates": 8, "step_size": 0.1, "seed": 0}}.get(
        name, {"step_size": 0.05}
    )
    options |= {"num_steps": 30, "search_steps": 4, "initial_const": 0.1, "abort_early": abort}
    together = SEARCHES[name](model, x, y, mask=mask, **options)
    if abort:
        first = together.queries[:3][~together.already_adversarial[:3]]
        assert int(first.min()) < int(together.queries.max()) / 2, (
            "all take the same time: the test says nothing"
        )
    for some in (torch.arange(1), torch.tensor([7]), torch.tensor([10, 3, 5])):
        alone = SEARCHES[name](model, x[some], y[some], mask=mask[some], **options)
        for part in (
            "x_adv",
            "x_nearest",
            "nearest_distance",
            "queries",
            "queries_to_success",
            "gradients",
        ):
            assert torch.equal(getattr(alone, part), getattr(together, part)[some]), part
        for key, values in alone.trace.items():
            assert torch.equal(
                values.nan_to_num(nan=-1.0), together.trace[key][:, some].nan_to_num(nan=-1.0)
            )


@every
def test_an_optimisation_that_has_met_the_goal_runs_to_its_end_unless_told_otherwise(name):
    """The goal is met within a few iterates, and the loss stands still long before the last."""
    x, y = torch.full((1, 4), 0.5), torch.tensor([0])

    def model(rows):
        total = rows.flatten(1).sum(1)
        return torch.stack([2.1 - total, total - 2], dim=1)

    options = {"coordinates": 4, "seed": 0} if name == "zoo" else {}
    options |= {"search_steps": 1, "num_steps": 40, "initial_const": 1.0, "step_size": 0.1}
    whole = {"ead": 1 + 2 * 40 - 1, "cw": 1 + 40, "zoo": 1 + 40 + 8 * 39}[name]
    counts = {}
    for abort in (True, False, "always"):
        result = SEARCHES[name](model, x, y, abort_early=abort, **options)
        assert bool(result.success.all())
        counts[abort] = int(result.queries)
    assert counts[True] == counts[False] == whole
    assert counts["always"] < whole
    for bad in ("never", 1, None):
        with pytest.raises(ValueError, match="abort_early must be True, False or 'always', got"):
            SEARCHES[name](model, x, y, abort_early=bad, **options)
