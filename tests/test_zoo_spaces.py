"""The spaces in which ZOO moves: when they grow, which coordinates are drawn, when Adam begins
anew.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from art_ext.configuration.parsing import parse_attack_arguments
from art_ext.core.attacks import zoo
from art_ext.core.attacks._zoo_descent import Descent
from art_ext.core.attacks._zoo_spaces import Schedule
from art_ext.core.attacks.engine.attack_space import ScaledImage
from art_ext.core.attacks.engine.minimum_norm import MinimumNorm
from art_ext.core.oracle import ScoreOracle
from art_ext.evaluation.panel.attack import Settings
from art_ext.evaluation.panel.members import find_attack

WIDE = (-4.0, 4.0)  # a box that no attack of these tests reaches
QUIET = {"abort_early": False, "seed": 0}


def flat(rows):
    """A model that is sure of class 0, whatever it sees."""
    return torch.tensor([5.0, 0.0, 0.0]).expand(len(rows), 3)


def tilted(rows):
    """Two classes, and a boundary plane near the middle of [0, 1]^64."""
    rows = rows.flatten(1).double()
    ahead = (rows * torch.linspace(-1, 2, rows.shape[1])).sum(1) - rows.shape[1] / 4
    return torch.stack([ahead, -ahead], dim=1)


def images(count=4, side=8, seed=1):
    return torch.rand(count, 1, side, side, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def calls():
    """A flat model, and the number of rows of every call of it."""
    sizes = []

    def model(rows):
        sizes.append(len(rows))
        return flat(rows)

    return model, sizes


@pytest.fixture
def rounds(monkeypatch):
    """What the descent of the next run looked like before and after every iteration."""
    seen, advance = [], Descent.advance

    def spy(path, search, going, hinge, stuck):
        at = path.state
        share = None if at.share is None else at.share.clone()
        before = {"count": at.count.clone(), "level": at.level.clone(), "share": share}
        advance(path, search, going, hinge, stuck)
        if not len(hinge):
            return
        state = {
            name: getattr(path.state, name).clone()
            for name in ("first", "second", "count", "level", "images")
        }
        seen.append(
            {
                "before": before,
                "hinge": hinge,
                "going": going,
                "iteration": search.at.iteration.clone(),
                **state,
            }
        )

    monkeypatch.setattr(Descent, "advance", spy)
    return seen


def descend(x, resize=None, mask=None, importance=True, coordinates=2):
    """The state of an attack at its beginning, for samples that have class 0."""
    run = MinimumNorm(
        flat,
        x,
        None,
        eps=None,
        norm="l2",
        confidence=0.0,
        oracle=ScoreOracle,
        sample_ids=torch.arange(len(x)),
        seed=0,
        mask=mask,
        clip_values=WIDE,
    )
    return Descent(
        run,
        Schedule.of(resize, x.shape[1:]),
        solver="adam",
        step_size=0.01,
        coordinates=coordinates,
        h=0.1,
        use_tanh=False,
        importance=importance,
        reset_adam=True,
    )


class TestSchedule:
    def test_named_iterations_enlarge_the_space(self, calls):
        """Sides 2, 4 and 8: with all coordinates probed, calls of 8, 32 and 128 rows."""
        model, sizes = calls
        zoo(model, images(1), resize={0: 2, 3: 4, 5: 8}, num_steps=8, search_steps=2, **QUIET)
        one = [1, 8, 1, 8, 1, 8, 1, 32, 1, 32, 1, 128, 1, 128, 1]
        assert sizes == [1, *one, *one]

    @pytest.mark.parametrize("importance", [False, True])
    @pytest.mark.parametrize("abort_early", [False, True, "always"])
    def test_a_loss_that_stands_still_enlarges_the_space(self, calls, importance, abort_early):
        """At iterations 4 and 8; at the 12th there is nothing larger, and the optimisation is
        given up.
        """
        model, sizes = calls
        zoo(
            model,
            images(1),
            resize=(2, 4, 8),
            num_steps=16,
            search_steps=1,
            abort_window=4,
            importance=importance,
            abort_early=abort_early,
            seed=0,
        )
        looks = 13 if abort_early else 16
        probes = [8] * 5 + [32] * 4 + [128] * (looks - 10)
        assert sizes == [1, *(size for number in probes for size in (1, number)), 1]

    def test_a_loss_that_falls_keeps_its_space(self, rounds):
        """The same schedule as above, on a model that has a slope."""
        zoo(
            tilted,
            images(2),
            resize=(2, 4),
            num_steps=12,
            search_steps=1,
            abort_window=2,
            initial_const=100.0,
            step_size=0.002,
            **QUIET,
        )
        assert len(rounds) == 11
        assert not any(state["level"].any() for state in rounds)

    def test_growth_keeps_the_image_and_forgets_adam(self, rounds):
        """The enlarged noise stands for the very change that the small image, scaled up, made;
        counts are zero.
        """
        x, small = images(2), ScaledImage((1, 8, 8), 4, torch.device("cpu"))
        zoo(
            tilted,
            x,
            resize={0: 4, 3: 8},
            num_steps=6,
            search_steps=1,
            initial_const=1.0,
            coordinates=4,
            clip_values=WIDE,
            **QUIET,
        )
        before, grown, after = rounds[1:4]
        assert [state["level"].tolist() for state in (before, grown, after)] == [
            [0, 0],
            [1, 1],
            [1, 1],
        ]
        assert not any(grown[name].any() for name in ("first", "second", "count"))
        assert before["count"].sum(1).tolist() == [8, 8]
        assert after["count"].sum(1).tolist() == [4, 4]
        scaled = small.scale_up(torch.eye(16)).T  # (64, 16): what small images can do

        def rest(images):
            """How far changes of these images are from those that small images can make."""
            moved = (images - x.flatten(1)).T
            return (moved - scaled @ torch.linalg.lstsq(scaled, moved).solution).abs().amax(0)

        assert bool((rest(grown["images"]) < 1e-5).all())
        assert bool((rest(after["images"]) > 1e-3).all())

    @pytest.mark.parametrize("reset_adam", [True, False])
    def test_adam_begins_anew_at_the_first_success(self, rounds, reset_adam):
        """And at no later one: right after it only the B coordinates of that iteration have a
        count.
        """
        zoo(
            tilted,
            images(4),
            num_steps=60,
            search_steps=1,
            initial_const=5.0,
            coordinates=3,
            step_size=0.5,
            reset_adam=reset_adam,
            **QUIET,
        )
        reached = torch.zeros(4, dtype=torch.bool)
        firsts = later = 0
        for state in (state for state in rounds if bool(state["going"].all())):
            hit, total = state["hinge"] == 0, state["count"].sum(1)
            grown = state["before"]["count"].sum(1) + 3
            new = hit & ~reached & reset_adam
            assert torch.equal(total, torch.where(new, 3.0, grown))
            firsts, later = firsts + int((hit & ~reached).sum()), later + int((hit & reached).sum())
            reached |= hit
        assert firsts == 4
        assert later > 4

    def test_every_search_begins_anew(self, rounds):
        """Count, space and shares, which the growth of the search before has made uneven."""
        zoo(
            tilted,
            images(1),
            num_steps=4,
            search_steps=2,
            resize={0: 2, 2: 4},
            importance=True,
            coordinates=1,
            **QUIET,
        )
        assert [bool(state["going"]) for state in rounds] == [
            True,
            True,
            True,
            False,
            True,
            True,
            True,
        ]
        assert [int(state["before"]["level"]) for state in rounds] == [0, 0, 1, 0, 0, 0, 1]
        assert len(rounds[2]["before"]["share"].unique()) > 1
        assert len(rounds[4]["before"]["share"].unique()) == 1
        assert not rounds[4]["before"]["count"].any()

    @pytest.mark.parametrize(
        ("resize", "message"),
        [
            (0, "resize must be an integer >= 1, got 0"),
            (True, "resize must be an integer >= 1, got True"),
            (2.5, "resize must be an integer >= 1, got 2.5"),
            ("4", "resize must be an integer >= 1, got '4'"),
            ([2, "a"], "resize must be an integer >= 1, got 'a'"),
            ([], r"at least one side, got \[\]"),
            ({}, "ascending iterations from 0 on to sides, got {}"),
            ({1: 2}, "ascending iterations from 0 on to sides, got {1: 2}"),
            ({0: 2, 9: 3, 5: 4}, "ascending iterations from 0 on to sides"),
            ({0: 2, "a": 4}, "resize must .*'a'"),
            ({0: 2, 1.5: 4}, "resize must be an integer >= 0, got 1.5"),
            ([4, 2], r"ascending sides of at most the image's 5, got \[4, 2\]"),
            ([4, 4], "ascending sides"),
            ((2, 6), r"ascending sides of at most the image's 5, got \(2, 6\)"),
        ],
        ids=str,
    )
    def test_sizes_that_make_no_sense_are_refused(self, resize, message):
        with pytest.raises(ValueError, match=message):
            zoo(flat, torch.zeros(1, 1, 7, 5), resize=resize)

    def test_tables_have_no_size(self):
        with pytest.raises(
            ValueError, match=r"resize needs images \(channels, height, width\), .* shape \(12,\)"
        ):
            zoo(flat, torch.zeros(1, 12), resize=2)

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("solver", "sgd"),
            ("coordinates", 0),
            ("h", 0.0),
            ("step_size", -1.0),
            ("importance", 0),
            ("importance", "a"),
            ("abort_window", 0),
            ("abort_early", "never"),
        ],
    )
    def test_settings_that_make_no_sense_are_refused(self, option, value):
        with pytest.raises(ValueError, match=f"{option} must be .* got {value!r}"):
            zoo(flat, torch.zeros(1, 12), **{option: value})


class TestDraws:
    """Coordinates drawn at one iteration for many samples, each from a stream of its own."""

    COUNT = 8000

    def draws(self, share, coordinates, **options):
        """(COUNT, B) coordinates, and which of them may change, with these shares."""
        x = torch.zeros(self.COUNT, 1, 2, 3)
        path = descend(x, coordinates=coordinates, **options)
        if share is not None:
            path.state.share = torch.tensor(share).expand(self.COUNT, -1)
        return path.probes.draw(path.state, torch.arange(self.COUNT), 0, x[0].numel())

    def check_frequencies(self, drawn, wanted):
        """Five standard deviations either way."""
        found = torch.stack(
            [(drawn == place).any(1).double().mean() for place in range(len(wanted))]
        )
        wanted = torch.tensor(wanted, dtype=torch.float64)
        assert bool(
            (
                (found - wanted).abs() <= 5 * (wanted * (1 - wanted) / self.COUNT).sqrt() + 1e-12
            ).all()
        ), found

    @pytest.mark.parametrize("importance", [False, True])
    def test_without_shares_all_are_alike(self, importance):
        drawn, allowed = self.draws(None, 2, importance=importance)
        assert bool(allowed.all())
        assert bool((drawn[:, 0] != drawn[:, 1]).all())
        self.check_frequencies(drawn, [1 / 3] * 6)

    def test_one_draw_follows_the_shares(self):
        share = [0.5, 0.25, 0.125, 0.125, 0.0, 0.0]
        drawn, _ = self.draws(share, 1)
        self.check_frequencies(drawn, [0.99 * one + 0.01 / 6 for one in share])

    def test_shares_need_not_sum_to_one(self):
        drawn, _ = self.draws([4.0, 2.0, 1.0, 1.0, 0.0, 0.0], 1)
        self.check_frequencies(drawn, [0.99 * one / 8 + 0.01 / 6 for one in (4, 2, 1, 1, 0, 0)])

    def test_two_draws_are_without_replacement_and_in_proportion(self):
        """The second in proportion to what the first has left."""
        share = [0.6, 0.2, 0.1, 0.1, 0.0, 0.0]
        drawn, _ = self.draws(share, 2)
        assert bool((drawn[:, 0] != drawn[:, 1]).all())
        p = [0.99 * one + 0.01 / 6 for one in share]
        second = [sum(p[j] * p[i] / (1 - p[j]) for j in range(6) if j != i) for i in range(6)]
        self.check_frequencies(drawn, [a + b for a, b in zip(p, second, strict=True)])

    def test_the_floor_makes_every_draw_possible(self):
        """One coordinate has all the weight, four are asked for."""
        drawn, allowed = self.draws([0.0, 0.0, 1.0, 0.0, 0.0, 0.0], 4)
        assert bool(allowed.all())
        assert bool((drawn.sort(dim=1).values.diff(dim=1) > 0).all())
        self.check_frequencies(
            drawn[(drawn == 2).any(1)][: self.COUNT], [0.6, 0.6, 1.0, 0.6, 0.6, 0.6]
        )

    def test_masked_coordinates_have_probability_zero(self):
        mask = torch.tensor([[1, 0, 1], [1, 0, 0]])
        drawn, allowed = self.draws([0.1, 0.7, 0.1, 0.1, 0.0, 0.0], 4, mask=mask)
        assert allowed.sum(1).unique().tolist() == [3]
        assert drawn[allowed].unique().tolist() == [0, 2, 3]

    @pytest.mark.parametrize(
        ("importance", "sides"),
        [
            (True, {3: [(4, 8)]}),
            (2, {2: [(4, 4)], 3: [(4, 8)], 4: [(8, 8)], 6: [(8, 8)]}),
            (1, None),
        ],
    )
    def test_shares_are_renewed_at_growth_and_every_n_iterations(
        self, monkeypatch, importance, sides
    ):
        """They are what the space says of the noise at that time."""
        asked, told = [], {}
        weigh, advance = ScaledImage.importance, Descent.advance

        def spy_weigh(space, noise, other):
            shares = weigh(space, noise, other)
            asked.append(((space.side, other.side), noise.clone(), shares))
            return shares

        def spy_advance(path, search, *state):
            before = len(asked)
            advance(path, search, *state)
            if len(asked) > before:
                told[int(search.at.iteration)] = [pair for pair, _, _ in asked[before:]]
                (_, side), noise, shares = asked[-1]
                assert torch.equal(path.state.share[:, : side * side], shares)
                if noise.shape[1] == side * side:
                    assert torch.equal(path.state.noise[:, : side * side], noise)
                    assert bool((noise != 0).any())

        monkeypatch.setattr(ScaledImage, "importance", spy_weigh)
        monkeypatch.setattr(Descent, "advance", spy_advance)
        zoo(
            tilted,
            images(1),
            resize={0: 4, 3: 8},
            importance=importance,
            coordinates=3,
            num_steps=7,
            search_steps=1,
            **QUIET,
        )
        assert told == (
            sides
            or {
                1: [(4, 4)],
                2: [(4, 4)],
                3: [(4, 8), (8, 8)],
                4: [(8, 8)],
                5: [(8, 8)],
                6: [(8, 8)],
            }
        )

    def test_shares_need_a_scaled_image(self):
        with pytest.raises(ValueError, match="importance needs resize"):
            zoo(flat, images(1), importance=True)

    @pytest.mark.parametrize("resize", [4, (4,), {0: 4}])
    def test_one_size_is_never_enlarged(self, resize: Any) -> None:
        with pytest.raises(
            ValueError, match=r"importance=True takes .* which one size never is: got resize=.*4"
        ):
            zoo(flat, images(1), resize=resize, importance=True)
        options: dict[str, Any] = {"num_steps": 2, "search_steps": 1, "coordinates": 1, **QUIET}
        zoo(flat, images(1), resize=resize, importance=2, **options)
        zoo(flat, images(1), resize=(4, 8), importance=True, **options)

    def test_sizes_by_iteration_on_the_command_line(self) -> None:
        text = "zoo.resize={0: 4, 5: 8},zoo.importance=true,zoo.num_steps=2"
        arguments = parse_attack_arguments(text)["zoo"]
        assert arguments == {"resize": {0: 4, 5: 8}, "importance": True, "num_steps": 2}
        settings = Settings((2.0,), 300, "l2", True, "logits", (0.0, 1.0), 8, None, 0)
        find_attack("zoo", arguments).check(
            flat, images(1), torch.zeros(1, dtype=torch.int64), settings
        )
        for one in ("{0: 4}", "4"):
            bad = parse_attack_arguments(f"zoo.resize={one},zoo.importance=true")["zoo"]
            with pytest.raises(ValueError, match=r"zoo: importance=True takes .* got resize="):
                find_attack("zoo", bad).check(
                    flat, images(1), torch.zeros(1, dtype=torch.int64), settings
                )
