"""Panels: declared lists of attacks with their arguments, run as a cascade or independently.

::

    version = "2026.11"         # any text, which stands in the records. Default: none
    draws = 10                  # for models whose answers are random. Default: none
    mode = "cascade"            # or "independent"
    [[attack]]
    attack = "auto_pgd"         # or "FILE.py:FUNCTION", "torchattacks:PGD", "autoattack"
    [[attack]]
    name = "fw_margin"          # in records and tables. Default: the attack
    attack = "frank_wolfe"
    arguments = { loss = "margin", step_fraction = "1/2" }  # "eps/4": a fourth of the radius
    norms = ["linf", "l2"]      # in which it runs. Default: all
    optional = true             # skipped if its toolkit is not installed. Default: false
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from art_ext.configuration.parsing import read_toml, read_value
from art_ext.configuration.places import Keys, place_of, placed
from art_ext.core.attacks import registry
from art_ext.core.checks import check_choice, check_count, check_flag, nearest, same_name
from art_ext.core.geometry import NORMS
from art_ext.evaluation.analysis.blocks import WORST_CASE
from art_ext.evaluation.panel.attack import Attack
from art_ext.evaluation.panel.members import find_attack
from art_ext.evaluation.panel.targets import with_given_targets
from art_ext.evaluation.panel.user_attacks import name_of

MODES = ("cascade", "independent")
MAX_QUERIES = 10_000  # of a run, by default


@dataclass(frozen=True)
class Member:
    """An attack of a panel.

    Attributes:
        attack: its name, as ``find_attack`` knows it.
        arguments: its arguments besides the settings.
        name: name in records and tables. Empty takes the attack.
        why: reason why it is there, in a few words. Those of built-in panels stand in the
            documentation.
        norms: the norms in which it runs. In others the panel goes on without it.
        optional: True if the panel goes on without it where its toolkit is not installed.
    """

    attack: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    why: str = field(default="", compare=False)
    norms: tuple[str, ...] = NORMS
    optional: bool = False

    def __post_init__(self) -> None:
        if not self.norms:
            raise ValueError(f"norms of {self.label} must hold at least one norm, got none")
        for norm in self.norms:
            check_choice("norms", norm, NORMS)
        check_flag("optional", self.optional)

    @property
    def missing(self) -> str:
        """Reason why it is skipped. Empty unless it is optional and its toolkit is missing."""
        if not self.optional:
            return ""
        try:
            find_attack(self.attack, {})
        except ImportError as error:
            return str(error)
        return ""

    @property
    def label(self) -> str:
        """Name in records and tables."""
        return self.name or name_of(self.attack)


@dataclass(frozen=True)
class Panel:
    """Attacks that are run together.

    Attributes:
        name: of the panel.
        mode: ``"cascade"``: each attack is given only the samples without a success of an earlier
            one, so the cheapest come first. ``"independent"``: each is given all.
        members: in the order in which they run.
        file: TOML file that declares it, for errors. None: there is none.
        version: year and month in which its members were chosen, such as ``"2026.11"``, or any
            text. Empty: it has none.
        draws: calls of the model that each answer averages, for models whose answers are random.
            None: the model is attacked as it is.
    """

    name: str
    mode: str
    members: tuple[Member, ...]
    file: Path | None = field(default=None, compare=False)
    version: str = ""
    draws: int | None = None

    def __post_init__(self) -> None:
        check_choice("mode", self.mode, MODES)
        _check_members(self.members)
        if self.draws is not None:
            check_count("draws", self.draws)

    @property
    def full_name(self) -> str:
        """Name and version, such as ``"standard-2026.11"``."""
        return f"{self.name}-{self.version}" if self.version else self.name

    def changed(self, arguments: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Return the names of the members to which these arguments give other values."""
        given = {name.casefold(): more for name, more in arguments.items()}
        return [
            member.label
            for member in self.members
            if any(
                key not in member.arguments or member.arguments[key] != value
                for key, value in given.get(member.label.casefold(), {}).items()
            )
        ]

    def keys(self, label: str) -> Keys:
        """Return the place of a member in the file of the panel, by the member's name."""
        labels = [member.label.casefold() for member in self.members]
        return "attack", labels.index(label.casefold())

    def attacks(
        self,
        arguments: Mapping[str, Mapping[str, Any]] | None = None,
        norm: str | None = None,
        targeted: bool = False,
    ) -> list[Attack]:
        """Return the members for the evaluation.

        Args:
            arguments: by a member's name, arguments besides or instead of its own.
            norm: only the members that run in this norm. None takes all.
            targeted: True for a run that gives the classes to reach. Members that would choose
                some ascend the margin of the given one. Members that cannot be targeted are left
                out.

        Raises:
            ValueError: for a name without a member, an unknown attack, arguments that it does not
                take, a norm in which no member runs, or targets that no member takes.
            ImportError: if the toolkit of an external attack is missing.
        """
        members = [
            member
            for member in self.members
            if (norm is None or norm in member.norms) and not member.missing
        ]
        if not members:
            raise ValueError(f"panel {self.name} has no attack that runs in norm {norm!r}")
        more = assign_arguments(
            arguments or {}, {member.label: member.attack for member in members}
        )
        found = []
        for member in members:
            given = more[member.label]
            own = with_given_targets(member.arguments) if targeted else member.arguments
            with placed(self.file, self.keys(member.label), given):
                made = find_attack(member.attack, {**own, **given}, member.name or None)
            if not (targeted and made.no_targets):
                found.append(made)
        if not found:
            raise ValueError(f"panel {self.name} has no attack that can be targeted")
        return found


