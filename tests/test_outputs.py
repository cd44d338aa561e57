"""What a model may return: one column for two classes, labels, probabilities; everything else is
refused by name.
"""

from __future__ import annotations

import functools
import inspect
import logging
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
)

from art_ext.core import attacks as core
from art_ext.core.attacks import pgd, registry
from art_ext.core.calling import ModelCall
from art_ext.core.ensemble import Ensemble
from art_ext.core.metrics import (
    local_lipschitz,
    perturbation_stability,
    robust_accuracy,
    transfer_success,
)
from art_ext.core.oracle import LabelOracle, ScoreOracle
from art_ext.core.outputs import NO_LABEL, OutputReader, predicted_classes, read_outputs
from art_ext.data import load_data
from art_ext.training import train
from tests.toys import attack_on, samples, small_net, warned

ATTACKS: dict[str, dict[str, Any]] = {
    "rays": {"max_queries": 150},
    "pgd": {"num_steps": 5},
    "hmcam": {"num_steps": 4},
    "ai_fgsm": {"num_steps": 4},
    "auto_pgd": {"num_steps": 6},
    "frank_wolfe": {"num_steps": 6},
    "frank_wolfe_black_box": {"num_directions": 6, "max_queries": 100},
    "nes": {"num_directions": 6, "max_queries": 100},
    "ead": {"num_steps": 8, "search_steps": 3, "initial_const": 0.5},
    "cw": {"num_steps": 8, "search_steps": 3, "initial_const": 0.5},
    "i_fgm": {"num_steps": 4, "resolution": 0.05},
    "zoo": {"num_steps": 6, "search_steps": 2, "coordinates": 4},
}


class TwoColumns(nn.Module):
    """The same network with both columns written out."""

    def __init__(self, network: nn.Module, outputs: str = "logits") -> None:
        super().__init__()
        self.network = network
        self.outputs = outputs

    def forward(self, rows: Tensor) -> Tensor:
        column = self.network(rows)
        other = torch.zeros_like(column) if self.outputs == "logits" else 1 - column
        return torch.cat([other, column], dim=1)


@pytest.fixture(scope="module")
def binary() -> tuple[nn.Module, Tensor, Tensor]:
    """A network of one logit that tells digits above 4 from the others, and forty test digits
    with their classes.
    """
    data = load_data("digits", split="train")
    test = load_data("digits").first(40)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 1))
        optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
        for _ in range(100):
            optimiser.zero_grad()
            binary_cross_entropy_with_logits(network(data.x)[:, 0], (data.y > 4).float()).backward()
            optimiser.step()
    return network.eval(), test.x, (test.y > 4).long()


# ---- one column


def test_one_column_is_read_as_two_classes() -> None:
    z = torch.tensor([-1.5, 0.0, 2.0], requires_grad=True)
    for given in (z, z[:, None]):
        read = read_outputs(given, 3, "logits")
        assert torch.equal(read, torch.tensor([[0.0, -1.5], [0, 0], [0, 2]]))
        assert torch.autograd.grad(read[:, 1].sum(), z)[0].tolist() == [1, 1, 1]
    p = torch.tensor([0.25, 1.0])
    assert torch.equal(read_outputs(p, 2, "probabilities"), torch.tensor([[0.75, 0.25], [0, 1]]))
    # squeezed by the model
    assert read_outputs(torch.tensor(3.0), 1, "logits").tolist() == [[0, 3]]
    assert predicted_classes(read_outputs(z.detach(), 3, "logits"), "logits").tolist() == [0, 0, 1]
    nan = read_outputs(torch.tensor([1.0, math.nan]), 2, "logits")
    assert predicted_classes(nan, "logits").tolist() == [1, NO_LABEL]
    small = torch.tensor([1e-3], dtype=torch.bfloat16)  # 1 - p is 1 in this type
    assert float(read_outputs(small, 1, "probabilities")[0, 0]) == pytest.approx(0.999, abs=1e-5)


