"""The command ``art-ext evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from art_ext.cli.shared import (
    ClassFile,
    ClassOrder,
    FailUnder,
    Quiet,
    Seed,
    explained,
    parse_fail_under,
    shard_and_device,
)
from art_ext.cli.showing import show, watching
from art_ext.configuration.parsing import (
    parse_arguments,
    parse_attack_arguments,
    parse_numbers,
    parse_target,
)

if TYPE_CHECKING:
    from art_ext.core.oracle import Model

PANEL = (
    "Instead of attacks, a panel: quick, standard (two ascents with adaptive steps, Frank-Wolfe,"
    " RayS, comparable to AutoAttack), black-box, paper, or a TOML file."
)
MODE = (
    "cascade: each attack is given only the samples without a success of an earlier one."
    " independent: each is given all samples. By default the panel's own, and independent for"
    " --attack."
)
CHUNK = (
    "Most samples between two writes to the disk; by default twice the batch size, less for shards."
)
SHARD = (
    "i/n, such as 0/4: work on every n-th chunk only, from the i-th on; art-ext merge unites the"
    " folders."
)
STOP_ON_SUCCESS = (
    "For rays: stop on a sample at its first success, or go on to its nearest adversarial (ADBD,"
    " the whole curve). By default a single eps stops early, and one run serves several."
)
ATTACK = (
    "Attacks, separated by commas: those of art-ext attacks; FILE.py:FUNCTION for one of yours; or"
    " external ones: torchattacks:PGD, art:SquareAttack, foolbox:LinfPGD, autoattack. Without a"
    " panel, rays."
)
NAME = "What to call the model in table and report; by default its checkpoint or its factory."


def evaluate(
    model: Annotated[
        str, typer.Option(help="FILE.py:FACTORY or MODULE:FACTORY; the factory is called.")
    ],
    data: Annotated[
        str, typer.Option(help="digits, mnist, cifar10, or a path (.npz, .npy, a folder).")
    ],
    out: Annotated[
        Path, typer.Option(help="Folder of the report: new, empty, or of an earlier run alike.")
    ],
    class_order: ClassOrder = None,
    classes: ClassFile = None,
    model_args: Annotated[
        str, typer.Option(help="Arguments of the factory: key=value,key=value.")
    ] = "",
    weights: Annotated[
        Path | None, typer.Option(help="Checkpoint: safetensors, or torch.save of tensors.")
    ] = None,
    attack: Annotated[str | None, typer.Option(help=ATTACK)] = None,
    panel: Annotated[str | None, typer.Option(help=PANEL)] = None,
    mode: Annotated[str | None, typer.Option(help=MODE)] = None,
    attack_args: Annotated[
        str, typer.Option(help="Arguments of the attacks: name.key=value,name.key=value.")
    ] = "",
    targeted: Annotated[
        str | None, typer.Option(help="Targets: random, least-likely, or one class index.")
    ] = None,
    eps: Annotated[
        str, typer.Option(help="Radius or radii in the units of the input: 4/255,8/255.")
    ] = "8/255",
    max_queries: Annotated[
        int, typer.Option(help="Most queries per sample, for attacks that need labels or scores.")
    ] = 10_000,
    n: Annotated[int, typer.Option("--n", help="Take the first n samples.")] = 1000,
    norm: Annotated[
        str, typer.Option(help="How eps and distances are measured: linf, l2 or l1.")
    ] = "linf",
    stop_on_success: Annotated[
        bool | None, typer.Option("--stop-on-success/--no-stop-on-success", help=STOP_ON_SUCCESS)
    ] = None,
    outputs: Annotated[
        str, typer.Option(help="What the model returns: logits, probabilities or labels.")
    ] = "logits",
    clip_values: Annotated[str, typer.Option(help="The box: lower,upper.")] = "0,1",
    batch_size: Annotated[int, typer.Option(help="Most rows in one model call.")] = 256,
    chunk_size: Annotated[int | None, typer.Option(help=CHUNK)] = None,
    shard: Annotated[str | None, typer.Option(help=SHARD)] = None,
    save_images: Annotated[
        bool, typer.Option("--save-images", help="Keep every adversarial image.")
    ] = False,
    name: Annotated[str | None, typer.Option(help=NAME)] = None,
    fail_under: FailUnder = None,
    device: Annotated[str | None, typer.Option(help="Where the model runs, such as cuda.")] = None,
    seed: Seed = 0,
    quiet: Quiet = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin anew, also beside other files.")
    ] = False,
) -> None:
    """Attack your own model and write a report: table, plots, and a record of every sample.

    A run that was killed goes on when the same command is given again. Under torchrun or accelerate
    launch the processes divide the work.
    """
    with explained(f"run the same command again: what is finished lies in {out}"):
        least = parse_fail_under(fail_under)
        if name is not None and not name.strip():
            raise ValueError("name must hold at least one letter, got an empty text")
        radii = parse_numbers("eps", eps)
        box = parse_numbers("clip-values", clip_values)
        if len(box) != 2:
            raise ValueError(f"clip-values must be two numbers lower,upper, got {clip_values!r}")
        factory_arguments = parse_arguments(model_args)
        attack_arguments = parse_attack_arguments(attack_args)
        attacks = None if attack is None else [name.strip() for name in attack.split(",")]
        part, device = shard_and_device(shard, device)
        from art_ext.data import load_data
        from art_ext.evaluation import evaluate as run
        from art_ext.evaluation.analysis.records import require_report

        require_report()  # before anything that takes time
        arguments = {
            "command": "evaluate",
            "model": model,
            "model_args": factory_arguments,
            "weights": None if weights is None else str(weights),
            "path": data,
            "n": n,
            "class_order": class_order or "numeric",
            "classes": classes,
        }
        samples = load_data(data, class_order=class_order or "numeric", classes=classes).first(n)
        models = {name or _name(model, weights): _model(model, factory_arguments, weights, device)}
        with watching(quiet) as watcher:
            outcome = run(
                models,
                samples,
                out,
                eps=radii,
                attacks=attacks,
                panel=panel,
                mode=mode,
                attack_args=attack_arguments,
                targeted=parse_target(targeted),
                max_queries=max_queries,
                norm=norm,
                stop_on_success=stop_on_success,
                outputs=outputs,
                clip_values=(box[0], box[1]),
                batch_size=batch_size,
                chunk_size=chunk_size,
                shard=part,
                save_images=save_images,
                device=device,
                seed=seed,
                arguments=arguments,
                overwrite=overwrite,
                watcher=watcher,
            )
        show(outcome, quiet, least)


def _model(spec: str, arguments: dict[str, str], weights: Path | None, device: str | None) -> Model:
    """Return the user's model with its weights, on the device."""
    from torch import nn

    from art_ext.models import load_weights, resolve_factory

    model = resolve_factory(spec, arguments)
    if not isinstance(model, nn.Module):
        if weights is not None:
            raise ValueError(
                f"weights need an nn.Module, but {spec!r} made a {type(model).__name__}"
            )
        return model
    if weights is not None:
        load_weights(model, weights)
    if device is not None:
        try:
            model.to(device)
        except (RuntimeError, AssertionError) as error:  # no such device, or a build without it
            raise ValueError(
                f"device must be one that this machine has, got {device!r}: {error}"
            ) from error
    return model


def _name(spec: str, weights: Path | None) -> str:
    """Return the name of the model in the report: its checkpoint, or its factory without one."""
    return weights.stem if weights is not None else spec.rpartition(":")[2]