def check_member_names(names: Collection[str]) -> None:
    """Raise ValueError if a name is that of the rows that sum up a panel."""
    if same_name(WORST_CASE, names) is not None:
        raise ValueError(
            f"no attack may be called {WORST_CASE!r}: this is the name of the rows that sum up the"
            " panel in table.csv. Choose another name"
        )


def _check_members(members: Sequence[Member]) -> None:
    """Raise ValueError unless there are members, and each has a name of its own."""
    labels = [member.label for member in members]
    if not labels or len(set(labels)) < len(labels):
        raise ValueError(
            f"a panel needs at least one attack, each with a name of its own, got {labels}"
        )
    check_member_names(labels)
    for member in members:
        _check_label(member)


def _check_label(member: Member) -> None:
    """Raise ValueError if a member has the name of another attack of art-ext."""
    known = same_name(member.label, registry.names())
    if (
        known is not None
        and registry.is_built_in(registry.get(known))
        and same_name(member.attack, [known]) is None
    ):
        raise ValueError(
            f"the member {member.label!r} of a panel runs {member.attack!r}, and art-ext has an"
            f" attack {known!r}: choose another name"
        )


def assign_arguments(
    arguments: Mapping[str, Mapping[str, Any]], attacks: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """Return the arguments of each of these attacks. Names ignore case.

    Args:
        arguments: by the name of an attack in records.
        attacks: by that name, the attack as ``find_attack`` takes it.

    Raises:
        ValueError: for arguments of an attack that is not among them, or of none. The message names
            the most similar one.
    """
    names = list(attacks)
    assigned: dict[str, dict[str, Any]] = {name: {} for name in names}
    for name, given in arguments.items():
        if not name:
            raise ValueError(_without_a_name(given, attacks))
        own = same_name(name, names)
        if own is None:
            raise ValueError(
                f"attack-args must name attacks of this run ({', '.join(names)}), got"
                f" {name!r}{nearest(name, names)}"
            )
        assigned[own] |= given
    return assigned


def _without_a_name(given: Mapping[str, Any], attacks: Mapping[str, str]) -> str:
    """Return the message about arguments without the name of an attack.

    It says which attack takes the first of them, or the arguments of the first attack.
    """
    key = next(iter(given))
    wrong = f"attack-args must be name.key=value, got {key!r} without a name"
    reasons = []
    for name, attack in attacks.items():
        try:
            find_attack(attack, {key: given[key]})
        except (ValueError, ImportError) as error:
            reasons.append(str(error))
        else:
            return f"{wrong}: did you mean {name}.{key}?"
    return ": ".join([wrong, *reasons[:1]])


_SMOOTH = ("linf", "l2")
_LABELS = "sees labels only, and succeeds where gradients are masked"
_MARGIN = (
    "needs no projection, and the gradient of its margin does not vanish where that of the"
    " cross-entropy does"
)
# at 8/255 a step of 2/255. Steps after a success change no verdict
_TWENTY = {"num_steps": 20, "step_size": "eps/4", "stop_on_success": True}
# a released version keeps its members: other members are a further entry with another version. The
# last entry of a name is the one that the name alone means
_BUILT_IN = (
    # a first impression: seconds for a small network
    Panel(
        "quick",
        "cascade",
        (
            Member(
                "pgd",
                {"num_steps": 20, "stop_on_success": True},
                why="most samples fall to its first steps",
            ),
            Member("frank_wolfe", {"loss": "margin"}, why=_MARGIN),
            Member("rays", {"max_queries": 200}, why=_LABELS),
        ),
        version="2026.11",
    ),
    # comparable to AutoAttack: two ascents that need no tuning, an attack without projection,
    # one without gradients
    Panel(
        "standard",
        "cascade",
        (
            Member(
                "auto_pgd",
                {"loss": "ce", "num_steps": 100},
                "auto_pgd_ce",
                "an ascent without a step size to choose. Most samples fall to it",
            ),
            Member(
                "auto_pgd",
                {"num_targets": 9, "num_steps": 100, "target_ranking": "score"},
                "auto_pgd_targeted",
                "succeeds where the best wrong class is not the nearest one",
            ),
            Member("frank_wolfe", {"loss": "margin"}, why=_MARGIN),
            Member("rays", {"max_queries": 1500}, why=_LABELS),
        ),
        version="2026.11",
    ),
    # stronger and cheaper: each member was chosen by measurement (docs/explanation/strength.md)
    Panel(
        "standard",
        "cascade",
        (
            Member(
                "auto_pgd",
                {"loss": "probability_margin", "num_steps": 100},
                "auto_pgd_probability",
                "an ascent without a step size to choose. Most samples fall to it",
            ),
            Member(
                "auto_pgd",
                {"num_targets": 9, "survey_steps": 20, "num_steps": 100},
                "auto_pgd_targeted",
                "succeeds where the best wrong class is not the nearest one. Its margin does not"
                " vanish where the model is sure",
                _SMOOTH,
            ),
            Member(
                "auto_pgd",
                {"loss": "probability_margin", "num_steps": 30, "search_queries": 1000},
                "auto_pgd_searched",
                "a random search of scores finds the start of an ascent, where gradients around"
                " the input are small or mislead",
                _SMOOTH,
            ),
            Member(
                "auto_pgd",
                {"num_targets": 9, "survey_steps": 50, "num_steps": 300, "larger_balls": True},
                "auto_pgd_larger",
                "in L1 the ascent changes few entries at a time. Larger balls at the beginning let"
                " it choose others",
                ("l1",),
            ),
            Member(
                "auto_pgd",
                {"num_targets": 9, "survey_steps": 50, "num_steps": 300},
                "auto_pgd_longer",
                "in L1 an ascent needs more steps. Other entries are found in the ball itself",
                ("l1",),
            ),
            Member("rays", {"max_queries": 200}, why=_LABELS),
        ),
        version="2026.12",
    ),
    # for models whose gradients are not available, or not to be trusted
    Panel(
        "black-box",
        "cascade",
        (
            Member(
                "frank_wolfe_black_box",
                why="estimates gradients from scores, and needs no projection",
            ),
            Member("nes", why="estimates gradients from scores, and follows their signs"),
            Member("rays", why="sees labels only, and succeeds where scores are masked too"),
        ),
        version="2026.11",
    ),
    # the attacks on labels side by side, each on all samples
    Panel(
        "hard-label",
        "independent",
        (
            Member("rays", why="searches sign vectors, without a random number"),
            Member(
                "sign_opt",
                why="descends the distance to the boundary over all directions",
                norms=_SMOOTH[:1],
            ),
            Member(
                "foolbox:HopSkipJumpAttack",
                why="estimates the boundary's normal. From another toolkit",
                norms=_SMOOTH,
                optional=True,
            ),
        ),
        version="2026.12",
    ),
    # the columns of tables of adversarial training, each on all samples
    Panel(
        "adversarial-training",
        "independent",
        (
            Member("pgd", _TWENTY, "pgd_20", "the ascent of the cross-entropy in 20 steps"),
            Member("m_pgd", _TWENTY, "m_pgd_20", "the same steps with momentum"),
            Member(
                "pgd",
                {"loss": "margin", **_TWENTY},
                "cw_20",
                "the same steps on the margin, which tables call CW-20",
            ),
            Member(
                "autoattack",
                why="the ensemble that leaderboards rank by. From another toolkit",
                optional=True,
            ),
            Member("rays", why=_LABELS),
        ),
        version="2026.12",
    ),
    # for models whose answers are random: two losses of an ascent on their average
    Panel(
        "rand",
        "cascade",
        (
            Member(
                "auto_pgd",
                {"loss": "probability_margin", "num_steps": 50},
                "auto_pgd_probability",
                why="most samples that fall do so here",
            ),
            Member(
                "auto_pgd",
                {"loss": "ce", "num_steps": 50},
                "auto_pgd_ce",
                why="another loss, from another start",
            ),
        ),
        version="2026.11",
        draws=10,
    ),
    # the attacks of the papers with the papers' settings, each on all samples
    Panel(
        "paper",
        "independent",
        (
            Member("fgsm"),
            Member("pgd"),
            Member("mi_fgsm"),
            Member("frank_wolfe"),
            Member("ai_fgsm"),
            Member("hmcam"),
            Member("ead"),
            Member("frank_wolfe_black_box"),
            Member("nes"),
            Member("zoo"),
            Member("rays"),
        ),
        version="2026.11",
    ),
)
PANELS = {panel.name: panel for panel in _BUILT_IN}
VERSIONS = {panel.full_name: panel for panel in _BUILT_IN}


def own_budgets(
    panel: str | os.PathLike[str] | Panel | None,
    arguments: Mapping[str, Mapping[str, Any]] | None,
    max_queries: int,
) -> list[str]:
    """Return a line on each attack whose budget a panel sets, where the run has another one.

    Args:
        panel: as of ``evaluate``.
        arguments: of attacks, by the names of the members.
        max_queries: of the run. There is no line on its default.
    """
    if panel is None or max_queries == MAX_QUERIES:
        return []
    found = resolve_panel(panel)
    given = {name.casefold() for name, more in (arguments or {}).items() if "max_queries" in more}
    return [
        f"panel {found.name}: {member.label} keeps its own max_queries"
        f" {member.arguments['max_queries']:,}. --attack-args"
        f" {member.label}.max_queries={max_queries} changes it"
        for member in found.members
        if member.arguments.get("max_queries", max_queries) != max_queries
        and member.label.casefold() not in given
    ]


def skipped(
    panel: str | os.PathLike[str] | Panel | None, norm: str, targeted: bool = False
) -> list[str]:
    """Return a line on each attack of a panel that is skipped, because its toolkit is missing, or
    because it cannot be targeted.

    Args:
        panel: as of ``evaluate``.
        norm: of the run. Members that do not run in it have no line.
        targeted: True for a run that gives the classes to reach.
    """
    if panel is None:
        return []
    found = resolve_panel(panel)
    reasons = {
        member.label: member.missing or (_untargeted(member) if targeted else "")
        for member in found.members
        if norm in member.norms
    }
    return [
        f"panel {found.name} goes on without {name}: {reason}"
        for name, reason in reasons.items()
        if reason
    ]


def _untargeted(member: Member) -> str:
    """Reason why a member cannot be targeted. Empty if it can."""
    attack = find_attack(member.attack, with_given_targets(member.arguments))
    return f"it cannot be targeted: {attack.no_targets}" if attack.no_targets else ""


def find_panel(name: str | os.PathLike[str]) -> Panel:
    """Return the built-in panel of that name, in any case, or the one that a TOML file declares.

    Args:
        name: name of a built-in panel, which means its newest version, name and version as in
            ``"standard-2026.11"``, or a TOML file.

    Raises:
        ValueError: for an unknown name, version or file, or a file that declares no panel.
    """
    known = {**PANELS, **VERSIONS}
    own = same_name(str(name), known)
    if own is not None:
        return known[own]
    path = Path(name)
    if path.suffix != ".toml" or not path.is_file():
        raise ValueError(_unknown(str(name)))
    return _declared(path)


def _unknown(name: str) -> str:
    """Return the message about a name without a panel, or with a version that does not exist."""
    for panel in PANELS:
        if name.casefold().startswith(f"{panel}-"):
            versions = [full for full, one in VERSIONS.items() if one.name == panel]
            return (
                f"panel {panel} has the versions {', '.join(versions)}, got {name!r}"
                f"{nearest(name, versions)}"
            )
    return (
        f"panel must be one of {', '.join(PANELS)}, or an existing .toml file, got"
        f" {name!r}{nearest(name, PANELS)}"
    )


def with_version(name: str) -> str:
    """Return the name of a built-in panel with its newest version, and any other name as it is."""
    own = same_name(name, PANELS)
    return name if own is None else PANELS[own].full_name


def resolve_panel(panel: str | os.PathLike[str] | Panel) -> Panel:
    """Return a panel that is given as itself, or as ``find_panel`` takes it.

    Raises:
        ValueError: as ``find_panel``, and for another panel with the name of a built-in one, whose
            numbers would be taken for those of the built-in one.
    """
    found = panel if isinstance(panel, Panel) else find_panel(panel)
    taken = [*PANELS, *VERSIONS]
    own = same_name(found.name, taken) or same_name(found.full_name, taken)
    if own is not None and found not in VERSIONS.values():
        raise ValueError(
            f"a panel of your own must not be called {own!r}, which is a panel of art-ext: choose"
            " another name"
        )
    return found


def _declared(path: Path) -> Panel:
    declared = read_toml(path)
    _known(path, declared, ("name", "version", "mode", "draws", "attack"))
    entries = declared.get("attack")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"{place_of(path, 'attack')}: attacks must be listed as [[attack]] tables")
    members: list[Member] = []
    for number, entry in enumerate(entries):
        own: Keys = ("attack", number)
        _known(path, entry, ("name", "attack", "arguments", "norms", "optional"), own)
        for key in ("attack", *(key for key in ("name",) if key in entry)):
            if not isinstance(entry.get(key), str):
                raise ValueError(
                    f"{place_of(path, *own, key)}: {key} of an [[attack]] must be a text, got"
                    f" {entry.get(key, 'none')!r}"
                )
        arguments = entry.get("arguments", {})
        if not isinstance(arguments, dict):
            raise ValueError(
                f"{place_of(path, *own, 'arguments')}: arguments of {entry['attack']} must be a"
                f" table, got {arguments!r}"
            )
        norms = entry.get("norms", NORMS)
        if not isinstance(norms, list | tuple):
            raise ValueError(
                f"{place_of(path, *own, 'norms')}: norms of {entry['attack']} must be a list of"
                f" norms, got {norms!r}"
            )
        given = {key: read_value(one) for key, one in arguments.items()}
        with placed(path, own):
            members.append(
                Member(
                    entry["attack"],
                    given,
                    entry.get("name", ""),
                    norms=tuple(norms),
                    optional=entry.get("optional", False),
                )
            )
            _check_members(members)
    with placed(path):
        return Panel(
            str(declared.get("name", path.stem)),
            declared.get("mode", "cascade"),
            tuple(members),
            path,
            str(declared.get("version", "")),
            declared.get("draws"),
        )


def _known(path: Path, table: Mapping[str, Any], keys: tuple[str, ...], within: Keys = ()) -> None:
    unknown = sorted(set(table) - set(keys))
    if unknown:
        raise ValueError(
            f"{place_of(path, *within, unknown[0])}: wanted {', '.join(keys)} only, got"
            f" {', '.join(unknown)}{nearest(unknown[0], keys)}"
        )
