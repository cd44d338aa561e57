"""Attacks with all their keywords, for editors and type checkers.

Written by ``make shells`` from the lists of attacks, detectors and trainers. Change those instead.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from art_ext.core.attacks import registry as registry
from art_ext.core.detection.base import Detector
from art_ext.core.geometry import ClipValues
from art_ext.core.limits.generator import Generator
from art_ext.core.losses import Loss
from art_ext.core.oracle import Judge, Model
from art_ext.core.result import AttackResult, Callback
from art_ext.core.transforms import Transform

__all__: list[str]

def ai_fgsm(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    eps: float,
    norm: str = "linf",
    num_steps: int = 100,
    step_size: float = 0.005,
    beta1: float = 0.95,
    beta2: float = 0.999,
    step_rule: str = "adaptive",
    start: str = "input",
    delta: float = 1e-07,
    delta_inside: bool = False,
    grad_scale: float = 1.0,
    num_restarts: int = 1,
    keep_samples: bool = False,
    targeted: bool = False,
    targets: Tensor | None = None,
    mask: Tensor | None = None,
    max_queries: int | None = None,
    clip_values: ClipValues = (0.0, 1.0),
    outputs: str = "logits",
    batch_size: int = 256,
    sample_ids: Tensor | None = None,
    device: torch.device | str | None = None,
    callback: Callback | None = None,
    seed: int | None = None,
    pad_rows: int = 0,
    channels_last: bool = False,
    compile: bool = False,
    amp: bool = False,
    detector: Detector | None = None,
    detector_weight: float = 1.0,
    detector_loss: str = "auto",
    loss: str | Loss = "ce",
    criterion: Judge | None = None,
    stop_on_success: bool = False,
    on_failure: str = "input",
    transform: str | Transform | None = None,
) -> AttackResult:
    """Adaptive iterative FGSM: the accumulated momentum of HMCAM in one trajectory.

    ``hmcam`` with ``num_transitions=1`` is the same to the bit. There is no Metropolis-Hastings
    test. ``step_rule="corrected"`` is what the authors run on ImageNet and faces, where the second
    moment drops out.

    Args:
        model: ``nn.Module`` or callable from (R, *S) to class scores (R, K). It normalises inside.
        x: inputs, (N, *S), float, inside ``clip_values``.
        y: true classes, (N,), or the classes to reach if ``targeted``. Default: None, the model's
            prediction.
        eps: radius of the ball, in the units of x (8/255, not 8).
        norm: of the ball, ``"linf"``, ``"l2"`` or ``"l1"``. Default: linf.
        num_steps: T, the number of steps. Default: 100.
        step_size: alpha of the adaptive step. Default: 5e-3.
        beta1: decay of the average of gradients, in [0, 1). Default: 0.95.
        beta2: decay of the average of squared gradients, in [0, 1). Default: 0.999.
        step_rule: ``"sign"``: ``alpha sgn(v)`` (8). ``"adaptive"``: ``sgn(v)`` times, for each
            coordinate, ``min(eps, sqrt(1 - beta2^t) / (1 - beta1^t) alpha / sqrt(e))`` (11), e
            being the largest so far of the averages ``e_t = beta2 e_{t-1} + (1 - beta2) g_t^2``.
            ``"corrected"``: the same without the second moment, ``min(eps, alpha / (1 - beta1^t))
            sgn(v)``. In L2 and L1, ``v / ||v||_p`` stands for ``sgn(v)``.
        start: ``"input"``, or ``"uniform"``, a point drawn uniformly from the ball and clipped to
            the box. Default: input.
        delta: small constant under e, > 0. Default: 1e-7.
        delta_inside: True adds delta inside the root of e, as the paper prints. False adds it to
            the root, as the reference implementation. Default: False.
        grad_scale: factor of every gradient. Only the adaptive step depends on it. 1 is the
            gradient of each sample's own loss. 1/B is what the authors' mean over batches of B
            samples gives. Default: 1.
        num_restarts: R, trajectories from R random points. More than 1 needs a random start. The
            first one is that of ``num_restarts=1``. The best outcome of each sample is reported: a
            success before a failure, then the higher loss. Samples that ``stop_on_success`` stops
            take part in no further restart. Default: 1.
        keep_samples: True returns the end of each restart in ``samples`` (R, N, *S): its last
            iterate that succeeded, or the last one. A sample that stopped early repeats its last
            end. Default: False.
        targeted: True if y (or ``targets``) are classes to reach, not classes to leave. Default:
            False.
        targets: classes to reach, (N,) int64. They make the attack targeted, and y is not used
            then. Default: None.
        mask: 0/1 or bool, broadcastable to x. Only coordinates where it is nonzero change. Default:
            None, all may change.
        max_queries: most forward rows charged to a sample, the clean check included. None: no
            limit.
        clip_values: the box (lower, upper), numbers or one value per feature. Default: (0, 1).
        outputs: what the model returns, ``"logits"`` or ``"probabilities"``. Default: logits.
        batch_size: most rows in one model call. It never changes a decision. Default: 256.
        sample_ids: (N,) int64 identities that key the random streams. Default: None, a fingerprint
            of each sample's float32 bits.
        device: where inputs go for models without parameters. Default: None, the device of x.
        callback: called with a ``Progress`` after each round of model calls. Default: None.
        seed: of the random streams. Default: None, which draws one and records it in the result.
        pad_rows: pad smaller model calls to this many rows, for bit-for-bit equal results over
            batch sizes. Default: 0.
        channels_last: True hands images (R, C, H, W) to the model in channels-last memory, and
            holds its convolution weights so. Results change by rounding. Default: False.
        compile: True calls the network through ``torch.compile``. Results change by rounding.
            Default: False.
        amp: True computes gradients in bfloat16 under ``torch.autocast``. Each success is verified
            by a forward in float32, for a further query, and ``max_queries`` pays for both. The
            clean check and candidates without a gradient are in float32. Default: False.
        detector: fitted to the model, and calibrated. A success must then also be accepted by the
            detector, and each row that the detector needs is a query: with S squeezed copies one
            answer costs 1 + S queries. Default: None.
        detector_weight: factor, > 0, of the penalty that the loss gets for rejected rows.
            Default: 1.
        detector_loss: that penalty. ``"penalty"``: ``max(0, score - threshold)`` over the
            interquartile range of the clean scores, once a row reaches the goal. ``"hinges"``: the
            margins of a row and of all its squeezed copies, below ``log((K - 1) (2 - t) / t)`` for
            the threshold t. If that is negative, of rejected rows only.
            ``"none"``: an attack that does not know the detector, with the same test of success.
            ``"auto"``: the form that the detector names. Attacks inside a ball then ascend their
            own loss until a row reaches the goal, and descend the penalty alone from then on.
            Default: ``"auto"``.
        loss: ascended by the attack: ``"ce"``, ``"margin"``, ``"probability_margin"``, ``"dlr"``,
            ``"mean-logits"``, or a callable from the model's outputs (r, K) and the positions (r,)
            of their samples in x to (r,) numbers, such as the inner product with a target's
            embedding. A callable is ascended as it is, targeted or not. The probability margin is
            ``max_{j != y} p_j - p_y`` of the softmax. ``"dlr"`` is the margin over the difference
            of the largest and third largest score, and with fewer than four classes the margin.
            ``"mean-logits"`` is the margin of the mean logits of the members of a
            ``JointEnsemble`` inside the model. Default: ``"ce"``.
        criterion: callable from the same to (r,) bool, True for a success, for models whose outputs
            are no class scores. Default: None, the predicted class differs from y, or is the
            target.
        stop_on_success: True stops a sample at its first success. Otherwise its last iterate that
            succeeded is reported. Default: False.
        on_failure: content of ``x_adv`` where nothing succeeded, ``"input"`` or ``"last"``, the
            last iterate. Default: ``"input"``.
        transform: differentiable callable in front of the model for the loss only, from rows (r,
            *S), their identities (r,), the number of the step and the seed to r rows, such as
            ``input_diversity()``, whose defaults are ``"input-diversity"``. Success is checked on
            the plain rows, so that each gradient costs a further query, and so does the last loss
            of a trajectory if losses are compared (``hmcam``, ``auto_pgd``, restarts).
            ``max_queries`` pays for two queries an answer. Default: None.

    Returns:
        An ``AttackResult``, after ``1 + T`` queries from the input, or ``1 + R (T + 1)`` from
        random points, and R T gradients per sample.

    Raises:
        ValueError: if an argument is out of range, x leaves the box, x or the clean outputs hold
            NaN, a label has no column in the outputs, or the model has no gradient.
        TypeError: if x is not a floating point tensor.

    References:
        Wang, Li, Liu, Lin, "A Hamiltonian Monte Carlo method for probabilistic adversarial attack
        and learning", IEEE TPAMI 2022, Algorithm 2 with S = 1 and T = N.
    """

def auto_pgd(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    eps: float,
    norm: str = "linf",
    num_steps: int = 100,
    loss: str | Loss | None = None,
    num_targets: int = 0,
    target_ranking: str | None = None,
    malt_candidates: int = 100,
    max_queries: int | None = None,
    stop_on_success: bool = True,
    num_restarts: int = 1,
    survey_steps: int = 0,
    search_queries: int = 0,
    larger_balls: bool = False,
    keep_samples: bool = False,
    targeted: bool = False,
    targets: Tensor | None = None,
    mask: Tensor | None = None,
    clip_values: ClipValues = (0.0, 1.0),
    outputs: str = "logits",
    batch_size: int = 256,
    sample_ids: Tensor | None = None,
    device: torch.device | str | None = None,
    callback: Callback | None = None,
    seed: int | None = None,
    pad_rows: int = 0,
    channels_last: bool = False,
    compile: bool = False,
    amp: bool = False,
    detector: Detector | None = None,
    detector_weight: float = 1.0,
    detector_loss: str = "auto",
    criterion: Judge | None = None,
    on_failure: str = "input",
    transform: str | Transform | None = None,
) -> AttackResult:
    """Auto-PGD: momentum steps that halve, sample by sample, where they bring no progress.

    Approximates ``max_x' J(x') s.t. ||x' - x||_p <= eps`` from a random start by ``z = P(x_t + eta
    s(grad J(x_t)))`` and ``x_{t+1} = P(x_t + 0.75 (z - x_t) + 0.25 (x_t - x_{t-1}))``, s being the
    sign in L-inf and ``g / ||g||_2`` in L2 (Algorithm 1 of the first paper). eta begins at 2 eps.
    At the checkpoints ``ceil(p_j T)``, with ``p_0 = 0``, ``p_1 = 0.22`` and ``p_{j+1} = p_j +
    max(p_j - p_{j-1} - 0.03, 0.06)``, a sample's eta is halved and it returns to its point of
    highest loss if fewer than 3/4 of the steps since the last checkpoint ascended, or if neither
    eta nor the highest loss has changed there and since.

    In L1 (the second paper) a step moves along the signs of the ``k`` largest entries of the
    gradient only, by eta in all, and P is the projection onto the intersection of ball and box. At
    every 25th part of the steps k becomes the number of coordinates that the best point moves, over
    1.5. eta begins at eps and is divided by 1.5 down to eps / 10. Where k fell by more than 5 %,
    eta returns to eps, and the sample to its best point.

    Args:
        model: ``nn.Module`` or callable from (R, *S) to class scores (R, K). It normalises inside.
        x: inputs, (N, *S), float, inside ``clip_values``.
        y: true classes, (N,), or the classes to reach if ``targeted``. Default: None, the model's
            prediction.
        eps: radius of the ball, in the units of x (8/255, not 8).
        norm: of the ball, ``"linf"``, ``"l2"`` or ``"l1"``. Default: linf.
        num_steps: T, the steps of each ascent. Default: 100.
        loss: ascended by the attack: ``"ce"``, ``"margin"``, ``"probability_margin"``, ``"dlr"``,
            or a callable from the model's outputs (r, K) and the positions (r,) of their samples in
            x to (r,) numbers. With ``num_targets`` one of ``"margin"``, ``"probability_margin"``,
            ``"dlr"`` and ``"score"`` of the target. Default: None, the cross-entropy, or with
            ``num_targets`` the margin.
        num_targets: m > 0 attacks the first m other classes of the ranking (all, if there are
            fewer) in turn. Each phase has a start of its own and T
            steps, and ascends ``z_t - z_y``, ``p_t - p_y`` of the softmax with
            ``loss="probability_margin"``, ``(z_t - z_y) / (z_(1) - (z_(3) + z_(4)) / 2)`` with
            ``loss="dlr"``, the k-th largest score being ``z_(k)``, or ``z_t`` with
            ``loss="score"``. For scores that are minus squared distances to centres, the last
            descends the distance to the target's. Any misclassification is a success. Default: 0.
        target_ranking: of these classes. ``"score"``: the highest at the clean input first.
            ``"malt"``: the smallest ``(z_y - z_t) / ||grad (z_y - z_t)||_q`` there first, q being
            the dual of the norm, which is the distance to class t if the model is linear. Default:
            None, MALT for models of more than ten classes.
        malt_candidates: C, the classes of highest score that MALT ranks. All others follow them by
            score. Default: 100.
        max_queries: most forward rows charged to a sample, the clean check included. None: no
            limit.
        stop_on_success: True stops a sample at its first success. Default: True.
        num_restarts: R, ascents from R random points, in each phase. The first one is that of
            ``num_restarts=1``. Of a phase the best outcome of each sample counts: a success before
            a failure, then the higher loss. A later phase, which ascends another loss, wins over an
            earlier one with the same outcome. Default: 1.
        survey_steps: S > 0 gives each of the m targets S steps only, and T steps to the one that
            came nearest, by the loss. Default: 0, T steps for each target.
        search_queries: Q > 0 begins the ascent at the best point of a ``square`` search of the same
            loss, of Q queries and with p = 0.8, at eta = eps / 2. It reaches samples that no
            random start does, because the gradients around the input are small or mislead. L1 has
            no such search. Default: 0, no search.
        larger_balls: True ascends in L1 in the ball of 3 eps for the first 30 % of the steps of
            each ascent, in that of 2 eps for the next 30 %, and then in that of eps. Each ball
            begins at the projection of the best point of the one before, which is one of the
            steps. No point of a larger ball counts as a success. Without effect in L-inf and L2,
            and with fewer than 4 steps. Default: False.
        keep_samples: True returns the end of each ascent in ``samples`` (R, N, *S), or (m R, N,
            *S), phase by phase: the last iterate that succeeded, or the point of highest loss. A
            sample that left early repeats its last end. Default: False.
        targeted: True if y (or ``targets``) are classes to reach, not classes to leave. Default:
            False.
        targets: classes to reach, (N,) int64. They make the attack targeted, and y is not used
            then. Default: None.
        mask: 0/1 or bool, broadcastable to x. Only coordinates where it is nonzero change. Default:
            None, all may change.
        clip_values: the box (lower, upper), numbers or one value per feature. Default: (0, 1).
        outputs: what the model returns, ``"logits"`` or ``"probabilities"``. Default: logits.
        batch_size: most rows in one model call. It never changes a decision. Default: 256.
        sample_ids: (N,) int64 identities that key the random streams. Default: None, a fingerprint
            of each sample's float32 bits.
        device: where inputs go for models without parameters. Default: None, the device of x.
        callback: called with a ``Progress`` after each round of model calls. Default: None.
        seed: of the random streams. Default: None, which draws one and records it in the result.
        pad_rows: pad smaller model calls to this many rows, for bit-for-bit equal results over
            batch sizes. Default: 0.
        channels_last: True hands images (R, C, H, W) to the model in channels-last memory, and
            holds its convolution weights so. Results change by rounding. Default: False.
        compile: True calls the network through ``torch.compile``. Results change by rounding.
            Default: False.
        amp: True computes gradients in bfloat16 under ``torch.autocast``. Each success is verified
            by a forward in float32, for a further query, and ``max_queries`` pays for both. The
            clean check and candidates without a gradient are in float32. Default: False.
        detector: fitted to the model, and calibrated. A success must then also be accepted by the
            detector, and each row that the detector needs is a query: with S squeezed copies one
            answer costs 1 + S queries. Default: None.
        detector_weight: factor, > 0, of the penalty that the loss gets for rejected rows.
            Default: 1.
        detector_loss: that penalty. ``"penalty"``: ``max(0, score - threshold)`` over the
            interquartile range of the clean scores, once a row reaches the goal. ``"hinges"``: the
            margins of a row and of all its squeezed copies, below ``log((K - 1) (2 - t) / t)`` for
            the threshold t. If that is negative, of rejected rows only.
            ``"none"``: an attack that does not know the detector, with the same test of success.
            ``"auto"``: the form that the detector names. Attacks inside a ball then ascend their
            own loss until a row reaches the goal, and descend the penalty alone from then on.
            Default: ``"auto"``.
        criterion: callable from the same to (r,) bool, True for a success, for models whose outputs
            are no class scores. Default: None, the predicted class differs from y, or is the
            target.
        on_failure: content of ``x_adv`` where nothing succeeded, ``"input"`` or ``"last"``, here
            the point of highest loss. Default: ``"input"``.
        transform: differentiable callable in front of the model for the loss only, from rows (r,
            *S), their identities (r,), the number of the step and the seed to r rows, such as
            ``input_diversity()``, whose defaults are ``"input-diversity"``. Success is checked on
            the plain rows, so that each gradient costs a further query, and so does the last loss
            of a trajectory if losses are compared (``hmcam``, ``auto_pgd``, restarts).
            ``max_queries`` pays for two queries an answer. Default: None.

    Returns:
        An ``AttackResult``. A query is one row forward: the clean check, and in each phase the
        start and T iterates, each of which is at the same time the forward of the next gradient.
        Without a success these are ``T + 2`` queries and T gradients, or ``1 + m R (T + 1)`` and
        ``m R T`` with m targets and R restarts. A survey takes ``1 + m (S + 1) + T + 1``
        queries and ``m S + T`` gradients. MALT takes one query and ``min(C, K - 1)`` gradients
        more, a search Q queries. Rows that are adversarial from the start take 1 and 0.

    Raises:
        ValueError: if an argument is out of range, x leaves the box, x or the clean outputs hold
            NaN, a label has no column in the outputs, the model has no gradient, or targets to
            reach, or a search, come together with ``num_targets``.
        TypeError: if x is not a floating point tensor.

    Differences from the paper:
        Survey and search are not part of it. Starts are uniform in the ball, in L1 too, where the
        second paper begins in larger balls (``larger_balls``). Among the largest entries only
        coordinates count that the box lets move. The margin that ``num_targets`` ascends is not
        divided by a difference of other scores, as the first paper's targeted loss is.

    References:
        Croce, Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
        parameter-free attacks", ICML 2020 (Auto-PGD). Croce, Hein, "Mind the box: l1-APGD for
        sparse adversarial attacks on image classifiers", ICML 2021 (the L1 variant). Xie et al.,
        "Towards million-scale adversarial robustness evaluation with stronger individual attacks",
        CVPR 2025 (the probability margin). Melamed, Yehudai, Shamir, "MALT powers up adversarial
        attacks", NeurIPS 2024 (the ranking).
    """

def bandits(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    eps: float,
    norm: str = "linf",
    preset: str = "imagenet",
    step_size: float | None = None,
    delta: float | None = None,
    prior_step_size: float | None = None,
    exploration: float | None = None,
    tile: int | None = None,
    clip_probes: bool = False,
    max_queries: int = 10_000,
    stop_on_success: bool = True,
    targeted: bool = False,
    targets: Tensor | None = None,
    mask: Tensor | None = None,
    clip_values: ClipValues = (0.0, 1.0),
    outputs: str = "logits",
    batch_size: int = 256,
    sample_ids: Tensor | None = None,
    device: torch.device | str | None = None,
    callback: Callback | None = None,
    seed: int | None = None,
    pad_rows: int = 0,
    channels_last: bool = False,
    compile: bool = False,
    detector: Detector | None = None,
    detector_weight: float = 1.0,
    detector_loss: str = "auto",
    loss: str | Loss = "ce",
    criterion: Judge | None = None,
    on_failure: str = "input",
) -> AttackResult:
    """Bandits score-based attack: projected ascent along a prior of the gradient.

    Solves ``max_x J(x) s.t. ||x - x_ori||_p <= eps``. The prior v has a value for each cell of a
    grid over the image, and begins at 0. With a random direction ``e = N(0, I) / sqrt(P)`` of the P
    cells, ``q_i = up(v +- c e)`` at the size of the image (nearest neighbours) and
    ``l_i = J(x_t + delta q_i / ||q_i||_2)``, the estimate is ``g = (l_1 - l_2) / (delta c) e``. In
    L-inf ``artanh v`` moves by h g, which is the exponentiated gradient on (v + 1) / 2, and
    ``x_{t+1} = P(x_t + alpha sgn(up(v)))``. In L2 v moves by h g, and
    ``x_{t+1} = P(x_t + alpha up(v) / ||up(v)||_2)``.

    Args:
        model: ``nn.Module``, or any callable from (R, *S) to class scores (R, K). Normalisation
            lives inside.
        x: inputs, (N, *S), float, inside ``clip_values``. The last two axes of S are height and
            width, all before them channels.
        y: true classes, (N,), or the classes to reach if ``targeted``. Default: None, the model's
            prediction.
        eps: radius of the ball, in the units of x (8/255, not 8).
        norm: of the ball, ``"linf"`` or ``"l2"``. Default: linf.
        preset: of the next five arguments. ``"imagenet"``: those of the authors. ``"mnist"``: those
            of the authors of SignHunter, for L-inf. Default: imagenet.
        step_size: alpha, in the units of x. Default: None, the preset's.
        delta: length of a probe, in the units of x. Default: None, the preset's.
        prior_step_size: h, of the prior. Default: None, the preset's.
        exploration: c, the factor of the random direction. Default: None, the preset's.
        tile: cells along each axis, at most the shorter side. Default: None, the preset's, and a
            cell for each feature where x is no image, or not larger than this.
        clip_probes: True clips the probes to the box, for a model that takes nothing else. Default:
            False.
        max_queries: most forward rows per sample. An iteration that does not fit into the rest is
            not begun. Default: 10,000.
        stop_on_success: True stops a sample at its first success. Default: True.
        targeted: True if y (or ``targets``) are classes to reach, not classes to leave. Default:
            False.
        targets: classes to reach, (N,) int64. They make the attack targeted, and y is not used
            then. Default: None.
        mask: 0/1 or bool, broadcastable to x. Only coordinates where it is nonzero change. Default:
            None, all may change.
        clip_values: the box (lower, upper), numbers or one value per feature. Default: (0, 1).
        outputs: what the model returns, ``"logits"`` or ``"probabilities"``. Default: logits.
        batch_size: most rows in one model call. It never changes a decision. Default: 256.
        sample_ids: (N,) int64 identities that key the random streams. Default: None, a fingerprint
            of each sample's float32 bits.
        device: where inputs go for models without parameters. Default: None, the device of x.
        callback: called with a ``Progress`` after each round of model calls. Default: None.
        seed: of the random streams. Default: None, which draws one and records it in the result.
        pad_rows: pad smaller model calls to this many rows, for bit-for-bit equal results over
            batch sizes. Default: 0.
        channels_last: True hands images (R, C, H, W) to the model in channels-last memory, and
            holds its convolution weights so. Results change by rounding. Default: False.
        compile: True calls the network through ``torch.compile``. Results change by rounding.
            Default: False.
        detector: fitted to the model, and calibrated. A success must then also be accepted by the
            detector, and each row that the detector needs is a query: with S squeezed copies one
            answer costs 1 + S queries. Default: None.
        detector_weight: factor, > 0, of the penalty that the loss gets for rejected rows.
            Default: 1.
        detector_loss: that penalty. ``"penalty"``: ``max(0, score - threshold)`` over the
            interquartile range of the clean scores, once a row reaches the goal. ``"hinges"``: the
            margins of a row and of all its squeezed copies, below ``log((K - 1) (2 - t) / t)`` for
            the threshold t. If that is negative, of rejected rows only.
            ``"none"``: an attack that does not know the detector, with the same test of success.
            ``"auto"``: the form that the detector names. Attacks inside a ball then ascend their
            own loss until a row reaches the goal, and descend the penalty alone from then on.
            Default: ``"auto"``.
        loss: ascended by the attack: ``"ce"``, ``"margin"``, ``"probability_margin"``, ``"dlr"``,
            ``"mean-logits"``, or a callable from the model's outputs (r, K) and the positions (r,)
            of their samples in x to (r,) numbers, such as the inner product with a target's
            embedding. A callable is ascended as it is, targeted or not. The probability margin is
            ``max_{j != y} p_j - p_y`` of the softmax. ``"dlr"`` is the margin over the difference
            of the largest and third largest score, and with fewer than four classes the margin.
            ``"mean-logits"`` is the margin of the mean logits of the members of a
            ``JointEnsemble`` inside the model. Default: ``"ce"``.
        criterion: callable from the same to (r,) bool, True for a success, for models whose outputs
            are no class scores. Default: None, the predicted class differs from y, or is the
            target.
        on_failure: content of ``x_adv`` where nothing succeeded, ``"input"`` or ``"last"``, the
            last iterate. Default: ``"input"``.

    Returns:
        An ``AttackResult``. After k iterations ``queries`` is ``1 + 3 k``: two probes and the check
        of the iterate.

    Raises:
        ValueError: if an argument is out of range, the samples are no images for a ``tile``, x
            leaves the box, x or the clean outputs hold NaN, a label has no column in the outputs,
            or the model returns no scores.
        TypeError: if x is not a floating point tensor.

    Differences from the paper:
        The check of the iterate is charged. The authors count two queries an iteration. The last
        factor of their estimate is c e, and here e, as in the code of the authors of SignHunter.
        Multiply their step of the prior by c to get ``prior_step_size``, as the presets do. In
        L-inf the prior leaves +-1 again, where the authors' update in float32 does not.

    References:
        Ilyas, Engstrom, Madry, "Prior convictions: black-box adversarial attacks with bandits and
        priors", ICLR 2019. Al-Dujaili, O'Reilly, "Sign bits are all you need for black-box
        attacks", ICLR 2020 (settings for MNIST).
    """

def cw(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    eps: float | None = None,
    norm: str = "l2",
    beta: float = 0.0,
    confidence: float = 0.0,
    step_size: float = 0.01,
    num_steps: int = 1000,
    search_steps: int = 9,
    initial_const: float = 0.001,
    abort_early: bool | str = True,
    targets: Tensor | str | None = None,
    max_queries: int | None = None,
    targeted: bool = False,
    mask: Tensor | None = None,
    clip_values: ClipValues = (0.0, 1.0),
    outputs: str = "logits",
    batch_size: int = 256,
    sample_ids: Tensor | None = None,
    device: torch.device | str | None = None,
    callback: Callback | None = None,
    seed: int | None = None,
    pad_rows: int = 0,
    channels_last: bool = False,
    compile: bool = False,
    amp: bool = False,
    detector: Detector | None = None,
    detector_weight: float = 1.0,
    detector_loss: str = "auto",
) -> AttackResult:
    """Carlini and Wagner's L2 attack: the least distortion, found in a space without a box.

    Solves ``min_w c f(x') + ||x' - x||_2^2`` with ``x' = (1 + tanh w) / 2``, stretched to the box,
    and the f of ``ead``, by Adam, with a search over c per sample. It is the comparator of ``ead``,
    whose ``beta=0`` minimises the same objective. With ``beta > 0`` the objective is that of
    ``ead``, ``beta ||x' - x||_1`` included, and so is the rule that chooses x_adv: the change of
    variable (COV) of the thesis' Table 5, which finds no sparse perturbations.

    Where a value of x lies on the edge of the box, w starts at ``atanh(.9999995)`` = 7.6, where the
    slope of tanh is 1e-6. Give such images, MNIST among them, several hundred iterations.

    Args:
        model: ``nn.Module``, or a differentiable callable from (R, *S) to class scores (R, K).
            Normalisation lives inside.
        x: inputs, (N, *S), float, inside ``clip_values``.
        y: true classes, (N,), or the classes to reach if ``targeted``. Default: None, the model's
            prediction.
        eps: radius in ``norm`` within which an adversarial counts as success, in the units of x.
            Default: None, any adversarial counts.
        norm: of ``distance`` and eps, ``"linf"``, ``"l2"`` or ``"l1"``. Default: l2.
        beta: weight of an L1 term, >= 0. 0 is the attack of Carlini and Wagner. Default: 0.
        confidence: kappa >= 0, the margin between logits (or logarithms of probabilities) that a
            success must have. Default: 0.
        step_size: of Adam, > 0. Default: 1e-2.
        num_steps: iterations of each optimisation, >= 1. Default: 1000.
        search_steps: optimisations per sample, each with its own c, >= 1. Default: 9.
        initial_const: the first c, > 0. Default: 1e-3.
        abort_early: True ends a sample's optimisation where its loss, compared every ``num_steps /
            10`` iterations, stands still, unless it has succeeded by then. ``"always"`` ends it
            then too, as the reference implementation. False never does. Default: True.
        targets: classes to reach, (N,) int64, or a case. ``"average"``: a random wrong class for
            each sample. ``"best"``: the wrong class of the smallest value by the attack's own rule.
            ``"worst"``: the one of the largest. ``"all"``: the best case, with the examples of all
            K - 1 wrong classes in ``samples`` (K - 1, N, *S), their classes in ``trace["target"]``
            and ``trace["success"]``, each (K - 1, N). ``art_ext.core.metrics.case_distortions``
            reads them. All but ``"average"`` attack all wrong classes side by side, and share
            max_queries evenly among them. Default: None.
        max_queries: most forward rows charged to a sample, the clean check included. None: no
            limit.
        targeted: True if y (or ``targets``) are classes to reach, not classes to leave. Default:
            False.
        mask: 0/1 or bool, broadcastable to x. Only coordinates where it is nonzero change. Default:
            None, all may change.
        clip_values: the box (lower, upper), numbers or one value per feature. Default: (0, 1).
        outputs: what the model returns, ``"logits"`` or ``"probabilities"``. Default: logits.
        batch_size: most rows in one model call. It never changes a decision. Default: 256.
        sample_ids: (N,) int64 identities that key the random streams. Default: None, a fingerprint
            of each sample's float32 bits.
        device: where inputs go for models without parameters. Default: None, the device of x.
        callback: called with a ``Progress`` after each round of model calls. Default: None.
        seed: of the random streams. Default: None, which draws one and records it in the result.
        pad_rows: pad smaller model calls to this many rows, for bit-for-bit equal results over
            batch sizes. Default: 0.
        channels_last: True hands images (R, C, H, W) to the model in channels-last memory, and
            holds its convolution weights so. Results change by rounding. Default: False.
        compile: True calls the network through ``torch.compile``. Results change by rounding.
            Default: False.
        amp: True computes gradients in bfloat16 under ``torch.autocast``. Each success is verified
            by a forward in float32, for a further query, and ``max_queries`` pays for both. The
            clean check and candidates without a gradient are in float32. Default: False.
        detector: fitted to the model, and calibrated. A success must then also be accepted by the
            detector, and each row that the detector needs is a query: with S squeezed copies one
            answer costs 1 + S queries. Default: None.
        detector_weight: factor, > 0, of the penalty that the loss gets for rejected rows.
            Default: 1.
        detector_loss: that penalty. ``"penalty"``: ``max(0, score - threshold)`` over the
            interquartile range of the clean scores, once a row reaches the goal. ``"hinges"``: the
            margins of a row and of all its squeezed copies, below ``log((K - 1) (2 - t) / t)`` for
            the threshold t. If that is negative, of rejected rows only.
            ``"none"``: an attack that does not know the detector, with the same test of success.
            ``"auto"``: the form that the detector names. Attacks inside a ball then ascend their
            own loss until a row reaches the goal, and descend the penalty alone from then on.
            Default: ``"auto"``.

    Returns:
        An ``AttackResult``. A query is one row forward: the clean check and one for each iteration,
        whose forward checks the iterate and serves its gradient. ``trace`` is as in ``ead``.

    Raises:
        ValueError: if an argument is out of range, x leaves the box, x or the clean outputs hold
            NaN, a label has no column in the outputs, or the model has no gradient.
        TypeError: if x is not a floating point tensor.

    Differences from the paper:
        The distortion is measured to x itself, where the reference implementation measures it to
        the image of x under tanh, which differs by 1e-6. An optimisation is given up per sample, as
        in ``ead``.

    References:
        Carlini, Wagner, "Towards evaluating the robustness of neural networks", IEEE S&P 2017.
    """

def ead(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    eps: float | None = None,
    norm: str = "l1",
    beta: float = 0.001,
    confidence: float = 0.0,
    step_size: float = 0.01,
    num_steps: int = 1000,
    search_steps: int = 9,
    initial_const: float = 0.001,
    decision_rule: str = "EN",
    momentum: str = "program",
    abort_early: bool | str = True,
    targets: Tensor | str | None = None,
    max_queries: int | None = None,
    targeted: bool = False,
    mask: Tensor | None = None,
    clip_values: ClipValues = (0.0, 1.0),
    outputs: str = "logits",
    batch_size: int = 256,
    sample_ids: Tensor | None = None,
    device: torch.device | str | None = None,
    callback: Callback | None = None,
    seed: int | None = None,
    pad_rows: int = 0,
    channels_last: bool = False,
    compile: bool = False,
    amp: bool = False,
    detector: Detector | None = None,
    detector_weight: float = 1.0,
    detector_loss: str = "auto",
) -> AttackResult:
    """EAD minimum-norm attack: the adversarial of least elastic-net distortion.

    Solves ``min_x' c f(x') + beta ||x' - x||_1 + ||x' - x||_2^2 s.t. x' in the box`` (16) with
    ``f = max(max_{j != t} z_j - z_t, -kappa)`` (9), or ``max(z_y - max_{j != y} z_j, -kappa)``
    untargeted, by Algorithm 4: ``x_{k+1} = S_beta(y_k - alpha_k grad g(y_k))``, ``y_{k+1} = x_{k+1}
    + zeta_k (x_{k+1} - x_k)``, g being the objective without its L1 term, S_beta the projected
    shrinkage (18), ``alpha_k = alpha_0 sqrt(1 - k/I)``. c is searched per sample, each time from x
    itself. With ``beta=0`` it is projected accelerated descent on the objective of C&W.

    Args:
        model: ``nn.Module``, or a differentiable callable from (R, *S) to class scores (R, K).
            Normalisation lives inside.
        x: inputs, (N, *S), float, inside ``clip_values``.
        y: true classes, (N,), or the classes to reach if ``targeted``. Default: None, the model's
            prediction.
        eps: radius in ``norm`` within which an adversarial counts as success, in the units of x.
            Default: None, any adversarial counts.
        norm: of ``distance`` and eps, ``"linf"``, ``"l2"`` or ``"l1"``. Default: l1.
        beta: weight of the L1 term, >= 0. Default: 1e-3.
        confidence: kappa >= 0, the margin between logits (or logarithms of probabilities) that a
            success must have. Default: 0.
        step_size: alpha_0, > 0. Default: 1e-2.
        num_steps: I, iterations of each optimisation. Default: 1000.
        search_steps: optimisations per sample, each with its own c, >= 1. Default: 9.
        initial_const: the first c, > 0. Default: 1e-3.
        decision_rule: the success that is reported: that of least ``beta ||.||_1 + ||.||_2^2``
            (``"EN"``), of least L1 (``"L1"``) or of least L2 (``"L2"``) distortion. Default: EN.
        momentum: zeta_k, k counting from 0: ``"program"``, ``(k+1)/(k+4)``, or ``"print"``,
            ``k/(k+3)``, which starts without momentum. Default: program.
        abort_early: True ends a sample's optimisation where its loss, compared every ``num_steps /
            10`` iterations, stands still, unless it has succeeded by then. ``"always"`` ends it
            then too, as the reference implementation. False never does. Default: True.
        targets: classes to reach, (N,) int64, or a case. ``"average"``: a random wrong class for
            each sample. ``"best"``: the wrong class of the smallest value by the attack's own rule.
            ``"worst"``: the one of the largest. ``"all"``: the best case, with the examples of all
            K - 1 wrong classes in ``samples`` (K - 1, N, *S), their classes in ``trace["target"]``
            and ``trace["success"]``, each (K - 1, N). ``art_ext.core.metrics.case_distortions``
            reads them. All but ``"average"`` attack all wrong classes side by side, and share
            max_queries evenly among them. Default: None.
        max_queries: most forward rows charged to a sample, the clean check included. None: no
            limit.
        targeted: True if y (or ``targets``) are classes to reach, not classes to leave. Default:
            False.
        mask: 0/1 or bool, broadcastable to x. Only coordinates where it is nonzero change. Default:
            None, all may change.
        clip_values: the box (lower, upper), numbers or one value per feature. Default: (0, 1).
        outputs: what the model returns, ``"logits"`` or ``"probabilities"``. Default: logits.
        batch_size: most rows in one model call. It never changes a decision. Default: 256.
        sample_ids: (N,) int64 identities that key the random streams. Default: None, a fingerprint
            of each sample's float32 bits.
        device: where inputs go for models without parameters. Default: None, the device of x.
        callback: called with a ``Progress`` after each round of model calls. Default: None.
        seed: of the random streams. Default: None, which draws one and records it in the result.
        pad_rows: pad smaller model calls to this many rows, for bit-for-bit equal results over
            batch sizes. Default: 0.
        channels_last: True hands images (R, C, H, W) to the model in channels-last memory, and
            holds its convolution weights so. Results change by rounding. Default: False.
        compile: True calls the network through ``torch.compile``. Results change by rounding.
            Default: False.
        amp: True computes gradients in bfloat16 under ``torch.autocast``. Each success is verified
            by a forward in float32, for a further query, and ``max_queries`` pays for both. The
            clean check and candidates without a gradient are in float32. Default: False.
        detector: fitted to the model, and calibrated. A success must then also be accepted by the
            detector, and each row that the detector needs is a query: with S squeezed copies one
            answer costs 1 + S queries. Default: None.
        detector_weight: factor, > 0, of the penalty that the loss gets for rejected rows.
            Default: 1.
        detector_loss: that penalty. ``"penalty"``: ``max(0, score - threshold)`` over the
            interquartile range of the clean scores, once a row reaches the goal. ``"hinges"``: the
            margins of a row and of all its squeezed copies, below ``log((K - 1) (2 - t) / t)`` for
            the threshold t. If that is negative, of rejected rows only.
            ``"none"``: an attack that does not know the detector, with the same test of success.
            ``"auto"``: the form that the detector names. Attacks inside a ball then ascend their
            own loss until a row reaches the goal, and descend the penalty alone from then on.
            Default: ``"auto"``.

    Returns:
        An ``AttackResult``. ``x_adv`` is the success that the rule chose and ``distance`` its
        distance. ``x_nearest`` and ``nearest_distance`` are the nearest in ``norm`` of all that
        were seen (with ``targets`` of several classes, of all of these). A query is one row
        forward: the clean check and, per iteration, the check of x_k and the forward of the
        gradient at y_k. The first gradient of each optimisation is that of the clean check, and
        ``gradients`` counts it once. ``trace["const"]`` and ``trace["value"]`` (search_steps, N)
        hold each c and the best value of the rule so far. With ``max_queries`` what is found by
        then is reported.

    Raises:
        ValueError: if an argument is out of range, x leaves the box, x or the clean outputs hold
            NaN, a label has no column in the outputs, or the model has no gradient.
        TypeError: if x is not a floating point tensor.

    Differences from the paper:
        As in the reference implementation, ``zeta_k`` is ``(k+1)/(k+4)`` (``momentum="print"``
        takes the paper's ``k/(k+3)``), and the threshold is beta itself, not ``alpha_k beta``, so
        that the L1 weight that a step applies is ``beta / alpha_k``. Published numbers depend on
        both. Unlike the reference implementation, an optimisation is given up per sample, not per
        batch, and by default not once it has succeeded (its last iterations shrink the perturbation
        most, while the loss hardly falls). A failure returns the input, not a grey image.

    References:
        Chen, Sharma, Zhang, Yi, Hsieh, "EAD: elastic-net attacks to deep neural networks via
        adversarial examples", AAAI 2018. Sharma, master's thesis, 2018, chapter 4 (the equation and
        algorithm numbers).
    """

def fgsm(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    eps: float,
    norm: str = "linf",
    targeted: bool = False,
    targets: Tensor | None = None,
    mask: Tensor | None = None,
    max_queries: int | None = None,
    clip_values: ClipValues = (0.0, 1.0),
    outputs: str = "logits",
    batch_size: int = 256,
    sample_ids: Tensor | None = None,
    device: torch.device | str | None = None,
    callback: Callback | None = None,
    seed: int | None = None,
    pad_rows: int = 0,
    channels_last: bool = False,
    compile: bool = False,
    amp: bool = False,
    detector: Detector | None = None,
    detector_weight: float = 1.0,
    detector_loss: str = "auto",
    loss: str | Loss = "ce",
    criterion: Judge | None = None,
    stop_on_success: bool = False,
    on_failure: str = "input",
    transform: str | Transform | None = None,
) -> AttackResult:
    """Fast gradient sign method: ``x' = clip(x + eps sgn(grad J(x)))``.

    In L2 and L1 the step is ``eps g / ||g||_p``. A success is verified by the second query.

    Args:
        model: ``nn.Module`` or callable from (R, *S) to class scores (R, K). It normalises inside.
        x: inputs, (N, *S), float, inside ``clip_values``.
        y: true classes, (N,), or the classes to reach if ``targeted``. Default: None, the model's
            prediction.
        eps: radius of the ball, in the units of x (8/255, not 8).
        norm: of the ball, ``"linf"``, ``"l2"`` or ``"l1"``. Default: linf.
        targeted: True if y (or ``targets``) are classes to reach, not classes to leave. Default:
            False.
        targets: classes to reach, (N,) int64. They make the attack targeted, and y is not used
            then. Default: None.
        mask: 0/1 or bool, broadcastable to x. Only coordinates where it is nonzero change. Default:
            None, all may change.
        max_queries: most forward rows charged to a sample, the clean check included. None: no
            limit.
        clip_values: the box (lower, upper), numbers or one value per feature. Default: (0, 1).
        outputs: what the model returns, ``"logits"`` or ``"probabilities"``. Default: logits.
        batch_size: most rows in one model call. It never changes a decision. Default: 256.
        sample_ids: (N,) int64 identities that key the random streams. Default: None, a fingerprint
            of each sample's float32 bits.
        device: where inputs go for models without parameters. Default: None, the device of x.
        callback: called with a ``Progress`` after each round of model calls. Default: None.
        seed: of the random streams. Default: None, which draws one and records it in the result.
        pad_rows: pad smaller model calls to this many rows, for bit-for-bit equal results over
            batch sizes. Default: 0.
        channels_last: True hands images (R, C, H, W) to the model in channels-last memory, and
            holds its convolution weights so. Results change by rounding. Default: False.
        compile: True calls the network through ``torch.compile``. Results change by rounding.
            Default: False.
        amp: True computes gradients in bfloat16 under ``torch.autocast``. Each success is verified
            by a forward in float32, for a further query, and ``max_queries`` pays for both. The
            clean check and candidates without a gradient are in float32. Default: False.
        detector: fitted to the model, and calibrated. A success must then also be accepted by the
            detector, and each row that the detector needs is a query: with S squeezed copies one
            answer costs 1 + S queries. Default: None.
        detector_weight: factor, > 0, of the penalty that the loss gets for rejected rows.
            Default: 1.
        detector_loss: that penalty. ``"penalty"``: ``max(0, score - threshold)`` over the
            interquartile range of the clean scores, once a row reaches the goal. ``"hinges"``: the
            margins of a row and of all its squeezed copies, below ``log((K - 1) (2 - t) / t)`` for
            the threshold t. If that is negative, of rejected rows only.
            ``"none"``: an attack that does not know the detector, with the same test of success.
            ``"auto"``: the form that the detector names. Attacks inside a ball then ascend their
            own loss until a row reaches the goal, and descend the penalty alone from then on.
            Default: ``"auto"``.
        loss: ascended by the attack: ``"ce"``, ``"margin"``, ``"probability_margin"``, ``"dlr"``,
            ``"mean-logits"``, or a callable from the model's outputs (r, K) and the positions (r,)
            of their samples in x to (r,) numbers, such as the inner product with a target's
            embedding. A callable is ascended as it is, targeted or not. The probability margin is
            ``max_{j != y} p_j - p_y`` of the softmax. ``"dlr"`` is the margin over the difference
            of the largest and third largest score, and with fewer than four classes the margin.
            ``"mean-logits"`` is the margin of the mean logits of the members of a
            ``JointEnsemble`` inside the model. Default: ``"ce"``.
        criterion: callable from the same to (r,) bool, True for a success, for models whose outputs
            are no class scores. Default: None, the predicted class differs from y, or is the
            target.
        stop_on_success: True stops a sample at its first success. Otherwise its last iterate that
            succeeded is reported. Default: False.
        on_failure: content of ``x_adv`` where nothing succeeded, ``"input"`` or ``"last"``, the
            last iterate. Default: ``"input"``.
        transform: differentiable callable in front of the model for the loss only, from rows (r,
            *S), their identities (r,), the number of the step and the seed to r rows, such as
            ``input_diversity()``, whose defaults are ``"input-diversity"``. Success is checked on
            the plain rows, so that each gradient costs a further query, and so does the last loss
            of a trajectory if losses are compared (``hmcam``, ``auto_pgd``, restarts).
            ``max_queries`` pays for two queries an answer. Default: None.

    Returns:
        An ``AttackResult``, after 2 queries and 1 gradient per sample.

    Raises:
        ValueError: if an argument is out of range, x leaves the box, x or the clean outputs hold
            NaN, a label has no column in the outputs, or the model has no gradient.
        TypeError: if x is not a floating point tensor.

    References:
        Goodfellow, Shlens, Szegedy, "Explaining and harnessing adversarial examples", ICLR 2015.
    """

def frank_wolfe(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    eps: float,
    norm: str = "linf",
    step_fraction: float = 0.5,
    momentum: float = 0.9,
    num_steps: int = 20,
    schedule: str = "constant",
    momentum_init: str = "zero",
    box: str = "clip",
    x_init: Tensor | None = None,
    max_queries: int | None = None,
    stop_on_success: bool = True,
    targeted: bool = False,
    targets: Tensor | None = None,
    mask: Tensor | None = None,
    clip_values: ClipValues = (0.0, 1.0),
    outputs: str = "logits",
    batch_size: int = 256,
    sample_ids: Tensor | None = None,
    device: torch.device | str | None = None,
    callback: Callback | None = None,
    seed: int | None = None,
    pad_rows: int = 0,
    channels_last: bool = False,
    compile: bool = False,
    amp: bool = False,
    detector: Detector | None = None,
    detector_weight: float = 1.0,
    detector_loss: str = "auto",
    loss: str | Loss = "ce",
    criterion: Judge | None = None,
    on_failure: str = "input",
    transform: str | Transform | None = None,
) -> AttackResult:
    """Frank-Wolfe white-box attack with momentum.

    Solves ``min_x f(x) s.t. ||x - x_ori||_p <= eps`` (2.3.1), f being minus the loss that ``loss=``
    names: the cross-entropy of the target, or minus that of the label to leave. Algorithm 1 with
    momentum: ``m_t = beta m_{t-1} + (1 - beta) grad f(x_t)``, ``v_t = argmin_v <v, m_t>``,
    ``x_{t+1} = x_t + gamma (v_t - x_t)``. Nothing is projected: the iterates are convex
    combinations of points of the ball, and their distance to x_ori is at most ``eps (1 - (1 -
    gamma)^T)`` with a constant gamma. One step with gamma = 1 is FGSM.

    Args:
        model: ``nn.Module`` or callable from (R, *S) to class scores (R, K). It normalises inside.
        x: inputs, (N, *S), float, inside ``clip_values``.
        y: true classes, (N,), or the classes to reach if ``targeted``. Default: None, the model's
            prediction.
        eps: radius of the ball, in the units of x (8/255, not 8).
        norm: of the ball, ``"linf"``, ``"l2"`` or ``"l1"``. Default: linf.
        step_fraction: gamma, the fraction of the way to the vertex, in (0, 1]. Default: 0.5.
        momentum: beta, in [0, 1). Default: 0.9.
        num_steps: T, the most steps. Default: 20.
        schedule: ``"constant"``, as the authors' white-box program. ``"inverse_sqrt"``: the
            constant ``gamma / sqrt(T)`` of Theorem 2.4.4. ``"plateau"``, as their black-box
            program: gamma until f falls by less than 0.1 % over five iterates, then ``gamma /
            sqrt(3)``, ``gamma / sqrt(4)``, and so on.
        momentum_init: ``"zero"``, as the reference implementation (under the sign a bias-corrected
            average), or ``"gradient"``, the printed ``m_{-1} = grad f(x_0)``, which freezes the
            first direction for long. Default: zero.
        box: ``"clip"`` clips each step to the box, as the authors do. ``"vertex"`` takes the vertex
            of the intersection of ball and box, so that the gap in the trace is that of the problem
            solved. In L1 take ``"vertex"``: the ball's own vertices lie far outside the box, and
            clipping leaves little of them. Default: clip.
        x_init: x_0, (N, *S), in the box and within eps of x, checked for one query each. Masked
            coordinates take x's values. Default: None, x.
        max_queries: most forward rows charged to a sample, the clean check included. None: no
            limit.
        stop_on_success: True stops a sample at its first success. Default: True.
        targeted: True if y (or ``targets``) are classes to reach, not classes to leave. Default:
            False.
        targets: classes to reach, (N,) int64. They make the attack targeted, and y is not used
            then. Default: None.
        mask: 0/1 or bool, broadcastable to x. Only coordinates where it is nonzero change. Default:
            None, all may change.
        clip_values: the box (lower, upper), numbers or one value per feature. Default: (0, 1).
        outputs: what the model returns, ``"logits"`` or ``"probabilities"``. Default: logits.
        batch_size: most rows in one model call. It never changes a decision. Default: 256.
        sample_ids: (N,) int64 identities that key the random streams. Default: None, a fingerprint
            of each sample's float32 bits.
        device: where inputs go for models without parameters. Default: None, the device of x.
        callback: called with a ``Progress`` after each round of model calls. Default: None.
        seed: of the random streams. Default: None, which draws one and records it in the result.
        pad_rows: pad smaller model calls to this many rows, for bit-for-bit equal results over
            batch sizes. Default: 0.
        channels_last: True hands images (R, C, H, W) to the model in channels-last memory, and
            holds its convolution weights so. Results change by rounding. Default: False.
        compile: True calls the network through ``torch.compile``. Results change by rounding.
            Default: False.
        amp: True computes gradients in bfloat16 under ``torch.autocast``. Each success is verified
            by a forward in float32, for a further query, and ``max_queries`` pays for both. The
            clean check and candidates without a gradient are in float32. Default: False.
        detector: fitted to the model, and calibrated. A success must then also be accepted by the
            detector, and each row that the detector needs is a query: with S squeezed copies one
            answer costs 1 + S queries. Default: None.
        detector_weight: factor, > 0, of the penalty that the loss gets for rejected rows.
            Default: 1.
        detector_loss: that penalty. ``"penalty"``: ``max(0, score - threshold)`` over the
            interquartile range of the clean scores, once a row reaches the goal. ``"hinges"``: the
            margins of a row and of all its squeezed copies, below ``log((K - 1) (2 - t) / t)`` for
            the threshold t. If that is negative, of rejected rows only.
            ``"none"``: an attack that does not know the detector, with the same test of success.
            ``"auto"``: the form that the detector names. Attacks inside a ball then ascend their
            own loss until a row reaches the goal, and descend the penalty alone from then on.
            Default: ``"auto"``.
        loss: ascended by the attack: ``"ce"``, ``"margin"``, ``"probability_margin"``, ``"dlr"``,
            ``"mean-logits"``, or a callable from the model's outputs (r, K) and the positions (r,)
            of their samples in x to (r,) numbers, such as the inner product with a target's
            embedding. A callable is ascended as it is, targeted or not. The probability margin is
            ``max_{j != y} p_j - p_y`` of the softmax. ``"dlr"`` is the margin over the difference
            of the largest and third largest score, and with fewer than four classes the margin.
            ``"mean-logits"`` is the margin of the mean logits of the members of a
            ``JointEnsemble`` inside the model. Default: ``"ce"``.
        criterion: callable from the same to (r,) bool, True for a success, for models whose outputs
            are no class scores. Default: None, the predicted class differs from y, or is the
            target.
        on_failure: content of ``x_adv`` where nothing succeeded, ``"input"`` or ``"last"``, the
            last iterate. Default: ``"input"``.
        transform: differentiable callable in front of the model for the loss only, from rows (r,
            *S), their identities (r,), the number of the step and the seed to r rows, such as
            ``input_diversity()``, whose defaults are ``"input-diversity"``. Success is checked on
            the plain rows, so that each gradient costs a further query, and so does the last loss
            of a trajectory if losses are compared (``hmcam``, ``auto_pgd``, restarts).
            ``max_queries`` pays for two queries an answer. Default: None.

    Returns:
        An ``AttackResult``. A query is one row forward: the clean check, and one check per iterate,
        which is at the same time the forward of the next gradient. With ``x_init`` there is one
        more for its check. ``gradients`` counts the iterations, 0 for rows that are adversarial
        from the start. ``trace["gap"]`` and ``trace["loss"]`` (T, N) hold the Frank-Wolfe gap
        ``max_v <v - x_t, -grad f(x_t)>`` and f at each x_t from which a step was taken.

    Raises:
        ValueError: if an argument is out of range, x or x_init leaves the box, x_init leaves the
            ball, x or the clean outputs hold NaN, a label has no column in the outputs, or the
            model has no gradient.
        TypeError: if x is not a floating point tensor.

    Differences from the paper:
        The authors' untargeted step moves away from the vertex and is then projected back. This
        implementation takes the paper's convex step in both modes. The authors' L1 step is no
        linear minimisation. This one moves the one coordinate of largest slope.

    References:
        Chen, Zhou, Yi, Gu, "A Frank-Wolfe framework for efficient and effective adversarial
        attacks", AAAI 2020. Jinghui Chen, dissertation, UCLA 2021, chapter 2 (the equation and
        algorithm numbers).
    """

def frank_wolfe_black_box(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    eps: float,
    norm: str = "linf",
    step_fraction: float = 0.5,
    momentum: float = 0.97,
    num_directions: int = 25,
    delta: float = 0.01,
    sensing: str = "gaussian",
    clip_probes: bool = False,
    schedule: str = "plateau",
    momentum_init: str = "zero",
    box: str = "clip",
    max_queries: int = 10_000,
    stop_on_success: bool = True,
    targeted: bool = False,
    targets: Tensor | None = None,
    mask: Tensor | None = None,
    clip_values: ClipValues = (0.0, 1.0),
    outputs: str = "logits",
    batch_size: int = 256,
    sample_ids: Tensor | None = None,
    device: torch.device | str | None = None,
    callback: Callback | None = None,
    seed: int | None = None,
    pad_rows: int = 0,
    channels_last: bool = False,
    compile: bool = False,
    detector: Detector | None = None,
    detector_weight: float = 1.0,
    detector_loss: str = "auto",
    loss: str | Loss = "ce",
    criterion: Judge | None = None,
    on_failure: str = "input",
) -> AttackResult:
    """Frank-Wolfe score-based attack, along gradients estimated by symmetric differences.

    Solves ``min_x f(x) s.t. ||x - x_ori||_p <= eps`` (2.3.1) by Algorithm 2: ``frank_wolfe`` with
    ``q_t = 1 / (2 delta b) sum_i (f(x_t + delta u_i) - f(x_t - delta u_i)) u_i`` (Algorithm 3) for
    the gradient. All samples run side by side, each with directions of its own.

    Args:
        model: ``nn.Module``, or any callable from (R, *S) to class scores (R, K). Normalisation
            lives inside.
        x: inputs, (N, *S), float, inside ``clip_values``.
        y: true classes, (N,), or the classes to reach if ``targeted``. Default: None, the model's
            prediction.
        eps: radius of the ball, in the units of x (8/255, not 8).
        norm: of the ball, ``"linf"``, ``"l2"`` or ``"l1"``. Default: linf.
        step_fraction: gamma, the fraction of the way to the vertex, in (0, 1]. Default: 0.5. With
            momentum 0.97 that is our choice. The pair (0.3, 0.99) reproduces the paper's table.
        momentum: beta, in [0, 1). Default: 0.97.
        num_directions: b, >= 1. An iteration costs 2 b queries and one for its check. Default: 25.
        delta: length of a probe per unit of u, in the units of x. Default: 0.01.
        sensing: ``"gaussian"`` or ``"sphere"``, the law of the directions. Default: gaussian.
        clip_probes: True clips the probes to the box, for a model that takes nothing else. Default:
            False.
        schedule: ``"constant"``, as the authors' white-box program. ``"inverse_sqrt"``: the
            constant ``gamma / sqrt(T)`` of Theorem 2.4.4. ``"plateau"``, as their black-box
            program: gamma until f falls by less than 0.1 % over five iterates, then ``gamma /
            sqrt(3)``, ``gamma / sqrt(4)``, and so on.
        momentum_init: ``"zero"``, as the reference implementation (under the sign a bias-corrected
            average), or ``"gradient"``, the printed ``m_{-1} = grad f(x_0)``, which freezes the
            first direction for long. Default: zero.
        box: ``"clip"`` clips each step to the box, as the authors do. ``"vertex"`` takes the vertex
            of the intersection of ball and box, so that the gap in the trace is that of the problem
            solved. In L1 take ``"vertex"``: the ball's own vertices lie far outside the box, and
            clipping leaves little of them. Default: clip.
        max_queries: most forward rows per sample. An iteration that does not fit into the rest is
            not begun. Default: 10,000.
        stop_on_success: True stops a sample at its first success. Default: True.
        targeted: True if y (or ``targets``) are classes to reach, not classes to leave. Default:
            False.
        targets: classes to reach, (N,) int64. They make the attack targeted, and y is not used
            then. Default: None.
        mask: 0/1 or bool, broadcastable to x. Only coordinates where it is nonzero change. Default:
            None, all may change.
        clip_values: the box (lower, upper), numbers or one value per feature. Default: (0, 1).
        outputs: what the model returns, ``"logits"`` or ``"probabilities"``. Default: logits.
        batch_size: most rows in one model call. It never changes a decision. Default: 256.
        sample_ids: (N,) int64 identities that key the random streams. Default: None, a fingerprint
            of each sample's float32 bits.
        device: where inputs go for models without parameters. Default: None, the device of x.
        callback: called with a ``Progress`` after each round of model calls. Default: None.
        seed: of the random streams. Default: None, which draws one and records it in the result.
        pad_rows: pad smaller model calls to this many rows, for bit-for-bit equal results over
            batch sizes. Default: 0.
        channels_last: True hands images (R, C, H, W) to the model in channels-last memory, and
            holds its convolution weights so. Results change by rounding. Default: False.
        compile: True calls the network through ``torch.compile``. Results change by rounding.
            Default: False.
        detector: fitted to the model, and calibrated. A success must then also be accepted by the
            detector, and each row that the detector needs is a query: with S squeezed copies one
            answer costs 1 + S queries. Default: None.
        detector_weight: factor, > 0, of the penalty that the loss gets for rejected rows.
            Default: 1.
        detector_loss: that penalty. ``"penalty"``: ``max(0, score - threshold)`` over the
            interquartile range of the clean scores, once a row reaches the goal. ``"hinges"``: the
            margins of a row and of all its squeezed copies, below ``log((K - 1) (2 - t) / t)`` for
            the threshold t. If that is negative, of rejected rows only.
            ``"none"``: an attack that does not know the detector, with the same test of success.
            ``"auto"``: the form that the detector names. Attacks inside a ball then ascend their
            own loss until a row reaches the goal, and descend the penalty alone from then on.
            Default: ``"auto"``.
        loss: ascended by the attack: ``"ce"``, ``"margin"``, ``"probability_margin"``, ``"dlr"``,
            ``"mean-logits"``, or a callable from the model's outputs (r, K) and the positions (r,)
            of their samples in x to (r,) numbers, such as the inner product with a target's
            embedding. A callable is ascended as it is, targeted or not. The probability margin is
            ``max_{j != y} p_j - p_y`` of the softmax. ``"dlr"`` is the margin over the difference
            of the largest and third largest score, and with fewer than four classes the margin.
            ``"mean-logits"`` is the margin of the mean logits of the members of a
            ``JointEnsemble`` inside the model. Default: ``"ce"``.
        criterion: callable from the same to (r,) bool, True for a success, for models whose outputs
            are no class scores. Default: None, the predicted class differs from y, or is the
            target.
        on_failure: content of ``x_adv`` where nothing succeeded, ``"input"`` or ``"last"``, the
            last iterate. Default: ``"input"``.

    Returns:
        An ``AttackResult``. After k iterations ``queries`` is ``1 + k (2 b + 1)``: the clean check,
        the probes and the check of each iterate. ``trace["gap"]`` and ``trace["loss"]`` (T, N), T
        being the iterations that the budget allows, hold the Frank-Wolfe gap of the estimated
        gradient and f at each x_t from which a step was taken.

    Raises:
        ValueError: if an argument is out of range, x leaves the box, x or the clean outputs hold
            NaN, a label has no column in the outputs, or the model returns no scores.
        TypeError: if x is not a floating point tensor.

    Differences from the paper:
        The reference implementation does not count the check of each iterate. It is charged here.
        The sphere's directions have length sqrt(D) as in the reference implementation, where the
        paper has 1. As there, probes may leave the box by a few delta, unless they are clipped. For
        untargeted attacks the authors' ``"plateau"`` watches the loss that should rise, and slows
        down when things go well. This one watches f. ``"inverse_sqrt"`` takes the T that the budget
        allows.

    References:
        Chen, Zhou, Yi, Gu, "A Frank-Wolfe framework for efficient and effective adversarial
        attacks", AAAI 2020. Jinghui Chen, dissertation, UCLA 2021, chapter 2 (the equation and
        algorithm numbers).
    """

def hmcam(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    eps: float,
    norm: str = "linf",
    step_size: float = 0.005,
    num_steps: int = 50,
    num_transitions: int = 2,
    beta1: float = 0.95,
    beta2: float = 0.999,
    keep_samples: bool = True,
    step_rule: str = "adaptive",
    start: str = "input",
    delta: float = 1e-07,
    delta_inside: bool = False,
    grad_scale: float = 1.0,
    temperature: float = 1.0,
    kinetic: bool = False,
    continue_from: str = "state",
    targeted: bool = False,
    targets: Tensor | None = None,
    mask: Tensor | None = None,
    max_queries: int | None = None,
    clip_values: ClipValues = (0.0, 1.0),
    outputs: str = "logits",
    batch_size: int = 256,
    sample_ids: Tensor | None = None,
    device: torch.device | str | None = None,
    callback: Callback | None = None,
    seed: int | None = None,
    pad_rows: int = 0,
    channels_last: bool = False,
    compile: bool = False,
    amp: bool = False,
    detector: Detector | None = None,
    detector_weight: float = 1.0,
    detector_loss: str = "auto",
    loss: str | Loss = "ce",
    criterion: Judge | None = None,
    stop_on_success: bool = False,
    on_failure: str = "input",
    transform: str | Transform | None = None,
) -> AttackResult:
    """Hamiltonian Monte Carlo with accumulated momentum (HMCAM): S adversarial examples per sample.

    Each is the end of a transition of T adaptive steps with a Metropolis-Hastings test. The chain
    explores ``p(x') ~ exp(J(x') / tau)`` on ``||x' - x||_p <= eps`` (5), J being the loss that is
    ascended. A transition (Algorithm 2) takes T steps (11) with moments that start from zero, and
    is accepted with probability ``min(1, exp((J_new - J_old) / tau))``. Otherwise the chain stays
    where it is. Steps have no random part: after a rejection the next transition makes the same
    proposal again, with a new draw. The default step size is large enough for most coordinates to
    move by eps at once. An unsaturated one (1e-4) transfers worse than PGD.

    Args:
        model: ``nn.Module`` or callable from (R, *S) to class scores (R, K). It normalises inside.
        x: inputs, (N, *S), float, inside ``clip_values``.
        y: true classes, (N,), or the classes to reach if ``targeted``. Default: None, the model's
            prediction.
        eps: radius of the ball, in the units of x (8/255, not 8).
        norm: of the ball, ``"linf"``, ``"l2"`` or ``"l1"``. Default: linf.
        step_size: alpha of the adaptive step. Default: 5e-3.
        num_steps: T, the steps of a transition. Default: 50.
        num_transitions: S, the transitions. With 1 there is no test, and the attack is ``ai_fgsm``.
            Default: 2.
        beta1: decay of the average of gradients, in [0, 1). Default: 0.95.
        beta2: decay of the average of squared gradients, in [0, 1). Default: 0.999.
        keep_samples: True returns the chain in ``samples``. Otherwise each state goes to the
            callback only, in ``Progress.samples``. Default: True.
        step_rule: ``"sign"``: ``alpha sgn(v)`` (8). ``"adaptive"``: ``sgn(v)`` times, for each
            coordinate, ``min(eps, sqrt(1 - beta2^t) / (1 - beta1^t) alpha / sqrt(e))`` (11), e
            being the largest so far of the averages ``e_t = beta2 e_{t-1} + (1 - beta2) g_t^2``.
            ``"corrected"``: the same without the second moment, ``min(eps, alpha / (1 - beta1^t))
            sgn(v)``. In L2 and L1, ``v / ||v||_p`` stands for ``sgn(v)``.
        start: ``"input"``, or ``"uniform"``, a point drawn uniformly from the ball and clipped to
            the box. Default: input.
        delta: small constant under e, > 0. Default: 1e-7.
        delta_inside: True adds delta inside the root of e, as the paper prints. False adds it to
            the root, as the reference implementation. Default: False.
        grad_scale: factor of every gradient. Only the adaptive step depends on it. 1 is the
            gradient of each sample's own loss. 1/B is what the authors' mean over batches of B
            samples gives. Default: 1.
        temperature: tau (3), > 0. Default: 1.
        kinetic: True adds ``mean |v_new| - mean |v_old|`` to the exponent, the momenta at the end
            of this transition and of the one that led to the present position (0 at first).
            Default: False.
        continue_from: ``"state"``, or ``"proposal"`` to imitate the reference implementation.
            Default: state.
        targeted: True if y (or ``targets``) are classes to reach, not classes to leave. Default:
            False.
        targets: classes to reach, (N,) int64. They make the attack targeted, and y is not used
            then. Default: None.
        mask: 0/1 or bool, broadcastable to x. Only coordinates where it is nonzero change. Default:
            None, all may change.
        max_queries: most forward rows charged to a sample, the clean check included. None: no
            limit.
        clip_values: the box (lower, upper), numbers or one value per feature. Default: (0, 1).
        outputs: what the model returns, ``"logits"`` or ``"probabilities"``. Default: logits.
        batch_size: most rows in one model call. It never changes a decision. Default: 256.
        sample_ids: (N,) int64 identities that key the random streams. Default: None, a fingerprint
            of each sample's float32 bits.
        device: where inputs go for models without parameters. Default: None, the device of x.
        callback: called with a ``Progress`` after each round of model calls. Default: None.
        seed: of the random streams. Default: None, which draws one and records it in the result.
        pad_rows: pad smaller model calls to this many rows, for bit-for-bit equal results over
            batch sizes. Default: 0.
        channels_last: True hands images (R, C, H, W) to the model in channels-last memory, and
            holds its convolution weights so. Results change by rounding. Default: False.
        compile: True calls the network through ``torch.compile``. Results change by rounding.
            Default: False.
        amp: True computes gradients in bfloat16 under ``torch.autocast``. Each success is verified
            by a forward in float32, for a further query, and ``max_queries`` pays for both. The
            clean check and candidates without a gradient are in float32. Default: False.
        detector: fitted to the model, and calibrated. A success must then also be accepted by the
            detector, and each row that the detector needs is a query: with S squeezed copies one
            answer costs 1 + S queries. Default: None.
        detector_weight: factor, > 0, of the penalty that the loss gets for rejected rows.
            Default: 1.
        detector_loss: that penalty. ``"penalty"``: ``max(0, score - threshold)`` over the
            interquartile range of the clean scores, once a row reaches the goal. ``"hinges"``: the
            margins of a row and of all its squeezed copies, below ``log((K - 1) (2 - t) / t)`` for
            the threshold t. If that is negative, of rejected rows only.
            ``"none"``: an attack that does not know the detector, with the same test of success.
            ``"auto"``: the form that the detector names. Attacks inside a ball then ascend their
            own loss until a row reaches the goal, and descend the penalty alone from then on.
            Default: ``"auto"``.
        loss: ascended by the attack: ``"ce"``, ``"margin"``, ``"probability_margin"``, ``"dlr"``,
            ``"mean-logits"``, or a callable from the model's outputs (r, K) and the positions (r,)
            of their samples in x to (r,) numbers, such as the inner product with a target's
            embedding. A callable is ascended as it is, targeted or not. The probability margin is
            ``max_{j != y} p_j - p_y`` of the softmax. ``"dlr"`` is the margin over the difference
            of the largest and third largest score, and with fewer than four classes the margin.
            ``"mean-logits"`` is the margin of the mean logits of the members of a
            ``JointEnsemble`` inside the model. Default: ``"ce"``.
        criterion: callable from the same to (r,) bool, True for a success, for models whose outputs
            are no class scores. Default: None, the predicted class differs from y, or is the
            target.
        stop_on_success: True ends a chain at its first success, accepted or not. Default: False.
        on_failure: content of ``x_adv`` where nothing succeeded, ``"input"`` or ``"last"``, the
            last iterate. Default: ``"input"``.
        transform: differentiable callable in front of the model for the loss only, from rows (r,
            *S), their identities (r,), the number of the step and the seed to r rows, such as
            ``input_diversity()``, whose defaults are ``"input-diversity"``. Success is checked on
            the plain rows, so that each gradient costs a further query, and so does the last loss
            of a trajectory if losses are compared (``hmcam``, ``auto_pgd``, restarts).
            ``max_queries`` pays for two queries an answer. Default: None.

    Returns:
        An ``AttackResult``. ``x_adv`` is the state of highest loss among those that succeed, and,
        if none does, the last iterate on the way that did. ``samples`` (S, N, *S) holds the states.
        For a sample that left early (by ``stop_on_success`` or budget) the last one is repeated.
        ``trace["loss"]`` and ``trace["accepted"]`` (S, N) go with them. Queries are 1 + S T, and
        one more for a random start. Gradients are S T.

    Raises:
        ValueError: if an argument is out of range, x leaves the box, x or the clean outputs hold
            NaN, a label has no column in the outputs, or the model has no gradient.
        TypeError: if x is not a floating point tensor.

    Differences from the paper:
        The potential is U = -J, for which the printed sign of the test is the textbook's and a rise
        of the loss is always accepted, targeted or not. The reference implementation forgets the
        flip. The test is made for each sample, not for each pixel. In the reference implementation
        the kinetic terms cancel by aliasing, so they are off (``kinetic``), and the chain moves on
        to the proposal whatever the outcome (``continue_from="proposal"``).

    References:
        Wang, Li, Liu, Lin, "A Hamiltonian Monte Carlo method for probabilistic adversarial attack
        and learning", IEEE TPAMI 2022, Algorithm 2.
    """

def i_fgm(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    eps: float | None = None,
    norm: str = "linf",
    num_steps: int = 10,
    search: str = "bisection",
    max_radius: float | None = None,
    resolution: float | None = None,
    confidence: float = 0.0,
    targets: Tensor | str | None = None,
    max_queries: int | None = None,
    targeted: bool = False,
    mask: Tensor | None = None,
    clip_values: ClipValues = (0.0, 1.0),
    outputs: str = "logits",
    batch_size: int = 256,
    sample_ids: Tensor | None = None,
    device: torch.device | str | None = None,
    callback: Callback | None = None,
    seed: int | None = None,
    pad_rows: int = 0,
    channels_last: bool = False,
    compile: bool = False,
    amp: bool = False,
    detector: Detector | None = None,
    detector_weight: float = 1.0,
    detector_loss: str = "auto",
) -> AttackResult:
    """Find the smallest radius at which a few normalised steps succeed: iterated FGM.

    Approximates ``min r`` such that ``x_{k+1} = clip(x_k + (r / T) d(grad J(x_k)))`` from x meets
    the goal within T steps, J being the cross-entropy to leave (or minus that of the target) and d
    its gradient's sign in L-inf, ``g / ||g||_p`` in L2 and L1: steps that never leave the ball of
    radius r. ``num_steps=1`` is FGM.

    Args:
        model: ``nn.Module``, or a differentiable callable from (R, *S) to class scores (R, K).
            Normalisation lives inside.
        x: inputs, (N, *S), float, inside ``clip_values``.
        y: true classes, (N,), or the classes to reach if ``targeted``. Default: None, the model's
            prediction.
        eps: radius in ``norm`` within which an adversarial counts as success, in the units of x.
            Default: None, any adversarial counts.
        norm: of the steps, of ``distance`` and of eps, ``"linf"``, ``"l2"`` or ``"l1"``. Default:
            linf.
        num_steps: T, the most steps at a radius. Default: 10.
        search: ``"bisection"``: the resolution and its doubles, upwards, until one succeeds, and
            then the midpoint of a failure and a success, down to the resolution. ``"grid"``: every
            multiple of the resolution, upwards, until one succeeds. Default: bisection.
        max_radius: the largest radius, in the units of x. Default: None, that of Table 4 times the
            width of the box: 1 in L-inf, 10 in L2, 1000 in L1.
        resolution: of the radius, in the units of x. Default: None, a thousandth of max_radius, as
            in Table 4.
        confidence: kappa >= 0, the margin between logits (or logarithms of probabilities) that a
            success must have. Default: 0.
        targets: classes to reach, (N,) int64, or a case. ``"average"``: a random wrong class for
            each sample. ``"best"``: the wrong class of the smallest value by the attack's own rule.
            ``"worst"``: the one of the largest. ``"all"``: the best case, with the examples of all
            K - 1 wrong classes in ``samples`` (K - 1, N, *S), their classes in ``trace["target"]``
            and ``trace["success"]``, each (K - 1, N). ``art_ext.core.metrics.case_distortions``
            reads them. All but ``"average"`` attack all wrong classes side by side, and share
            max_queries evenly among them. Default: None.
        max_queries: most forward rows charged to a sample, the clean check included. None: no
            limit.
        targeted: True if y (or ``targets``) are classes to reach, not classes to leave. Default:
            False.
        mask: 0/1 or bool, broadcastable to x. Only coordinates where it is nonzero change. Default:
            None, all may change.
        clip_values: the box (lower, upper), numbers or one value per feature. Default: (0, 1).
        outputs: what the model returns, ``"logits"`` or ``"probabilities"``. Default: logits.
        batch_size: most rows in one model call. It never changes a decision. Default: 256.
        sample_ids: (N,) int64 identities that key the random streams. Default: None, a fingerprint
            of each sample's float32 bits.
        device: where inputs go for models without parameters. Default: None, the device of x.
        callback: called with a ``Progress`` after each round of model calls. Default: None.
        seed: of the random streams. Default: None, which draws one and records it in the result.
        pad_rows: pad smaller model calls to this many rows, for bit-for-bit equal results over
            batch sizes. Default: 0.
        channels_last: True hands images (R, C, H, W) to the model in channels-last memory, and
            holds its convolution weights so. Results change by rounding. Default: False.
        compile: True calls the network through ``torch.compile``. Results change by rounding.
            Default: False.
        amp: True computes gradients in bfloat16 under ``torch.autocast``. Each success is verified
            by a forward in float32, for a further query, and ``max_queries`` pays for both. The
            clean check and candidates without a gradient are in float32. Default: False.
        detector: fitted to the model, and calibrated. A success must then also be accepted by the
            detector, and each row that the detector needs is a query: with S squeezed copies one
            answer costs 1 + S queries. Default: None.
        detector_weight: factor, > 0, of the penalty that the loss gets for rejected rows.
            Default: 1.
        detector_loss: that penalty. ``"penalty"``: ``max(0, score - threshold)`` over the
            interquartile range of the clean scores, once a row reaches the goal. ``"hinges"``: the
            margins of a row and of all its squeezed copies, below ``log((K - 1) (2 - t) / t)`` for
            the threshold t. If that is negative, of rejected rows only.
            ``"none"``: an attack that does not know the detector, with the same test of success.
            ``"auto"``: the form that the detector names. Attacks inside a ball then ascend their
            own loss until a row reaches the goal, and descend the penalty alone from then on.
            Default: ``"auto"``.

    Returns:
        An ``AttackResult``. A query is one row forward: the clean check, whose gradient begins
        every run, and the check of each iterate. ``trace["radius"]`` (1, N) holds the smallest
        radius that succeeded, NaN if none did.

    Raises:
        ValueError: if an argument is out of range, x leaves the box, x or the clean outputs hold
            NaN, a label has no column in the outputs, or the model has no gradient.
        TypeError: if x is not a floating point tensor.

    Differences from the paper:
        The published comparator checks the last iterate of each r only. Here a success at any step
        ends the run at r, which is cheaper and at most as far.

    References:
        Kurakin, Goodfellow, Bengio, "Adversarial examples in the physical world", ICLR workshop
        2017. Sharma, master's thesis, 2018, section 4.3.1 (Table 4).
    """

def i_fgsm(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    eps: float,
    norm: str = "linf",
    num_steps: int = 10,
    step_size: float | None = None,
    targeted: bool = False,
    targets: Tensor | None = None,
    mask: Tensor | None = None,
    max_queries: int | None = None,
    clip_values: ClipValues = (0.0, 1.0),
    outputs: str = "logits",
    batch_size: int = 256,
    sample_ids: Tensor | None = None,
    device: torch.device | str | None = None,
    callback: Callback | None = None,
    seed: int | None = None,
    pad_rows: int = 0,
    channels_last: bool = False,
    compile: bool = False,
    amp: bool = False,
    detector: Detector | None = None,
    detector_weight: float = 1.0,
    detector_loss: str = "auto",
    loss: str | Loss = "ce",
    criterion: Judge | None = None,
    stop_on_success: bool = False,
    on_failure: str = "input",
    transform: str | Transform | None = None,
) -> AttackResult:
    """Iterate FGSM: ``x_{t+1} = P(x_t + alpha sgn(grad J(x_t)))`` from x itself (8).

    Args:
        model: ``nn.Module`` or callable from (R, *S) to class scores (R, K). It normalises inside.
        x: inputs, (N, *S), float, inside ``clip_values``.
        y: true classes, (N,), or the classes to reach if ``targeted``. Default: None, the model's
            prediction.
        eps: radius of the ball, in the units of x (8/255, not 8).
        norm: of the ball, ``"linf"``, ``"l2"`` or ``"l1"``. Default: linf.
        num_steps: T, the number of steps. Default: 10.
        step_size: alpha, in the units of x. Default: None, ``eps / T``.
        targeted: True if y (or ``targets``) are classes to reach, not classes to leave. Default:
            False.
        targets: classes to reach, (N,) int64. They make the attack targeted, and y is not used
            then. Default: None.
        mask: 0/1 or bool, broadcastable to x. Only coordinates where it is nonzero change. Default:
            None, all may change.
        max_queries: most forward rows charged to a sample, the clean check included. None: no
            limit.
        clip_values: the box (lower, upper), numbers or one value per feature. Default: (0, 1).
        outputs: what the model returns, ``"logits"`` or ``"probabilities"``. Default: logits.
        batch_size: most rows in one model call. It never changes a decision. Default: 256.
        sample_ids: (N,) int64 identities that key the random streams. Default: None, a fingerprint
            of each sample's float32 bits.
        device: where inputs go for models without parameters. Default: None, the device of x.
        callback: called with a ``Progress`` after each round of model calls. Default: None.
        seed: of the random streams. Default: None, which draws one and records it in the result.
        pad_rows: pad smaller model calls to this many rows, for bit-for-bit equal results over
            batch sizes. Default: 0.
        channels_last: True hands images (R, C, H, W) to the model in channels-last memory, and
            holds its convolution weights so. Results change by rounding. Default: False.
        compile: True calls the network through ``torch.compile``. Results change by rounding.
            Default: False.
        amp: True computes gradients in bfloat16 under ``torch.autocast``. Each success is verified
            by a forward in float32, for a further query, and ``max_queries`` pays for both. The
            clean check and candidates without a gradient are in float32. Default: False.
        detector: fitted to the model, and calibrated. A success must then also be accepted by the
            detector, and each row that the detector needs is a query: with S squeezed copies one
            answer costs 1 + S queries. Default: None.
        detector_weight: factor, > 0, of the penalty that the loss gets for rejected rows.
            Default: 1.
        detector_loss: that penalty. ``"penalty"``: ``max(0, score - threshold)`` over the
            interquartile range of the clean scores, once a row reaches the goal. ``"hinges"``: the
            margins of a row and of all its squeezed copies, below ``log((K - 1) (2 - t) / t)`` for
            the threshold t. If that is negative, of rejected rows only.
            ``"none"``: an attack that does not know the detector, with the same test of success.
            ``"auto"``: the form that the detector names. Attacks inside a ball then ascend their
            own loss until a row reaches the goal, and descend the penalty alone from then on.
            Default: ``"auto"``.
        loss: ascended by the attack: ``"ce"``, ``"margin"``, ``"probability_margin"``, ``"dlr"``,
            ``"mean-logits"``, or a callable from the model's outputs (r, K) and the positions (r,)
            of their samples in x to (r,) numbers, such as the inner product with a target's
            embedding. A callable is ascended as it is, targeted or not. The probability margin is
            ``max_{j != y} p_j - p_y`` of the softmax. ``"dlr"`` is the margin over the difference
            of the largest and third largest score, and with fewer than four classes the margin.
            ``"mean-logits"`` is the margin of the mean logits of the members of a
            ``JointEnsemble`` inside the model. Default: ``"ce"``.
        criterion: callable from the same to (r,) bool, True for a success, for models whose outputs
            are no class scores. Default: None, the predicted class differs from y, or is the
            target.
        stop_on_success: True stops a sample at its first success. Otherwise its last iterate that
            succeeded is reported. Default: False.
        on_failure: content of ``x_adv`` where nothing succeeded, ``"input"`` or ``"last"``, the
            last iterate. Default: ``"input"``.
        transform: differentiable callable in front of the model for the loss only, from rows (r,
            *S), their identities (r,), the number of the step and the seed to r rows, such as
            ``input_diversity()``, whose defaults are ``"input-diversity"``. Success is checked on
            the plain rows, so that each gradient costs a further query, and so does the last loss
            of a trajectory if losses are compared (``hmcam``, ``auto_pgd``, restarts).
            ``max_queries`` pays for two queries an answer. Default: None.

    Returns:
        An ``AttackResult``, after ``1 + T`` queries and T gradients per sample.

    Raises:
        ValueError: if an argument is out of range, x leaves the box, x or the clean outputs hold
            NaN, a label has no column in the outputs, or the model has no gradient.
        TypeError: if x is not a floating point tensor.

    References:
        Kurakin, Goodfellow, Bengio, "Adversarial examples in the physical world", ICLR workshop
        2017.
    """

def in_distribution(
    model: Model,
    generator: Generator,
    x: Tensor,
    y: Tensor | None = None,
    *,
    latents: Tensor | None = None,
    eps: float | None = None,
    norm: str = "l2",
    initialisation: str = "both",
    num_restarts: int = 3,
    init_steps: int = 300,
    init_step_size: float = 0.05,
    num_steps: int = 300,
    search_steps: int = 5,
    initial_const: float = 1.0,
    confidence: float = 0.0,
    step_size: float = 0.05,
    distance: str = "squared",
    warm_start: bool = False,
    abort_early: bool | str = True,
    image_range: tuple[float, float] | None = (0.0, 1.0),
    targets: Tensor | str | None = None,
    max_queries: int | None = None,
    targeted: bool = False,
    clip_values: ClipValues = (0.0, 1.0),
    outputs: str = "logits",
    batch_size: int = 256,
    sample_ids: Tensor | None = None,
    device: torch.device | str | None = None,
    callback: Callback | None = None,
    seed: int | None = None,
    pad_rows: int = 0,
    channels_last: bool = False,
    compile: bool = False,
    amp: bool = False,
    detector: Detector | None = None,
    detector_weight: float = 1.0,
    detector_loss: str = "auto",
) -> AttackResult:
    """In-distribution attack: the nearest adversarial among the images of a generator.

    Solves ``min_z D(G(z, y), x) + c max(0, kappa - margin(G(z, y)))`` by Adam on the latents z,
    with a search over c per sample, and keeps the adversarial of the smallest
    ``||G(z, y) - x||_2``. The margin is that of ``cw``, negative before the decision boundary.

    Args:
        model: ``nn.Module``, or a differentiable callable from (R, *S) to class scores (R, K).
            Normalisation lives inside.
        generator: a module or callable from standard Gaussian latents (R, d) and classes (R,) to
            images (R, *S), with the attributes ``latent_dim`` and ``num_classes``.
        x: inputs, (N, *S), float, inside ``clip_values``. The generator makes images of this shape.
        y: true classes, (N,), which are also what the generator is given, or the classes to reach
            if ``targeted``. The generator then gets the model's prediction of x, and so it does
            without y. Default: None, the model's prediction.
        latents: (N, d) of the nearest adversarials, NaN where there is none.
        eps: L2 radius within which an adversarial counts as success, in the units of x. Default:
            None, any adversarial counts.
        norm: of ``distance`` in the result and of eps, ``"l2"``, which is the only one. Default:
            l2.
        initialisation: ``"optimise"``: the latents whose image is nearest to x, of
            ``num_restarts`` searches from random ones. ``"given"``: those in ``latents``.
            ``"both"``: an attack from each, of which each sample keeps the better outcome. Samples
            without given latents have the first only. Default: both.
        num_restarts: searches for starting latents, each from a standard Gaussian draw, >= 1.
            Default: 3.
        init_steps: steps of Adam of each, down ``||G(z, y) - x||_2``, >= 0. Default: 300.
        init_step_size: their length, > 0. Default: 0.05.
        num_steps: iterations of each optimisation, >= 1. Default: 300.
        search_steps: optimisations per sample and start, each with its own c, >= 1. Default: 5.
        initial_const: the first c, > 0. Default: 1.
        confidence: kappa >= 0, the margin between logits (or logarithms of probabilities) that a
            success must have. Default: 0.
        step_size: of Adam, > 0, in the units of z. Default: 5e-2.
        distance: D in the objective, ``"squared"`` for ``||G(z, y) - x||_2^2`` or ``"plain"`` for
            ``||G(z, y) - x||_2``. Default: squared.
        warm_start: True begins each optimisation of the search at the latents where the last one
            ended, as the reference implementation. Default: False, at the starting latents.
        abort_early: True ends a sample's optimisation where its loss, compared every ``num_steps /
            10`` iterations, stands still, unless it has succeeded by then. ``"always"`` ends it
            then too, as the reference implementation. False never does. Default: True.
        image_range: range (lower, upper) of the generator's own images, which are mapped to
            ``clip_values``. None neither maps nor checks them. Default: (0, 1).
        targets: classes to reach, (N,) int64, or a case. ``"average"``: a random wrong class for
            each sample. ``"best"``: the wrong class of the smallest value by the attack's own rule.
            ``"worst"``: the one of the largest. ``"all"``: the best case, with the examples of all
            K - 1 wrong classes in ``samples`` (K - 1, N, *S), their classes in ``trace["target"]``
            and ``trace["success"]``, each (K - 1, N). ``art_ext.core.metrics.case_distortions``
            reads them. All but ``"average"`` attack all wrong classes side by side, and share
            max_queries evenly among them. Default: None.
        max_queries: most forward rows charged to a sample, the clean check included. None: no
            limit.
        targeted: True if y (or ``targets``) are classes to reach, not classes to leave. Default:
            False.
        clip_values: the box (lower, upper), numbers or one value per feature. Default: (0, 1).
        outputs: what the model returns, ``"logits"`` or ``"probabilities"``. Default: logits.
        batch_size: most rows in one model call. It never changes a decision. Default: 256.
        sample_ids: (N,) int64 identities that key the random streams. Default: None, a fingerprint
            of each sample's float32 bits.
        device: where inputs go for models without parameters. Default: None, the device of x.
        callback: called with a ``Progress`` after each round of model calls. Default: None.
        seed: of the random streams. Default: None, which draws one and records it in the result.
        pad_rows: pad smaller model calls to this many rows, for bit-for-bit equal results over
            batch sizes. Default: 0.
        channels_last: True hands images (R, C, H, W) to the model in channels-last memory, and
            holds its convolution weights so. Results change by rounding. Default: False.
        compile: True calls the network through ``torch.compile``. Results change by rounding.
            Default: False.
        amp: True computes gradients in bfloat16 under ``torch.autocast``. Each success is verified
            by a forward in float32, for a further query, and ``max_queries`` pays for both. The
            clean check and candidates without a gradient are in float32. Default: False.
        detector: fitted to the model, and calibrated. A success must then also be accepted by the
            detector, and each row that the detector needs is a query: with S squeezed copies one
            answer costs 1 + S queries. Default: None.
        detector_weight: factor, > 0, of the penalty that the loss gets for rejected rows.
            Default: 1.
        detector_loss: that penalty. ``"penalty"``: ``max(0, score - threshold)`` over the
            interquartile range of the clean scores, once a row reaches the goal. ``"hinges"``: the
            margins of a row and of all its squeezed copies, below ``log((K - 1) (2 - t) / t)`` for
            the threshold t. If that is negative, of rejected rows only.
            ``"none"``: an attack that does not know the detector, with the same test of success.
            ``"auto"``: the form that the detector names. Attacks inside a ball then ascend their
            own loss until a row reaches the goal, and descend the penalty alone from then on.
            Default: ``"auto"``.

    Returns:
        An ``AttackResult``. Where ``success`` holds, x_adv is exactly ``G(latents, y)``. A query is
        one row forward of the model: the clean check and one for each iteration. Rows of the
        generator are counted apart, in ``generator_rows`` and ``generator_gradients``: one of each
        for an iteration or a step of ``init_steps``, one row for the last image of each restart,
        and one row for the check of given latents. ``start_distance`` is the distance of x to the
        nearest start. ``trace`` is as in ``ead``. With ``initialisation="both"`` and given latents
        it has the steps from the given latents first, and ``max_queries`` is shared evenly between
        the two starts.

    Raises:
        ValueError: if an argument is out of range, x leaves the box, x, images or clean outputs
            hold NaN, a label has no column in the outputs, the model or the generator has no
            gradient, their numbers of classes or the shapes of images and inputs differ, latents
            are missing or have another shape, or their images are not x.
        TypeError: if x is not a floating point tensor.

    Differences from the paper:
        The text has D = ``||.||_2`` (``distance="plain"``) and 10,000 iterations, the reference
        implementation ``||.||_2^2``, 100 iterations and 4 values of c, both with a step of .01. In
        the 300 iterations here such steps end far from the nearest adversarial. Unlike the
        reference implementation, an optimisation is given up per sample, not per batch, each one
        starts again (``warm_start=True`` carries z over, as the reference implementation does), and
        starts are optimised with Adam. The reference implementation recreates its SGD at each start
        step, so that its momentum never acts.

    References:
        Jinghui Chen, "Evaluating and understanding adversarial robustness in deep learning",
        dissertation, UCLA 2021, section 4.7.2. Carlini, Wagner, "Towards evaluating the robustness
        of neural networks", IEEE S&P 2017 (the search).
    """

def m_pgd(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    eps: float,
    norm: str = "linf",
    num_steps: int = 40,
    step_size: float | None = None,
    decay: float = 1.0,
    normaliser: str = "l1",
    num_restarts: int = 1,
    keep_samples: bool = False,
    targeted: bool = False,
    targets: Tensor | None = None,
    mask: Tensor | None = None,
    max_queries: int | None = None,
    clip_values: ClipValues = (0.0, 1.0),
    outputs: str = "logits",
    batch_size: int = 256,
    sample_ids: Tensor | None = None,
    device: torch.device | str | None = None,
    callback: Callback | None = None,
    seed: int | None = None,
    pad_rows: int = 0,
    channels_last: bool = False,
    compile: bool = False,
    amp: bool = False,
    detector: Detector | None = None,
    detector_weight: float = 1.0,
    detector_loss: str = "auto",
    loss: str | Loss = "ce",
    criterion: Judge | None = None,
    stop_on_success: bool = False,
    on_failure: str = "input",
    transform: str | Transform | None = None,
) -> AttackResult:
    """MI-FGSM from a point drawn uniformly from the ball (MI-FGSM + PGD).

    Args:
        model: ``nn.Module`` or callable from (R, *S) to class scores (R, K). It normalises inside.
        x: inputs, (N, *S), float, inside ``clip_values``.
        y: true classes, (N,), or the classes to reach if ``targeted``. Default: None, the model's
            prediction.
        eps: radius of the ball, in the units of x (8/255, not 8).
        norm: of the ball, ``"linf"``, ``"l2"`` or ``"l1"``. Default: linf.
        num_steps: T, the number of steps. Default: 40.
        step_size: alpha, in the units of x. Default: None, ``2.5 eps / T``.
        decay: mu, >= 0. Default: 1.
        normaliser: ``"l1"`` as in the paper, ``"mean"`` as in its reference implementation, or
            ``"none"``.
            Default: l1.
        num_restarts: R, trajectories from R random points. More than 1 needs a random start. The
            first one is that of ``num_restarts=1``. The best outcome of each sample is reported: a
            success before a failure, then the higher loss. Samples that ``stop_on_success`` stops
            take part in no further restart. Default: 1.
        keep_samples: True returns the end of each restart in ``samples`` (R, N, *S): its last
            iterate that succeeded, or the last one. A sample that stopped early repeats its last
            end. Default: False.
        targeted: True if y (or ``targets``) are classes to reach, not classes to leave. Default:
            False.
        targets: classes to reach, (N,) int64. They make the attack targeted, and y is not used
            then. Default: None.
        mask: 0/1 or bool, broadcastable to x. Only coordinates where it is nonzero change. Default:
            None, all may change.
        max_queries: most forward rows charged to a sample, the clean check included. None: no
            limit.
        clip_values: the box (lower, upper), numbers or one value per feature. Default: (0, 1).
        outputs: what the model returns, ``"logits"`` or ``"probabilities"``. Default: logits.
        batch_size: most rows in one model call. It never changes a decision. Default: 256.
        sample_ids: (N,) int64 identities that key the random streams. Default: None, a fingerprint
            of each sample's float32 bits.
        device: where inputs go for models without parameters. Default: None, the device of x.
        callback: called with a ``Progress`` after each round of model calls. Default: None.
        seed: of the random streams. Default: None, which draws one and records it in the result.
        pad_rows: pad smaller model calls to this many rows, for bit-for-bit equal results over
            batch sizes. Default: 0.
        channels_last: True hands images (R, C, H, W) to the model in channels-last memory, and
            holds its convolution weights so. Results change by rounding. Default: False.
        compile: True calls the network through ``torch.compile``. Results change by rounding.
            Default: False.
        amp: True computes gradients in bfloat16 under ``torch.autocast``. Each success is verified
            by a forward in float32, for a further query, and ``max_queries`` pays for both. The
            clean check and candidates without a gradient are in float32. Default: False.
        detector: fitted to the model, and calibrated. A success must then also be accepted by the
            detector, and each row that the detector needs is a query: with S squeezed copies one
            answer costs 1 + S queries. Default: None.
        detector_weight: factor, > 0, of the penalty that the loss gets for rejected rows.
            Default: 1.
        detector_loss: that penalty. ``"penalty"``: ``max(0, score - threshold)`` over the
            interquartile range of the clean scores, once a row reaches the goal. ``"hinges"``: the
            margins of a row and of all its squeezed copies, below ``log((K - 1) (2 - t) / t)`` for
            the threshold t. If that is negative, of rejected rows only.
            ``"none"``: an attack that does not know the detector, with the same test of success.
            ``"auto"``: the form that the detector names. Attacks inside a ball then ascend their
            own loss until a row reaches the goal, and descend the penalty alone from then on.
            Default: ``"auto"``.
        loss: ascended by the attack: ``"ce"``, ``"margin"``, ``"probability_margin"``, ``"dlr"``,
            ``"mean-logits"``, or a callable from the model's outputs (r, K) and the positions (r,)
            of their samples in x to (r,) numbers, such as the inner product with a target's
            embedding. A callable is ascended as it is, targeted or not. The probability margin is
            ``max_{j != y} p_j - p_y`` of the softmax. ``"dlr"`` is the margin over the difference
            of the largest and third largest score, and with fewer than four classes the margin.
            ``"mean-logits"`` is the margin of the mean logits of the members of a
            ``JointEnsemble`` inside the model. Default: ``"ce"``.
        criterion: callable from the same to (r,) bool, True for a success, for models whose outputs
            are no class scores. Default: None, the predicted class differs from y, or is the
            target.
        stop_on_success: True stops a sample at its first success. Otherwise its last iterate that
            succeeded is reported. Default: False.
        on_failure: content of ``x_adv`` where nothing succeeded, ``"input"`` or ``"last"``, the
            last iterate. Default: ``"input"``.
        transform: differentiable callable in front of the model for the loss only, from rows (r,
            *S), their identities (r,), the number of the step and the seed to r rows, such as
            ``input_diversity()``, whose defaults are ``"input-diversity"``. Success is checked on
            the plain rows, so that each gradient costs a further query, and so does the last loss
            of a trajectory if losses are compared (``hmcam``, ``auto_pgd``, restarts).
            ``max_queries`` pays for two queries an answer. Default: None.

    Returns:
        An ``AttackResult``, after ``1 + R (T + 1)`` queries and R T gradients per sample.

    Raises:
        ValueError: if an argument is out of range, x leaves the box, x or the clean outputs hold
            NaN, a label has no column in the outputs, or the model has no gradient.
        TypeError: if x is not a floating point tensor.

    References:
        Wang, Li, Liu, Lin, "A Hamiltonian Monte Carlo method for probabilistic adversarial attack
        and learning", IEEE TPAMI 2022 (the comparator M-PGD).
    """

def mi_fgsm(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    eps: float,
    norm: str = "linf",
    num_steps: int = 10,
    step_size: float | None = None,
    decay: float = 1.0,
    keep_samples: int = 0,
    targeted: bool = False,
    targets: Tensor | None = None,
    mask: Tensor | None = None,
    max_queries: int | None = None,
    clip_values: ClipValues = (0.0, 1.0),
    outputs: str = "logits",
    batch_size: int = 256,
    sample_ids: Tensor | None = None,
    device: torch.device | str | None = None,
    callback: Callback | None = None,
    seed: int | None = None,
    pad_rows: int = 0,
    channels_last: bool = False,
    compile: bool = False,
    amp: bool = False,
    detector: Detector | None = None,
    detector_weight: float = 1.0,
    detector_loss: str = "auto",
    loss: str | Loss = "ce",
    criterion: Judge | None = None,
    stop_on_success: bool = False,
    on_failure: str = "input",
    transform: str | Transform | None = None,
) -> AttackResult:
    """Momentum iterative FGSM: ``v_t = mu v_{t-1} + g_t / ||g_t||_1``.

    The step is ``x_{t+1} = P(x_t + alpha sgn(v_t))``.

    Args:
        model: ``nn.Module`` or callable from (R, *S) to class scores (R, K). It normalises inside.
        x: inputs, (N, *S), float, inside ``clip_values``.
        y: true classes, (N,), or the classes to reach if ``targeted``. Default: None, the model's
            prediction.
        eps: radius of the ball, in the units of x (8/255, not 8).
        norm: of the ball, ``"linf"``, ``"l2"`` or ``"l1"``. Default: linf.
        num_steps: T, the number of steps. Default: 10.
        step_size: alpha, in the units of x. Default: None, ``eps / T``.
        decay: mu, >= 0. Default: 1.
        keep_samples: S, at most T. The last S iterates of each sample are returned in ``samples``
            (S, N, *S). A sample that made fewer steps repeats its last one. Default: 0, none.
        targeted: True if y (or ``targets``) are classes to reach, not classes to leave. Default:
            False.
        targets: classes to reach, (N,) int64. They make the attack targeted, and y is not used
            then. Default: None.
        mask: 0/1 or bool, broadcastable to x. Only coordinates where it is nonzero change. Default:
            None, all may change.
        max_queries: most forward rows charged to a sample, the clean check included. None: no
            limit.
        clip_values: the box (lower, upper), numbers or one value per feature. Default: (0, 1).
        outputs: what the model returns, ``"logits"`` or ``"probabilities"``. Default: logits.
        batch_size: most rows in one model call. It never changes a decision. Default: 256.
        sample_ids: (N,) int64 identities that key the random streams. Default: None, a fingerprint
            of each sample's float32 bits.
        device: where inputs go for models without parameters. Default: None, the device of x.
        callback: called with a ``Progress`` after each round of model calls. Default: None.
        seed: of the random streams. Default: None, which draws one and records it in the result.
        pad_rows: pad smaller model calls to this many rows, for bit-for-bit equal results over
            batch sizes. Default: 0.
        channels_last: True hands images (R, C, H, W) to the model in channels-last memory, and
            holds its convolution weights so. Results change by rounding. Default: False.
        compile: True calls the network through ``torch.compile``. Results change by rounding.
            Default: False.
        amp: True computes gradients in bfloat16 under ``torch.autocast``. Each success is verified
            by a forward in float32, for a further query, and ``max_queries`` pays for both. The
            clean check and candidates without a gradient are in float32. Default: False.
        detector: fitted to the model, and calibrated. A success must then also be accepted by the
            detector, and each row that the detector needs is a query: with S squeezed copies one
            answer costs 1 + S queries. Default: None.
        detector_weight: factor, > 0, of the penalty that the loss gets for rejected rows.
            Default: 1.
        detector_loss: that penalty. ``"penalty"``: ``max(0, score - threshold)`` over the
            interquartile range of the clean scores, once a row reaches the goal. ``"hinges"``: the
            margins of a row and of all its squeezed copies, below ``log((K - 1) (2 - t) / t)`` for
            the threshold t. If that is negative, of rejected rows only.
            ``"none"``: an attack that does not know the detector, with the same test of success.
            ``"auto"``: the form that the detector names. Attacks inside a ball then ascend their
            own loss until a row reaches the goal, and descend the penalty alone from then on.
            Default: ``"auto"``.
        loss: ascended by the attack: ``"ce"``, ``"margin"``, ``"probability_margin"``, ``"dlr"``,
            ``"mean-logits"``, or a callable from the model's outputs (r, K) and the positions (r,)
            of their samples in x to (r,) numbers, such as the inner product with a target's
            embedding. A callable is ascended as it is, targeted or not. The probability margin is
            ``max_{j != y} p_j - p_y`` of the softmax. ``"dlr"`` is the margin over the difference
            of the largest and third largest score, and with fewer than four classes the margin.
            ``"mean-logits"`` is the margin of the mean logits of the members of a
            ``JointEnsemble`` inside the model. Default: ``"ce"``.
        criterion: callable from the same to (r,) bool, True for a success, for models whose outputs
            are no class scores. Default: None, the predicted class differs from y, or is the
            target.
        stop_on_success: True stops a sample at its first success. Otherwise its last iterate that
            succeeded is reported. Default: False.
        on_failure: content of ``x_adv`` where nothing succeeded, ``"input"`` or ``"last"``, the
            last iterate. Default: ``"input"``.
        transform: differentiable callable in front of the model for the loss only, from rows (r,
            *S), their identities (r,), the number of the step and the seed to r rows, such as
            ``input_diversity()``, whose defaults are ``"input-diversity"``. Success is checked on
            the plain rows, so that each gradient costs a further query, and so does the last loss
            of a trajectory if losses are compared (``hmcam``, ``auto_pgd``, restarts).
            ``max_queries`` pays for two queries an answer. Default: None.

    Returns:
        An ``AttackResult``, after ``1 + T`` queries and T gradients per sample.

    Raises:
        ValueError: if an argument is out of range, x leaves the box, x or the clean outputs hold
            NaN, a label has no column in the outputs, or the model has no gradient.
        TypeError: if x is not a floating point tensor.

    References:
        Dong et al., "Boosting adversarial attacks with momentum", CVPR 2018.
    """

def nes(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    eps: float,
    norm: str = "linf",
    step_size: float = 0.01,
    momentum: float = 0.9,
    num_directions: int = 25,
    delta: float = 0.001,
    sensing: str = "gaussian",
    clip_probes: bool = False,
    max_queries: int = 10_000,
    stop_on_success: bool = True,
    targeted: bool = False,
    targets: Tensor | None = None,
    mask: Tensor | None = None,
    clip_values: ClipValues = (0.0, 1.0),
    outputs: str = "logits",
    batch_size: int = 256,
    sample_ids: Tensor | None = None,
    device: torch.device | str | None = None,
    callback: Callback | None = None,
    seed: int | None = None,
    pad_rows: int = 0,
    channels_last: bool = False,
    compile: bool = False,
    detector: Detector | None = None,
    detector_weight: float = 1.0,
    detector_loss: str = "auto",
    loss: str | Loss = "ce",
    criterion: Judge | None = None,
    on_failure: str = "input",
) -> AttackResult:
    """NES-PGD score-based attack: projected ascent along the momentum of estimated gradients.

    Solves ``max_x J(x) s.t. ||x - x_ori||_p <= eps`` by ``m_t = mu m_{t-1} + (1 - mu) q(x_t)`` and
    ``x_{t+1} = P(x_t + alpha_t sgn(m_t))``, q being the same antithetic estimate as in
    ``frank_wolfe_black_box``. The step size is halved when the probes' mean loss J is lower than
    four iterations before, down to a 200th. In L2 and L1 the step is ``alpha m / ||m||_p``.

    Args:
        model: ``nn.Module``, or any callable from (R, *S) to class scores (R, K). Normalisation
            lives inside.
        x: inputs, (N, *S), float, inside ``clip_values``.
        y: true classes, (N,), or the classes to reach if ``targeted``. Default: None, the model's
            prediction.
        eps: radius of the ball, in the units of x (8/255, not 8).
        norm: of the ball, ``"linf"``, ``"l2"`` or ``"l1"``. Default: linf.
        step_size: alpha, in the units of x. Default: 0.01.
        momentum: mu, in [0, 1). Default: 0.9.
        num_directions: b, >= 1. An iteration costs 2 b queries and one for its check. Default: 25.
        delta: length of a probe per unit of u, in the units of x. Default: 1e-3.
        sensing: ``"gaussian"`` or ``"sphere"``, the law of the directions. Default: gaussian.
        clip_probes: True clips the probes to the box, for a model that takes nothing else. Default:
            False.
        max_queries: most forward rows per sample. An iteration that does not fit into the rest is
            not begun. Default: 10,000.
        stop_on_success: True stops a sample at its first success. Default: True.
        targeted: True if y (or ``targets``) are classes to reach, not classes to leave. Default:
            False.
        targets: classes to reach, (N,) int64. They make the attack targeted, and y is not used
            then. Default: None.
        mask: 0/1 or bool, broadcastable to x. Only coordinates where it is nonzero change. Default:
            None, all may change.
        clip_values: the box (lower, upper), numbers or one value per feature. Default: (0, 1).
        outputs: what the model returns, ``"logits"`` or ``"probabilities"``. Default: logits.
        batch_size: most rows in one model call. It never changes a decision. Default: 256.
        sample_ids: (N,) int64 identities that key the random streams. Default: None, a fingerprint
            of each sample's float32 bits.
        device: where inputs go for models without parameters. Default: None, the device of x.
        callback: called with a ``Progress`` after each round of model calls. Default: None.
        seed: of the random streams. Default: None, which draws one and records it in the result.
        pad_rows: pad smaller model calls to this many rows, for bit-for-bit equal results over
            batch sizes. Default: 0.
        channels_last: True hands images (R, C, H, W) to the model in channels-last memory, and
            holds its convolution weights so. Results change by rounding. Default: False.
        compile: True calls the network through ``torch.compile``. Results change by rounding.
            Default: False.
        detector: fitted to the model, and calibrated. A success must then also be accepted by the
            detector, and each row that the detector needs is a query: with S squeezed copies one
            answer costs 1 + S queries. Default: None.
        detector_weight: factor, > 0, of the penalty that the loss gets for rejected rows.
            Default: 1.
        detector_loss: that penalty. ``"penalty"``: ``max(0, score - threshold)`` over the
            interquartile range of the clean scores, once a row reaches the goal. ``"hinges"``: the
            margins of a row and of all its squeezed copies, below ``log((K - 1) (2 - t) / t)`` for
            the threshold t. If that is negative, of rejected rows only.
            ``"none"``: an attack that does not know the detector, with the same test of success.
            ``"auto"``: the form that the detector names. Attacks inside a ball then ascend their
            own loss until a row reaches the goal, and descend the penalty alone from then on.
            Default: ``"auto"``.
        loss: ascended by the attack: ``"ce"``, ``"margin"``, ``"probability_margin"``, ``"dlr"``,
            ``"mean-logits"``, or a callable from the model's outputs (r, K) and the positions (r,)
            of their samples in x to (r,) numbers, such as the inner product with a target's
            embedding. A callable is ascended as it is, targeted or not. The probability margin is
            ``max_{j != y} p_j - p_y`` of the softmax. ``"dlr"`` is the margin over the difference
            of the largest and third largest score, and with fewer than four classes the margin.
            ``"mean-logits"`` is the margin of the mean logits of the members of a
            ``JointEnsemble`` inside the model. Default: ``"ce"``.
        criterion: callable from the same to (r,) bool, True for a success, for models whose outputs
            are no class scores. Default: None, the predicted class differs from y, or is the
            target.
        on_failure: content of ``x_adv`` where nothing succeeded, ``"input"`` or ``"last"``, the
            last iterate. Default: ``"input"``.

    Returns:
        An ``AttackResult``. After k iterations ``queries`` is ``1 + k (2 b + 1)``.

    Raises:
        ValueError: if an argument is out of range, x leaves the box, x or the clean outputs hold
            NaN, a label has no column in the outputs, or the model returns no scores.
        TypeError: if x is not a floating point tensor.

    References:
        Ilyas, Engstrom, Athalye, Lin, "Black-box adversarial attacks with limited queries and
        information", ICML 2018.
    """

def opt(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    num_starts: int = 10,
    num_directions: int = 5,
    step_size: float = 0.2,
    beta: float = 0.01,
    targets: Tensor | None = None,
    mask: Tensor | None = None,
    max_queries: int = 10_000,
    clip_values: ClipValues = (0.0, 1.0),
    outputs: str = "logits",
    batch_size: int = 256,
    sample_ids: Tensor | None = None,
    device: torch.device | str | None = None,
    callback: Callback | None = None,
    seed: int | None = None,
    pad_rows: int = 0,
    channels_last: bool = False,
    compile: bool = False,
    detector: Detector | None = None,
    eps: float | None = 8 / 255,
    norm: str = "linf",
    stop_on_success: bool = True,
) -> AttackResult:
    """OPT hard-label attack: descend the distance to the decision boundary by its differences.

    Solves ``min_theta g(theta) s.t. ||theta||_inf = 1``, with ``g(theta) = min {r >= 0 :
    label(clip(x + r theta)) != y}``. The best of ``num_starts`` random directions is the start.
    Each iteration estimates the gradient of g by ``1/q sum_i (g(theta + beta u_i) - g(theta)) /
    beta u_i`` over q random directions. A local search finds each distance: it begins at
    g(theta), moves by 1 % until it has passed the boundary, and bisects. A line search follows:
    the step doubles up to 15 times while g falls. Without a first success it is divided by 4, up to
    15 times. The best of the q directions replaces its end where that is nearer. A sample ends
    once an iteration gains less than 0.005 of the width of the box.

    Args:
        model: an ``nn.Module`` or a callable from (R, *S) to scores (R, K) or labels (R,).
            Normalisation lives inside.
        x: (N, *S) floats of any shape inside the box.
        y: (N,) true classes. None takes the model's own answer to the clean check.
        num_starts: Gaussian directions, each queried once at its own length, in widths of the box.
            One that succeeds and beats the best is bisected. Default: 10.
        num_directions: q, distances for one gradient. Default: 5.
        step_size: alpha, the first step of the line search, without a unit. Later line searches
            begin where the one before ended. Below 1e-4 it becomes 1, and beta a tenth. Default:
            0.2.
        beta: length of a difference, without a unit. Local searches end at a width of beta/500, in
            widths of the box. Default: 0.01.
        targets: not supported. A value raises ValueError. Default: None.
        mask: 0/1 or bool, broadcastable to x. Only coordinates where it is nonzero change. Default:
            None, all may change.
        max_queries: most forward rows charged to a sample, the clean check included. A bisection
            that the budget cuts keeps its last verified end. Default: 10,000.
        clip_values: the box (lower, upper), numbers or one value per feature. Default: (0, 1).
        outputs: what the model returns: ``"logits"``, ``"probabilities"`` or ``"labels"``. Only
            labels are used. Default: logits.
        batch_size: most rows in one model call. It never changes a decision. Default: 256.
        sample_ids: (N,) int64 identities that key the random streams. Default: None, a fingerprint
            of each sample's float32 bits.
        device: where inputs go for models without parameters. Default: None, the device of x.
        callback: called with a ``Progress`` after each round of model calls. Default: None.
        seed: of the random streams. Default: None, which draws one and records it in the result.
        pad_rows: pad smaller model calls to this many rows, for bit-for-bit equal results over
            batch sizes. Default: 0.
        channels_last: True hands images (R, C, H, W) to the model in channels-last memory, and
            holds its convolution weights so. Results change by rounding. Default: False.
        compile: True calls the network through ``torch.compile``. Results change by rounding.
            Default: False.
        detector: fitted to the model, and calibrated. A success must then also be accepted by the
            detector, whose squeezed copies of a row are queries too. Default: None.
        eps: radius of the ball in the units of x (8/255, never 8). None counts any adversarial as
            success. Default: 8/255.
        norm: of the ball, ``"linf"``. Default: linf.
        stop_on_success: a sample ends at its first verified radius inside the ball. False goes on
            to the smallest radius, as the average decision boundary distance (ADBD) asks.
            Default: True.

    Returns:
        An ``AttackResult``. ``x_nearest`` and ``nearest_distance`` hold the nearest verified
        adversarial, inside eps or not. A query is one row through the model: clean check, random
        direction, every step of a local search or bisection. Without an adversarial among the
        random directions a sample ends there, and its ``nearest_distance`` is inf.

    Raises:
        ValueError: for arguments that make no sense, targets, x outside the box, NaN in x or in the
            clean outputs, or labels beyond the model's width.
        TypeError: if x is not a floating point tensor.

    Differences from the paper:
        This is the L-inf form, which the paper does not print. As in the reference implementation,
        directions have L-inf length 1, and points are clipped to the box. A sample direction
        without a boundary within 20 widths of the box counts as no difference. In the reference
        implementation it makes the estimate infinite. The authors test the goal at the end. Here a
        verified radius inside the ball ends the sample at once. All lengths scale with the width of
        the box.

    References:
        Cheng, Le, Chen, Yi, Zhang, Hsieh, "Query-efficient hard-label black-box attack: an
        optimization-based approach", ICLR 2019.
    """

def pgd(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    eps: float,
    norm: str = "linf",
    num_steps: int = 40,
    step_size: float | None = None,
    num_restarts: int = 1,
    keep_samples: bool = False,
    targeted: bool = False,
    targets: Tensor | None = None,
    mask: Tensor | None = None,
    max_queries: int | None = None,
    clip_values: ClipValues = (0.0, 1.0),
    outputs: str = "logits",
    batch_size: int = 256,
    sample_ids: Tensor | None = None,
    device: torch.device | str | None = None,
    callback: Callback | None = None,
    seed: int | None = None,
    pad_rows: int = 0,
    channels_last: bool = False,
    compile: bool = False,
    amp: bool = False,
    detector: Detector | None = None,
    detector_weight: float = 1.0,
    detector_loss: str = "auto",
    loss: str | Loss = "ce",
    criterion: Judge | None = None,
    stop_on_success: bool = False,
    on_failure: str = "input",
    transform: str | Transform | None = None,
) -> AttackResult:
    """Projected gradient descent: I-FGSM from a point drawn uniformly from the ball.

    Args:
        model: ``nn.Module`` or callable from (R, *S) to class scores (R, K). It normalises inside.
        x: inputs, (N, *S), float, inside ``clip_values``.
        y: true classes, (N,), or the classes to reach if ``targeted``. Default: None, the model's
            prediction.
        eps: radius of the ball, in the units of x (8/255, not 8).
        norm: of the ball, ``"linf"``, ``"l2"`` or ``"l1"``. Default: linf.
        num_steps: T, the number of steps. Default: 40.
        step_size: alpha, in the units of x. Default: None, ``2.5 eps / T``.
        num_restarts: R, trajectories from R random points. More than 1 needs a random start. The
            first one is that of ``num_restarts=1``. The best outcome of each sample is reported: a
            success before a failure, then the higher loss. Samples that ``stop_on_success`` stops
            take part in no further restart. Default: 1.
        keep_samples: True returns the end of each restart in ``samples`` (R, N, *S): its last
            iterate that succeeded, or the last one. A sample that stopped early repeats its last
            end. Default: False.
        targeted: True if y (or ``targets``) are classes to reach, not classes to leave. Default:
            False.
        targets: classes to reach, (N,) int64. They make the attack targeted, and y is not used
            then. Default: None.
        mask: 0/1 or bool, broadcastable to x. Only coordinates where it is nonzero change. Default:
            None, all may change.
        max_queries: most forward rows charged to a sample, the clean check included. None: no
            limit.
        clip_values: the box (lower, upper), numbers or one value per feature. Default: (0, 1).
        outputs: what the model returns, ``"logits"`` or ``"probabilities"``. Default: logits.
        batch_size: most rows in one model call. It never changes a decision. Default: 256.
        sample_ids: (N,) int64 identities that key the random streams. Default: None, a fingerprint
            of each sample's float32 bits.
        device: where inputs go for models without parameters. Default: None, the device of x.
        callback: called with a ``Progress`` after each round of model calls. Default: None.
        seed: of the random streams. Default: None, which draws one and records it in the result.
        pad_rows: pad smaller model calls to this many rows, for bit-for-bit equal results over
            batch sizes. Default: 0.
        channels_last: True hands images (R, C, H, W) to the model in channels-last memory, and
            holds its convolution weights so. Results change by rounding. Default: False.
        compile: True calls the network through ``torch.compile``. Results change by rounding.
            Default: False.
        amp: True computes gradients in bfloat16 under ``torch.autocast``. Each success is verified
            by a forward in float32, for a further query, and ``max_queries`` pays for both. The
            clean check and candidates without a gradient are in float32. Default: False.
        detector: fitted to the model, and calibrated. A success must then also be accepted by the
            detector, and each row that the detector needs is a query: with S squeezed copies one
            answer costs 1 + S queries. Default: None.
        detector_weight: factor, > 0, of the penalty that the loss gets for rejected rows.
            Default: 1.
        detector_loss: that penalty. ``"penalty"``: ``max(0, score - threshold)`` over the
            interquartile range of the clean scores, once a row reaches the goal. ``"hinges"``: the
            margins of a row and of all its squeezed copies, below ``log((K - 1) (2 - t) / t)`` for
            the threshold t. If that is negative, of rejected rows only.
            ``"none"``: an attack that does not know the detector, with the same test of success.
            ``"auto"``: the form that the detector names. Attacks inside a ball then ascend their
            own loss until a row reaches the goal, and descend the penalty alone from then on.
            Default: ``"auto"``.
        loss: ascended by the attack: ``"ce"``, ``"margin"``, ``"probability_margin"``, ``"dlr"``,
            ``"mean-logits"``, or a callable from the model's outputs (r, K) and the positions (r,)
            of their samples in x to (r,) numbers, such as the inner product with a target's
            embedding. A callable is ascended as it is, targeted or not. The probability margin is
            ``max_{j != y} p_j - p_y`` of the softmax. ``"dlr"`` is the margin over the difference
            of the largest and third largest score, and with fewer than four classes the margin.
            ``"mean-logits"`` is the margin of the mean logits of the members of a
            ``JointEnsemble`` inside the model. Default: ``"ce"``.
        criterion: callable from the same to (r,) bool, True for a success, for models whose outputs
            are no class scores. Default: None, the predicted class differs from y, or is the
            target.
        stop_on_success: True stops a sample at its first success. Otherwise its last iterate that
            succeeded is reported. Default: False.
        on_failure: content of ``x_adv`` where nothing succeeded, ``"input"`` or ``"last"``, the
            last iterate. Default: ``"input"``.
        transform: differentiable callable in front of the model for the loss only, from rows (r,
            *S), their identities (r,), the number of the step and the seed to r rows, such as
            ``input_diversity()``, whose defaults are ``"input-diversity"``. Success is checked on
            the plain rows, so that each gradient costs a further query, and so does the last loss
            of a trajectory if losses are compared (``hmcam``, ``auto_pgd``, restarts).
            ``max_queries`` pays for two queries an answer. Default: None.

    Returns:
        An ``AttackResult``, after ``1 + R (T + 1)`` queries and R T gradients per sample.

    Raises:
        ValueError: if an argument is out of range, x leaves the box, x or the clean outputs hold
            NaN, a label has no column in the outputs, or the model has no gradient.
        TypeError: if x is not a floating point tensor.

    References:
        Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018.
    """

def rays(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    eps: float | None = 8 / 255,
    max_queries: int = 10_000,
    norm: str = "linf",
    tol: float = 0.001,
    stop_on_success: bool = True,
    hierarchical: bool = True,
    speculate: str | bool = "auto",
    trace_at: Sequence[int] | None = None,
    x_init: Tensor | None = None,
    targets: Tensor | None = None,
    mask: Tensor | None = None,
    clip_values: ClipValues = (0.0, 1.0),
    outputs: str = "logits",
    batch_size: int = 256,
    sample_ids: Tensor | None = None,
    device: torch.device | str | None = None,
    callback: Callback | None = None,
    seed: int | None = None,
    pad_rows: int = 0,
    channels_last: bool = False,
    compile: bool = False,
    detector: Detector | None = None,
) -> AttackResult:
    """Find the sign direction along which the decision boundary is nearest, from predicted labels
    alone.

    Solves ``min_{s in {-1,+1}^D} r(s)`` with ``r(s) = min {r >= 0 : label(clip(x + r s/||s||_2)) !=
    y}`` (3.3.4). The signs of a block of coordinates are flipped, and the blocks are halved stage
    by stage (Algorithm 6). A flip is first tried at the best radius so far (the fast check of
    Algorithm 5). If it succeeds there, its radius is found by bisection. No random number is drawn.

    Differences from the paper: The two branches of Algorithm 5 are printed the wrong way round.
    This function compares at the midpoint and keeps the adversarial end. The last block of a stage
    is tried too. After the stage of single coordinates, the sweep over them repeats until the
    budget is spent, as in the reference implementation. Unlike in the reference implementation, a
    bisection never exceeds the budget, and a sample that never changes its label has
    ``nearest_distance`` inf.

    Args:
        model: an ``nn.Module`` or a callable from (R, *S) to scores (R, K) or labels (R,).
            Normalisation lives inside.
        x: (N, *S) floats of any shape inside the box: images, tabular rows, sequences.
        y: (N,) true classes. None takes the model's own answer to the clean check.
        eps: radius of the ball in the units of x (8/255, never 8). None counts any adversarial as
            success.
        max_queries: most forward rows charged to a sample, the clean check included. A bisection
            that the budget cuts keeps its last verified end.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``: how distance and ball are measured. Directions are
            always sign vectors.
        tol: width at which a bisection ends, as an L2 length along the unit direction. Its L-inf
            width is tol/sqrt(D).
        stop_on_success: a sample ends once a direction's bisection ends inside the ball. False
            spends the whole budget on the smallest radius, as the average decision boundary
            distance (ADBD) asks. Default: True.
        hierarchical: False flips single coordinates from the start (the naive search of Algorithm
            4).
        speculate: make the queries that a sequential search may come to next in the same model
            call, where the batch is too small to fill ``batch_size``. Results and ``queries`` do
            not change. Rows in vain go to ``wasted_rows``. ``"auto"``: for an ``nn.Module`` on a
            GPU only.
        trace_at: (M,) increasing numbers of queries within the budget. ``trace["distance"]``
            (M, N) then holds the distance of the nearest verified adversarial after so many
            queries, as a search with that budget returns it: inf before the first success. A sample
            that ends earlier keeps its last distance. It costs no query. None: no trace.
        x_init: (N, *S) starting points, checked for one query each. Masked coordinates take x's
            values. The search starts from the signs of x_init - x.
        targets: (N,) classes to reach. y says nothing then. Needs x_init of these classes, since
            sign images hardly ever reach a target.
        mask: 0/1 or bool, broadcastable to x. Only coordinates where it is nonzero may change, and
            the blocks split these.
        clip_values: the box (lower, upper), numbers or one value per feature.
        outputs: what the model returns: ``"logits"``, ``"probabilities"`` or ``"labels"``. Only
            labels are used.
        batch_size: most rows in one model call. It never changes a decision.
        sample_ids: accepted as by every attack. RayS draws no random number, so they change
            nothing.
        device: where inputs go for models without parameters.
        callback: called with a ``Progress`` after the clean check and after each round of model
            calls.
        seed: recorded in the result. RayS does not use it.
        pad_rows: pad smaller model calls to this many rows, for bit-for-bit equal results over
            batch sizes.
        channels_last: True hands images (R, C, H, W) to the model in channels-last memory, and
            holds its convolution weights so. Results change by rounding. Default: False.
        compile: True calls the network through ``torch.compile``. Results change by rounding.
            Default: False.
        detector: fitted to the model, and calibrated. A success must then also be accepted by the
            detector, whose squeezed copies of a row are queries too. Its answer to a rejected row
            is a further class that is no goal. Where it rejects a fast check before the first
            success, the next one is made at half the radius, but not inside the ball of eps.

    Returns:
        An ``AttackResult``. ``x_nearest`` and ``nearest_distance`` hold the nearest verified
        adversarial, inside eps or not. A query is one row through the model: clean check, check of
        x_init, fast checks, every step of a bisection.

    Raises:
        ValueError: for arguments that make no sense, x outside the box, NaN in x or in the clean
            outputs, labels beyond the model's width, or targets without x_init.
        TypeError: if x is not a floating point tensor.

    References:
        Jinghui Chen, Quanquan Gu, "RayS: A ray searching method for hard-label adversarial attack",
        KDD 2020. Jinghui Chen, dissertation, UCLA 2021, chapter 3 (the equation and algorithm
        numbers).
    """

def sign_gradient(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    eps: float,
    norm: str = "linf",
    num_steps: int = 40,
    step_size: float | None = None,
    momentum_rule: str = "none",
    normaliser: str = "none",
    step_rule: str = "sign",
    start: str = "input",
    decay: float = 1.0,
    beta1: float = 0.95,
    beta2: float = 0.999,
    delta: float = 1e-07,
    delta_inside: bool = False,
    grad_scale: float = 1.0,
    projection: str = "box-first",
    num_restarts: int = 1,
    keep_samples: bool = False,
    targeted: bool = False,
    targets: Tensor | None = None,
    mask: Tensor | None = None,
    max_queries: int | None = None,
    clip_values: ClipValues = (0.0, 1.0),
    outputs: str = "logits",
    batch_size: int = 256,
    sample_ids: Tensor | None = None,
    device: torch.device | str | None = None,
    callback: Callback | None = None,
    seed: int | None = None,
    pad_rows: int = 0,
    channels_last: bool = False,
    compile: bool = False,
    amp: bool = False,
    detector: Detector | None = None,
    detector_weight: float = 1.0,
    detector_loss: str = "auto",
    loss: str | Loss = "ce",
    criterion: Judge | None = None,
    stop_on_success: bool = False,
    on_failure: str = "input",
    transform: str | Transform | None = None,
) -> AttackResult:
    """Gradient attack within a ball, with steps put together from named parts.

    Approximates ``max_x' J(x') s.t. ||x' - x||_p <= eps`` by
    ``x_{t+1} = P(x_t + step_rule(momentum_rule(normaliser(grad J(x_t)))))``. P clips to the box and
    projects onto the ball. ``fgsm``, ``i_fgsm``, ``pgd``, ``mi_fgsm``, ``m_pgd`` and ``ai_fgsm``
    are choices of the parts. By default a success does not stop a sample, and the last iterate that
    succeeded is reported.

    Args:
        model: ``nn.Module`` or callable from (R, *S) to class scores (R, K). It normalises inside.
        x: inputs, (N, *S), float, inside ``clip_values``.
        y: true classes, (N,), or the classes to reach if ``targeted``. Default: None, the model's
            prediction.
        eps: radius of the ball, in the units of x (8/255, not 8).
        norm: of the ball, ``"linf"``, ``"l2"`` or ``"l1"``. Default: linf.
        num_steps: T, the number of steps. Default: 40.
        step_size: alpha, in the units of x. Default: None, ``2.5 eps / T``.
        momentum_rule: ``"none"``: ``v_t = g_t``. ``"accumulated"``: ``v_t = decay v_{t-1} + g_t``.
            ``"average"``: ``v_t = beta1 v_{t-1} + (1 - beta1) g_t`` (10). Default: none.
        normaliser: of each sample's gradient: ``"none"``, ``"l1"`` for ``g / ||g||_1``, ``"mean"``
            for ``g / mean |g|``. Under the sign the latter two differ by rounding only. Default:
            none.
        step_rule: ``"sign"``: ``alpha sgn(v)`` (8). ``"adaptive"``: ``sgn(v)`` times, for each
            coordinate, ``min(eps, sqrt(1 - beta2^t) / (1 - beta1^t) alpha / sqrt(e))`` (11), e
            being the largest so far of the averages ``e_t = beta2 e_{t-1} + (1 - beta2) g_t^2``.
            ``"corrected"``: the same without the second moment, ``min(eps, alpha / (1 - beta1^t))
            sgn(v)``. In L2 and L1, ``v / ||v||_p`` stands for ``sgn(v)``.
        start: ``"input"``, or ``"uniform"``, a point drawn uniformly from the ball and clipped to
            the box. Default: input.
        decay: mu of ``"accumulated"``, >= 0. Default: 1.
        beta1: decay of the average of gradients, in [0, 1). Default: 0.95.
        beta2: decay of the average of squared gradients, in [0, 1). Default: 0.999.
        delta: small constant under e, > 0. Default: 1e-7.
        delta_inside: True adds delta inside the root of e, as the paper prints. False adds it to
            the root, as the reference implementation. Default: False.
        grad_scale: factor of every gradient. Only the adaptive step depends on it. 1 is the
            gradient of each sample's own loss. 1/B is what the authors' mean over batches of B
            samples gives. Default: 1.
        projection: ``"box-first"`` clips a step to the box before its projection onto an L2 or L1
            ball, which moves no coordinate away from x. ``"ball-first"`` projects first, as many
            programs do: what a step does outside the box then uses up a part of eps. In L-inf both
            are the same. Default: box-first.
        num_restarts: R, trajectories from R random points. More than 1 needs a random start. The
            first one is that of ``num_restarts=1``. The best outcome of each sample is reported: a
            success before a failure, then the higher loss. Samples that ``stop_on_success`` stops
            take part in no further restart. Default: 1.
        keep_samples: True returns the end of each restart in ``samples`` (R, N, *S): its last
            iterate that succeeded, or the last one. A sample that stopped early repeats its last
            end. Default: False.
        targeted: True if y (or ``targets``) are classes to reach, not classes to leave. Default:
            False.
        targets: classes to reach, (N,) int64. They make the attack targeted, and y is not used
            then. Default: None.
        mask: 0/1 or bool, broadcastable to x. Only coordinates where it is nonzero change. Default:
            None, all may change.
        max_queries: most forward rows charged to a sample, the clean check included. None: no
            limit.
        clip_values: the box (lower, upper), numbers or one value per feature. Default: (0, 1).
        outputs: what the model returns, ``"logits"`` or ``"probabilities"``. Default: logits.
        batch_size: most rows in one model call. It never changes a decision. Default: 256.
        sample_ids: (N,) int64 identities that key the random streams. Default: None, a fingerprint
            of each sample's float32 bits.
        device: where inputs go for models without parameters. Default: None, the device of x.
        callback: called with a ``Progress`` after each round of model calls. Default: None.
        seed: of the random streams. Default: None, which draws one and records it in the result.
        pad_rows: pad smaller model calls to this many rows, for bit-for-bit equal results over
            batch sizes. Default: 0.
        channels_last: True hands images (R, C, H, W) to the model in channels-last memory, and
            holds its convolution weights so. Results change by rounding. Default: False.
        compile: True calls the network through ``torch.compile``. Results change by rounding.
            Default: False.
        amp: True computes gradients in bfloat16 under ``torch.autocast``. Each success is verified
            by a forward in float32, for a further query, and ``max_queries`` pays for both. The
            clean check and candidates without a gradient are in float32. Default: False.
        detector: fitted to the model, and calibrated. A success must then also be accepted by the
            detector, and each row that the detector needs is a query: with S squeezed copies one
            answer costs 1 + S queries. Default: None.
        detector_weight: factor, > 0, of the penalty that the loss gets for rejected rows.
            Default: 1.
        detector_loss: that penalty. ``"penalty"``: ``max(0, score - threshold)`` over the
            interquartile range of the clean scores, once a row reaches the goal. ``"hinges"``: the
            margins of a row and of all its squeezed copies, below ``log((K - 1) (2 - t) / t)`` for
            the threshold t. If that is negative, of rejected rows only.
            ``"none"``: an attack that does not know the detector, with the same test of success.
            ``"auto"``: the form that the detector names. Attacks inside a ball then ascend their
            own loss until a row reaches the goal, and descend the penalty alone from then on.
            Default: ``"auto"``.
        loss: ascended by the attack: ``"ce"``, ``"margin"``, ``"probability_margin"``, ``"dlr"``,
            ``"mean-logits"``, or a callable from the model's outputs (r, K) and the positions (r,)
            of their samples in x to (r,) numbers, such as the inner product with a target's
            embedding. A callable is ascended as it is, targeted or not. The probability margin is
            ``max_{j != y} p_j - p_y`` of the softmax. ``"dlr"`` is the margin over the difference
            of the largest and third largest score, and with fewer than four classes the margin.
            ``"mean-logits"`` is the margin of the mean logits of the members of a
            ``JointEnsemble`` inside the model. Default: ``"ce"``.
        criterion: callable from the same to (r,) bool, True for a success, for models whose outputs
            are no class scores. Default: None, the predicted class differs from y, or is the
            target.
        stop_on_success: True stops a sample at its first success. Otherwise its last iterate that
            succeeded is reported. Default: False.
        on_failure: content of ``x_adv`` where nothing succeeded, ``"input"`` or ``"last"``, the
            last iterate. Default: ``"input"``.
        transform: differentiable callable in front of the model for the loss only, from rows (r,
            *S), their identities (r,), the number of the step and the seed to r rows, such as
            ``input_diversity()``, whose defaults are ``"input-diversity"``. Success is checked on
            the plain rows, so that each gradient costs a further query, and so does the last loss
            of a trajectory if losses are compared (``hmcam``, ``auto_pgd``, restarts).
            ``max_queries`` pays for two queries an answer. Default: None.

    Returns:
        An ``AttackResult``. A query is one row forward: the clean check and one check per iterate,
        the starting point included where it is not the input. These are ``1 + T`` queries from the
        input, and ``1 + R (T + 1)`` from random points. ``gradients`` counts the steps, R T in all,
        0 for rows that are adversarial from the start.

    Raises:
        ValueError: if an argument is out of range, x leaves the box, x or the clean outputs hold
            NaN, a label has no column in the outputs, or the model has no gradient.
        TypeError: if x is not a floating point tensor.

    References:
        Goodfellow et al., 2015 (FGSM). Kurakin et al., 2017 (I-FGSM). Madry et al., 2018 (PGD).
        Dong et al., 2018 (MI-FGSM). Wang, Li, Liu, Lin, "A Hamiltonian Monte Carlo method for
        probabilistic adversarial attack and learning", IEEE TPAMI 2022 (AI-FGSM, and the common
        form).
    """

def sign_opt(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    num_starts: int = 100,
    num_directions: int = 200,
    step_size: float = 0.2,
    beta: float = 0.001,
    targets: Tensor | None = None,
    mask: Tensor | None = None,
    max_queries: int = 10_000,
    clip_values: ClipValues = (0.0, 1.0),
    outputs: str = "logits",
    batch_size: int = 256,
    sample_ids: Tensor | None = None,
    device: torch.device | str | None = None,
    callback: Callback | None = None,
    seed: int | None = None,
    pad_rows: int = 0,
    channels_last: bool = False,
    compile: bool = False,
    detector: Detector | None = None,
    eps: float | None = 8 / 255,
    norm: str = "linf",
    stop_on_success: bool = True,
) -> AttackResult:
    """Sign-OPT hard-label attack: descend the distance to the decision boundary by the signs of its
    differences.

    Solves ``min_theta g(theta) s.t. ||theta||_inf = 1``, with ``g(theta) = min {r >= 0 :
    label(clip(x + r theta)) != y}``. The best of ``num_starts`` random directions is the start.
    Each iteration estimates the gradient of g by ``1/k sum_i sgn(g(theta + beta u_i) - g(theta))
    u_i`` over k random directions. One query at the radius g(theta) along the renormalised ``theta
    + beta u_i`` tells the sign. A line search follows: the step doubles up to 15 times while g
    falls. Without a first success it is divided by 4, up to 15 times.

    Args:
        model: an ``nn.Module`` or a callable from (R, *S) to scores (R, K) or labels (R,).
            Normalisation lives inside.
        x: (N, *S) floats of any shape inside the box.
        y: (N,) true classes. None takes the model's own answer to the clean check.
        num_starts: Gaussian directions, each queried once at its own length, in widths of the box.
            One that succeeds and beats the best is bisected. Default: 100.
        num_directions: k, queries for one gradient. Default: 200.
        step_size: alpha, the first step of the line search, without a unit. Later line searches
            begin where the one before ended. Below 1e-6 it becomes 1, and beta a tenth. Default:
            0.2.
        beta: length of a difference, without a unit. The bisections of a line search end at a width
            of beta/500, in widths of the box. Default: 0.001.
        targets: not supported. A value raises ValueError. Default: None.
        mask: 0/1 or bool, broadcastable to x. Only coordinates where it is nonzero change. Default:
            None, all may change.
        max_queries: most forward rows charged to a sample, the clean check included. A bisection
            that the budget cuts keeps its last verified end. Default: 10,000.
        clip_values: the box (lower, upper), numbers or one value per feature. Default: (0, 1).
        outputs: what the model returns: ``"logits"``, ``"probabilities"`` or ``"labels"``. Only
            labels are used. Default: logits.
        batch_size: most rows in one model call. It never changes a decision. Default: 256.
        sample_ids: (N,) int64 identities that key the random streams. Default: None, a fingerprint
            of each sample's float32 bits.
        device: where inputs go for models without parameters. Default: None, the device of x.
        callback: called with a ``Progress`` after each round of model calls. Default: None.
        seed: of the random streams. Default: None, which draws one and records it in the result.
        pad_rows: pad smaller model calls to this many rows, for bit-for-bit equal results over
            batch sizes. Default: 0.
        channels_last: True hands images (R, C, H, W) to the model in channels-last memory, and
            holds its convolution weights so. Results change by rounding. Default: False.
        compile: True calls the network through ``torch.compile``. Results change by rounding.
            Default: False.
        detector: fitted to the model, and calibrated. A success must then also be accepted by the
            detector, whose squeezed copies of a row are queries too. Default: None.
        eps: radius of the ball in the units of x (8/255, never 8). None counts any adversarial as
            success. Default: 8/255.
        norm: of the ball, ``"linf"``. Default: linf.
        stop_on_success: a sample ends at its first verified radius inside the ball. False goes on
            to the smallest radius, as the average decision boundary distance (ADBD) asks.
            Default: True.

    Returns:
        An ``AttackResult``. ``x_nearest`` and ``nearest_distance`` hold the nearest verified
        adversarial, inside eps or not. A query is one row through the model: clean check, random
        direction, sign, every step of a local search or bisection. Without an adversarial among
        the random directions a sample ends there, and its ``nearest_distance`` is inf.

    Raises:
        ValueError: for arguments that make no sense, targets, x outside the box, NaN in x or in the
            clean outputs, or labels beyond the model's width.
        TypeError: if x is not a floating point tensor.

    Differences from the paper:
        This is the L-inf form, which the paper does not print. As in the reference implementation,
        directions have L-inf length 1, points are clipped to the box, and the estimate is a mean
        and not a sum. A search also ends where rounding leaves no midpoint. The authors test the
        goal after each iteration. Here a verified radius inside the ball ends the sample at once.
        All lengths scale with the width of the box.

    References:
        Cheng, Singh, Chen, Chen, Liu, Hsieh, "Sign-OPT: a query-efficient hard-label adversarial
        attack", ICLR 2020.
    """

def signhunter(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    eps: float,
    norm: str = "linf",
    max_queries: int = 10_000,
    stop_on_success: bool = True,
    targeted: bool = False,
    targets: Tensor | None = None,
    mask: Tensor | None = None,
    clip_values: ClipValues = (0.0, 1.0),
    outputs: str = "logits",
    batch_size: int = 256,
    sample_ids: Tensor | None = None,
    device: torch.device | str | None = None,
    callback: Callback | None = None,
    seed: int | None = None,
    pad_rows: int = 0,
    channels_last: bool = False,
    compile: bool = False,
    detector: Detector | None = None,
    detector_weight: float = 1.0,
    detector_loss: str = "auto",
    loss: str | Loss = "ce",
    criterion: Judge | None = None,
    on_failure: str = "input",
) -> AttackResult:
    """SignHunter score-based attack: search for the signs of the gradient by flips of blocks.

    Solves ``max_s J(x_ori + eps s)`` over signs ``s in {-1, 1}^d``, one query a candidate. The
    first candidate has s = 1. Level h = 0, 1, ..., ceil(log2 d) divides the d coordinates into
    blocks of ``ceil(d / 2^h)``. Each block in turn is flipped, and the flip stays unless J is
    lower. After the last level the current point takes the place of x_ori, and the search begins
    again with s = 1. All candidates are brought to the ball and the box around x_ori.

    In L2 the step is ``eps s / sqrt(d)``. The attack draws no random numbers.

    Args:
        model: ``nn.Module``, or any callable from (R, *S) to class scores (R, K). Normalisation
            lives inside.
        x: inputs, (N, *S), float, inside ``clip_values``.
        y: true classes, (N,), or the classes to reach if ``targeted``. Default: None, the model's
            prediction.
        eps: radius of the ball, in the units of x (8/255, not 8).
        norm: of the ball, ``"linf"`` or ``"l2"``. Default: linf.
        max_queries: most forward rows per sample. Default: 10,000.
        stop_on_success: True stops a sample at its first success. Otherwise the point of highest
            loss is reported if it is a success, and else the last candidate that was one. Default:
            True.
        targeted: True if y (or ``targets``) are classes to reach, not classes to leave. Default:
            False.
        targets: classes to reach, (N,) int64. They make the attack targeted, and y is not used
            then. Default: None.
        mask: 0/1 or bool, broadcastable to x. Only coordinates where it is nonzero change. Default:
            None, all may change.
        clip_values: the box (lower, upper), numbers or one value per feature. Default: (0, 1).
        outputs: what the model returns, ``"logits"`` or ``"probabilities"``. Default: logits.
        batch_size: most rows in one model call. It never changes a decision. Default: 256.
        sample_ids: (N,) int64 identities that key the random streams. Default: None, a fingerprint
            of each sample's float32 bits.
        device: where inputs go for models without parameters. Default: None, the device of x.
        callback: called with a ``Progress`` after each round of model calls. Default: None.
        seed: of the random streams. Default: None, which draws one and records it in the result.
        pad_rows: pad smaller model calls to this many rows, for bit-for-bit equal results over
            batch sizes. Default: 0.
        channels_last: True hands images (R, C, H, W) to the model in channels-last memory, and
            holds its convolution weights so. Results change by rounding. Default: False.
        compile: True calls the network through ``torch.compile``. Results change by rounding.
            Default: False.
        detector: fitted to the model, and calibrated. A success must then also be accepted by the
            detector, and each row that the detector needs is a query: with S squeezed copies one
            answer costs 1 + S queries. Default: None.
        detector_weight: factor, > 0, of the penalty that the loss gets for rejected rows.
            Default: 1.
        detector_loss: that penalty. ``"penalty"``: ``max(0, score - threshold)`` over the
            interquartile range of the clean scores, once a row reaches the goal. ``"hinges"``: the
            margins of a row and of all its squeezed copies, below ``log((K - 1) (2 - t) / t)`` for
            the threshold t. If that is negative, of rejected rows only.
            ``"none"``: an attack that does not know the detector, with the same test of success.
            ``"auto"``: the form that the detector names. Attacks inside a ball then ascend their
            own loss until a row reaches the goal, and descend the penalty alone from then on.
            Default: ``"auto"``.
        loss: ascended by the attack: ``"ce"``, ``"margin"``, ``"probability_margin"``, ``"dlr"``,
            ``"mean-logits"``, or a callable from the model's outputs (r, K) and the positions (r,)
            of their samples in x to (r,) numbers, such as the inner product with a target's
            embedding. A callable is ascended as it is, targeted or not. The probability margin is
            ``max_{j != y} p_j - p_y`` of the softmax. ``"dlr"`` is the margin over the difference
            of the largest and third largest score, and with fewer than four classes the margin.
            ``"mean-logits"`` is the margin of the mean logits of the members of a
            ``JointEnsemble`` inside the model. Default: ``"ce"``.
        criterion: callable from the same to (r,) bool, True for a success, for models whose outputs
            are no class scores. Default: None, the predicted class differs from y, or is the
            target.
        on_failure: content of ``x_adv`` where nothing succeeded, ``"input"`` or ``"last"``, the
            point of highest loss. Default: ``"input"``.

    Returns:
        An ``AttackResult``. ``queries`` counts the clean check, and one for each candidate.

    Raises:
        ValueError: if an argument is out of range, x leaves the box, x or the clean outputs hold
            NaN, a label has no column in the outputs, or the model returns no scores.
        TypeError: if x is not a floating point tensor.

    Differences from the paper:
        The paper flips blocks until the signs are found. Here the search then goes on from the
        point that it has reached, as in the authors' code, which adds 3 queries at the start of
        each round. Here the start is one query, and the clean check is charged once. The step in L2
        has the signs of free coordinates only.

    References:
        Al-Dujaili, O'Reilly, "Sign bits are all you need for black-box attacks", ICLR 2020.
    """

def square(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    eps: float,
    norm: str = "linf",
    p_init: float | None = None,
    loss: str | Loss | None = None,
    max_queries: int = 10_000,
    stop_on_success: bool = True,
    targeted: bool = False,
    targets: Tensor | None = None,
    mask: Tensor | None = None,
    clip_values: ClipValues = (0.0, 1.0),
    outputs: str = "logits",
    batch_size: int = 256,
    sample_ids: Tensor | None = None,
    device: torch.device | str | None = None,
    callback: Callback | None = None,
    seed: int | None = None,
    pad_rows: int = 0,
    channels_last: bool = False,
    compile: bool = False,
    detector: Detector | None = None,
    detector_weight: float = 1.0,
    detector_loss: str = "auto",
    criterion: Judge | None = None,
    on_failure: str = "input",
) -> AttackResult:
    """Square score-based attack: random search over square windows of the image.

    Solves ``max_x L(x) s.t. ||x - x_ori||_p <= eps`` by Algorithm 1: a candidate differs from the
    best point so far in a window of random place, and replaces it if L is higher. The window holds
    the share p of the pixels. p is halved at the candidates 10, 50, 200, 500, 1000, 2000, 4000,
    6000 and 8000 of 10,000, and proportionally for another ``max_queries``. All samples run side by
    side, each with windows of its own.

    L-inf (Algorithm 2): the first candidate is ``x_ori + eps s`` with one sign s for each channel
    and column. Each further one sets a window to ``x_ori + eps s``, with one sign for each
    channel. All is clipped to the box.

    L2 (Algorithm 3): ``eta`` is a pyramid in one half of a window and minus a pyramid in the other,
    of length 1. The first candidate has ``+-eta`` in each of 5 x 5 tiles. Each further one clears a
    second window W2 of the perturbation v. In W1 each channel becomes ``+-eta + v_W1 / ||v_W1||``,
    scaled to the length a with ``a^2 = ||v_{W1 u W2}||^2 + (eps^2 - ||v||^2) / C``. Thus ``||v|| =
    eps`` until the box cuts it. A pixel at a bound of the box has 0 in the sum where it would leave
    the box. Windows fall into the middle more often than to the border.

    Args:
        model: ``nn.Module``, or any callable from (R, *S) to class scores (R, K). Normalisation
            lives inside.
        x: inputs, (N, *S), float, inside ``clip_values``. The last two axes of S are height and
            width, all before them channels, as in (C, H, W). A vector (D,) is one row of D pixels.
        y: true classes, (N,), or the classes to reach if ``targeted``. Default: None, the model's
            prediction.
        eps: radius of the ball, in the units of x (8/255, not 8).
        norm: of the ball, ``"linf"`` or ``"l2"``. Default: linf.
        p_init: p, the share of the pixels in the first window, in (0, 1]. Default: None, the
            paper's 0.05 in L-inf and 0.1 in L2. Robust models need more. AutoAttack takes 0.8.
        loss: ascended by the attack: ``"ce"``, ``"margin"``, ``"probability_margin"``, ``"dlr"``,
            or a callable from the model's outputs (r, K) and the positions (r,) of their samples in
            x to (r,) numbers. A callable is ascended as it is, targeted or not. Default: None, the
            paper's: the margin, and the cross-entropy of a target.
        max_queries: N, most forward rows per sample. Default: 10,000.
        stop_on_success: True stops a sample at its first success. Otherwise the point of highest
            loss is reported if it is a success, and else the last candidate that was one. Default:
            True.
        targeted: True if y (or ``targets``) are classes to reach, not classes to leave. Default:
            False.
        targets: classes to reach, (N,) int64. They make the attack targeted, and y is not used
            then. Default: None.
        mask: 0/1 or bool, broadcastable to x. Only coordinates where it is nonzero change. Default:
            None, all may change.
        clip_values: the box (lower, upper), numbers or one value per feature. Default: (0, 1).
        outputs: what the model returns, ``"logits"`` or ``"probabilities"``. Default: logits.
        batch_size: most rows in one model call. It never changes a decision. Default: 256.
        sample_ids: (N,) int64 identities that key the random streams. Default: None, a fingerprint
            of each sample's float32 bits.
        device: where inputs go for models without parameters. Default: None, the device of x.
        callback: called with a ``Progress`` after each round of model calls. Default: None.
        seed: of the random streams. Default: None, which draws one and records it in the result.
        pad_rows: pad smaller model calls to this many rows, for bit-for-bit equal results over
            batch sizes. Default: 0.
        channels_last: True hands images (R, C, H, W) to the model in channels-last memory, and
            holds its convolution weights so. Results change by rounding. Default: False.
        compile: True calls the network through ``torch.compile``. Results change by rounding.
            Default: False.
        detector: fitted to the model, and calibrated. A success must then also be accepted by the
            detector, and each row that the detector needs is a query: with S squeezed copies one
            answer costs 1 + S queries. Default: None.
        detector_weight: factor, > 0, of the penalty that the loss gets for rejected rows.
            Default: 1.
        detector_loss: that penalty. ``"penalty"``: ``max(0, score - threshold)`` over the
            interquartile range of the clean scores, once a row reaches the goal. ``"hinges"``: the
            margins of a row and of all its squeezed copies, below ``log((K - 1) (2 - t) / t)`` for
            the threshold t. If that is negative, of rejected rows only.
            ``"none"``: an attack that does not know the detector, with the same test of success.
            ``"auto"``: the form that the detector names. Attacks inside a ball then ascend their
            own loss until a row reaches the goal, and descend the penalty alone from then on.
            Default: ``"auto"``.
        criterion: callable from the same to (r,) bool, True for a success, for models whose outputs
            are no class scores. Default: None, the predicted class differs from y, or is the
            target.
        on_failure: content of ``x_adv`` where nothing succeeded, ``"input"`` or ``"last"``, the
            point of highest loss. Default: ``"input"``.

    Returns:
        An ``AttackResult``. ``queries`` counts the clean check, and one for each candidate.

    Raises:
        ValueError: if an argument is out of range, x leaves the box, x or the clean outputs hold
            NaN, a label has no column in the outputs, or the model returns no scores.
        TypeError: if x is not a floating point tensor.

    Differences from the paper:
        In L-inf a window that would change nothing gets the opposite signs, so that no query is
        lost on it. In L2 the paper scales the bump first and cuts it by the box afterwards. On a
        black background half of each bump is lost then. Here a pixel that could only leave the box
        takes no part, and the others get the whole length. The paper draws all places alike. In L2
        this implementation takes the mean of two draws along each axis, unless the plane has one
        row. The L2 tiles are equal rectangles in the middle of the plane. The clean check is
        charged. On planes that are not square, a square that is longer than the shorter axis
        becomes a rectangle. It fills this axis and the share p of the other.

    References:
        Andriushchenko, Croce, Flammarion, Hein, "Square Attack: a query-efficient black-box
        adversarial attack via random search", ECCV 2020.
    """

def zoo(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    eps: float | None = None,
    norm: str = "l2",
    solver: str = "adam",
    num_steps: int = 1000,
    search_steps: int = 9,
    initial_const: float = 0.01,
    step_size: float = 0.01,
    coordinates: int = 128,
    h: float = 0.0001,
    use_tanh: bool = False,
    confidence: float = 0.0,
    resize: int | Sequence[int] | Mapping[int, int] | None = None,
    importance: bool | int = False,
    reset_adam: bool = True,
    abort_early: bool | str = "always",
    abort_window: int | None = None,
    targets: Tensor | str | None = None,
    max_queries: int | None = None,
    targeted: bool = False,
    mask: Tensor | None = None,
    clip_values: ClipValues = (0.0, 1.0),
    outputs: str = "logits",
    batch_size: int = 256,
    sample_ids: Tensor | None = None,
    device: torch.device | str | None = None,
    callback: Callback | None = None,
    seed: int | None = None,
    pad_rows: int = 0,
    channels_last: bool = False,
    compile: bool = False,
    detector: Detector | None = None,
    detector_weight: float = 1.0,
    detector_loss: str = "auto",
) -> AttackResult:
    """Minimise the objective of C&W from scores alone, by difference quotients.

    Solves ``min_y ||D(y)||_2^2 + c f(x + D(y)) s.t. x + D(y) in the box`` (14). f is that of (10)
    and (11): ``max(max_{i != t} log F_i - log F_t, -kappa)`` for a target t, and ``max(log F_y -
    max_{i != y} log F_i, -kappa)`` untargeted. In each iteration, every sample draws coordinates of
    its own without replacement. It estimates ``g_i = (f(y + h e_i) - f(y - h e_i)) / 2h`` (12), and
    takes a step of Adam (Algorithm 2) or Newton (Algorithm 3) along them. All samples run side by
    side. c is searched per sample, each time from x itself.

    Differences from the reference implementation: kappa is part of f, and of the success test in
    logarithms, as in the paper. The distortion is known, so it is differentiated in closed form. f
    is subtracted in float64. The iterate that ends an optimisation is not probed.

    Differences from the paper, all as in the reference implementation: Newton's second derivative
    is at least .1 where it is positive. Adam's small constant stands outside the root. Where the
    second derivative is not positive, the step is that of the gradient, as in the paper.

    Args:
        model: an ``nn.Module`` or any callable from (R, *S) to scores (R, K). Normalisation lives
            inside.
        x: (N, *S) floats of any shape inside the box.
        y: (N,) true classes, or the classes to reach if ``targeted``. None takes the model's own
            answer.
        eps: radius in ``norm`` within which an adversarial counts as success, in the units of x.
            None counts any.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``: how ``distance`` and eps are measured.
        solver: ``"adam"``, ``"newton"``, or ``"adam-newton"``: Newton where the second derivative
            is positive.
        num_steps: iterations of each optimisation.
        search_steps: optimisations per sample, each with its own c.
        initial_const: c of the first optimisation, > 0.
        step_size: eta, the learning rate of Adam, or the factor of a Newton step.
        coordinates: B, how many are probed and moved in one iteration.
        h: distance of the probes, in the units of x (of the transformed variable with use_tanh).
            Models in float32 answer with an error of 1e-7 of their scores, which ``"newton"``
            divides by h^2: give it .01 or more there.
        use_tanh: move in a space without a box, as ``cw`` does, rather than clip to the box. Where
            inputs lie on the edge of the box, as in MNIST, the derivative vanishes there: leave it
            off.
        confidence: kappa >= 0, the margin between logits (or logarithms of probabilities) that a
            success must have.
        resize: the side s of a smaller space (C, s, s), scaled up bilinearly, for images (C, H, W).
            A mapping from iterations to sides, such as ``{0: 32, 2000: 64, 10000: 128}``, enlarges
            the space then, and a sequence of sides wherever a sample's loss stands still. None
            moves the pixels themselves.
        importance: draw coordinates in proportion to the largest change so far in each of 8 x 8
            regions, whenever the space has been enlarged, so that True needs several sizes. A
            number n > 1 also every n iterations. One draw in a hundred is uniform.
        reset_adam: forget the moments of Adam at the first success of an optimisation.
        abort_early: give a sample's optimisation up where its loss stands still: ``"always"``,
            True: unless it has a success by then, or False: never.
        abort_window: iterations between two comparisons of the loss. None takes a tenth of
            num_steps.
        targets: (N,) classes to reach, or a case (``"best"``, ``"worst"``, ``"average"``,
            ``"all"``) as in ``ead``.
        max_queries: most forward rows per sample. None for no limit. An iteration that does not fit
            is not begun.
        targeted: True if y (or ``targets``) are classes to reach, not classes to leave. Default:
            False.
        mask: 0/1 or bool, broadcastable to x. Only coordinates where it is nonzero change. Default:
            None, all may change.
        clip_values: the box (lower, upper), numbers or one value per feature. Default: (0, 1).
        outputs: what the model returns, ``"logits"`` or ``"probabilities"``. Default: logits.
        batch_size: most rows in one model call. It never changes a decision. Default: 256.
        sample_ids: (N,) int64 identities that key the random streams. Default: None, a fingerprint
            of each sample's float32 bits.
        device: where inputs go for models without parameters. Default: None, the device of x.
        callback: called with a ``Progress`` after each round of model calls. Default: None.
        seed: of the random streams. Default: None, which draws one and records it in the result.
        pad_rows: pad smaller model calls to this many rows, for bit-for-bit equal results over
            batch sizes. Default: 0.
        channels_last: True hands images (R, C, H, W) to the model in channels-last memory, and
            holds its convolution weights so. Results change by rounding. Default: False.
        compile: True calls the network through ``torch.compile``. Results change by rounding.
            Default: False.
        detector: fitted to the model, and calibrated. A success must then also be accepted by the
            detector, and each row that the detector needs is a query: with S squeezed copies one
            answer costs 1 + S queries. Default: None.
        detector_weight: factor, > 0, of the penalty that the loss gets for rejected rows.
            Default: 1.
        detector_loss: that penalty. ``"penalty"``: ``max(0, score - threshold)`` over the
            interquartile range of the clean scores, once a row reaches the goal. ``"hinges"``: the
            margins of a row and of all its squeezed copies, below ``log((K - 1) (2 - t) / t)`` for
            the threshold t. If that is negative, of rejected rows only.
            ``"none"``: an attack that does not know the detector, with the same test of success.
            ``"auto"``: the form that the detector names. Attacks inside a ball then ascend their
            own loss until a row reaches the goal, and descend the penalty alone from then on.
            Default: ``"auto"``.

    Returns:
        An ``AttackResult``. A query is one row forward: the clean check, the check of each iterate,
        and its 2 B probes, which lie up to h outside the box where it is clipped. ``trace`` is as
        in ``ead``.

    Raises:
        ValueError: for arguments that make no sense, x outside the box, NaN in x or in the clean
            outputs, labels beyond the model's width, or a model without scores.
        TypeError: if x is not a floating point tensor.

    References:
        Chen, Zhang, Sharma, Yi, Hsieh, "ZOO: zeroth order optimization based black-box attacks to
        deep neural networks without training substitute models", AISec 2017. Sharma, master's
        thesis, 2018, chapter 3 (the equation and algorithm numbers).
    """
