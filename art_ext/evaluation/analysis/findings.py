"""Findings of a run as data: warnings that its numbers may be wrong, and infos."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from art_ext.adapters.external import MODEL_CHANGED
from art_ext.core.metrics import chance_warning, wilson
from art_ext.core.outside import describe_outside
from art_ext.core.wording import counted, radius
from art_ext.evaluation.analysis.blocks import (
    Blocks,
    Successes,
    blocks_of,
    fingerprints,
    parts_of,
    successes_within,
)
from art_ext.evaluation.analysis.defences import of_defences
from art_ext.evaluation.analysis.finding import Finding, in_order, to_json

if TYPE_CHECKING:
    import pandas as pd

# of all samples: what robust accuracy may be too high by and pass for a weakness of the attack
MISSED_FRACTION = 0.05
SAMPLES_PER_CLASS = 5  # from that many on, every class should have turned up among the labels
SPAN_FRACTION = 0.5  # of the box: data that span no more were probably scaled for another one
SMALL_EPS = 1e-3  # of the box's width
# of the values of the data: with more on the edge of the box, attacks in tanh space start slowly
EDGE_FRACTION = 0.01
# that such an attack needs: on MNIST C&W succeeds on 12, 25, 100 % after 50, 100, 400
TANH_ITERATIONS = 400
INFO_FLAGS = ("autoattack:square-better",)  # of AutoAttack: raised for sound models too

__all__ = ["Finding", "findings", "in_order", "to_json"]
Facts = Mapping[str, Sequence[Mapping[str, Any]]]


def findings(records: Blocks | pd.DataFrame, run: Mapping[str, Any], facts: Facts) -> list[Finding]:
    """Return findings of a run, warnings before infos.

    ``missed-by-gradients`` (info): samples on which an attack with labels or scores succeeded
    within eps, and no attack with gradients that was given them. The parts of AutoAttack count as
    attacks here. It is not repeated if all of them are in a ``falsely-robust``.

    ``falsely-robust``: within eps, let G be the samples with a success of an attack with gradients.
    Let O be the samples that such attacks were given and failed on while an attack with labels or
    scores succeeded. Masked gradients hide adversarials from attacks with gradients only. But a
    plain
    PGD misses a few on sound models too, so O alone is no evidence. Neither is the difference of
    the
    success rates, since a long black-box attack comes close to the optimum on both kinds of models.
    The evidence is the number of adversarials that gradients find. The finding is reported if |O| >
    |G|, or if the fraction of O among all samples is above 5 % beyond chance (the lower end of its
    interval). Both conditions give the same result in a cascade, where the other attacks are given
    only the remaining samples, and for independent attacks.

    Args:
        records: of the run, finished or not.
        run: its ``run.json``.
        facts: by model, the facts of each ``Probe``, and those of
            AutoAttack on each chunk: the raised flags as ``{"autoattack": [{"name", "detail"},
            ...]}``, and the successes of each part, in order, as ``{"attack", "eps", "parts":
            [[name, positions], ...]}``. Those of an external attack are ``{"attack", "eps",
            "outside"}``: the numbers of :class:`~art_ext.core.outside.Outside` and its rows.
    """
    blocks = blocks_of(records)
    ids = fingerprints(blocks)
    found = [
        finding for model, parts in facts.items() for finding in _classes(model, parts, blocks, run)
    ]
    found += _by_access(blocks, run, ids, facts)
    found += _not_attacked(blocks, ids)
    for model, parts in facts.items():
        draws = run["settings"].get("draws")
        found += _of_model(model, [part for part in parts if "samples" in part], ids, draws)
        found += _flags(model, parts)
        found += _outside(model, parts, ids)
    probed = [part for parts in facts.values() for part in parts if "samples" in part]
    found = [
        *found,
        *_range(probed, run["settings"]),
        *_eps_units(run),
        *_few_iterations(probed, run),
    ]
    return in_order([*found, *of_defences(blocks, run)])


def _counted(
    kind: str, model: str, message: str, count: int, samples: int, **where: Any
) -> Finding:
    where = {"attack": None, "eps": None, **where}
    return Finding(
        kind,
        model,
        message=message,
        count=count,
        samples=samples,
        interval=wilson(count, samples),
        **where,
    )


def _placed(positions: Iterable[int], ids: pd.Series) -> dict[str, Any]:
    """Positions and fingerprints of samples."""
    indices = sorted(int(position) for position in positions)
    return {"indices": tuple(indices), "ids": tuple(ids.loc[indices].tolist())}


def _classes(
    model: str, parts: Sequence[Mapping[str, Any]], blocks: Blocks, run: Mapping[str, Any]
) -> list[Finding]:
    """Signs that labels and model number the classes differently: chance accuracy or width."""
    if model not in blocks.models:
        return []
    rows = blocks.samples(model)
    names = run["data"].get("class_names")
    width = next((part["classes"] for part in parts if part.get("classes")), None)
    largest = int(rows["label"].max())
    # a model that returns labels only does not tell its width
    classes = width or max(len(names or ()), largest + 1, int(rows["clean_prediction"].max()) + 1)
    correct = int((rows["clean_prediction"] == rows["label"]).sum())
    message = chance_warning(correct, rows["label"].value_counts().tolist(), classes)
    found = (
        [] if message is None else [_counted("chance-level", model, message, correct, len(rows))]
    )
    if width is None:
        return found
    if names is not None and len(names) != width:
        differs = f"the data name {len(names)} classes"
    elif names is None and largest + 1 < width and len(rows) >= SAMPLES_PER_CLASS * width:
        differs = f"the largest label of {len(rows)} samples is {largest}"
    else:
        return found
    message = (
        f"the model has {width} classes, but {differs}: do both number the same classes in the same"
        " order?"
    )
    return [*found, Finding("classes", model, None, None, message)]


def _with_gradients(blocks: Blocks, run: Mapping[str, Any]) -> set[str]:
    """Attacks that use gradients. For external attacks of unknown access, the records decide."""
    differentiated = {key[1] for key in blocks if (blocks.column(key, "gradients") > 0).any()}
    access = {
        name: attack.get("access", attack.get("asks", "unknown"))
        for name, attack in run["attacks"].items()
    }
    known = {name for name, what in access.items() if what == "gradients"}
    return known | {
        name for name, what in access.items() if what == "unknown" and name in differentiated
    }


def _by_access(
    blocks: Blocks, run: Mapping[str, Any], ids: pd.Series, facts: Facts
) -> list[Finding]:
    """Compare attacks with gradients with the others, for each model and radius."""
    with_gradients = _with_gradients(blocks, run)
    found = []
    for model in blocks.models:
        parts = parts_of(facts.get(model, ()))
        samples = len(blocks.samples(model))
        for eps in sorted({key[2] for key in blocks.keys(model)}):
            whole = successes_within(blocks, model, eps, with_gradients, {})
            grave = _falsely_robust(model, eps, whole, samples, ids)
            found += grave
            single = successes_within(blocks, model, eps, with_gradients, parts) if parts else whole
            told = {index for finding in grave for index in finding.indices}
            if not told.issuperset(single.missed.tolist()):
                found.append(_missed_by_gradients(model, eps, single, samples, ids))
    return found


def _not_attacked(blocks: Blocks, ids: pd.Series) -> list[Finding]:
    """Return findings on attacks that ended with the clean check of a sample.

    The budget does not pay for their first iteration.
    """
    found = []
    for model in blocks.models:
        for attack in blocks.attacks(model):
            key = max(blocks.keys(model, attack))  # of the largest eps
            given = blocks.column(key, "attacked") & ~blocks.column(key, "already_adversarial")
            ended = given & (blocks.column(key, "queries") == 1) & ~blocks.column(key, "success")
            if not ended.any():
                continue
            count, samples = int(ended.sum()), int(given.sum())
            message = (
                f"{attack} made no step on {count} of {samples} samples, because max_queries does"
                " not pay for its first iteration: they count as robust. Give it a larger budget"
            )
            place = _placed(blocks.column(key, "index")[ended].tolist(), ids)
            where = {"attack": attack, **place}
            found.append(_counted("not-attacked", model, message, count, samples, **where))
    return found


def _falsely_robust(
    model: str, eps: float, successes: Successes, samples: int, ids: pd.Series
) -> list[Finding]:
    missed = successes.missed
    names = successes.finders
    if len(missed) <= int(successes.gradients.sum()) and not (
        len(missed) and wilson(len(missed), samples)[0] > MISSED_FRACTION
    ):
        return []
    message = (
        f"at eps {radius(eps)} attacks with gradients succeeded on"
        f" {counted(int(successes.gradients.sum()), 'sample')}, and {', '.join(names)} on"
        f" {len(missed)} others: the gradients may be masked, so take the worst case over all"
        " attacks, and give attacks with labels or scores a larger budget"
    )
    return [_missed("falsely-robust", model, eps, message, successes, samples, ids)]


def _missed_by_gradients(
    model: str, eps: float, successes: Successes, samples: int, ids: pd.Series
) -> Finding:
    message = (
        f"at eps {radius(eps)} {', '.join(successes.finders)} succeeded on"
        f" {counted(len(successes.missed), 'sample')}, and no attack with gradients did. A few"
        " are usual on sound models too: report the worst case over all attacks"
    )
    return _missed(
        "missed-by-gradients", model, eps, message, successes, samples, ids, level="info"
    )


def _missed(
    kind: str,
    model: str,
    eps: float,
    message: str,
    successes: Successes,
    samples: int,
    ids: pd.Series,
    **more: Any,
) -> Finding:
    """Return a finding on the samples that attacks with gradients missed."""
    missed = successes.missed
    names = successes.finders
    where = {"attack": names[0] if len(names) == 1 else None, "eps": float(eps)}
    return _counted(
        kind, model, message, len(missed), samples, **where, **_placed(missed, ids), **more
    )


# by kind, the messages for answers that change; the facts of the probe have the same names
_UNSTEADY = {
    "randomised": (
        "the same samples, evaluated twice, got different answers: attacks must average over the"
        " randomness (EoT), and results of RayS, ZOO and other black-box attacks do not hold. Run"
        " --panel rand, or --draws 10 with any attack"
    ),
    "batch-dependent": (
        "the answers change with the other samples of a batch, as with BatchNorm without running"
        " statistics, centring by the batch or attention over it: verdicts hold for the batch that"
        " they were found in. Make the model treat its rows independently"
    ),
}


def _averaged(model: str, changed: int, repeated: int, draws: int) -> list[Finding]:
    """Return the finding on a model that was attacked by the average over draws."""
    if changed:
        message = (
            f"the answers change by chance, and the attacks averaged {draws} draws of them: another"
            " seed may give slightly other numbers"
        )
        return [_counted("randomised", model, message, changed, repeated, level="info")]
    message = (
        f"the averages over {draws} draws did not change when they were drawn again: the model"
        " seems deterministic, at least in eval mode, and needs no draws"
    )
    return [Finding("deterministic", model, None, None, message, level="info")]


def _of_model(
    model: str, parts: Sequence[Mapping[str, Any]], ids: pd.Series, draws: int | None
) -> list[Finding]:
    """Return findings of the probes of one model's chunks, of answers averaged over draws if these
    are given.
    """
    found = []
    repeated = sum(part["repeated"] for part in parts)
    if any(part.get("not_checked") for part in parts):
        message = (
            "chance and dependence on the batch were not checked: the service's answers to repeated"
            " rows come from its log"
        )
        found.append(Finding("not-checked", model, None, None, message, level="info"))
    for kind, message in _UNSTEADY.items():
        fact = kind.replace("-", "_")
        changed = [index for part in parts for index in part.get(fact, ())]
        if kind == "randomised" and draws is not None and repeated:
            found += _averaged(model, len(changed), repeated, draws)
        elif changed:
            place = _placed(changed, ids)
            found.append(_counted(kind, model, message, len(changed), repeated, **place))
    unequal = sum(part.get("unnormalised", 0) for part in parts)
    if unequal:
        message = (
            "the probabilities do not sum to 1, as those of independent sigmoids: losses take them"
            " for the probabilities of classes that exclude each other. Hand over the logits"
        )
        found.append(
            _counted(
                "probabilities", model, message, unequal, sum(part["samples"] for part in parts)
            )
        )
    samples, vectors = (sum(part[key] for part in parts) for key in ("samples", "probabilities"))
    if 2 * vectors > samples:  # a row of logits may be one by chance
        message = (
            "the answers are probabilities although logits were announced, which flattens losses"
            " and margins: hand over the logits, or say outputs='probabilities'"
        )
        found.append(_counted("probabilities", model, message, vectors, samples))
    differentiated = [part for part in parts if "zero_gradients" in part]
    found += _zero_gradients(model, differentiated, ids)
    found += _gradients_not_finite(model, differentiated, ids)
    if any(part["training"] for part in parts):
        message = (
            "the model was handed over in training mode and attacked in eval mode: call"
            " model.eval() before any evaluation elsewhere, or dropout and batch statistics will"
            " change its answers"
        )
        found.append(Finding("training-mode", model, None, None, message))
    return found


def _zero_gradients(
    model: str, parts: Sequence[Mapping[str, Any]], ids: pd.Series
) -> list[Finding]:
    zero = [index for part in parts for index in part["zero_gradients"]]
    if not zero:
        return []
    reasons = [part["not_differentiable"] for part in parts if part["not_differentiable"]]
    what = (
        f"the model's scores cannot be differentiated ({reasons[0]})"
        if reasons
        else "the gradient of the margin is zero everywhere at correctly classified samples"
    )
    message = (
        f"{what}: attacks with gradients do not work there. Add rays and art:SquareAttack with a"
        " large budget"
    )
    judged = sum(part["differentiated"] for part in parts)
    return [_counted("zero-gradients", model, message, len(zero), judged, **_placed(zero, ids))]


def _gradients_not_finite(
    model: str, parts: Sequence[Mapping[str, Any]], ids: pd.Series
) -> list[Finding]:
    broken = [index for part in parts for index in part.get("gradients_not_finite", ())]
    if not broken:
        return []
    message = (
        "the gradient of the margin holds NaN or infinities at correctly classified samples, and"
        " attacks take these entries for zero: robust accuracy may be too high. Look for roots,"
        " logarithms and norms at 0 in the model, and add rays"
    )
    judged = sum(part["differentiated"] for part in parts)
    place = _placed(broken, ids)
    return [_counted("gradients-not-finite", model, message, len(broken), judged, **place)]


def _flags(model: str, parts: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """Return findings on raised flags of external attacks, each once for every radius."""
    raised: dict[tuple[str, str, float | None], list[str]] = {}
    for part in parts:
        for flag in part.get("autoattack", ()):
            own = flag["name"] != MODEL_CHANGED
            attack = "autoattack" if own else part["attack"]
            kind = f"autoattack:{flag['name']}" if own else MODEL_CHANGED
            details = raised.setdefault((kind, attack, flag.get("eps")), [])
            if flag["detail"] not in details:
                details.append(flag["detail"])
    found = []
    for (kind, attack, eps), details in raised.items():
        level = "info" if kind in INFO_FLAGS else "warning"
        found.append(Finding(kind, model, attack, eps, "; ".join(details), level=level))
    return found


def _outside(model: str, parts: Sequence[Mapping[str, Any]], ids: pd.Series) -> list[Finding]:
    """Return findings on attacks whose outputs leave the ball or the box."""
    by_attack: dict[tuple[str, float], list[Mapping[str, Any]]] = {}
    for part in parts:
        if "outside" in part:
            by_attack.setdefault((part["attack"], part["eps"]), []).append(part["outside"])
    found = []
    for (attack, eps), chunks in by_attack.items():
        rows = [row for chunk in chunks for row in chunk["rows"]]
        samples = sum(chunk["samples"] for chunk in chunks)
        ball, box = (max(chunk[name] for chunk in chunks) for name in ("ball", "box"))
        invalid = sum(chunk["invalid"] for chunk in chunks)
        message = (
            f"{attack} at eps {radius(eps)}:"
            f" {describe_outside(len(rows), samples, ball, box, invalid)}, so the robust accuracy"
            " may be too high: project the outputs onto the ball and clip them to the box"
        )
        where = {"attack": attack, "eps": eps, **_placed(rows, ids)}
        found.append(_counted("outside", model, message, len(rows), samples, **where))
    return found


def _range(parts: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> list[Finding]:
    """Return a finding on data that use only a small part of the box."""
    if not parts:
        return []
    lower, upper = settings["clip_values"]
    lowest = min(part["lowest"] for part in parts)
    highest = max(part["highest"] for part in parts)
    if highest - lowest > SPAN_FRACTION * (upper - lower):
        return []
    what = (
        f"every value of the data is {lowest:g}"
        if lowest == highest
        else f"the data span [{lowest:g}, {highest:g}] of the box [{lower:g}, {upper:g}]"
    )
    message = f"{what}: check that data, clip_values and the model's preprocessing are in one scale"
    return [Finding("range", "", None, None, message)]


def _few_iterations(parts: Sequence[Mapping[str, Any]], run: Mapping[str, Any]) -> list[Finding]:
    """Return findings on attacks in tanh space that are too short to leave the edge of the box.

    The slope of tanh is 1e-6 there.
    """
    values, on_box = (sum(part.get(name, 0) for part in parts) for name in ("values", "on_box"))
    if on_box <= EDGE_FRACTION * values:
        return []
    return [
        Finding(
            "few-iterations",
            "",
            name,
            None,
            f"{name} starts at the edge of the box in {100 * on_box / values:.0f} % of the values,"
            " where tanh hardly moves, and makes at most"
            f" {counted(attack['tanh_iterations'], 'iteration')} there: it needs several hundred."
            f" Give it num_steps >= {TANH_ITERATIONS} and the budget for that, or run ead, or zoo"
            " without use_tanh",
        )
        for name, attack in run["attacks"].items()
        if attack.get("tanh_iterations") is not None and attack["tanh_iterations"] < TANH_ITERATIONS
    ]


def _eps_units(run: Mapping[str, Any]) -> list[Finding]:
    """Return findings on radii that cannot be meant in the units of the box.

    With D coordinates and sides of length w the box measures w, w sqrt(D) and w D in L-inf, L2 and
    L1. Above half of that, a ball around the middle contains the whole box. Below w / 1000 in L-inf
    it is smaller than the steps of 8-bit images. In the other norms, a perturbation may concentrate
    on one coordinate or spread over all, and the bound is the geometric mean of both.
    """
    settings = run["settings"]
    lower, upper = settings["clip_values"]
    width = upper - lower
    spread = (
        math.prod(run["data"]["shape"]) ** {"linf": 0.0, "l2": 0.5, "l1": 1.0}[settings["norm"]]
    )
    low = SMALL_EPS * width * math.sqrt(spread)
    high = width * spread / 2
    return [
        Finding(
            "eps-unit",
            "",
            None,
            eps,
            f"eps {radius(eps)} in {settings['norm']} is {'large' if eps > high else 'small'} for"
            f" the box [{lower:g}, {upper:g}], in which {low:.2g} to {high:.2g} make sense: give it"
            " in the units of x, such as 8/255 for images in [0, 1]",
        )
        for eps in settings["eps"]
        if not low <= eps <= high
    ]
