"""Look at a submission folder as RobustBench's maintainers would, and recompute a sample of its
numbers.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.adapters.robustbench.info import NORMS, format_percent, problems_of
from art_ext.adapters.robustbench.texts import IMAGES, WEIGHTS, issue_of
from art_ext.adapters.robustbench.writing import EVIDENCE, ISSUE, KINDS, SUBMISSION
from art_ext.adapters.robustbench.zoo import load_zoo_model
from art_ext.core.calling import ModelCall
from art_ext.core.geometry import Box, distances, exact_mean, within_ball
from art_ext.core.losses import in_simplex, margin
from art_ext.core.networks import frozen_eval
from art_ext.core.oracle import GradientOracle, ScoreOracle
from art_ext.models import resolve_factory
from art_ext.storage import formats
from art_ext.storage.store import LocalStore

# share of verdicts that other kernels' rounding may change; adversarials lie close to the boundary
FLIPS = 0.02
REPEATED = 1e-4  # of a row's range of logits, AutoAttack's own threshold for randomised models


@dataclass(frozen=True)
class Check:
    """Outcome of one check.

    Attributes:
        name: of the check.
        ok: True if it passed. None if it could not be made.
        detail: the finding in one sentence.
    """

    name: str
    ok: bool | None
    detail: str


@dataclass(frozen=True, eq=False)
class _Folder:
    """A submission as it lies there, its tensors read without running code."""

    path: Path
    facts: Mapping[str, Any]
    evidence: Mapping[str, Tensor]
    device: torch.device | str | None
    batch_size: int

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        return LocalStore(self.path).read(name)

    def pickled(self, name: str) -> Any:
        """Return the tensors of a ``torch.save`` file, on the CPU."""
        return torch.load(io.BytesIO(self.read(name)), map_location="cpu", weights_only=True)

    def oracle(self, kind: type[Any], model: nn.Module, count: int) -> Any:
        return kind(model, count, batch_size=self.batch_size, device=self.device)

    def query(self, model: nn.Module, x: Tensor) -> tuple[Tensor, ScoreOracle]:
        """(R, K) logits of rows (R, *S), on the CPU, and the oracle that gave them."""
        with self.oracle(ScoreOracle, model, len(x)) as oracle:
            rows = x.to(oracle.device)
            return oracle.scores(rows, torch.arange(len(x), device=oracle.device)).cpu(), oracle

    def logits(self, model: nn.Module, x: Tensor) -> Tensor:
        """(R, K) of rows (R, *S), on the CPU."""
        return self.query(model, x)[0]


def check_submission(
    folder: str | os.PathLike[str],
    *,
    model_dir: str | os.PathLike[str] = "./models",
    device: torch.device | str | None = None,
    batch_size: int = 250,
) -> list[Check]:
    """Check a folder that :func:`submission` made: that it is whole, that RobustBench can load and
    attack the model, and that the numbers follow from the records and come out again on a sample.

    This runs the model's Python file, as whoever takes the submission must. Checkpoints are read as
    tensors only.

    Args:
        folder: of the submission.
        model_dir: where the zoo's checkpoints lie, for an external evaluation without a model of
            its own.
        device: where to put the model.
        batch_size: most rows in one model call.

    Returns:
        What was looked at, in order. A check is not made (ok None) if what it needs is missing or
        failed before it.

    Raises:
        ValueError: if it is no submission folder.
    """
    found = _open(Path(folder), device, batch_size)
    checks = [_guarded("weights", lambda: _weights(found))] if found.facts["model"] else []
    checks += [_guarded(name, lambda one=one: one(found)) for name, one in _PAPERS.items()]  # type: ignore[misc]
    if found.facts["kind"] == "model":
        checks.append(_guarded("model_info", lambda: _model_info(found)))
    else:
        checks.append(_guarded("adversarial images", lambda: _images(found)))
    loaded: list[nn.Module] = []
    checks.append(_guarded("model", lambda: _load(found, model_dir, loaded)))
    for name, check in _MODEL.items():
        if loaded:
            checks.append(_guarded(name, lambda check=check: check(found, loaded[0])))  # type: ignore[misc]
        else:
            checks.append(Check(name, None, "there is no model to check"))
    return checks


def _open(path: Path, device: torch.device | str | None, batch_size: int) -> _Folder:
    from safetensors import SafetensorError
    from safetensors.torch import load

    store = LocalStore(path)
    try:
        facts = json.loads(store.read(SUBMISSION))
        evidence = load(store.read(EVIDENCE))
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError(
            f"{path} must be a folder made by art-ext submit, but reading it fails: {error}"
        ) from error
    if (
        not isinstance(facts, dict)
        or facts.get("tool") != "art-ext"
        or facts.get("kind") not in KINDS
    ):
        raise ValueError(
            f"{path / SUBMISSION} must be written by art-ext submit, got something else"
        )
    formats.SUBMISSION.check(path, facts)
    return _Folder(path, facts, evidence, device, batch_size)


def _guarded(name: str, check: Callable[[], tuple[bool | None, str]]) -> Check:
    """Make a check, which fails where the folder's files or the user's model raise."""
    try:
        return Check(name, *check())
    except Exception as error:  # the user's own code can raise anything
        return Check(name, False, " ".join(f"{type(error).__name__}: {error}".split()))


# --- papers ---


def _weights(folder: _Folder) -> tuple[bool, str]:
    """Both checkpoints hold the same tensors, and nothing but tensors."""
    from safetensors.torch import load

    safe = load(folder.read(WEIGHTS[0]))
    pickled = folder.pickled(WEIGHTS[1])
    odd = [name for name in {*safe, *pickled} if not _equal(safe.get(name), pickled.get(name))]
    if odd:
        return False, f"{' and '.join(WEIGHTS)} differ in {', '.join(sorted(odd)[:5])}"
    return True, f"{' and '.join(WEIGHTS)} hold the same {len(safe)} tensors"


def _equal(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None or one.dtype != other.dtype or one.shape != other.shape:
        return False
    # as bytes: NaN equals itself
    return torch.equal(*(part.contiguous().flatten().view(torch.uint8) for part in (one, other)))


def _numbers(folder: _Folder) -> tuple[bool, str]:
    """Check that the accuracies are those of the verdicts."""
    counted = {name: exact_mean(~folder.evidence[flag]) for name, flag in _VERDICTS.items()}
    wrong = [
        f"{name} {folder.facts[name]} instead of {share}"
        for name, share in counted.items()
        if abs(folder.facts[name] - share) > 1e-9
    ]
    if len(folder.evidence["wrong"]) != folder.facts["samples"]:
        wrong.append(
            f"{len(folder.evidence['wrong'])} verdicts for {folder.facts['samples']} samples"
        )
    return not wrong, "; ".join(wrong) or "the accuracies are those of the records' verdicts"


def _issue(folder: _Folder) -> tuple[bool, str]:
    """Check that the issue says what the records say. Links may have been filled in since."""
    written = folder.read(ISSUE).decode("utf-8")
    claims = [line for line in issue_of(folder.facts).splitlines() if line[2:].startswith(_CLAIMS)]
    missing = [line for line in claims if line not in written.splitlines()]
    if missing:
        return False, f"{ISSUE} does not say {missing[0]!r}"
    left = "; its links are still to be filled in" if "(insert the URL" in written else ""
    return True, f"{ISSUE} claims what the records say{left}"


def _model_info(folder: _Folder) -> tuple[bool, str]:
    """Check that the model_info file fits the schema and has the numbers of the records."""
    facts = folder.facts
    name, dataset = facts["metadata"]["name"], facts["metadata"]["dataset"]
    file = f"model_info/{dataset}/{facts['threat_model']}/{name}.json"
    info = json.loads(folder.read(file))
    wrong = problems_of(info)
    wanted = {
        "clean_acc": "clean_accuracy",
        "reported": "robust_accuracy",
        "autoattack_acc": "autoattack_accuracy",
    }
    for key, name in wanted.items():
        claimed = None if facts[name] is None else format_percent(facts[name])
        if info.get(key) != claimed:
            wrong.append(f"{key} is {info.get(key)} instead of {claimed}")
    return (not wrong, "; ".join(wrong) or f"{file} fits RobustBench's schema")


def _images(folder: _Folder) -> tuple[bool, str]:
    """Check the tensor to submit: as many images as claimed, in the box, and among them those
    of the sample.
    """
    images = folder.pickled(IMAGES)
    index, facts = folder.evidence["index"], folder.facts
    wanted = (facts["samples"], *folder.evidence["x"].shape[1:])
    if (
        not isinstance(images, Tensor)
        or images.dtype != torch.float32
        or tuple(images.shape) != wanted
    ):
        given = (
            f"{images.dtype} {tuple(images.shape)}"
            if isinstance(images, Tensor)
            else type(images).__name__
        )
        return False, f"{IMAGES} must be float32 of shape {wanted}, got {given}"
    if not bool(((images >= 0) & (images <= 1)).all()):
        return (
            False,
            f"{IMAGES} must lie in [0, 1], got {float(images.min())} to {float(images.max())}",
        )
    if not torch.equal(images[index], folder.evidence["x_adv"]):
        return False, f"{IMAGES} differs from the sample of it in {EVIDENCE}"
    part = "" if facts["samples"] == facts["full"] else f", of a test set of {facts['full']}"
    return True, f"{facts['samples']} images in [0, 1]{part}"


def _data(folder: _Folder) -> tuple[bool | None, str]:
    """Check that the sample is what the data set has at these positions."""
    from art_ext.data import load_data

    details = folder.facts["details"]
    place, classes = details.get("data"), details.get("classes")
    order = details.get("class_order", "numeric")
    try:
        data = load_data(
            place or folder.facts["metadata"]["dataset"], class_order=order, classes=classes
        )
        data = data.first(folder.facts["samples"])
    except (ValueError, OSError, ImportError) as error:
        return None, f"the data are not at hand: {error}"
    index, evidence = folder.evidence["index"], folder.evidence
    if not torch.equal(data.y, evidence["labels"]) or not torch.equal(data.x[index], evidence["x"]):
        return False, f"the samples are not the first {folder.facts['samples']} of {place}"
    return True, f"the samples are the first {len(data)} of {place}"


# --- model ---


def _load(
    folder: _Folder, model_dir: str | os.PathLike[str], loaded: list[nn.Module]
) -> tuple[bool | None, str]:
    """Make the model from the submitted file, and fill it as RobustBench fills its own."""
    facts = folder.facts
    if facts["model"] is None:
        try:
            model = load_zoo_model(
                facts["metadata"]["name"],
                facts["metadata"]["dataset"],
                facts["threat_model"],
                model_dir=model_dir,
            )
        except (ValueError, ImportError) as error:
            return None, f"no model was submitted, and the zoo's is not at hand: {error}"
    else:
        source = facts["model"]
        made = resolve_factory(
            f"{folder.path / source['file']}:{source['factory']}", source["arguments"]
        )
        if not isinstance(made, nn.Module):
            return False, f"{source['factory']} must make an nn.Module, got {type(made).__name__}"
        state = folder.pickled(WEIGHTS[1])
        made.load_state_dict(_as_robustbench_names(state))
        model = made
    loaded.append(model.eval() if folder.device is None else model.eval().to(folder.device))
    return True, (
        "loads with RobustBench's treatment of names" if facts["model"] else "is the zoo's own"
    )


def _as_robustbench_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict after RobustBench's ``rm_substr_from_state_dict``.

    It takes the first characters off every name that has "module." or "model." anywhere in it: a
    network that holds its layers under ``self.model`` loses them.
    """
    for prefix in ("module.", "model."):
        state = {
            name[len(prefix) :] if prefix in name else name: one for name, one in state.items()
        }
    return dict(state)


