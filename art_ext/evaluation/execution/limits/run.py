"""The limits of robustness of models on the images of a generator."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from art_ext.core.checks import check_flag, check_range
from art_ext.core.keywords import public
from art_ext.core.oracle import Model
from art_ext.core.streams import resolve_seed
from art_ext.data import Dataset, Samples
from art_ext.evaluation.analysis.limits import Limits
from art_ext.evaluation.analysis.records import require_report
from art_ext.evaluation.execution.engines import LOCAL, device_of_driver, workers_of
from art_ext.evaluation.execution.job import Rebuild, Watcher, identity_of_model
from art_ext.evaluation.execution.limits import samples as own_samples
from art_ext.evaluation.execution.limits.attacks import attacks_of
from art_ext.evaluation.execution.limits.checkpoints import with_checkpoints
from art_ext.evaluation.execution.limits.checks import check_data, check_images_of, check_models
from art_ext.evaluation.execution.limits.finish import facts_of_run, finish
from art_ext.evaluation.execution.limits.plan import units_of
from art_ext.evaluation.execution.limits.settings import (
    LimitsSettings,
    check_alpha,
    check_n,
    listed_values,
    radii_of,
)
from art_ext.evaluation.execution.limits.units import distribute_units, do_units
from art_ext.evaluation.execution.models import (
    AnyData,
    Models,
    callable_model,
    common_outputs,
    data_name,
    resolve_models,
    samples_of,
)
from art_ext.evaluation.execution.runner import evaluate
from art_ext.evaluation.panel.resources import AnyGenerator, source_of
from art_ext.storage.limits import LimitsFolder


@public()
def limits(
    models: Models,
    generator: AnyGenerator,
    out: str | os.PathLike[str],
    *,
    data: AnyData | None = None,
    eps: float | Sequence[float] = (1.0, 2.0, 3.0),
    n: int | None = 1000,
    alpha: float | None = None,
    checkpoints: bool = False,
    full: bool = False,
    estimators: Sequence[str] = ("sampled", "spectral"),
    radius: float = 0.5,
    delta: float = 1e-3,
    num_latents: int | None = None,
    num_neighbours: int | None = None,
    num_iterations: int = 20,
    repeats: int | None = None,
    neighbours: str = "ball",
    lipschitz_units: str = "mapped",
    image_range: tuple[float, float] | None = (0.0, 1.0),
    num_samples: int = 10_000,
    priors: Sequence[float] | None = None,
    attack_args: Mapping[str, Mapping[str, Any]] | None = None,
    outputs: str | None = None,
    clip_values: tuple[float, float] = (0.0, 1.0),
    batch_size: int = 256,
    chunk_size: int | None = None,
    memory_mb: float = 200,
    device: str | None = None,
    seed: int = 0,
    save_images: bool = False,
    arguments: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    watcher: Watcher | None = None,
    engine: str | None = None,
    workers: int | None = None,
    gpus_per_worker: float = 0,
    threads_per_worker: int | None = None,
    engine_args: Mapping[str, Any] | None = None,
    rebuild: Rebuild | None = None,
) -> Limits:
    """Measure how robust models are on the images of a generator, beside the bounds for any
    classifier.

    For each model and eps: risk on the generator's images, L2 robustness without constraint and
    in-distribution, and the bounds of Theorems 4.4.3 and 4.4.4 from the generator's local Lipschitz
    constants. All estimates of these constants are lower bounds of the true ones, so the printed
    bounds may be too low.

    A run consists of units of work: an attack on a model over a chunk of samples, the constant of a
    class, the risk of a model. Each unit is written atomically when it ends. A run that was killed,
    called again with the same arguments, runs its missing units and ends with the same tables. The
    attacks have a run folder of their own in ``out``, with records, table and page. The page of the
    whole run is ``out/index.html``, its results are ``out/limits.json``.

    Queries are the rows that the attacks and the risks send to a model. Rows of the generator are
    counted apart.

    Args:
        models: one model, several in a list, or several by name, as ``evaluate`` takes them. They
            need gradients, and the classes of the generator.
        generator: a run folder of ``art-ext generator train``, ``FILE.py:FACTORY``, or a callable
            from latents (N, d) and classes (N,) to images (N, *S) with ``latent_dim`` and
            ``num_classes``.
        out: the run folder: new, empty, or that of the same run, which is then completed.
        data: N samples to attack, as ``evaluate`` takes them. If they hold the latents of their
            images, as those of ``art-ext generator sample`` do, the in-distribution attack starts
            from these too. Default: None, n fresh images of the generator, which are kept in
            ``out/samples.npz``.
        eps: radius or radii of the L2 ball, in the units of images in [0, 1], > 0.
        n: number of samples, the first of the data. None: all of the data.
        alpha: risk in [0, 1] for which the bounds are stated too, besides the measured risks.
        checkpoints: True to evaluate every checkpoint that the trainings among the models keep.
        full: True for the paper's numbers: 1,000 latents with 2,000 neighbours, and 10,000
            iterations of the in-distribution attack. Default: 200 with 500, and 300.
        estimators: of the constants, some of ``"sampled"``, ``"spectral"`` and ``"ascent"``.
        radius: of the ball in the latent space in which the constants hold.
        delta: share of latents that may have a larger local constant, in [0, 1).
        num_latents: S, of each class. None: as ``full`` says, 1,000 for the spectral norm.
        num_neighbours: N, of each latent. None: as ``full`` says.
        num_iterations: of the spectral norm.
        repeats: estimates of each constant, from other latents. None: 3 of the sampled one, 1 of
            the others.
        neighbours: ``"ball"`` or ``"orthant"``, as of ``generator_lipschitz``.
        lipschitz_units: ``"mapped"`` or ``"raw"``, as of ``generator_lipschitz``.
        image_range: range of the generator's images, which are mapped to [0, 1]. None: neither
            mapped nor checked.
        num_samples: images of the generator on which each risk is measured.
        priors: (K,) probabilities of the classes, > 0. None: equal ones.
        attack_args: arguments of ``sign_gradient``, ``auto_pgd`` and ``in_distribution``, by name.
        outputs: type of the models' outputs, as of ``evaluate``.
        clip_values: the box (lower, upper).
        batch_size: most rows in one model call.
        chunk_size: most samples in a unit. None: as of ``evaluate``.
        memory_mb: mebibytes of a block of the estimators, without the generator's own.
        device: device of the inputs for models without parameters, and of the generator.
        seed: key of every random number, >= 0.
        save_images: keep every adversarial.
        arguments: values to record as the run's arguments besides the ones above.
        overwrite: begin again, also in a folder with other files in it.
        watcher: observer of the progress.
        engine: as of ``evaluate``.
        workers: as of ``evaluate``.
        gpus_per_worker: as of ``evaluate``.
        threads_per_worker: as of ``evaluate``.
        engine_args: as of ``evaluate``.
        rebuild: function without arguments by which a worker builds models and data, as of
            ``evaluate``. None: models and data that are given by name are built from it.

    Returns:
        The results, which ``out/limits.json`` holds too.

    Raises:
        ValueError: for invalid arguments, a generator whose images do not fit the models, leave
            ``image_range`` or ignore class or latent, a model without gradients or with other
            classes, a folder of another run, or checkpoints of a training that keeps none.
        ImportError: without the extra ``report``.
        OSError: if the folder cannot be written. Finished units are kept.

    References:
        Xiao Zhang, Jinghui Chen, Quanquan Gu, David Evans, "Understanding the intrinsic robustness
        of image distributions using conditional generative models", AISTATS 2020.
        Jinghui Chen, dissertation, UCLA 2021 (Chapter 4).
    """
    require_report()
    check_alpha(alpha)
    check_n(n)
    for name, flag in (("full", full), ("checkpoints", checkpoints), ("save_images", save_images)):
        check_flag(name, flag)
    radii = radii_of(eps)
    seed = resolve_seed(seed, least=0)
    if image_range is not None:
        check_range("image_range", image_range)
    crew = workers_of(engine, workers, gpus_per_worker, threads_per_worker, engine_args or {})
    if crew is not None:
        crew.check_device(device)
    here = device_of_driver(device, crew.engine if crew else None)
    source = source_of(generator, here)
    if source is None:
        raise ValueError("limits need a generator, got none: give --generator RUN")
    if crew is not None:
        source.check_rebuilds(crew.engine)
    images_of = source.load()
    given, paths = with_checkpoints(models) if checkpoints else (models, {})
    resolved = resolve_models(given, data=data_name(data), norm="l2", device=here)
    named = {name: callable_model(model) for name, model in resolved.items()}
    settings = LimitsSettings(
        estimators=tuple(dict.fromkeys(listed_values("estimators", estimators))),
        radius=radius,
        delta=delta,
        num_latents=num_latents,
        num_neighbours=num_neighbours,
        num_iterations=num_iterations,
        repeats=repeats,
        neighbours=neighbours,
        image_range=image_range,
        lipschitz_units=lipschitz_units,
        num_samples=num_samples,
        priors=None if priors is None else listed_values("priors", priors),
        full=full,
        outputs=common_outputs(outputs, resolved),
        seed=seed,
        memory_mb=memory_mb,
        batch_size=batch_size,
        device=device,
    )
    classes = check_images_of(images_of, settings)
    folder = LimitsFolder(out)
    configuration = {
        "settings": settings.decisive,
        "generator": identity_of_model(images_of),
        "models": {name: identity_of_model(model) for name, model in named.items()},
        "own_samples": n if data is None else None,
    }
    folder.check(configuration, overwrite)
    samples = _samples(data, n, resolved, images_of, settings, folder, overwrite)
    chosen = attacks_of(
        getattr(samples, "latents", None) is not None,
        full=full,
        image_range=image_range,
        attack_args=attack_args,
    )
    check_models(named, images_of, chosen, settings)
    if data is not None:
        check_data(samples, images_of, settings, clip_values)
    if crew is not None and rebuild is None:
        rebuild = _rebuild_of(given, data, n, folder, here, crew.engine)
    attack = partial(
        evaluate,
        resolved,
        samples,
        eps=radii,
        attacks=chosen,
        mode="independent",
        norm="l2",
        stop_on_success=False,
        outputs=settings.outputs,
        clip_values=clip_values,
        batch_size=batch_size,
        chunk_size=chunk_size,
        device=device,
        seed=settings.seed,
        save_images=save_images,
        arguments={"command": "limits", "n": n},
        engine=engine,
        workers=workers,
        gpus_per_worker=gpus_per_worker,
        threads_per_worker=threads_per_worker,
        engine_args=engine_args,
        rebuild=rebuild,
        generator=source,
    )
    # its checks, before anything is written, and whatever an earlier run has left
    attack(out=f"{folder.attacks}-of-a-dry-run", dry_run=True)
    folder.begin(configuration, overwrite)
    if data is None and isinstance(samples, Dataset):
        own_samples.store(folder, samples)
    observer = watcher or Watcher()
    attack(out=folder.attacks, watcher=watcher)
    units = units_of(settings, classes, list(named))
    if crew is None or rebuild is None:
        do_units(units, folder, images_of, named, settings, observer)
    else:
        distribute_units(units, folder, source, rebuild, settings, crew, observer)
    facts = facts_of_run(source, images_of, samples, settings, alpha)
    return finish(folder, units, settings, alpha, paths, facts, arguments or {})


def _samples(
    data: AnyData | None,
    n: int | None,
    models: Mapping[str, Any],
    generator: Any,
    settings: LimitsSettings,
    folder: LimitsFolder,
    overwrite: bool,
) -> Samples:
    """Return the samples to attack: the given ones, those of the folder, or fresh images."""
    if data is not None:
        return samples_of(data, models).first(n)
    if n is None:
        raise ValueError("n must be a number of images where no data are given, got none")
    kept = None if overwrite else own_samples.stored(folder)
    return own_samples.generated(generator, n, settings) if kept is None else kept


def _rebuild_of(
    models: Models,
    data: AnyData | None,
    n: int | None,
    folder: LimitsFolder,
    device: str | None,
    engine: str,
) -> Rebuild:
    """Return the function by which workers build models and data that are given by name."""
    from art_ext.models.sources import ModelSource

    values = list(models.values()) if isinstance(models, Mapping) else models
    every = values if isinstance(values, list | tuple) else [values]
    named = all(isinstance(one, str | os.PathLike | ModelSource) for one in every)
    if not named or not (data is None or isinstance(data, str | os.PathLike)):
        raise ValueError(
            f"engine {engine!r} needs sources, because workers build models and data by"
            f" themselves: give them by name, or engine={LOCAL!r}"
        )
    place = None if data is None else os.fspath(data)
    return partial(_rebuilt, models, place, n, folder.home, device)


def _rebuilt(
    models: Models, data: str | None, n: int | None, folder: str, device: str | None
) -> tuple[Mapping[str, Model], Samples]:
    loaded = resolve_models(models, data=data or "", norm="l2", device=device)
    named = {name: callable_model(model) for name, model in loaded.items()}
    kept = own_samples.stored(LimitsFolder(folder)) if data is None else None
    if data is None and kept is not None:
        return named, kept
    return named, samples_of(data or "", loaded).first(n)
