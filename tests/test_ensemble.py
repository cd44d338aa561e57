"""An ensemble as one model: the three averages by hand, what it costs, and what attacking it
gains.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from art_ext.core.attacks import fgsm, frank_wolfe_black_box, hmcam, i_fgsm, pgd, rays
from art_ext.core.ensemble import Ensemble
from art_ext.core.losses import cross_entropy
from art_ext.core.oracle import GradientOracle, ScoreOracle

WEIGHTS = [0.5, 0.3, 0.2]
AVERAGES = ["logits", "probabilities", "losses"]


def members(count=3, classes=4, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return [
            nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, classes)) for _ in range(count)
        ]


def samples(count=10):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, 6, generator=generator), torch.randint(
        4, (count,), generator=generator
    )


def by_hand(networks, weights, average, rows, y):
    """The ensemble's logits (up to a constant for each row) and its loss, from the definitions."""
    z = [network(rows) for network in networks]
    if average == "logits":
        logits = sum(w * one for w, one in zip(weights, z, strict=True))
        return logits, functional.cross_entropy(logits, y, reduction="none")
    probabilities = sum(w * one.softmax(1) for w, one in zip(weights, z, strict=True))
    if average == "probabilities":
        return probabilities.log(), -probabilities.gather(1, y.unsqueeze(1)).squeeze(1).log()
    losses = [
        w * -one.log_softmax(1).gather(1, y.unsqueeze(1)).squeeze(1)
        for w, one in zip(weights, z, strict=True)
    ]
    return probabilities.log(), sum(losses)


class TestAverages:
    @pytest.mark.parametrize("average", AVERAGES)
    def test_values_and_gradients_are_those_of_the_formula(self, average):
        networks, (x, y) = members(), samples()
        ensemble = Ensemble(networks, WEIGHTS, average=average)
        with GradientOracle(ensemble, 10, batch_size=4) as oracle:
            outputs, losses, gradient = oracle.gradient(
                x, torch.arange(10), lambda logits, index: cross_entropy(logits, y[index])
            )
        leaf = x.clone().requires_grad_(True)
        expected, loss = by_hand(networks, WEIGHTS, average, leaf, y)
        assert torch.allclose(outputs, expected, atol=1e-5)
        assert torch.allclose(losses, loss, atol=1e-5)
        (wanted,) = torch.autograd.grad(loss.sum(), leaf)
        assert torch.allclose(gradient, wanted, atol=1e-5)
        assert float(wanted.abs().max()) > 0.01
        assert torch.allclose(ensemble(x), expected, atol=1e-5)
        with ScoreOracle(ensemble, 10) as oracle:
            _, scored = oracle.evaluate(
                x, torch.arange(10), lambda logits, index: cross_entropy(logits, y[index])
            )
        assert torch.allclose(scored, loss, atol=1e-5)

    def test_the_three_are_three(self):
        networks, (x, y) = members(), samples()
        losses = [by_hand(networks, WEIGHTS, average, x, y)[1].detach() for average in AVERAGES]
        assert float((losses[0] - losses[1]).abs().max()) > 1e-3
        # Jensen: the loss of averaged probabilities is the smaller one
        assert bool((losses[1] <= losses[2] + 1e-6).all())

    @pytest.mark.parametrize("average", AVERAGES)
    def test_weights_are_shares(self, average):
        networks, (x, _) = members(), samples()
        plain = Ensemble(networks, WEIGHTS, average=average)(x)
        assert torch.allclose(
            Ensemble(networks, [50, 30, 20], average=average)(x), plain, atol=1e-6
        )
        even = Ensemble(networks, average=average)(x)
        assert torch.allclose(Ensemble(networks, [7.0] * 3, average=average)(x), even, atol=1e-6)
        assert not torch.allclose(plain, even, atol=1e-2)
        alone = Ensemble(networks, [0, 2, 0], average=average)(x)
        assert torch.allclose(alone.softmax(1), networks[1](x).softmax(1), atol=1e-6)

    @pytest.mark.parametrize("average", AVERAGES)
    def test_members_that_return_probabilities(self, average):
        networks, (x, y) = members(), samples()
        scored = [lambda rows, network=network: network(rows).softmax(1) for network in networks]
        options = {"eps": 0.1, "num_steps": 3, "on_failure": "last"}
        logits = i_fgsm(Ensemble(networks, WEIGHTS, average=average), x, y, **options)
        probabilities = i_fgsm(
            Ensemble(scored, WEIGHTS, average=average, outputs="probabilities"), x, y, **options
        )
        assert torch.allclose(logits.x_adv, probabilities.x_adv, atol=1e-6)
        assert torch.equal(logits.success, probabilities.success)

    def test_a_single_member_is_itself(self):
        (network,), (x, y) = members(1), samples()
        plain = pgd(network, x, y, eps=0.1, num_steps=4, seed=0)
        for average in AVERAGES:
            alone = pgd(Ensemble([network], average=average), x, y, eps=0.1, num_steps=4, seed=0)
            assert torch.equal(alone.x_adv, plain.x_adv)
            assert torch.equal(alone.queries, plain.queries)