@pytest.mark.parametrize(
    ("outputs", "rows", "message"),
    [
        (
            torch.zeros(4, 1, 1),
            4,
            r"must return \(rows, classes\) logits, or one column for two .*\(4, 1, 1\)",
        ),
        (torch.zeros(1, 4), 4, r"got shape \(1, 4\) for 4 rows"),
        (torch.zeros(4, 0), 4, r"got shape \(4, 0\) for 4 rows"),
        (
            torch.zeros(4, 2, dtype=torch.complex64),
            4,
            r"got shape \(4, 2\) of torch.complex64 for 4 rows",
        ),
        (
            torch.zeros(4).long(),
            4,
            "logits must be floating-point numbers, got torch.int64: pass outputs='labels'",
        ),
        (torch.zeros(4, 1) > 0, 4, "got torch.bool: pass outputs='labels'"),
        (
            (torch.zeros(4, 2, 2), 1),
            4,
            r"must return a tensor, got tuple with \(4, 2, 2\), of which",
        ),
        ((torch.zeros(4, 2), torch.zeros(4, 3)), 4, r"got tuple with \(4, 2\), \(4, 3\), of which"),
        ({"scores": torch.zeros(4, 2)}, 4, "got dict with 'scores', of which none is clearly"),
        ({"logits": torch.zeros(4, 2), "aux": torch.zeros(4, 2)}, 4, "switch auxiliary outputs"),
        (np.array(["a", "b"]), 2, "must return a tensor, got ndarray"),
        (SimpleNamespace(scores=torch.zeros(4, 2)), 4, "got SimpleNamespace with 'scores'"),
    ],
)
def test_other_shapes_and_types_are_refused(outputs: Any, rows: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_outputs(outputs, rows, "logits")


class Named(NamedTuple):
    logits: Any
    features: Any


HOLDERS: dict[str, Callable[[Tensor], Any]] = {
    "attribute": lambda scores: SimpleNamespace(logits=scores, hidden=scores),
    "key logits": lambda scores: {"logits": scores, "features": scores},
    "key out": lambda scores: {"out": scores},
    "array": lambda scores: scores.detach().numpy(),
    "read-only array": lambda scores: np.broadcast_to(scores.detach().numpy(), scores.shape),
    "key of array": lambda scores: {"logits": scores.detach().numpy()},
    "tuple": lambda scores: (scores, scores[:, :1], scores[:, 0], None, 1.0),
    "list": lambda scores: [scores[:, :, None], scores],
    "named tuple": lambda scores: Named(scores, scores),
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_scores_in_other_outputs(holder: str) -> None:
    scores = torch.randn(4, 3, requires_grad=True)
    held = HOLDERS[holder](scores)
    found = read_outputs(held, 4, "logits")
    assert torch.equal(found, scores)
    if "array" not in holder:
        assert found is scores
    reader = OutputReader("logits")
    assert torch.equal(reader(held, 4), scores)
    assert not reader.single_column


def test_a_column_of_an_array_is_read_as_two_classes() -> None:
    reader = OutputReader("probabilities")
    column = np.array([[0.25], [0.5]])
    assert reader({"out": column}, 2).tolist() == [[0.75, 0.25], [0.5, 0.5]]
    assert reader.single_column


def test_labels_in_an_array() -> None:
    assert read_outputs(np.array([3, 1]), 2, "labels").tolist() == [3, 1]


def test_the_call_converts_held_scores_of_a_half_type() -> None:
    held: Any = lambda rows: {"logits": rows.flatten(1).half()}  # noqa: E731
    call = ModelCall(held)
    assert call(torch.ones(2, 3)).dtype == torch.float32
    assert call.output_dtype == torch.float16


def test_an_attack_on_a_network_with_named_outputs_equals_that_on_its_logits(
    digits_net: nn.Module, digits: tuple[Tensor, Tensor]
) -> None:
    x, y = digits[0][:8], digits[1][:8]
    plain = pgd(digits_net, x, y, eps=0.1, num_steps=3, seed=0)
    held: Any = lambda rows: SimpleNamespace(logits=digits_net(rows))  # noqa: E731
    named = pgd(held, x, y, eps=0.1, num_steps=3, seed=0)
    assert torch.equal(plain.x_adv, named.x_adv)


@pytest.mark.parametrize("shape", ["(rows, 1)", "(rows,)"])
@pytest.mark.parametrize("outputs", ["logits", "probabilities"])
@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_on_one_column_equal_those_on_two(
    name: str, outputs: str, shape: str, binary: Any
) -> None:
    network, x, y = binary
    single = network if outputs == "logits" else nn.Sequential(network, nn.Sigmoid())
    asked: Callable[[Tensor], Tensor] = (
        single if shape == "(rows, 1)" else lambda rows: single(rows)[:, 0]
    )
    options = {"eps": 0.15, "outputs": outputs, "seed": 0, **ATTACKS[name]}
    if name in ("ai_fgsm", "frank_wolfe", "ead", "cw", "i_fgm"):
        del options["seed"]
    attack = getattr(core, name)
    one, two = attack(asked, x, y, **options), attack(TwoColumns(single, outputs), x, y, **options)
    for column in (
        "x_adv",
        "success",
        "already_adversarial",
        "distance",
        "queries",
        "queries_to_success",
        "gradients",
    ):
        assert torch.equal(getattr(one, column), getattr(two, column)), column
    with torch.no_grad():
        predicted = (network(one.x_adv)[:, 0] > 0).long()
    assert bool(((predicted != y) == (one.success | one.already_adversarial))[one.success].all())
    assert torch.equal(one.already_adversarial, (network(x)[:, 0] > 0).long() != y)
    assert int(one.success.sum()) > 0


def test_metrics_read_one_column(binary: Any) -> None:
    network, x, y = binary
    two = TwoColumns(network)
    moved = core.pgd(network, x, y, eps=0.1, num_steps=5, seed=0).x_adv
    assert (
        transfer_success(moved, x, y, network).share == transfer_success(moved, x, y, two).share > 0
    )
    assert perturbation_stability(network, x, moved) == perturbation_stability(two, x, moved) < 1
    assert torch.equal(
        local_lipschitz(network, x, eps=0.1, num_steps=2).values,
        local_lipschitz(two, x, eps=0.1, num_steps=2).values,
    )


@pytest.mark.parametrize("average", ["logits", "probabilities", "losses"])
@pytest.mark.parametrize("outputs", ["logits", "probabilities"])
def test_ensembles_of_one_column(outputs: str, average: str, binary: Any) -> None:
    network, x, y = binary
    members: list[nn.Module] = [network, nn.Sequential(network, nn.Dropout(0.0))]
    if outputs == "probabilities":
        members = [nn.Sequential(member, nn.Sigmoid()) for member in members]
    single = Ensemble(members, [1, 2], average=average, outputs=outputs)
    mixed = Ensemble(
        [members[0], TwoColumns(members[1], outputs)], [1, 2], average=average, outputs=outputs
    )
    one, two = (core.pgd(model, x, y, eps=0.1, num_steps=5, seed=0) for model in (single, mixed))
    assert torch.equal(one.x_adv, two.x_adv)
    assert torch.equal(one.success, two.success)
    assert single(x).shape == (40, 2)
    assert bool(((network(one.x_adv)[:, 0] > 0).long() != y)[one.success].all())


def test_one_log_line_says_how_one_column_is_read(
    binary: Any, caplog: pytest.LogCaptureFixture
) -> None:
    network, x, y = binary
    with caplog.at_level(logging.INFO, logger="art_ext"):
        core.pgd(network, x, y, eps=0.1, num_steps=5, batch_size=7, seed=0)
    assert [one for one in caplog.messages if "one column" in one] == [
        "the model returns one column: each value z is read as the logits (0, z) of two classes"
    ]
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="art_ext"):
        core.rays(
            nn.Sequential(network, nn.Sigmoid()),
            x,
            y,
            max_queries=20,
            outputs="probabilities",
            batch_size=7,
        )
    assert [one for one in caplog.messages if "one column" in one] == [
        "the model returns one column: each value p is read as probabilities (1 - p, p) of two classes"
    ]


@pytest.mark.parametrize("name", ["rays", "pgd", "zoo"])
def test_labels_beyond_two_classes_are_refused(name: str, binary: Any) -> None:
    network, x, y = binary
    with pytest.raises(
        ValueError, match="y must hold class indices below 2, the model's width, got 2"
    ):
        getattr(core, name)(network, x, y + 1, eps=0.1)
    if name != "rays":  # it needs starts of the target class too
        with pytest.raises(ValueError, match="targets must hold class indices below 2"):
            getattr(core, name)(network, x, y, targets=y + 1, eps=0.1)


def test_probabilities_that_pass_for_one_column_of_logits(
    binary: Any, caplog: pytest.LogCaptureFixture
) -> None:
    network, x, y = binary
    core.rays(nn.Sequential(network, nn.Sigmoid()), x, y, max_queries=5)
    assert (
        "one column lie in [0, 1]: if they are probabilities, pass outputs='probabilities'"
        in caplog.text
    )
    caplog.clear()
    core.rays(network, x, y, max_queries=5)
    assert not warned(caplog)


@pytest.mark.parametrize("values", [lambda z: (z > 0).float(), lambda z: z.sign()])
def test_one_column_of_labels_carries_no_score(
    values: Callable[[Tensor], Tensor], binary: Any
) -> None:
    network, x, y = binary
    for outputs in ("logits", "probabilities")[
        : 2 if bool((values(-torch.ones(1)) == 0).all()) else 1
    ]:
        with pytest.raises(ValueError, match="one-hot rows, which carry no score"):
            core.nes(
                lambda rows: values(network(rows)), x, y, eps=0.1, max_queries=50, outputs=outputs
            )


# ---- training


def test_training_loss_is_binary_cross_entropy_with_logits(binary: Any) -> None:
    network, x, y = binary
    z = 20 * network(x)
    ours = cross_entropy(read_outputs(z, len(x), "logits"), y, reduction="none")
    theirs = binary_cross_entropy_with_logits(z[:, 0], y.float(), reduction="none")
    assert float((ours - theirs).detach().abs().max()) < 1e-6
    p = torch.sigmoid(network(x))
    ours = -read_outputs(p, len(x), "probabilities").log().gather(1, y[:, None])[:, 0]
    theirs = binary_cross_entropy(p[:, 0], y.float(), reduction="none")
    assert float((ours - theirs).detach().abs().max()) < 1e-6


@pytest.mark.parametrize("recipe", ["natural", "pgd", "trades", "free", "fast", "war", "atcd"])
def test_training_one_column_equals_training_two(recipe: str) -> None:
    data = load_data("digits", split="train").first(64)
    y = (data.y > 4).long()
    losses = []
    for kind in ("one", "two", "flat"):
        with torch.random.fork_rng():
            torch.manual_seed(1)
            network = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 1))
        model = {
            "one": network,
            "two": TwoColumns(network),
            "flat": nn.Sequential(network, nn.Flatten(0)),
        }[kind]
        result = train(
            model,
            (data.x, y),
            recipe,
            epochs=2,
            batch_size=16,
            seed=0,
            validation_data=(data.x, y),
            validation_eps=0,
            optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        )
        losses.append([(row["loss"], row["validation_clean"]) for row in result.history])
    for other in losses[1:]:  # TRADES joins rows, and so rounds otherwise
        torch.testing.assert_close(torch.tensor(losses[0]), torch.tensor(other), atol=1e-6, rtol=0)


