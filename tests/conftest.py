"""Data and models that many tests share: real ones, small enough for every machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from art_ext.core.attacks import rays, registry
from art_ext.core.detection import registry as detectors
from art_ext.core.result import AttackResult
from art_ext.data import load_data
from art_ext.models import digits_cnn


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    # several pytest processes share the machine, and reductions over threads may round differently
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    # the width of the terminal in which the tests are started must not change tables
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without figures, which take the longest."""
    from art_ext.evaluation.report import plots

    monkeypatch.setattr(plots, "draw", lambda *arguments: [])


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs without page and plots, which are not what most tests of runs are about."""
    from art_ext.evaluation.report import page

    monkeypatch.setattr(page, "write_report", lambda *arguments: None)


@pytest.fixture
def attacks_as_before() -> Iterator[None]:
    """Attacks that a test registers are forgotten after it."""
    known = registry.names()
    yield
    for name in set(registry.names()) - set(known):
        registry.unregister(name)


@pytest.fixture
def detectors_as_before() -> Iterator[None]:
    """Detectors that a test registers are forgotten after it."""
    known = detectors.names()
    yield
    for name in set(detectors.names()) - set(known):
        detectors.unregister(name)


@pytest.fixture
def recipes_as_before() -> Iterator[None]:
    """Recipes that a test loads from files are forgotten after it."""
    from art_ext.training import RECIPES

    known = dict(RECIPES)
    yield
    RECIPES.clear()
    RECIPES.update(known)


@pytest.fixture(scope="session")
def digits() -> tuple[Tensor, Tensor]:
    """Forty test digits (40, 1, 8, 8) in [0, 1] and their classes."""
    data = load_data("digits").first(40)
    return data.x, data.y


@pytest.fixture(scope="session")
def _trained() -> tuple[nn.Module, nn.Module]:
    train = load_data("digits", split="train")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        networks = (digits_cnn(), nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
        for network in networks:
            optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
            for _ in range(6):
                for rows in torch.randperm(len(train)).split(64):
                    optimiser.zero_grad()
                    nn.functional.cross_entropy(network(train.x[rows]), train.y[rows]).backward()
                    optimiser.step()
    return networks[0].eval(), networks[1].eval()


@pytest.fixture
def digits_net(_trained: tuple[nn.Module, nn.Module]) -> nn.Module:
    """A convolutional network trained on digits, about 97 % accurate."""
    return _trained[0]


@pytest.fixture
def linear_net(_trained: tuple[nn.Module, nn.Module]) -> nn.Module:
    """A linear model trained on digits: it computes row by row, and its optimum has a closed
    form.
    """
    return _trained[1]


@pytest.fixture
def labels(linear_net: nn.Module, digits: tuple[Tensor, Tensor]) -> Tensor:
    """What the linear model says to the digits, but for three samples that it thus gets wrong."""
    y = linear_net(digits[0]).argmax(dim=1)
    y[:3] = (y[:3] + 1) % 10
    return y


@pytest.fixture
def spy_on(monkeypatch: pytest.MonkeyPatch) -> Callable[[type], dict[str, Any]]:
    """Watches the core function of a RayS shell: the dict that comes back holds the keywords
    of its last call.
    """

    def watch(shell: type) -> dict[str, Any]:
        given: dict[str, Any] = {}

        def spy(*samples: Any, **options: Any) -> AttackResult:
            given.update(options)
            return rays(*samples, **options)

        monkeypatch.setattr(shell, "_function", staticmethod(spy))
        return given

    return watch


@pytest.fixture
def art_ext_data() -> Path:
    """The folder of real data and third-party checkpoints."""
    folder = os.environ.get("ART_EXT_DATA")
    if not folder:
        pytest.skip("ART_EXT_DATA names no folder with the real data and third-party checkpoints")
    return Path(folder)


@pytest.fixture
def sample(digits: tuple[Tensor, Tensor]) -> tuple[Any, Any]:
    """Fourteen digits and their classes, as ART wants them."""
    return digits[0][:14].numpy(), digits[1][:14].numpy()


@pytest.fixture
def classifier(digits_net: nn.Module) -> Any:
    """The digits network as ART's estimator."""
    # seconds, which other tests need not wait for
    from art.estimators.classification import PyTorchClassifier

    return PyTorchClassifier(
        digits_net, nn.CrossEntropyLoss(), (1, 8, 8), 10, clip_values=(0.0, 1.0), device_type="cpu"
    )


