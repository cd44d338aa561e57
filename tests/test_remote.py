"""``RemoteClassifier``: an HTTP service with faults, budgets, and the log of answers."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import fields
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from art.estimators.classification import BlackBoxClassifier
from torch import Tensor, nn

from art_ext.attacks import RayS
from art_ext.core import AttackInterrupted, AttackResult, ModelStopped
from art_ext.core.attacks import nes, rays
from art_ext.core.calls import scope
from art_ext.core.probe import probe_model
from art_ext.core.streams import fingerprint
from art_ext.models import RemoteClassifier, drop_damaged_answers
from art_ext.models.remote.answers import KEY_BYTES, digest, record_type
from art_ext.models.remote.requests import Pace, Policy, is_transient, retry_after
from tests._http_service import Client, HTTPError, Service, digits_network
from tests.toys import samples, waves

small_net = waves(12)  # row by row
FAST = {"backoff": (0.001, 0.01), "outputs": "logits"}


def model_of(predict: Callable[..., Any], folder: Path, **options: Any) -> RemoteClassifier:
    """A service that is tried again at once."""
    return RemoteClassifier(predict, answers=folder, **{**FAST, **options})


def local(rows: Tensor) -> Tensor:
    """A service in this process, which counts nothing."""
    return small_net(rows)


class Counting:
    """A service in this process, that counts its rows."""

    def __init__(self) -> None:
        self.rows = 0

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        self.rows += len(rows)
        return small_net(torch.from_numpy(rows)).numpy()


def assert_equal(first: AttackResult, second: AttackResult) -> None:
    for name in (field.name for field in fields(AttackResult)):
        one, other = getattr(first, name), getattr(second, name)
        if isinstance(one, Tensor):
            assert torch.equal(one, other), name
        elif name != "trace":
            assert one == other, name


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Start services, and stop them at the end."""
    running: list[Service] = []

    def start(**options: Any) -> Service:
        service = Service(digits_network(), tmp_path / "events", **options)
        running.append(service)
        threading.Thread(target=service.serve_forever, args=(0.01,), daemon=True).start()
        return service

    yield start
    for service in running:
        service.shutdown()
        service.server_close()


def digits(count: int) -> tuple[Tensor, Tensor]:
    x = samples(count, features=64)
    compute = digits_network()
    return x, torch.from_numpy(compute(x.numpy())).argmax(dim=1)


def logged(folder: Path, width: int = 10) -> dict[str, float]:
    """The idempotency key of each record, and the time at which it was written."""
    records = np.concatenate(
        [np.fromfile(path, record_type(width, False)) for path in folder.glob("answers-*.log")]
    )
    raw = records.view(np.uint8).reshape(len(records), -1)[:, :KEY_BYTES]
    times = records["time"].tolist()
    return {digest(key.tobytes()).hex(): at for key, at in zip(raw, times, strict=True)}


def requested_again(events: Path, answers: Path) -> int:
    """Requests for a row whose answer was in the log already."""
    known = logged(answers)
    lines = events.read_text().splitlines()
    arrivals = [line.split() for line in lines if line[:4] not in ("done", "lost")]
    return sum(float(at) > known.get(key, np.inf) for key, at in arrivals)


