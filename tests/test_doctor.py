"""The doctor: what it says of this installation, and of installations that were broken on
purpose.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from art_ext.cli import doctor
from art_ext.cli.doctor import Finding, diagnose

ROOT = Path(__file__).parent.parent
REPAIR = "pip install --no-deps --force-reinstall robustbench==1.1.1"


def by_name() -> dict[str, Finding]:
    findings = diagnose()
    named = {finding.name: finding for finding in findings}
    assert len(named) == len(findings), "two findings share a name"
    return named


def install(site: Path, name: str, version: str, files: dict[str, str]) -> None:
    """Write a distribution as pip would: the files, METADATA and a RECORD with their hashes."""
    record = []
    for path, text in files.items():
        target = site / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        digest = (
            base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        )
        record.append(f"{path},sha256={digest},{len(text)}")
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "RECORD").write_text("\n".join(record) + "\n")
    (info / "top_level.txt").write_text(
        "\n".join(sorted({path.split("/")[0] for path in files})) + "\n"
    )


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is searched before the real site-packages."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return folder


def without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Pretend that packages (by import name and by distribution) are not installed."""
    real_version, real_spec = metadata.version, importlib.util.find_spec

    def version(name: str) -> str:
        if name in names:
            raise metadata.PackageNotFoundError(name)
        return real_version(name)

    monkeypatch.setattr(doctor.metadata, "version", version)
    monkeypatch.setattr(
        doctor, "find_spec", lambda name: None if name in names else real_spec(name)
    )


def test_this_installation_has_no_problem() -> None:
    findings = by_name()
    assert [finding for finding in findings.values() if finding.status == "problem"] == []
    needed = (
        "torch",
        "numpy",
        "adversarial-robustness-toolbox",
        "scikit-learn",
        "safetensors",
        "tqdm",
        "typer",
    )
    beside = (
        "art_ext.adapters",
        "art_ext.benchmarks",
        "torchvision",
        "torchattacks",
        "robustbench",
        "pkg_resources",
    )
    assert {findings[name].status for name in ("Python", *needed, *beside)} == {"ok"}
    assert findings["torch"].detail.startswith(metadata.version("torch"))


def test_toolkits_are_not_imported() -> None:
    code = (
        "import sys; from art_ext.cli.doctor import diagnose; diagnose(); "
        "print([name for name in ('art', 'torchattacks', 'robustbench', 'pandas') if name in sys.modules])"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert output.strip() == "[]"


def test_optional_things_that_are_missing_are_never_problems(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without(
        monkeypatch,
        "pandas",
        "torchattacks",
        "torchvision",
        "robustbench",
        "pyautoattack",
        "multiprocess",
    )
    findings = by_name()
    assert [finding for finding in findings.values() if finding.status == "problem"] == []
    for name in ("report", "torchattacks", "torchvision", "robustbench", "multiprocess"):
        assert findings[name].status == "info"
        assert "not installed" in findings[name].detail
        assert findings[name].remedy.startswith("pip install")
    assert "pandas" in findings["report"].detail
    assert "pyarrow" not in findings["report"].detail


@pytest.mark.parametrize(
    ("version", "specifier", "fits"),
    [
        ("2.13.0+cpu", ">=2.6", True),
        ("2.6.0", ">=2.6", True),
        ("2.5.1", ">=2.6", False),
        ("1.9", ">=1.26", False),
        ("1.20", "<1.21,>=1.20.0", True),
        ("1.21.0", "<1.21,>=1.20", False),
        ("1.1.1", "==1.1.1", True),
        ("1.1.2", "==1.1.1", False),
        ("9.9", "", True),
        ("2.6.0rc1", ">=2.6", True),
        ("2.7.0.dev20250101+cpu", ">=2.6", True),
        ("1.25", "~=1.26", False),
        ("unknown", ">=1", False),
    ],
)
def test_version_comparison(
    site: Path, monkeypatch: pytest.MonkeyPatch, version: str, specifier: str, fits: bool
) -> None:
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: [f"some{specifier}"])
    install(site, "some", version, {})
    finding = by_name()["some"]
    assert finding.status == ("ok" if fits else "problem")
    assert finding.detail.startswith(f"{version} (")


def test_a_requirement_of_another_system_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["tqdm>=4", "nothing>=1; sys_platform == 'amiga'", "nothing; extra == 'test'"]
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: lines)
    found = by_name()
    assert found["tqdm"].status == "ok"
    assert "nothing" not in found


def test_an_old_or_missing_base_package_is_a_problem(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(site, "tqdm", "4.1", {})
    without(monkeypatch, "safetensors")
    findings = by_name()
    assert findings["tqdm"] == Finding(
        "tqdm", "problem", "4.1 (>=4.65)", 'pip install "tqdm>=4.65"'
    )
    assert findings["safetensors"].status == "problem"
    assert "not installed" in findings["safetensors"].detail
    assert findings["torch"].status == "ok"


def test_an_installed_extra_in_a_wrong_version_is_a_problem(site: Path) -> None:
    install(site, "jinja2", "2.0", {})
    finding = by_name()["report"]
    assert finding.status == "problem"
    assert finding.remedy == 'pip install "jinja2>=3.1"'


@pytest.mark.parametrize(("python", "asked"), [("3.10", False), ("3.99", True)])
def test_what_only_older_pythons_need(
    monkeypatch: pytest.MonkeyPatch, python: str, asked: bool
) -> None:
    lines = [
        'accelerate<2,>=1.2; extra == "train"',
        f'tomli>=2; python_version < "{python}" and extra == "train"',
    ]
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: lines)
    without(monkeypatch, "accelerate", "tomli")
    assert ("tomli" in by_name()["train"].detail) == asked
    assert "accelerate" in by_name()["train"].detail


