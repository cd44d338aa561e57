"""Evaluation of models, and merging of the folders of shards."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import torch

from art_ext.configuration.places import placed
from art_ext.core.checks import check_choice, check_count, check_flag
from art_ext.core.detection import Detector
from art_ext.core.geometry import norm_name
from art_ext.core.keywords import public
from art_ext.core.oracle import Model
from art_ext.core.streams import resolve_seed
from art_ext.core.wording import radius
from art_ext.data import Dataset, Samples
from art_ext.data.lazy import check_repeatable
from art_ext.evaluation.analysis.blocks import CUSTOM
from art_ext.evaluation.analysis.records import require_report
from art_ext.evaluation.execution.chains import check_chains
from art_ext.evaluation.execution.description import describe
from art_ext.evaluation.execution.detection import Fitting, defended
from art_ext.evaluation.execution.engines import (
    TASKS_PER_WORKER,
    Workers,
    device_of_driver,
    started,
    workers_of,
)
from art_ext.evaluation.execution.estimate import check_dry_run, estimate_run
from art_ext.evaluation.execution.executor import Distribution
from art_ext.evaluation.execution.finish import Outcome, finish
from art_ext.evaluation.execution.job import Blueprint, Job, Rebuild, Watcher
from art_ext.evaluation.execution.member_transfer import ensembles_of, measure_transfer
from art_ext.evaluation.execution.models import (
    AnyData,
    Models,
    callable_model,
    check_box,
    check_gradients,
    check_shapes,
    common_outputs,
    data_name,
    rebuild_of,
    resolve_models,
    samples_of,
)
from art_ext.evaluation.execution.progress import follow
from art_ext.evaluation.execution.services import (
    CHUNK_SIZE,
    announce,
    check_services,
    services_of,
    stopping,
)
from art_ext.evaluation.execution.stability import check_stability
from art_ext.evaluation.execution.tracked import TrackedRun
from art_ext.evaluation.execution.work import ChunkTask, Work
from art_ext.evaluation.panel.arguments import recorded_arguments
from art_ext.evaluation.panel.attack import Attack, Settings
from art_ext.evaluation.panel.detectors import digests, plan_detectors
from art_ext.evaluation.panel.forms import declared_by_heads, in_forms, oblivious
from art_ext.evaluation.panel.members import find_attack, unused_speed
from art_ext.evaluation.panel.panels import (
    MAX_QUERIES,
    MODES,
    Panel,
    assign_arguments,
    check_member_names,
    own_budgets,
    resolve_panel,
    skipped,
)
from art_ext.evaluation.panel.resources import AnyGenerator, note_unused, resources_of, source_of
from art_ext.evaluation.panel.user_attacks import name_of
from art_ext.evaluation.report import page
from art_ext.storage.detectors import contents
from art_ext.storage.differences import differences
from art_ext.storage.evaluation import TRANSFER, RunFolder, open_run, read_run
from art_ext.storage.formats import EVALUATION
from art_ext.storage.store import LocalStore, Place
from art_ext.tracking import Trackers


@public()
def evaluate(
    models: Models,
    data: AnyData,
    out: Place,
    *,
    eps: float | Sequence[float] = 8 / 255,
    attacks: Sequence[str | Attack] | None = None,
    panel: str | os.PathLike[str] | Panel | None = None,
    mode: str | None = None,
    attack_args: Mapping[str, Mapping[str, Any]] | None = None,
    targeted: str | int | None = None,
    max_queries: int = MAX_QUERIES,
    norm: str = "linf",
    stop_on_success: bool | None = None,
    outputs: str | None = None,
    clip_values: tuple[float, float] = (0.0, 1.0),
    batch_size: int = 256,
    chunk_size: int | None = None,
    device: str | None = None,
    seed: int | None = 0,
    shard: tuple[int, int] | None = None,
    save_images: bool = False,
    save_states: bool = False,
    picture: str | None = None,
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
    trackers: Sequence[str] = (),
    tracker_args: Mapping[str, Mapping[str, Any]] | None = None,
    detectors: Sequence[str | Detector] = (),
    detector_args: Mapping[str, Mapping[str, Any]] | None = None,
    detector_files: Sequence[str | os.PathLike[str]] = (),
    fpr: float = 0.05,
    calibration: int = 1000,
    calibration_data: AnyData | None = None,
    fit_data: AnyData | None = None,
    adaptive: bool = True,
    members: bool = False,
    generator: AnyGenerator | None = None,
    amp: bool = False,
    channels_last: bool = False,
    compile: bool = False,
    draws: int | None = None,
    stability: bool = False,
) -> Outcome:
    """Attack every model with every attack, and write records, table, plots and report into a
    folder.

    A run consists of units of work: one attack on one model over one chunk of samples. Each unit is
    written atomically when it ends. A run that was killed, called again with the same arguments,
    runs its missing units and ends with the same records. So do several processes, in one folder or
    in folders that ``merge`` unites. The process that finds all units finished writes the report.

    Args:
        models: one model, several in a list, or several by the names that the report uses. A model
            is a network, a callable of tensors or arrays, a source such as ``"timm/resnet18"`` (see
            ``load_model``), a ``LoadedModel``, or an estimator of ART or scikit-learn.
        data: N samples in the box, with their labels: a name or path as ``load_data`` takes it, a
            ``Dataset``, or anything that ``as_dataset`` takes, such as tensors (x, y), a
            torchvision, Hugging Face or MAITE dataset, or a ``DataLoader`` that does not shuffle.
            Data that are not in memory are read chunk by chunk.
        out: the run folder: new, empty, or that of the same run, which is then completed. It may be
            a URL such as ``"s3://bucket/run"``, or a path of universal-pathlib.
        eps: radius or radii in the units of x.
        attacks: names of ``art-ext attacks``, ``FILE.py:FUNCTION`` for an attack of your own,
            external attacks such as ``torchattacks:CLASS``, or ``Attack`` objects. None and no
            panel takes RayS. Names of attacks and panels ignore case.
        panel: instead of attacks, a built-in panel (``"quick"``, ``"standard"``, ``"black-box"``,
            ``"rand"``, ``"paper"``) in its newest version, one of its versions
            (``"standard-2026.11"``), a TOML file, or a ``Panel``.
        mode: ``"cascade"``: each attack is given only the correctly classified samples without a
            success of an earlier attack within eps. ``"independent"``: each is given all. None
            takes the panel's own mode, and ``"independent"`` for attacks.
        attack_args: by the attack's name, arguments that it takes besides the ones below.
        targeted: None, or the rule for each sample's target: ``"random"`` (uniform over the classes
            other than its label), ``"least-likely"`` (lowest clean score), ``"next"`` (the label
            plus 1, modulo the classes), or one class for all. Samples that are misclassified or
            whose label is the target are not attacked then.
        max_queries: most forward rows per sample, for our attacks with labels or scores that have
            no ``max_queries`` in ``attack_args``. A value that a panel sets wins over it.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``, in any usual spelling (``np.inf``, ``"L2"``, 1).
        stop_on_success: True: RayS stops on a sample at its first success. None: True for a single
            eps, False for several, which one run of the attack then serves together.
        outputs: type of the models' outputs: ``"logits"``, ``"probabilities"`` or ``"labels"``.
            None: what the models declare, else logits.
        clip_values: the box (lower, upper).
        batch_size: most rows in one model call.
        chunk_size: most samples in a unit. None takes twice the batch size, or less for shards, or
            the value of the run in the folder.
        device: device of the inputs for models without parameters. Models are never moved.
        seed: key of every random number. None draws one and records it, or takes that of the run in
            the folder.
        shard: (i, n), 0 <= i < n: run every n-th chunk only, from the i-th on.
        save_images: keep every adversarial, for ``load_images`` and submissions, not only those
            that the report shows.
        save_states: keep all states of the attacks that draw several of a sample, such as
            ``hmcam``, or ``pgd`` with ``keep_samples``, for ``load_states``.
        picture: ``"pca"`` or ``"tsne"``: show the states of these attacks for up to four samples in
            the report, on their first two principal components or by t-SNE. None: no picture.
        arguments: values to record as the run's arguments besides the ones above.
        overwrite: begin again, also in a folder with other files in it. Files with our names are
            replaced.
        watcher: observer of clean accuracies and progress.
        engine: ``"local"`` (this process), ``"processes"`` of this machine, ``"ray"``, ``"slurm"``
            or ``"dask"``. None: local, or processes if ``workers`` is given.
        workers: number of workers that share the chunks. None: one for each core of this machine.
        gpus_per_worker: GPUs of a worker, or a fraction of one.
        threads_per_worker: threads of PyTorch in a worker. None: cores / workers. Records are equal
            for equal numbers of threads.
        engine_args: arguments of the engine, such as ``{"address": "auto"}``.
        rebuild: function without arguments by which a worker builds models and data, a mapping of
            names to models and a ``Dataset``. It must be a function of a module, or a ``partial``
            of one.
        dry_run: tell the watcher which rows and how much time the attacks take at most, and what
            each service costs, and write nothing. Each model is timed on one batch.
        trackers: ``"tensorboard"``, ``"wandb"`` and ``"mlflow"``, or some of them. They get the
            robust accuracy so far after each chunk, and the table, warnings and report at the end.
            They need the extra ``train``.
        tracker_args: by tracker, its arguments, such as ``{"wandb": {"project": "robustness"}}``.
        detectors: names of ``art-ext detectors``, ``FILE.py:CLASS`` for one of your own, or
            ``Detector`` objects, fitted or not. Each is evaluated with each model. Every attack is
            then run without and with knowledge of the detector.
        detector_args: by the detector's name, arguments of its class.
        detector_files: files of fitted detectors, which ``Detector.save`` wrote.
        fpr: false-positive rate at which the threshold of a detector is set.
        calibration: most clean images that set it, drawn at random by the seed.
        calibration_data: clean images that set it, in any form of ``data``. Those that are attacked
            are left out. The model should not have been trained on them.
        fit_data: clean training data of the detectors, in any form of ``data``. Of a name or path
            the training part is taken.
        adaptive: False to leave out the attacks that know the detector, and those that the head of
            a model declares against itself. The results then hold a warning.
        members: attack each member of an ensemble that was trained together by PGD of 20 steps at
            the largest eps, and report how often its examples succeed on the others. The first
            1,000 samples are taken, of which those count that all members classify correctly. These
            queries are in no record.
        generator: for attacks that need one, such as ``in_distribution``: a run folder of
            ``art-ext generator train``, ``FILE.py:FACTORY``, or a callable from latents (N, d) and
            classes (N,) to images (N, *S) with ``latent_dim`` and ``num_classes``. Data that hold
            the latents of their images hand them to the attack.
        amp: True computes the gradients of our attacks in bfloat16. Each success is verified by a
            forward in float32, which is one more query. Attacks without gradients and external ones
            stay in float32.
        channels_last: True hands images to networks in channels-last memory, in our attacks.
            Results change by rounding.
        compile: True calls networks through ``torch.compile``, in our attacks. Results change by
            rounding.
        draws: for models whose answers are random: attack the average over so many calls, as
            ``art_ext.core.Expectation`` does with this seed, and count successes that most of its
            verification draws confirm. None: the number of the panel, which only ``"rand"`` has,
            and else the models as they are.
        stability: True to measure the share of all samples whose prediction, right or wrong, no
            attack changes within eps. Fixed-radius attacks then also run on the misclassified
            samples, with the model's own prediction as the class to leave. Their rows are counted.

    Raises:
        ValueError: for invalid arguments, samples outside the box, labels beyond the model's width,
            a model that fails on the samples, a folder with other files in it, a folder of another
            run (the message lists the differences), or a damaged file (the message names it).
        ImportError: without the extra ``report``, or the package of a tracker.
        OSError: if the folder cannot be written. Finished units are kept.
        RunStopped: if a model raises ``ModelStopped``, as a service does whose budget is spent.
            Finished units are kept.
    """
    require_report()
    check_dry_run(dry_run, overwrite)
    check_flag("adaptive", adaptive)
    check_flag("members", members)
    chosen_trackers = Trackers(trackers, tracker_args, out)
    crew = workers_of(engine, workers, gpus_per_worker, threads_per_worker, engine_args or {})
    if crew is not None and rebuild is None:
        rebuild = rebuild_of(models, data, device=device, norm=norm_name(norm))
        if rebuild is None:
            raise ValueError(
                f"engine {crew.engine!r} needs a source, because workers build models and data by"
                " themselves: give models such as 'timm/resnet18' and data such as 'cifar10' by"
                " their names, or rebuild=FUNCTION, a function of a module that returns both"
            )
    if crew is not None:
        crew.check_device(device)
    here = device_of_driver(device, crew.engine if crew else None)
    given = resolve_models(models, data=data_name(data), norm=norm_name(norm), device=here)
    named = {name: callable_model(model) for name, model in given.items()}
    data = samples_of(data, given)
    if not isinstance(data, Dataset):
        check_repeatable(data)
    check_shapes(given, data.shape, sized=getattr(data, "transform", None) is not None)
    panel = None if panel is None else resolve_panel(panel)
    panel_attacks, mode = members_of(
        attacks, panel, mode, attack_args or {}, norm, targeted is not None
    )
    file = None if panel is None else panel.file
    ensembles = ensembles_of(named) if members else {}
    source = source_of(generator, device)
    note_unused(source, (attack.resources for attack in panel_attacks))
    resources = resources_of(None if source is None else source.load(), data)
    if crew is not None and source is not None:
        source.check_rebuilds(crew.engine)
    planned = plan_detectors(detectors, detector_args or {}, detector_files)
    detection = None
    if planned:
        named, detection = defended(named, planned)
    radii = tuple(
        sorted({float(radius) for radius in (eps if isinstance(eps, Sequence) else (eps,))})
    )
    # values that were drawn or chosen by default then must be the same now
    earlier = None if overwrite else read_run(out)
    settings = Settings(
        eps=radii,
        max_queries=max_queries,
        norm=norm,
        stop_on_success=len(radii) == 1 if stop_on_success is None else stop_on_success,
        outputs=common_outputs(outputs, given),
        clip_values=clip_values,
        batch_size=batch_size,
        device=device,
        seed=resolve_seed(_begun_with(earlier, "settings", "seed") if seed is None else seed),
        targeted=targeted,
        amp=amp,
        channels_last=channels_last,
        compile=compile,
        draws=panel.draws if draws is None and panel is not None else draws,
        stability=stability,
    )
    _check(named, data, panel_attacks, settings)
    if stability:
        check_stability(panel_attacks, targeted, detection is not None)
    nothing = torch.zeros(0, *data.shape)
    labels = torch.zeros(0, dtype=torch.int64)
    for attack in panel_attacks:
        keys = () if panel is None else panel.keys(attack.name)
        with placed(file, keys, (attack_args or {}).get(attack.name, ())):
            checked = attack if detection is None else oblivious(attack)
            checked.check(next(iter(named.values())), nothing, labels, settings, resources)
    _check_shard(shard, seed, overwrite)
    declared = declared_by_heads(named, settings)
    panel_attacks = [*panel_attacks, *(declared.attacks if adaptive else ())]
    if detection is not None:
        panel_attacks = in_forms(panel_attacks, adaptive)
    _check_names(panel_attacks)
    if settings.draws is not None and (detection is not None or ensembles):
        raise ValueError(
            "detectors and members need models that are attacked as they are, got"
            f" draws={settings.draws}: evaluate them in runs of their own"
        )
    job = Job(
        settings.expected(named),
        data,
        panel_attacks,
        settings,
        mode,
        save_images,
        detection,
        resources,
        save_states,
        picture,
    )
    check_chains(job)
    check_services(job, crew is not None)
    fitting = Fitting(
        fpr,
        calibration,
        None if fit_data is None else samples_of(fit_data, given, split="train"),
        None if calibration_data is None else samples_of(calibration_data, given),
    )
    fitting.check(detection, data, settings.outputs)
    size = _begun_with(earlier, "plan", "chunk_size") if chunk_size is None else chunk_size
    if size is None:  # each part gets several chunks, since samples differ in what they cost
        parts = (4 * shard[1] if shard else 1) * (TASKS_PER_WORKER * crew.number if crew else 1)
        largest = CHUNK_SIZE if services_of(job) else 2 * batch_size
        size = min(largest, -(-len(data) // parts))
    check_count("chunk_size", size)
    recorded = {
        "models": list(named),
        "data": data.name,
        "samples": len(data),
        "panel": CUSTOM if panel is None else panel.full_name,
        "mode": mode,
        "attacks": [attack.name for attack in panel_attacks],
        "attack_args": {
            attack.name: recorded_arguments(attack.name, attack.arguments)
            for attack in panel_attacks
            if attack.arguments
        },
        **settings.recorded(),
        "seed": seed,
        "save_images": save_images,
        **({"save_states": True} if save_states else {}),
        **({} if picture is None else {"picture": picture}),
        **({} if detection is None else fitting.told(planned)),
        **({} if adaptive else {"adaptive": False}),
        **({"members": True} if members else {}),
        **({} if source is None else {"generator": source.name}),
        **(arguments or {}),
    }
    del recorded["device"]  # numbers do not depend on it but for rounding
    begun = time.perf_counter()
    run = describe(job, recorded, _told(panel, attack_args or {}), size, given)
    if detection is not None:
        run["identity"] |= {**fitting.identity, **digests(planned)}
    if left_out := declared.left_out(adaptive):
        run["left_out"] = left_out
    own = own_budgets(panel, attack_args, max_queries)
    own += skipped(panel, settings.norm, targeted is not None)
    for note in (*own, *_repeated(eps), *unused_speed(panel_attacks, settings)):
        (watcher or Watcher()).note(note)
    folder = RunFolder(out, run)
    first, step = shard or (0, 1)
    numbers = list(range(len(folder.chunks)))[first::step]
    samples = sum(end - start for start, end in folder.chunks[first::step])
    alone = crew is None or rebuild is None
    work = Work(job, folder, watcher or Watcher(), samples, numbers if alone else (), fitting)
    processes = 1 if alone or crew is None else 1 + crew.number
    parts_of_run = [folder.chunks[number] for number in numbers]
    announce(job, parts_of_run, work.watcher, fitting, processes)
    if dry_run:
        ended = folder.files.ended() if work.check(overwrite=False) else {}
        if watcher is not None:
            own_chunks = {number: folder.chunks[number] for number in numbers}
            watcher.planned(
                estimate_run(job, own_chunks, 1 if crew is None else crew.number, ended)
            )
        return Outcome(folder.path, [], missing=len(folder.units()) - sum(map(len, ended.values())))
    with closing(chosen_trackers):
        tracked = TrackedRun(chosen_trackers, folder, driver=first == 0)
        if crew is None or rebuild is None:
            # data that are not in memory would be read twice, a service be sent all rows at once
            whole = isinstance(data, Dataset) and not services_of(job)
            with stopping(job, folder):
                work.begin(numbers if whole else numbers[:1], overwrite)
                tracked.begin()
                if watcher is not None:
                    follow(work, numbers)
                for number in numbers:
                    work.do(number)
                    tracked.chunk(number)
        else:
            blueprint = Blueprint(
                rebuild,
                panel_attacks,
                settings,
                mode,
                save_images,
                tuple(one.for_workers() for one in planned),
                source,
                save_states,
                picture,
            )
            _distribute(crew, blueprint, work, numbers, overwrite, tracked, watcher is not None)
        if ensembles and (first == 0 or not folder.missing()):
            measure_transfer(folder, ensembles, data, settings)
        outcome = finish(folder, page.write_report, time.perf_counter() - begun)
        tracked.finish(outcome)
    return outcome


def _distribute(
    crew: Workers,
    blueprint: Blueprint,
    work: Work,
    numbers: Sequence[int],
    overwrite: bool,
    tracked: TrackedRun,
    watched: bool,
) -> None:
    """Do the missing chunks of a run on workers."""
    folder = work.folder
    if not folder.store.shared:
        raise ValueError(
            f"engine {crew.engine!r} needs a folder that its workers can open, but {folder.path}"
            " is in the memory of this process"
        )
    continued = work.check(overwrite)
    complete = set(folder.complete_chunks() if continued else ())
    names = {
        number: f"chunk {number} (samples {start} to {end - 1})"
        for number in numbers
        for start, end in (folder.chunks[number],)
        if number not in complete
    }
    if not names:
        work.begin(())
        tracked.begin(numbers)
        return
    content = blueprint.pickled(script=crew.engine == "processes")
    # workers may be in another folder
    place = folder.path.absolute() if isinstance(folder.store, LocalStore) else folder.place
    # before the run begins, so that an engine that does not start leaves nothing behind
    with stopping(work.job, folder), started(crew, folder.path.absolute()) as begun:
        work.begin(numbers[:1], overwrite)
        tracked.begin([number for number in numbers if number not in names])
        if watched:
            follow(work, numbers, crew.number)

        def succeeded(number: int, robust: Mapping[str, float]) -> None:
            tracked.chunk(number)
            if work.progress is not None:
                work.progress.end_chunk(number, min(robust.values(), default=None))

        task = ChunkTask(content, blueprint.key, place, begun.threads)
        Distribution(crew, begun, task, names, folder.complete, work.watcher, succeeded).run()


def _told(panel: Panel | None, arguments: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what a run records of its panel: name, version, and members with other arguments."""
    if panel is None:
        return {"name": CUSTOM}
    told = {"name": panel.name, "version": panel.version, "changed": panel.changed(arguments)}
    return {key: value for key, value in told.items() if value}


