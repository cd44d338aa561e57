"""Diagnosis of the installation, without importing the toolkits that it checks.

Most problems come from packages that overwrite, rename or lack each other's files while ``pip
check`` reports nothing. ``art-ext doctor`` prints the result of ``diagnose``.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib
import platform
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import typer
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from art_ext.cli.shared import interruptible

__all__ = ["Finding", "Status", "diagnose", "doctor"]

Status = Literal["ok", "info", "problem"]
DISTRIBUTION = "art-ext"
MAPPED = ("adapters", "benchmarks")
PACKAGE = Path(__file__).parents[1]
REPAIR_ROBUSTBENCH = "pip install --no-deps --force-reinstall robustbench==1.1.1"


@dataclass(frozen=True)
class Finding:
    """Result of one check.

    Attributes:
        name: the package or the problem that was checked.
        status: ``"ok"``, ``"info"`` for an optional package that is missing or a fact worth
            knowing, or ``"problem"`` for anything that will fail.
        detail: the result in one sentence.
        remedy: the remedy, usually a command. Empty if nothing needs to be done.
    """

    name: str
    status: Status
    detail: str
    remedy: str = ""


def diagnose() -> list[Finding]:
    """Check versions, folders and known problems of the toolkits.

    Returns:
        Findings: required packages first, then optional ones.
    """
    findings = [*_own_requirements(), *(_mapped_folder(name, PACKAGE) for name in MAPPED)]
    findings += [_same_named_package(name) for name in MAPPED if find_spec(name) is not None]
    findings += [
        _extra("train"),
        _extra("report"),
        _extra("torchattacks"),
        _torchvision(),
        _timm_hub(),
        _robustbench(),
    ]
    if _version("robustbench") is not None:
        findings += [_pkg_resources(), _autoattack()]
    return [*findings, *_under_numpy_2(), _multiprocess()]


# --- versions ---


def _version(distribution: str) -> str | None:
    """Version of an installed distribution, None if it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _satisfies(version: str | None, specifier: SpecifierSet) -> bool:
    """Return True if a version is allowed. Pre-releases count as their release."""
    try:
        return version is not None and specifier.contains(Version(version).base_version)
    except InvalidVersion:
        return False


def _requirements(extra: str = "") -> list[Requirement]:
    """Return our own requirements on this machine: those of an extra, or of the base installation.

    Raises:
        PackageNotFoundError: if the source tree was never installed.
    """
    declared = [Requirement(line) for line in metadata.requires(DISTRIBUTION) or []]

    def holds(requirement: Requirement, extra: str) -> bool:
        marker = requirement.marker
        return marker is None or marker.evaluate({"extra": extra})

    base = [one for one in declared if holds(one, "")]
    return [one for one in declared if one not in base and holds(one, extra)] if extra else base


def _plain(requirement: Requirement) -> str:
    """Return a requirement as pip takes it, without its marker."""
    return f"{requirement.name}{requirement.specifier}"


def _own_requirements() -> list[Finding]:
    """Check Python and the packages of the base installation."""
    try:
        needed = _requirements()
    except metadata.PackageNotFoundError:
        detail = "the source tree is used without being installed: versions cannot be checked"
        return [Finding(DISTRIBUTION, "problem", detail, "pip install -e .")]
    findings = [Finding(DISTRIBUTION, "ok", f"version {metadata.version(DISTRIBUTION)}")]
    wanted = SpecifierSet(metadata.metadata(DISTRIBUTION)["Requires-Python"])
    fits = _satisfies(platform.python_version(), wanted)
    remedy = "" if fits else f"use a Python {wanted}"
    findings.append(
        Finding(
            "Python", "ok" if fits else "problem", f"{platform.python_version()} ({wanted})", remedy
        )
    )
    for requirement in needed:
        version = _version(requirement.name)
        fits = _satisfies(version, requirement.specifier)
        detail = f"{version or 'not installed'} ({requirement.specifier})"
        remedy = "" if fits else f'pip install "{_plain(requirement)}"'
        findings.append(Finding(requirement.name, "ok" if fits else "problem", detail, remedy))
    return findings


def _extra(extra: str) -> Finding:
    """Check the packages of an extra: installed, and in versions that fit."""
    try:
        requirements = _requirements(extra)
    except metadata.PackageNotFoundError:
        return Finding(extra, "info", "not checked: art-ext is not installed")
    versions = {requirement: _version(requirement.name) for requirement in requirements}
    missing = ", ".join(
        requirement.name for requirement, version in versions.items() if version is None
    )
    if missing:
        return Finding(
            extra, "info", f"optional, not installed: {missing}", f"pip install 'art-ext[{extra}]'"
        )
    unfit = [
        wanted for wanted, version in versions.items() if not _satisfies(version, wanted.specifier)
    ]
    detail = ", ".join(f"{requirement.name} {version}" for requirement, version in versions.items())
    if unfit:
        command = " ".join(f'"{_plain(requirement)}"' for requirement in unfit)
        return Finding(
            extra, "problem", f"{detail}: does not fit {command}", f"pip install {command}"
        )
    return Finding(extra, "ok", detail)