ATTACKS = {
    "rays": lambda model, x, y: rays(model, x, y, eps=0.1, max_queries=60, seed=0),
    "nes": lambda model, x, y: nes(
        model, x, y, eps=0.1, max_queries=60, num_directions=4, seed=1, batch_size=16
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_faults_change_no_number(
    attack: str, served: Callable[..., Service], tmp_path: Path
) -> None:
    service = served(seed=5, share=0.1)
    x, y = digits(6)
    compute = digits_network()
    undisturbed = ATTACKS[attack](lambda rows: torch.from_numpy(compute(rows.numpy())), x, y)
    client = Client(service.server_address[1])
    model = model_of(client.predict, tmp_path / "log", timeout=0.5, rows_per_request=2)
    assert_equal(ATTACKS[attack](model, x, y), undisturbed)
    assert requested_again(tmp_path / "events", tmp_path / "log") == 0
    assert model.usage.rows_replayed == 0
    rows = int(undisturbed.queries.sum())
    assert model.usage.rows_sent > rows
    assert len(logged(tmp_path / "log")) == rows
    again = model_of(client.predict, tmp_path / "log")
    assert_equal(ATTACKS[attack](again, x, y), undisturbed)
    assert (again.usage.rows_sent, again.usage.rows_replayed) == (0, rows)


def test_a_budget_is_never_exceeded_and_a_raised_one_goes_on(tmp_path: Path) -> None:
    x = samples(8)
    y = small_net(x).argmax(dim=1)
    undisturbed = rays(small_net, x, y, eps=0.2, max_queries=60, seed=0)
    service = Counting()
    model = model_of(service, tmp_path, max_rows=100, rows_per_request=3)
    with pytest.raises(AttackInterrupted, match="max_rows=100 is spent") as caught:
        rays(model, x, y, eps=0.2, max_queries=60)
    assert service.rows <= 100
    result = caught.value.result
    assert bool((small_net(result.x_adv).argmax(dim=1) != y)[result.success].all())
    with pytest.raises(AttackInterrupted):  # the limit is of the folder
        rays(model_of(service, tmp_path, max_rows=100), x, y, eps=0.2, max_queries=60)
    assert service.rows <= 100
    with pytest.raises(AttackInterrupted):  # the same object goes on as well
        rays(model, x, y, eps=0.2, max_queries=60)
    raised = model_of(service, tmp_path, max_rows=10_000)
    assert_equal(rays(raised, x, y, eps=0.2, max_queries=60, batch_size=5, seed=0), undisturbed)
    assert service.rows == int(undisturbed.queries.sum())


def test_a_cost_is_a_budget_too(tmp_path: Path) -> None:
    service = Counting()
    model = model_of(service, tmp_path, cost_per_row=0.25, max_cost=10)
    with pytest.raises(ModelStopped, match="max_cost=10 is spent: 10 so far"):
        model(samples(50))
    assert service.rows == 40
    assert model.usage.cost == 10


def test_random_answers_are_replayed_and_still_found_by_the_probe(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)

    def noisy(rows: np.ndarray) -> np.ndarray:
        return Counting()(rows) + draw.normal(size=(len(rows), 3)).astype(np.float32)

    x = samples(6)
    first = model_of(noisy, tmp_path, concurrency=1)
    outcome = rays(first, x, eps=0.2, max_queries=50, seed=0)
    assert bool(probe_model(first, x).randomised.all())
    second = model_of(noisy, tmp_path, concurrency=1)
    assert_equal(rays(second, x, eps=0.2, max_queries=50, batch_size=2, seed=0), outcome)
    assert bool(probe_model(second, x).randomised.all())
    assert second.usage.rows_sent == 0


def test_reuse_answers_repeated_rows(tmp_path: Path) -> None:
    service = Counting()
    model = model_of(service, tmp_path, reuse=True)
    x = samples(5)
    twice = torch.cat([x, x])
    assert torch.equal(model(twice), small_net(twice))
    with scope("another"):
        assert torch.equal(model(x), small_net(x))
    assert service.rows == 5
    assert model.usage.rows_replayed == 10
    assert torch.equal(model_of(service, tmp_path, reuse=True)(x), small_net(x))
    assert service.rows == 5


def test_scopes_are_numbered_on_their_own(tmp_path: Path) -> None:
    service = Counting()
    x = samples(4)
    for again in range(2):
        model = model_of(service, tmp_path)
        for name in ("a", "b"):
            with scope(name):
                model(x)
                model(x)
        assert service.rows == 16, again
    names = [line.split()[1] for line in (tmp_path / "scopes.txt").read_text().splitlines()]
    assert names == ["a", "b"]


def test_a_record_holds_sample_query_time_and_cost(tmp_path: Path) -> None:
    x = samples(3)
    result = rays(model_of(local, tmp_path, cost_per_row=0.5), x, eps=0.2, max_queries=9)
    records = np.fromfile(next(tmp_path.glob("*.log")), record_type(3, False))
    ids = fingerprint(x).tolist()
    for one, queries in zip(ids, result.queries.tolist(), strict=True):
        mine = records[records["sample"] == one]
        assert sorted(mine["query"].tolist()) == list(range(1, queries + 1))
    assert set(records["cost"].tolist()) == {0.5}
    assert float(np.abs(records["time"] - time.time()).max()) < 60


def test_keys_are_the_same_whenever_a_row_is_sent_again(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    def predict(rows: np.ndarray, keys: list[str], timeout: float) -> np.ndarray:
        assert timeout == 7
        seen.append(keys)
        if seen.count(keys) == 1:
            raise ConnectionResetError
        return np.zeros((len(rows), 2), np.float32)

    model = model_of(predict, tmp_path, timeout=7, concurrency=1)
    model(samples(3))
    model(samples(3))
    times = Counter(key for keys in seen for key in keys)
    assert sorted(times.values()) == [2] * 6


def test_a_call_that_hangs_counts_as_failed(tmp_path: Path) -> None:
    calls = itertools.count()

    def predict(rows: np.ndarray) -> np.ndarray:
        if next(calls) == 0:
            time.sleep(5)
        return np.zeros((len(rows), 2), np.float32)

    begun = time.monotonic()
    model = model_of(predict, tmp_path, timeout=0.1)
    model(samples(1))
    assert time.monotonic() - begun < 4
    assert model.usage.requests == 2


def test_an_answer_that_comes_late_is_taken_before_the_next_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def predict(rows: np.ndarray) -> np.ndarray:
        time.sleep(0.3)
        return np.zeros((len(rows), 2), np.float32)

    monkeypatch.setattr(Policy, "delay", lambda *_: 60.0)
    model = model_of(predict, tmp_path / "a", timeout=0.05)
    model(samples(1))
    assert model.usage.requests == 1
    impatient = model_of(predict, tmp_path / "b", timeout=0.05, retries=0)
    with pytest.raises(ModelStopped, match=r"TimeoutError: no answer within 0\.05 s"):
        impatient(samples(1))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (np.zeros((1, 4)), r"must return \(1, 3\), got shape \(1, 4\)"),
        (np.zeros((2, 3)), r"must return \(1, 3\), got shape \(2, 3\)"),
        (np.full((1, 3), np.nan), "returns NaN"),
        ("text", "an array of numbers, got str"),
        (None, "the service must return"),
        (ValueError("bad key"), "fails at once: ValueError: bad key"),
        (HTTPError(401, {}), "fails at once: HTTPError: status 401"),
    ],
)
def test_everything_else_stops_at_once(answer: Any, message: str, tmp_path: Path) -> None:
    calls = itertools.count()

    def predict(rows: np.ndarray) -> Any:
        next(calls)
        if isinstance(answer, Exception):
            raise answer
        return answer

    model = model_of(predict, tmp_path / "log", num_classes=3)
    with pytest.raises(ModelStopped, match=message):
        model(samples(1))
    assert next(calls) == 1
    assert not list((tmp_path / "log").glob("meta.json"))


def test_a_service_that_fails_for_good_is_tried_so_often(tmp_path: Path) -> None:
    calls = itertools.count()

    def predict(rows: np.ndarray) -> np.ndarray:
        next(calls)
        raise HTTPError(503, {})

    with pytest.raises(ModelStopped, match="fails after 4 tries: HTTPError: status 503"):
        model_of(predict, tmp_path, retries=3)(samples(1))
    assert next(calls) == 4


def test_answers_on_their_way_are_logged_before_the_model_stops(tmp_path: Path) -> None:
    calls = itertools.count()

    def predict(rows: np.ndarray) -> np.ndarray:
        if next(calls) == 0:
            raise ValueError
        time.sleep(0.1)
        return np.zeros((len(rows), 2), np.float32)

    model = model_of(predict, tmp_path)
    with pytest.raises(ModelStopped):
        model(samples(10))
    model(samples(10))
    assert model.usage.rows_sent == 11


def test_the_rule_for_another_try() -> None:
    class WithResponse(Exception):
        def __init__(self, status: int) -> None:
            self.response = type("Response", (), {"status_code": status, "headers": {}})()

    class Timeout(OSError):
        """As that of the library requests."""

    transient: list[Exception] = [
        ConnectionResetError(),
        TimeoutError(),
        URLError(ConnectionRefusedError()),
        HTTPError(429, {}),
        WithResponse(502),
        Timeout(),
    ]
    for error in transient:
        assert is_transient(error), error
    final: list[Exception] = [HTTPError(400, {}), WithResponse(404), ValueError(), OSError()]
    for error in final:
        assert not is_transient(error), error
    assert retry_after(HTTPError(429, {"Retry-After": "3"})) == 3
    later = retry_after(HTTPError(503, {"Retry-After": formatdate(time.time() + 100, usegmt=True)}))
    assert 95 < later < 101
    assert retry_after(ValueError()) == 0


def test_another_rule(tmp_path: Path) -> None:
    calls = itertools.count()

    def predict(rows: np.ndarray) -> np.ndarray:
        if next(calls) < 2:
            raise KeyError
        return np.zeros((len(rows), 2), np.float32)

    model_of(predict, tmp_path / "a", retry_on=KeyError)(samples(1))
    calls = itertools.count()
    model_of(predict, tmp_path / "b", retry_on=lambda error: isinstance(error, KeyError))(
        samples(1)
    )
    calls = itertools.count()
    with pytest.raises(ModelStopped):
        model_of(predict, tmp_path / "c", retry_on=(ValueError,))(samples(1))


def test_retry_after_holds_all_requests(tmp_path: Path) -> None:
    times: list[float] = []

    def predict(rows: np.ndarray) -> np.ndarray:
        times.append(time.monotonic())
        if len(times) == 1:
            raise HTTPError(429, {"Retry-After": "0.4"})
        return np.zeros((len(rows), 2), np.float32)

    model_of(predict, tmp_path, concurrency=1)(samples(3))
    assert times[1] - times[0] >= 0.4


def test_a_rate_is_kept_evenly(served: Callable[..., Service], tmp_path: Path) -> None:
    service = served()
    model = model_of(
        Client(service.server_address[1]).predict,
        tmp_path / "log",
        rate=100,
        rows_per_request=64,
        concurrency=8,
    )
    model(samples(150, features=64))
    at = sorted(
        float(line.split()[1])
        for line in (tmp_path / "events").read_text().splitlines()
        if "done" not in line
    )
    assert max(sum(start <= one < start + 1 for one in at) for start in at) <= 110
    assert Pace(100).largest(64) == 10
    assert Pace(2).largest(64) == 1
    assert Pace(None).largest(64) == 64


def test_through_the_estimator_of_art(tmp_path: Path) -> None:
    x = samples(6)
    y = small_net(x).argmax(dim=1)
    undisturbed = rays(small_net, x, y, eps=0.2, max_queries=60, seed=0)
    service = Counting()
    model = model_of(service, tmp_path, max_rows=50)
    attack = RayS(
        BlackBoxClassifier(model.predict, (12,), 3, clip_values=(0, 1)),
        eps=0.2,
        max_queries=60,
        probe=False,
    )
    with pytest.raises(AttackInterrupted):
        attack.generate(x.numpy(), y.numpy())
    assert service.rows <= 50
    interim = attack.last_result
    assert interim is not None
    assert bool((small_net(interim.x_adv).argmax(dim=1) != y)[interim.success].all())
    raised = model_of(service, tmp_path)
    attack = RayS(
        BlackBoxClassifier(raised.predict, (12,), 3, clip_values=(0, 1)),
        eps=0.2,
        max_queries=60,
        probe=False,
    )
    attack.generate(x.numpy(), y.numpy())
    assert attack.last_result is not None
    assert torch.equal(attack.last_result.x_adv, undisturbed.x_adv)
    assert torch.equal(attack.last_result.queries, undisturbed.queries)
    assert service.rows == int(undisturbed.queries.sum())


def arrivals(events: Path) -> int:
    """Number of rows that the server has seen."""
    return sum(line[:4] not in ("done", "lost") for line in events.read_text().splitlines())


def test_a_limit_holds_over_http_through_the_estimator_of_art(
    served: Callable[..., Service], tmp_path: Path
) -> None:
    x, y = digits(20)
    client = Client(served(seed=2, share=0.1).server_address[1])
    compute = digits_network()

    def network(rows: Tensor) -> Tensor:
        return torch.from_numpy(compute(rows.numpy()))

    undisturbed = rays(network, x, y, eps=0.1, max_queries=100, seed=0)
    assert int(undisturbed.queries.sum()) > 1000

    def attack(limit: int | None) -> RayS:
        model = model_of(
            client.predict, tmp_path / "log", max_rows=limit, timeout=0.5, rows_per_request=8
        )
        estimator = BlackBoxClassifier(model.predict, (64,), 10, clip_values=(0, 1))
        return RayS(estimator, eps=0.1, max_queries=100, probe=False)

    stopped = attack(1000)
    with pytest.raises(AttackInterrupted, match="max_rows=1,000 is spent") as caught:
        stopped.generate(x.numpy(), y.numpy())
    assert 1000 - 8 < arrivals(tmp_path / "events") <= 1000
    result = caught.value.result
    assert stopped.last_result is result
    assert bool((network(result.x_adv).argmax(dim=1) != y)[result.success].all())
    assert bool((result.queries <= undisturbed.queries).all())
    again = attack(None)
    again.generate(x.numpy(), y.numpy())
    assert again.last_result is not None
    for name in ("x_adv", "success", "queries", "queries_to_success", "distance"):
        assert torch.equal(getattr(again.last_result, name), getattr(undisturbed, name)), name
    assert requested_again(tmp_path / "events", tmp_path / "log") == 0


def test_labels_become_one_hot_rows_for_art(tmp_path: Path) -> None:
    def predict(rows: np.ndarray) -> list[int]:
        return [1] * len(rows)

    model = RemoteClassifier(predict, answers=tmp_path, outputs="labels", num_classes=3)
    assert model(samples(2)).tolist() == [1, 1]
    assert model.predict(samples(2).numpy()).tolist() == [[0, 1, 0]] * 2
    with pytest.raises(ValueError, match="needs num_classes"):
        RemoteClassifier(predict, answers=tmp_path, outputs="labels").predict(samples(1).numpy())
    with pytest.raises(ModelStopped, match="integers >= 0"):
        RemoteClassifier(
            lambda rows: np.full(len(rows), 0.5), answers=tmp_path / "b", outputs="labels"
        )(samples(1))


def test_a_column_becomes_two_classes_for_art(tmp_path: Path) -> None:
    model = RemoteClassifier(lambda rows: np.full(len(rows), 0.25), answers=tmp_path)
    assert model(samples(2)).tolist() == [[0.25]] * 2
    assert model.predict(samples(2).numpy()).tolist() == [[0.75, 0.25]] * 2


def test_functions_of_tensors_get_tensors(tmp_path: Path) -> None:
    network = nn.Linear(12, 3)
    with pytest.raises(ValueError, match="must be in eval mode, got a network in training mode"):
        model_of(network, tmp_path / "training")
    network.eval()
    functions: list[Callable[..., Any]] = [
        network,
        local,
        lambda rows: small_net(torch.tensor(rows)),
    ]
    for number, predict in enumerate(functions):
        model = model_of(predict, tmp_path / str(number))
        assert model(samples(2)).shape == (2, 3)
        assert not model(samples(2)).requires_grad


def test_a_torn_last_record_is_dropped(tmp_path: Path) -> None:
    service = Counting()
    model_of(service, tmp_path, concurrency=1)(samples(5))
    path = next(tmp_path.glob("*.log"))
    whole = path.read_bytes()
    size = len(whole) // 5
    for content in (whole[:-7], whole[:-size] + bytes(size)):
        path.write_bytes(content)
        before = service.rows
        model = model_of(service, tmp_path)
        assert len(model.log.found) == 4
        assert torch.equal(model(samples(5)), small_net(samples(5)))
        assert service.rows == before + 1
        for other in tmp_path.glob("*.log"):
            if other != path:
                other.unlink()


def test_a_damaged_middle_is_an_error_with_its_position(tmp_path: Path) -> None:
    service = Counting()
    model_of(service, tmp_path, concurrency=1)(samples(5))
    path = next(tmp_path.glob("*.log"))
    content = bytearray(path.read_bytes())
    size = len(content) // 5
    content[2 * size + 50] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"damaged at byte {2 * size}, in record 2 of 5"):
        model_of(service, tmp_path)
    assert path.read_bytes() == content
    assert drop_damaged_answers(tmp_path) == 1
    model = model_of(service, tmp_path)
    model(samples(5))
    assert model.usage.rows_sent == 1