def members_of(
    attacks: Sequence[str | Attack] | None,
    panel: Panel | None,
    mode: str | None,
    arguments: Mapping[str, Mapping[str, Any]],
    norm: str,
    targeted: bool,
) -> tuple[list[Attack], str]:
    """Return the attacks of a run and its mode.

    Raises:
        ValueError: for an unknown attack, argument or mode, or attacks beside a panel.
    """
    if mode is not None:
        check_choice("mode", mode, MODES)
    if panel is not None:
        if attacks is not None:
            raise ValueError(
                "attacks and panel exclude each other: a TOML file can declare any panel"
            )
        return panel.attacks(arguments, norm_name(norm), targeted), mode or panel.mode
    attacks = ("rays",) if attacks is None else attacks
    named = assign_arguments(
        arguments, {name_of(attack): attack for attack in attacks if isinstance(attack, str)}
    )
    members = [
        one if isinstance(one, Attack) else find_attack(one, named[name_of(one)]) for one in attacks
    ]
    return members, mode or "independent"


def _repeated(eps: float | Sequence[float]) -> list[str]:
    """Return a line that names the radii that were given more than once."""
    given = [float(one) for one in eps] if isinstance(eps, Sequence) else []
    twice = [radius(one) for one in dict.fromkeys(given) if given.count(one) > 1]
    return (
        [f"eps {', '.join(twice)} was given more than once, and is attacked once"] if twice else []
    )


