"""RobustBench's models from files that the tests write, and its evaluation."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from art_ext.adapters.robustbench import evaluate, import_robustbench, load_zoo_model
from art_ext.core.result import AttackResult

# RobustBench and timm warn of their own imports; none of it is ours
pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning"
)
NAME, ENSEMBLE = "Mine2026Robust", "Mine2026Ensemble"


def tiny() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 10))


class Members(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.models = nn.ModuleList([tiny(), tiny()])

    def forward(self, x: Tensor) -> Tensor:
        return sum(one(x) for one in self.models)


@pytest.fixture(scope="module")
def utils() -> ModuleType:
    import_robustbench()
    return sys.modules["robustbench.utils"]


@pytest.fixture
def folder(utils: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where checkpoints lie; the zoo knows two small models more, and anything that downloads
    fails.
    """
    models = utils.all_models[utils.BenchmarkDataset("cifar10")][utils.ThreatModel("Linf")]
    monkeypatch.setitem(models, NAME, {"model": tiny, "gdrive_id": "drive-0"})
    monkeypatch.setitem(models, ENSEMBLE, {"model": Members, "gdrive_id": ["drive-0", "drive-1"]})

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError(f"the network was asked for {arguments}")

    monkeypatch.setattr(utils, "download_gdrive_new", refuse)
    folder = tmp_path / "models" / "cifar10" / "Linf"
    folder.mkdir(parents=True)
    return folder


def load(folder: Path, name: str = NAME, **options: Any) -> nn.Module:
    return load_zoo_model(name, model_dir=folder.parent.parent, **options)


def same(model: nn.Module, state: dict[str, Tensor]) -> bool:
    own = model.state_dict()
    return own.keys() == state.keys() and all(torch.equal(own[name], state[name]) for name in own)


