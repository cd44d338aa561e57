"""A run on the limits of robustness: its numbers, its folder, and errors in one line."""

from __future__ import annotations

import errno
import json
import math
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from art_ext.cli import app
from art_ext.core.limits import (
    draw_latents,
    generator_lipschitz,
    intrinsic_robustness_bound,
    risk_on,
)
from art_ext.data import Dataset, load_data
from art_ext.evaluation import Watcher, evaluate, limits
from art_ext.evaluation.analysis.bounding import (
    AUTO_PGD,
    GIVEN,
    IN_DISTRIBUTION,
    OPTIMISE,
    PGD,
    LimitsRecords,
    limits_of,
)
from art_ext.evaluation.analysis.limits import SMALLER_RISK, Limits, LipschitzRow, Share
from art_ext.evaluation.analysis.limits_findings import findings
from art_ext.evaluation.analysis.records import load_run
from art_ext.evaluation.analysis.risks import RiskCounts
from art_ext.evaluation.execution.limits.attacks import step_size
from art_ext.evaluation.execution.limits.settings import seed_of
from art_ext.models import load_model
from art_ext.storage.store import LocalStore
from tests.toys import small_generator

ROOT = Path(__file__).parents[1]
CLASSES = 3
SHAPE = (1, 4, 4)
EPS = (0.2, 0.4)


class Generator(nn.Module):
    """Sigmoid of an affine map of latents, with an offset for each class."""

    latent_dim = 5
    num_classes = CLASSES

    def __init__(self, scale: float = 1.0, shape: tuple[int, ...] = SHAPE) -> None:
        super().__init__()
        stream = torch.Generator().manual_seed(3)
        pixels = math.prod(shape)
        self.shape = shape
        self.weight = nn.Parameter(0.4 * torch.randn(pixels, 5, generator=stream))
        self.offset = nn.Parameter(1.5 * torch.randn(CLASSES, pixels, generator=stream))
        self.scale = scale

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        images = torch.sigmoid(z @ self.weight.T + self.offset[y]) * self.scale
        return images.unflatten(1, self.shape)


class Nearest(nn.Module):
    """Class scores by the distance to the image of each class's mean latent."""

    def __init__(self, generator: Generator, noise: float = 0.0) -> None:
        super().__init__()
        stream = torch.Generator().manual_seed(5)
        means = torch.sigmoid(generator.offset.detach())
        means = means + noise * torch.randn(means.shape, generator=stream)
        self.weight = nn.Parameter(2 * means)
        self.bias = nn.Parameter(-means.square().sum(1))

    def forward(self, x: Tensor) -> Tensor:
        return 4 * (x.flatten(1) @ self.weight.T + self.bias)


