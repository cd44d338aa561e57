"""State of an AutoAttack run on the disk: the finished chunks, and the run that they belong to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from art_ext.core.geometry import distortions
from art_ext.core.identity import digest_of_state
from art_ext.core.oracle import Model
from art_ext.core.result import AttackResult, measured
from art_ext.storage import formats
from art_ext.storage.differences import check_configuration, flat
from art_ext.storage.files import metadata_of, safetensors_of
from art_ext.storage.locking import lock_of
from art_ext.storage.ownership import check_place, read_json, sweep, write_json
from art_ext.storage.store import Place, store_of

RUN = "autoattack.json"
CHUNK = "chunk-"
_TENSORS = (
    "x_adv",
    "success",
    "already_adversarial",
    "distance",
    "queries",
    "queries_to_success",
    "gradients",
    "wasted_rows",
)


@dataclass(frozen=True, eq=False)
class Chunk:
    """Outcome of n samples that were attacked together.

    Attributes:
        result: of the samples.
        broken_by: (n,) int64, 0 where the model erred without an attack, the attack's number from 1
            where one succeeded, -1 where the sample stands.
        names: of the attacks, in their order.
        heard: what the package's checks complained of, by the name of the flag.
        deviations: where the run is not as the package's authors publish it.
    """

    result: AttackResult
    broken_by: Tensor
    names: tuple[str, ...]
    heard: dict[str, str]
    deviations: tuple[str, ...] = ()


class StateFolder:
    """A folder with one file for each finished chunk, for one process at a time.

    Args:
        folder: made if it is not there.
        identity: what decides the outcome, as JSON can hold it.

    Raises:
        ValueError: if the folder holds a run of another identity, naming the differences, or is
            none.
    """

    def __init__(self, folder: Place, identity: Mapping[str, Any]) -> None:
        wanted = json.loads(json.dumps(identity))
        self._digest = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()
        self.store = store_of(folder)
        if self.store.exists(RUN):
            found = read_json(self.store, RUN, "say what its chunks are of")
            formats.AUTOATTACK.check(self.store.path, found)
            facts = {name: value for name, value in found.items() if name != "format"}
            check_configuration(self.store.path, flat(wanted), flat(facts))
        elif any(name.startswith(CHUNK) for name in self.store.names()):
            raise ValueError(
                f"{self.store.path} holds chunks, but no {RUN} that says whose: choose another"
                " state_dir"
            )
        else:
            write_json(self.store, RUN, {"format": formats.AUTOATTACK.written, **wanted})
        sweep(self.store, [CHUNK])  # of a process that was killed while it wrote

    @staticmethod
    @contextmanager
    def opened(folder: Place, identity: Mapping[str, Any]) -> Iterator[StateFolder]:
        """Yield the folder of a run, locked against other processes.

        Raises:
            ValueError: also if another process holds it, or if it is a file.
        """
        store = store_of(folder)
        check_place(store, "state_dir must be a folder")
        with lock_of(store):
            yield StateFolder(store, identity)

    def file(self, number: int) -> str:
        """Return the name of the file of a chunk's outcome."""
        return f"{CHUNK}{number:05d}.safetensors"

    def write(self, number: int, chunk: Chunk) -> None:
        """Keep the outcome of a chunk: the tensors, and in the same file's header all that is none.

        Raises:
            OSError: if it cannot be written. The chunks before it are kept.
        """
        tensors = {name: getattr(chunk.result, name) for name in _TENSORS} | {
            "broken_by": chunk.broken_by
        }
        facts = {
            "run": self._digest,
            "names": json.dumps(chunk.names),
            "heard": json.dumps(chunk.heard),
        }
        facts["deviations"] = json.dumps(chunk.deviations)
        self.store.write(self.file(number), safetensors_of(tensors, facts))

    def read(self, number: int, x: Tensor, norm: str, eps: float, seed: int) -> Chunk | None:
        """Read the outcome of the chunk with the samples x (n, *S) on their device. An unfinished
        chunk gives None.

        Raises:
            ValueError: naming the file, if it is damaged or of another run.
        """
        from safetensors.torch import load

        if not self.store.exists(self.file(number)):
            return None
        file = self.store.path / self.file(number)
        try:
            content = self.store.read(self.file(number))
            facts, held = metadata_of(content), load(content)
            tensors = {name: held[name] for name in (*_TENSORS, "broken_by")}
            names, heard = tuple(json.loads(facts["names"])), json.loads(facts["heard"])
            deviations = tuple(json.loads(facts.get("deviations", "[]")))
            fits = tensors["x_adv"].shape == x.shape and all(
                len(one) == len(x) for one in tensors.values()
            )
        except Exception as error:
            # safetensors raises a class of its own, the rest of what it is read by
            raise ValueError(
                f"{file} is damaged ({type(error).__name__}: {error}): delete it, and this chunk is"
                " computed again"
            ) from error
        if facts.get("run") != self._digest or not fits:
            raise ValueError(
                f"{file} is of another run: delete it, and this chunk is computed again"
            )
        moved: dict[str, Any] = {name: one.to(x.device) for name, one in tensors.items()}
        broken_by = moved.pop("broken_by")
        facts_of_all: dict[str, Any] = {
            "x_nearest": None,
            "norm": norm,
            "eps": eps,
            "seed": seed,
            "stop_on_success": False,
        }
        # of x as the attack admitted it; chunks of earlier versions hold no lengths
        lengths = distortions(moved["x_adv"], x.clamp(0.0, 1.0))
        facts_of_all["lengths"] = measured(lengths, moved["success"], norm, x.device)["lengths"]
        return Chunk(AttackResult(**moved, **facts_of_all), broken_by, names, heard, deviations)


def describe_model(model: Model) -> str:
    """Describe a model by its class and a hash of its weights, a callable by its name."""
    kind = type(model)
    if not isinstance(model, nn.Module):
        named = model if hasattr(model, "__qualname__") else kind
        return f"{named.__module__}.{named.__qualname__}"
    return f"{kind.__module__}.{kind.__qualname__} {digest_of_state(model)[:16]}"
