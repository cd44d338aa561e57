"""The attacks that look for a near adversarial by a search over c as torchattacks ``Attack``
subclasses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import nn

from art_ext.adapters.torchattacks.shell import FunctionAttack
from art_ext.core.attacks import ead, zoo

SEARCH_NAMES = {
    "kappa": "confidence",
    "lr": "step_size",
    "binary_search_steps": "search_steps",
    "max_iterations": "num_steps",
}


class EAD(FunctionAttack):
    r"""EAD (Chen et al., 2018): the elastic-net attack, by FISTA with a search over c.

    Distance measure: L1 and L2. See ``art_ext.core.attacks.ead`` for the method. The arguments are
        those of
    torchattacks' own EADEN and EADL1, which carry iterates over from one c to the next and measure
    distances to an image that drifts.

    Arguments:
        model (nn.Module): model to attack.
        kappa (float): margin between logits that a success must have. (Default: 0)
        lr (float): alpha_0, of the first step. (Default: 0.01)
        binary_search_steps (int): optimisations per image, each with its own c. (Default: 9)
        max_iterations (int): iterations of each optimisation, by torchattacks' custom; the paper's
            1000 come nearer. (Default: 100)
        abort_early (bool or str): give an image's optimisation up where its loss stands still:
            True, unless it has met the goal by then; 'always'; or False, never. (Default: True)
        initial_const (float): the first c. (Default: 0.001)
        beta (float): weight of the L1 term. (Default: 0.001)
        decision_rule (str): which success is reported: that of least beta L1 + L2^2 ('EN'), of
            least L1 ('L1') or of least L2 ('L2'). (Default: 'EN')
        norm (str): 'Linf', 'L2' or 'L1': how eps and the distances of ``last_result`` are measured.
        (Default: 'L1') eps (float): radius within which an adversarial counts as success; None
        counts any. (Default: None) max_queries (int): most forward rows per image, the clean check
        included; None for no limit. (Default: None) batch_size (int): most rows in one model call.
        (Default: 256) probe (bool): in the first call on a model, test with at most 24 rows if its
        answers depend on chance or on the
            batch, and log a warning if they do; False asks nothing. (Default: True)

    Shape:
        - images: :math:`(N, C, H, W)` in [0, 1] (any shape without ``set_normalization_used``).
        - labels: :math:`(N)` class indices; None takes the model's own predictions.
        - output: :math:`(N, C, H, W)`; images that could not be fooled come back unchanged.

    Examples::
        >>> attack = torchattacks.EAD(model, kappa=0, lr=0.01, max_iterations=1000)
        >>> adv_images = attack(images, labels)
        >>> attack.last_result.distance
    """

    _function = staticmethod(ead)
    _core_names: ClassVar[dict[str, str]] = SEARCH_NAMES

    def __init__(
        self,
        model: nn.Module,
        kappa: float = 0,
        lr: float = 0.01,
        binary_search_steps: int = 9,
        max_iterations: int = 100,
        abort_early: bool | str = True,
        initial_const: float = 0.001,
        beta: float = 0.001,
        decision_rule: str = "EN",
        norm: str = "L1",
        eps: float | None = None,
        max_queries: int | None = None,
        batch_size: int = 256,
        probe: bool = True,
    ) -> None:
        super().__init__(
            model,
            kappa=kappa,
            lr=lr,
            binary_search_steps=binary_search_steps,
            max_iterations=max_iterations,
            abort_early=abort_early,
            initial_const=initial_const,
            beta=beta,
            decision_rule=decision_rule,
            norm=norm,
            eps=eps,
            max_queries=max_queries,
            batch_size=batch_size,
            probe=probe,
        )


class ZOO(FunctionAttack):
    r"""ZOO (Chen et al., 2017): the objective of C&W from logits alone, by difference quotients
    along coordinates.

    Distance measure: L2. See ``art_ext.core.attacks.zoo`` for the method.

    Arguments:
        model (nn.Module): model to attack.
        kappa (float): margin between logits that a success must have. (Default: 0)
        lr (float): eta, of Adam or Newton. (Default: 0.01)
        binary_search_steps (int): optimisations per image, each with its own c. (Default: 9)
        max_iterations (int): iterations of each optimisation; one costs 2 n_coordinates + 1 rows.
        (Default: 1000) abort_early (bool or str): give an image's optimisation up where its loss
        stands still: 'always', True: unless
            it has met the goal by then, or False: never. (Default: 'always')
        initial_const (float): the first c. (Default: 0.01)
        n_coordinates (int): how many an image probes and moves in one iteration. (Default: 128)
        h (float): distance of the probes. (Default: 1e-4)
        solver (str): 'adam', 'newton' (with h of 0.01 or more) or 'adam-newton'. (Default: 'adam')
        use_tanh (bool): move in a space without a box rather than clip to [0, 1]. (Default: False)
        resize (int, sequence or dict): side of a smaller image that is attacked and scaled up;
            several sides, or a dict from iterations to sides, to enlarge it on the way; None moves
            the pixels themselves. (Default: None)
        importance (bool or int): with resize, draw coordinates in proportion to the changes so far,
            whenever the small image has been enlarged; a number n > 1 also every n iterations.
            (Default: False)
        reset_adam (bool): forget the moments of Adam at the first success of an optimisation.
        (Default: True) abort_window (int): iterations between two comparisons of the loss; None
        takes a tenth of max_iterations.
            (Default: None)
        norm (str): 'Linf', 'L2' or 'L1': how eps and the distances of ``last_result`` are measured.
        (Default: 'L2') eps (float): radius within which an adversarial counts as success; None
        counts any. (Default: None) max_queries (int): most forward rows per image, the clean check
        included; None for no limit. (Default: None) batch_size (int): most rows in one model call.
        (Default: 256) seed (int): of the draws of coordinates; None draws one. (Default: None)
        probe (bool): in the first call on a model, test with at most 24 rows if its answers depend
        on chance or on the
            batch, and log a warning if they do; False asks nothing. (Default: True)

    Shape:
        - images: :math:`(N, C, H, W)` in [0, 1] (any shape without ``set_normalization_used`` or
          ``resize``).
        - labels: :math:`(N)` class indices; None takes the model's own predictions.
        - output: :math:`(N, C, H, W)`; images that could not be fooled come back unchanged.

    Examples::
        >>> attack = torchattacks.ZOO(model, max_iterations=1000, binary_search_steps=5)
        >>> adv_images = attack(images, labels)
        >>> attack.last_result.queries
    """

    _function = staticmethod(zoo)
    _core_names: ClassVar[dict[str, str]] = {**SEARCH_NAMES, "n_coordinates": "coordinates"}

    def __init__(
        self,
        model: nn.Module,
        kappa: float = 0,
        lr: float = 0.01,
        binary_search_steps: int = 9,
        max_iterations: int = 1000,
        abort_early: bool | str = "always",
        initial_const: float = 0.01,
        n_coordinates: int = 128,
        h: float = 1e-4,
        solver: str = "adam",
        use_tanh: bool = False,
        resize: int | Sequence[int] | Mapping[int, int] | None = None,
        importance: bool | int = False,
        reset_adam: bool = True,
        abort_window: int | None = None,
        norm: str = "L2",
        eps: float | None = None,
        max_queries: int | None = None,
        batch_size: int = 256,
        seed: int | None = None,
        probe: bool = True,
    ) -> None:
        super().__init__(
            model,
            kappa=kappa,
            lr=lr,
            binary_search_steps=binary_search_steps,
            max_iterations=max_iterations,
            abort_early=abort_early,
            initial_const=initial_const,
            n_coordinates=n_coordinates,
            h=h,
            solver=solver,
            use_tanh=use_tanh,
            resize=resize,
            importance=importance,
            reset_adam=reset_adam,
            abort_window=abort_window,
            norm=norm,
            eps=eps,
            max_queries=max_queries,
            batch_size=batch_size,
            seed=seed,
            probe=probe,
        )
