"""Comparison of two runs on the same samples, sample by sample, with a significance test."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from art_ext.core.wording import aligned, class_name, counted, radius
from art_ext.evaluation.analysis.blocks import NORMS, Blocks, samples_of
from art_ext.evaluation.analysis.radii import clean_failure, failures, has_detector, radii_of_rows
from art_ext.evaluation.analysis.table import csv_rows, percent
from art_ext.evaluation.analysis.together import matched, models_of

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from art_ext.evaluation.analysis.records import LoadedRun

EXACT = 2000  # trials of McNemar's test that are summed in integers
KINDS = ("clean", "only A", "only B")
# records of both runs, each with the model to compare
_Runs = tuple[tuple[Blocks, str], tuple[Blocks, str]]


@dataclass(frozen=True)
class Pair:
    """One model in both runs at one eps. All numbers are over the samples that both runs contain.

    Attributes:
        model: its name, or both names if they differ between the runs.
        eps: radius.
        samples: number of samples in both runs.
        clean_a, clean_b: clean accuracies. With a detector, shares that are correct and accepted.
        robust_a, robust_b: robust accuracies, over all attacks of each run's panel. With a
            detector, those with rejection.
        both, neither: samples with a success in both runs, and in neither. A misclassified sample
            counts as a success. With a detector a success must be accepted, and a clean sample
            that is rejected counts as one.
        only_a, only_b: samples with a success in one run only.
        p_value: two-sided p-value of McNemar's exact test, see :func:`mcnemar`.
    """

    model: str
    eps: float
    samples: int
    clean_a: float
    clean_b: float
    robust_a: float
    robust_b: float
    both: int
    neither: int
    only_a: int
    only_b: int
    p_value: float


@dataclass(frozen=True)
class Disagreement:
    """One sample on which the runs disagree.

    Attributes:
        model: as in ``Pair``.
        eps: radius, or None for clean predictions.
        kind: ``"clean"`` (the clean predictions differ), ``"only A"`` or ``"only B"`` (success in
            one run only, as in ``Pair``).
        index_a, index_b: its positions in the data of the runs.
        id: its fingerprint.
        label: its class.
        prediction_a, prediction_b: predictions of the models on the clean sample.
        attacks: the successful attacks, separated by commas, or "misclassified" if no attack was
            needed. With a detector it is "misclassified or rejected".
    """

    model: str
    eps: float | None
    kind: str
    index_a: int
    index_b: int
    id: int
    label: int
    prediction_a: int
    prediction_b: int
    attacks: str


@dataclass(frozen=True)
class Comparison:
    """Agreements and disagreements of two runs.

    Attributes:
        pairs: for each model and eps that both runs contain.
        disagreements: sample by sample, in the same order.
        notes: parts of the runs that are not compared.
    """

    pairs: list[Pair]
    disagreements: list[Disagreement]
    notes: list[str]


def compare(a: LoadedRun, b: LoadedRun) -> Comparison:
    """Compare two runs over the samples that both contain. Samples are matched by id.

    Models are matched by name. If each run has a single model, names are ignored.

    Raises:
        ValueError: if the runs have no sample, model or eps in common, or differ in their labels,
            norm or targets.
    """
    joined = _join(a, b)
    radii, notes = _common_radii(a, b)
    alone = {
        which: len(samples_of(one.blocks, ["id"])) - len(joined)
        for which, one in zip("AB", (a, b), strict=True)
    }
    notes += [
        f"{counted(count, 'sample')} {'is' if count == 1 else 'are'} in {which} only"
        for which, count in alone.items()
        if count
    ]
    pairs = []
    disagreements = []
    for name, ours, theirs in _matched_models(a, b, notes):
        runs = ((a.blocks, ours), (b.blocks, theirs))
        notes += _rejecting(name, runs)
        joined = _with_predictions(joined, runs)
        differs = joined[joined["clean_prediction_a"] != joined["clean_prediction_b"]]
        disagreements += _listed(differs, name, None, KINDS[0], {})
        for eps in radii:
            pair, found = _at(joined, runs, name, eps)
            pairs.append(pair)
            disagreements += found
    return Comparison(pairs, disagreements, notes)


def _rejecting(name: str, runs: _Runs) -> list[str]:
    """Return a note if a detector rejects in one of the runs."""
    which = [side for side, one in zip("AB", runs, strict=True) if has_detector(*one)]
    if not which:
        return []
    return [
        f"{name} has a detector in {' and '.join(which)}: there the numbers are those with"
        " rejection. Only accepted successes count, and a rejected clean sample counts as one"
    ]


def _common_radii(a: LoadedRun, b: LoadedRun) -> tuple[list[float], list[str]]:
    """Return the radii that both runs contain, and notes on the others."""
    for key, name in (("norm", "norm"), ("targeted", "targets")):
        given, other = (one.run["settings"][key] for one in (a, b))
        if given != other:
            raise ValueError(
                f"runs must agree in their {name}, got {_said(given)} in {a.folder}, {_said(other)}"
                f" in {b.folder}"
            )
    radii = [eps for eps in a.run["settings"]["eps"] if eps in b.run["settings"]["eps"]]
    if not radii:
        listed = " and ".join(", ".join(map(radius, one.run["settings"]["eps"])) for one in (a, b))
        raise ValueError(f"runs must have an eps in common, got {listed}")
    return radii, _left_out(
        "eps", *({radius(eps) for eps in one.run["settings"]["eps"]} for one in (a, b))
    )


def _said(value: object) -> str:
    return "none" if value is None else NORMS.get(str(value), str(value))


def _left_out(what: str, ours: set[str], theirs: set[str]) -> list[str]:
    """Sentences on parts that only one of the runs contains."""
    alone = ((ours - theirs, "A"), (theirs - ours, "B"))
    return [
        f"{what} {', '.join(sorted(names))} is in {which} only" for names, which in alone if names
    ]


def _matched_models(a: LoadedRun, b: LoadedRun, notes: list[str]) -> list[tuple[str, str, str]]:
    """Name of each compared model, and its names in the two runs."""
    ours = models_of(a)
    theirs = models_of(b)
    if len(ours) == len(theirs) == 1:
        name = ours[0] if ours == theirs else f"{ours[0]} / {theirs[0]}"
        return [(name, ours[0], theirs[0])]
    common = [model for model in ours if model in theirs]
    if not common:
        raise ValueError(
            f"runs must have a model in common, got {', '.join(ours)} and {', '.join(theirs)}"
        )
    notes += _left_out("model", set(ours), set(theirs))
    return [(model, model, model) for model in common]


def _join(a: LoadedRun, b: LoadedRun) -> pd.DataFrame:
    """Return one row for each sample in both runs."""
    joined = matched(a, b)
    names = [f"{one.run['data']['name']} in {one.folder}" for one in (a, b)]
    if not len(joined):
        raise ValueError(
            f"runs must share samples, but no image of {names[0]} is one of {names[1]}"
        )
    other = int((joined["label_a"] != joined["label_b"]).sum())
    if other:
        raise ValueError(
            f"runs must agree in their labels, but {other} of {names[0]} are others in {names[1]}"
        )
    return joined


def _with_predictions(joined: pd.DataFrame, runs: _Runs) -> pd.DataFrame:
    """Add the clean predictions of one model to the joined samples, and where they fail."""
    for (blocks, model), which in zip(runs, "ab", strict=True):
        own = blocks.samples(model).loc[joined[f"index_{which}"]]
        failed = own["already_adversarial"].to_numpy()
        if has_detector(blocks, model):
            failed = failed | ~own["clean_accepted"].to_numpy()
        joined = joined.assign(
            **{
                f"clean_prediction_{which}": own["clean_prediction"].to_numpy(),
                f"clean_failure_{which}": failed,
            }
        )
    return joined


def _at(
    joined: pd.DataFrame, runs: _Runs, name: str, eps: float
) -> tuple[Pair, list[Disagreement]]:
    """Pair and disagreements at one radius."""
    success_a, success_b = (
        failures(blocks, model, eps)[joined[index].to_numpy()]
        for (blocks, model), index in zip(runs, ("index_a", "index_b"), strict=True)
    )
    only_a = success_a & ~success_b
    only_b = success_b & ~success_a
    pair = Pair(
        model=name,
        eps=eps,
        samples=len(joined),
        clean_a=float((~joined["clean_failure_a"]).mean()),
        clean_b=float((~joined["clean_failure_b"]).mean()),
        robust_a=float((~success_a).mean()),
        robust_b=float((~success_b).mean()),
        both=int((success_a & success_b).sum()),
        neither=int((~success_a & ~success_b).sum()),
        only_a=int(only_a.sum()),
        only_b=int(only_b.sum()),
        p_value=mcnemar(int(only_a.sum()), int(only_b.sum())),
    )
    found = []
    for kind, only, (blocks, model), index in zip(
        KINDS[1:], (only_a, only_b), runs, ("index_a", "index_b"), strict=True
    ):
        rows = joined[only]
        attacks = _successful_attacks(blocks, model, eps, rows[index].to_numpy())
        found += _listed(rows, name, eps, kind, attacks, index, has_detector(blocks, model))
    return pair, found


def _successful_attacks(
    blocks: Blocks, model: str, eps: float, positions: np.ndarray
) -> Mapping[int, str]:
    """By position, the attacks that succeeded on the sample within eps."""
    found: dict[int, list[str]] = {}
    for key in blocks.keys(model):
        counts = (radii_of_rows(blocks, key) <= eps) & ~clean_failure(blocks, key)
        successes = blocks.spread(key, counts)
        for position in positions[successes[positions]].tolist():
            found.setdefault(position, []).append(key[1])
    return {position: ", ".join(dict.fromkeys(names)) for position, names in found.items()}


def _listed(
    rows: pd.DataFrame,
    name: str,
    eps: float | None,
    kind: str,
    attacks: Mapping[int, str],
    index: str = "",
    rejecting: bool = False,
) -> list[Disagreement]:
    """Disagreements of these samples. ``attacks`` is by the position in the column ``index``."""
    unaided = "misclassified or rejected" if rejecting else "misclassified"
    return [
        Disagreement(
            model=name,
            eps=eps,
            kind=kind,
            index_a=row["index_a"],
            index_b=row["index_b"],
            id=row["id"],
            label=row["label_a"],
            prediction_a=row["clean_prediction_a"],
            prediction_b=row["clean_prediction_b"],
            attacks=attacks.get(row[index], unaided) if index else "",
        )
        for row in rows.to_dict("records")
    ]


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided p-value of McNemar's exact test.

    With n = only_a + only_b and k the smaller one it is min(1, 2 P(X <= k)), X binomial with n
    trials and probability 1/2.

    References:
        Quinn McNemar, "Note on the sampling error of the difference between correlated proportions
        or percentages", 1947.
    """
    n = only_a + only_b
    if n > EXACT:
        from scipy.special import bdtr

        return min(1.0, 2 * float(bdtr(min(only_a, only_b), n, 0.5)))
    term = 1
    below = 0
    for chosen in range(min(only_a, only_b) + 1):
        below += term
        term = term * (n - chosen) // (chosen + 1)
    return min(1.0, 2 * below / 2**n)


