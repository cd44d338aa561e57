"""Our attacks as ART ``EvasionAttack`` subclasses: numpy in, numpy out, ART's names and checks,
no mathematics.

The classes are written by ``make shells``.
"""

from art_ext.attacks import shells
from art_ext.attacks.making import make
from art_ext.attacks.shells import *  # noqa: F403

__all__ = ["make"]
__all__ += shells.__all__
