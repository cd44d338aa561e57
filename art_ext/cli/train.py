"""The command ``art-ext train``."""

from __future__ import annotations

import logging
import os
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from art_ext.cli.shared import ClassFile, ClassOrder, Quiet, explained

RECIPE = (
    "Training method: natural, pgd, trades, fast, fast-trades, free, cat, atcd, backward-smoothing"
    " or war. Needed, here or in the configuration file."
)
MODEL = (
    "digits-cnn, mnist-conv2, mnist-smallcnn, mnist-lenet5, preactresnet18, resnet18, wideresnet,"
    " cifar-resnet, cifar-resnet20; or FILE.py:FACTORY or MODULE:FACTORY. By default the network"
    " that belongs to the data."
)
CONFIG = "TOML file with these options by their names; the command line wins over it."
TABLE = "key=value,key=value"
_length = partial(typer.Option, rich_help_panel="Length and batches")
_update = partial(typer.Option, rich_help_panel="Weight updates")
_measure = partial(typer.Option, rich_help_panel="Selection and figures")
_machine = partial(typer.Option, rich_help_panel="Machine")


def train(  # every parameter is read from the context: None where it was not given
    context: typer.Context,
    out: Annotated[
        Path,
        typer.Option(
            help="Run folder: new or empty, or an earlier one with --resume or --overwrite."
        ),
    ],
    recipe: Annotated[str | None, typer.Option(help=RECIPE)] = None,
    data: Annotated[
        str | None, typer.Option(help="digits, mnist, cifar10, or a path with both splits.")
    ] = None,
    model: Annotated[str | None, typer.Option(help=MODEL)] = None,
    eps: Annotated[
        str | None,
        typer.Option(help="Radius in the units of the input: 8/255. By default that of the data."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of weights, order and noise (default 0).")
    ] = None,
    recipe_args: Annotated[
        str | None, typer.Option(metavar=TABLE, help="Arguments of the recipe.")
    ] = None,
    model_args: Annotated[
        str | None, typer.Option(metavar=TABLE, help="Arguments of the factory.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="Checkpoint to start from.")] = None,
    class_order: ClassOrder = None,
    classes: ClassFile = None,
    config: Annotated[Path | None, typer.Option(help=CONFIG)] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest checkpoint, if there is one.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin anew in the folder of an earlier run.")
    ] = False,
    quiet: Quiet = False,
    epochs: Annotated[int | None, _length(help="Passes over the data.")] = None,
    equivalent_epochs: Annotated[
        float | None,
        _length(help="In their place: epochs as the papers count them, no equal cost."),
    ] = None,
    passes: Annotated[
        float | None,
        _length(help="In their place: rows forward plus backward per training sample, as counted."),
    ] = None,
    updates: Annotated[int | None, _length(help="In their place: weight updates.")] = None,
    batch_size: Annotated[
        int | None, _length(help="Rows of a minibatch, over all processes.")
    ] = None,
    drop_last: Annotated[
        bool | None,
        _length("--drop-last/--no-drop-last", help="Leave out a last minibatch with fewer rows."),
    ] = None,
    n: Annotated[int | None, _length("--n", help="Take the first n training samples.")] = None,
    augmentation: Annotated[str | None, _length(help="none or crop_flip.")] = None,
    clip_values: Annotated[str | None, _length(help="The box: lower,upper (default 0,1).")] = None,
    optimizer: Annotated[str | None, _update(help="sgd, adam or adamw.")] = None,
    learning_rate: Annotated[float | None, _update(help="The largest one.")] = None,
    momentum: Annotated[float | None, _update(help="Of sgd (default 0.9).")] = None,
    nesterov: Annotated[bool | None, _update("--nesterov/--no-nesterov", help="Of sgd.")] = None,
    weight_decay: Annotated[float | None, _update(help="Of the optimiser.")] = None,
    schedule: Annotated[
        str | None, _update(help="Of the rate: constant, piecewise, cosine, cyclic, halving.")
    ] = None,
    schedule_args: Annotated[
        str | None, _update(metavar=TABLE, help="Such as milestones=(30,36).")
    ] = None,
    warmup_epochs: Annotated[
        float | None, _update(help="Over which the rate grows from 0.")
    ] = None,
    eps_warmup_epochs: Annotated[
        float | None, _update(help="Over which the radius grows from 0.")
    ] = None,
    label_smoothing: Annotated[
        float | None, _update(help="Share of the label given to the other classes.")
    ] = None,
    ema: Annotated[
        float | None, _update(help="Decay of an average of the weights (default 0, none).")
    ] = None,
    freeze_eval_modules: Annotated[
        bool | None,
        _update(
            "--freeze-eval-modules/--no-freeze-eval-modules",
            help="Submodules that the factory leaves in eval mode stay there (default on).",
        ),
    ] = None,
    validation: Annotated[
        float | None,
        _measure(
            help="Share (or number) of training samples held out to choose the best epoch; 0: none."
        ),
    ] = None,
    validation_eps: Annotated[
        str | None, _measure(help="Radius there (default the recipe's).")
    ] = None,
    validation_steps: Annotated[
        int | None, _measure(help="Steps of PGD there (default 10).")
    ] = None,
    rays: Annotated[
        int | None,
        _measure(metavar="QUERIES", help="Measure RayS too, with so many queries a sample."),
    ] = None,
    test_n: Annotated[
        int | None, _measure(help="Measure on the first so many test samples.")
    ] = None,
    pgd_steps: Annotated[
        int | None, _measure(help="Steps of PGD for the figures (default 20).")
    ] = None,
    pgd_step_size: Annotated[
        str | None,
        _measure(help="Their length, such as 2/255, the papers' (default 2.5 eps / steps)."),
    ] = None,
    device: Annotated[
        str | None, _machine(help="Such as cpu or cuda (default a GPU where there is one).")
    ] = None,
    precision: Annotated[
        str | None, _machine(help="Of autocast: no, bf16 or fp16 (default no).")
    ] = None,
    channels_last: Annotated[
        bool | None, _machine("--channels-last/--no-channels-last", help="That memory layout.")
    ] = None,
    compile: Annotated[
        bool | None, _machine("--compile/--no-compile", help="Run under torch.compile.")
    ] = None,
    tensorboard: Annotated[
        bool | None,
        _machine("--tensorboard/--no-tensorboard", help="Log to TensorBoard too, in OUT/art_ext."),
    ] = None,
    checkpoint_every: Annotated[
        int | None, _machine(help="Weight updates between checkpoints (default an epoch's).")
    ] = None,
) -> None:
    """Train a robust network by the method of a paper, and measure it."""
    own = ("out", "config", "resume", "overwrite", "quiet")
    given = {
        name: value
        for name, value in context.params.items()
        if name not in own and value is not None
    }
    with explained(f"run the same command with --resume: checkpoints lie in {out}"):
        from art_ext.core.wording import counted, radius
        from art_ext.training.runs import resolve, run_training
        from art_ext.training.runs.figures import to_text
        from art_ext.training.runs.folder import CONFIGURATION

        if (
            resume
            and config is None
            and not {"recipe", "data"} & set(given)
            and (out / CONFIGURATION).is_file()
        ):
            config = out / CONFIGURATION  # no option needs to be repeated
        main = int(os.environ.get("RANK", "0")) == 0
        tells = main and not quiet
        _configure_logging(main, tells)
        run = run_training(
            resolve(given, config),
            out,
            resume=resume,
            overwrite=overwrite,
            progress=tells,
            say=_say if tells else None,
        )
        _destroy_process_group()
        if run is None:  # not the main process
            return
        typer.echo(to_text(run))
        for warning in run.get("warnings", ()):
            typer.echo(f"warning: {warning['message']}", err=True)
        if tells:
            samples = counted(run["test_samples"], "test sample")
            typer.echo(f"{samples}, {run['norm']} {radius(run['eps'])}; run: {out}")


def _destroy_process_group() -> None:
    """Destroy the process group of torchrun. Backends warn of processes that exit without it."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _configure_logging(main: bool, tells: bool) -> None:
    """Show warnings in the main process, and messages of the training loop unless quiet."""
    logging.basicConfig(
        level=logging.WARNING if main else logging.ERROR, format="%(levelname)s: %(message)s"
    )
    if tells:
        logging.getLogger("art_ext").setLevel(logging.INFO)