def to_text(
    comparison: Comparison,
    most: int,
    *,
    ids: bool = False,
    names: Sequence[str] | None = None,
    kept: str | None = None,
) -> str:
    """Return the comparison as text: a table of all pairs, then at most ``most`` disagreements.

    Args:
        comparison: the comparison.
        most: number of disagreements to list.
        ids: True to add the ids of the samples. Default: False.
        names: of the classes. None: their numbers.
        kept: file that holds all disagreements. None: there is none.
    """
    found = comparison.disagreements
    parts = [_pairs_as_text(comparison.pairs), *comparison.notes]
    if found[:most]:
        parts += ["", _disagreements_as_text(found[:most], ids, names)]
    if len(found) > most:
        where = "--out FILE.csv keeps all" if kept is None else f"all are in {kept}"
        parts.append(f"{counted(len(found) - most, 'more disagreement')}: {where}")
    return "\n".join(parts)


def _pairs_as_text(pairs: Sequence[Pair]) -> str:
    columns: dict[str, Callable[[Pair], str]] = {
        "model": lambda pair: pair.model,
        "eps": lambda pair: radius(pair.eps),
        "samples": lambda pair: f"{pair.samples:,}",
        "clean A": lambda pair: percent(pair.clean_a),
        "clean B": lambda pair: percent(pair.clean_b),
        "robust A": lambda pair: percent(pair.robust_a),
        "robust B": lambda pair: percent(pair.robust_b),
        "success in both": lambda pair: str(pair.both),
        "in neither": lambda pair: str(pair.neither),
        "in A only": lambda pair: str(pair.only_a),
        "in B only": lambda pair: str(pair.only_b),
        "p": lambda pair: f"{pair.p_value:.3g}",
    }
    cells = [[text(pair) for text in columns.values()] for pair in pairs]
    return aligned(list(columns), cells, words=(0,))