GENERATOR = Generator()
MODELS = {"near": Nearest(GENERATOR), "noisy": Nearest(GENERATOR, noise=0.2)}
SHORT: dict[str, Any] = {
    "eps": EPS,
    "n": 24,
    "num_samples": 600,
    "num_latents": 30,
    "num_neighbours": 20,
    "repeats": 2,
    "alpha": 0.05,
    "attack_args": {
        "in_distribution": {"num_steps": 30, "search_steps": 2, "init_steps": 20},
        "auto_pgd": {"num_steps": 10},
        "sign_gradient": {"num_steps": 10},
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("limits") / "run"


@pytest.fixture(scope="module")
def found(folder: Path) -> Limits:
    return limits(MODELS, GENERATOR, folder, chunk_size=10, **SHORT)


def plain(result: Limits) -> dict[str, Any]:
    """Results without times."""
    content: dict[str, Any] = json.loads(result.to_json())
    for row in content["lipschitz"]:
        del row["seconds"]
    return content


# ---- numbers


def test_unconstrained_robustness_is_the_union_of_all_attacks(found: Limits, folder: Path) -> None:
    records = load_run(folder / "attacks").records
    for row in found.rows:
        own = records[(records.model == row.model) & (records.eps <= row.eps)]
        failed = own[own.success | own.already_adversarial].groupby("attack")["index"].agg(set)

        def left(*attacks: str, failed: Any = failed) -> int:
            return 24 - len(set().union(*(failed.get(attack, set()) for attack in attacks)))

        assert row.pgd.count == left(PGD)
        assert row.auto_pgd.count == left(AUTO_PGD)
        assert row.optimise == Share.of(left(OPTIMISE), 24)
        assert row.given == Share.of(left(GIVEN), 24)
        assert row.in_distribution.count == left(*IN_DISTRIBUTION)
        assert row.unconstrained.count == left(PGD, AUTO_PGD, *IN_DISTRIBUTION)
        assert row.unconstrained.count <= row.in_distribution.count
        assert (row.unconstrained.low, row.unconstrained.high) == (
            Share.of(row.unconstrained.count, 24).low,
            Share.of(row.unconstrained.count, 24).high,
        )
    # the attack found something on the images and beyond, or nothing above was tested
    assert found.rows[-1].unconstrained.count < found.rows[-1].in_distribution.count < 24


def test_adversarials_of_the_generator_are_its_images(folder: Path, found: Limits) -> None:
    """The records of the in-distribution attacks measure images that lie on the manifold."""
    assert found.models == ["near", "noisy"]
    records = load_run(folder / "attacks").records
    own = records[records.attack.isin(IN_DISTRIBUTION) & records.success]
    assert len(own) > 0
    assert (own.nearest_distance <= own.eps + 1e-6).all()


def test_bounds_hold_at_alpha_and_at_both_ends_of_its_interval(found: Limits) -> None:
    constants = {
        name: torch.tensor([row.value for row in found.lipschitz if row.estimator == name])
        for name in found.estimators
    }
    assert list(constants) == ["sampled", "spectral"]
    readings = set()
    for row in found.rows:
        smallest = min(share.value for share in row.class_risks)
        alphas = {
            "smallest class risk": smallest,
            "overall risk": row.risk.value,
            "papers' reading": row.risk.value,
            "given alpha": 0.05,
        }
        for bound in row.bounds:
            readings.add((bound.form, bound.reading, bound.estimator))
            assert bound.alpha == pytest.approx(alphas[bound.reading])
            assert bound.alpha_low <= bound.alpha <= bound.alpha_high
            for alpha, value in (
                (bound.alpha, bound.value),
                (bound.alpha_high, bound.value_low),
                (bound.alpha_low, bound.value_high),
            ):
                if bound.form == "overall" and alpha * CLASSES > 1:
                    assert math.isnan(value)
                    continue
                expected = intrinsic_robustness_bound(
                    eps=row.eps,
                    alpha=alpha,
                    lipschitz=constants[bound.estimator],
                    num_classes=CLASSES,
                    form=bound.form,
                )
                assert value == pytest.approx(float(expected.value), abs=1e-6)
            assert "L is a lower estimate" in bound.sentence
    forms = [
        ("class-wise", "smallest class risk"),
        ("overall", "overall risk"),
        ("class-wise", "papers' reading"),
        ("class-wise", "given alpha"),
        ("overall", "given alpha"),
    ]
    assert readings == {(*form, name) for form in forms for name in constants}


def test_constants_are_those_of_the_estimators(found: Limits) -> None:
    """The table holds what ``generator_lipschitz`` returns for the seed of the run."""
    expected = generator_lipschitz(
        GENERATOR, num_latents=30, num_neighbours=20, repeats=2, seed=seed_of("lipschitz", 0)
    )
    rows = [row for row in found.lipschitz if row.estimator == "sampled"]
    assert [row.value for row in rows] == pytest.approx(expected.value.tolist())
    assert [row.deviation for row in rows] == pytest.approx(expected.deviation.tolist())
    assert [row.largest for row in rows] == pytest.approx(
        expected.local.flatten(1).amax(1).tolist()
    )
    spectral = [row for row in found.lipschitz if row.estimator == "spectral"]
    assert all(high.value >= low.value for high, low in zip(spectral, rows, strict=True))
    # delta * S < 1
    assert all("largest local constant" in row.note for row in found.lipschitz)


def test_latents_near_an_error_are_counted(folder: Path, found: Limits) -> None:
    """The share of near latents is at least the risk, and the row has the class's risk."""
    risks = {row.model: row.class_risks for row in found.rows}
    wrong = {
        (model, label)
        for model, classes in risks.items()
        for label, share in enumerate(classes)
        if share.count
    }
    assert {(row.model, row.label) for row in found.expansions} == wrong
    assert wrong
    normal = NormalDist()
    for row in found.expansions:
        assert row.risk == pytest.approx(risks[row.model][row.label].value)
        assert row.risk <= row.share <= 1
        if row.risk < 1:
            least = normal.cdf(normal.inv_cdf(row.risk) + 0.5)
            assert row.least == pytest.approx(least)
    assert "Errors in the latent space" in (folder / "index.html").read_text()


def test_curves_and_points_are_those_of_the_table(found: Limits) -> None:
    assert {(curve.eps, curve.form, curve.estimator) for curve in found.curves} == {
        (eps, form, name)
        for eps in EPS
        for form in ("class-wise", "overall")
        for name in found.estimators
    }
    for curve in found.curves:
        known = [value for value in curve.values if not math.isnan(value)]
        assert known[0] == pytest.approx(1.001)  # 1 + delta at alpha 0
        assert known == sorted(known, reverse=True)
    for row in found.rows:
        own = {
            one.kind: one for one in found.points if (one.model, one.eps) == (row.model, row.eps)
        }
        assert own["unconstrained"].robustness == row.unconstrained
        assert own["in-distribution"].robustness == row.in_distribution
        assert own["in-distribution"].risk == row.risk


def test_samples_of_the_run_share_no_latents_with_a_training_set(
    folder: Path, found: Limits
) -> None:
    """``art-ext generator sample --seed 0`` draws by the seed itself."""
    assert found.facts["seed"] == 0
    with np.load(folder / "samples.npz") as archive:
        z, y = torch.from_numpy(archive["z"]), torch.from_numpy(archive["y"])
    assert y.tolist() == [place % CLASSES for place in range(24)]
    trained = draw_latents(5, y, torch.arange(24) // CLASSES, 0)
    assert not (z == trained).all(1).any()
    seeds = {seed_of(part, 0) for part in ("samples", "lipschitz", "risk")}
    assert len(seeds) == 3


@pytest.mark.parametrize(("eps", "step"), [(1, 0.1), (2, 0.3), (3, 0.5), (0.5, 0.05), (6, 1.0)])
def test_the_step_of_the_authors_pgd(eps: float, step: float) -> None:
    assert step_size(eps) == pytest.approx(step)


def test_samples_beyond_the_generator_are_not_represented(tmp_path: Path) -> None:
    """Black images are made from no latent. The model has no adversarial anywhere."""
    y = torch.zeros(6, dtype=torch.int64)
    with torch.no_grad():
        images = GENERATOR(draw_latents(5, y, torch.arange(6), 1), y)
    x = torch.cat([images[:3], torch.zeros(3, *SHAPE)])
    last = nn.Linear(16, CLASSES)
    with torch.no_grad():
        last.weight.mul_(1e-6)
        last.bias.copy_(torch.tensor([5.0, 0.0, 0.0]))
    model = nn.Sequential(nn.Flatten(), last)
    attack = {"num_steps": 5, "search_steps": 1, "init_steps": 200}
    options = {**SHORT, "attack_args": {**SHORT["attack_args"], "in_distribution": attack}}
    result = limits({"m": model}, GENERATOR, tmp_path / "run", data=(x, y), **options)
    row = result.rows[0]
    assert row.given is None  # their latents are not known
    assert row.clean.count == row.in_distribution.count == 6
    assert row.not_represented.count == 3
    assert (row.represented.count, row.represented.samples) == (3, 3)
    (finding,) = [
        one for one in result.warnings if one.kind == "not-represented" and one.eps == EPS[0]
    ]
    assert (finding.count, finding.samples) == (3, 6)
    assert "100.0 % [43.9, 100.0] without" in finding.message


# ---- the folder


class Stops(Watcher):
    """Observer that interrupts a run at a unit besides the attacks, or at an attack."""

    def __init__(self, unit: int = -1, attack: str = "") -> None:
        self.unit = unit
        self.attack = attack

    def units(self, done: int, total: int) -> None:
        if done == self.unit:
            raise KeyboardInterrupt

    def start(self, model: str, attack: str, eps: float, samples: int) -> None:
        if attack == self.attack:
            raise KeyboardInterrupt


def test_a_run_that_was_stopped_ends_with_the_same_tables(
    tmp_path: Path, found: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    for watcher in (Stops(attack=OPTIMISE), Stops(unit=1), Stops(unit=4)):
        with pytest.raises(KeyboardInterrupt):
            limits(MODELS, GENERATOR, out, chunk_size=10, watcher=watcher, **SHORT)
    kept = sorted(path.name for path in (out / "lipschitz").iterdir())
    assert 0 < len(kept) < 2 * CLASSES
    again = limits(MODELS, GENERATOR, out, chunk_size=10, **SHORT)
    assert plain(again) == plain(found)
    # a complete run computes nothing
    monkeypatch.setattr("art_ext.evaluation.execution.limits.units.run_unit", None)
    assert plain(limits(MODELS, GENERATOR, out, chunk_size=10, **SHORT)) == plain(found)


def test_a_folder_of_another_run_keeps_its_files(folder: Path, found: Limits) -> None:
    before = (folder / "limits.json").read_bytes()
    with pytest.raises(ValueError, match=r"num_latents.*30.*overwrite"):
        limits(MODELS, GENERATOR, folder, **{**SHORT, "num_latents": 31})
    with pytest.raises(ValueError, match=r"holds a run of another configuration \(generator.class"):
        limits(MODELS, Other(), folder, **SHORT)
    with pytest.raises(ValueError, match=r"another configuration \(models"):
        limits({"near": MODELS["near"]}, GENERATOR, folder, **SHORT)
    with pytest.raises(ValueError, match=r"holds another run \(eps"):
        limits(MODELS, GENERATOR, folder, **{**SHORT, "eps": 0.3})
    assert (folder / "limits.json").read_bytes() == before


class Other(Generator):
    """The generator with other weights."""

    def __init__(self) -> None:
        super().__init__()
        with torch.no_grad():
            self.offset.add_(0.1)


def test_another_alpha_needs_no_new_units(
    folder: Path, found: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("art_ext.evaluation.execution.limits.units.run_unit", None)
    options = {**SHORT, "alpha": 0.1}
    other = limits(MODELS, GENERATOR, folder, chunk_size=10, **options)
    assert {bound.alpha for bound in other.rows[0].bounds if bound.reading == "given alpha"} == {
        0.1
    }
    assert other.lipschitz == found.lipschitz


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "run"
    write = LocalStore.write

    def full(self: LocalStore, name: str, content: bytes) -> None:
        if name.startswith("lipschitz/spectral"):
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, name, content)

    options = {**SHORT, "n": 3, "eps": 0.3}
    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "write", full)
        with pytest.raises(OSError, match="No space left"):
            limits(MODELS["near"], GENERATOR, out, **options)
    assert len(list((out / "lipschitz").iterdir())) == CLASSES
    assert limits(MODELS["near"], GENERATOR, out, **options).estimators == ["sampled", "spectral"]


# ---- errors


NET = nn.Sequential(nn.Flatten(), nn.Linear(16, CLASSES))


class Deaf(Generator):
    """A generator that ignores its latents."""

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        return super().forward(torch.zeros_like(z), y)


def check_error(folder: Path, changes: Mapping[str, Any], message: str) -> None:
    """Check the one line of the error that a run with other options ends with."""
    options = {**SHORT, "n": 3, **changes}
    models = options.pop("models", NET)
    generator = options.pop("generator", GENERATOR)
    with pytest.raises(ValueError, match=message) as error:
        limits(models, generator, folder / "run", **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alpha": 1.5}, r"alpha must lie in \[0, 1\], got 1.5"),
        ({"eps": -1}, r"eps must hold at least one finite radius > 0, got \[-1\]"),
        ({"delta": 1.0}, r"delta must lie in \[0, 1\), got 1.0"),
        ({"radius": 0}, r"radius must be .*got 0"),
        (
            {"estimators": ("spectrall",)},
            r"estimators \(--estimator\) must be one of .*did you mean 'spectral'",
        ),
        ({"estimators": ()}, r"estimators \(--estimator\) must name at least one of sampled"),
        ({"priors": (0.5, 0.6, 0.1)}, r"priors must sum to 1, got the sum 1.2"),
        ({"priors": (0.5, 0.5)}, r"priors must hold one number per class"),
        ({"generator": Generator(scale=2.0)}, r"image_range=\(0, 1\), got values from"),
        ({"generator": Deaf()}, r"the generator ignores its latents z"),
        ({"generator": NET}, r"the generator Sequential must .* without latent_dim"),
        ({"generator": Generator(shape=(1, 3, 4))}, r"shape \(1, 3, 4\) do not fit the model"),
        ({"models": nn.Sequential(nn.Flatten(), nn.Linear(16, 4))}, r"has 4 classes, but the"),
        ({"models": lambda x: NET(x).detach()}, r"gradients, and the model .* gives none"),
        ({"checkpoints": True}, r"checkpoints are those of a training's folder"),
        ({"checkpoints": True, "models": "digits-cnn"}, r"folder, got the model 'digits-cnn'"),
        ({"attack_args": {"pgd": {}}}, r"attack_args must be one of 'sign_gradient'"),
        (
            {"attack_args": {"in_distribution": {"initialisation": "both"}}},
            r"in_distribution.initialisation is set by the run, .* got 'both'",
        ),
        ({"n": None}, r"n must be a number of images where no data are given"),
        ({"engine": "processes"}, r"engine 'processes' needs a source of the generator"),
    ],
)
def test_errors_name_what_was_given(
    tmp_path: Path, changes: Mapping[str, Any], message: str
) -> None:
    check_error(tmp_path, changes, message)


def test_latents_must_be_those_of_the_samples(tmp_path: Path) -> None:
    y = torch.zeros(3, dtype=torch.int64)
    z = draw_latents(5, y, torch.arange(3), 1)
    with torch.no_grad():
        x = GENERATOR(z, y)
    for latents, message in ((z[:, :4], "latents"), (z + 0.5, r"difference|differ")):
        data = Dataset("mine", x, y, latents=latents)
        with pytest.raises(ValueError, match=message):
            limits(NET, GENERATOR, tmp_path / f"run{len(message)}", data=data, **SHORT)


def drawn(count: int = 3) -> Dataset:
    """Images of the generator with their latents."""
    y = torch.arange(count) % CLASSES
    z = draw_latents(5, y, torch.arange(count), 1)
    with torch.no_grad():
        return Dataset("mine", GENERATOR(z, y), y, latents=z)


class Wide(Generator):
    """The generator with 12 classes, of which the last nine look alike."""

    num_classes = 12

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        return super().forward(z, y.clamp(max=CLASSES - 1))


class Graphless(Generator):
    """A generator that computes outside of autograd."""

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            return super().forward(z, y)


def ten_classes() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 10))


