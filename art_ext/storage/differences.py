"""Differences between two runs, in the words of the options and of what they name."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from art_ext.core.wording import radius

# of run.json: what must agree for two runs to be the same
PARTS = ("arguments", "identity", "plan")
PLACES = ("weights", "path")  # where model and data lie: the identity tells what they hold
LONGEST = 60  # letters of a value that a message shows


def differences(given: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Differences between two runs, one phrase for each. Empty for the same run.

    Args:
        given: the content of ``run.json`` here, in the types of JSON.
        found: the same of the run there.
    """
    if all(_compared(given, part) == _compared(found, part) for part in PARTS):
        return []
    commands = [
        *_phrase("command", *(_part(run, "arguments").get("command") for run in (given, found)))
    ]
    if commands:  # then nothing else compares
        return commands
    phrases = [
        *_of_samples(given, found),
        *_of_models(given, found),
        *_of_attacks(given, found),
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
    return {
        key: value
        for key, value in _part(run, part).items()
        if part != "arguments" or key not in PLACES
    }


def _of_samples(given: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    """Differences in the number of samples, or else in the samples or their labels."""
    number = [
        *_phrase(
            "number of samples", *(_part(run, "plan").get("samples") for run in (given, found))
        )
    ]
    yield from number
    if not number and _part(given, "identity").get("data") != _part(found, "identity").get("data"):
        yield "data: other samples or labels there"


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


def _of_attacks(given: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    """Attacks of the user's own whose files have changed."""
    here, there = (_part(_part(run, "identity"), "attacks") for run in (given, found))
    for name in here:
        if name in there and here[name] != there[name]:
            yield f"attack {name}: its file has changed"


def _of_arguments(given: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    """Differences in options. The options that name samples and models are compared elsewhere."""
    here, there = (_flat(_compared(run, "arguments")) for run in (given, found))
    for name in dict.fromkeys([*here, *there]):
        if name not in ("models", "samples", "n"):
            yield from _phrase(name, here.get(name), there.get(name))


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values of nested dicts under dotted names."""
    values: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            values |= _flat(value, f"{prefix}{key}.")
        elif value != {}:
            values[f"{prefix}{key}"] = value
    return values


def _phrase(name: str, here: Any, there: Any) -> Iterator[str]:
    """One phrase if the values differ."""
    if here == there:
        return
    texts = [_written(name, value) for value in (there, here)]
    if max(map(len, texts)) > LONGEST:
        yield f"{name}: another value there"
    else:
        yield f"{name}: {texts[0]} there, {texts[1]} here"


def _written(name: str, value: Any) -> str:
    if value is None or value == []:
        return "none"
    if name == "eps" and isinstance(value, list):
        return ", ".join(map(radius, value))
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ", ".join(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
