"""Read and write the weights of a model without running code from the file."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from pickle import UnpicklingError  # nothing is unpickled with it
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.core.checks import listed
from art_ext.models.layers import HEADS, head_records, weights_metadata
from art_ext.models.pickled_types import unsupported_types
from art_ext.storage.files import header_of, write_state_dict

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
_PREFIXES = ("module.", "model.")  # of DataParallel and AveragedModel, and of Lightning modules
# torch.compile puts it in front of a part's names
_COMPILED = re.compile(r"(^|(?<=\.))_orig_mod\.")
_COUNTER = "n_averaged"  # of AveragedModel


def load_weights(
    model: nn.Module, path: str | os.PathLike[str], *, trust_checkpoint: bool = False
) -> nn.Module:
    """Fill the model from a safetensors file or a ``torch.save`` file and return it.

    No code in the file is executed. The file holds a state dict, or one under "state_dict",
    "model_state_dict", "model" or "net". The prefixes ``module.`` (DataParallel), ``_orig_mod.``
    (torch.compile) and ``model.`` (Lightning) are removed in any nesting, or added for a model that
    has them. The counter ``n_averaged`` of AveragedModel is ignored. Every name and shape must fit,
    otherwise the model is unchanged. Mode, device and dtype of the model do not change.

    A file that ``save_weights`` or a training wrote names the heads of its model. The same heads
    must be around this model, because its outputs would mean something else without them.
    ``art_ext.models.load_model`` puts them there.

    Args:
        model: the network to fill.
        path: the checkpoint. Its type is read from its first bytes, not from its name.
        trust_checkpoint: unpickle a file that holds more than tensors. This runs the code in it.

    Raises:
        ValueError: if the file does not exist, if it is not a checkpoint (the message names a web
            page or a Git-LFS pointer), if it holds other types than tensors and plain containers
            (the message names them), or if names, shapes or heads do not fit.
    """
    file = Path(path)
    if not file.is_file():
        raise ValueError(
            f"weights must name a checkpoint file, got {file}, which does not exist or is a folder"
        )
    content = read_trusted(file) if trust_checkpoint else read_tensors(file)
    _check_heads(head_records(model), read_heads(file), file)
    state = _without_wrapper(content, file)
    expected = model.state_dict()
    state = _under_names_of(expected, state)
    _check_fit(state, expected, file)
    model.load_state_dict(state)
    return model


def save_weights(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write the model's state dict as safetensors, atomically.

    The metadata name the heads of the model, see ``art_ext.training.heads``.

    Args:
        model: an ``nn.Module``.
        path: the file, which is replaced if it exists.

    Raises:
        OSError: if the folder does not exist or cannot be written.
    """
    write_state_dict(Path(path), model.state_dict(), weights_metadata(model))