def of_shape(*shape: int) -> Dataset:
    return Dataset("mine", torch.rand(3, *shape), torch.zeros(3, dtype=torch.int64))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"data": replace(drawn(), latents=torch.zeros(3, 16))},
            r"'mine' hold latents \(key z\) of 16 columns, but the generator takes 5",
        ),
        ({"data": replace(drawn(), latents=torch.ones(3, 5))}, r"images of the latents must be"),
        ({"data": replace(drawn(), x=torch.full((3, *SHAPE), math.nan))}, r"x must be .*finite"),
        ({"data": of_shape(1, 8, 2)}, r"'mine' have samples of shape \(1, 8, 2\), but .*1, 4, 4\)"),
        (
            {"data": replace(drawn(), y=torch.tensor([0, 1, 4]))},
            r"labels of the data 'mine' must be below 3, .* got 4",
        ),
        (
            {"generator": Wide(), "models": {"mymodel": ten_classes()}},
            r"the model 'mymodel' has 10 classes, but the generator makes images of 12",
        ),
        (
            {"data": replace(drawn(), y=torch.tensor([0, 1, 11])), "models": ten_classes()},
            r"has 10 classes, but the generator makes images of 3",
        ),
        ({"generator": Graphless()}, r"must depend on its latents through autograd"),
        ({"models": lambda x: NET(x).detach()}, r"gradients, and the model .* gives none"),
        ({"models": []}, r"wanted at least one model, .* got 0 models"),
        ({"n": 0}, r"n must be at least 1, got 0"),
        ({"n": -3}, r"n must be at least 1, got -3"),
        ({"n": 2.5}, r"n must be an integer >= 1, got 2.5"),
        ({"n": True}, r"n must be an integer >= 1, got True"),
        ({"eps": "a"}, r"eps must be a number, got 'a'"),
        ({"eps": (0.5, None)}, r"eps must be a number, got None"),
        ({"attack_args": [1]}, r"attack_args must map attacks to their arguments, .*got \[1\]"),
        ({"attack_args": {"auto_pgd": 5}}, r"attack_args auto_pgd must map names .*got 5"),
        ({"full": "no"}, r"full must be True or False, got 'no'"),
        ({"estimators": 5}, r"estimators must be a list of values, got 5"),
        ({"estimators": "spectrall"}, r"must be one of .*got 'spectrall' \(did you mean"),
        ({"priors": 1.0}, r"priors must be a list of values, got 1.0"),
        ({"priors": (0, 0.5, 0.5)}, r"priors must be > 0 where the risk is measured, .*class 0"),
        ({"num_samples": 2}, r"num_samples must give every class a sample, got 2 for 3 classes"),
        ({"n": 0, "data": drawn()}, r"n must be at least 1, got 0"),
        ({"batch_size": 0}, r"batch_size must be an integer >= 1, got 0"),
        ({"chunk_size": 0}, r"chunk_size must be an integer >= 1, got 0"),
    ],
)
def test_what_is_refused_leaves_no_folder(
    tmp_path: Path, changes: Mapping[str, Any], message: str
) -> None:
    """The corrected command was refused as another run."""
    check_error(tmp_path, changes, message)
    assert not (tmp_path / "run").exists()


