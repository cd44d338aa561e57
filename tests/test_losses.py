"""Losses that attacks ascend, against their definitions in float64."""

from __future__ import annotations

import pytest
import torch

from art_ext.core.attacks import auto_pgd, pgd
from art_ext.core.losses import LOSSES, RIVAL_LOSSES, make_gain
from tests.toys import Recorder, inputs, linear, waves

WAVES = waves(12, seed=5, classes=5, frequency=6)


def rows(classes, scale=3.0, count=50):
    generator = torch.Generator().manual_seed(classes)
    logits = scale * torch.randn(count, classes, generator=generator)
    labels = torch.randint(classes, (count,), generator=generator)
    rivals = (labels + 1) % classes
    return logits, labels, rivals


def slope(function, logits, *classes):
    logits = logits.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(function(logits, *classes).sum(), logits)
    return gradient


def of(values, classes):
    return values.gather(1, classes[:, None]).squeeze(1)


def best_other(values, labels):
    return values.scatter(1, labels[:, None], -torch.inf).amax(dim=1)


def probability_margin(logits, labels, rivals=None):
    p = logits.softmax(dim=1)
    return (best_other(p, labels) if rivals is None else of(p, rivals)) - of(p, labels)


def ratio(logits, labels):
    z = logits.sort(dim=1, descending=True).values
    return (best_other(logits, labels) - of(logits, labels)) / (z[:, 0] - z[:, 2])


def ratio_of(logits, labels, rivals):
    z = logits.sort(dim=1, descending=True).values
    lead = of(logits, rivals) - of(logits, labels)
    return lead / (z[:, 0] - (z[:, 2] + z[:, 3]) / 2)


class TestDefinitions:
    @pytest.mark.parametrize("classes", [2, 3, 10, 1000])
    def test_probability_margin_is_one_plus_the_difference(self, classes):
        logits, labels, rivals = rows(classes)
        exact = logits.double()
        for function, chosen in (
            (LOSSES["probability_margin"], (labels,)),
            (RIVAL_LOSSES["probability_margin"], (labels, rivals)),
        ):
            wanted = 1 + probability_margin(exact, *chosen)
            torch.testing.assert_close(function(exact, *chosen), wanted)
            assert float((function(logits, *chosen) - wanted).abs().max()) < 1e-6

    @pytest.mark.parametrize("sign", [1.0, -1.0])
    def test_probability_margin_has_a_slope_where_the_model_is_sure(self, sign):
        """The plain difference rounds to -1 or 1 from a margin of 17 on."""
        for lead in (5.0, 20.0, 25.0):
            logits = torch.tensor([[sign * lead, 0.0, -1.0], [sign * (lead - 0.1), 0.0, -1.0]])
            labels = torch.zeros(2, dtype=torch.int64)
            loss = LOSSES["probability_margin"](logits, labels)
            if sign > 0:
                assert float(loss[1]) > float(loss[0]) > 0
            found = slope(LOSSES["probability_margin"], logits, labels).double()
            wanted = slope(probability_margin, logits.double(), labels)
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-7 if sign < 0 else 0.0)

    @pytest.mark.parametrize("classes", [4, 10])
    def test_difference_of_logits_ratio(self, classes):
        logits, labels, rivals = rows(classes)
        torch.testing.assert_close(LOSSES["dlr"](logits, labels), ratio(logits, labels))
        torch.testing.assert_close(
            RIVAL_LOSSES["dlr"](logits, labels, rivals), ratio_of(logits, labels, rivals)
        )
        torch.testing.assert_close(
            LOSSES["dlr"](7 * logits - 3, labels), LOSSES["dlr"](logits, labels)
        )

    @pytest.mark.parametrize("classes", [2, 3])
    def test_with_few_classes_it_is_the_margin(self, classes):
        logits, labels, rivals = rows(classes)
        assert torch.equal(LOSSES["dlr"](logits, labels), LOSSES["margin"](logits, labels))
        found = (RIVAL_LOSSES[name](logits, labels, rivals) for name in ("dlr", "margin"))
        assert torch.equal(*found)

    def test_equal_scores_have_a_finite_ratio_and_slope(self):
        logits = torch.zeros(3, 6)
        labels = torch.arange(3)
        assert bool(LOSSES["dlr"](logits, labels).eq(0).all())
        assert bool(slope(LOSSES["dlr"], logits, labels).isfinite().all())
        assert bool(slope(RIVAL_LOSSES["dlr"], logits, labels, labels + 1).isfinite().all())

    @pytest.mark.parametrize("name", sorted(LOSSES))
    def test_a_targets_is_ascended_with_the_other_sign(self, name):
        logits, labels, _ = rows(6)
        index = torch.arange(len(labels)).flip(0)
        away, near = (
            make_gain(name, labels, targeted=targeted, outputs="logits")(logits, index)
            for targeted in (False, True)
        )
        assert torch.equal(near, -away)
        assert torch.equal(away, LOSSES[name](logits, labels[index]))

    @pytest.mark.parametrize("name", sorted({*LOSSES} - {"ce"}))
    def test_a_loss_rises_above_its_threshold_where_another_class_is_predicted(self, name):
        logits, labels, _ = rows(6)
        threshold = 1.0 if name == "probability_margin" else 0.0
        wrong = logits.argmax(dim=1) != labels
        assert torch.equal(LOSSES[name](logits, labels) > threshold, wrong)


