"""Transfer of adversarial examples from sources to targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch

from art_ext.core.checks import check_choice, check_count, check_flag
from art_ext.core.ensemble import AVERAGES
from art_ext.core.geometry import norm_name
from art_ext.core.keywords import public
from art_ext.core.oracle import Model
from art_ext.core.streams import resolve_seed
from art_ext.data import Dataset, Samples
from art_ext.data.lazy import check_repeatable
from art_ext.evaluation.analysis.records import require_report
from art_ext.evaluation.execution.engines import device_of_driver, workers_of
from art_ext.evaluation.execution.estimate import check_dry_run
from art_ext.evaluation.execution.job import Rebuild, Watcher
from art_ext.evaluation.execution.models import (
    AnyData,
    Models,
    callable_model,
    check_box,
    check_gradients,
    check_shapes,
    data_name,
    rebuild_of,
    resolve_models,
    samples_of,
)
from art_ext.evaluation.execution.transfer.estimate import estimate_transfer
from art_ext.evaluation.execution.transfer.finish import TransferOutcome, finish
from art_ext.evaluation.execution.transfer.job import (
    Chunk,
    Job,
    Plan,
    Work,
    distribute_units,
    do_units,
    missing_units,
)
from art_ext.evaluation.execution.transfer.models import (
    Outputs,
    check_classes,
    check_ensembles,
    named_models,
    outputs_of,
    pairs_of,
    united,
)
from art_ext.evaluation.execution.transfer.plan import (
    Attacks,
    Crafting,
    Setting,
    has_confidence,
    settings_of,
    variations,
)
from art_ext.evaluation.panel.attack import Attack, Settings
from art_ext.evaluation.panel.panels import MAX_QUERIES, Panel, resolve_panel
from art_ext.storage.transfer import TransferFolder


@public()
def transfer(
    sources: Models,
    targets: Models | None,
    data: AnyData,
    attacks: Sequence[str | Attack] | None,
    out: str,
    *,
    eps: float | Sequence[float] = 8 / 255,
    panel: str | Panel | None = None,
    attack_args: Mapping[str, Mapping[str, Any]] | None = None,
    norm: str = "linf",
    targeted: str | int | None = None,
    seeds: Sequence[int] = (0,),
    kappa: Sequence[float] = (),
    vary: Mapping[str, Sequence[Any]] | None = None,
    at: Sequence[int] = (),
    ensembles: Mapping[str, str] | None = None,
    average: str = "logits",
    hold_out: bool = False,
    baseline: str | None = None,
    max_queries: int = MAX_QUERIES,
    outputs: Outputs = None,
    clip_values: tuple[float, float] = (0.0, 1.0),
    batch_size: int = 256,
    chunk_size: int | None = None,
    device: str | None = None,
    shard: tuple[int, int] | None = None,
    save_images: bool = False,
    save_states: bool = False,
    arguments: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    watcher: Watcher | None = None,
    engine: str | None = None,
    workers: int | None = None,
    gpus_per_worker: float = 0,
    threads_per_worker: int | None = None,
    engine_args: Mapping[str, Any] | None = None,
    rebuild: Rebuild | None = None,
    dry_run: bool = False,
) -> TransferOutcome:
    """Craft examples once per source and attack, and try them on every target.

    Two metrics are recorded. *strict*: ``mean_i [f_t(x'_i) != y_i]`` over the samples that source
    and target classify correctly. *authors*: ``mean_i [f_t(x'_i) != f_t(x_i)]`` over all samples.
    With classes to reach both count ``f_t(x'_i) = t_i``, and samples whose label is that class
    count in neither. An attack leaves the predictions of its source, which are the labels of the
    samples that the source classifies correctly. So one crafting serves both.

    A unit of work is one attack on one source over one chunk of samples, with the answers of its
    targets. Each part is written atomically when it ends. The same call continues a run that was
    killed. A call with a further target finds the examples in the folder.

    Args:
        sources: one model, several in a list, or several by name, as ``evaluate`` takes them.
        targets: the same. None: the sources.
        data: N samples in the box, with labels, as ``evaluate`` takes them.
        attacks: names of attacks or ``Attack`` objects, external ones too. None: those of the
            panel. Where a fixed-radius attack fails, its last iterate is tried.
        out: the run folder: new, empty, or that of this run or of a part of it.
        eps: radius or radii in the units of x. Attacks whose own default is no ball, such as
            ``ead`` and ``cw``, run once without one.
        panel: instead of attacks, a panel as ``evaluate`` takes it.
        attack_args: by the attack's name, arguments that it takes besides the ones below.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``, in any usual spelling.
        targeted: None, or the rule for each sample's class to reach: ``"random"``,
            ``"least-likely"`` (of the source), ``"next"`` (the label plus 1, modulo the classes),
            or one class.
        seeds: of the attacks. Each is run with each of them.
        kappa: values of the argument ``confidence``, for each attack that has it.
        vary: by ``"ATTACK.KEY"``, values of an argument. Several of one attack make a grid.
        at: iterations after which examples are tried too, for attacks that tell their iterates.
        ensembles: further sources, by name: members such as ``"2*A+B"`` among the sources. A source
            that is a member is attacked in the ensemble only.
        average: of an ensemble: ``"logits"``, ``"probabilities"`` or ``"losses"``.
        hold_out: True: each source in turn is the target of the ensemble of the others.
        baseline: name of the attack that the others are compared with. None: the first one.
        max_queries: most forward rows per sample, for attacks with labels or scores.
        outputs: type of the models' outputs, for all or by name: ``"logits"``,
            ``"probabilities"`` or ``"labels"``. None: what they declare. Callables that declare
            nothing are called with one row.
        clip_values: the box (lower, upper).
        batch_size: most rows in one model call.
        chunk_size: most samples in a unit. None: twice the batch size.
        device: device of the inputs for models without parameters.
        shard: (i, n), 0 <= i < n: do every n-th unit only, from the i-th on. Shards share a folder.
        save_images: keep the examples of each attack in a file of ``out/examples``.
        save_states: keep the states of chains there.
        arguments: values to record as the run's arguments.
        overwrite: begin again, also in a folder with other files in it.
        watcher: observer of the progress.
        engine: as of ``evaluate``.
        workers: as of ``evaluate``.
        gpus_per_worker: as of ``evaluate``.
        threads_per_worker: as of ``evaluate``.
        engine_args: as of ``evaluate``.
        rebuild: function without arguments by which a worker builds models and data, as of
            ``evaluate``.
        dry_run: tell the watcher which rows and how much time the run takes at most. Nothing is
            written, and no attack runs.

    Returns:
        The table, with a row for each source, target, attack and setting, and the records. A
        crafting is charged as the attack counts, in ``queries`` and ``gradients``. In no record are
        the rows of a model for the clean samples, one each, and those of a target, one for each
        example or state.

    Raises:
        ValueError: for invalid arguments, models of different input shapes or numbers of classes, a
            source without the answers that an attack needs, a folder of another run, or a damaged
            file (the message names it).
        ImportError: without the extra ``report``.
        OSError: if the folder cannot be written. Finished units are kept.

    References:
        Hongjun Wang, Guanbin Li, Xiaobai Liu, Liang Lin, "A Hamiltonian Monte Carlo method for
        probabilistic adversarial attack and learning", IEEE TPAMI 2022 (both tables of transfer).
        Pin-Yu Chen, Yash Sharma, Huan Zhang, Jinfeng Yi, Cho-Jui Hsieh, "EAD: elastic-net attacks
        to deep neural networks via adversarial examples", AAAI 2018 (transfer against kappa).
    """
    require_report()
    _check_flags(
        hold_out=hold_out, save_images=save_images, save_states=save_states, dry_run=dry_run
    )
    check_dry_run(dry_run, overwrite)
    check_choice("average", average, AVERAGES)
    crew = workers_of(engine, workers, gpus_per_worker, threads_per_worker, engine_args or {})
    here = device_of_driver(device, crew.engine if crew else None)
    if crew is not None:
        crew.check_device(device)
    norm = norm_name(norm)
    own = named_models(sources, "source")
    others = None if targets is None else named_models(targets, "target")
    every = united(own, others or {})
    pairs, of_models = pairs_of(
        list(own), None if others is None else list(others), ensembles or {}, hold_out
    )
    found_panel = None if panel is None else resolve_panel(panel)
    chosen = Attacks(attacks, found_panel, attack_args or {}, norm, targeted is not None)
    if baseline is not None:
        check_choice("baseline", baseline, tuple(chosen.names))
    varied = variations(chosen, kappa, vary or {})
    every_setting = settings_of(chosen, _radii(eps), _seeds(seeds), varied, at)
    given = resolve_models(every, data=data_name(data), norm=norm, device=here)
    named = {name: callable_model(model) for name, model in given.items()}
    samples = _samples(given, named, data, clip_values)
    settings = Settings(
        eps=_radii(eps),
        max_queries=max_queries,
        norm=norm,
        stop_on_success=True,
        outputs="logits",
        clip_values=clip_values,
        batch_size=batch_size,
        device=device,
        seed=every_setting[0].seed,
        targeted=targeted,
    )
    settings.check(samples.shape)
    kinds = outputs_of(outputs, given, named, samples.rows(0, 1)[0])
    check_ensembles(of_models, kinds)
    size = 2 * batch_size if chunk_size is None else chunk_size
    plan = Plan(
        craftings=_craftings(pairs, every_setting),
        ensembles=of_models,
        average=average,
        outputs={**kinds, **{one.name: "logits" for one in of_models}},
        settings=settings,
        chunks=_chunks(len(samples), size),
    )
    work = Work(Job(plan, named, samples), TransferFolder(out))
    _check_attacks(work.job)
    _check_shard(shard)
    do = do_units
    if crew is not None:
        built = _rebuild(rebuild, every, data, here, norm, crew.engine)
        do = partial(distribute_units, rebuild=built, crew=crew)
    observer = watcher or Watcher()
    _note_kappa(kappa, chosen, observer)
    part = shard or (0, 1)
    if dry_run:
        return _estimated(work, size, part, 1 if crew is None else crew.number, observer)
    _begin(work, size, overwrite, arguments or {}, observer)
    do(work, list(missing_units(work, part)), observer)
    left = len(list(missing_units(work, (0, 1))))
    if left:
        return TransferOutcome(work.folder.path, [], left)
    return finish(work.job, work.folder, baseline, save_images, save_states)


def _check_flags(**flags: bool) -> None:
    for name, flag in flags.items():
        check_flag(name, flag)


def _craftings(
    pairs: Mapping[str, Sequence[str]], settings: Sequence[Setting]
) -> tuple[Crafting, ...]:
    """Return all craftings. With iterations a source is tried on its own examples too."""
    return tuple(
        Crafting(source, one, tuple(dict.fromkeys((*tried, *([source] if one.at else [])))))
        for source, tried in pairs.items()
        for one in settings
    )


def _chunks(samples: int, size: int) -> tuple[Chunk, ...]:
    check_count("chunk_size", size)
    return tuple((start, min(start + size, samples)) for start in range(0, samples, size))


def _note_kappa(kappa: Sequence[float], chosen: Attacks, watcher: Watcher) -> None:
    without = [name for name in chosen.names if not has_confidence(chosen.make(name))]
    if kappa and without:
        watcher.note(f"kappa changes nothing for {', '.join(without)}: no argument confidence")


def _samples(
    given: Mapping[str, Any], named: Mapping[str, Model], data: AnyData, box: tuple[float, float]
) -> Samples:
    """Return the samples, after the checks of models and samples against each other."""
    samples = samples_of(data, given)
    if not isinstance(samples, Dataset):
        check_repeatable(samples)
    if not len(samples):
        raise ValueError("transfer needs at least one sample, got none")
    check_shapes(given, samples.shape, sized=getattr(samples, "transform", None) is not None)
    check_box(named, box)
    return samples


def _estimated(
    work: Work, size: int, part: tuple[int, int], workers: int, watcher: Watcher
) -> TransferOutcome:
    """Tell the watcher what the run takes at most. Nothing is written."""
    work.folder.check(_configuration(work.job, size))
    watcher.planned(estimate_transfer(work, part, workers))
    return TransferOutcome(work.folder.path, [], len(list(missing_units(work, (0, 1)))))


def _begin(
    work: Work, size: int, overwrite: bool, arguments: Mapping[str, Any], watcher: Watcher
) -> None:
    """Check folder and models, and start or continue the run in the folder."""
    configuration = _configuration(work.job, size)
    work.folder.check(configuration, overwrite)
    check_classes(work.prepare(overwrite))
    work.folder.begin(configuration, overwrite, arguments)
    plan = work.job.plan
    first = plan.craftings[0]
    attack = first.setting.attack.name
    watcher.start(first.source, attack, plan.settings.eps[-1], len(work.job.data))


def _radii(eps: float | Sequence[float]) -> tuple[float, ...]:
    given = eps if isinstance(eps, Sequence) and not isinstance(eps, str) else (eps,)
    return tuple(dict.fromkeys(float(one) for one in given))


def _seeds(seeds: Sequence[int]) -> tuple[int, ...]:
    given = (seeds,) if isinstance(seeds, int) else tuple(seeds)
    if not given:
        raise ValueError("seeds must hold at least one seed, got none")
    if len(set(given)) < len(given):
        raise ValueError(f"seeds must differ, got {', '.join(map(str, given))}")
    return tuple(resolve_seed(seed, least=0) for seed in given)


def _check_shard(shard: tuple[int, int] | None) -> None:
    if shard is not None and not 0 <= shard[0] < shard[1]:
        raise ValueError(
            f"shard must be i/n with i from 0 to n - 1, such as 0/4, got {shard[0]}/{shard[1]}"
        )


def _check_attacks(job: Job) -> None:
    """Raise ValueError unless each attack can run on each of its sources. Nothing is computed."""
    nothing = torch.zeros(0, *job.data.shape)
    labels = torch.zeros(0, dtype=torch.int64)
    checked = set()
    for crafting in job.plan.craftings:
        attack = crafting.setting.attack
        key = (crafting.source, attack.name, crafting.setting.text)
        if key in checked:
            continue
        checked.add(key)
        if attack.resources:
            raise ValueError(
                f"{attack.name} needs a {' and a '.join(attack.resources)}, which transfer does not"
                " take: evaluate it by art-ext evaluate --generator RUN"
            )
        model = job.models[crafting.source]
        check_gradients({crafting.source: model}, {attack.name: attack.access})
        settings = job.plan.settings_of(crafting.source, crafting)
        attack.check(model, nothing, labels, settings)


def _configuration(job: Job, size: int) -> dict[str, Any]:
    """Return everything that decides the examples, and what the report tells of the run."""
    plan = job.plan
    settings = plan.settings.recorded()
    for name in ("eps", "seed", "batch_size", "device", "outputs"):
        del settings[name]
    return {
        "data": {"name": job.data.name, "identity": job.data.identity, "samples": len(job.data)},
        "settings": settings,
        "average": plan.average,
        "chunk_size": size,
        "models": job.identities,
        "craftings": [one.told() for one in plan.craftings],
    }


def _rebuild(
    rebuild: Rebuild | None,
    models: Mapping[str, Any],
    data: Any,
    device: str | None,
    norm: str,
    engine: str,
) -> Rebuild:
    """Return the function by which workers build models and data."""
    found = rebuild or rebuild_of(models, data, device=device, norm=norm)
    if found is None:
        raise ValueError(
            f"engine {engine!r} needs sources of models and data, because workers build them by"
            " themselves: give them by their names, or rebuild=FUNCTION, a function of a module"
        )
    return found