def test_natural_training_reports_binary_cross_entropy() -> None:
    data = load_data("digits", split="train").first(64)
    y = (data.y > 4).long()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
    wanted = binary_cross_entropy_with_logits(network(data.x)[:, 0], y.float()).item()
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-12)
    result = train(network, (data.x, y), "natural", epochs=1, batch_size=64, optimizer=optimiser)
    assert result.history[0]["loss"] == pytest.approx(wanted, abs=1e-6)


# ---- labels


FRACTIONS = (
    "got 0.93.* in row 3: threshold the scores, or pass outputs='probabilities' or outputs='logits'"
)
SIGNS = r"got -1 in row 3: pass lambda x: \(model\(x\) \+ 1\) // 2"


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (torch.tensor([0, 1, 1, 0.93, 0.2]), FRACTIONS),
        (torch.tensor([[0.0], [1], [1], [0.93], [0.2]]), FRACTIONS),
        (torch.tensor([0, 1, 1, 0.93, 0.2], dtype=torch.float16), FRACTIONS),
        (torch.tensor([0, 1, 2, -3.0, 0]), "got -3 in row 3: threshold the scores"),
        (torch.tensor([0, 1, math.nan, -0.5, 0]), "got -0.5 in row 3: threshold the scores"),
        (torch.tensor([0, 1, 2, math.inf, 0]), "got inf in row 3: threshold the scores"),
        (torch.tensor([0, 1, 2, 1e30, 0]), r"got 1e\+30 in row 3: threshold the scores"),
        (torch.tensor([1, 1, 1, -1, 1]), SIGNS),
        (torch.tensor([1, 1, 1, -1, 1], dtype=torch.int8), SIGNS),
        (torch.tensor([1, 1, 1, -1.0, 1]), SIGNS),
        (
            torch.tensor([0, 1, 2, -1, 7]),
            "got -1 in row 3: map the model's outputs to class indices",
        ),
    ],
)
@pytest.mark.parametrize("where", ["clean check", "later"])
def test_labels_that_are_no_class_indices(answers: Tensor, message: str, where: str) -> None:
    rows, index = torch.rand(5, 4), torch.arange(5)
    oracle = LabelOracle(lambda x: answers, 5, outputs="labels")
    if where == "clean check" and bool(answers.isnan().any()):
        message = "NaN for the clean input, first in sample 2"
    ask = (
        oracle.clean_labels
        if where == "clean check"
        else functools.partial(oracle.labels, index=index)
    )
    with pytest.raises(ValueError, match=message):
        ask(rows)