class TestCost:
    @pytest.mark.parametrize("average", AVERAGES)
    def test_one_query_is_one_row_through_every_member(self, average):
        networks, (x, _) = members(), samples()
        rows = [0, 0, 0]

        def counted(k):
            def member(batch):
                rows[k] += len(batch)
                return networks[k](batch)

            return member

        ensemble = Ensemble([counted(k) for k in range(3)], WEIGHTS, average=average)
        for attack, options in (
            (pgd, {"num_steps": 4, "batch_size": 3}),
            (frank_wolfe_black_box, {"num_directions": 2, "max_queries": 20, "seed": 0}),
            (rays, {"max_queries": 20}),
        ):
            rows[:] = [0, 0, 0]
            result = attack(ensemble, x, eps=0.1, **options)
            assert rows == [int(result.queries.sum() + result.wasted_rows.sum())] * 3

    @pytest.mark.parametrize("average", AVERAGES)
    def test_members_run_in_eval_mode_and_get_theirs_back(self, average):
        networks, (x, y) = members(), samples()
        seen = []
        for network in networks:
            network.append(nn.Dropout(0.5))
            network.register_forward_hook(lambda module, *_: seen.append(module.training))
        networks[0].train()
        networks[1].eval()
        networks[2].train()
        networks[2][3].eval()  # a layer that was frozen before
        networks[1][0].weight.requires_grad_(False)
        modes = [[module.training for module in network.modules()] for network in networks]
        wanted = [
            parameter.requires_grad for network in networks for parameter in network.parameters()
        ]
        ensemble = Ensemble(networks, average=average)
        for attack in (pgd, hmcam):
            attack(ensemble, x, y, eps=0.1, num_steps=2, seed=0)
        assert seen
        assert not any(seen)
        assert [[module.training for module in network.modules()] for network in networks] == modes
        assert [
            parameter.requires_grad for network in networks for parameter in network.parameters()
        ] == wanted
        assert all(
            parameter.grad is None for network in networks for parameter in network.parameters()
        )

    def test_modes_come_back_after_an_error(self):
        networks, (x, y) = members(), samples()

        def broken(rows):
            raise OSError("a member fails")

        networks[0].train()
        with pytest.raises(OSError, match="a member fails"):
            pgd(Ensemble([networks[0], broken]), x, y, eps=0.1)
        assert networks[0].training


class TestRefusals:
    def test_losses_have_no_single_output_for_others_to_differentiate(self):
        networks, (x, y) = members(), samples()
        ensemble = Ensemble(networks, WEIGHTS, average="losses")
        with pytest.raises(RuntimeError, match="no single output to differentiate"):
            ensemble(x.clone().requires_grad_(True))
        with pytest.raises(RuntimeError, match="average='probabilities'"):
            pgd(nn.Sequential(nn.Identity(), ensemble), x, y, eps=0.1)
        with torch.no_grad():  # its prediction is for everyone
            asked = ensemble(x.clone().requires_grad_(True))
        assert torch.allclose(asked, Ensemble(networks, WEIGHTS, average="probabilities")(x))

    @pytest.mark.parametrize(
        ("given", "options", "message"),
        [
            (0, {}, "at least one model"),
            (2, {"weights": [1.0]}, "one number >= 0 for each, not all 0, got 2 models"),
            (2, {"weights": [1.0, -1.0]}, "one number >= 0 for each"),
            (2, {"weights": [0.0, 0.0]}, "one number >= 0 for each"),
            (2, {"weights": [math.nan, 1.0]}, "one number >= 0 for each"),
            (2, {"weights": [math.inf, 1.0]}, "one number >= 0 for each"),
            (2, {"weights": ["half", 1.0]}, "each weight must be a number, got 'half'"),
            (
                2,
                {"average": "votes"},
                "average must be one of 'logits', 'probabilities', 'losses', got 'votes'",
            ),
            (
                2,
                {"outputs": "labels"},
                "outputs must be one of 'logits', 'probabilities', got 'labels'",
            ),
        ],
    )
    def test_what_makes_no_ensemble(self, given, options, message):
        with pytest.raises(ValueError, match=message):
            Ensemble(members(2)[:given], **options)

    @pytest.mark.parametrize("average", AVERAGES)
    def test_members_must_agree_in_their_classes(self, average):
        x, y = samples()
        odd = Ensemble([*members(1), *members(1, classes=5)], average=average)
        with pytest.raises(ValueError, match="member"):
            pgd(odd, x, y, eps=0.1)