def _clean(folder: _Folder, model: nn.Module) -> tuple[bool, str]:
    """Check that the clean verdicts come out again."""
    evidence = folder.evidence
    wrong = (
        folder.logits(model, evidence["x"]).argmax(dim=1) != evidence["labels"][evidence["index"]]
    )
    return _agreement("clean accuracy", wrong, evidence["wrong"][evidence["index"]])


def _robust(folder: _Folder, model: nn.Module) -> tuple[bool | None, str]:
    """Check that the stored images are in ball and box, and adversarial where recorded as such."""
    evidence, facts = folder.evidence, folder.facts
    if "x_adv" not in evidence:
        return None, "the run kept no adversarial images: evaluate with --save-images"
    x, x_adv = evidence["x"], evidence["x_adv"]
    box = Box.of((0.0, 1.0), x.shape[1:], x.device)
    outside = ~(
        within_ball(distances(x_adv, x, NORMS[facts["threat_model"]]), facts["eps"])
        & box.contains(x_adv)
    )
    if bool(outside.any()):
        first = int(evidence["index"][outside][0])
        return (
            False,
            (
                f"{int(outside.sum())} of {len(x)} images leave the ball or the box, first sample"
                f" {first}"
            ),
        )
    wrong = folder.logits(model, x_adv).argmax(dim=1) != evidence["labels"][evidence["index"]]
    return _agreement("robust accuracy", wrong, evidence["fallen"][evidence["index"]])