def test_the_log_of_another_service_is_an_error(tmp_path: Path) -> None:
    model_of(local, tmp_path)(samples(2))
    with pytest.raises(ValueError, match="its outputs is 'logits', got 'probabilities'"):
        RemoteClassifier(local, answers=tmp_path)
    with pytest.raises(ValueError, match="its name is 'local', got 'Counting'"):
        model_of(Counting(), tmp_path)
    with pytest.raises(ValueError, match=r"of rows of shape \(12,\), got \(7,\)"):
        model_of(local, tmp_path)(samples(2, features=7))
    (tmp_path / "meta.json").write_text("{")
    with pytest.raises(ValueError, match=r"meta.json is damaged"):
        model_of(local, tmp_path)
    (tmp_path / "meta.json").unlink()
    with pytest.raises(ValueError, match=r"no meta.json says of which service"):
        model_of(local, tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_cost": 3.0}, "max_cost needs cost_per_row > 0"),
        ({"rows_per_request": 0}, "rows_per_request must be an integer >= 1, got 0"),
        ({"concurrency": 0}, "concurrency must be an integer >= 1, got 0"),
        ({"rate": 0}, "rate must be > 0, got 0"),
        ({"timeout": -1}, "timeout must be > 0, got -1"),
        ({"retries": -1}, "retries must be an integer >= 0, got -1"),
        ({"backoff": 3}, "backoff must be"),
        ({"max_rows": -2}, "max_rows must be an integer >= 0, got -2"),
        ({"cost_per_row": -2}, "cost_per_row must be"),
        ({"outputs": "logit"}, "did you mean 'logits'"),
        ({"retry_on": 3}, "retry_on must be"),
        ({"num_classes": 0}, "num_classes must be an integer >= 1, got 0"),
    ],
)
def test_bad_arguments_write_nothing(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        RemoteClassifier(local, answers=tmp_path / "log", **options)
    with pytest.raises(ValueError, match="predict must be callable, got int"):
        RemoteClassifier(3, answers=tmp_path / "log")  # type: ignore[arg-type]  # for the error
    RemoteClassifier(local, answers=tmp_path / "log")
    assert not (tmp_path / "log").exists()


def test_many_answers_are_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("art_ext.models.remote.answers.FRESH", 50)
    service = Counting()
    x = samples(400)
    for count in (130, 260, 400):
        model = model_of(service, tmp_path, rows_per_request=7)
        assert torch.equal(model(x[:count]), small_net(x[:count]))
    assert len(model.log.found.segments) < 6
    assert service.rows == 400
    assert model_of(service, tmp_path, reuse=True)(x).shape == (400, 3)
    assert service.rows == 400