def test_evaluate_says_how_to_get_a_generator(tmp_path: Path) -> None:
    data = load_data("digits").first(3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(ValueError, match=r"needs a generator, got none: give --generator RUN"):
        evaluate(model, data, tmp_path, eps=0.5, norm="l2", attacks=["in_distribution"])


def test_evaluate_with_a_generator(tmp_path: Path) -> None:
    """The attack starts from the latents of the data, without a word about them."""
    y = torch.arange(6) % CLASSES
    z = draw_latents(5, y, torch.arange(6), 1)
    with torch.no_grad():
        data = Dataset("mine", GENERATOR(z, y), y, latents=z)
    outcome = evaluate(
        MODELS["near"],
        data,
        tmp_path,
        eps=EPS,
        norm="l2",
        attacks=["in_distribution"],
        attack_args={"in_distribution": {"num_steps": 5, "initialisation": "given"}},
        generator=GENERATOR,
    )
    assert [row.eps for row in outcome.rows] == list(EPS)
    facts = json.loads((tmp_path / "chunks" / "00000.json").read_text())["000"]["starts"]
    assert facts["rows"] == list(range(6))
    assert max(facts["distance"]) < 1e-4


def test_the_command_shows_no_traceback(tmp_path: Path) -> None:
    cases = {
        ("--eps", "1"): "generator must be given",
        ("--generator", "none.py:make"): "none.py",
        ("--generator", str(tmp_path)): "must be the folder of a finished art-ext generator train",
        ("--config", str(tmp_path / "no.toml")): "config must name a TOML file",
    }
    for options, message in cases.items():
        arguments = ["limits", "--model", "digits-cnn", "--untrained", *options]
        done = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "run")])
        assert done.exit_code == 2, done.output
        assert message in done.output
        assert "Traceback" not in done.output
        assert done.output.count("\n") == 1


