"""Protocol, command line and versions of the runs of a report."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from art_ext.configuration.repeating import command_line, configuration
from art_ext.evaluation.analysis.together import models_of
from art_ext.evaluation.panel.panels import PANELS, VERSIONS
from art_ext.evaluation.report.material import Material, Section
from art_ext.storage.evaluation import CONFIGURATION
from art_ext.storage.store import store_of

if TYPE_CHECKING:
    from art_ext.evaluation.analysis.records import LoadedRun

SENTENCES = re.compile(r"(?<=\.)\s+(?=[A-Z])")


def section(material: Material) -> Section:
    """Return the protocol, command line and versions of each run."""
    content = {
        "protocol": protocol(material.loaded),
        "repeats": {one.folder: repeat(one) for one in material.loaded},
        "versions": versions(material.loaded),
    }
    return Section("method", "Method and versions", content, "protocol, command line, versions")


def protocol(loaded: Sequence[LoadedRun]) -> list[tuple[str, list[str]]]:
    """Return the sentences of all runs, and then those of each one, without any twice.

    Returns:
        the name of a run, empty for all of them, with entries of one or more sentences.
    """
    every = [list(map(SENTENCES.split, one.run["protocol"])) for one in loaded]
    texts = [{sentence for entry in own for sentence in entry} for own in every]
    shared = set.intersection(*texts)
    seen: set[str] = set()
    parts = [("", _entries(every[0], shared, seen))]
    for one, own, sentences in zip(loaded, every, texts, strict=True):
        parts.append((one.folder.name, _entries(own, sentences, seen)))
    return [(name, entries) for name, entries in parts if entries]


def _entries(own: Sequence[Sequence[str]], wanted: set[str], seen: set[str]) -> list[str]:
    """Return the entries of a run with those of the wanted sentences that were not seen before."""
    entries = []
    for sentences in own:
        left = [one for one in dict.fromkeys(sentences) if one in wanted and one not in seen]
        seen.update(left)
        if left:
            entries.append(" ".join(left))
    return entries


def repeat(one: LoadedRun) -> tuple[str, str, str]:
    """Return how to repeat a run: a command line, and a file for it with a name of its own.

    Returns:
        the command line, the name of the file and its content. The last two are empty where the
        command line needs no file.
    """
    arguments = one.run["arguments"]
    if arguments.get("command") == "demo":
        return f"art-ext demo --seed {arguments['seed']} --out FOLDER", "", ""
    store = store_of(one.folder)
    if arguments.get("command") == "evaluate" and store.exists(CONFIGURATION):
        text = store.read(CONFIGURATION).decode("utf-8")
        command = command_line(text)
        if command is not None:
            return command, "", ""
    else:
        text = configuration(arguments, ", ".join(models_of(one)), {**PANELS, **VERSIONS})
    return f"art-ext evaluate --config {CONFIGURATION} --out FOLDER", CONFIGURATION, text


def versions(loaded: Sequence[LoadedRun]) -> list[tuple[str, Mapping[str, str]]]:
    """Return the versions of software with the names of the runs that have them.

    The names are empty where all runs have the same versions.
    """
    found: list[tuple[list[str], Mapping[str, str]]] = []
    for one in loaded:
        own = [names for names, other in found if other == one.run["versions"]]
        if own:
            own[0].append(one.folder.name)
        else:
            found.append(([one.folder.name], one.run["versions"]))
    return [(", ".join(names) if len(found) > 1 else "", own) for names, own in found]