# --- our own folders ---


def _mapped_folder(name: str, package: Path) -> Finding:
    """Check the origin of ``art_ext.adapters`` (or ``benchmarks``) and its symbolic link.

    Args:
        name: ``"adapters"`` or ``"benchmarks"``.
        package: the folder of ``art_ext``.
    """
    title = f"art_ext.{name}"
    link = package / name
    beside = package.parent / name
    in_checkout = (package.parent / "pyproject.toml").is_file() and beside.is_dir()
    if in_checkout and not (link.is_symlink() and link.resolve() == beside.resolve()):
        detail = (
            f"art_ext/{name} must be a symbolic link to ../{name}, or mypy and import-linter"
            " skip that folder"
        )
        return Finding(
            title,
            "problem",
            detail,
            "git config core.symlinks true, then check the repository out again",
        )
    spec = find_spec(title)
    origin = spec.origin if spec is not None else None
    if origin is None or Path(origin).resolve().parent not in {link.resolve(), beside.resolve()}:
        detail = f"expected in {link}, found {origin or 'nothing'}"
        return Finding(title, "problem", detail, "pip install --force-reinstall --no-deps art-ext")
    return Finding(title, "ok", f"imported from {Path(origin).resolve().parent}")


def _same_named_package(name: str) -> Finding:
    """Check a top-level package named like one of our folders.

    Ours is ``art_ext.<name>``, so the two do not conflict.
    """
    spec = find_spec(name)
    origin = spec.origin if spec is not None else None
    if origin is not None and Path(origin).resolve().parent == (PACKAGE / name).resolve():
        detail = f"the root of the repository is on sys.path: a bare `import {name}` fails"
        return Finding(name, "info", detail, f"import art_ext.{name}, or start Python elsewhere")
    return Finding(
        name,
        "info",
        f"another project's {name} can be imported. Ours is art_ext.{name}, no conflict",
    )


# --- other toolkits ---


def _timm_hub() -> Finding:
    """Check that timm sees huggingface_hub, from which it takes pretrained weights."""
    timm, hub = _version("timm"), _version("huggingface_hub")
    if timm is None:
        return Finding("timm", "info", "optional, not installed", "pip install 'art-ext[timm]'")
    blind = _satisfies(timm, SpecifierSet("<1.0.31")) and _satisfies(hub, SpecifierSet(">=2"))
    if not blind:
        return Finding("timm", "ok", f"timm {timm}, huggingface_hub {hub or 'not installed'}")
    return Finding(
        "timm",
        "info",
        f"timm {timm} does not see huggingface_hub {hub}: its pretrained weights need --weights"
        " FILE",
        "pip install 'timm>=1.0.31' (RobustBench names timm 1.0.9, and works with this one too)",
    )


def _torchvision() -> Finding:
    """Check the import of torchvision. Its operators are compiled for one torch release."""
    version = _version("torchvision")
    if version is None:
        detail = "optional, not installed; torchattacks and RobustBench need it"
        return Finding("torchvision", "info", detail, "pip install torchvision")
    try:  # imported for real: a mismatch shows only when the operators are registered
        importlib.import_module("torchvision")
        importlib.import_module("torch").ops.torchvision.nms  # noqa: B018
    except Exception as error:  # whatever a half-built extension raises is the finding
        detail = f"torchvision {version} does not load beside torch {_version('torch')}: {error}"
        remedy = (
            "pip install --upgrade torch torchvision, both from one index (no CPU build beside a"
            " CUDA build)"
        )
        return Finding("torchvision", "problem", detail, remedy)
    return Finding("torchvision", "ok", f"{version} loads beside torch {_version('torch')}")


def _compared_files(distribution: metadata.Distribution, package: str) -> dict[str, bool]:
    """By recorded file of a package, True if it is missing or differs from its recorded hash.

    Reads RECORD itself, because from Python 3.12 on ``Distribution.files`` omits missing files.
    """
    rows = csv.reader((distribution.read_text("RECORD") or "").splitlines())
    recorded = {
        row[0]: row[1]
        for row in rows
        if len(row) == 3 and row[0].startswith(f"{package}/") and row[1]
    }
    return {
        path: _digest(Path(str(distribution.locate_file(path)))) != digest
        for path, digest in recorded.items()
    }


def _digest(path: Path) -> str:
    """Hash of a file in the format of RECORD: URL-safe base64 without padding. Empty without a
    file.
    """
    if not path.is_file():
        return ""
    return (
        "sha256="
        + base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).rstrip(b"=").decode()
    )


def _culprits(package: str, changed: list[str]) -> list[str]:
    """Other distributions whose recorded hashes match the changed files of a package."""
    others = sorted(set(metadata.packages_distributions().get(package, [])) - {package})
    claims = {name: _compared_files(metadata.distribution(name), package) for name in others}
    return [
        f"{name} {_version(name)}"
        for name in others
        if any(claims[name].get(path) is False for path in changed)
    ]