def test_the_row_is_counted_over_all_batches() -> None:
    rows = torch.rand(30, 4)
    rows[17] = 0
    oracle = LabelOracle(
        lambda x: (x.sum(1) > 0).float() / 2 + 0.5, 30, outputs="labels", batch_size=4
    )
    with pytest.raises(ValueError, match=r"got 0\.5 in row 17"):
        oracle.clean_labels(rows)


@pytest.mark.parametrize(
    "dtype",
    [
        torch.bool,
        torch.uint8,
        torch.int8,
        torch.int16,
        torch.int32,
        torch.int64,
        torch.float16,
        torch.bfloat16,
        torch.float32,
        torch.float64,
    ],
)
def test_labels_of_any_type(dtype: torch.dtype, binary: Any) -> None:
    network, x, y = binary
    plain = core.rays(network, x, y, eps=0.1, max_queries=100, seed=0)

    def answers(rows: Tensor, shape: tuple[int, ...]) -> Tensor:
        return (network(rows)[:, 0] > 0).to(dtype).reshape(shape)

    for shape in ((-1,), (-1, 1)):
        model = functools.partial(answers, shape=shape)
        result = core.rays(model, x, y, eps=0.1, max_queries=100, seed=0, outputs="labels")
        assert torch.equal(result.x_adv, plain.x_adv)
        assert torch.equal(result.queries, plain.queries)


