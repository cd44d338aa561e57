"""Warnings as data: each kind fires on what was made to show it, and nothing fires on what is
sound.
"""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from art_ext.core.attacks import pgd, rays
from art_ext.core.metrics import wilson
from art_ext.core.result import AttackResult
from art_ext.core.streams import fingerprint
from art_ext.data import Dataset, load_data
from art_ext.evaluation import evaluate
from art_ext.evaluation.analysis.findings import Finding, findings, to_json
from art_ext.evaluation.execution.chunks import probe
from art_ext.evaluation.panel.attack import Settings
from tests.toys import settings

N, EPS = 40, 0.1


def run_of(
    asks: Mapping[str, str], chosen: Settings | None = None, shape: Collection[int] = (1, 8, 8)
) -> dict[str, Any]:
    """The parts of a ``run.json`` that findings read, through JSON as they are on the disk."""
    run = {
        "settings": asdict(chosen or settings()),
        "data": {"shape": list(shape)},
        "attacks": {name: {"access": what} for name, what in asks.items()},
    }
    return json.loads(json.dumps(run))


def block(attack: str, broken: Collection[int], **columns: Any) -> pd.DataFrame:
    """The records of one attack on N samples with the ids 1000, 1001, ..."""
    index = np.arange(N)
    return pd.DataFrame(
        {
            "index": index,
            "id": index + 1000,
            "model": "net",
            "attack": attack,
            "eps": EPS,
            "attacked": True,
            "success": np.isin(index, list(broken)),
            "already_adversarial": False,
            "queries": 5,
            "gradients": 0,
            "label": index % 10,
            "clean_prediction": index % 10,
            **columns,
        }
    )


PANEL = {"pgd": "gradients", "rays": "labels", "nes": "scores"}


def doubts(
    *blocks: pd.DataFrame, asks: Mapping[str, str] = PANEL, facts: Any = None
) -> list[Finding]:
    return findings(pd.concat(blocks, ignore_index=True), run_of(asks), facts or {})


def warned(*blocks: pd.DataFrame) -> list[Finding]:
    return [found for found in doubts(*blocks) if found.level == "warning"]


