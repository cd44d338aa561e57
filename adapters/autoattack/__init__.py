"""AutoAttack in one call, over either of its packages."""

from art_ext.adapters.autoattack.package import Flag
from art_ext.adapters.autoattack.plan import listed_attacks
from art_ext.adapters.autoattack.result import AutoAttackResult
from art_ext.adapters.autoattack.running import run_autoattack

__all__ = ["AutoAttackResult", "Flag", "listed_attacks", "run_autoattack"]
