"""Training loop of every recipe.

It owns epochs, rates, precision, processes, checkpoints, validation and history.
"""

from __future__ import annotations

import copy
import logging
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm.auto import tqdm

from art_ext.core.calling import ordinary
from art_ext.core.checks import listed
from art_ext.core.geometry import Box
from art_ext.core.keywords import public
from art_ext.core.networks import check_no_inference_tensor, in_use, restored_modes
from art_ext.training.batches import Batch, Batches, LoaderBatches, TensorBatches
from art_ext.training.checkpoints import checkpoints, load_checkpoint, save_checkpoint
from art_ext.training.engine import Engine
from art_ext.training.environment import accelerated, own_random_streams, seed_streams
from art_ext.training.folder import RunFolder
from art_ext.training.heads import Head
from art_ext.training.history import EpochEnd, Row, write_history
from art_ext.training.modes import frozen_modules, log_frozen, set_training
from art_ext.training.options import ROUNDING, TrainingOptions
from art_ext.training.recipes import Recipe, make_recipe
from art_ext.training.schedules import warm_up
from art_ext.training.step import Step
from art_ext.training.stepping import call_step, check_metric, metric_of, wants_metric
from art_ext.training.trial import check_failure_on_one_row, check_one_row, unused_parameters
from art_ext.training.validation import Validation, hold_out, make_validation

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger("art_ext")

Data = tuple[Tensor, Tensor] | Iterable[Any]
# updates between checks of the losses on an accelerator, because each check waits for it
CHECK_EVERY = 20


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """Result of a run.

    Attributes:
        model: the network that was passed, trained. Its mode is unchanged. If the recipe has a head
            of its own, a module around the network that returns class scores.
        history: a row per epoch: loss, rate, radius, the recipe's values, validation, rows forward
            and backward.
        losses: (updates,) the loss of each weight update's whole minibatch.
        best: the state dict of the epoch with the best validation, on the CPU. None without
            validation.
        best_epoch: number of that epoch. None without validation.
        updates: number of weight updates done.
        forwards, backwards: rows of all processes, without those of the validation.
        seconds: wall time, of all parts of a resumed run.
    """

    model: nn.Module
    history: list[Row]
    losses: Tensor
    best: dict[str, Tensor] | None
    best_epoch: int | None
    updates: int
    forwards: int
    backwards: int
    seconds: float


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
        data: (x, y), tensors (N, *S) in the box and (N,) class indices, or an iterable of such
            minibatches with a length, such as a ``DataLoader``.
        recipe: a recipe, or the name of one, which then has its defaults.
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
    check_no_inference_tensor(model)
    with (
        in_use(model),
        accelerated(wanted, model) as (accelerator, device),
        own_random_streams(device),
        restored_modes(model),
    ):
        run = _Run(model, data, method, wanted, accelerator, device)
        try:
            run.resume()
            run.train()
        finally:
            run.close()
        return run.result()


