"""The list of ART trainers, and the source text of their classes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields

from art_ext.core.keywords import HOST_KEYWORDS
from art_ext.shells.text import argument_texts, docstring, paragraph, renamed, valued
from art_ext.training import (
    Adp,
    Atcd,
    BackwardSmoothing,
    Cat,
    Distillation,
    Fast,
    Free,
    GradAlign,
    Mmc,
    Mmlda,
    Rce,
    Recipe,
    War,
    Yopo,
)

_NAMES = HOST_KEYWORDS["art"]["training"]  # of the arguments of recipes
_CLASSIFIER = (
    "classifier: a ``PyTorchClassifier`` with optimizer, clip_values and"
    " ``torch.nn.CrossEntropyLoss``."
)


@dataclass(frozen=True)
class TrainerShell:
    """The ART trainer of a recipe.

    Attributes:
        name: of the class.
        recipe: the recipe, whose fields give defaults, annotations and descriptions.
        parameters: names of the arguments in ART, in order.
        summary: first line of the docstring.
        url: of the paper.
        notes: further sentences of the docstring.
        texts: descriptions that differ from the recipe's, by name in ART.
        described: recipe that describes the arguments. None: the recipe itself.
        base: class that it derives from. ``"HeadTrainer"`` trains a copy, and gives it a head.
            ``"EnsembleTrainer"`` trains several copies with new weights.
        objectives: recipes by the name that the argument ``objective`` gives them.
    """

    name: str
    recipe: type[Recipe]
    parameters: str
    summary: str
    url: str
    notes: str = ""
    texts: Mapping[str, str] = field(default_factory=dict)
    described: type[Recipe] | None = None
    base: str = "CoreTrainer"
    objectives: Mapping[str, type[Recipe]] = field(default_factory=dict)


_CHAIN = "eps nb_replays max_iter eps_step lam rho alpha momentum order"
_CHAIN_NOTES = (
    "One pass over the data is ``nb_replays * max_iter`` epochs as the paper counts them."
)
_CRAFT = "craft eps max_iter eps_step boxed_start gain target norm bn_mode"
_CRAFT_TEXTS = {"max_iter": "steps of the craft. None: those of its recipe."}
_COPIES = "The passed classifier is not changed: ``get_classifier()`` is a new one."
_CHAIN_TEXTS = {"eps": "radius of the L-inf ball, in the units of x."}
TRAINERS = (
    TrainerShell(
        "AdversarialTrainerCATPyTorch",
        Cat,
        f"{_CHAIN} bn_mode",
        "Contrastive adversarial training: a Hamiltonian chain over several weight updates.",
        "https://arxiv.org/abs/2010.07849",
        notes=_CHAIN_NOTES,
        texts=_CHAIN_TEXTS,
        described=Atcd,
    ),
    TrainerShell(
        "AdversarialTrainerATCDPyTorch",
        Atcd,
        f"{_CHAIN} metropolis shared_test temperature kinetic bn_mode",
        "Adversarial training by contrastive divergence: CAT with a Metropolis-Hastings test.",
        "https://openreview.net/forum?id=Fn5wiAq2SR",
        notes=_CHAIN_NOTES,
        texts=_CHAIN_TEXTS,
    ),
    TrainerShell(
        "AdversarialTrainerBackwardSmoothingPyTorch",
        BackwardSmoothing,
        "eps eps_step beta gamma max_iter points variant start target boxed_start norm bn_mode",
        "Backward Smoothing: TRADES in two steps, the first of which approaches a random output.",
        "https://arxiv.org/abs/2010.01278",
    ),
    TrainerShell(
        "AdversarialTrainerWARPyTorch",
        War,
        "eps eps_step max_iter regulariser zeta rule lambda_0 hold_epochs gain alpha cap ema fixed"
        " start norm bn_mode",
        "Width adjusted regularisation: TRADES with a weight lambda that is adapted.",
        "https://arxiv.org/abs/2010.01279",
        notes="``history`` holds lambda.",
        texts={
            "eps_step": "length of each step. None: ``2.5 eps / max_iter``.",
            "max_iter": "steps of crafting.",
            "start": 'standard deviation of the initial noise of crafting, with ``"trades"``.',
        },
    ),
    TrainerShell(
        "AdversarialTrainerFreePyTorch",
        Free,
        "eps eps_step nb_replays norm",
        "Free adversarial training: one backward for the weights and for the perturbation.",
        "https://arxiv.org/abs/1904.12843",
        notes="One pass over the data is ``nb_replays`` epochs as the paper counts them.",
    ),
    TrainerShell(
        "AdversarialTrainerFastPyTorch",
        Fast,
        "eps eps_step max_iter start boxed_start norm bn_mode",
        "Fast adversarial training: one long step of crafting, or a few.",
        "https://arxiv.org/abs/2001.03994",
    ),
    TrainerShell(
        "AdversarialTrainerGradAlignPyTorch",
        GradAlign,
        "eps eps_step weight variant boxed_start norm bn_mode",
        "GradAlign: one step of crafting, and input gradients that agree around x.",
        "https://arxiv.org/abs/2007.02617",
        notes="``weight`` must be given unless eps is 4 to 12 of 255. ``history`` holds the mean"
        " cosine of the gradients.",
    ),
    TrainerShell(
        "AdversarialTrainerYOPOPyTorch",
        Yopo,
        "eps nb_outer nb_inner eps_step first first_gradient boxed_start norm",
        "YOPO: the perturbation moves by passes through the first layer only.",
        "https://arxiv.org/abs/1905.00877",
        notes="``history`` and ``last_result`` hold ``first_layer_rows``.",
    ),
    TrainerShell(
        "TrainerReverseCrossEntropyPyTorch",
        Rce,
        _CRAFT,
        "Reverse cross-entropy: the output of the label becomes the smallest.",
        "https://arxiv.org/abs/1706.00633",
        notes=f"{_COPIES} The head returns minus the outputs.",
        texts=_CRAFT_TEXTS,
        base="HeadTrainer",
    ),
    TrainerShell(
        "TrainerMaxMahalanobisPyTorch",
        Mmc,
        f"objective dim centre_norm centres centre_seed factor {_CRAFT}",
        "Max-Mahalanobis training: features of a class gather around a fixed centre.",
        "https://arxiv.org/abs/1905.10626",
        notes=f"{_COPIES} The head returns minus the squared distances to the centres. Attack the"
        " margin of these scores: their cross-entropy has no gradient.",
        texts={
            **_CRAFT_TEXTS,
            "objective": '``"mmc"``, the squared distance to the centre of the label, or'
            ' ``"mmlda"``, the cross-entropy of the scores.',
        },
        base="HeadTrainer",
        objectives={"mmc": Mmc, "mmlda": Mmlda},
    ),
    TrainerShell(
        "TrainerDistillationPyTorch",
        Distillation,
        "temperature warm_epochs",
        "Defensive distillation: a student that learns the soft labels of a teacher.",
        "https://arxiv.org/abs/1511.04508",
        notes=f"{_COPIES} It is the student. ``nb_epochs`` are those of the teacher, and again of"
        " the student. ``last_result.teacher`` holds the weights of the teacher. Attack the margin"
        " of the scores: their cross-entropy has no gradient. ``fit_generator`` raises an error,"
        " because the teacher labels samples by their positions.",
        base="HeadTrainer",
    ),
    TrainerShell(
        "TrainerADPPyTorch",
        Adp,
        "alpha beta nb_members det_offset adversarial eps_range max_iter step_fraction bn_mode",
        "Adaptive diversity promoting: an ensemble whose members disagree on the wrong classes.",
        "https://arxiv.org/abs/1901.08846",
        notes=f"{_COPIES} Its members are copies of the network with new weights, drawn by"
        " ``reset_parameters`` and the seed. The head returns the logarithm of their mean"
        " probability. Attack its margin, and that of the mean logits.",
        base="EnsembleTrainer",
    ),
)


def source(shell: TrainerShell) -> str:
    """Return the source text of the class, before it is formatted."""
    names = shell.parameters.split()
    notes = f"``art_ext.training.{shell.recipe.__name__}`` documents the method. {shell.notes}"
    about = [shell.summary, "", paragraph(notes.strip(), 4), "", f"    | Paper link: {shell.url}"]
    lines = [f"class {shell.name}({shell.base}):", docstring(about, 4), ""]
    lines += [f"    _recipe = {shell.recipe.__name__}"]
    if shell.objectives:
        pairs = (f'"{name}": {one.__name__}' for name, one in shell.objectives.items())
        kind = "ClassVar[Mapping[str, type[Recipe]]]"
        lines += [f"    _objectives: {kind} = {{{', '.join(pairs)}}}"]
    lines += [""]
    lines += ["    def __init__(self,", "        classifier: PyTorchClassifier,"]
    lines += [*_arguments(shell), "seed: int = 0,", "verbose: bool = True,", "    ) -> None:"]
    texts = _texts(shell)
    described = [_CLASSIFIER, *(f"{name}: {texts[name]}" for name in names)]
    described += ["seed: seed of the order and the noise.", "verbose: show a progress bar."]
    entries = [paragraph(text, 12, 16) for text in described]
    lines += [docstring(["Create the trainer.", "", "        Args:", *entries], 8)]
    lines += ["        super().__init__(classifier, seed, verbose,"]
    lines += [*(f"{name}={name}," for name in names), ")"]
    return "\n".join(lines)


def _arguments(shell: TrainerShell) -> Iterator[str]:
    """Yield the parameters of the recipe as source text."""
    known = {_NAMES.get(one.name, one.name): one for one in fields(shell.recipe)}
    for name in shell.parameters.split():
        if name == "norm":
            yield "norm: int | float | str = np.inf,"
        elif name == "objective":
            yield f'objective: str = "{next(iter(shell.objectives))}",'
        else:
            yield f"{name}: {known[name].type} = {valued(_default(known[name]))},"


def _default(one: Field[object]) -> object:
    """Return the default of an argument, which every trainer needs.

    Raises:
        ValueError: if the recipe has none.
    """
    if one.default is MISSING:
        raise ValueError(f"the argument {one.name} of a trainer must have a default")
    return one.default


def _texts(shell: TrainerShell) -> dict[str, str]:
    """Return the descriptions of the arguments by their names in ART."""
    recipe = shell.described or shell.recipe
    found: dict[str, str] = {}
    for kind in reversed(inspect.getmro(recipe)):
        for name, text in argument_texts(kind, "Attributes").items():
            found[_NAMES.get(name, name)] = renamed(text, _NAMES)
    return {**found, "norm": 'np.inf, "inf", 1 or 2.', **shell.texts}
