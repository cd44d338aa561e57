"""The pretend accelerator finds what a real one would: tensors on the wrong side, planted one by
one in runs that pass without them.
"""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from art_ext.core import attacks, streams
from art_ext.core.attacks._rays_blocks import Blocks
from art_ext.core.attacks.engine import problem
from art_ext.core.attacks.engine.goal import Goal
from art_ext.core.attacks.engine.problem import Problem
from art_ext.core.detection import make_detector
from art_ext.core.ensemble import Ensemble
from art_ext.core.limits import draw_latents, generator_lipschitz
from art_ext.core.limits.generator import GeneratorOracle
from art_ext.core.oracle import labels as label_oracle
from art_ext.data import load_data
from art_ext.testing.toy import SmallNet
from art_ext.training import Pgd, train
from art_ext.training.engine import Engine
from tests.accelerator import Accelerator, Remote
from tests.toys import small_generator

MIXES = "mixes tensors"


class World:
    """A network with its samples on an accelerator, and the runs in which faults are planted."""

    def __init__(self, monkeypatch):
        self.monkeypatch = monkeypatch
        self.accelerator = Accelerator()
        data = load_data("digits").first(4)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.near = SmallNet().eval()
            self.generator = small_generator()
        self.net = self.accelerator.has(self.near)
        self.x = self.accelerator.has(data.x)
        self.y = self.accelerator.has(self.near(data.x).argmax(1))

    def attack(self, name, **options):
        function = getattr(attacks, name)
        usual = {"eps": 0.1, "seed": 0, "max_queries": 30}
        return function(self.net, self.x, self.y, **{**usual, **options})

    def pgd(self, **options):
        return self.attack("pgd", num_steps=2, **options)

    def masked(self):
        return self.pgd(mask=self.x > 0)

    def boxed(self):
        low = torch.zeros(1, 8, 8)
        return self.pgd(clip_values=(low, low + 1))

    def ensemble(self):
        self.net = Ensemble([self.net, self.accelerator.has(self.near)], average="probabilities")
        return self.pgd()

    def detector(self):
        detector = make_detector("kernel_density", {"layer": "layers.5", "num_kernels": 3})
        train_data = load_data("digits", split="train").first(80)
        self.fitted = detector.fit(self.net, train_data.x, train_data.y)
        self.after_fit()
        return detector.score(self.x)

    def after_fit(self):
        """What a fault does between fit and score."""

    def training(self):
        return train(self.net, (self.x, self.y), Pgd(eps=0.1, num_steps=1), epochs=1, batch_size=4)

    def limits(self):
        moved = self.accelerator.has(self.generator)
        return generator_lipschitz(moved, classes=[1], num_latents=3, num_neighbours=4)

    def returns_near(self, place, name):
        """Let a function return tensors of the CPU."""
        there = getattr(place, name)
        bound = isinstance(vars(place).get(name), staticmethod)

        @functools.wraps(there)
        def near(*arguments, **options):
            return tree_map(brought, there(*arguments, **options))

        self.monkeypatch.setattr(place, name, staticmethod(near) if bound else near)


def brought(thing):
    return thing.cpu() if isinstance(thing, Tensor) else thing


def mask(world):
    world.returns_near(problem, "free_coordinates")


def start(world):
    world.returns_near(problem, "uniform_in_ball")


def table(world):
    world.returns_near(streams, "_normal_table")


def bounds(world):
    world.returns_near(problem.Box, "flat_bounds")


def blocks(world):
    world.returns_near(Blocks, "factors")


def samples(world):
    world.returns_near(Engine, "place")


def latents(world):
    kept = GeneratorOracle.__call__
    world.monkeypatch.setattr(
        GeneratorOracle, "__call__", lambda self, z, y: kept(self, z, y).cpu()
    )


def index(world):
    made = Problem.of

    def of(*arguments, **options):
        found = made(*arguments, **options)
        return replace(found, index=found.index.cpu())

    world.monkeypatch.setattr(Problem, "of", staticmethod(of))


def labels(world):
    made = Goal.of

    def of(*arguments):
        found = made(*arguments)
        return replace(found, labels=found.labels.cpu())

    world.monkeypatch.setattr(Goal, "of", staticmethod(of))


def ledger(world):
    made = label_oracle.Ledger

    def on_the_cpu(count, most, device, cost):
        return made(count, most, torch.device("cpu"), cost)

    world.monkeypatch.setattr(label_oracle, "Ledger", on_the_cpu)


def buffer(world):
    norm = next(one for one in world.net.modules() if isinstance(one, nn.BatchNorm1d))
    norm._buffers["running_mean"] = norm.running_mean.cpu()


