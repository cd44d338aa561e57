"""The source text of the ART classes of detectors."""

from __future__ import annotations

import inspect

from art_ext.core.detection.registry import DetectorSpec, is_built_in, specs
from art_ext.shells.text import argument_texts, docstring, paragraph, spelled, valued

FEATURES = "a ``PyTorchClassifier``, from whose network the features come."
SCORES = "any ART classifier. Its preprocessing defences are applied."
SHARED = {  # arguments that every class has, with annotation, default and description
    "fpr": ("float", 0.05, "false-positive rate at which ``fit`` sets the threshold, in (0, 1)."),
    "calibration": (
        "float",
        0.2,
        "share of x that ``fit`` draws at random to set the threshold, in (0, 1).",
    ),
    "outputs": (
        "str",
        "logits",
        '``"logits"`` or ``"probabilities"``: the outputs of the classifier.',
    ),
    "seed": ("int", 0, "key of all random choices."),
}


def listed() -> list[DetectorSpec]:
    """Return the detectors of art-ext that have a class for ART."""
    return [spec for spec in specs() if is_built_in(spec) and spec.art]


def source(spec: DetectorSpec) -> str:
    """Return the source text of a class, before it is formatted."""
    kind = spec.kind
    own = {name: one for name, one in inspect.signature(kind).parameters.items() if name != "seed"}
    names = [*own, *SHARED]
    notes = (
        f"``art_ext.core.detection.{kind.__name__}`` documents the method. ``detector`` is the"
        " fitted one."
    )
    about = [spec.summary, "", paragraph(notes, 4), "", f"    | Paper link: {spec.url}"]
    lines = [f"class {spec.art}(CoreDetector):", docstring(about, 4), ""]
    lines += [f"    _kind = {kind.__name__}"]
    lines += [f"    defence_params: ClassVar[list[str]] = {names!r}".replace("'", '"'), ""]
    base = "PyTorchClassifier" if kind.needs_features else "BaseEstimator"
    lines += ["    def __init__(self,", f"        classifier: {base},"]
    lines += [
        f"        {name}: {spelled(one.annotation)} = {valued(one.default)},"
        for name, one in own.items()
    ]
    lines += [
        f"        {name}: {annotation} = {valued(default)},"
        for name, (annotation, default, _) in SHARED.items()
    ]
    lines += ["    ) -> None:"]
    texts = {**argument_texts(kind), **{name: one[2] for name, one in SHARED.items()}}
    described = [f"classifier: {FEATURES if kind.needs_features else SCORES}"]
    described += [f"{name}: {texts[name]}" for name in names]
    entries = [paragraph(text, 12, 16) for text in described]
    lines += [docstring(["Create the detector.", "", "        Args:", *entries], 8)]
    lines += ["        super().__init__(classifier,"]
    lines += [*(f"{name}={name}," for name in names), ")"]
    return "\n".join(lines)
