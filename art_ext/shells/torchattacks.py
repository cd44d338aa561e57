"""torchattacks' conventions, and the source text of a torchattacks shell."""

from __future__ import annotations

import re

from art_ext.core.keywords import HOST_KEYWORDS
from art_ext.shells.plan import Host, Keyword, Plan
from art_ext.shells.text import alternatives, docstring, paragraph, valued, without_default

_PROBE = (
    "in the first call on a model, test with at most 24 rows if its answers depend on chance or on"
    " the batch, and log a warning if they do. False skips the test."
)
_LAST = "what comes back without a success: the 'last' iterate, or the 'input'."
HOST = Host(
    name="torchattacks",
    model=("model", "nn.Module", "model to attack."),
    names=HOST_KEYWORDS["torchattacks"],
    norms={"linf": "Linf", "l2": "L2", "l1": "L1"},
    norm_type="str",
    spellings={"linf": ("'Linf'",), "l2": ("'L2'",), "l1": ("'L1'",)},
    defaults={"eps": 8 / 255, "on_failure": "last"},
    hidden=frozenset(
        {
            "targeted",
            "targets",
            "mask",
            "clip_values",
            "outputs",
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
    own={"probe": Keyword("probe", "", True, "bool", _PROBE)},
    tail=("loss", "stop_on_success", "on_failure", "max_queries", "batch_size", "seed", "probe"),
    texts={
        "": {"on_failure": _LAST},
        "fixed-radius": {"norm": "{norms}.", "eps": "radius of the ball, in [0, 1] image units."},
        "minimum-norm": {
            "norm": "{norms}: how eps and the distances of ``last_result`` are measured.",
            "eps": "radius within which an adversarial counts as success. None counts any.",
        },
    },
)


def class_lines(plan: Plan) -> list[str]:
    """Return the lines of the class docstring, for an indent of four."""
    spec, shell = plan.spec, plan.shell
    measure = shell.measure or alternatives([HOST.norms[norm] for norm in spec.norms])
    model, annotation, text = plan.model
    where = "art_ext.core.attacks" if _is_ours(spec) else spec.function.__module__
    about = (
        f"Distance measure: {measure}. See ``{where}.{spec.function.__name__}`` for the method."
        f" {shell.notes}"
    )
    resize = " or ``resize``" if any(one.name == "resize" for one in plan.keywords) else ""
    failed = "; images without a success come back unchanged" if _keeps_input(plan) else ""
    lines = [paragraph(shell.summary or f"{spec.title}. {spec.summary}", 8, 4).lstrip(), ""]
    lines += [paragraph(about.strip(), 4), "", "    Arguments:"]
    lines += [paragraph(f"{model} ({annotation}): {text}", 8, 12)]
    for one in plan.keywords:
        kind = re.sub(r" \| None$", "", one.annotation)
        kind = re.sub(r"\bLoss\b", "function", kind)
        kind = re.sub(r"\b(Sequence|Mapping)\[[^]]*\]", lambda found: found[1].lower(), kind)
        kind = alternatives(kind.split(" | "))
        default = valued(one.default).replace('"', "'").replace(" / ", "/").replace("_", "")
        default = f"'{one.default}'" if isinstance(one.default, str) else default
        text = without_default(one.text).replace("``", "").replace('"', "'")
        described = f"{one.name} ({kind}): {text} (Default:\0{default})"
        lines += [paragraph(described, 8, 12).replace("\0", " ")]
    shape = ":math:`(N, C, H, W)`"
    lines += ["", "    Shape:"]
    images = f"- images: {shape} in [0, 1] (any shape without ``set_normalization_used``{resize})."
    lines += [paragraph(images, 8, 10)]
    labels = "- labels: :math:`(N)` class indices. None takes the model's own predictions."
    lines += [paragraph(labels, 8, 10), f"        - output: {shape}{failed}.", ""]
    lines += ["    Examples::"]
    called = f"torchattacks.{plan.name}({', '.join(filter(None, (model, shell.example)))})"
    lines += [f"        >>> attack = {called}", "        >>> adv_images = attack(images, labels)"]
    if shell.shown:
        lines += [f"        >>> {shell.shown}"]
    return lines


def _is_ours(spec: object) -> bool:
    module: str = spec.function.__module__  # type: ignore[attr-defined]
    return module.startswith("art_ext.core")


def _keeps_input(plan: Plan) -> bool:
    return all(one.name != "on_failure" for one in plan.keywords)


def attributes(plan: Plan) -> dict[str, object]:
    """Return the class attributes that are plain values."""
    found: dict[str, object] = {}
    if plan.core_names:
        found["_core_names"] = plan.core_names
    if plan.spec.no_targets:
        found["_targets"] = False
    return found


def source(plan: Plan) -> str:
    """Return the source text of the class, before it is formatted."""
    names = [one.name for one in plan.keywords]
    model, annotation, _ = plan.model
    types = {"_core_names": "dict[str, str]", "_targets": "bool"}
    lines = [f"class {plan.name}(FunctionAttack):"]
    lines += [docstring(class_lines(plan), 4, raw=True), ""]
    lines += [f"    _function = staticmethod(core.{plan.spec.function.__name__})"]
    for name, value in attributes(plan).items():
        lines += [f"    {name}: ClassVar[{types[name]}] = {value!r}"]
    lines += ["", "    def __init__(self,", f"        {model}: {annotation},"]
    lines += [f"{one.name}: {one.annotation} = {valued(one.default)}," for one in plan.keywords]
    lines += ["    ) -> None:"]
    lines += [f"        super().__init__({model},", *(f"{name}={name}," for name in names), ")"]
    return "\n".join(lines)
