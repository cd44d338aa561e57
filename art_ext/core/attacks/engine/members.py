"""The loss of attacks on an ensemble whose members were trained together."""

from __future__ import annotations

from torch import Tensor, nn

from art_ext.core.attacks.engine.goal import Goal
from art_ext.core.calling import widened
from art_ext.core.expectation import expectation_in
from art_ext.core.features import Tap
from art_ext.core.losses import make_gain

MEAN_LOGITS = "mean-logits"


class MeanLogits(Tap):
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
        ValueError: for a model without such a module, or with an ``Expectation``.
    """

    def __init__(self, model: object, goal: Goal, passes: int) -> None:
        if expectation_in(model) is not None:
            raise ValueError(
                f"loss={MEAN_LOGITS!r} needs an ensemble without an Expectation: use loss='margin'"
            )
        modules = model.modules() if isinstance(model, nn.Module) else ()
        found = next((one for one in modules if getattr(one, "gives_members", False)), None)
        if found is None:
            raise ValueError(
                f"loss={MEAN_LOGITS!r} needs an ensemble that was trained together, with an"
                f" art_ext.models.JointEnsemble inside, got {type(model).__name__}"
            )
        super().__init__(found, passes)
        self._gain = make_gain("margin", goal.labels, targeted=goal.targeted, outputs="logits")

    def __call__(self, scores: Tensor, index: Tensor) -> Tensor:
        """Return (r,) the losses of the rows whose scores (r, C) the latest answer gave."""
        logits = widened(self._latest[0][: len(scores)]).mean(dim=1).to(scores.device)
        return self._gain(logits, index)
