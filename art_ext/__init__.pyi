"""The names of the front.

Written by ``make shells`` from the lists of attacks, detectors and trainers. Change those instead.
"""

from art_ext import attacks as attacks
from art_ext import core as core
from art_ext import data as data
from art_ext import detectors as detectors
from art_ext import evaluation as evaluation
from art_ext import examples as examples
from art_ext import models as models
from art_ext import testing as testing
from art_ext import torchattacks as torchattacks
from art_ext import trainers as trainers
from art_ext import training as training
from art_ext.core.attacks import ai_fgsm as ai_fgsm
from art_ext.core.attacks import auto_pgd as auto_pgd
from art_ext.core.attacks import bandits as bandits
from art_ext.core.attacks import cw as cw
from art_ext.core.attacks import ead as ead
from art_ext.core.attacks import fgsm as fgsm
from art_ext.core.attacks import frank_wolfe as frank_wolfe
from art_ext.core.attacks import frank_wolfe_black_box as frank_wolfe_black_box
from art_ext.core.attacks import hmcam as hmcam
from art_ext.core.attacks import i_fgm as i_fgm
from art_ext.core.attacks import i_fgsm as i_fgsm
from art_ext.core.attacks import in_distribution as in_distribution
from art_ext.core.attacks import m_pgd as m_pgd
from art_ext.core.attacks import mi_fgsm as mi_fgsm
from art_ext.core.attacks import nes as nes
from art_ext.core.attacks import opt as opt
from art_ext.core.attacks import pgd as pgd
from art_ext.core.attacks import rays as rays
from art_ext.core.attacks import sign_gradient as sign_gradient
from art_ext.core.attacks import sign_opt as sign_opt
from art_ext.core.attacks import signhunter as signhunter
from art_ext.core.attacks import square as square
from art_ext.core.attacks import zoo as zoo
from art_ext.core.metrics import adbd as adbd
from art_ext.core.result import AttackResult as AttackResult
from art_ext.data import load_data as load_data
from art_ext.evaluation import evaluate as evaluate
from art_ext.models import load_model as load_model
from art_ext.training import train as train

__all__ = [
    "AttackResult",
    "adbd",
    "ai_fgsm",
    "auto_pgd",
    "bandits",
    "cw",
    "ead",
    "evaluate",
    "fgsm",
    "frank_wolfe",
    "frank_wolfe_black_box",
    "hmcam",
    "i_fgm",
    "i_fgsm",
    "in_distribution",
    "load_data",
    "load_model",
    "m_pgd",
    "mi_fgsm",
    "nes",
    "opt",
    "pgd",
    "rays",
    "sign_gradient",
    "sign_opt",
    "signhunter",
    "square",
    "train",
    "zoo",
]

__version__: str