def test_a_model_cannot_return_the_mark_for_no_label() -> None:
    with pytest.raises(ValueError, match=f"got {NO_LABEL} in row 0"):
        predicted_classes(torch.tensor([NO_LABEL]), "labels")
    assert predicted_classes(torch.tensor([math.nan, 2]), "labels").tolist() == [NO_LABEL, 2]


def test_sigmoid_units_as_labels_are_refused(binary: Any) -> None:
    network, x, y = binary
    p = nn.Sequential(network, nn.Sigmoid())
    with pytest.raises(ValueError, match="threshold the scores, or pass outputs='probabilities'"):
        core.rays(p, x, y, eps=0.3, max_queries=200, outputs="labels", seed=0)
    right = core.rays(
        lambda rows: p(rows)[:, 0] > 0.5, x, y, eps=0.3, max_queries=200, outputs="labels", seed=0
    )
    other = core.rays(p, x, y, eps=0.3, max_queries=200, outputs="probabilities", seed=0)
    assert torch.equal(right.x_adv, other.x_adv)
    assert robust_accuracy(right) == robust_accuracy(other)


def test_answers_of_minus_one_and_one(binary: Any) -> None:
    network, x, y = binary

    def signs(rows: Tensor) -> Tensor:
        return (2 * (network(rows)[:, 0] > 0) - 1).long()

    with pytest.raises(
        ValueError, match=r"got -1 in row \d+: pass lambda x: \(model\(x\) \+ 1\) // 2"
    ):
        core.rays(signs, x, y, eps=0.25, max_queries=100, outputs="labels", seed=0)
    mended = core.rays(
        lambda rows: (signs(rows) + 1) // 2,
        x,
        y,
        eps=0.25,
        max_queries=100,
        outputs="labels",
        seed=0,
    )
    assert torch.equal(
        mended.x_adv, core.rays(network, x, y, eps=0.25, max_queries=100, seed=0).x_adv
    )
    ones = y == 1  # a detector whose clean inputs all get 1 shows its -1 during the attack
    with pytest.raises(ValueError, match="got -1 in row"):
        core.rays(
            signs,
            x[ones & (signs(x) == 1)],
            None,
            eps=0.5,
            max_queries=400,
            outputs="labels",
            seed=0,
        )


