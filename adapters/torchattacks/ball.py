"""The attacks within a given ball as torchattacks ``Attack`` subclasses."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from art_ext.adapters.torchattacks.shell import BallAttack
from art_ext.core.attacks import ai_fgsm, frank_wolfe, frank_wolfe_black_box, hmcam
from art_ext.core.losses import Loss


class FW(BallAttack):
    r"""Frank-Wolfe (Chen et al., 2020): white-box steps towards vertices of the ball, without
    projection.

    Distance measure: Linf, L2 or L1. See ``art_ext.core.attacks.frank_wolfe`` for the method.

    Arguments:
        model (nn.Module): model to attack.
        norm (str): 'Linf', 'L2' or 'L1'. (Default: 'Linf')
        eps (float): radius of the ball, in [0, 1] image units. (Default: 8/255)
        alpha (float): gamma, the share of the way to the vertex that a step goes, in (0, 1]; no
        length. (Default: 0.5) momentum (float): beta in [0, 1). (Default: 0.9) steps (int): most
        steps. (Default: 20) schedule (str): of gamma: 'constant', 'inverse_sqrt' or 'plateau'.
        (Default: 'constant') momentum_init (str): 'zero' or 'gradient'. (Default: 'zero') box
        (str): 'clip' each step to [0, 1], or take the 'vertex' of ball and box together (for L1).
        (Default: 'clip') loss (str or function): 'ce', 'margin', or a function of the logits and
        the images' positions. (Default: 'ce') stop_on_success (bool): leave an image at its first
        success. (Default: True) on_failure (str): what comes back where nothing fools: the 'last'
        iterate, or the 'input'. (Default: 'last') max_queries (int): most forward rows per image,
        the clean check included; None for no limit. (Default: None) batch_size (int): most rows in
        one model call. (Default: 256) probe (bool): in the first call on a model, test with at most
        24 rows if its answers depend on chance or on the
            batch, and log a warning if they do; False asks nothing. (Default: True)

    Shape:
        - images: :math:`(N, C, H, W)` in [0, 1] (any shape without ``set_normalization_used``).
        - labels: :math:`(N)` class indices; None takes the model's own predictions.
        - output: :math:`(N, C, H, W)`.

    Examples::
        >>> attack = torchattacks.FW(model, eps=8/255, steps=20)
        >>> adv_images = attack(images, labels)
    """

    _function = staticmethod(frank_wolfe)
    _core_names: ClassVar[dict[str, str]] = {"alpha": "step_fraction", "steps": "num_steps"}

    def __init__(
        self,
        model: nn.Module,
        norm: str = "Linf",
        eps: float = 8 / 255,
        alpha: float = 0.5,
        momentum: float = 0.9,
        steps: int = 20,
        schedule: str = "constant",
        momentum_init: str = "zero",
        box: str = "clip",
        loss: str | Loss = "ce",
        stop_on_success: bool = True,
        on_failure: str = "last",
        max_queries: int | None = None,
        batch_size: int = 256,
        probe: bool = True,
    ) -> None:
        super().__init__(
            model,
            norm=norm,
            eps=eps,
            alpha=alpha,
            momentum=momentum,
            steps=steps,
            schedule=schedule,
            momentum_init=momentum_init,
            box=box,
            loss=loss,
            stop_on_success=stop_on_success,
            on_failure=on_failure,
            max_queries=max_queries,
            batch_size=batch_size,
            probe=probe,
        )


class FWBlack(BallAttack):
    r"""Black-box Frank-Wolfe (Chen et al., 2020): the same steps along gradients estimated from
    logits.

    Distance measure: Linf, L2 or L1. See ``art_ext.core.attacks.frank_wolfe_black_box`` for the
        method.

    Arguments:
        model (nn.Module): model to attack.
        norm (str): 'Linf', 'L2' or 'L1'. (Default: 'Linf')
        eps (float): radius of the ball, in [0, 1] image units. (Default: 8/255)
        alpha (float): gamma, the share of the way to the vertex that a step goes, in (0, 1]; no
        length. (Default: 0.5) momentum (float): beta in [0, 1). (Default: 0.97) max_queries (int):
        most forward rows per image; a step costs 2 n_directions + 1. (Default: 10000) n_directions
        (int): random directions per estimate. (Default: 25) delta (float): length of a probe per
        unit of direction. (Default: 0.01) sensing (str): directions are 'gaussian', or uniform on
        the 'sphere'. (Default: 'gaussian') clip_probes (bool): clip the probes to [0, 1], for a
        model that takes nothing else. (Default: False) schedule (str): of gamma: 'constant',
        'inverse_sqrt' or 'plateau'. (Default: 'plateau') momentum_init (str): 'zero' or 'gradient'.
        (Default: 'zero') box (str): 'clip' each step to [0, 1], or take the 'vertex' of ball and
        box together (for L1). (Default: 'clip') loss (str or function): 'ce', 'margin', or a
        function of the logits and the images' positions. (Default: 'ce') stop_on_success (bool):
        leave an image at its first success. (Default: True) on_failure (str): what comes back where
        nothing fools: the 'last' iterate, or the 'input'. (Default: 'last') batch_size (int): most
        rows in one model call. (Default: 256) seed (int): of the random directions; None draws one.
        (Default: None) probe (bool): in the first call on a model, test with at most 24 rows if its
        answers depend on chance or on the
            batch, and log a warning if they do; False asks nothing. (Default: True)

    Shape:
        - images: :math:`(N, C, H, W)` in [0, 1] (any shape without ``set_normalization_used``).
        - labels: :math:`(N)` class indices; None takes the model's own predictions.
        - output: :math:`(N, C, H, W)`.

    Examples::
        >>> attack = torchattacks.FWBlack(model, eps=8/255, max_queries=5000)
        >>> adv_images = attack(images, labels)
        >>> attack.last_result.queries
    """

    _function = staticmethod(frank_wolfe_black_box)
    _core_names: ClassVar[dict[str, str]] = {
        "alpha": "step_fraction",
        "n_directions": "num_directions",
    }

    def __init__(
        self,
        model: nn.Module,
        norm: str = "Linf",
        eps: float = 8 / 255,
        alpha: float = 0.5,
        momentum: float = 0.97,
        max_queries: int = 10_000,
        n_directions: int = 25,
        delta: float = 0.01,
        sensing: str = "gaussian",
        clip_probes: bool = False,
        schedule: str = "plateau",
        momentum_init: str = "zero",
        box: str = "clip",
        loss: str | Loss = "ce",
        stop_on_success: bool = True,
        on_failure: str = "last",
        batch_size: int = 256,
        seed: int | None = None,
        probe: bool = True,
    ) -> None:
        super().__init__(
            model,
            norm=norm,
            eps=eps,
            alpha=alpha,
            momentum=momentum,
            max_queries=max_queries,
            n_directions=n_directions,
            delta=delta,
            sensing=sensing,
            clip_probes=clip_probes,
            schedule=schedule,
            momentum_init=momentum_init,
            box=box,
            loss=loss,
            stop_on_success=stop_on_success,
            on_failure=on_failure,
            batch_size=batch_size,
            seed=seed,
            probe=probe,
        )


class HMCAM(BallAttack):
    r"""HMCAM (Wang et al., 2022): a chain of adversarial images, drawn by Hamiltonian Monte Carlo.

    Distance measure: Linf, L2 or L1. See ``art_ext.core.attacks.hmcam`` for the method.

    Arguments:
        model (nn.Module): model to attack.
        norm (str): 'Linf', 'L2' or 'L1'. (Default: 'Linf')
        eps (float): radius of the ball, in [0, 1] image units. (Default: 8/255)
        alpha (float): of the adaptive step; most pixels move by eps all the same. (Default: 5e-3)
        steps (int): of each transition. (Default: 50)
        n_samples (int): transitions, and states of the chain. (Default: 2)
        beta1 (float): decay of the average of the gradients. (Default: 0.95)
        beta2 (float): decay of the average of their squares. (Default: 0.999)
        step_rule (str): 'adaptive', 'corrected' or 'sign'. (Default: 'adaptive')
        start (str): 'input', or 'uniform' for a random point of the ball. (Default: 'input')
        temperature (float): of the distribution that the chain explores. (Default: 1.0)
        keep_samples (bool): keep the chain in ``last_result.samples``. (Default: True)
        loss (str or function): 'ce', 'margin', or a function of the logits and the images'
        positions. (Default: 'ce') stop_on_success (bool): leave an image at its first success.
        (Default: False) on_failure (str): what comes back where nothing fools: the 'last' iterate,
        or the 'input'. (Default: 'last') max_queries (int): most forward rows per image, the clean
        check included; None for no limit. (Default: None) batch_size (int): most rows in one model
        call. (Default: 256) seed (int): of the Metropolis-Hastings tests and the random start; None
        draws one. (Default: None) probe (bool): in the first call on a model, test with at most 24
        rows if its answers depend on chance or on the
            batch, and log a warning if they do; False asks nothing. (Default: True)

    Shape:
        - images: :math:`(N, C, H, W)` in [0, 1] (any shape without ``set_normalization_used``).
        - labels: :math:`(N)` class indices; None takes the model's own predictions.
        - output: :math:`(N, C, H, W)`.

    Examples::
        >>> attack = torchattacks.HMCAM(model, eps=8/255, steps=50, n_samples=2)
        >>> adv_images = attack(images, labels)  # the state of highest loss that fools the model
        >>> attack.last_result.samples  # (n_samples, N, C, H, W)
    """

    _function = staticmethod(hmcam)
    _core_names: ClassVar[dict[str, str]] = {
        **BallAttack._core_names,
        "n_samples": "num_transitions",
    }

    def __init__(
        self,
        model: nn.Module,
        norm: str = "Linf",
        eps: float = 8 / 255,
        alpha: float = 5e-3,
        steps: int = 50,
        n_samples: int = 2,
        beta1: float = 0.95,
        beta2: float = 0.999,
        step_rule: str = "adaptive",
        start: str = "input",
        temperature: float = 1.0,
        keep_samples: bool = True,
        loss: str | Loss = "ce",
        stop_on_success: bool = False,
        on_failure: str = "last",
        max_queries: int | None = None,
        batch_size: int = 256,
        seed: int | None = None,
        probe: bool = True,
    ) -> None:
        super().__init__(
            model,
            norm=norm,
            eps=eps,
            alpha=alpha,
            steps=steps,
            n_samples=n_samples,
            beta1=beta1,
            beta2=beta2,
            step_rule=step_rule,
            start=start,
            temperature=temperature,
            keep_samples=keep_samples,
            loss=loss,
            stop_on_success=stop_on_success,
            on_failure=on_failure,
            max_queries=max_queries,
            batch_size=batch_size,
            seed=seed,
            probe=probe,
        )


class AIFGSM(BallAttack):
    r"""AI-FGSM (Wang et al., 2022): the adaptive steps of HMCAM in one trajectory.

    Distance measure: Linf, L2 or L1. See ``art_ext.core.attacks.ai_fgsm`` for the method.

    Arguments:
        model (nn.Module): model to attack.
        norm (str): 'Linf', 'L2' or 'L1'. (Default: 'Linf')
        eps (float): radius of the ball, in [0, 1] image units. (Default: 8/255)
        alpha (float): of the adaptive step; most pixels move by eps all the same. (Default: 5e-3)
        steps (int): number of steps. (Default: 100)
        beta1 (float): decay of the average of the gradients. (Default: 0.95)
        beta2 (float): decay of the average of their squares. (Default: 0.999)
        step_rule (str): 'adaptive', 'corrected' or 'sign'. (Default: 'adaptive')
        start (str): 'input', or 'uniform' for a random point of the ball. (Default: 'input')
        loss (str or function): 'ce', 'margin', or a function of the logits and the images'
        positions. (Default: 'ce') stop_on_success (bool): leave an image at its first success.
        (Default: False) on_failure (str): what comes back where nothing fools: the 'last' iterate,
        or the 'input'. (Default: 'last') max_queries (int): most forward rows per image, the clean
        check included; None for no limit. (Default: None) batch_size (int): most rows in one model
        call. (Default: 256) seed (int): of the random start; None draws one. (Default: None) probe
        (bool): in the first call on a model, test with at most 24 rows if its answers depend on
        chance or on the
            batch, and log a warning if they do; False asks nothing. (Default: True)
        n_restarts (int): trajectories from so many random points, of which the best example of each
            image comes back; above 1 it needs start='uniform'. (Default: 1)
        keep_samples (bool): keep the end of each trajectory in ``last_result.samples``. (Default:
        False)

    Shape:
        - images: :math:`(N, C, H, W)` in [0, 1] (any shape without ``set_normalization_used``).
        - labels: :math:`(N)` class indices; None takes the model's own predictions.
        - output: :math:`(N, C, H, W)`.

    Examples::
        >>> attack = torchattacks.AIFGSM(model, eps=8/255, steps=100)
        >>> adv_images = attack(images, labels)
    """

    _function = staticmethod(ai_fgsm)
    _core_names: ClassVar[dict[str, str]] = {**BallAttack._core_names, "n_restarts": "num_restarts"}

    def __init__(
        self,
        model: nn.Module,
        norm: str = "Linf",
        eps: float = 8 / 255,
        alpha: float = 5e-3,
        steps: int = 100,
        beta1: float = 0.95,
        beta2: float = 0.999,
        step_rule: str = "adaptive",
        start: str = "input",
        loss: str | Loss = "ce",
        stop_on_success: bool = False,
        on_failure: str = "last",
        max_queries: int | None = None,
        batch_size: int = 256,
        seed: int | None = None,
        probe: bool = True,
        n_restarts: int = 1,
        keep_samples: bool = False,
    ) -> None:
        super().__init__(
            model,
            norm=norm,
            eps=eps,
            alpha=alpha,
            steps=steps,
            beta1=beta1,
            beta2=beta2,
            step_rule=step_rule,
            start=start,
            loss=loss,
            stop_on_success=stop_on_success,
            on_failure=on_failure,
            max_queries=max_queries,
            batch_size=batch_size,
            seed=seed,
            probe=probe,
            n_restarts=n_restarts,
            keep_samples=keep_samples,
        )
