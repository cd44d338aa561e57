"""Training loop of every recipe: epochs, minibatches and weight updates.

The parts of a run have modules of their own: ``sources`` (data), ``length``, ``network``,
``rates``, ``averaging``, ``state``, ``saving`` (checkpoints), ``validation``, ``reporting``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from art_ext.core.calling import ordinary
from art_ext.core.keywords import public
from art_ext.core.networks import check_no_inference_tensor, in_use, restored_modes
from art_ext.core.streams import global_streams_kept
from art_ext.storage.locking import is_main_process
from art_ext.storage.training import locked_training
from art_ext.tracking import Trackers
from art_ext.training.augmentation import check_padding
from art_ext.training.averaging import WeightAverage
from art_ext.training.batches import Batch, LoaderBatches
from art_ext.training.engine import Engine
from art_ext.training.environment import accelerated, seed_streams
from art_ext.training.folder import RunFolder
from art_ext.training.heads import Head
from art_ext.training.history import EpochEnd, Row, write_history
from art_ext.training.length import Length
from art_ext.training.measures import check_held, measures
from art_ext.training.modes import Frozen, frozen_modules, log_frozen, set_training
from art_ext.training.network import prepared
from art_ext.training.optimizers import make_optimizer
from art_ext.training.options import Callback, TrainingOptions
from art_ext.training.phases import Phases, check_labelled, phases_of
from art_ext.training.rates import Rate, check_schedule
from art_ext.training.recipes import Recipe, make_recipe
from art_ext.training.reporting import Reporter
from art_ext.training.result import TrainingResult
from art_ext.training.saving import Checkpointing
from art_ext.training.schedules import warm_up
from art_ext.training.sources import Data, Sources, make_sources
from art_ext.training.state import TrainState
from art_ext.training.step import Step
from art_ext.training.trial import check_failure_on_one_row, check_one_row, raw_output, returns_nan
from art_ext.training.validation import Validation, better

if TYPE_CHECKING:
    from accelerate import Accelerator

# updates between checks of the losses on an accelerator, because each check waits for it
CHECK_EVERY = 20
LARGE = 100.0  # a network with a larger weight is tried before it is saved


@public(TrainingOptions)
def train(model: nn.Module, data: Data, recipe: Recipe | str, **options: Any) -> TrainingResult:
    """Train a network by a recipe.

    The run takes one process or, under ``torchrun`` and ``accelerate launch``, several, which share
    each minibatch. Noise is keyed by seed, sample and update, so the number of processes changes
    results by rounding only. BatchNorm is the exception: its statistics are those of a process' own
    rows.

    Args:
        model: an ``nn.Module`` from (r, *S) to logits (r, C), or to what the recipe's head makes
            class scores of, normalisation included. It is trained in place.
        data: (x, y), tensors or arrays (N, *S) in the box and (N,) class indices. Or an iterable of
            minibatches of tensors with a length, such as a ``DataLoader``. Or a map-style dataset
            of torch, torchvision, Hugging Face or MAITE, or ``as_dataset(dataset, workers=4)`` of
            any library. Each process reads its own rows only, except of iterables that are no
            ``DataLoader`` of a map-style dataset.
        recipe: a recipe, or the name of one, as ``make_recipe`` takes it, which then has its
            defaults.
        **options: the keywords of ``TrainingOptions``.

    Raises:
        ValueError: for arguments, data or a folder that do not fit, and for a loss that is not
            finite. The message names the batch, and earlier checkpoints are kept.
        ImportError: without the extra ``train``.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"model must be an nn.Module, got {type(model).__name__}")
    method = make_recipe(recipe) if isinstance(recipe, str) else recipe
    if not isinstance(method, Recipe):
        raise ValueError(f"recipe must be a Recipe or the name of one, got {recipe!r}")
    if not isinstance(method.head, Head):
        raise ValueError(
            f"the head of the recipe {method.name} must be a Head, got {method.head!r}"
        )
    wanted = TrainingOptions(**options)
    with closing(
        Trackers(wanted.trackers, wanted.tracker_args, wanted.checkpoint_dir, is_main_process())
    ) as trackers:
        return train_tracked(model, data, method, wanted, trackers)


def train_tracked(
    model: nn.Module, data: Data, recipe: Recipe, options: TrainingOptions, trackers: Trackers
) -> TrainingResult:
    """Train as ``train``, with trackers that stay open."""
    check_no_inference_tensor(model)
    with (
        in_use(model),
        accelerated(options, model) as (accelerator, device),
        locked_training(options.checkpoint_dir),
        global_streams_kept(device),
        restored_modes(model),
    ):
        with _started(model, data, recipe, options, accelerator, device, trackers) as run:
            run.state = run.checkpointing.resume()
            run.reporter.resume(run.state.rows)
            with run.reporter.bar(run.phases.total, run.state.update):
                for place, length in enumerate(run.phases.lengths):
                    if run.state.update < length.end:
                        run.phases.enter(place, run.state)
                    while run.state.update < length.end:
                        _train_epoch(run)
        return _result(run)