def _agreement(what: str, wrong: Tensor, recorded: Tensor) -> tuple[bool, str]:
    differing = wrong != recorded
    share = exact_mean(~wrong)
    detail = (
        f"{what} {share:.1%} on {len(wrong)} samples; {int(differing.sum())} verdicts differ from"
        " the records"
    )
    return exact_mean(differing) <= FLIPS, detail


def _logits(folder: _Folder, model: nn.Module) -> tuple[bool, str]:
    """Scores are logits, not probabilities."""
    outputs, oracle = folder.query(model, folder.evidence["x"])
    if oracle.reader.single_column:
        return False, "the model returns one column, RobustBench wants one logit for each class"
    if not bool(outputs.isfinite().all()):
        return False, "the model returns NaN or infinity"
    simplex = bool(in_simplex(outputs).all())
    return (
        not simplex,
        (
            "the model returns probabilities, logits are wanted"
            if simplex
            else "the model returns logits"
        ),
    )


def _deterministic(folder: _Folder, model: nn.Module) -> tuple[bool, str]:
    """Check that the same input gets the same answer."""
    first, again = (folder.logits(model, folder.evidence["x"]).cpu().double() for _ in range(2))
    spread = first.amax(dim=1) - first.amin(dim=1)
    moved = int(((first - again).abs().amax(dim=1) > REPEATED * spread).sum())
    return not moved, f"{moved} of {len(first)} answers change in a second call"