def _begun_with(run: Mapping[str, Any] | None, part: str, name: str) -> int | None:
    """Value of a setting of the run in a folder, or None without a run."""
    value = ((run or {}).get(part) or {}).get(name)
    return value if isinstance(value, int) else None


def _check(
    models: Mapping[str, Model], data: Samples, panel: Sequence[Attack], settings: Settings
) -> None:
    if not models or not panel or not len(data):
        raise ValueError(
            f"wanted at least one model, attack and sample, got {len(models)} models, {len(panel)}"
            f" attacks and {len(data)} samples"
        )
    _check_names(panel)
    settings.check(data.shape)
    check_gradients(models, {attack.name: attack.access for attack in panel})
    check_box(models, settings.clip_values)


def _check_names(panel: Sequence[Attack]) -> None:
    names = [attack.name for attack in panel]
    if len(set(names)) < len(names):
        raise ValueError(f"attacks must differ in their names, got {', '.join(names)}")
    check_member_names(names)


def _check_shard(shard: tuple[int, int] | None, seed: int | None, overwrite: bool) -> None:
    if shard is None:
        return
    part, count = shard
    if not 0 <= part < count:
        raise ValueError(
            f"shard must be i/n with i from 0 to n - 1, such as 0/4, got {part}/{count}"
        )
    if seed is None or overwrite:
        raise ValueError(
            "shards need one common seed, and must not overwrite: another shard may be using the"
            " folder"
        )


