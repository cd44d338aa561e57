"""The loss of attacks on an ensemble whose members were trained together."""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from art_ext.core.attacks.engine.goal import Goal
from art_ext.core.calling import widened
from art_ext.core.losses import margin

MEAN_LOGITS = "mean-logits"


class MeanLogits:
    """Margin of the mean of the members' logits, a loss to ascend.

    The scores of such an ensemble are the logarithms of the mean probabilities. Their gradient
    vanishes for members that are sure, and the mean logits' does not. The logits come from the
    forward pass that also gives the scores. Use it as a context manager around the passes.

    Args:
        model: a network that holds an ensemble, a module with ``gives_members`` whose output is
            (r, K, C) logits.
        goal: the classes to leave or to reach.
        passes: forward passes of one answer, of which the first is that of the rows.

    Raises:
        ValueError: for a model without such a module.
    """

    def __init__(self, model: object, goal: Goal, passes: int) -> None:
        modules = model.modules() if isinstance(model, nn.Module) else ()
        found = next((one for one in modules if getattr(one, "gives_members", False)), None)
        if found is None:
            raise ValueError(
                f"loss={MEAN_LOGITS!r} needs an ensemble that was trained together, with an"
                f" art_ext.models.JointEnsemble inside, got {type(model).__name__}"
            )
        self._module = found
        self._goal = goal
        self._latest: deque[Tensor] = deque(maxlen=passes)
        self._handle: RemovableHandle | None = None

    def __enter__(self) -> MeanLogits:
        self._handle = self._module.register_forward_hook(self._keep)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._handle is not None:
            self._handle.remove()
        self._latest.clear()

    def __call__(self, scores: Tensor, index: Tensor) -> Tensor:
        """Return (r,) the losses of the rows whose scores (r, C) the latest answer gave."""
        logits = widened(self._latest[0][: len(scores)]).mean(dim=1).to(scores.device)
        sign = -1.0 if self._goal.targeted else 1.0
        return sign * margin(logits, self._goal.labels.index_select(0, index))

    def _keep(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        self._latest.append(output)