@dataclass(eq=False)
class _Run:
    """The parts of a run."""

    model: nn.Module
    recipe: Recipe
    options: TrainingOptions
    sources: Sources
    phases: Phases
    optimizer: torch.optim.Optimizer
    stepper: Any
    engine: Engine
    frozen: Frozen
    rate: Rate
    average: WeightAverage
    checkpointing: Checkpointing
    reporter: Reporter
    callbacks: Sequence[Callback]
    state: TrainState

    @property
    def length(self) -> Length:
        """Length of the current phase."""
        return self.phases.length


# --- begin and end ---


@contextmanager
def _started(
    model: nn.Module,
    data: Data,
    recipe: Recipe,
    options: TrainingOptions,
    accelerator: Accelerator,
    device: torch.device,
    trackers: Trackers,
) -> Iterator[_Run]:
    """Check everything, open the folder, and yield the parts of a run.

    Errors of arguments and data are raised before anything is written.
    """
    processes = int(accelerator.num_processes)
    recipe.check_losses(options.label_smoothing, options.outer_loss, options.craft_loss)
    recipe.check_compile(options.compile)
    sources = make_sources(data, options, recipe, device, processes)
    recipe = recipe.fitted(model, sources.batches.example, options.seed)
    recipe.check(sources.box)
    check_padding(options.crop_padding, sources.batches.example.shape[1:])
    phases = phases_of(recipe, options)
    check_labelled(phases, sources.batches)
    lengths = Length.of_phases(phases, options, sources.batches, processes)
    check_schedule(options, sources.validation)
    check_held(options.validation_every, sources.validation is not None)
    callbacks = (*options.callbacks, *measures(options.track, recipe, sources.validation))
    optimizer = make_optimizer(options, model)
    frozen = frozen_modules(model) if options.freeze_eval_modules else {}
    _check_one_row(model, sources, options, processes, frozen)
    folder = RunFolder.open(options, recipe, model, sources.batches, frozen)
    log_frozen(frozen)
    if folder is not None:
        trackers.start(folder.configuration)
    shown = options.progress and bool(accelerator.is_main_process)
    with prepared(
        model,
        optimizer,
        options,
        accelerator,
        device,
        sources.box,
        frozen=frozen,
        head=recipe.head,
        networks=recipe.networks,
        example=sources.batches.example,
    ) as (engine, average, stepper):
        rate = Rate(options, optimizer)
        yield _Run(
            model=model,
            recipe=recipe,
            options=options,
            sources=sources,
            phases=Phases(
                phases,
                lengths,
                model,
                optimizer,
                rate,
                average,
                engine,
                sources.batches,
                folder,
                options.given_teacher(),
            ),
            optimizer=optimizer,
            stepper=stepper,
            engine=engine,
            frozen=frozen,
            rate=rate,
            average=average,
            checkpointing=Checkpointing(folder, model, optimizer, rate, average, engine),
            reporter=Reporter(recipe.name, shown, trackers),
            callbacks=callbacks,
            state=TrainState(),
        )


def _check_one_row(
    model: nn.Module, sources: Sources, options: TrainingOptions, processes: int, frozen: Frozen
) -> None:
    """Raise ValueError if a minibatch has one row, on which the network fails."""
    batches = sources.batches
    if not isinstance(batches, LoaderBatches):  # whose minibatches are known one by one
        check_one_row(
            model,
            batches.example[:1],
            samples=sum(batches.sizes(1)),
            batch_size=options.batch_size,
            drop_last=options.drop_last,
            processes=processes,
            frozen=frozen,
        )


def _result(run: _Run) -> TrainingResult:
    """Return the result, and load averaged weights, if any, into the model."""
    state = run.state
    run.average.load_into_model()
    last = state.history[-1]
    folder = run.checkpointing.folder
    exported = run.recipe.head.export(run.model)
    if folder is not None and run.engine.accelerator.is_main_process:
        # a killed run may not have written these
        write_history(folder.store, state.history, state.validations)
        folder.write_weights(exported, state.best)
    return TrainingResult(
        model=exported,
        history=state.history,
        losses=state.losses.stacked().cpu(),
        best=None if state.best is None else state.best["weights"],
        best_epoch=None if state.best is None else state.best["epoch"],
        teacher=run.phases.trained_teacher(),
        updates=state.update,
        forwards=int(last["forwards"]),
        backwards=int(last["backwards"]),
        first_layer_rows=int(last.get("first_layer_rows", 0)),
        validations=state.validations,
        seconds=state.seconds,
    )