def merge(folders: Sequence[Place], out: Place) -> Outcome:
    """Put the units of several folders of one run into one folder, with the report if it is
    complete.

    A folder that lacks units can be completed by the command of the run with ``--out`` naming it.
    The merged folders are not changed.

    Args:
        folders: at least one run folder.
        out: a new or empty folder, or one that an interrupted ``merge`` of the same folders left.

    Raises:
        ValueError: if a folder is not a run folder, holds another run (the message lists the
            differences), records of another run, or units that another folder holds too, or if a
            file is damaged. out is not changed then.
        ImportError: without the extra ``report``.
    """
    require_report()
    if not folders:
        raise ValueError("wanted at least one run folder to merge, got none")
    parts = [open_run(folder) for folder in folders]
    first = parts[0]
    for part in parts[1:]:
        changed = differences(first.run, part.run)
        if changed:
            raise ValueError(
                f"{part.path} holds another run than {first.path} ({'; '.join(changed)})"
            )
    target = RunFolder(out, {**first.run, "state": "running", "format": EVALUATION.written})
    if target.path.resolve() in {part.path.resolve() for part in parts}:
        raise ValueError(f"out must be another folder than those to merge, got {target.path}")
    _check_parts(parts)
    found = _same_detectors(parts)
    target.begin()
    for name, content in {**found, **_transfer(parts)}.items():
        target.store.write(name, content)
    for number in range(len(target.chunks)):
        writer = target.write_chunk(number)
        for part in parts:
            writer.take(part.files)
        writer.write()
    return finish(target, page.write_report)