# ---- warnings


def records(blocks: Any, run: Any, **changes: Any) -> LimitsRecords:
    constants = [
        LipschitzRow(name, label, value, math.nan, value, 10, 0, 1, 10, 0.1)
        for name, value in (("sampled", 0.1), ("spectral", 5.0))
        for label in range(CLASSES)
    ]
    known: dict[str, Any] = {
        "starts": {},
        "lipschitz": constants,
        "risks": dict.fromkeys(MODELS, RiskCounts((20, 20, 20), (200, 200, 200))),
        "delta": 1e-3,
        "radius": 0.5,
        "facts": {"generator": {"quality": {"agreement": 0.9}}},
    }
    return LimitsRecords(blocks, run, **{**known, **changes})


@pytest.fixture
def attacked(folder: Path, found: Limits) -> tuple[Any, Any]:
    loaded = load_run(folder / "attacks")
    return loaded.blocks, loaded.run


def test_a_constant_that_is_too_small_is_told(attacked: tuple[Any, Any]) -> None:
    result = limits_of(records(*attacked))
    kinds = {finding.kind for finding in result.warnings}
    assert {"bound-contradicted", "radius-too-small", "generator-labels"} <= kinds
    wrong = next(one for one in result.warnings if one.kind == "bound-contradicted")
    assert "sampled L" in wrong.message
    assert "The bounds with the spectral L hold" in wrong.message
    (small,) = [one for one in result.warnings if one.kind == "radius-too-small"]
    assert "A radius of 4 would do" in small.message  # eps .4, L .1
    assert next(one.message for one in result.warnings if one.kind == "generator-labels")