# --- train ---


def _train_epoch(run: _Run) -> None:
    """Train on the rest of an epoch's minibatches."""
    state = run.state
    engine = run.engine
    set_training(run.model, engine.frozen)
    process = engine.accelerator.process_index
    epoch = state.epoch - run.length.first_epoch
    for batch in run.sources.batches.epoch(epoch, state.batch, process, engine.processes):
        _train_batch(run, batch)
        state.batch += 1
        run.reporter.advance(state.update)
        if state.update >= run.length.end:
            break
        if _due(run, run.options.validation_every) and not run.length.ends_epoch(state.update):
            _validate(run)
        if _due(run, run.options.checkpoint_every):
            _check_numbers(run)
            run.checkpointing.save(state)
    if state.epoch_updates:
        _end_epoch(run)
    else:  # the budget did not reach into this epoch
        run.checkpointing.save(state)


def _train_batch(run: _Run, batch: Batch) -> None:
    """Run all replays of one minibatch."""
    engine = run.engine
    options = run.options
    state = run.state
    length = run.length
    recipe = run.phases.recipe
    epoch = state.epoch - length.first_epoch
    engine.expect(run.sources.batches.largest_label)  # a loader's labels are known batch by batch
    x = engine.place(batch.x)
    y = ordinary(batch.y.to(engine.device, non_blocking=True))
    ids = batch.ids.to(engine.device, non_blocking=True)
    weights = None
    if batch.weights is not None:
        weights = batch.weights.to(engine.device, non_blocking=True)
    augment = options.augment()
    if augment is not None:
        x = engine.place(augment(x, ids, options.seed, epoch))
    targets = run.phases.targets_of(batch.ids)
    validation = run.sources.validation
    memory: dict[str, Tensor] = {}
    for replay in range(recipe.replays):
        # a budget is counted over all processes, which wait for each other
        spent = 0 if length.budget is None else sum(engine.ledger())
        fits, spare = length.room(batch.rows, spent)
        if not fits:
            length.total = state.update - length.first
        if state.update >= length.end:
            return
        update = state.update - length.first  # the key of every draw
        seed_streams(options.seed, update, engine.accelerator.process_index, engine.device)
        time = length.time(state.update)
        run.rate.set(time, length.epochs)
        step = Step(
            engine,
            x,
            y,
            ids,
            rows=batch.rows,
            update=update,
            replay=replay,
            eps=_radius(run, state.update),
            seed=options.seed,
            smoothing=options.label_smoothing,
            outer_loss=options.outer_loss,
            craft_loss=options.craft_loss,
            ramp=options.loss_ramp * time / length.epochs,
            memory=memory,
            carried=state.carried,
            epoch=epoch,
            time=time,
            spare=spare,
            targets=targets,
            weights=weights,
            weight=batch.weight,
            held=None if validation is None else partial(_held_out, run, validation),
        )
        try:
            _update(run, step)
        except Exception as error:
            if engine.classes is None and not isinstance(error, torch.OutOfMemoryError):
                raw_output(run.model, x[:1])  # its error names the shape of the samples
            if len(x) == 1:  # tensors were tried before, a loader's batches were not
                place = f"batch {state.batch} of epoch {state.epoch}, counted from 0"
                remedy = f"leave out {place} (drop_last=True)"
                check_failure_on_one_row(run.model, x, run.frozen, remedy)
            raise


def _held_out(run: _Run, validation: Validation, count: int) -> Step:
    """Return this process' share of the first held-out samples as a step, with draws of its own."""
    x, y, positions, rows = validation.first(count, run.engine)
    return Step(
        run.engine,
        x,
        y,
        -2 - positions,  # no keys of training samples
        rows=rows,
        update=0,  # the same draws in each update
        replay=0,
        eps=run.phases.recipe.radius,
        seed=run.options.seed,
        smoothing=0.0,
        memory={},
        carried={},
    )


def _update(run: _Run, step: Step) -> None:
    """Make one weight update."""
    state = run.state
    run.optimizer.zero_grad(set_to_none=True)
    loss = run.phases.recipe.loss(step)
    state.losses.append(loss.detach())
    state.losses.check(CHECK_EVERY if run.engine.device.type != "cpu" else 1, run.length)
    run.engine.accelerator.backward(loss)
    run.phases.recipe.after_backward(step)
    for callback in run.callbacks:
        if hasattr(callback, "after_update"):
            state.measure(callback.after_update(step))
    if run.options.clean_forwards > 1:
        step.observe(step.x)
    run.stepper.step()
    if run.options.clean_forwards:
        step.observe(step.x)
    run.rate.end_update()
    run.average.update()
    state.log(step.log)
    state.update += 1


