"""The commands ``art-ext generator train`` and ``art-ext generator sample``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from art_ext.cli.shared import command_values, explained, given_values, with_options
from art_ext.configuration.generator import (
    GeneratorConfig,
    SampleConfig,
    resolve_generator,
    resolve_sample,
)

if TYPE_CHECKING:
    from art_ext.training.generators.sampling import GeneratedImages

app = typer.Typer(no_args_is_help=True)


@app.callback()
def generator() -> None:
    """Train a conditional generator, and draw images from one, for the limits of robustness."""


@app.command()
@with_options(GeneratorConfig)
def train(context: typer.Context, **options: Any) -> None:
    """Train a conditional generator on labelled images, and measure its images."""
    out = options["out"]
    with explained(f"run the same command with --resume: checkpoints lie in {out}"):
        from art_ext.storage.store import local_folder
        from art_ext.storage.training import CONFIGURATION
        from art_ext.training.generators.run import run_generator_training

        given = given_values(context, GeneratorConfig)
        own = command_values(options, GeneratorConfig)
        config = options["config"]
        written = local_folder(out, "generator train") / CONFIGURATION
        if config is None and "data" not in given and options["resume"] and written.is_file():
            config = written  # no option needs to be repeated
        told = not options["quiet"]
        quality = run_generator_training(
            resolve_generator(given, config, **own), progress=told, say=_say if told else None
        )
        for line in _lines(quality):
            typer.echo(line)
        for warning in quality["warnings"]:
            typer.echo(f"warning: {warning['message']}", err=True)
        if told:
            typer.echo(f"run: {out}")


def _lines(quality: dict[str, Any]) -> list[str]:
    """Return the quality of a generator as text."""
    from art_ext.storage.generators import quality_figures

    figures = {
        **quality_figures(quality),
        "seconds": f"{quality['seconds']:.0f} of training, {quality['seconds_of_quality']:.0f} of"
        " measuring",
    }
    return [f"{name:<20}{text}" for name, text in figures.items()]


@app.command("sample")
@with_options(SampleConfig)
def sample_command(context: typer.Context, **options: Any) -> None:
    """Draw images, classes and latents of a generator, and write them to a file."""
    with explained():
        given = given_values(context, SampleConfig)
        config = resolve_sample(given, **command_values(options, SampleConfig))
        if config.out.suffix != ".npz":
            raise ValueError(f"out must be the name of an .npz file, got {str(config.out)!r}")
        if not config.out.parent.is_dir():
            raise ValueError(f"out must lie in an existing folder, got {config.out}")
        if config.out.exists() and not config.overwrite:
            raise ValueError(f"{config.out} exists: choose another file, or pass --overwrite")
        from art_ext.training.generators.sampling import save_images

        images, test = _drawn(config)
        save_images(config.out, images, test)
        if test is None:
            found = f"{len(images):,} images of the test split"
        else:
            found = f"{len(images):,} images to train on and {len(test):,} of the test split"
        typer.echo(f"{found}; file: {config.out}")


def _drawn(config: SampleConfig) -> tuple[GeneratedImages, GeneratedImages | None]:
    """Return the images that the options name, and those of the test split."""
    from torch import nn

    from art_ext.core.networks import usable_device
    from art_ext.models import load_generator
    from art_ext.training.generators.sampling import TRAINING, sample

    generator = load_generator(config.generator)
    if config.device is not None and isinstance(generator, nn.Module):
        generator.to(usable_device(config.device))
    further = config.n // 6 if config.test_n is None else config.test_n
    options: dict[str, Any] = {
        "seed": config.seed,
        "batch_size": config.batch_size,
        "image_range": config.image_range,
        "device": config.device,
    }
    with _shown(config.n + further, config.quiet) as show:
        if not further:
            return sample(generator, config.n, progress=show, **options), None
        images = sample(generator, config.n, first=TRAINING, progress=show, **options)
        test = sample(generator, further, progress=lambda done: show(config.n + done), **options)
    return images, test


@contextmanager
def _shown(total: int, quiet: bool) -> Iterator[Callable[[int], None]]:
    """Yield a function that shows the images so far on stderr."""
    from tqdm.auto import tqdm

    pause = 0.2 if sys.stderr.isatty() else 10
    with tqdm(total=total, desc="sample", mininterval=pause, disable=quiet) as bar:

        def show(done: int) -> None:
            bar.update(done - bar.n)

        yield show


def _say(line: str) -> None:
    typer.echo(line, err=True)
