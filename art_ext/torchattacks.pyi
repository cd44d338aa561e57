"""All of torchattacks plus our attacks.

Written by ``make shells`` from the lists of attacks, detectors and trainers. Change those instead.
"""

from typing import Any

from torchattacks import *  # noqa: F403

from art_ext.adapters.torchattacks.attacks import AIFGSM as AIFGSM
from art_ext.adapters.torchattacks.attacks import EAD as EAD
from art_ext.adapters.torchattacks.attacks import FW as FW
from art_ext.adapters.torchattacks.attacks import HMCAM as HMCAM
from art_ext.adapters.torchattacks.attacks import IFGM as IFGM
from art_ext.adapters.torchattacks.attacks import MPGD as MPGD
from art_ext.adapters.torchattacks.attacks import NES as NES
from art_ext.adapters.torchattacks.attacks import OPT as OPT
from art_ext.adapters.torchattacks.attacks import ZOO as ZOO
from art_ext.adapters.torchattacks.attacks import Bandits as Bandits
from art_ext.adapters.torchattacks.attacks import FWBlack as FWBlack
from art_ext.adapters.torchattacks.attacks import RayS as RayS
from art_ext.adapters.torchattacks.attacks import SignGradient as SignGradient
from art_ext.adapters.torchattacks.attacks import SignHunter as SignHunter
from art_ext.adapters.torchattacks.attacks import SignOPT as SignOPT

__all__: list[str]

def __getattr__(name: str) -> Any: ...