def _radius(run: _Run, update: int) -> float:
    """Return the radius of a weight update, after warm-up."""
    return run.phases.recipe.radius * warm_up(
        run.length.time(update), run.options.eps_warmup_epochs
    )


def _check_numbers(run: _Run) -> None:
    """Raise ValueError if a loss or a weight is not finite, or the next loss would be NaN.

    A checkpoint of such weights would be useless. Only a network with a large weight is tried.
    """
    run.state.losses.check(1, run.length)
    weights = [
        weight.detach() for group in run.optimizer.param_groups for weight in group["params"]
    ]
    if bool(torch.stack([(weight.abs() <= LARGE).all() for weight in weights]).all()):
        return
    found = "the loss is nan"
    if not all(bool(weight.isfinite().all()) for weight in weights):
        found = "the weights are not finite"
    elif not _diverged(run):
        return
    raise ValueError(
        f"{found} after weight update {run.state.update - 1}: lower the learning rate; earlier"
        " checkpoints are kept"
    )


def _diverged(run: _Run) -> bool:
    """Return True, on every process, if the network of one returns NaN for its first samples."""
    engine = run.engine
    with global_streams_kept(engine.device):
        nan = returns_nan(run.recipe.head.export(run.model), run.sources.batches.example)
    return bool(engine.total(torch.tensor(float(nan), device=engine.device)))


def _due(run: _Run, every: int | None) -> bool:
    """Return True if the last minibatch passed a multiple of so many weight updates."""
    update = run.state.update
    return every is not None and update // every > (update - run.phases.recipe.replays) // every


def _validate(run: _Run) -> None:
    """Measure the network within an epoch. Nothing of the training changes."""
    validation = run.sources.validation
    if validation is None:
        return
    _check_numbers(run)
    state = run.state
    rows = run.engine.ledger()
    with global_streams_kept(run.engine.device):  # those of the user's data sets too
        measured = validation.measure(run.engine, run.average.current)
    row: Row = {
        "epoch": run.length.first_epoch + run.length.time(state.update),
        "updates": state.update,
        "forwards": rows.forwards,
        "backwards": rows.backwards,
        "seconds": state.seconds,
        **{f"validation_{name}": value for name, value in measured.items()},
    }
    state.validations.append(row)
    run.reporter.report(row, state.update)


# --- end of an epoch ---


def _end_epoch(run: _Run) -> None:
    """Measure the network, enter a row into the history, and save."""
    _check_numbers(run)
    state = run.state
    engine = run.engine
    done = state.epoch_updates
    state.epoch += 1
    state.batch = 0
    row = _row(run, done)
    validation = run.sources.validation
    current = run.average.current
    exported = run.recipe.head.export(current)
    if validation is not None:
        measured = validation.measure(engine, current)
        row.update({f"validation_{name}": value for name, value in measured.items()})
        state.best = better(state.best, row, state.epoch, exported)
    _call_back(run.callbacks, exported, state.epoch, row)
    run.rate.end_epoch(row, state.epoch - run.length.first_epoch, engine)
    state.history.append(row)
    state.logged = {}
    state.measured = {}
    run.reporter.report(row, state.update)
    if run.options.checkpoint_every is None or state.update >= run.length.end:
        run.checkpointing.save(state)


def _row(run: _Run, done: int) -> Row:
    """Return the epoch's row of the history, without validation and callbacks.

    Args:
        run: the run, at the end of an epoch.
        done: weight updates of the epoch.
    """
    state = run.state
    state.losses.average(run.engine)
    rows = run.engine.ledger()
    return {
        "epoch": state.epoch,
        **run.phases.facts(),
        "updates": state.update,
        "epoch_updates": done,
        "loss": state.losses.mean(done),
        "learning_rate": run.rate.current,
        "eps": _radius(run, state.update - 1),
        **{name: float(value) / done for name, value in state.logged.items()},
        **{name: float(pair[0] / pair[1]) for name, pair in state.measured.items()},
        "forwards": rows.forwards,
        "backwards": rows.backwards,
        **({"first_layer_rows": rows.first_layer_rows} if rows.first_layer_rows else {}),
        "seconds": state.seconds,
    }


def _call_back(callbacks: Sequence[Callback], model: nn.Module, epoch: int, row: Row) -> None:
    """Enter the values of the callbacks into the row."""
    for callback in callbacks:
        found = callback(EpochEnd(model, epoch, dict(row)))
        taken = row.keys() & found.keys()
        if taken:
            raise ValueError(
                f"a callback must name values of its own, got {', '.join(sorted(taken))}"
            )
        row.update({name: float(value) for name, value in found.items()})