ART_SHELLS: dict[str, dict[str, Any]] = {
    "RayS": {},
    "FrankWolfe": {"max_iter": 8},
    "FrankWolfeBlackBox": {"nb_directions": 6},
    "HMCAM": {"max_iter": 4},
    "AIFGSM": {"max_iter": 8},
    "ElasticNetPyTorch": {
        "norm": np.inf,
        "max_iter": 8,
        "binary_search_steps": 2,
        "initial_const": 1.0,
        "learning_rate": 0.1,
        "beta": 0.01,
        "eps": 0.25,
    },
    "ZooPyTorch": {
        "norm": np.inf,
        "max_iter": 8,
        "binary_search_steps": 2,
        "initial_const": 2.0,
        "learning_rate": 0.3,
        "nb_parallel": 6,
        "eps": 0.45,
    },
}


@pytest.fixture(params=ART_SHELLS)
def make(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Builds every ART shell in turn, quick and with a seed; its radius and budget separate the
    samples.
    """

    def build(classifier: Any, **options: Any) -> Any:
        import art_ext.attacks

        shell = getattr(art_ext.attacks, request.param)
        settings = {
            "eps": 0.15,
            "max_queries": 120,
            "verbose": False,
            "seed": 0,
            **ART_SHELLS[request.param],
        }
        return shell(classifier, **{**settings, **options})

    return build


@pytest.fixture
def make_run() -> Callable[..., Any]:
    """Builds a complete run in memory from the positions that each attack breaks, by model,
    attack and eps.
    """
    return _loaded_run


def _loaded_run(
    broken: dict[str, dict[str, dict[float, set[int]]]],
    *,
    samples: int = 10,
    wrong: dict[str, set[int]] | None = None,
    mode: str = "independent",
    name: str = "run",
    nearest: tuple[str, ...] = (),
    labels: list[int] | None = None,
    ids: list[int] | None = None,
    warnings: tuple[dict[str, Any], ...] = (),
    examples: Any = None,
    class_names: list[str] | None = None,
    data: str = "digits",
    targeted: str | None = None,
    norm: str = "linf",
) -> Any:
    """0.9 eps is the distance of what was broken; 7 queries until then of 10 in all."""
    import pandas as pd

    from art_ext.evaluation.analysis.blocks import blocks_of
    from art_ext.evaluation.analysis.records import LoadedRun
    from art_ext.evaluation.analysis.table import summarise

    index = np.arange(samples)
    label = np.zeros(samples, dtype=int) if labels is None else np.array(labels)
    blocks, accuracy = [], {}
    for model, attacks in broken.items():
        clean = np.isin(index, sorted((wrong or {}).get(model, ())))
        accuracy[model] = float((~clean).mean())
        fallen: dict[float, Any] = {}
        for attack, radii in attacks.items():
            for eps, positions in sorted(radii.items()):
                before = clean | np.any(
                    [hit for radius, hit in fallen.items() if radius <= eps] or [clean], axis=0
                )
                given = ~before if mode == "cascade" else np.ones(samples, dtype=bool)
                hit = np.isin(index, sorted(positions)) & given & ~clean
                far = np.where(clean, 0.0, np.where(hit, 0.9 * eps, np.inf))
                fallen[eps] = fallen.get(eps, clean) | hit
                blocks.append(
                    pd.DataFrame(
                        {
                            "index": index,
                            "id": np.array(ids or index + 1000),
                            "model": model,
                            "attack": attack,
                            "eps": eps,
                            "label": label,
                            "target": -1,
                            "clean_prediction": np.where(clean, label + 1, label),
                            "attacked": given,
                            "success": hit,
                            "already_adversarial": clean,
                            "distance": far,
                            "nearest_distance": far if attack in nearest else np.nan,
                            **dict.fromkeys(("l0", "l1", "l2", "linf"), far),
                            "queries": np.where(given, 10, 0),
                            "queries_to_success": np.where(hit, 7, -1),
                            "gradients": 0,
                            "wasted_rows": 0,
                            "seconds": 0.25,
                        }
                    )
                )
    records = pd.concat(blocks, ignore_index=True)
    names = list(dict.fromkeys(records["attack"]))
    run = {
        "arguments": {"seed": 0},
        "panel": {"name": "custom", "mode": mode},
        "settings": {
            "eps": sorted({float(eps) for eps in records["eps"]}),
            "norm": norm,
            "stop_on_success": False,
            "targeted": targeted,
            "clip_values": [0.0, 1.0],
            "max_queries": 10,
        },
        "attacks": {
            attack: {
                "nearest": attack in nearest,
                "stops_early": attack in nearest,
                "access": "labels",
                "arguments": {},
            }
            for attack in names
        },
        "data": {"name": data, "samples": samples, "shape": [1, 2, 2], "class_names": class_names},
        "clean_accuracy": accuracy,
        "protocol": ["As it was run."],
        "versions": {"python": "3"},
        "started": "today",
        "seconds": 1.5,
        "warnings": list(warnings),
    }
    whole = blocks_of(records)
    return LoadedRun(Path(name), run, whole, summarise(whole, run), examples)
