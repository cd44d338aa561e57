"""AutoAttack in one call, over either of its packages."""

from art_ext.adapters.autoattack.plan import listed_attacks
from art_ext.adapters.autoattack.result import AutoAttackResult
from art_ext.adapters.autoattack.running import run_autoattack
from art_ext.adapters.external import Flag

__all__ = ["AutoAttackResult", "Flag", "listed_attacks", "run_autoattack"]