# ---- probabilities


def flat_softmax(rows: Tensor) -> Tensor:
    return rows.flatten(1).softmax(dim=1)


@pytest.mark.parametrize("name", ["rays", "pgd", "nes", "ead"])
def test_logits_announced_as_probabilities(name: str, linear_net: nn.Module, digits: Any) -> None:
    x, y = digits
    with pytest.raises(
        ValueError, match=r"values in \[0, 1\], got -?\d.* for sample 0: pass outputs='logits'"
    ):
        getattr(core, name)(linear_net, x, y, eps=0.1, outputs="probabilities")
    right = core.pgd(linear_net, x, y, eps=0.1, seed=0)
    same = core.pgd(
        nn.Sequential(linear_net, nn.Softmax(1)), x, y, eps=0.1, outputs="probabilities", seed=0
    )
    assert abs(robust_accuracy(right) - robust_accuracy(same)) <= 0.026


@pytest.mark.parametrize(
    ("value", "refused"),
    [(-2e-4, True), (1 + 2e-4, True), (-0.5e-4, False), (1 + 0.5e-4, False), (math.inf, True)],
)
@pytest.mark.parametrize("columns", [1, 2, 3])
def test_range_of_probabilities(value: float, refused: bool, columns: int) -> None:
    def model(rows: Tensor) -> Tensor:
        p = torch.full((len(rows), columns), 1 / max(columns, 2))
        p[(rows == 0).all(dim=1), -1] = value
        return p

    rows = torch.rand(9, 4)
    rows[5] = 0
    oracle = ScoreOracle(model, 9, outputs="probabilities", batch_size=4)
    if refused:
        with pytest.raises(ValueError, match=f"got {value:.6g} for sample 5".replace("+", r"\+")):
            oracle.clean_labels(rows)
    else:
        assert len(oracle.clean_labels(rows)) == 9


