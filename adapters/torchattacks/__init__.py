"""Our attacks as torchattacks ``Attack`` subclasses.

The classes are written by ``make shells``.
"""

from art_ext.adapters.torchattacks import attacks
from art_ext.adapters.torchattacks.attacks import *  # noqa: F403
from art_ext.adapters.torchattacks.attacks import ATTACKS
from art_ext.adapters.torchattacks.making import make
from art_ext.adapters.torchattacks.registration import Registration, register

__all__ = ["ATTACKS", "Registration", "make", "register"]
__all__ += attacks.__all__