@pytest.mark.parametrize(("accuracy", "doubtful"), [(0.25, True), (0.9, False)])
def test_a_doubtful_judge_is_named(
    attacked: tuple[Any, Any], accuracy: float, doubtful: bool
) -> None:
    quality = {"agreement": 0.5, "reference_accuracy": accuracy}
    result = limits_of(records(*attacked, facts={"generator": {"quality": quality}}))
    message = next(one.message for one in result.warnings if one.kind == "generator-labels")
    assert ("is 25.0%, below 90%" in message) == doubtful


def test_a_bound_for_larger_risks_is_no_contradiction(attacked: tuple[Any, Any]) -> None:
    """The risk is 10 % on every class."""
    for alpha, applies in ((0.05, True), (0.3, False)):
        result = limits_of(records(*attacked, alpha=alpha))
        given = [bound for bound in result.rows[0].bounds if bound.reading == "given alpha"]
        assert [bound.applies for bound in given] == 4 * [applies]
        assert all(bound.applies for bound in result.rows[0].bounds if bound not in given)
        told = [one for one in result.warnings if one.kind == "bound-contradicted"]
        assert any("given alpha" in one.message for one in told) == applies
        assert all(bound.note == ("" if applies else SMALLER_RISK) for bound in given)


def test_a_model_without_an_error_is_told(attacked: tuple[Any, Any]) -> None:
    risks = {"near": RiskCounts((0, 0, 0), (200,) * 3), "noisy": RiskCounts((0, 5, 5), (200,) * 3)}
    result = limits_of(records(*attacked, risks=risks))
    levels = {one.model: one.level for one in result.warnings if one.kind == "zero-risk"}
    assert levels == {"near": "warning", "noisy": "info"}
    row = result.rows[0]
    assert all(bound.vacuous for bound in row.bounds)
    assert all("other classifiers only" in bound.note for bound in row.bounds)


