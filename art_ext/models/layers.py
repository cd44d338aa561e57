"""Normalisation as the first layer of a network, and modules around one network."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.core.outputs import find_scores


class Normalize(nn.Module):
    """``(x - mean) / std`` for each channel of (N, C, H, W) images.

    The two buffers are not in the state dict. Published checkpoints contain only the layers after
    the normalisation.

    Args:
        mean: one number for all channels, or C numbers, in the units of x.
        std: as mean. Every number > 0.

    Raises:
        ValueError: if the two differ in length, or std is not positive.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        super().__init__()
        means, stds = (
            torch.as_tensor(value, dtype=torch.float32).reshape(-1) for value in (mean, std)
        )
        if len(means) != len(stds) or len(means) == 0:
            raise ValueError(
                f"mean and std must have one number per channel each, got mean={mean} and std={std}"
            )
        if not bool((stds > 0).all()):
            raise ValueError(f"std must be > 0 in every channel, got {std}")
        self.register_buffer("mean", means.view(-1, 1, 1), persistent=False)
        self.register_buffer("std", stds.view(-1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x of shape (N, C, H, W)."""
        return (x - self.mean) / self.std

    def extra_repr(self) -> str:
        """Show the numbers in ``print(model)``."""
        return f"mean={self.mean.flatten().tolist()}, std={self.std.flatten().tolist()}"


def normalized(
    layers: Sequence[nn.Module], mean: float | Sequence[float], std: float | Sequence[float]
) -> nn.Sequential:
    """Put a normalisation in front of layers that keep the names "0", "1", ... .

    A state dict of ``nn.Sequential(*layers)`` therefore loads unchanged.

    Args:
        layers: the layers after the normalisation.
        mean: as of ``Normalize``.
        std: as of ``Normalize``.

    Raises:
        ValueError: as :class:`Normalize`.
    """
    named: OrderedDict[str, nn.Module] = OrderedDict(normalize=Normalize(mean, std))
    named.update((str(place), layer) for place, layer in enumerate(layers))
    return nn.Sequential(named)


class Wrapper(nn.Module):
    """A module around one network, with the state dict of the network.

    Tensors of its other parts keep their names.

    Attributes:
        model: the network.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = model.training
        self.register_state_dict_post_hook(_to_own_names)
        self.register_load_state_dict_pre_hook(_from_own_names)

    @property
    def head_record(self) -> dict[str, Any] | None:
        """Name and arguments of the head that makes the scores, or None without a head."""
        return None


class Preprocessed(Wrapper):
    """A network that normalises its inputs first and returns class scores as a tensor.

    An output in which the scores are not clear is returned as it is.

    Args:
        model: the network.
        normalize: the normalisation. None: the inputs as they are.
    """

    def __init__(self, model: nn.Module, normalize: Normalize | None) -> None:
        super().__init__(model)
        self.normalize = normalize

    @property
    def identity(self) -> dict[str, Any]:
        """Class of the network, and its normalisation, which the state dict does not hold."""
        own = {"class": type(self.model).__name__}
        return own if self.normalize is None else {**own, "normalize": self.normalize.extra_repr()}

    def forward(self, x: Tensor) -> Tensor:
        """Return the class scores of x (R, *S)."""
        outputs = self.model(x if self.normalize is None else self.normalize(x))
        if isinstance(outputs, Tensor):
            return outputs
        scores = find_scores(outputs, len(x))
        return outputs if scores is None else scores


HEADS = "art_ext_heads"  # key of the heads in the metadata of weights


def head_records(model: nn.Module) -> list[dict[str, Any]]:
    """Return names and arguments of the heads in a model as JSON values, the outermost first."""
    found = (one.head_record for one in model.modules() if isinstance(one, Wrapper))
    text = json.dumps([record for record in found if record is not None], default=repr)
    records: list[dict[str, Any]] = json.loads(text)
    return records


def weights_metadata(model: nn.Module) -> dict[str, str] | None:
    """Return the metadata of a file of a model's weights, which names its heads.

    None for a model without a head.
    """
    records = head_records(model)
    return {HEADS: json.dumps(records)} if records else None


_INNER = "model."  # from the names of a wrapper to those of its network


def _to_own_names(module: nn.Module, state: dict[str, Any], prefix: str, _: object) -> None:
    for key in [key for key in state if key.startswith(prefix + _INNER)]:
        state[prefix + key.removeprefix(prefix + _INNER)] = state.pop(key)


def _from_own_names(module: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    parts = {f"{name}.": part for name, part in module.named_children() if f"{name}." != _INNER}
    others = {prefix + name + key for name, part in parts.items() for key in part.state_dict()}
    for key in [key for key in state if key.startswith(prefix) and key not in others]:
        state[prefix + _INNER + key.removeprefix(prefix)] = state.pop(key)
