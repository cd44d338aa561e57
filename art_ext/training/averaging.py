"""The average of a network's weights over its weight updates."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class WeightAverage:
    """Exponential moving average of weights and buffers, if there is a decay.

    Args:
        model: the network, on its device.
        decay: of the average. None: no average.

    Attributes:
        current: the averaged network, or the network itself without a decay.
    """

    def __init__(self, model: nn.Module, decay: float | None) -> None:
        self.model = model
        self._average: AveragedModel | None = None
        if decay is not None:
            self._average = AveragedModel(
                model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True
            )
        self.current: nn.Module = model if self._average is None else self._average.module

    def update(self) -> None:
        """Enter the network's weights."""
        if self._average is not None:
            self._average.update_parameters(self.model)

    def restart(self) -> None:
        """Let the average begin again with the next weights."""
        if self._average is not None:
            self._average.n_averaged.zero_()

    def load_into_model(self) -> None:
        """Load the average into the network."""
        if self._average is not None:
            self.model.load_state_dict(copy.deepcopy(self.current.state_dict()))

    def state_dict(self) -> dict[str, Any] | None:
        """Return the average and its number of updates, or None."""
        return None if self._average is None else self._average.state_dict()

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """Restore the average."""
        if self._average is not None and state is not None:
            self._average.load_state_dict(state)
