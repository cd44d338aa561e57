"""Differences between two runs, in the words of the options and of what they name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from art_ext.core.wording import radius

# of run.json: what must agree for two runs to be the same
PARTS = ("arguments", "identity", "plan")
# where model and data lie, since the identity tells what they hold. Runs of earlier versions record
# no files of models, which are compared where both runs have them
APART = {"arguments": ("weights", "path", "root", "generator"), "identity": ("model_files",)}
FILES = {
    "attacks": "attack",
    "model_files": "model",
    "detectors": "detector",
}  # of the identity: digests of files
LONGEST = 60  # letters of a value that a message shows


Written = Callable[[str, Any], str]


def quoted(name: str, value: Any) -> str:
    """Return a value as Python writes it."""
    return repr(value)


def value_differences(
    given: Mapping[str, Any], found: Mapping[str, Any], written: Written = quoted
) -> list[str]:
    """Return one phrase for each name whose values differ. A missing value is None.

    Args:
        given: values here, by the names of the options.
        found: values there.
        written: function from name and value to the text of the value.
    """
    return [
        phrase
        for name in dict.fromkeys([*given, *found])
        for phrase in _phrase(name, given.get(name), found.get(name), written)
    ]


def check_configuration(
    place: Path, given: Mapping[str, Any], found: Mapping[str, Any], advice: str = ""
) -> None:
    """Raise ValueError unless the run of a folder has the configuration given here.

    Args:
        place: the folder.
        given: values here, in the types of JSON.
        found: values there.
        advice: end of the message.
    """
    phrases = value_differences(given, found)
    if phrases:
        raise ValueError(
            f"{place} holds a run of another configuration ({'; '.join(phrases)}){advice}"
        )


def differences(given: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Differences between two runs, one phrase for each. Empty for the same run.

    Args:
        given: the content of ``run.json`` here, in the types of JSON.
        found: the same of the run there.
    """
    files = [*_of_files(given, found)]
    if not files and all(_compared(given, part) == _compared(found, part) for part in PARTS):
        return []
    commands = [
        *_phrase("command", *(_part(run, "arguments").get("command") for run in (given, found)))
    ]
    if commands:  # then nothing else compares
        return commands
    phrases = [
        *_of_samples(given, found),
        *_of_models(given, found),
        *files,
        *_of_arguments(given, found),
        *_phrase(
            "version of art-ext", *(_part(run, "identity").get("art-ext") for run in (given, found))
        ),
    ]
    if not phrases:
        sizes = (_part(run, "plan").get("chunk_size") for run in (given, found))
        phrases = [*_phrase("chunk_size", *sizes)] or ["attacks: other radii per run of an attack"]
    return list(dict.fromkeys(phrases))


def _part(run: Mapping[str, Any], part: str) -> dict[str, Any]:
    return dict(run.get(part) or {})


def _compared(run: Mapping[str, Any], part: str) -> dict[str, Any]:
    return {key: value for key, value in _part(run, part).items() if key not in APART.get(part, ())}


def _of_samples(given: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    """Differences in the number of samples, or else in the samples or their labels."""
    number = [
        *_phrase(
            "number of samples", *(_part(run, "plan").get("samples") for run in (given, found))
        )
    ]
    yield from number
    here, there = (_part(run, "identity") for run in (given, found))
    if not number and here.get("data") != there.get("data"):
        yield "data: other samples or labels there"
    if here.get("latents") != there.get("latents"):
        yield "latents: others there"
    if here.get("generator") != there.get("generator"):
        yield "generator: another one, or other weights there"
    for name in ("fit_data", "calibration_data"):  # of detectors
        if name in here and name in there and here[name] != there[name]:
            yield f"{name}: other samples or labels there"


def _of_models(given: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    """Differences in the names of models, or else in their class or weights."""
    here, there = (_part(_part(run, "identity"), "models") for run in (given, found))
    names = [*_phrase("model", list(here), list(there))]
    yield from names
    for name in () if names else here:
        own = name if len(here) > 1 else "the model"
        yield from _phrase(f"class of {own}", here[name].get("class"), there[name].get("class"))
        if here[name].get("state") != there[name].get("state"):
            yield f"weights of {own}: other values there"


def _of_files(given: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    """Attacks and models of the user's own whose files have changed."""
    for part, kind in FILES.items():
        here, there = (_part(_part(run, "identity"), part) for run in (given, found))
        for name in here:
            if name in there and here[name] != there[name]:
                yield f"{kind} {name}: its file has changed"


def _of_arguments(given: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Differences in options. The options that name samples and models are compared elsewhere."""
    here, there = (
        {
            name: value
            for name, value in flat(_compared(run, "arguments")).items()
            if name not in ("models", "samples", "n")
        }
        for run in (given, found)
    )
    return value_differences(here, there, _plain)


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of nested dicts under dotted names."""
    values: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            values |= flat(value, f"{prefix}{key}.")
        elif value != {}:
            values[f"{prefix}{key}"] = value
    return values


def _phrase(name: str, here: Any, there: Any, written: Written | None = None) -> Iterator[str]:
    """One phrase if the values differ."""
    if here == there:
        return
    texts = [(written or _plain)(name, value) for value in (there, here)]
    if max(map(len, texts)) > LONGEST:
        yield f"{name}: another value there"
    else:
        yield f"{name}: {texts[0]} there, {texts[1]} here"


def _plain(name: str, value: Any) -> str:
    """Return a value as it is given on the command line."""
    if value is None or value == []:
        return "none"
    if name == "eps" and isinstance(value, list):
        return ", ".join(map(radius, value))
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ", ".join(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