def test_a_tree_that_was_never_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(doctor.metadata, "requires", missing)
    finding = by_name()["art-ext"]
    assert (finding.status, finding.remedy) == ("problem", "pip install -e .")


def test_torchattacks_stub_over_robustbench_is_named(site: Path) -> None:
    own = {
        "robustbench/__init__.py": "from .eval import benchmark\n",
        "robustbench/eval.py": "def benchmark(): ...\n",
    }
    stub = {
        "robustbench/__init__.py": "# from .eval import benchmark\n",
        "torchattacks/__init__.py": "",
    }
    install(site, "robustbench", "1.1.1", own)
    install(site, "torchattacks", "3.5.1", stub)
    finding = by_name()["robustbench"]
    assert (finding.status, finding.remedy) == ("problem", REPAIR)
    assert "torchattacks 3.5.1 overwrote or removed 1 of RobustBench's files" in finding.detail
    assert "robustbench/__init__.py" in finding.detail
    assert "eval.py" not in finding.detail


def test_files_that_an_uninstall_took_away_are_found(site: Path) -> None:
    install(
        site,
        "robustbench",
        "1.1.1",
        {"robustbench/__init__.py": "", "robustbench/utils.py": "x = 1\n"},
    )
    (site / "robustbench" / "utils.py").unlink()
    finding = by_name()["robustbench"]
    assert finding.status == "problem"
    assert "robustbench/utils.py" in finding.detail


def test_another_release_of_robustbench_is_a_problem(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(site, "robustbench", "1.0", {"robustbench/__init__.py": ""})
    monkeypatch.delitem(sys.modules, "robustbench", raising=False)
    finding = by_name()["robustbench"]
    assert (finding.status, finding.remedy) == ("problem", 'pip install "robustbench==1.1.1"')


def test_a_robustbench_folder_that_hides_the_installed_one(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (site / "robustbench").mkdir()
    (site / "robustbench" / "__init__.py").write_text("")
    monkeypatch.delitem(sys.modules, "robustbench", raising=False)
    finding = by_name()["robustbench"]
    assert finding.status == "info"
    assert str(site) in finding.detail


def test_stub_alone_is_explained(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(site, "torchattacks", "3.5.1", {"robustbench/__init__.py": ""})
    real = metadata.version
    monkeypatch.setattr(
        doctor, "_version", lambda name: None if name == "robustbench" else real(name)
    )
    finding = by_name()["robustbench"]
    assert finding.status == "info"
    assert "stub in torchattacks' wheel" in finding.detail


def test_what_robustbench_cannot_import_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "pkg_resources", "pyautoattack", "autoattack")
    findings = by_name()
    assert findings["pkg_resources"].remedy == 'pip install "setuptools<81"'
    assert findings["pkg_resources"].status == findings["autoattack"].status == "problem"
    assert findings["autoattack"].remedy == 'pip install "pyautoattack>=0.2,<0.3"'


def test_real_autoattack_is_ok_and_pyautoattack_is_explained(site: Path) -> None:
    finding = by_name()["autoattack"]
    assert finding.status == "info"
    assert "import_robustbench" in finding.remedy
    (site / "autoattack.py").write_text("")
    assert by_name()["autoattack"].status == "ok"


@pytest.mark.parametrize(
    ("timm", "hub", "blind"),
    [("1.0.9", "2.4.0", True), ("1.0.31", "2.4.0", False), ("1.0.9", "0.34.0", False)],
)
def test_timm_and_the_hub(
    timm: str, hub: str, blind: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = {"timm": timm, "huggingface_hub": hub}
    monkeypatch.setattr(doctor, "_version", versions.get)
    finding = doctor._timm_hub()
    assert finding.status == ("info" if blind else "ok")
    assert ("does not see huggingface_hub 2.4.0" in finding.detail) == blind
    assert finding.remedy.startswith("pip install 'timm>=1.0.31'") == blind


def test_torchvision_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(doctor.importlib, "import_module", broken)
    finding = by_name()["torchvision"]
    assert finding.status == "problem"
    assert "torchvision::nms" in finding.detail


@pytest.mark.parametrize("name", ["adapters", "benchmarks"])
def test_foreign_package_of_our_folders_name_is_fine(name: str, site: Path) -> None:
    (site / name).mkdir()
    (site / name / "__init__.py").write_text("")
    finding = by_name()[name]
    assert finding.status == "info"
    assert f"art_ext.{name}" in finding.detail
    assert by_name()[f"art_ext.{name}"].status == "ok"


def test_root_on_the_path_is_told_from_a_foreign_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)
    assert "fails" in by_name()["adapters"].detail


def test_link_checked_out_as_a_plain_file(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "art_ext").mkdir()
    shutil.copytree(ROOT / "adapters", tmp_path / "adapters")
    link = tmp_path / "art_ext" / "adapters"
    link.write_text("../adapters")
    finding = doctor._mapped_folder("adapters", tmp_path / "art_ext")
    assert finding.status == "problem"
    assert "core.symlinks" in finding.remedy
    link.unlink()
    link.symlink_to("../adapters")
    elsewhere = doctor._mapped_folder("adapters", tmp_path / "art_ext")
    # the link is sound, but Python finds ours
    assert elsewhere.status == "problem"
    assert elsewhere.detail.startswith(f"expected in {link}, found ")


@pytest.mark.parametrize(("version", "status"), [("1.26.4", "ok"), ("2.4.6", "info")])
def test_numpy_2_and_decision_based_baselines(
    version: str, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = metadata.version
    monkeypatch.setattr(doctor, "_version", lambda name: version if name == "numpy" else real(name))
    assert by_name()["ART's HopSkipJump and BoundaryAttack"].status == status