def read_heads(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return names and arguments of the heads that a file of weights names, the outermost first.

    The list is empty for weights without a head, and for files of another format or origin.
    """
    file = Path(path)
    try:
        metadata = header_of(file).get("__metadata__", {})
        found: list[dict[str, Any]] = json.loads(metadata.get(HEADS, "[]"))
    except (OSError, ValueError, AttributeError):  # another format, which read_tensors explains
        return []
    return found


def read_tensors(file: Path) -> object:
    """Return the content of the checkpoint, with tensors on the CPU."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    with file.open("rb") as stream:
        head = stream.read(512)
    if _is_safetensors(file, head):
        try:
            return load_file(file, device="cpu")
        except SafetensorError as error:
            raise ValueError(
                f"{file} is a damaged or incomplete safetensors file: {error}"
            ) from error
    _explain_impostor(head, file)
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can make the unpickler raise anything
        unsupported = unsupported_types(file, str(error))
        if unsupported:
            raise ValueError(
                f"{file} must be a safetensors file, or a torch.save file of nothing but tensors"
                f" and plain containers, but it holds {listed(unsupported)}, which is not"
                " unpickled. In the program that writes the file, save plain values instead, such"
                " as float(value) or vars(args), or the weights alone:"
                " torch.save(model.state_dict(), FILE)"
            ) from error
        raise ValueError(
            f"{file} must be a safetensors file, or a torch.save file of nothing but tensors (code"
            " in it is not executed; "
            f"save model.state_dict() instead of the model), but torch.load(weights_only=True)"
            f" says: "
            # its next sentences advise to load it nevertheless
            f"{type(error).__name__}: {str(error).split('. ')[0]}"
        ) from error


def _is_safetensors(file: Path, head: bytes) -> bool:
    """Return True for eight bytes with the length of a JSON header, then the header.

    A file of that name may be cut within its header.
    """
    whole = int.from_bytes(head[:8], "little") <= file.stat().st_size
    return head[8:9] == b"{" and (whole or file.suffix == ".safetensors")


def _check_heads(own: list[dict[str, Any]], wanted: list[dict[str, Any]], file: Path) -> None:
    """Raise ValueError unless the heads of a model are those that a file of weights names.

    Heads that leave the scores as they are do not count.
    """
    own, wanted = ([one for one in heads if not one.get("optional")] for heads in (own, wanted))
    if not wanted or own == wanted:
        return
    there = f"the model has {_named(own)}" if own else "the model has no head"
    raise ValueError(
        f"{file} holds weights of a network with {_named(wanted)}, but {there}: put the head around"
        " the network, art_ext.training.heads.with_heads(network,"
        " art_ext.models.weights.read_heads(FILE)), or load both by art_ext.models.load_model"
    )


def _named(records: list[dict[str, Any]]) -> str:
    """Describe heads by names and arguments."""
    texts = []
    for record in records:
        arguments = ", ".join(f"{name}={value!r}" for name, value in record["arguments"].items())
        texts.append(f"the head {record['name']}" + (f" ({arguments})" if arguments else ""))
    return " around ".join(texts)


def _explain_impostor(head: bytes, file: Path) -> None:
    """Raise ValueError for the usual files that failed downloads leave in place of a checkpoint."""
    if not head:
        raise ValueError(
            f"{file} must be a checkpoint, but it is empty: the download or the copy failed"
        )
    if head.startswith(b"version https://git-lfs"):
        raise ValueError(
            f"{file} must be a checkpoint, but it is a Git-LFS pointer: run `git lfs pull` in its"
            " repository"
        )
    if (
        head.lstrip(b"\xef\xbb\xbf \t\r\n")
        .lower()
        .startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<!--"))
    ):
        raise ValueError(
            f"{file} must be a checkpoint, but it is a web page: the host (often Google Drive, over"
            " its quota or asking for a confirmation) sent a page instead of the file; download it"
            " again in a browser"
        )


def read_trusted(file: Path) -> object:
    """Return the content of a checkpoint whose code may run. Of a network, the state dict.

    Raises:
        ValueError: if the file is damaged or no checkpoint, or its code fails.
    """
    try:
        return read_tensors(file)
    except ValueError as error:
        if not isinstance(error.__cause__, UnpicklingError):  # damaged, or no checkpoint at all
            raise
    try:
        content = torch.load(file, map_location="cpu", weights_only=False)  # as the caller asked
    except Exception as error:  # whatever the code in it raises
        raise ValueError(f"{file} cannot be unpickled: {type(error).__name__}: {error}") from error
    return content.state_dict() if isinstance(content, nn.Module) else content


def _without_wrapper(content: object, file: Path) -> dict[str, Tensor]:
    """Return the state dict itself."""
    while isinstance(content, Mapping):
        inner = [content[name] for name in _WRAPPERS if isinstance(content.get(name), Mapping)]
        if not inner:
            break
        content = inner[0]
    if not isinstance(content, Mapping) or not content:
        raise ValueError(
            f"{file} must hold a state dict, got {type(content).__name__} (empty or not a mapping)"
        )
    odd = [
        name
        for name, value in content.items()
        if not (isinstance(name, str) and isinstance(value, Tensor))
    ]
    if odd:
        raise ValueError(
            f"{file} must hold a state dict (names and tensors), plain or under"
            f" {', '.join(_WRAPPERS)}, but these entries are no tensors: {listed(map(str, odd))}"
        )
    return dict(content)


def _under_names_of(
    expected: Mapping[str, Tensor], state: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the state dict under the model's names, if wrappers alone make the difference."""
    counted = any(name.split(".")[-1] == _COUNTER for name in expected)
    kept = {
        name: tensor for name, tensor in state.items() if counted or name.split(".")[-1] != _COUNTER
    }
    theirs = dict(zip(_bare(kept), kept.values(), strict=True))
    ours = dict(zip(_bare(expected), expected, strict=True))
    if len(theirs.keys() & ours.keys()) <= len(kept.keys() & expected.keys()):
        return kept
    return {ours.get(name, name): tensor for name, tensor in theirs.items()}


def _bare(names: Iterable[str]) -> list[str]:
    """Return the names without the prefixes that wrappers add to all of them."""
    bare = [_COMPILED.sub("", name) for name in names]
    while bare:
        common = [one for one in _PREFIXES if all(name.startswith(one) for name in bare)]
        if not common:
            break
        bare = [name.removeprefix(common[0]) for name in bare]
    return bare


def _check_fit(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], file: Path) -> None:
    """Raise ValueError unless the state dict fits the model. The message lists every difference."""
    # checkpoints older than this BatchNorm counter leave it out, and PyTorch then fills it in
    missing = [
        name for name in expected if name not in state and not name.endswith("num_batches_tracked")
    ]
    unexpected = [name for name in state if name not in expected]
    shapes = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in state and state[name].shape != tensor.shape
    ]
    found = {"missing keys": missing, "unexpected keys": unexpected, "wrong shapes": shapes}
    if any(found.values()):
        details = "; ".join(f"{what}: {listed(names)}" for what, names in found.items() if names)
        raise ValueError(f"{file} does not fit the model: {details}")