def test_independent_sigmoids_are_warned_of_once(
    linear_net: nn.Module, digits: Any, caplog: pytest.LogCaptureFixture
) -> None:
    x, y = digits
    core.pgd(
        nn.Sequential(linear_net, nn.Sigmoid()),
        x,
        y,
        eps=0.1,
        num_steps=3,
        outputs="probabilities",
        batch_size=7,
    )
    (message,) = warned(caplog)
    assert "probabilities of 40 of 40 samples do not sum to 1" in message
    caplog.clear()
    for kind in (nn.Softmax(1), nn.Sequential(nn.Softmax(1), Half())):
        model = nn.Sequential(linear_net, kind)
        core.pgd(model, x, y, eps=0.1, num_steps=3, outputs="probabilities")
    assert not warned(caplog)


class Half(nn.Module):
    """Rounds to a half type."""

    def forward(self, rows: Tensor) -> Tensor:
        return rows.to(torch.bfloat16)


@pytest.mark.parametrize("outputs", ["logits", "probabilities"])
def test_ensembles_check_the_range_of_their_members(
    outputs: str, linear_net: nn.Module, digits: Any
) -> None:
    x, y = digits
    ensemble = Ensemble(
        [nn.Sequential(linear_net, nn.Softmax(1)), linear_net], outputs="probabilities"
    )
    with pytest.raises(ValueError, match=r"values in \[0, 1\], got .* pass outputs='logits'"):
        core.pgd(ensemble, x, y, eps=0.1)


def test_reader_remembers_the_classes() -> None:
    reader = OutputReader("logits")
    assert (reader.num_classes, reader.single_column) == (None, False)
    reader(torch.zeros(3, 5), 3)
    assert (reader.num_classes, reader.single_column) == (5, False)
    reader(torch.zeros(3), 3)
    assert (reader.num_classes, reader.single_column) == (2, True)
    labels = OutputReader("labels")
    labels(torch.zeros(3), 3)
    assert (labels.num_classes, labels.single_column) == (None, False)


GRADIENTS = registry.names(access="gradients")


@pytest.mark.parametrize("name", GRADIENTS)
@pytest.mark.parametrize("start", ["input", "uniform"])
def test_one_hot_scores_get_one_message_whatever_the_attack(name: str, start: str) -> None:
    """An attack on scores would raise an error too, so that none is advised."""
    function = attack_on(name, samples(4), 3)
    more = {"start": start} if "start" in inspect.signature(function).parameters else {}

    def hard(rows: Tensor) -> Tensor:
        classes = (rows.flatten(1).sum(dim=1) > 6).long()
        return torch.nn.functional.one_hot(classes, 3).float()

    with pytest.raises(
        ValueError,
        match=r"one-hot rows, which carry no score: .* such as opt, rays or sign_opt, or",
    ):
        function(hard, samples(4), eps=0.1, **more)


@pytest.mark.parametrize("name", GRADIENTS)
def test_a_model_without_gradients_is_sent_to_every_attack_that_needs_none(name: str) -> None:
    with pytest.raises(ValueError, match="autograd") as caught:
        attack_on(name, samples(4), 3)(lambda rows: small_net(rows).detach(), samples(4), eps=0.1)
    advice = str(caught.value).partition("use a black-box attack: ")[2]
    built_in = [one for one in registry.specs() if registry.is_built_in(one)]
    wanted = [one.name for one in built_in if one.access in ("labels", "scores")]
    assert advice.replace(" or ", ", ").split(", ") == wanted
    assert "square" in wanted