def test_robustness_within_its_interval_of_a_bound_is_no_contradiction(found: Limits) -> None:
    row = found.rows[0]
    bound = row.bounds[0]
    inside = Share.of(90, 100)
    for value, kinds in ((inside.low + 1e-6, set()), (inside.low - 1e-6, {"bound-contradicted"})):
        own = replace(bound, value=value, value_low=value, value_high=value)
        tested = replace(row, in_distribution=inside, bounds=(own,), classifier=())
        told = {one.kind for one in findings([tested], found.lipschitz, 100.0, {})}
        assert told - {"zero-risk", "not-represented"} == kinds


# ---- other processes


SOURCE = """
import torch
from tests.test_limits_evaluation import GENERATOR, MODELS

def generator():
    return GENERATOR

def near():
    return MODELS["near"]
"""


@pytest.mark.slow
def test_workers_end_with_the_same_tables(tmp_path: Path, found: Limits) -> None:
    file = tmp_path / "mine.py"
    file.write_text(SOURCE)
    out = tmp_path / "run"
    options = ["--model", f"{file}:near", "--generator", f"{file}:generator", "--out", str(out)]
    config = tmp_path / "limits.toml"
    config.write_text(
        """
        eps = [0.2, 0.4]
        n = 24
        num-samples = 600
        num-latents = 30
        num-neighbours = 20
        repeats = 2
        alpha = 0.05
        chunk-size = 10

        [attack-args]
        in_distribution = { num_steps = 30, search_steps = 2, init_steps = 20 }
        auto_pgd = { num_steps = 10 }
        sign_gradient = { num_steps = 10 }
        """
    )
    workers = ["--config", str(config), "--engine", "processes", "--workers", "2"]
    done = CliRunner().invoke(app, ["limits", *options, *workers])
    assert done.exit_code == 0, done.output
    assert "Unconstrained" in done.output
    assert "L is a lower estimate" in done.output
    here = plain(found)
    there = json.loads((out / "limits.json").read_text())
    assert [{**row, "model": "near"} for row in there["rows"]] == [
        row for row in here["rows"] if row["model"] == "near"
    ]
    for row in there["lipschitz"]:
        del row["seconds"]
    assert there["lipschitz"] == here["lipschitz"]
    # the file in the folder repeats the run, and finds it complete
    again = ["limits", "--config", str(out / "config.toml"), "--out", str(out)]
    assert CliRunner().invoke(app, again).exit_code == 0


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_tables(tmp_path: Path, found: Limits) -> None:
    out = tmp_path / "run"
    script = (
        "from tests.test_limits_evaluation import *\n"
        f"limits(MODELS, GENERATOR, {str(out)!r}, chunk_size=10, **SHORT)"
    )
    for pattern in ("attacks/chunks/00000*", "attacks/chunks/00002*", "lipschitz/sampled-00001*"):
        process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT)
        while process.poll() is None and not list(out.glob(pattern)):
            time.sleep(0.01)
        assert process.poll() is None, "the run ended before it was killed"
        process.kill()
        process.wait()
    assert not (out / "limits.json").exists()
    assert plain(limits(MODELS, GENERATOR, out, chunk_size=10, **SHORT)) == plain(found)


