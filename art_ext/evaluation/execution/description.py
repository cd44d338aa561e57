"""Description of a run for ``run.json``: identity, settings, protocol, versions and plan."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from importlib import metadata
from typing import Any

from art_ext import __version__
from art_ext.core.expectation import VERIFICATION_DRAWS
from art_ext.core.wording import counted, radius
from art_ext.data import LazyDataset, Samples
from art_ext.evaluation.analysis.blocks import NORMS
from art_ext.evaluation.execution.job import Job, files_of_models, identity_of_job
from art_ext.evaluation.execution.models import class_names_of, model_facts
from art_ext.evaluation.panel.arguments import recorded_arguments
from art_ext.evaluation.panel.attack import Attack, Settings
from art_ext.storage.units import plan


def describe(
    job: Job,
    arguments: Mapping[str, Any],
    panel: Mapping[str, Any],
    chunk_size: int,
    given: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Content of ``run.json`` before the run.

    Args:
        job: of the run.
        arguments: of the run, to record.
        panel: name of the panel, its version if it has one, and the members whose arguments were
            changed, if any.
        chunk_size: most samples in a unit.
        given: the models by name, as ``resolve_models`` returns them.
    """
    transform = job.data.transform if isinstance(job.data, LazyDataset) else None
    models = model_facts(given or {}, transform)
    names = job.data.class_names or class_names_of(given or {})
    attack_runs = [(name, attack.name, radii) for name, attack, radii in job.attack_runs]
    return {
        "arguments": dict(arguments),
        "identity": {**identity_of_job(job), **_own_files(job), "art-ext": __version__},
        "settings": job.settings.recorded(),
        "panel": {**panel, "mode": job.mode},
        "data": {
            "name": job.data.name,
            "samples": len(job.data),
            **({} if job.data.first_of is None else {"first_of": job.data.first_of}),
            "shape": list(job.data.shape),
            "class_names": names and list(names),
            **({} if transform is None else {"transform": asdict(transform)}),
        },
        "attacks": {
            attack.name: {
                "nearest": attack.nearest,
                "stops_early": attack.stops_early,
                "minimises": attack.minimises,
                "access": attack.access,
                "arguments": recorded_arguments(attack.name, attack.arguments),
                **_tanh_iterations(attack, job.settings),
                **({"chain": True} if attack.chain else {}),
                **_form(attack, job),
            }
            for attack in job.panel
        },
        **({"trace_at": list(job.marks)} if job.marks else {}),
        **({"models": dict(models)} if models else {}),
        "protocol": [
            *protocol(job.data, job.panel, job.settings, job.mode),
            *(preprocessing(models, transform is not None) or _reading(transform)),
            *_detecting(job),
        ],
        "versions": versions(),
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "plan": plan(
            len(job.data),
            chunk_size,
            attack_runs,
            None if job.detection is None else job.detection.names,
        ),
    }


def preprocessing(models: Mapping[str, Mapping[str, Any]], resized: bool) -> list[str]:
    """Return a sentence on each model whose images are preprocessed.

    Args:
        models: facts of models, by name.
        resized: True if the images are resized or cropped.
    """
    image = "the resized and cropped image" if resized else "the image"
    return [
        f"Images for {name} ({facts['source']}): {facts['preprocessing']}. The radius is in pixels"
        f" of {image} in [0, 1]."
        for name, facts in models.items()
        if facts["preprocessing"] != "none"
    ]


def _detecting(job: Job) -> list[str]:
    """Return the sentences on detectors. Empty without one."""
    if job.detection is None:
        return []
    names = dict.fromkeys(job.detection.names.values())
    aware = [attack.name for attack in job.panel if attack.aware_of]
    return [
        f"Detectors ({', '.join(names)}) are fitted to clean training data, and their thresholds"
        " set on clean images that are not attacked. An input is rejected if its score exceeds the"
        " threshold. What an attack returned is given to the detector once more, outside of its"
        " ledger.",
        *(
            [
                f"Attacks that know the detector ({', '.join(aware)}) count only rows that it"
                " accepts, and each row that it needs is a query."
            ]
            if aware
            else []
        ),
        *(
            ["The cascade passes a sample on until it has a success that the detector accepts."]
            if job.mode == "cascade"
            else []
        ),
    ]


