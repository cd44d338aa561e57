"""ATCD (adversarial training by contrastive divergence) and CAT, its form without a test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from art_ext.training.recipes.contrastive import ContrastiveRecipe


@dataclass(frozen=True, kw_only=True, eq=False)
class Atcd(ContrastiveRecipe):
    """Adversarial training by contrastive divergence: a Hamiltonian chain over T weight updates.

    For each minibatch, start from ``theta = x + v``, ``v ~ U(-eps, eps)``, and do T times: K steps
    ``theta <- P(theta + eps sgn(v))``, ``v <- clip(v + alpha g, +-eps)``, a Metropolis-Hastings
    test, and one update of w on ``CE(f_w(theta), y)``. P projects onto ball and box. g is the
    gradient of ``lam CE(f_w(theta), y) - rho CE(f_w~(theta~), y)``.

    **The contrast costs no second network** (eq. 14). Its gradient is that of ``lam CE(f_w(theta),
    q)`` against the soft label ``q = (rho f~ + (lam - rho) y) / lam``. f~ is the softmax at the
    previous replay's training forward. In the first replay q = y. At the first of the K steps this
    is exact, because theta~ equals theta, and only the direction of CE remains. At the later steps
    theta has moved, and q = y is our reading.

    An update costs per sample, with order ``"free"``, K forwards and K + 1 backwards (K if rho =
    0), which is T K and T (K + 1) per minibatch. The other orders cost K + 1 of each. The test adds
    1 forward, or 2 with ``"free"`` and without ``shared_test``. A shared test sends each rejected
    row again, for 1 more forward and 2 more backwards (1 if rho = 0). ``cost()`` omits these and
    the counters include them. The papers count T K epochs for one pass over the data
    (``equivalent_epochs``).

    With K = 1 and order ``"free"`` or ``"printed"``, the first update of a minibatch trains at a
    random corner of the ball. The chain has then moved along its first, random momentum only.

    Differences from the paper:
        The authors published no program. Where the text is silent or inconsistent, this is our
        reading. It is a keyword if more than one reading makes sense.

        * v ascends CE. With the printed sign it would descend it, contrary to the paper's text.
        * theta is projected onto the ball after each step. In the paper it moves as far as T K eps.
          ``step_size`` is ours.
        * The paper gives no alpha, and gradients (1e-3 to 1e-6) would vanish beside v. g is
          therefore divided by its mean magnitude within each sample, and alpha is eps.
          ``momentum=False`` takes ``v = g``.
        * ``order="free"`` moves along v first and takes the gradient at the new theta. The last of
          these gradients shares its forward with the weight update. T = 8, K = 1 without contrast
          is then Free's loop. ``"printed"`` takes the gradient at the theta before the move.
          ``"fresh"`` takes the gradient first and moves along the new v.
        * The Metropolis-Hastings test accepts each sample's (theta, v) with
          ``min(1, exp(CE(theta) - CE(theta_0)))``, both under the current weights and in one mode.
          A rejected sample returns to its state at the start of the replay, and is trained there.
          With ``"free"`` v then ascends from there. The energy of v is omitted unless ``kinetic``.
        * With ``order="free"`` and ``shared_test``, CE(theta) comes from the training forward, and
          CE(theta_0) is taken in train mode too. BatchNorm's statistics are those of the minibatch,
          and dropout is on. Rejected rows are sent again by themselves, on the running statistics,
          which do not change.
        * ``"free"`` takes its last gradient in train mode, from the shared pass. ``bn_mode`` holds
          for the others. With rho = 0 it is the gradient of the outer loss, label smoothing
          included, as in Free.

    References:
        "Adversarial training using contrastive divergence" (ATCD, Algorithm 1, equations 13 and
        14), ICLR 2021 submission.
    """

    name: ClassVar[str] = "atcd"
    paper: ClassVar[str] = (
        "Adversarial training using contrastive divergence. ICLR 2021 submission."
    )
    metropolis: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class Cat(ContrastiveRecipe):
    """Contrastive adversarial training: ATCD without the Metropolis-Hastings test.

    Differences from the paper and cost are those of ``Atcd``. A minibatch costs T K
    forwards and T (K + 1) backwards.

    References:
        Wang, Li, Liu, Lin, "A Hamiltonian Monte Carlo method for probabilistic adversarial attack
        and learning", IEEE TPAMI 2022, Algorithm 3.
    """

    name: ClassVar[str] = "cat"
    paper: ClassVar[str] = (
        "Wang, Li, Liu, Lin. A Hamiltonian Monte Carlo method for probabilistic adversarial attack"
        " and learning. IEEE TPAMI 2022."
    )
    metropolis: bool = False
