"""The command line: ``art-ext evaluate`` and its siblings.

Heavy packages are imported inside the commands, so that ``--help`` is quick. Exit codes: 0 done, 2
bad arguments or input, 130 interrupted by Ctrl-C. 1 means that a check failed: ``--fail-under``,
``submit``, or a problem that ``doctor`` found.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from art_ext import __version__
from art_ext.arguments import parse_arguments, parse_attack_arguments, parse_numbers, parse_target
from art_ext.cli_attacks import attacks
from art_ext.cli_report import compare, report
from art_ext.cli_shared import (
    ClassFile,
    ClassOrder,
    FailUnder,
    Quiet,
    Seed,
    explained,
    judge,
    parse_fail_under,
    shard_and_device,
)
from art_ext.cli_submit import submit
from art_ext.cli_train import train

if TYPE_CHECKING:
    from art_ext.core.oracle import Model
    from art_ext.evaluation import Outcome, Watcher

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
BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total} [{elapsed}<{remaining}{postfix}]"

app = typer.Typer(
    help=(
        "How robust is a classifier? Attacks, measures and reports beside ART, torchattacks and"
        " RobustBench."
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line."""
    # an evaluation shows its warnings itself: without a handler, Python would print those of each
    # attack as well
    logging.getLogger("art_ext").addHandler(logging.NullHandler())
    app()


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"art-ext {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


@app.command()
def demo(
    out: Annotated[
        Path, typer.Option(help="Folder of the report; replaces an earlier demo.")
    ] = Path("runs/demo"),
    quiet: Quiet = False,
    seed: Seed = 0,
) -> None:
    """Train a natural and a robust network on real digits, attack both, and write a report."""
    with explained("run the same command again: the demo begins anew"):
        from art_ext.evaluation.demo import run_demo

        with _watcher(quiet) as watcher:
            outcome = run_demo(out, seed=seed, watcher=watcher)
        _show(outcome, quiet)


@app.command()
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
        from art_ext.evaluation.records import require_report

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
        with _watcher(quiet) as watcher:
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
        _show(outcome, quiet, least)


@app.command()
def merge(
    folders: Annotated[list[Path], typer.Argument(help="Run folders of the shards.")],
    out: Annotated[Path, typer.Option(help="Folder of the whole run: new or empty.")],
    fail_under: FailUnder = None,
    quiet: Quiet = False,
) -> None:
    """Unite the folders of shards, and write the report if none is missing."""
    with explained():
        from art_ext.evaluation import merge as unite

        least = parse_fail_under(fail_under)
        _show(unite(folders, out), quiet, least)


app.command()(attacks)
app.command()(train)
app.command()(report)
app.command()(compare)
app.command()(submit)


@app.command()
def doctor() -> None:
    """Check the installation and explain known problems. Exit with 1 if there is a problem."""
    from art_ext.doctor import diagnose

    findings = diagnose()
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        typer.echo(f"{finding.status:7}  {finding.name:{width}}  {finding.detail}")
        if finding.remedy:
            typer.echo(f"{'':7}  {'':{width}}  -> {finding.remedy}")
    if any(finding.status == "problem" for finding in findings):
        raise typer.Exit(1)


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


@contextmanager
def _watcher(quiet: bool) -> Iterator[Watcher]:
    """Yield the progress observer, silent or with a bar. Warnings are shown either way."""
    from art_ext.evaluation import Watcher
    from art_ext.evaluation.table import counted, radius

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    if quiet:
        yield Watcher()
        return
    from tqdm import tqdm

    class Bar(Watcher):
        """A line per clean accuracy, and a bar per attack."""

        bar: tqdm[Any] | None = None

        def training(self, model: str, samples: int) -> None:
            typer.echo(f"{model}: training on {counted(samples, 'sample')}", err=True)

        def clean(self, model: str, accuracy: float) -> None:
            typer.echo(f"{model}: clean accuracy {100 * accuracy:.1f} %")

        def start(self, model: str, attack: str, eps: float, samples: int) -> None:
            self.close()
            # a log file gets a line now and then, a terminal a bar that moves
            pause = 0.2 if sys.stderr.isatty() else 10
            title = f"{model}, {attack}, eps {radius(eps)}"
            self.bar = tqdm(total=samples, desc=title, bar_format=BAR, mininterval=pause)

        def progress(self, done: float, robust: float) -> None:
            if self.bar is not None:
                self.bar.set_postfix_str(f"robust <= {100 * robust:.1f} %", refresh=False)
                self.bar.update(done - self.bar.n)

        def close(self) -> None:
            if self.bar is not None:
                self.bar.close()

    bar = Bar()
    try:
        yield bar
    finally:
        bar.close()


def _show(outcome: Outcome, quiet: bool, least: float | None = None) -> None:
    """Print the result of an evaluation. Exit with 1 if it is below ``--fail-under``."""
    from art_ext.evaluation.table import counted, to_text
    from art_ext.evaluation.verdict import lines

    if outcome.missing:
        verb = "is" if outcome.missing == 1 else "are"
        typer.echo(
            f"{outcome.folder}: {counted(outcome.missing, 'unit')} of the work {verb} missing, so"
            " there is no report yet. A unit is one attack on one model over one chunk of the"
            " samples"
        )
        if least is not None:
            typer.echo("fail-under: not judged while parts of the work are missing", err=True)
        return
    typer.echo(to_text(outcome.rows))
    for sentence in lines(outcome.verdicts):
        typer.echo(sentence)
    for finding in outcome.warnings:
        if finding.level == "warning" or not quiet:
            subject = f"{finding.model}: " if finding.model else ""
            typer.echo(f"{finding.level}: {subject}{finding.message}", err=True)
    if not quiet:
        typer.echo(f"report: {outcome.folder / 'index.html'}")
    judge(outcome.verdicts, least)