def _robustbench() -> Finding:
    """Check the package ``robustbench``. torchattacks' wheel contains a stub of that name."""
    name = "robustbench"
    if _version(name) is None:
        stub = (
            " (the folder of that name is the stub in torchattacks' wheel)"
            if find_spec(name) is not None
            else ""
        )
        remedy = (
            "pip install 'art-ext[robustbench]', after torchattacks and in a command of its own"
        )
        return Finding(name, "info", f"optional, not installed{stub}", remedy)
    distribution = metadata.distribution(name)
    differs = _compared_files(distribution, name)
    changed = [path for path in differs if differs[path]]
    if changed:
        culprits = (
            " and ".join(_culprits(name, changed))
            or "something (uninstalling torchattacks does it)"
        )
        some = ", ".join(changed[:3]) + (", ..." if len(changed) > 3 else "")
        detail = f"{culprits} overwrote or removed {len(changed)} of RobustBench's files ({some})"
        return Finding(name, "problem", detail, REPAIR_ROBUSTBENCH)
    spec = find_spec(name)
    installed = Path(str(distribution.locate_file(name))).resolve()
    if spec is None or Path(str(spec.origin)).resolve().parent != installed:
        detail = (
            f"{distribution.version} is installed, but `import {name}` finds {spec and spec.origin}"
        )
        return Finding(
            name, "info", detail, "leave that folder, unless it is a checkout of RobustBench"
        )
    versions = _extra(name)
    return (
        versions
        if versions.status == "problem"
        else Finding(name, "ok", f"{distribution.version}, its own files")
    )


def _pkg_resources() -> Finding:
    """Check pkg_resources, which RobustBench 1.1.1 imports and setuptools removed."""
    version = _version("setuptools")
    if find_spec("pkg_resources") is None:
        detail = f"RobustBench imports pkg_resources, which setuptools {version} no longer carries"
        return Finding("pkg_resources", "problem", detail, 'pip install "setuptools<81"')
    return Finding("pkg_resources", "ok", f"in setuptools {version}")


def _autoattack() -> Finding:
    """Check ``autoattack``, which RobustBench imports.

    RobustBench's dependency installs ``pyautoattack``, which has another signature.
    """
    if find_spec("autoattack") is not None:
        return Finding("autoattack", "ok", "the package that RobustBench imports is installed")
    version = _version("pyautoattack")
    if version is None:
        detail = "RobustBench imports autoattack, and neither it nor pyautoattack is installed"
        return Finding("autoattack", "problem", detail, 'pip install "pyautoattack>=0.2,<0.3"')
    detail = (
        f"RobustBench imports autoattack, but its dependency installs pyautoattack ({version}),"
        " whose signature differs: a bare `import robustbench` fails"
    )
    remedy = (
        "import it with art_ext.adapters.robustbench.import_robustbench(), which bridges the two"
    )
    return Finding("autoattack", "info", detail, remedy)


def _under_numpy_2() -> list[Finding]:
    """Check the parts of ART that return or pass float64 under NumPy 2.

    The network of a PyTorchClassifier does not accept float64.
    """
    version = _version("numpy")
    affected = {
        "ART's HopSkipJump and BoundaryAttack": (
            f"fail on PyTorch models with numpy {version} (double images for float weights); our"
            " attacks do not",
            'compare with them in an environment of their own: pip install "numpy<2"',
        ),
        "ART's numpy preprocessing defences": (
            f"some, such as FeatureSqueezing, return float64 with numpy {version}, and predict of a"
            " PyTorchClassifier with float32 weights fails. Our attacks call that predict",
            "begin the network with a layer that returns x.float(), or pip install"
            ' "numpy<2" in its own environment',
        ),
    }
    if version is None or _satisfies(version, SpecifierSet("<2")):
        return [Finding(name, "ok", f"run with numpy {version}") for name in affected]
    return [Finding(name, "info", detail, remedy) for name, (detail, remedy) in affected.items()]


def _multiprocess() -> Finding:
    """Check multiprocess, which ART's AutoAttack imports and ART does not declare."""
    if find_spec("multiprocess") is None:
        detail = (
            "optional, not installed; ART's AutoAttack imports multiprocess without declaring it"
        )
        return Finding("multiprocess", "info", detail, "pip install multiprocess")
    return Finding("multiprocess", "ok", f"{_version('multiprocess')}, for ART's AutoAttack")


def doctor() -> None:
    """Check the installation and explain known problems. Exit with 1 if there is a problem."""
    with interruptible():
        findings = diagnose()
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        typer.echo(f"{finding.status:7}  {finding.name:{width}}  {finding.detail}")
        if finding.remedy:
            typer.echo(f"{'':7}  {'':{width}}  -> {finding.remedy}")
    if any(finding.status == "problem" for finding in findings):
        raise typer.Exit(1)
