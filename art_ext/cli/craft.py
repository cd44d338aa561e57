"""The command ``art-ext craft``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer

from art_ext.cli.shared import command_values, explained, given_values, with_options
from art_ext.configuration.craft import CraftConfig, resolve_craft

if TYPE_CHECKING:
    from art_ext.training.fixed_set import FixedSet


@with_options(CraftConfig)
def craft(context: typer.Context, **options: Any) -> None:
    """Make adversarial examples once and write them to a file, for art-ext train --append."""
    with explained():
        given = given_values(context, CraftConfig)
        config = resolve_craft(given, **command_values(options, CraftConfig))
        if config.out.suffix != ".npz":
            raise ValueError(f"out must be the name of an .npz file, got {str(config.out)!r}")
        if not config.out.parent.is_dir():
            raise ValueError(f"out must lie in an existing folder, got {config.out}")
        if config.out.exists() and not config.overwrite:
            raise ValueError(f"{config.out} exists: choose another file, or pass --overwrite")
        from art_ext.core.wording import counted

        found = _made(config)
        found.save(config.out)
        of = counted(found.about["samples"], "sample")
        left_out = f", {found.failed:,} rows without success left out" if found.failed else ""
        typer.echo(f"{counted(len(found), 'example')} of {of}{left_out}; file: {config.out}")


def _made(config: CraftConfig) -> FixedSet:
    """Return the examples that the options name."""
    from art_ext.cli.attacks import find_spec
    from art_ext.configuration.data import data_keywords
    from art_ext.data import load_data
    from art_ext.models.sources import ModelSource, load_source
    from art_ext.training.fixed_set import fixed_set

    spec = find_spec(config.attack)
    source = ModelSource(
        config.model,
        config.model_args,
        config.weights,
        config.normalize,
        checkpoint=config.checkpoint,
        trust_checkpoint=config.trust_checkpoint,
        device=config.device,
        untrained=config.untrained,
        seed=config.seed,
    )
    loaded = load_source(source)
    keywords = data_keywords(config)
    data = load_data(config.data, split=config.split, model=loaded.facts, **keywords).in_memory()
    options = {
        "eps": config.eps,
        "norm": config.norm,
        "clip_values": config.clip_values,
        "batch_size": config.batch_size,
        "device": config.device,
        "outputs": loaded.outputs,
    }
    taken = {
        name: value
        for name, value in options.items()
        if name in spec.parameters and (name != "eps" or value is not None)
    }
    return fixed_set(
        loaded.model,
        data.x,
        data.y,
        spec,
        n=config.n,
        targets=config.targeted,
        arguments={**taken, **config.attack_args},
        seed=config.seed,
        progress=None if config.quiet else _bar(),
    )


def _bar() -> Callable[[int, int], None]:
    """Return a function that shows the rows done on stderr."""
    import sys

    from tqdm.auto import tqdm

    bar: list[tqdm[Any]] = []

    def show(done: int, total: int) -> None:
        if not bar:
            bar.append(
                tqdm(total=total, desc="craft", mininterval=0.2 if sys.stderr.isatty() else 10)
            )
        bar[0].update(done - bar[0].n)
        if done == total:
            bar[0].close()

    return show