def _transfer(parts: Sequence[RunFolder]) -> dict[str, bytes]:
    """Return the file on transfer between members, of the first part that has it."""
    found = [part.store.read(TRANSFER) for part in parts if part.store.exists(TRANSFER)]
    return {TRANSFER: found[0]} if found else {}


def _same_detectors(parts: Sequence[RunFolder]) -> dict[str, bytes]:
    """Return the files of the fitted detectors, which all parts share. Empty without a detector.

    Raises:
        ValueError: if a part has others.
    """
    found: dict[str, bytes] = {}
    owner = None
    for part in parts:
        own = contents(part.store)
        if owner is not None and own and own != found:
            raise ValueError(
                f"{part.path} has another fitted detector than {owner}: shards on machines whose"
                " kernels differ need one that is fitted before, by --detector-file"
            )
        if own and owner is None:
            owner, found = part.path, own
    return found


def _check_parts(parts: Sequence[RunFolder]) -> None:
    """Raise ValueError unless parts of a run hold other units each, of the same samples.

    Every unit is read.
    """
    for part in parts:
        for number in part.files.ended():
            if number >= len(part.chunks):
                raise ValueError(
                    f"{part.path} holds records of another run: there is no chunk {number}"
                )
    for number in range(len(parts[0].chunks)):
        ids = None
        owners: dict[int, RunFolder] = {}
        for part in parts:
            for place, table in part.files.tables(number).items():
                unit = part.units_of(number)[place]
                start, end = unit.samples
                own = table["id"].to_numpy()[: end - start]
                differs = np.flatnonzero(own != (own if ids is None else ids))
                ids = own if ids is None else ids
                if len(differs):
                    raise ValueError(
                        f"{part.path} holds records of another run: sample"
                        f" {start + int(differs[0])} is another one than elsewhere"
                    )
                if place in owners:
                    raise ValueError(
                        f"{owners[place].path} and {part.path} overlap: both hold {unit.attack} on"
                        f" {unit.model} for samples {start} to {end - 1}. Were both run with the"
                        " same --shard?"
                    )
                owners[place] = part