class TestInAttacks:
    @pytest.mark.parametrize("name", ["probability_margin", "dlr"])
    @pytest.mark.parametrize("attack", [auto_pgd, pgd])
    @pytest.mark.parametrize("targeted", [False, True])
    def test_as_the_same_loss_by_hand(self, attack, name, targeted):
        x, y = inputs(WAVES)
        goal = (y + 1) % 5 if targeted else y
        sign = -1.0 if targeted else 1.0

        def by_hand(outputs, index):
            return sign * LOSSES[name](outputs, goal[index])

        one, other = (
            attack(
                WAVES,
                x,
                goal,
                eps=0.1,
                num_steps=6,
                loss=loss,
                targeted=targeted,
                on_failure="last",
                seed=0,
            )
            for loss in (name, by_hand)
        )
        assert torch.equal(one.x_adv, other.x_adv)
        assert torch.equal(one.queries, other.queries)
        assert int(one.success.sum()) > 0

    @pytest.mark.parametrize("name", ["probability_margin", "dlr"])
    def test_probabilities_are_read_as_their_logarithms(self, name):
        x, y = inputs(WAVES)
        shared = {"eps": 0.1, "num_steps": 6, "loss": name, "on_failure": "last", "seed": 0}
        one = pgd(lambda z: WAVES(z).softmax(1), x, y, outputs="probabilities", **shared)
        other = pgd(lambda z: WAVES(z).log_softmax(1), x, y, **shared)
        torch.testing.assert_close(one.x_adv, other.x_adv)

    @pytest.mark.parametrize("name", sorted(RIVAL_LOSSES))
    def test_a_phase_ascends_the_loss_of_its_rival(self, name):
        x, y = inputs(WAVES)
        spy = Recorder(WAVES)
        auto_pgd(
            spy, x, y, eps=0.1, num_steps=1, num_targets=2, loss=name, stop_on_success=False, seed=0
        )
        ranks = WAVES(x).scatter(1, y[:, None], -torch.inf).argsort(dim=1, descending=True)
        for phase in range(2):
            start, after = spy.rows[1 + 2 * phase : 3 + 2 * phase]
            gradient = slope(lambda z, p=phase: RIVAL_LOSSES[name](WAVES(z), y, ranks[:, p]), start)
            wanted = (start + 0.2 * gradient.sign()).clamp(x - 0.1, x + 0.1).clamp(0, 1)
            torch.testing.assert_close(after, wanted, rtol=0, atol=1e-6)

    def test_a_confident_linear_model_falls_where_the_closed_form_says(self):
        """Margins up to 80: the probability of the label is 1 in float32 from 17 on."""
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn(12, generator=generator)
        x = 0.5 + 0.02 * torch.randn(40, 12, generator=generator).clamp(-3, 3)
        model = linear(500 * weight)
        y = model(x).argmax(dim=1)
        found = auto_pgd(model, x, y, eps=0.006, num_steps=40, loss="probability_margin", seed=0)
        margin = ((x - 0.5) @ weight).abs()
        assert float(500 * margin.max()) > 40
        assert torch.equal(found.success, margin < 0.006 * weight.abs().sum())