class _Run:
    """One run: its constants, and the state that a checkpoint holds."""

    def __init__(
        self,
        model: nn.Module,
        data: Data,
        recipe: Recipe,
        options: TrainingOptions,
        accelerator: Accelerator,
        device: torch.device,
    ) -> None:
        self.model = model
        self.recipe = recipe
        self.options = options
        self.accelerator = accelerator
        self.batches, self.validation, box = self._data(data)
        recipe.check(box)
        processes = int(accelerator.num_processes)
        self.per_epoch = self.batches.count(processes) * recipe.replays
        self.budget: float | None = None  # rows forward and backward that all processes may send
        sizes = [1] * self.batches.count(processes)
        samples = 1
        if options.passes is not None:
            sizes = self.batches.sizes(processes)
            samples = self.batches.samples()
            self.budget = options.passes * samples * (1 + ROUNDING)
        self.total = options.total(recipe, sizes, samples)
        self.rate = options.rate()
        self.augment = options.augment()
        if getattr(options.schedule, "optimizer", options.optimizer) is not options.optimizer:
            raise ValueError(
                "a schedule must be one of the optimiser that trains: pass its own as optimizer"
            )
        if self.rate is None and wants_metric(options.schedule):
            held = self.validation
            check_metric(
                options.schedule_metric, held is not None, held is not None and held.eps > 0
            )
        # its errors are raised before anything is written
        self.optimizer = options.make_optimizer(model)
        self.frozen = frozen_modules(model) if options.freeze_eval_modules else {}
        if isinstance(self.batches, TensorBatches):
            check_one_row(
                model,
                self.batches.example[:1],
                samples=self.batches.samples(),
                batch_size=options.batch_size,
                drop_last=options.drop_last,
                processes=processes,
                frozen=self.frozen,
            )
        self.folder = RunFolder.open(options, recipe, model, self.batches, self.frozen)
        log_frozen(self.frozen)
        self._network(box, device)
        self.update = self.epoch = self.batch = 0
        self.carried: dict[str, Tensor] = {}
        self.history: list[Row] = []
        self.losses: list[Tensor] = []
        self.logged: dict[str, Tensor] = {}
        self.best: dict[str, Any] | None = None
        # numbers of losses that are known to be finite, and that are those of whole minibatches
        self.checked = self.averaged = 0
        self.earlier = 0.0
        self.started = time.perf_counter()

    # --- set-up ---

    def _data(self, data: Data) -> tuple[Batches, Validation | None, Box]:
        """Return the minibatches, the held-out samples, and their box."""
        options = self.options
        held = self.options.validation_data
        if not (
            isinstance(data, (tuple, list))
            and len(data) == 2
            and all(isinstance(part, Tensor) for part in data)
        ):
            if options.validation:
                raise ValueError(
                    "a loader cannot be split: pass validation_data instead of validation"
                )
            if options.drop_last:
                raise ValueError(
                    "drop_last is for data in tensors; a loader drops its own last batch: "
                    "DataLoader(..., drop_last=True)"
                )
            loader = LoaderBatches(data, options.clip_values, options.seed)
            batches: Batches = loader
            shape = loader.shape
            box = loader.box
        else:
            x, y = data
            if x.dim() < 2 or not len(x):
                raise ValueError(
                    f"x must have shape (N, *S) with at least one sample, got {tuple(x.shape)}"
                )
            shape = x.shape[1:]
            box = Box.of(options.clip_values, shape, x.device)
            x = box.admit(x)
            y = y.to(x.device)
            # check the labels before they are split
            TensorBatches(x, y, options.batch_size, options.seed)
            if options.validation and held is None:
                (x, y), held = hold_out(x, y, options.validation, options.seed)
            batches = TensorBatches(x, y, options.batch_size, options.seed, options.drop_last)
        if held is None:
            return batches, None, box
        validation = make_validation(held, options, self.recipe, shape, box)
        batches.largest_label = max(batches.largest_label, int(validation.y.max()))
        return batches, validation, box

    def _network(self, box: Box, device: torch.device) -> None:
        """Prepare the network, its optimiser and the average of its weights for the device."""
        options = self.options
        model = self.model
        self.own_names = dict(model.__dict__)
        if options.trackers:
            self.accelerator.init_trackers("art_ext")
        model.to(device)
        if options.channels_last:
            model.to(memory_format=torch.channels_last)
        average = get_ema_multi_avg_fn(options.ema) if options.ema is not None else None
        self.average = average and AveragedModel(model, multi_avg_fn=average, use_buffers=True)
        plain: nn.Module = torch.compile(model) if options.compile else model  # type: ignore[assignment]
        self._handle_unused_parameters()
        wrapped = self.accelerator.prepare_model(plain, device_placement=False)
        self.stepper = self.accelerator.prepare_optimizer(self.optimizer, device_placement=False)
        if self.rate is not None:
            for group in self.optimizer.param_groups:
                group.setdefault("initial_lr", group["lr"])
        own = Box(box.lower.to(device), box.upper.to(device))
        self.engine = Engine(
            self.accelerator,
            plain,
            wrapped,
            own,
            device,
            options.channels_last,
            self.frozen.values(),
            self.recipe.head,
        )

    def _handle_unused_parameters(self) -> None:
        """Let several processes wait for no gradient of parameters that no output depends on.

        Finding such parameters in every update takes time, so it is done only for networks that
        have some.
        """
        if self.accelerator.num_processes == 1:
            return
        from accelerate import DistributedDataParallelKwargs

        unused = unused_parameters(self.model, self.batches.example, self.frozen, self.recipe.head)
        count = torch.tensor([len(unused)], device=self.accelerator.device)
        if int(self.accelerator.reduce(count, reduction="sum")):
            logger.info(
                "no output depends on these parameters, which stay as they are: %s", listed(unused)
            )
            self.accelerator.ddp_handler = DistributedDataParallelKwargs(
                find_unused_parameters=True
            )

    # --- train ---

    def train(self) -> None:
        """Train epoch after epoch until the updates are done."""
        # seconds between refreshes: a terminal shows a moving bar, a log file few lines
        pause = 0.2 if sys.stderr.isatty() else 10
        shown: dict[str, Any] = {
            "disable": not self._shows,
            "desc": self.recipe.name,
            "mininterval": pause,
        }
        with tqdm(total=self.total, initial=self.update, **shown) as bar:
            while self.update < self.total:
                self._train_epoch(bar)

    def _train_epoch(self, bar: tqdm[Any]) -> None:
        set_training(self.model, self.engine.frozen)
        process = self.accelerator.process_index
        processes = self.engine.processes
        for batch in self.batches.epoch(self.epoch, self.batch, process, processes):
            self._train_batch(batch)
            self.batch += 1
            bar.update(self.update - bar.n)
            if self.update >= self.total:
                break
            due = self.options.checkpoint_every
            if due and self.update // due > (self.update - self.recipe.replays) // due:
                self._check_all()
                self._save()
        if self.update > self._before_epoch():
            self._end_epoch(bar)
        else:  # the budget did not reach into this epoch
            self._save()

    def _before_epoch(self) -> int:
        """Return the weight updates of the completed epochs."""
        return sum(int(row["epoch_updates"]) for row in self.history)

    def _room(self, rows: int) -> tuple[bool, bool]:
        """Return two flags: the budget has room for an update, and for a repeat of it.

        Args:
            rows: rows of the minibatch.
        """
        if self.budget is None:
            return True, True
        remaining = self.budget - sum(self._ledger())
        fits = remaining >= rows * sum(self.recipe.cost())
        spare = remaining >= rows * sum(self.recipe.largest_cost())
        return fits, spare

    def _train_batch(self, batch: Batch) -> None:
        """Run all replays of one minibatch."""
        engine = self.engine
        options = self.options
        engine.expect(self.batches.largest_label)  # a loader's labels are known batch by batch
        x = engine.place(batch.x)
        y = ordinary(batch.y.to(engine.device))
        ids = batch.ids.to(engine.device)
        if self.augment is not None:
            x = engine.place(self.augment(x, ids, options.seed, self.epoch))
        memory: dict[str, Tensor] = {}
        for replay in range(self.recipe.replays):
            fits, spare = self._room(batch.rows)
            if not fits:
                self.total = self.update
            if self.update >= self.total:
                return
            seed_streams(options.seed, self.update, self.accelerator.process_index, engine.device)
            self._set_rate()
            step = Step(
                engine,
                x,
                y,
                ids,
                rows=batch.rows,
                update=self.update,
                replay=replay,
                eps=self._eps(),
                seed=options.seed,
                smoothing=options.label_smoothing,
                memory=memory,
                carried=self.carried,
                epoch=self.epoch,
                time=self._time,
                spare=spare,
            )
            try:
                self._update(step)
            except Exception:
                if len(x) == 1:  # tensors were tried before, a loader's batches were not
                    place = f"batch {self.batch} of epoch {self.epoch}, counted from 0"
                    check_failure_on_one_row(
                        self.model, x, self.frozen, f"leave out {place} (drop_last=True)"
                    )
                raise

    def _update(self, step: Step) -> None:
        """Make one weight update."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.recipe.loss(step)
        self.losses.append(loss.detach())
        self._check_losses(CHECK_EVERY if self.engine.device.type != "cpu" else 1)
        self.accelerator.backward(loss)
        self.recipe.after_backward(step)
        self.stepper.step()
        if self.rate is None and self.options.schedule_every == "update":
            self.options.schedule.step()  # type: ignore[union-attr]
        if self.average is not None:
            self.average.update_parameters(self.model)
        for name, value in step.log.items():
            self.logged[name] = self.logged.get(name, 0) + value
        self.update += 1

    @property
    def _time(self) -> float:
        """The fractional epoch."""
        return self.update / self.per_epoch

    def _eps(self) -> float:
        return self.recipe.radius * warm_up(self._time, self.options.eps_warmup_epochs)

    def _set_rate(self) -> None:
        """Write the schedule's rate into the optimiser, unless the caller's own schedule does."""
        if self.rate is None:
            return
        factor = self.rate(self._time, self.total / self.per_epoch) * warm_up(
            self._time, self.options.warmup_epochs
        )
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor

    def _check_losses(self, every: int) -> None:
        """Raise ValueError if a loss is not finite.

        Only every so many updates are checked, because a check waits for an accelerator.
        """
        if len(self.losses) - self.checked < every:
            return
        finite = torch.stack(self.losses[self.checked :]).isfinite()
        if not bool(finite.all()):
            update = self.checked + int((~finite).nonzero()[0])
            epoch, batch = divmod(
                update // self.recipe.replays, self.per_epoch // self.recipe.replays
            )
            raise ValueError(
                f"the loss is {float(self.losses[update])} in batch {batch} of epoch {epoch},"
                f" counted from 0 (weight update {update}): lower the learning rate, or look at"
                " that batch; earlier checkpoints are kept"
            )
        self.checked = len(self.losses)

    def _check_all(self) -> None:
        """Raise ValueError if a loss or a weight is not finite.

        A checkpoint of such weights would be useless.
        """
        self._check_losses(1)
        weights = [
            parameter for group in self.optimizer.param_groups for parameter in group["params"]
        ]
        if not bool(torch.stack([weight.detach().isfinite().all() for weight in weights]).all()):
            raise ValueError(
                f"the weights are not finite after weight update {self.update - 1}: lower the"
                " learning rate; earlier checkpoints are kept"
            )

    # --- end of an epoch ---

    def _end_epoch(self, bar: tqdm[Any]) -> None:
        self._check_all()
        done = self.update - self._before_epoch()
        self.epoch += 1
        self.batch = 0
        row = self._row(done)
        if self.validation is not None:
            measured = self.validation.measure(self.engine, self._current)
            row.update({f"validation_{name}": value for name, value in measured.items()})
            self._keep_best(row)
        for callback in self.options.callbacks:
            found = callback(
                EpochEnd(self.recipe.head.export(self._current), self.epoch, dict(row))
            )
            taken = row.keys() & found.keys()
            if taken:
                raise ValueError(
                    f"a callback must name values of its own, got {', '.join(sorted(taken))}"
                )
            row.update({name: float(value) for name, value in found.items()})
        if self.rate is None and self.options.schedule_every == "epoch":
            self._step_schedule(row)
            row["learning_rate"] = self.optimizer.param_groups[0]["lr"]
        self.history.append(row)
        self.logged = {}
        if self.options.trackers:
            self.accelerator.log(row, step=self.update)
        shown = {
            name: f"{value:.4g}"
            for name, value in row.items()
            if name == "loss" or "validation" in name
        }
        bar.set_postfix(shown, refresh=False)
        if self.options.checkpoint_every is None or self.update >= self.total:
            self._save()

    def _row(self, done: int) -> Row:
        """Return the epoch's row of the history, without validation and callbacks."""
        self._average_losses()
        forwards, backwards = self._ledger()
        loss = float(torch.stack(self.losses[-done:]).mean())
        return {
            "epoch": self.epoch,
            "updates": self.update,
            "epoch_updates": done,
            "loss": loss,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "eps": self._last_eps(),
            **{name: float(value) / done for name, value in self.logged.items()},
            "forwards": forwards,
            "backwards": backwards,
            "seconds": self._seconds(),
        }

    def _step_schedule(self, row: Row) -> None:
        """Step the caller's schedule at the end of an epoch."""
        schedule = self.options.schedule
        metric = None
        if wants_metric(schedule):
            # a callback's column may differ between processes, and the rate must not
            metric = self.engine.agreed(metric_of(row, self.options.schedule_metric))
        call_step(schedule, self.epoch, metric)

    def _average_losses(self) -> None:
        """Replace this process' parts of the losses by the losses of whole minibatches.

        The loss of a minibatch is the mean of the processes' parts.
        """
        mine = self.losses[self.averaged :]
        if mine:
            self.losses[self.averaged :] = (
                self.engine.total(torch.stack(mine)) / self.engine.processes
            ).unbind()
        self.averaged = len(self.losses)

    def _ledger(self) -> list[int]:
        """Return the rows forward and backward of all processes."""
        if self.engine.processes == 1:
            return [self.engine.forwards, self.engine.backwards]
        rows = torch.tensor(
            [self.engine.forwards, self.engine.backwards], device=self.engine.device
        )
        return [int(count) for count in self.engine.total(rows)]

    def _last_eps(self) -> float:
        return self.recipe.radius * warm_up(
            (self.update - 1) / self.per_epoch, self.options.eps_warmup_epochs
        )

    def _seconds(self) -> float:
        return self.earlier + time.perf_counter() - self.started

    @property
    def _current(self) -> nn.Module:
        """The network in its current state, averaged if there is an average."""
        return self.model if self.average is None else self.average.module

    def _keep_best(self, row: Row) -> None:
        """Copy the weights if this epoch's validation is better than all earlier ones."""
        score = [row.get("validation_robust", row["validation_clean"]), row["validation_clean"]]
        if self.best is None or score > self.best["score"]:
            weights = {
                name: tensor.detach().cpu().clone()
                for name, tensor in self._current.state_dict().items()
            }
            self.best = {"score": score, "epoch": self.epoch, "weights": weights}

    # --- checkpoints ---

    def _save(self) -> None:
        """Write a checkpoint and the history, if a folder was given."""
        if self.folder is None:
            return
        self._average_losses()
        forwards, backwards = self._ledger()
        carried = {name: self._gathered(value) for name, value in self.carried.items()}
        if self.accelerator.is_main_process:
            schedule = self.options.schedule
            scaler = self.accelerator.scaler
            save_checkpoint(
                self.folder.checkpoints,
                self.update,
                {
                    "update": self.update,
                    "epoch": self.epoch,
                    "batch": self.batch,
                    "model": self.model.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                    "carried": carried,
                    "history": self.history,
                    "schedule": schedule.state_dict() if hasattr(schedule, "state_dict") else None,
                    "scaler": scaler.state_dict() if scaler is not None else None,
                    "average": self.average.state_dict() if self.average is not None else None,
                    "losses": torch.stack(self.losses),
                    "logged": self.logged,
                    "best": self.best,
                    "forwards": forwards,
                    "backwards": backwards,
                    "seconds": self._seconds(),
                },
            )
            write_history(self.folder.path, self.history)
        self.accelerator.wait_for_everyone()

    def _gathered(self, value: Tensor) -> Tensor:
        """Gather a carried tensor over the processes. Row i belongs to process i modulo P."""
        if self.engine.processes == 1 or not value.dim():
            return value
        counts = self.accelerator.gather(torch.tensor([len(value)], device=value.device))
        # the last ones may have a row less
        missing = value.new_zeros(int(counts.max()) - len(value), *value.shape[1:])
        parts = self.accelerator.gather(torch.cat([value, missing]).unsqueeze(0))
        return parts.transpose(0, 1).reshape(-1, *value.shape[1:])[: int(counts.sum())]

    def resume(self) -> None:
        """Continue from the newest checkpoint of the folder, if there is one to resume."""
        if self.folder is None:
            return
        found = checkpoints(self.folder.checkpoints)
        if not found:
            return
        state = load_checkpoint(found[-1])
        self.update = state["update"]
        self.epoch = state["epoch"]
        self.batch = state["batch"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.rate is None and state["schedule"] is None:
            raise ValueError(
                "a schedule must have state_dict() and load_state_dict() to be resumed"
            )
        if state["schedule"] is not None:
            self.options.schedule.load_state_dict(state["schedule"])  # type: ignore[union-attr]
        if state["scaler"] is not None and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        place = self.engine.device
        process = self.accelerator.process_index
        self.carried = {
            name: (value[process :: self.engine.processes] if value.dim() else value).to(place)
            for name, value in state["carried"].items()
        }
        self.history = state["history"]
        self.best = state["best"]
        self.losses = list(state["losses"].to(place).unbind())
        self.checked = self.averaged = len(self.losses)
        self.logged = {name: value.to(place) for name, value in state["logged"].items()}
        if self.accelerator.is_main_process:  # those of all processes
            self.engine.forwards = state["forwards"]
            self.engine.backwards = state["backwards"]
        self.earlier = state["seconds"]
        self.started = time.perf_counter()
        logger.info("resumed from %s after %d weight updates", found[-1].name, self.update)

    # --- end ---

    @property
    def _shows(self) -> bool:
        return self.options.progress and bool(self.accelerator.is_main_process)

    def close(self) -> None:
        """Remove Accelerate's wrapping and the gradients from the model."""
        self.accelerator.unwrap_model(self.engine.wrapped, keep_fp32_wrapper=False)
        # attributes that preparing adds
        for name in ("forward", "_is_accelerate_prepared", "_is_torch_compile"):
            self.model.__dict__.pop(name, None)
            if name in self.own_names:
                self.model.__dict__[name] = self.own_names[name]
        self.model.zero_grad(set_to_none=True)
        for tracker in self.accelerator.trackers:
            tracker.finish()

    def result(self) -> TrainingResult:
        """Return the result, and load averaged weights, if any, into the model."""
        if self.average is not None:
            self.model.load_state_dict(copy.deepcopy(self.average.module.state_dict()))
        last = self.history[-1]
        if self.folder is not None and self.accelerator.is_main_process:
            # a killed run may not have written these
            write_history(self.folder.path, self.history)
            self.folder.write_weights(self.model, self.best)
        return TrainingResult(
            model=self.recipe.head.export(self.model),
            history=self.history,
            losses=torch.stack(self.losses).cpu(),
            best=None if self.best is None else self.best["weights"],
            best_epoch=None if self.best is None else self.best["epoch"],
            updates=self.update,
            forwards=int(last["forwards"]),
            backwards=int(last["backwards"]),
            seconds=self._seconds(),
        )