def _reading(transform: object) -> list[str]:
    """Return a sentence on the resizing and cropping of images before live models."""
    if transform is None:
        return []
    return [f"Image files are read with {transform}. The radius is in pixels of the result."]


def _own_files(job: Job) -> dict[str, Any]:
    """Return digests of the files of the user's own attacks and models, by their names."""
    attacks = {attack.name: attack.digest for attack in job.panel if attack.digest}
    digests = {"attacks": attacks, "model_files": files_of_models(job)}
    return {part: found for part, found in digests.items() if found}


def _tanh_iterations(attack: Attack, settings: Settings) -> dict[str, int]:
    """Entry of ``run.json`` for an attack in tanh space. Empty for others."""
    most = attack.tanh_iterations(settings)
    return {} if most is None else {"tanh_iterations": most}


def _form(attack: Attack, job: Job) -> dict[str, Any]:
    """Entries of ``run.json`` on an attack that knows a detector or that a head declares."""
    found: dict[str, Any] = {}
    if job.detection is not None:
        found["aware_of"] = attack.aware_of
    if attack.adaptive:
        found["adaptive"] = True
    return found


def versions() -> dict[str, str]:
    """Return the versions of the software."""
    found = {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
    }
    for name in ("art-ext", "torch", "numpy"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # a source tree that was never installed
            found[name] = "unknown"
    return found


_TARGETED = (
    (
        "Robust accuracy is the share of all samples that are classified correctly and that the"
        " attack did not drive to their target. Other classes are not covered."
    ),
    (
        "Samples that are misclassified, or whose label is the target, are not attacked, and"
        " recorded with no query. The success rate is over the correctly classified samples whose"
        " label is not the target."
    ),
)


def _goal(settings: Settings) -> str:
    if settings.targeted is None:
        return "untargeted"
    goals = {
        "random": (
            "towards random targets (uniform over the classes other than the label, from a stream"
            " of the seed and the sample)"
        ),
        "least-likely": (
            "towards the class of each sample's lowest clean score (one more forward per sample)"
        ),
        "next": "towards the class after each label (modulo the number of classes)",
    }
    return goals.get(str(settings.targeted), f"towards class {settings.targeted}")


def _arguments_of(attack: Attack) -> str:
    told = recorded_arguments(attack.name, attack.arguments)
    return f"{attack.name} runs with {', '.join(f'{key} = {told[key]}' for key in told)}."


_CASCADE = (
    "The attacks form a cascade: each is given only the correctly classified samples without a"
    " success of an earlier attack within the radius, or within a smaller one. The robust accuracy"
    " of an attack is that after it and all before it. Its success rate is over the samples that it"
    " was given. Clean checks of an attack are charged to those samples only."
)
_INDEPENDENT = "Every attack is given all samples, independently of the others."


_FASTER = {
    "amp": (
        "Our attacks compute gradients in bfloat16. Each success was verified by a forward in"
        " float32, which is a query."
    ),
    "channels_last": "Our attacks call networks on images in channels-last memory.",
    "compile": "Our attacks call networks through torch.compile.",
}


def _who(mode: str) -> str:
    """Return the subject of a sentence on the samples that an attack works on."""
    return "Each sample that the attack is given" if mode == "cascade" else "Each sample"


def _given(mode: str, settings: Settings) -> str:
    """Return the end of a sentence on a run that serves every eps, about what it was given."""
    if mode != "cascade" or len(settings.eps) == 1:
        return ""
    return (
        f", which are those of the samples that it was given: without an earlier success at"
        f" {radius(settings.eps[0])}, the smallest eps. At a larger eps its success rate is over"
        " those of them without an earlier success there"
    )


def _expectation(draws: int) -> str:
    return (
        f"Each answer is the average over {counted(draws, 'draw')} of the model, which counts as"
        f" one query. A success is confirmed by more than half of {VERIFICATION_DRAWS} fresh draws."
    )


def _stability(panel: Sequence[Attack]) -> str:
    names = ", ".join(attack.name for attack in panel if not attack.nearest)
    return (
        f"Attacks within a fixed eps ({names}) also ran on the misclassified samples, with the"
        " model's own prediction as the class to leave. Stability is the share of all samples whose"
        " prediction no attack changed within eps. A misclassified sample counts as unstable at eps"
        " if its prediction was changed there or at a smaller eps."
    )


def _chains(panel: Sequence[Attack]) -> list[str]:
    """Return a sentence on the states of chains. Empty without one."""
    names = ", ".join(attack.name for attack in panel if attack.chain)
    if not names:
        return []
    return [
        f"Several states of each sample are kept ({names}). The model predicts each of them once,"
        " outside of the ledger. Acceptance, diversity, classes and all-or-nothing are over the"
        " correctly classified samples that the attack was given."
    ]


def protocol(data: Samples, panel: Sequence[Attack], settings: Settings, mode: str) -> list[str]:
    """Return the protocol of a run, one or two sentences per entry."""
    lower, upper = settings.clip_values
    radii = ", ".join(map(radius, settings.eps))
    sentences = [
        (
            f"The {counted(len(data), 'sample')} of {data.name} in the order of the data set,"
            f" attacked {_goal(settings)} within {NORMS[settings.norm]} radius {radii} and the box"
            f" [{lower:g}, {upper:g}]."
        ),
        (
            "Clean accuracy comes from one forward per sample before the attacks, outside their"
            " ledgers."
        ),
        (
            "A sample counts as a success if the very tensor that the model misclassified lies in"
            " the box and within eps + 1e-6 of the input, measured in float64."
        ),
        *(() if settings.draws is None else (_expectation(settings.draws),)),
        *(() if settings.targeted is None else _TARGETED),
        *((_CASCADE if mode == "cascade" else _INDEPENDENT,) if len(panel) > 1 else ()),
        *((_stability(panel),) if settings.stability else ()),
        *(attack.about for attack in panel),
        *_chains(panel),
        *(_arguments_of(attack) for attack in panel if attack.arguments),
    ]
    searching = ", ".join(attack.name for attack in panel if attack.nearest and attack.stops_early)
    minimising = ", ".join(
        attack.name for attack in panel if attack.nearest and not attack.stops_early
    )
    filling = ", ".join(attack.name for attack in panel if not attack.nearest)
    bounded = ", ".join(
        attack.name for attack in panel if attack.bounded and "max_queries" not in attack.arguments
    )
    if filling:
        sentences.append(
            f"Attacks within a fixed eps ({filling}) run once for each eps, and know no"
            " distance beyond it. Their queries are the rows that they send forward."
        )
    if minimising:
        sentences.append(
            f"Attacks that minimise a distortion ({minimising}) end by their own schedule, and one"
            f" run serves every eps. Distances are measured in {NORMS[settings.norm]}, whatever"
            " the attack minimises, and are those of the nearest adversarial found. Queries count"
            " from the beginning to the first adversarial within eps. Each eps repeats that run's"
            f" distances, queries and seconds{_given(mode, settings)}."
        )
        sentences += [
            f"{attack.name} attacks all wrong classes of a sample, and again for each eps. Queries"
            " until success are counted as if one class came after the other."
            for attack in panel
            if attack.nearest and "targets" in attack.arguments
        ]
    if bounded:
        sentences.append(f"At most {settings.max_queries:,} queries per sample ({bounded}).")
    if searching and settings.stop_on_success:
        sentences.append(
            f"A sample stops at its first success ({searching}), so its distance is only an upper"
            " bound, and there is no ADBD. The attack runs once for each eps."
        )
    elif searching:
        sentences.append(
            f"{_who(mode)} spends all its queries on the nearest adversarial ({searching}). One"
            " run serves every eps: success is read from the distance of the nearest adversarial"
            " found, queries until success from the first adversarial within eps. Each eps repeats"
            f" that run's ADBD, queries and seconds{_given(mode, settings)}."
        )
    sentences += [text for name, text in _FASTER.items() if name in settings.faster]
    sentences.append(
        f"Seed {settings.seed}. Our attacks send at most {settings.batch_size} rows in a model"
        " call."
    )
    return sentences