def parameter(world):
    """A part of the network is on another accelerator."""
    last = world.net.layers[-1]
    last._parameters["bias"] = nn.Parameter(Accelerator(1).has(world.near.layers[-1].bias.data))


def weights(world):
    made = Ensemble.combine

    def combine(self, members):
        shares = torch.tensor(self.weights)[:, None, None]
        return (torch.stack(members) + shares).logsumexp(dim=0) + 0 * made(self, members)

    world.monkeypatch.setattr(Ensemble, "combine", combine)


def kernels(world):
    def after_fit():
        for name in world.fitted.learned:
            setattr(world.fitted, name, getattr(world.fitted, name).cpu())

    world.after_fit = after_fit


def generator(world):
    """A stream of the CPU draws on the device."""

    def draw(norm, radius, seed, ids, step, features):
        stream = torch.Generator().manual_seed(seed)
        return torch.rand(len(ids), features, device=ids.device, generator=stream)

    world.monkeypatch.setattr(problem, "uniform_in_ball", draw)


PLANTED = [
    (mask, World.masked),
    (start, World.pgd),
    (index, World.pgd),
    (labels, World.pgd),
    (ledger, World.pgd),
    (buffer, World.pgd),
    (parameter, World.pgd),
    (generator, World.pgd),
    (bounds, World.boxed),
    (weights, World.ensemble),
    (table, lambda world: world.attack("nes", num_directions=2)),
    (blocks, lambda world: world.attack("rays")),
    (kernels, World.detector),
    (samples, World.training),
    (latents, World.limits),
]
NAMES = [fault.__name__ for fault, _ in PLANTED]


@pytest.fixture
def world(monkeypatch):
    return World(monkeypatch)


@pytest.mark.parametrize(("fault", "run"), PLANTED, ids=NAMES)
def test_a_mixup_is_found(fault, run, world):
    fault(world)
    with world.accelerator.running(), pytest.raises((RuntimeError, ValueError)) as error:
        run(world)
    assert any(one in str(error.value) for one in (MIXES, "from a generator of the CPU"))


@pytest.mark.parametrize("run", dict.fromkeys(run for _, run in PLANTED))
def test_a_run_without_a_fault_passes(run, world):
    with world.accelerator.running():
        run(world)


def test_a_wait_in_a_step_is_counted(world):
    query = Problem.query
    waits = {}
    for planted in (False, True):
        for steps in (2, 5):
            with world.accelerator.running():
                world.attack("pgd", num_steps=steps, max_queries=None)
            waits[planted, steps] = world.accelerator.waits

        def looks(self, rows, *arguments, **options):
            assert float(rows.max()) <= 1
            return query(self, rows, *arguments, **options)

        world.monkeypatch.setattr(Problem, "query", looks)
    assert waits[False, 2] == waits[False, 5]
    assert waits[True, 5] - waits[True, 2] == 3


def test_an_upload_in_a_step_is_counted(world):
    with world.accelerator.running():
        for make in (
            lambda: torch.tensor([1.0], device=world.x.device),
            lambda: world.x.new_tensor([1.0]),
            lambda: torch.ones(3).to(world.x.device),
            lambda: world.x[[0, 1]],
        ):
            world.accelerator.forget()
            assert isinstance(make(), Remote)
            assert (world.accelerator.uploads, world.accelerator.reads) == (1, 0)
        world.accelerator.forget()
        torch.full((3,), 2.0, device=world.x.device)
        torch.ones(3).to(world.x.device, non_blocking=True)
        assert world.accelerator.waits == 0
        world.x[world.x > 0.5]  # the host must know how many there are
        world.x.masked_fill(world.x > 0.5, 1.0)
        assert world.accelerator.waits == 1


def test_float64_is_found_where_there_is_none():
    accelerator = Accelerator(float64=False)
    there = accelerator.has(torch.ones(2))
    with accelerator.running(), pytest.raises(TypeError, match="no float64"):
        there.double()


def test_numpy_gets_no_tensor_of_the_device(world):
    with world.accelerator.running(), pytest.raises(RuntimeError, match="numpy"):
        world.x.numpy()


def test_two_accelerators_do_not_mix(world):
    other = Accelerator(1).has(torch.ones(4, 1, 8, 8))
    with world.accelerator.running():
        with pytest.raises(RuntimeError, match=MIXES):
            world.x + other
        assert (world.x + other.to(world.x.device)).device == world.x.device


def test_latents_are_drawn_on_a_second_accelerator():
    accelerator = Accelerator(1)
    with accelerator.running():
        found = draw_latents(4, accelerator.has(torch.tensor([0, 3])), torch.arange(2), seed=0)
    assert found.device == torch.device("meta:1")