def _gradients(folder: _Folder, model: nn.Module) -> tuple[bool, str]:
    """Check that the margin of every sample changes with its input."""
    x, y = folder.evidence["x"], folder.evidence["labels"][folder.evidence["index"]]
    with folder.oracle(GradientOracle, model, len(x)) as oracle:
        rows, labels = x.to(oracle.device), y.to(oracle.device)
        found = oracle.gradient(
            rows, torch.arange(len(x), device=oracle.device), lambda z, i: margin(z, labels[i])
        )
    zero = int((found.gradient == 0).flatten(1).all(dim=1).sum())
    return not zero, f"the input gradient is zero for {zero} of {len(x)} samples"


def _no_search(folder: _Folder, model: nn.Module) -> tuple[bool, str]:
    """Check that a forward pass needs no gradient of its own, which inference mode forbids."""
    x = folder.evidence["x"][: folder.batch_size]
    device = next((one.device for one in (*model.parameters(), *model.buffers())), x.device)
    with frozen_eval(model), torch.inference_mode():
        ModelCall(model)(x.to(device))
    return True, "a prediction computes no gradients"


_CLAIMS = ("**Model identifier", "**Threat Model", "**eps", "**Clean accuracy", "**Robust accuracy")
_VERDICTS = {"clean_accuracy": "wrong", "robust_accuracy": "fallen"}
_PAPERS: dict[str, Callable[[_Folder], tuple[bool | None, str]]] = {
    "numbers": _numbers,
    "issue": _issue,
    "data": _data,
}
_MODEL: dict[str, Callable[[_Folder, nn.Module], tuple[bool | None, str]]] = {
    "clean accuracy": _clean,
    "robust accuracy": _robust,
    "logits": _logits,
    "deterministic": _deterministic,
    "input gradients": _gradients,
    "no optimisation": _no_search,
}
