"""Our attacks as ART ``EvasionAttack`` subclasses: numpy in, numpy out, ART's names and checks,
no mathematics.
"""

from art_ext.attacks.elastic_net import ElasticNetPyTorch
from art_ext.attacks.frank_wolfe import FrankWolfe, FrankWolfeBlackBox
from art_ext.attacks.hmcam import AIFGSM, HMCAM
from art_ext.attacks.rays import RayS
from art_ext.attacks.zoo import ZooPyTorch

__all__ = [
    "AIFGSM",
    "HMCAM",
    "ElasticNetPyTorch",
    "FrankWolfe",
    "FrankWolfeBlackBox",
    "RayS",
    "ZooPyTorch",
]
