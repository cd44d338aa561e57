"""Our attacks as ART ``EvasionAttack`` subclasses: numpy in, numpy out, ART's names and checks, no mathematics."""

from art_ext.attacks.rays import RayS

__all__ = ["RayS"]