class TestFalselyRobust:
    def test_names_the_samples_that_only_search_attacks_broke(self) -> None:
        (found,) = doubts(block("pgd", {5}), block("rays", {5, 9, 30}), block("nes", {9, 2}))
        assert (found.kind, found.model, found.attack, found.eps) == (
            "falsely-robust",
            "net",
            None,
            EPS,
        )
        assert found.indices == (2, 9, 30)
        assert found.ids == (1002, 1009, 1030)
        assert (found.count, found.samples, found.interval) == (3, N, wilson(3, N))
        assert (
            "at eps 0.1 attacks with gradients succeeded on 1 sample, and nes, rays on 3"
            in found.message
        )

    def test_names_the_attack_if_it_is_one(self) -> None:
        (found,) = doubts(block("pgd", ()), block("rays", {9}), block("nes", ()))
        assert found.attack == "rays"

    def test_a_pgd_that_misses_a_few_is_sound(self) -> None:
        assert not warned(block("pgd", range(11)), block("rays", range(14)))

    def test_as_many_are_grave_if_gradients_find_little_else(self) -> None:
        assert warned(block("pgd", range(2)), block("rays", range(5)))
        assert not warned(block("pgd", range(3)), block("rays", range(6)))

    def test_a_large_share_of_all_samples_is_grave_whatever_gradients_find(self) -> None:
        grave = [
            missed
            for missed in range(20)
            if warned(block("pgd", range(20)), block("rays", range(20 + missed)))
        ]
        assert grave == [missed for missed in range(20) if missed and wilson(missed, N)[0] > 0.05]
        assert 0 < len(grave) < 19

    def test_a_cascade_and_independent_attacks_say_the_same(self) -> None:
        broken = np.isin(np.arange(N), range(3))
        for more in (range(3, 8), range(3, 4)):
            independent = doubts(block("pgd", range(3)), block("rays", {0, *more}))
            cascade = doubts(block("pgd", range(3)), block("rays", more, attacked=~broken))
            assert independent == cascade
            assert [found.level for found in cascade] == ["warning" if len(more) == 5 else "info"]

    def test_samples_that_gradients_were_never_given_prove_nothing(self) -> None:
        first = np.isin(np.arange(N), range(8))
        assert not doubts(block("rays", range(8)), block("pgd", (), attacked=~first))

    def test_misclassified_samples_are_nobodys(self) -> None:
        wrong = np.isin(np.arange(N), range(8))
        assert not doubts(
            block("pgd", (), already_adversarial=wrong),
            block("rays", range(8), already_adversarial=wrong),
        )

    def test_a_gradient_success_in_a_smaller_ball_counts_in_a_larger_one(self) -> None:
        small, large = 0.05, EPS
        blocks = [
            block("pgd", range(6), eps=small),
            block("rays", {6}, eps=small),
            block("pgd", (), eps=large),
            block("rays", range(7), eps=large),
        ]
        assert [found.indices for found in doubts(*blocks)] == [(6,), (6,)], (
            "the other six are successes of gradients"
        )
        assert not warned(*blocks)

    def test_each_radius_and_model_is_judged_alone(self) -> None:
        blocks = [
            block("pgd", (), eps=0.05),
            block("rays", {1, 2}, eps=0.05),
            block("pgd", range(9)),
            block("rays", {1, 2}),
            block("pgd", {1, 2}, model="other"),
            block("rays", {1, 2}, model="other"),
        ]
        (found,) = warned(*blocks)
        assert (found.model, found.eps, found.indices) == ("net", 0.05, (1, 2))

    def test_a_panel_of_one_kind_compares_nothing(self) -> None:
        assert not doubts(block("rays", range(8)), asks={"rays": "labels"})
        assert not doubts(block("pgd", range(8)), asks={"pgd": "gradients"})

    @pytest.mark.parametrize(("gradients", "expected"), [(20, 1), (0, 0)])
    def test_an_external_attack_is_what_it_did(self, gradients: int, expected: int) -> None:
        external = block("art:Some", {1}, gradients=gradients)
        asks = {"art:Some": "unknown", "rays": "labels"}
        assert len(doubts(external, block("rays", range(1, 9)), asks=asks)) == expected