def halves(width=6):
    """Two linear models of two classes, the first of which sees the first half of the
    coordinates only.
    """
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(width, generator=generator)
    first, second = weight.clone(), weight.clone()
    first[width // 2 :], second[: width // 2] = 0, 0

    def model(w):
        def scores(rows):
            score = ((rows - 0.5) * w).sum(1)
            return torch.stack([-score / 2, score / 2], dim=1)

        return scores

    return first, second, model(first), model(second)


class TestAttacked:
    def test_examples_of_one_member_say_nothing_to_a_member_that_looks_elsewhere(self):
        """In closed form: the L-inf optimum shifts each margin by eps ||w||_1 of the members
        that were attacked.
        """
        first, second, one, other = halves()
        generator = torch.Generator().manual_seed(3)
        x = 0.2 + 0.6 * torch.rand(60, 6, generator=generator)
        y = one(x).argmax(1)
        keep = other(x).argmax(1) == y
        x, y = x[keep], y[keep]
        alone = fgsm(one, x, y, eps=0.2, on_failure="last").x_adv
        assert torch.equal(other(alone), other(x))
        within = [((x - 0.5) @ w).abs() < 0.2 * w.abs().sum() for w in (first, second)]
        for average in AVERAGES:
            both = fgsm(
                Ensemble([one, other], average=average), x, y, eps=0.2, on_failure="last"
            ).x_adv
            assert torch.equal(one(both).argmax(1) != y, within[0])
            assert torch.equal(other(both).argmax(1) != y, within[1])
        assert bool(within[1].any())

    @pytest.mark.parametrize("average", AVERAGES)
    def test_hmcam_raises_the_ensemble_s_own_loss(self, average):
        networks, (x, _) = members(), samples()
        ensemble = Ensemble(networks, WEIGHTS, average=average)
        y = ensemble(x).argmax(1)
        chain = hmcam(ensemble, x, y, eps=0.2, num_steps=4, num_transitions=3, seed=0)
        for state, losses in zip(chain.samples, chain.trace["loss"], strict=True):
            assert torch.allclose(
                by_hand(networks, WEIGHTS, average, state, y)[1], losses, atol=1e-5
            )
        assert bool((chain.trace["loss"][-1] > by_hand(networks, WEIGHTS, average, x, y)[1]).all())
        assert bool(chain.success.any())
        assert torch.equal(chain.success, ensemble(chain.x_adv).argmax(1) != y)


class TestEmbeddings:
    """Models that return embeddings, as in the face experiments: pull each input towards its
    target's embedding.
    """

    def problem(self, count=12):
        generator = torch.Generator().manual_seed(4)
        maps = [torch.randn(6, 5, generator=generator) for _ in range(2)]
        x = 0.2 + 0.6 * torch.rand(count, 6, generator=generator)
        targets = functional.normalize(torch.randn(count, 5, generator=generator), dim=1)
        return maps, x, targets

    @pytest.mark.parametrize("size", [3, 64])
    def test_the_inner_product_rises_to_its_optimum(self, size):
        maps, x, targets = self.problem()
        threshold = 0.6

        def similarity(embeddings, index):
            return (embeddings * targets[index]).sum(1)

        ensemble = Ensemble([lambda rows, matrix=matrix: rows @ matrix for matrix in maps], [1, 3])
        result = i_fgsm(
            ensemble,
            x,
            eps=0.1,
            num_steps=5,
            loss=similarity,
            batch_size=size,
            on_failure="last",
            criterion=lambda embeddings, index: similarity(embeddings, index) > threshold,
        )
        mean = 0.25 * maps[0] + 0.75 * maps[1]
        pull = targets @ mean.T
        before = (x * pull).sum(1)
        best = before + 0.1 * pull.abs().sum(1)
        reached = (result.x_adv * pull).sum(1)
        met = result.already_adversarial
        assert torch.allclose(reached[~met], best[~met], atol=1e-5)
        assert torch.equal(met, before > threshold)
        assert torch.equal(result.success, (best > threshold) | met)
        assert {bool(one) for one in result.success} == {True, False}
        assert bool((result.success & ~met).any())

    def test_a_chain_of_them(self):
        maps, x, targets = self.problem()

        def similarity(embeddings, index):
            return functional.cosine_similarity(embeddings, targets[index])

        def model(rows):
            return torch.tanh(rows @ maps[0])

        chain = hmcam(
            model,
            x,
            eps=0.2,
            num_steps=5,
            num_transitions=3,
            loss=similarity,
            step_size=2e-3,
            seed=0,
            criterion=lambda embeddings, index: similarity(embeddings, index) > 0.5,
        )
        everyone = torch.arange(len(x))
        likeness = torch.stack([similarity(model(state), everyone) for state in chain.samples])
        attacked = ~chain.already_adversarial
        assert torch.allclose(chain.trace["loss"][:, attacked], likeness[:, attacked], atol=1e-5)
        assert bool((likeness[-1] > similarity(model(x), everyone))[attacked].all())
        assert torch.equal(chain.success, similarity(model(chain.x_adv), everyone) > 0.5)