class TestLoading:
    @pytest.mark.parametrize(
        "wrap",
        [
            lambda state: state,
            lambda state: {"state_dict": state, "epoch": 3},
            lambda state: {f"module.{name}": one for name, one in state.items()},
            lambda state: {
                "state_dict": {f"module.model.{name}": one for name, one in state.items()}
            },
        ],
        ids=["plain", "wrapped", "module", "module-model"],
    )
    def test_state_dicts_in_the_ways_that_robustbench_takes(
        self, folder: Path, wrap: Callable[..., Any]
    ) -> None:
        state = tiny().state_dict()
        torch.save(wrap(state), folder / f"{NAME}.pt")
        model = load(folder)
        assert same(model, state)
        assert not model.training

    def test_it_gives_what_robustbench_gives(self, folder: Path, utils: ModuleType) -> None:
        # a normalisation of the definition that the published file lacks: RobustBench takes it all
        # the same
        name, threat = "Hendrycks2020AugMix_WRN", "corruptions"
        corruptions = folder.parent / threat
        corruptions.mkdir()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            state = utils.all_models[utils.BenchmarkDataset("cifar10")][utils.ThreatModel(threat)][
                name
            ]["model"]()
        published = {
            key: one for key, one in state.state_dict().items() if key not in ("mu", "sigma")
        }
        torch.save(
            {"state_dict": {f"module.{key}": one for key, one in published.items()}},
            corruptions / f"{name}.pt",
        )
        ours = load(folder, name, threat_model=threat)
        theirs = utils.load_model(name, folder.parent.parent, "cifar10", threat)
        assert same(ours, theirs.state_dict())
        assert same(load(folder, name, threat_model="corruptions_3d"), ours.state_dict())

    def test_safetensors(self, folder: Path) -> None:
        state = tiny().state_dict()
        save_file(state, folder / f"{NAME}.safetensors")
        assert same(load(folder), state)

    @pytest.mark.parametrize("form", ["{}.pt_m{}.pt", "{}_m{}.pt"])
    def test_ensembles_have_a_file_for_each_member(self, folder: Path, form: str) -> None:
        states = [tiny().state_dict(), tiny().state_dict()]
        torch.save(states[0], folder / form.format(ENSEMBLE, 0))
        with pytest.raises(ValueError, match=f"{ENSEMBLE}_m1.pt.*drive-1"):
            load(folder, ENSEMBLE)
        torch.save(states[1], folder / form.format(ENSEMBLE, 1))
        model = load(folder, ENSEMBLE)
        assert all(
            same(model.get_submodule(f"models.{number}"), states[number]) for number in range(2)
        )

    def test_a_model_of_timm_takes_its_weights_from_the_file(
        self, folder: Path, utils: ModuleType, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        timm = utils.timm

        class Net(nn.Module):
            def __init__(self, num_classes: int = 10, in_chans: int = 3) -> None:
                super().__init__()
                self.num_classes = num_classes
                self.head = nn.Linear(12, num_classes)

        def mine2026timm_cifar10_linf(pretrained: bool = False, **options: Any) -> nn.Module:
            assert pretrained
            return timm.models.build_model_with_cfg(
                Net, "mine2026timm_cifar10_linf", pretrained, **options
            )

        module = sys.modules[__name__]
        monkeypatch.setattr(
            module,
            "default_cfgs",
            {"mine2026timm_cifar10_linf": {"url": "https://example.org/net", "classifier": ()}},
            raising=False,
        )
        timm.models.register_model(mine2026timm_cifar10_linf)
        models = utils.all_models[utils.BenchmarkDataset("cifar10")][utils.ThreatModel("Linf")]
        monkeypatch.setitem(models, "Mine2026Timm", {"model": None, "gdrive_id": None})
        with pytest.raises(ValueError, match=r"Mine2026Timm\.pt.*https://example\.org/net"):
            load(folder, "Mine2026Timm")
        state = Net().state_dict()
        torch.save(state, folder / "Mine2026Timm.pt")
        assert same(load(folder, "Mine2026Timm"), state)

    def test_download_is_robustbenchs_own(
        self, folder: Path, utils: ModuleType, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        state = tiny().state_dict()
        asked = []

        def fetch(drive: str, path: str) -> None:
            asked.append((drive, Path(path)))
            torch.save(state, path)

        monkeypatch.setattr(utils, "download_gdrive_new", fetch)
        (folder / "elsewhere").mkdir()
        assert same(load_zoo_model(NAME, model_dir=folder / "new", download=True), state)
        assert asked == [("drive-0", folder / "new" / "cifar10" / "Linf" / f"{NAME}.pt")]
        save_file(state, folder / f"{NAME}.safetensors")
        assert same(load(folder, download=True), state)
        assert len(asked) == 1  # what is there is not fetched again, whatever its name


class TestRefusing:
    def test_web_page(self, folder: Path) -> None:
        (folder / f"{NAME}.pt").write_text("<!DOCTYPE html><title>Quota exceeded</title>")
        with pytest.raises(
            ValueError,
            match=r"web page.*Google Drive.*quota.*https://drive.google.com/uc\?id=drive-0",
        ):
            load(folder, trust_checkpoint=True)

    def test_code_is_run_for_trusted_files_only(self, folder: Path, tmp_path: Path) -> None:
        witness = tmp_path / "executed"

        class Code:
            def __reduce__(self) -> tuple[Any, ...]:
                return os.mkdir, (str(witness),)

        state = tiny().state_dict()
        torch.save({"state_dict": state, "code": Code()}, folder / f"{NAME}.pt")
        with pytest.raises(ValueError, match=r"code in it is not executed.*trust_checkpoint=True"):
            load(folder)
        assert not witness.exists()
        assert same(load(folder, trust_checkpoint=True), state)
        assert witness.exists()

    def test_damaged_file(self, folder: Path) -> None:
        torch.save(tiny().state_dict(), folder / f"{NAME}.pt")
        (folder / f"{NAME}.pt").write_bytes((folder / f"{NAME}.pt").read_bytes()[:200])
        with pytest.raises(ValueError, match=rf"{NAME}\.pt must be"):
            load(folder)

    def test_missing_file_tells_what_was_looked_for(self, folder: Path) -> None:
        with pytest.raises(ValueError, match="download=True") as refused:
            load(folder)
        wanted = (
            folder / f"{NAME}.pt",
            folder / f"{NAME}.safetensors",
            "https://drive.google.com/uc?id=drive-0",
        )
        assert all(str(one) in str(refused.value) for one in wanted)
        assert not any(folder.iterdir())

    def test_unknown_name(self, folder: Path) -> None:
        with pytest.raises(ValueError, match=r"similar: .*Wong2020Fast"):
            load(folder, "wong2020fats")
        with pytest.raises(ValueError, match=r"one of \(cifar10, L2\)"):
            load(folder, "Rony2019Decoupling")
        with pytest.raises(
            ValueError,
            match="dataset must be one of 'cifar10', 'cifar100', 'imagenet', got 'mnist'",
        ):
            load(folder, dataset="mnist")

    def test_weights_that_torchvision_would_download(self, folder: Path) -> None:
        with pytest.raises(ValueError, match="no checkpoint file"):
            load(folder, "Standard_R50", dataset="imagenet")

    def test_weights_that_do_not_fit(self, folder: Path) -> None:
        torch.save(nn.Linear(3, 3).state_dict(), folder / f"{NAME}.pt")
        with pytest.raises(ValueError, match=rf"{NAME}\.pt does not fit {NAME}.*1\.weight"):
            load(folder)


class TestEvaluation:
    @pytest.fixture
    def autoattack(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        """A stand-in for the adapter that breaks each third sample; the dict holds what it was
        given.
        """
        given: dict[str, Any] = {}

        def run_autoattack(model: nn.Module, x: Tensor, y: Tensor, **options: Any) -> AttackResult:
            given.update(options, x=x, training=model.training)
            wrong = model(x).argmax(dim=1) != y
            count = torch.zeros(len(x), dtype=torch.int64)
            return AttackResult(
                x_adv=x,
                success=(torch.arange(len(x)) % 3 == 0) & ~wrong,
                already_adversarial=wrong,
                distance=count.float(),
                x_nearest=None,
                queries=count,
                queries_to_success=count,
                gradients=count,
                wasted_rows=count,
                norm=options["norm"],
                eps=options["eps"],
                seed=options["seed"],
                stop_on_success=True,
            )

        module = ModuleType("art_ext.adapters.autoattack")
        vars(module).update(run_autoattack=run_autoattack)
        monkeypatch.setitem(sys.modules, "art_ext.adapters.autoattack", module)
        return given

    def test_it_unpacks_into_the_pair_of_benchmark(
        self, autoattack: dict[str, Any], digits_net: nn.Module, digits: tuple[Tensor, Tensor]
    ) -> None:
        x, y = digits
        y = y.clone()
        y[:2] = (y[:2] + 1) % 10
        found = evaluate(
            digits_net, "digits", "L2", 0.5, x=x, y=y, n_examples=24, seed=3, state_dir="here"
        )
        clean, robust = found
        right = digits_net(x[:24]).argmax(dim=1) == y[:24]
        assert clean == found.clean_accuracy == pytest.approx(float(right.float().mean()))
        assert robust == pytest.approx(float((right & (torch.arange(24) % 3 != 0)).float().mean()))
        assert (found.samples, found.dataset, found.threat_model, found.eps) == (
            24,
            "digits",
            "L2",
            0.5,
        )
        wanted = {"norm": "l2", "eps": 0.5, "seed": 3, "version": "standard", "state_dir": "here"}
        assert {name: autoattack[name] for name in wanted} == wanted

    def test_data_come_from_local_files(
        self, autoattack: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import numpy as np

        monkeypatch.delenv("ART_EXT_DATA", raising=False)
        images = np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32), dtype=np.uint8)
        np.savez(tmp_path / "cifar10_test.npz", x_test=images, y_test=np.arange(5))
        model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)).eval()
        found = evaluate(model, data_dir=tmp_path)
        assert (found.samples, found.dataset) == (5, "cifar10")
        assert torch.equal(autoattack["x"], torch.from_numpy(images) / 255)
        with pytest.raises(ValueError, match="ART_EXT_DATA"):
            evaluate(model)

    def test_training_mode_is_warned_of_and_put_back(
        self,
        autoattack: dict[str, Any],
        digits: tuple[Tensor, Tensor],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        model = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(64, 10)).train()
        evaluate(model, "digits", x=digits[0], y=digits[1])
        assert autoattack["training"] is False
        assert all(part.training for part in model.modules())
        assert "training mode" in caplog.text

    def test_what_it_does_not_measure_is_refused(
        self, digits_net: nn.Module, digits: tuple[Tensor, Tensor]
    ) -> None:
        with pytest.raises(
            ValueError, match="threat_model must be one of 'Linf', 'L2', got 'corruptions'"
        ):
            evaluate(digits_net, "digits", "corruptions")
        with pytest.raises(ValueError, match="x and y go together, got x alone"):
            evaluate(digits_net, "digits", x=digits[0])


@pytest.mark.slow
def test_evaluation_agrees_with_benchmark(
    utils: ModuleType,
    linear_net: nn.Module,
    digits: tuple[Tensor, Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, y = digits[0][:16], digits[1][:16]
    benchmark = import_robustbench().benchmark
    monkeypatch.setattr(
        sys.modules["robustbench.eval"], "load_clean_dataset", lambda *arguments: (x, y)
    )
    theirs = benchmark(linear_net, n_examples=16, eps=0.08, batch_size=16)
    ours = evaluate(linear_net, "digits", eps=0.08, x=x, y=y, batch_size=16)
    assert 0 < theirs[1] < theirs[0]
    assert tuple(ours) == pytest.approx(theirs)
    assert ours.result.accuracies["clean"] == ours.clean_accuracy
