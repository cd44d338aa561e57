"""One module per method, or per family of one engine; each exposes functions of a model, samples
and labels.
"""

from art_ext.core.attacks.auto_pgd import auto_pgd
from art_ext.core.attacks.cw import cw
from art_ext.core.attacks.ead import ead
from art_ext.core.attacks.frank_wolfe import frank_wolfe
from art_ext.core.attacks.frank_wolfe_black_box import frank_wolfe_black_box
from art_ext.core.attacks.hmcam import hmcam
from art_ext.core.attacks.i_fgm import i_fgm
from art_ext.core.attacks.nes import nes
from art_ext.core.attacks.rays import rays
from art_ext.core.attacks.sign_gradient import (
    ai_fgsm,
    fgsm,
    i_fgsm,
    m_pgd,
    mi_fgsm,
    pgd,
    sign_gradient,
)
from art_ext.core.attacks.zoo import zoo

__all__ = [
    "ai_fgsm",
    "auto_pgd",
    "cw",
    "ead",
    "fgsm",
    "frank_wolfe",
    "frank_wolfe_black_box",
    "hmcam",
    "i_fgm",
    "i_fgsm",
    "m_pgd",
    "mi_fgsm",
    "nes",
    "pgd",
    "rays",
    "sign_gradient",
    "zoo",
]