class TestMissedByGradients:
    def test_names_the_samples_of_a_sound_model(self) -> None:
        (found,) = doubts(block("pgd", range(9)), block("rays", {0, 11}), block("nes", {11, 12}))
        assert (found.kind, found.level, found.model, found.attack) == (
            "missed-by-gradients",
            "info",
            "net",
            None,
        )
        assert (found.eps, found.indices, found.ids) == (EPS, (11, 12), (1011, 1012))
        assert (found.count, found.samples, found.interval) == (2, N, wilson(2, N))
        assert (
            "at eps 0.1 nes, rays succeeded on 2 samples, and no attack with gradients did"
            in found.message
        )

    def test_one_sample_is_enough(self) -> None:
        (found,) = doubts(block("pgd", range(9)), block("rays", range(10)))
        assert (found.kind, found.attack, found.indices) == ("missed-by-gradients", "rays", (9,))
        assert "succeeded on 1 sample, and no" in found.message

    def test_any_attack_with_gradients_counts(self) -> None:
        asks = {**PANEL, "ead": "gradients"}
        assert not doubts(block("pgd", range(9)), block("ead", {9}), block("rays", {9}), asks=asks)

    def test_samples_that_no_gradients_were_given(self) -> None:
        given = ~np.isin(np.arange(N), [1, 2])
        assert not doubts(block("rays", {1, 2}), block("pgd", {5}, attacked=given))

    def test_each_radius_is_judged_alone(self) -> None:
        small, large = 0.05, EPS
        blocks = [
            block("pgd", range(9), eps=small),
            block("rays", {20}, eps=small),
            block("pgd", range(9), eps=large),
            block("rays", {20, 21}, eps=large),
        ]
        assert [(found.eps, found.indices) for found in doubts(*blocks)] == [
            (small, (20,)),
            (large, (20, 21)),
        ]

    @pytest.mark.parametrize(
        ("parts", "missed"),
        [
            ([["apgd-ce", [0, 1]], ["apgd-t", []], ["square", [7]]], (7,)),
            ([["apgd-ce", [0, 1]], ["square", []]], None),
            # it was broken before gradients were given it
            ([["square", [7]], ["apgd-ce", [0, 1]]], None),
            ([["apgd-ce", [0]], ["square", [7]], ["fab-t", [1]]], (7,)),
        ],
    )
    def test_parts_of_autoattack_are_attacks(
        self, parts: Any, missed: tuple[int, ...] | None
    ) -> None:
        broken = {index for _, positions in parts for index in positions}
        facts = {"net": [{"attack": "aa", "eps": EPS, "autoattack": [], "parts": parts}]}
        found = doubts(block("aa", broken, gradients=3), asks={"aa": "unknown"}, facts=facts)
        assert [one.indices for one in found] == ([] if missed is None else [missed])
        assert all((one.kind, one.attack) == ("missed-by-gradients", "aa:square") for one in found)

    def test_a_part_and_another_attack(self) -> None:
        facts = {
            "net": [
                {
                    "attack": "aa",
                    "eps": EPS,
                    "parts": [["apgd-ce", list(range(5))], ["square", [7, 8]]],
                }
            ]
        }
        blocks = [block("aa", {*range(5), 7, 8}, gradients=3), block("pgd", {8})]
        (found,) = doubts(*blocks, asks={"aa": "unknown", "pgd": "gradients"}, facts=facts)
        assert found.indices == (7,)


