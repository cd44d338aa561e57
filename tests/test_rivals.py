"""The order in which Auto-PGD goes for the other classes, against the distances of a linear model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from art_ext.benchmarks.ranking import photographs
from art_ext.core.attacks import auto_pgd
from art_ext.core.attacks.auto_pgd import AutoPgd, SparseAutoPgd
from art_ext.core.attacks.engine.fixed_radius import FixedRadius
from art_ext.core.attacks.engine.planning import planning
from art_ext.core.attacks.engine.rivals import Rivals
from art_ext.core.detection import FeatureSqueezing
from art_ext.core.ensemble import Ensemble
from art_ext.data import load_data
from art_ext.evaluation.panel.targets import with_given_targets
from art_ext.models import digits_cnn
from tests.toys import Recorder, inputs, waves

CLASSES, FEATURES = 30, 12
NORMS = ("linf", "l2", "l1")
DUAL = {"linf": 1, "l2": 2, "l1": float("inf")}
SHORT = {"eps": 1e-4, "num_steps": 1, "stop_on_success": False, "seed": 0}


def many(classes: int = CLASSES):
    """A linear model of many classes, whose weights differ in length, its inputs and labels."""
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(FEATURES, classes, generator=generator)
    weight = weight * (0.2 + 3 * torch.rand(classes, generator=generator))
    x = 0.5 + 0.05 * torch.randn(20, FEATURES, generator=generator).clamp(-3, 3)

    def model(rows: Tensor) -> Tensor:
        return (rows - 0.5) @ weight

    return model, x, model(x).argmax(dim=1), weight


def distances(weight, x, y, norm, mask=None):
    """(N, K) the distance at which each class is as high as the label. Infinity for the label."""
    scores = (x.double() - 0.5) @ weight.double()
    slopes = weight.double().T[y][:, None] - weight.double().T[None]
    slopes = slopes if mask is None else slopes * mask
    lead = scores.gather(1, y[:, None]) - scores
    return (lead / slopes.norm(p=DUAL[norm], dim=2)).nan_to_num(nan=torch.inf)


def ranks(model, x, y, *, count, norm="linf", ranking="malt", candidates=100, **options):
    """(N, m) the rivals of an attack, and its result."""
    rivals = Rivals(count, "margin", ranking, candidates)
    keywords = {"eps": 1e-4, "stop_on_success": False, "seed": 0, **options}
    run = FixedRadius(model, x, y, norm=norm, loss="margin", **keywords)
    kind = SparseAutoPgd if norm == "l1" else AutoPgd
    result = run.run(kind(1, 1, rivals))
    return rivals.ranked, result


def by_score(model, x, y):
    scores = model(x).scatter(1, y[:, None], -torch.inf)
    return scores.argsort(dim=1, descending=True, stable=True)


class TestOrder:
    @pytest.mark.parametrize("norm", NORMS)
    def test_malt_is_the_order_of_the_distances_of_a_linear_model(self, norm):
        model, x, y, weight = many()
        found, _ = ranks(model, x, y, count=CLASSES, norm=norm)
        wanted = distances(weight, x, y, norm).argsort(dim=1)[:, :-1]
        assert torch.equal(found, wanted)
        scores = by_score(model, x, y)
        assert not torch.equal(found[:, 0], scores[:, 0]), "both orders agree, and nothing is shown"

    @pytest.mark.parametrize("norm", NORMS)
    def test_the_first_rival_is_enough_on_a_linear_model(self, norm):
        model, x, y, weight = many()
        nearest = distances(weight, x, y, norm).amin(dim=1)
        eps = float(nearest.median())
        far = (nearest - eps).abs() > 0.02 * eps
        shared = {"eps": eps, "norm": norm, "num_steps": 60, "num_targets": 1, "seed": 0}
        found = auto_pgd(model, x, y, **shared)
        assert torch.equal(found.success[far], (nearest < eps)[far])
        assert 0 < int(found.success.sum()) < len(x)

    def test_a_mask_shortens_the_slopes(self):
        model, x, y, weight = many()
        mask = torch.ones(FEATURES)
        mask[4:] = 0
        found, _ = ranks(model, x, y, count=9, mask=mask)
        wanted = distances(weight, x, y, "linf", mask).argsort(dim=1)
        assert torch.equal(found, wanted[:, :9])
        free, _ = ranks(model, x, y, count=9)
        assert not torch.equal(found, free)

    def test_the_others_follow_by_score(self):
        model, x, y, weight = many()
        found, _ = ranks(model, x, y, count=8, candidates=3)
        scores = by_score(model, x, y)
        assert torch.equal(found[:, 3:], scores[:, 3:8])
        assert torch.equal(found[:, :3].sort(dim=1).values, scores[:, :3].sort(dim=1).values)
        length = distances(weight, x, y, "linf").gather(1, found[:, :3])
        assert bool((length.diff(dim=1) >= 0).all())

    def test_probabilities_are_ranked_as_their_logarithms(self):
        model, x, y, _ = many()
        found, _ = ranks(
            lambda rows: model(rows).softmax(dim=1), x, y, count=9, outputs="probabilities"
        )
        assert torch.equal(found, ranks(model, x, y, count=9)[0])

    def test_flat_scores_keep_their_order(self):
        """A model of scores by bins, whose gradients are zero: all distances are infinite."""
        model, x, y, _ = many()
        flat = lambda rows: model(rows).round() + 0 * model(rows)  # noqa: E731
        y = flat(x).argmax(dim=1)
        found, result = ranks(flat, x, y, count=9)
        assert torch.equal(found, by_score(flat, x, y)[:, :9])
        assert not bool(result.success.any())

    @pytest.mark.parametrize("average", ["logits", "losses"])
    def test_an_ensemble_is_ranked_by_the_mean_of_its_members(self, average):
        model, x, y, weight = many()
        other = lambda rows: 2 * model(rows)  # noqa: E731
        found, _ = ranks(Ensemble([model, other], average=average), x, y, count=9)
        assert torch.equal(found, distances(weight, x, y, "linf").argsort(dim=1)[:, :9])


class TestDefault:
    @pytest.mark.parametrize(("classes", "ranking"), [(10, "score"), (11, "malt")])
    def test_malt_begins_at_eleven_classes(self, classes, ranking):
        model = waves(FEATURES, seed=5, classes=classes, frequency=6)
        x, y = inputs(model)
        shared = {"eps": 0.05, "num_steps": 3, "num_targets": 4, "stop_on_success": False}
        found, wanted = (
            auto_pgd(model, x, y, target_ranking=one, seed=0, on_failure="last", **shared)
            for one in (None, ranking)
        )
        assert torch.equal(found.x_adv, wanted.x_adv)
        assert torch.equal(found.queries, wanted.queries)
        assert torch.equal(found.gradients, wanted.gradients)
        ranked = classes - 1 if ranking == "malt" else 0
        assert found.gradients.unique().tolist() == [4 * 3 + ranked]

    def test_with_two_classes_nothing_is_ranked(self):
        model = waves(FEATURES, classes=2)
        x, y = inputs(model)
        found = auto_pgd(model, x, y, num_targets=3, target_ranking="malt", **SHORT)
        assert found.gradients.unique().tolist() == [1]


class TestLedger:
    @pytest.mark.parametrize("candidates", [1, 7, 100])
    def test_one_query_and_one_gradient_for_each_candidate(self, candidates):
        model, x, y, _ = many()
        y[:3] = (y[:3] + 1) % CLASSES  # wrong from the start: they leave at once
        spy = Recorder(model)
        shared = {"eps": 1e-4, "num_steps": 5, "num_targets": 2, "malt_candidates": candidates}
        result = auto_pgd(spy, x, y, stop_on_success=False, seed=0, **shared)
        wrong = result.already_adversarial
        assert int(wrong.sum()) == 3
        assert result.queries[~wrong].unique().tolist() == [1 + 1 + 2 * 6]
        assert result.gradients[~wrong].unique().tolist() == [2 * 5 + min(candidates, CLASSES - 1)]
        assert result.queries[wrong].unique().tolist() == [1]
        assert result.gradients[wrong].unique().tolist() == [0]
        assert sum(map(len, spy.rows)) == int(result.queries.sum())

    @pytest.mark.parametrize("budget", [1, 2, 3, 4, 9])
    def test_the_budget_cuts_the_path_and_changes_no_step_before(self, budget):
        model, x, y, _ = many()
        calls = []
        for most in (None, budget):
            spy = Recorder(model)
            shared = {"eps": 1e-4, "num_steps": 3, "num_targets": 2, "stop_on_success": False}
            result = auto_pgd(spy, x, y, max_queries=most, seed=0, **shared)
            calls.append(spy.rows)
        # a sample whose budget ends with the ranking is not ranked
        answers = 1 if budget == 2 else budget
        assert len(calls[1]) == answers
        assert all(torch.equal(*pair) for pair in zip(*calls, strict=False))
        assert result.queries.unique().tolist() == [answers]

    @pytest.mark.parametrize("classes", [CLASSES, None])
    def test_the_plan_is_the_ledger(self, classes):
        model, x, y, _ = many()
        shared = {"eps": 1e-4, "num_steps": 3, "num_targets": 2, "stop_on_success": False}
        with planning(classes) as found:
            auto_pgd(model, x[:0], y[:0], seed=0, **shared)
        result = auto_pgd(model, x, y, seed=0, **shared)
        assert found.rows is not None
        assert found.rows.forward == int(result.queries.max())
        ranked = CLASSES - 1 if classes else 100
        assert found.rows.backward == int(result.gradients.max()) - (CLASSES - 1) + ranked

    @pytest.mark.parametrize("budget", [2, 3, 5, 8])
    def test_a_plan_within_a_budget_holds(self, budget):
        model, x, y, _ = many()
        shared = {"eps": 1e-4, "num_steps": 3, "num_targets": 2, "max_queries": budget}
        with planning(CLASSES) as found:
            auto_pgd(model, x[:0], y[:0], seed=0, **shared)
        result = auto_pgd(model, x, y, seed=0, **shared)
        assert found.rows is not None
        assert int(result.queries.max()) <= found.rows.forward
        assert int(result.gradients.max()) <= found.rows.backward

    @pytest.mark.parametrize(("ranking", "needed"), [("score", 3), ("malt", 4)])
    def test_a_budget_too_small_for_it_is_told(self, ranking, needed, caplog):
        model, x, y, _ = many()
        shared = {"num_targets": 2, "target_ranking": ranking, **SHORT}
        auto_pgd(model, x, y, max_queries=needed, **shared)
        assert caplog.messages == []
        found = auto_pgd(model, x, y, max_queries=needed - 1, **shared)
        assert not found.success.any()
        (message,) = caplog.messages
        assert f"one iteration needs {needed} queries per sample" in message

    def test_batch_size_and_order_change_nothing(self):
        model, x, y, _ = many()
        shared = {"eps": 1e-3, "num_steps": 3, "num_targets": 3, "on_failure": "last", "seed": 0}
        whole = auto_pgd(model, x, y, **shared)
        order = torch.arange(len(x)).flip(0)
        for size in (1, 7):
            spy = Recorder(model)
            found = auto_pgd(spy, x[order], y[order], batch_size=size, **shared)
            assert torch.equal(found.x_adv[order], whole.x_adv)
            assert torch.equal(found.gradients[order], whole.gradients)
            assert max(map(len, spy.rows)) <= size


class TestElsewhere:
    def test_with_a_detector_the_ranking_is_one_answer(self):
        """Each answer is a row and its squeezed copies, for which no gradient is taken."""
        train = load_data("digits", split="train").first(100)
        model = digits_cnn().eval()
        detector = FeatureSqueezing(("bit_depth(3)",)).fit(model, train.x, train.y)
        detector.calibrate(train.x, 0.2)
        x = train.x[:6]
        shared = {"num_targets": 2, "detector": detector, "target_ranking": "malt"}
        result = auto_pgd(model, x, model(x).argmax(dim=1), **shared, **SHORT)
        attacked = ~result.already_adversarial
        assert bool(attacked.any())
        assert result.queries[attacked].unique().tolist() == [detector.rows * (2 + 2 * 2)]
        assert result.gradients[attacked].unique().tolist() == [2 + 9]

    def test_in_bfloat16_the_ranking_is_charged_alike(self):
        model, x, y, _ = many()
        network = nn.Linear(FEATURES, CLASSES, bias=False)
        network.weight.data = model(0.5 + torch.eye(FEATURES)).T.contiguous()
        y = network(x).argmax(dim=1)
        result = auto_pgd(network, x, y, amp=True, num_targets=2, **SHORT)
        assert result.queries.unique().tolist() == [2 + 2 * 2]
        assert result.gradients.unique().tolist() == [2 + CLASSES - 1]

    @pytest.mark.parametrize(("loss", "kept"), [("dlr", "dlr"), ("score", "margin")])
    def test_where_the_run_gives_the_targets_nothing_is_ranked(self, loss, kept):
        given = {"num_targets": 9, "target_ranking": "malt", "malt_candidates": 5, "loss": loss}
        given["survey_steps"] = 3
        assert with_given_targets(given) == {"loss": kept}


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"target_ranking": "mal"}, r"target_ranking must be one of .*did you mean 'malt'"),
            ({"malt_candidates": 0}, "malt_candidates must be an integer >= 1, got 0"),
            ({"num_targets": 0, "target_ranking": "malt"}, "'malt' needs num_targets"),
            ({"num_targets": 0, "malt_candidates": 7}, "malt_candidates=7 needs num_targets"),
        ],
    )
    def test_arguments_that_make_no_sense(self, options, message):
        model, x, y, _ = many()
        with pytest.raises(ValueError, match=message):
            auto_pgd(model, x, y, **{**SHORT, "num_targets": 2, **options})

    def test_a_model_without_gradients(self):
        model, x, y, _ = many()
        with pytest.raises(ValueError, match=r"does not depend on the input .* use a black-box"):
            auto_pgd(lambda rows: model(rows.detach()), x, y, num_targets=2, **SHORT)


@pytest.mark.slow
def test_a_thousand_classes(art_ext_data: Path) -> None:
    """SqueezeNet on 20 photographs: one query and 100 gradients each, and all of them fall."""
    model, x, y = photographs(art_ext_data)
    shared: dict[str, Any] = {"eps": 1 / 255, "num_targets": 9, "num_steps": 10, "seed": 0}
    result = auto_pgd(model, x, y, batch_size=8, **shared)
    attacked = ~result.already_adversarial
    assert int(attacked.sum()) > 10
    assert bool(result.success.all())
    ranked = result.gradients - 100
    assert int(ranked[attacked].min()) >= 0
    # one query each for the clean check, the ranking and the start of a phase
    assert bool((ranked <= result.queries - 3)[attacked].all())
    assert int(result.gradients[~attacked].sum()) == 0
