"""AutoAttack in one call, over either of its packages."""

from art_ext.adapters.autoattack.package import Flag
from art_ext.adapters.autoattack.running import AutoAttackResult, listed_attacks, run_autoattack

__all__ = ["AutoAttackResult", "Flag", "listed_attacks", "run_autoattack"]