def _disagreements_as_text(
    found: Sequence[Disagreement], ids: bool, names: Sequence[str] | None
) -> str:
    columns: dict[str, Callable[[Disagreement], str]] = {
        "model": lambda one: one.model,
        "kind": lambda one: one.kind,
        "eps": lambda one: "" if one.eps is None else radius(one.eps),
    }
    words = {"model", "kind", "label", "clean A", "clean B", "attacks"}
    if all(one.index_a == one.index_b for one in found):
        columns["position"] = lambda one: str(one.index_a)
    else:
        columns["position A"] = lambda one: str(one.index_a)
        columns["position B"] = lambda one: str(one.index_b)
    if ids:
        columns["id"] = lambda one: str(one.id)
    columns |= {
        "label": lambda one: class_name(one.label, names),
        "clean A": lambda one: class_name(one.prediction_a, names),
        "clean B": lambda one: class_name(one.prediction_b, names),
        "attacks": lambda one: one.attacks,
    }
    cells = [[text(one) for text in columns.values()] for one in found]
    places = [place for place, head in enumerate(columns) if head in words]
    return aligned(list(columns), cells, words=tuple(places))


def to_csv(comparison: Comparison) -> str:
    """Return the disagreements as CSV with a header."""
    return csv_rows(
        [field.name for field in fields(Disagreement)], map(asdict, comparison.disagreements)
    )


def to_json(comparison: Comparison) -> str:
    """Return the comparison as a JSON object with the keys pairs, disagreements and notes."""
    plain: dict[str, Any] = asdict(comparison)
    return json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
