"""How a run was done and what its numbers mean, in sentences that travel with the records."""

from __future__ import annotations

from collections.abc import Sequence

from art_ext.data import Dataset
from art_ext.evaluation.panel import Attack, Settings
from art_ext.evaluation.table import NORMS, counted, radius

_TARGETED = (
    (
        "Robust accuracy is the share of all samples that are classified correctly and that the"
        " attack did not drive to their target: it says nothing of other classes."
    ),
    (
        "Samples that are misclassified, or whose label is the target, are not attacked, and"
        " recorded with no query. The success rate is over the correctly classified samples whose"
        " label is not the target."
    ),
)


def _aim(settings: Settings) -> str:
    if settings.targeted is None:
        return "untargeted"
    aims = {
        "random": (
            "towards random targets (uniform over the classes other than the label, from a stream"
            " of the seed and the sample)"
        ),
        "least-likely": (
            "towards the class of each sample's lowest clean score (one more forward per sample)"
        ),
    }
    return aims.get(str(settings.targeted), f"towards class {settings.targeted}")


def _asked(attack: Attack) -> str:
    return (
        f"{attack.name} runs with"
        f" {', '.join(f'{key} = {value}' for key, value in attack.arguments.items())}."
    )


_CASCADE = (
    "The attacks form a cascade: each gets only the correctly classified samples that those before"
    " it did not break within the radius, or within a smaller one. The robust accuracy of an attack"
    " is that after it and all before it; its success rate is over the samples that it got. An"
    " attack that spends a clean check on each sample does so only on those."
)
_INDEPENDENT = "Every attack gets all samples, whatever the others did."


def protocol(data: Dataset, panel: Sequence[Attack], settings: Settings, mode: str) -> list[str]:
    """The protocol of a run, one sentence or two per entry."""
    lower, upper = settings.clip_values
    radii = ", ".join(map(radius, settings.eps))
    sentences = [
        (
            f"The {counted(len(data), 'sample')} of {data.name} in the order of the data set,"
            f" attacked {_aim(settings)} within {NORMS[settings.norm]} radius {radii} and the box"
            f" [{lower:g}, {upper:g}]."
        ),
        (
            "Clean accuracy comes from one forward per sample before the attacks, outside their"
            " ledgers."
        ),
        (
            "A sample counts as broken if the very tensor that the model misclassified lies in the"
            " box and within eps + 1e-6 of the input, measured in float64."
        ),
        *(() if settings.targeted is None else _TARGETED),
        *((_CASCADE if mode == "cascade" else _INDEPENDENT,) if len(panel) > 1 else ()),
        *(attack.about for attack in panel),
        *(_asked(attack) for attack in panel if attack.arguments),
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
            f"Attacks that fill a given ball ({filling}) run once for each eps, and know no"
            " distance beyond it. Their queries are the rows that they send forward."
        )
    if minimising:
        sentences.append(
            f"Attacks that minimise a distortion ({minimising}) end by their own schedule, and one"
            f" search serves every eps. Distances are measured in {NORMS[settings.norm]}, whatever"
            " the attack minimises, and are those of the nearest of all adversarials that it came"
            " by; queries count from the beginning to the moment it first came within eps. Each"
            " eps repeats that search's distances, queries and seconds."
        )
        sentences += [
            f"{attack.name} attacks all wrong classes of a sample, and anew for each eps; queries"
            " until success are counted as if one class came after the other."
            for attack in panel
            if attack.nearest and "targets" in attack.arguments
        ]
    if bounded:
        sentences.append(f"At most {settings.max_queries:,} queries per sample ({bounded}).")
    if searching and settings.stop_on_success:
        sentences.append(
            f"A sample leaves the search for the nearest adversarial ({searching}) at its first"
            " success, so its distance is only an upper bound, and there is no ADBD; each eps has"
            " a search of its own."
        )
    elif searching:
        sentences.append(
            f"Each sample spends all its queries on the nearest adversarial ({searching}). One"
            " search serves every eps: success is read from the distance of the nearest"
            " adversarial found, queries from the moment the search first came within eps. Each"
            " eps repeats that search's ADBD, queries and seconds."
        )
    sentences.append(
        f"Seed {settings.seed}; our attacks send at most {settings.batch_size} rows in a model"
        " call."
    )
    return sentences
