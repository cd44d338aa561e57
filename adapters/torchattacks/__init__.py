"""Our attacks as torchattacks ``Attack`` subclasses: tensors in and out, every argument but the
model defaulted.
"""

from __future__ import annotations

from types import TracebackType

import torchattacks
from torch import Tensor, nn

from art_ext.adapters.torchattacks.ball import AIFGSM, FW, HMCAM, FWBlack
from art_ext.adapters.torchattacks.nearest import EAD, ZOO
from art_ext.adapters.torchattacks.shell import CoreAttack, class_indices
from art_ext.core.attacks import rays
from art_ext.core.geometry import norm_name

__all__ = [
    "AIFGSM",
    "ATTACKS",
    "EAD",
    "FW",
    "HMCAM",
    "ZOO",
    "FWBlack",
    "RayS",
    "Registration",
    "register",
]


class RayS(CoreAttack):
    r"""RayS (Chen and Gu, 2020): a hard-label attack that searches sign directions for the nearest
    decision boundary.

    Distance measure: Linf, L2 or L1. See ``art_ext.core.attacks.rays`` for the method.

    Arguments:
        model (nn.Module): model to attack.
        norm (str): 'Linf', 'L2' or 'L1'. (Default: 'Linf')
        eps (float): radius of the ball, in [0, 1] image units. (Default: 8/255)
        max_queries (int): most forward rows per image, the clean check included. (Default: 10000)
        stop_on_success (bool): leave an image at its first success. (Default: True)
        tol (float): width at which a bisection ends, an L2 length. (Default: 1e-3)
        hierarchical (bool): flip blocks of signs; False flips single pixels. (Default: True)
        speculate (bool or 'auto'): ask ahead to fill small batches. (Default: 'auto', on a GPU)
        batch_size (int): most rows in one model call. (Default: 256)
        probe (bool): in the first call on a model, test with at most 24 rows if its answers depend
            on chance or on the batch, and log a warning if they do; False asks nothing. (Default:
            True)

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
        stop_on_success: bool = True,
        tol: float = 1e-3,
        hierarchical: bool = True,
        speculate: bool | str = "auto",
        batch_size: int = 256,
        probe: bool = True,
    ) -> None:
        super().__init__("RayS", model, probe)
        self.norm = norm
        self.eps = eps
        self.max_queries = max_queries
        self.stop_on_success = stop_on_success
        self.tol = tol
        self.hierarchical = hierarchical
        self.speculate = speculate
        self.batch_size = batch_size
        # a target needs a starting image, which torchattacks has no argument for
        self.supported_mode = ["default"]

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Adversarial images for (N, ...) images in [0, 1]."""
        result = self._run(
            rays,
            images.to(self.device),
            class_indices(labels),
            eps=self.eps,
            max_queries=self.max_queries,
            norm=norm_name(self.norm),
            tol=self.tol,
            stop_on_success=self.stop_on_success,
            hierarchical=self.hierarchical,
            speculate=self.speculate,
        )
        return result.x_adv.clone()  # last_result stays true whatever the caller does with it


SHELLS: tuple[type[CoreAttack], ...] = (RayS, FW, FWBlack, HMCAM, AIFGSM, EAD, ZOO)
ATTACKS: dict[str, type[CoreAttack]] = {shell.__name__: shell for shell in SHELLS}


class Registration:
    """Our shells put into the torchattacks module; ``undo()``, or leaving a ``with`` block,
    takes them out again.
    """

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
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.undo()


def register() -> Registration:
    """Make ``torchattacks.RayS`` and its siblings available in torchattacks itself, until
    ``undo()``.

    Registering twice does nothing the second time.

    Raises:
        RuntimeError: if torchattacks has a different attack of one of these names; nothing is
            changed then.
    """
    clashes = [
        name for name, shell in ATTACKS.items() if getattr(torchattacks, name, shell) is not shell
    ]
    if clashes:
        raise RuntimeError(
            f"torchattacks {torchattacks.__version__} already has {', '.join(clashes)} of its own"
        )
    added = [name for name in ATTACKS if not hasattr(torchattacks, name)]
    for name in added:
        setattr(torchattacks, name, ATTACKS[name])
        torchattacks.__all__.append(name)
    return Registration(added)
