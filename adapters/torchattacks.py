"""Our attacks as torchattacks ``Attack`` subclasses: tensors in and out, every argument but the model defaulted."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import torchattacks
from torch import Tensor, nn
from torchattacks.attack import Attack

from art_ext.core.attacks import rays
from art_ext.core.result import AttackResult

__all__ = ["ATTACKS", "RayS", "Registration", "register"]


class _Logits(nn.Module):
    """The attack's ``get_logits`` as a module that holds the user's model, so that the oracle can keep its modes."""

    def __init__(self, attack: Attack) -> None:
        super().__init__()
        self.model = attack.model
        self.get_logits = attack.get_logits

    def forward(self, rows: Tensor) -> Tensor:
        logits: Tensor = self.get_logits(rows)
        return logits


def class_indices(labels: Tensor | None) -> Tensor | None:
    """(N,) class indices of index labels (N,) or one-hot rows (N, K)."""
    if isinstance(labels, Tensor) and labels.dim() == 2 and labels.shape[1] > 1:
        return labels.argmax(dim=1)
    return labels  # the core's to accept or refuse


class CoreAttack(Attack):
    """Base of the torchattacks shells.

    The model always runs in eval mode, and each submodule gets its own mode back; torchattacks itself would switch the
    whole network, frozen layers included, to training mode.
    """

    def __init__(self, name: str, model: nn.Module) -> None:
        super().__init__(name, model)
        self._store(None)

    @property
    def last_result(self) -> AttackResult | None:
        """The ``AttackResult`` of the latest call: query counts, distances, verdicts; None before the first."""
        return self._last_result

    def _store(self, result: AttackResult | None) -> None:
        # torchattacks' __setattr__ ties every value into a reference cycle: an old result, perhaps on the GPU, would
        # stay until the garbage collector runs
        object.__setattr__(self, "_last_result", result)

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        """Attack a batch; ``set_normalization_used`` stays in force even if this raises an error."""
        applied = self._normalization_applied
        try:
            adversarial: Tensor = super().__call__(*args, **kwargs)
            return adversarial
        finally:
            self._set_normalization_applied(applied)

    def _change_model_mode(self, given_training: bool) -> None:
        """Leave the modes to the oracle."""

    def _recover_model_mode(self, given_training: bool) -> None:
        """Leave the modes to the oracle."""


class RayS(CoreAttack):
    r"""RayS (Chen and Gu, 2020): a hard-label attack that searches sign directions for the nearest decision boundary.

    Distance measure: Linf, L2 or L1. See ``art_ext.core.attacks.rays`` for the method.

    Arguments:
        model (nn.Module): model to attack.
        norm (str): 'Linf', 'L2' or 'L1'. (Default: 'Linf')
        eps (float): radius of the ball, in [0, 1] image units. (Default: 8/255)
        max_queries (int): most forward rows per image, the clean check included. (Default: 10000)
        early_stop (bool): leave an image at its first success. (Default: True)
        tol (float): width at which a bisection ends, an L2 length. (Default: 1e-3)
        hierarchical (bool): flip blocks of signs; False flips single pixels. (Default: True)
        speculate (bool or 'auto'): ask ahead to fill small batches. (Default: 'auto', on a GPU)
        batch_size (int): most rows in one model call. (Default: 256)

    Shape:
        - images: :math:`(N, C, H, W)` in [0, 1] (any shape without ``set_normalization_used``).
        - labels: :math:`(N)` class indices; None takes the model's own predictions.
        - output: :math:`(N, C, H, W)`; images that could not be fooled come back unchanged.

    Examples::
        >>> attack = torchattacks.RayS(model, eps=8/255, max_queries=1000)
        >>> adv_images = attack(images, labels)
        >>> attack.last_result.queries
    """

    def __init__(
        self,
        model: nn.Module,
        norm: str = "Linf",
        eps: float | None = 8 / 255,
        max_queries: int = 10_000,
        early_stop: bool = True,
        tol: float = 1e-3,
        hierarchical: bool = True,
        speculate: bool | str = "auto",
        batch_size: int = 256,
    ) -> None:
        super().__init__("RayS", model)
        self.norm = norm
        self.eps = eps
        self.max_queries = max_queries
        self.early_stop = early_stop
        self.tol = tol
        self.hierarchical = hierarchical
        self.speculate = speculate
        self.batch_size = batch_size
        self.supported_mode = ["default"]  # a target needs a starting image, which torchattacks has no argument for

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Adversarial images for (N, ...) images in [0, 1]."""
        result = rays(
            _Logits(self), images.to(self.device), class_indices(labels),
            eps=self.eps, max_queries=self.max_queries, norm=str(self.norm).lower(), tol=self.tol,
            early_stop=self.early_stop, hierarchical=self.hierarchical, speculate=self.speculate,
            batch_size=self.batch_size, device=self.device,
        )  # fmt: skip
        self._store(result)
        return result.x_adv.clone()  # last_result stays true whatever the caller does with it


ATTACKS: dict[str, type[CoreAttack]] = {"RayS": RayS}


class Registration:
    """Our shells put into the torchattacks module; ``undo()``, or leaving a ``with`` block, takes them out again."""

    def __init__(self, names: list[str]) -> None:
        self._names = names

    def undo(self) -> None:
        """Take out what this registration put in; a second call does nothing."""
        for name in self._names:
            delattr(torchattacks, name)
            torchattacks.__all__.remove(name)
        self._names = []

    def __enter__(self) -> Registration:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.undo()


def register() -> Registration:
    """Make ``torchattacks.RayS`` and its siblings available in torchattacks itself, until ``undo()``.

    Registering twice does nothing the second time.

    Raises:
        RuntimeError: if torchattacks has a different attack of one of these names; nothing is changed then.
    """
    clashes = [name for name, shell in ATTACKS.items() if getattr(torchattacks, name, shell) is not shell]
    if clashes:
        raise RuntimeError(f"torchattacks {torchattacks.__version__} already has {', '.join(clashes)} of its own")
    added = [name for name in ATTACKS if not hasattr(torchattacks, name)]
    for name in added:
        setattr(torchattacks, name, ATTACKS[name])
        torchattacks.__all__.append(name)
    return Registration(added)
