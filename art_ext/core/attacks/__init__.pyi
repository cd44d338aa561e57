"""Attacks for type checkers. Written by ``make tables``."""

from art_ext.core.attacks import registry as registry
from art_ext.core.attacks.auto_pgd import auto_pgd as auto_pgd
from art_ext.core.attacks.cw import cw as cw
from art_ext.core.attacks.ead import ead as ead
from art_ext.core.attacks.frank_wolfe import frank_wolfe as frank_wolfe
from art_ext.core.attacks.frank_wolfe_black_box import (
    frank_wolfe_black_box as frank_wolfe_black_box,
)
from art_ext.core.attacks.hmcam import hmcam as hmcam
from art_ext.core.attacks.i_fgm import i_fgm as i_fgm
from art_ext.core.attacks.nes import nes as nes
from art_ext.core.attacks.rays import rays as rays
from art_ext.core.attacks.sign_gradient import ai_fgsm as ai_fgsm
from art_ext.core.attacks.sign_gradient import fgsm as fgsm
from art_ext.core.attacks.sign_gradient import i_fgsm as i_fgsm
from art_ext.core.attacks.sign_gradient import m_pgd as m_pgd
from art_ext.core.attacks.sign_gradient import mi_fgsm as mi_fgsm
from art_ext.core.attacks.sign_gradient import pgd as pgd
from art_ext.core.attacks.sign_gradient import sign_gradient as sign_gradient
from art_ext.core.attacks.zoo import zoo as zoo

__all__: list[str]