class Saturated(nn.Module):
    """A sound linear model behind a sigmoid that underflows: right answers, no gradient."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        logits = self.inner(x)
        return nn.functional.one_hot(logits.argmax(dim=1), 10).float() + 0 * logits


class Noisy(nn.Module):
    """Adds noise to the scores of those samples whose first pixel is bright."""

    def __init__(self, inner: nn.Module, scale: float) -> None:
        super().__init__()
        self.inner, self.scale = inner, scale
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.inner(x)
        bright = x.flatten(1)[:, :1] > 0.9
        return logits + self.scale * bright * torch.randn(logits.shape, generator=self.generator)


def probed(
    model: Any, x: Tensor, y: Tensor, gradients: bool = True, **changes: Any
) -> list[Finding]:
    """Findings of a model alone, its samples probed in chunks of 15 with only the first
    repeated.
    """
    chosen = settings(**changes)
    facts = [
        probe(
            model, part, y[start : start + 15], chosen, gradients, start=start, repeat=not start
        ).facts
        for start, part in ((start, x[start : start + 15]) for start in range(0, len(x), 15))
    ]
    records = block("rays", ()).assign(id=fingerprint(x).numpy())
    return findings(
        records,
        run_of({"rays": "labels"}, chosen, x.shape[1:]),
        {"net": json.loads(json.dumps(facts))},
    )


class TestProbe:
    def test_a_sound_model_is_clean(
        self, digits_net: nn.Module, digits: tuple[Tensor, Tensor]
    ) -> None:
        assert probed(digits_net, *digits) == []

    def test_gives_the_clean_pass(
        self, digits_net: nn.Module, digits: tuple[Tensor, Tensor]
    ) -> None:
        found = probe(digits_net, *digits, settings(), gradients=True)
        assert torch.equal(found.labels, digits_net(digits[0]).argmax(dim=1))
        assert found.classes == 10

    def test_labels_alone_tell_no_number_of_classes(
        self, digits_net: nn.Module, digits: tuple[Tensor, Tensor]
    ) -> None:
        x, y = digits
        found = probe(
            lambda rows: digits_net(rows).argmax(dim=1),
            x,
            y,
            settings(outputs="labels"),
            gradients=True,
        )
        assert torch.equal(found.labels, digits_net(x).argmax(dim=1))
        assert found.classes is None
        assert "zero_gradients" not in found.facts

    @pytest.mark.parametrize(
        ("gradients", "repeat", "rows"), [(False, False, 40), (False, True, 72), (True, True, 112)]
    )
    def test_costs_what_it_says(
        self,
        gradients: bool,
        repeat: bool,
        rows: int,
        digits_net: nn.Module,
        digits: tuple[Tensor, Tensor],
    ) -> None:
        seen: list[int] = []

        def counted(x: Tensor) -> Tensor:
            seen.append(len(x))
            return digits_net(x)

        probe(counted, *digits, settings(), gradients, repeat=repeat)
        assert sum(seen) == rows
        assert max(seen) <= 16

    def test_noise_names_the_samples_whose_answers_changed(
        self, linear_net: nn.Module, digits: tuple[Tensor, Tensor]
    ) -> None:
        x, y = digits[0].clone(), digits[1]
        x[:, 0, 0, 0] = 0
        x[[3, 7, 30], 0, 0, 0] = 1  # 30 lies outside of the batch that is repeated
        (found,) = probed(Noisy(linear_net, 1e-2).eval(), x, y)
        assert (found.kind, found.indices, found.count, found.samples) == (
            "randomised",
            (3, 7),
            2,
            15,
        )
        assert found.ids == tuple(fingerprint(x)[[3, 7]].tolist())
        assert found.interval == wilson(2, 15)
        assert probed(Noisy(linear_net, 1e-7).eval(), x, y) == []

    def test_random_labels_are_noise(self, digits: tuple[Tensor, Tensor]) -> None:
        generator = torch.Generator().manual_seed(0)
        guess = lambda rows: torch.randint(0, 10, (len(rows),), generator=generator)  # noqa: E731
        (found,) = probed(guess, *digits, outputs="labels")
        assert found.kind == "randomised"
        assert found.count > 5

    def test_probabilities_that_pass_for_logits(
        self, linear_net: nn.Module, digits: tuple[Tensor, Tensor]
    ) -> None:
        model = nn.Sequential(linear_net, nn.Softmax(dim=1)).eval()
        (found,) = probed(model, *digits)
        assert (found.kind, found.count, found.samples) == ("probabilities", N, N)
        assert probed(model, *digits, outputs="probabilities") == []

    def test_zero_gradients_name_the_correct_samples(
        self, linear_net: nn.Module, digits: tuple[Tensor, Tensor]
    ) -> None:
        x, y = digits
        right = (linear_net(x).argmax(dim=1) == y).nonzero().flatten()
        assert 0 < len(right) < N  # else the next line could not tell them apart
        by_kind = {found.kind: found for found in probed(Saturated(linear_net).eval(), x, y)}
        found = by_kind["zero-gradients"]
        assert found.indices == tuple(right.tolist())
        assert found.ids == tuple(fingerprint(x)[right].tolist())
        assert (found.count, found.samples, found.interval) == (
            len(right),
            len(right),
            wilson(len(right), len(right)),
        )
        assert "zero everywhere" in found.message

    @pytest.mark.parametrize("pixels", [1, 64])
    def test_gradients_that_are_not_finite(
        self, linear_net: nn.Module, digits: tuple[Tensor, Tensor], pixels: int
    ) -> None:
        class Rooted(nn.Module):
            """Adds 0, the gradient of which is NaN."""

            def forward(self, x: Tensor) -> Tensor:
                flat = x.flatten(1)[:, :pixels]
                return linear_net(x) + torch.sqrt(0 * flat.sum(dim=1, keepdim=True))

        x, y = digits
        right = (linear_net(x).argmax(dim=1) == y).nonzero().flatten()
        (found,) = probed(Rooted().eval(), x, y)
        assert found.kind == "gradients-not-finite"
        assert found.indices == tuple(right.tolist())
        assert (found.count, found.samples) == (len(right), len(right))

    def test_gradients_are_not_asked_for_in_vain(
        self, linear_net: nn.Module, digits: tuple[Tensor, Tensor]
    ) -> None:
        kinds = {
            found.kind for found in probed(Saturated(linear_net).eval(), *digits, gradients=False)
        }
        assert "zero-gradients" not in kinds

    def test_a_model_off_the_graph_says_so(
        self, linear_net: nn.Module, digits: tuple[Tensor, Tensor]
    ) -> None:
        def outside(x: Tensor) -> Tensor:
            return torch.from_numpy(linear_net(torch.from_numpy(x.numpy())).detach().numpy())

        (found,) = probed(outside, *digits)
        assert found.kind == "zero-gradients"
        assert "cannot be differentiated (" in found.message

    def test_infinite_scores_are_no_noise(
        self, linear_net: nn.Module, digits: tuple[Tensor, Tensor]
    ) -> None:
        assert probed(lambda x: linear_net(x) * math.inf, *digits, gradients=False) == []
        assert probed(lambda x: torch.full((len(x), 10), math.inf), *digits, gradients=False) == []

    def test_training_mode_is_seen_and_left(
        self, digits_net: nn.Module, digits: tuple[Tensor, Tensor]
    ) -> None:
        model = nn.Sequential(digits_net, nn.Dropout())
        model.train()
        digits_net.eval()
        (found,) = probed(model, *digits)
        assert found.kind == "training-mode"
        assert model.training
        assert not digits_net.training

    def test_data_of_another_scale(self, digits: tuple[Tensor, Tensor]) -> None:
        x, y = digits
        model = lambda rows: rows.flatten(1)[:, :10] * 255  # noqa: E731
        found = {
            f.kind: f
            for f in probed(model, x, y, gradients=False, clip_values=(0.0, 255.0), eps=(8.0,))
        }
        assert "[0, 1] of the box [0, 255]" in found["range"].message
        assert "eps-unit" not in found
        assert not probed(model, 255 * x, y, gradients=False, clip_values=(0.0, 255.0), eps=(8.0,))

    def test_constant_data(self, digits_net: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
        (found,) = probed(digits_net, torch.full_like(digits[0], 0.5), digits[1], gradients=False)
        assert found.kind == "range"
        assert "every value of the data is 0.5" in found.message

    def test_a_dark_chunk_is_no_range(
        self, digits_net: nn.Module, digits: tuple[Tensor, Tensor]
    ) -> None:
        x = digits[0].clone()
        x[:15] = 0
        assert probed(digits_net, x, digits[1], gradients=False) == []

    @pytest.mark.parametrize(
        ("model", "message"),
        [
            (
                lambda x: torch.full((len(x), 10), math.nan),
                r"NaN for the clean input, first in sample 0 \(counted",
            ),
            (
                lambda x: x,
                r"must return \(rows, classes\) logits.* got shape \(16, 1, 8, 8\).* \(counted from",
            ),
            (lambda x: x.flatten(1)[:, :3], "labels must be below 3, the model's width, got 9$"),
            (
                lambda x: x[:, 3],
                r"model fails on samples of shape \(1, 8, 8\): IndexError: index 3 is out of bounds",
            ),
            (nn.Linear(9, 10), r"the model fails on samples of shape \(1, 8, 8\): "),
        ],
    )
    def test_refuses_models_that_do_not_fit(
        self, model: Any, message: str, digits: tuple[Tensor, Tensor]
    ) -> None:
        with pytest.raises(ValueError, match=message):
            probe(model, *digits, settings(), gradients=True, start=7)


class TestEpsUnit:
    @pytest.mark.parametrize(
        ("norm", "shape", "clip_values", "meant", "odd"),
        [
            ("linf", (1, 28, 28), (0.0, 1.0), (1 / 255, 0.1, 0.3), (5e-4, 0.6)),
            ("linf", (3, 32, 32), (0.0, 255.0), (1.0, 8.0), (8 / 255,)),
            ("l2", (3, 32, 32), (0.0, 1.0), (36 / 255, 0.5, 1.5), (36.0, 128.0, 0.5 / 255)),
            ("l2", (3, 224, 224), (0.0, 1.0), (0.25, 3.0), (3.0 / 255, 765.0)),
            ("l1", (3, 32, 32), (0.0, 1.0), (2.0, 12.0), (12.0 / 255, 3060.0)),
        ],
    )
    def test_tells_usual_radii_from_those_of_another_scale(
        self,
        norm: str,
        shape: tuple[int, ...],
        clip_values: tuple[float, float],
        meant: tuple[float, ...],
        odd: tuple[float, ...],
    ) -> None:
        chosen = settings(norm=norm, clip_values=clip_values, eps=tuple(sorted(meant + odd)))
        found = findings(block("rays", ()), run_of({"rays": "labels"}, chosen, shape), {})
        assert {one.kind for one in found} == {"eps-unit"}
        assert {one.eps for one in found} == set(odd)


class TestData:
    def test_autoattacks_flags_appear_once(self) -> None:
        flag = {"name": "square-better", "detail": "Square lowers the accuracy by 0.01"}
        facts = {
            "net": [
                {"autoattack": [flag]},
                {"autoattack": [flag, {"name": "randomized", "detail": "twice"}]},
            ]
        }
        found = findings(block("autoattack", ()), run_of({"autoattack": "unknown"}), facts)
        assert [(one.kind, one.level, one.attack, one.message) for one in found] == [
            ("autoattack:randomized", "warning", "autoattack", "twice"),
            ("autoattack:square-better", "info", "autoattack", flag["detail"]),
        ]

    def test_survives_json(self) -> None:
        blocks = (block("pgd", ()), block("rays", {9}, id=np.arange(N) - (1 << 62)))
        found = [*doubts(*blocks), Finding("range", "", None, None, "constant", level="info")]
        assert [Finding.from_plain(plain) for plain in json.loads(to_json(found))] == found

    def test_findings_of_earlier_versions_are_warnings(self) -> None:
        plain = asdict(Finding("range", "", None, None, "constant"))
        del plain["level"]
        assert Finding.from_plain(plain).level == "warning"


# of the first 200 test images, those that any of PGD-20, RayS (1,500) and Square (1,500) broke at
# 0.3 in a run over all
BREAKABLE = {
    "mnist_conv2_lirpa_robust": (8, 92, 118, 175),
    "mnist_smallcnn_trades": (
        8,
        18,
        20,
        33,
        62,
        63,
        73,
        92,
        104,
        115,
        149,
        151,
        158,
        160,
        175,
        184,
        193,
        199,
    ),
}


def attacked(
    attack: str, result: AttackResult, index: tuple[int, ...], ids: Tensor
) -> pd.DataFrame:
    """The records of 200 images of which those at the index were attacked, and the others stood."""
    rows = pd.DataFrame(
        {
            "index": range(200),
            "id": ids.numpy(),
            "model": "net",
            "attack": attack,
            "eps": 0.3,
            "attacked": True,
            "success": False,
            "already_adversarial": False,
            "queries": 5,
            "gradients": 0,
            "label": np.arange(200) % 10,
            "clean_prediction": np.arange(200) % 10,
        }
    )
    for name in ("success", "gradients"):
        rows.loc[list(index), name] = getattr(result, name).numpy()
    return rows


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint", BREAKABLE)
def test_third_party_checkpoints(checkpoint: str, art_ext_data: Path) -> None:
    """RayS breaks three images that PGD misses on both networks, but on one of them PGD finds
    hardly any other.
    """
    spec = importlib.util.spec_from_file_location(
        "architectures", art_ext_data / "architectures.py"
    )
    assert spec is not None
    assert spec.loader is not None
    architectures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(architectures)
    model, data = architectures.load(checkpoint), load_data("mnist", root=art_ext_data).first(200)
    index = BREAKABLE[checkpoint]
    ids, part = fingerprint(data.x), data.take(index)
    white = pgd(model, part.x, part.y, eps=0.3, num_steps=20, seed=0)
    search = rays(model, part.x, part.y, eps=0.3, max_queries=1500)
    only = tuple(torch.tensor(index)[search.success & ~white.success].tolist())
    assert only  # else there would be nothing to judge
    facts = {"net": [probe(model, data.x, data.y, settings(eps=(0.3,)), gradients=True).facts]}
    run = run_of({"pgd": "unknown", "rays": "labels"}, settings(eps=(0.3,)), data.x.shape[1:])
    records = pd.concat(
        [attacked("pgd", white, index, ids), attacked("rays", search, index, ids)],
        ignore_index=True,
    )
    found = findings(records, run, facts)
    (doubt,) = found
    kind = "missed-by-gradients" if checkpoint == "mnist_smallcnn_trades" else "falsely-robust"
    assert (doubt.kind, doubt.indices, doubt.ids) == (kind, only, tuple(ids[list(only)].tolist()))
    assert doubt.interval == wilson(len(only), 200)
    if kind == "falsely-robust":
        assert set(only) >= {92, 118, 175}


@pytest.mark.usefixtures("no_plots")
class TestFewIterations:
    """Attacks in tanh space whose start lies at infinity, and that are too short to leave it."""

    def run(self, tmp_path: Path, x: torch.Tensor, attack: str, **arguments: Any) -> list[str]:
        weight = torch.randn(64, 10, generator=torch.Generator().manual_seed(0))

        def net(rows: torch.Tensor) -> torch.Tensor:
            return (rows.flatten(1).unsqueeze(2) * weight).sum(dim=1)

        data = Dataset("toy", x, net(x).argmax(dim=1))
        budget = arguments.pop("budget", 20)
        outcome = evaluate(
            {"net": net},
            data,
            tmp_path / "run",
            eps=1.0,
            norm="l2",
            attacks=(attack,),
            max_queries=budget,
            attack_args={attack: {"search_steps": 1, **arguments}},
        )
        found = [one for one in outcome.warnings if one.kind == "few-iterations"]
        assert all((one.model, one.attack, one.level) == ("", attack, "warning") for one in found)
        return [one.message for one in found]

    @pytest.mark.parametrize(
        ("attack", "arguments", "iterations"),
        [
            ("cw", {"num_steps": 399}, 399),
            ("cw", {"num_steps": 1000, "max_queries": 30}, 30),
            ("cw", {"num_steps": 400}, None),
            ("zoo", {"num_steps": 2, "use_tanh": True, "coordinates": 2}, 2),
            ("zoo", {"num_steps": 500, "use_tanh": True, "coordinates": 2}, 4),
            ("zoo", {"num_steps": 2, "coordinates": 2}, None),
            ("ead", {"num_steps": 2}, None),
        ],
    )
    def test_too_short_at_the_edge_of_the_box(
        self, tmp_path: Path, attack: str, arguments: dict[str, Any], iterations: int | None
    ) -> None:
        messages = self.run(tmp_path, load_data("digits").first(3).x, attack, **arguments)
        assert len(messages) == (iterations is not None)
        for message in messages:
            assert (
                f"and makes at most {iterations} iterations there: it needs several hundred"
                in message
            )
            assert "Give it num_steps >= 400" in message

    @pytest.mark.parametrize(("share", "warned"), [(0.009, False), (0.02, True)])
    def test_from_one_in_a_hundred_values_on(
        self, tmp_path: Path, share: float, warned: bool
    ) -> None:
        x = torch.full((16, 1, 8, 8), 0.5) + 0.3 * torch.rand(
            16, 1, 8, 8, generator=torch.Generator().manual_seed(0)
        )
        x.view(-1)[: int(share * x.numel())] = 0.0
        assert bool(self.run(tmp_path, x, "cw", num_steps=5)) == warned