@pytest.mark.slow
def test_checkpoints_of_a_training_are_points(tmp_path: Path) -> None:
    run = tmp_path / "net"
    train = ["train", "--data", "digits", "--model", "digits-cnn", "--recipe", "natural"]
    done = CliRunner().invoke(app, [*train, "--epochs", "2", "--out", str(run), "--quiet"])
    assert done.exit_code == 0, done.output
    generator = small_generator()
    options = {**SHORT, "n": 10, "num_samples": 50, "eps": 0.5, "checkpoints": True}
    result = limits(str(run), generator, tmp_path / "run", **options)
    assert result.models == ["net", "net epoch 1", "net epoch 2"]
    paths = [(one.path, one.step) for one in result.points if one.kind == "unconstrained"]
    assert paths == [("", 0), ("net", 1), ("net", 2)]
    # the last checkpoint has the final weights
    loaded = load_model(str(run), checkpoint="final").model
    expected = risk_on(loaded, generator, num_samples=50, seed=seed_of("risk", 0))
    assert result.rows[2].risk.count == expected.overall.count
    for folder in (run / "checkpoints").iterdir():
        shutil.rmtree(folder)
    with pytest.raises(ValueError, match=r"net holds no checkpoints"):
        limits(str(run), generator, tmp_path / "other", **options)
