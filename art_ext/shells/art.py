"""ART's conventions, and the source text of an ART shell."""

from __future__ import annotations

import math

from art_ext.core.keywords import HOST_KEYWORDS
from art_ext.shells.plan import Host, Keyword, Plan
from art_ext.shells.text import docstring, paragraph, valued

_PROBE = (
    "test once for each estimator, by at most 24 predictions on the first eight samples, if its"
    " answers depend on chance or on the batch, and log a warning if they do. False skips the test."
)
_LAST = (
    'what comes back without a success: the ``"last"`` iterate, as from ART\'s own attacks, or the'
    ' ``"input"``.'
)
HOST = Host(
    name="art",
    model=("estimator", "BaseEstimator", "a trained classifier with ``clip_values``"),
    names=HOST_KEYWORDS["art"],
    norms={"linf": math.inf, "l2": 2, "l1": 1},
    norm_type="int | float | str",
    spellings={"linf": ("np.inf", '"inf"'), "l1": ("1",), "l2": ("2",)},
    defaults={"eps": 0.3, "batch_size": 32, "on_failure": "last"},
    hidden=frozenset(
        {
            "targets",
            "mask",
            "clip_values",
            "sample_ids",
            "device",
            "callback",
            "pad_rows",
            "channels_last",
            "compile",
            "amp",
            "transform",
            "criterion",
            "detector",
            "detector_weight",
            "detector_loss",
            "x_init",
        }
    ),
    own={
        "targeted": Keyword("targeted", "", False, "bool", "reach y instead of leaving it."),
        "verbose": Keyword("verbose", "", True, "bool", "show a progress bar."),
        "probe": Keyword("probe", "", True, "bool", _PROBE),
    },
    tail=(
        "targeted",
        "loss",
        "outputs",
        "stop_on_success",
        "on_failure",
        "max_queries",
        "batch_size",
        "seed",
        "verbose",
        "probe",
    ),
    texts={
        "": {
            "targeted": "reach y instead of leaving it.",
            "outputs": (
                'what the estimator predicts, ``"logits"`` or ``"probabilities"``. ART does not'
                " say."
            ),
            "on_failure": _LAST,
        },
        "fixed-radius": {"norm": "{norms}.", "eps": "radius of the ball in the units of x."},
        "minimum-norm": {
            "norm": "{norms}: how ``eps`` and the distances of ``last_result`` are measured.",
            "eps": (
                "radius within which an adversarial counts as success, in the units of x. None"
                " counts any."
            ),
        },
    },
)
_NEEDS = {
    "labels": (
        "Works with every ART classifier, ``BlackBoxClassifier`` and scikit-learn's included: only"
        " predicted classes are used."
    ),
    "scores": (
        "Works with every ART classifier that predicts scores, ``BlackBoxClassifier`` and"
        " scikit-learn's included."
    ),
    "gradients": "Works with every ART classifier that has ``class_gradient``.",
}


def class_lines(plan: Plan) -> list[str]:
    """Return the lines of the class docstring, for an indent of four."""
    spec = plan.spec
    about = [
        _NEEDS[spec.access],
        f"``{spec.function.__module__}.{spec.function.__name__}`` says how it runs."
        if not spec.function.__module__.startswith("art_ext.core")
        else f"``art_ext.core.attacks.{spec.name}`` says how it runs.",
        "The attack lives in the estimator's ``clip_values``, before its preprocessing defences.",
        plan.shell.notes,
    ]
    summary = plan.shell.summary or f"{spec.title}. {spec.summary}"
    lines = [paragraph(summary, 7, 4).lstrip(), "", paragraph(" ".join(about).strip(), 4)]
    if spec.url:
        lines += ["", f"    | Paper link: {spec.url}"]
    return lines


def attributes(plan: Plan) -> dict[str, object]:
    """Return the class attributes that are plain values."""
    shell = plan.shell
    found: dict[str, object] = {"_switches": plan.switches}
    if plan.core_names:
        found["_core_names"] = plan.core_names
    if shell.inputs:
        found["_inputs"] = dict(shell.inputs)
    if shell.replaced:
        found["_replaced"] = {name: dict(values) for name, values in shell.replaced.items()}
    if "targeted" not in plan.spec.parameters and not shell.inputs:
        found["_targets"] = False
    return found


def source(plan: Plan) -> str:
    """Return the source text of the class, before it is formatted."""
    names = [one.name for one in plan.keywords]
    model, annotation, text = plan.model
    base = "ResizingAttack" if "resize" in names else "FunctionAttack"
    with_gradient = plan.spec.access == "gradients"
    lines = [f"class {plan.name}({base}):"]
    lines += [docstring(class_lines(plan), 4), ""]
    lines += ["    attack_params: ClassVar[list[str]] = [*EvasionAttack.attack_params,"]
    lines += [*(f'"{name}",' for name in names), "]"]
    if with_gradient:
        lines += ["    _estimator_requirements = GRADIENT_REQUIREMENTS"]
    lines += [f"    _function = staticmethod(core.{plan.spec.function.__name__})"]
    types = {
        "_switches": "tuple[str, ...]",
        "_core_names": "dict[str, str]",
        "_inputs": "dict[str, str]",
        "_replaced": "dict[str, dict[Any, Any]]",
        "_targets": "bool",
    }
    for name, value in attributes(plan).items():
        lines += [f"    {name}: ClassVar[{types[name]}] = {value!r}"]
    lines += ["", "    def __init__(self,", f"        {model}: {annotation},"]
    lines += [f"{one.name}: {one.annotation} = {valued(one.default)}," for one in plan.keywords]
    lines += ["    ) -> None:"]
    needs = " and ``class_gradient``." if with_gradient else "."
    about = [
        "Create the attack.",
        "",
        "        Args:",
        paragraph(f"{model}: {text}{needs}", 12, 16),
    ]
    about += [paragraph(f"{one.name}: {one.text}", 12, 16) for one in plan.keywords]
    lines += [docstring(about, 8)]
    lines += [f"        super().__init__({model},", *(f"{name}={name}," for name in names), ")"]
    return "\n".join(lines)
