"""Contract checks of attacks, recipes, detectors and models of your own, for your tests.

    from art_ext.testing import check_attack

    def test_my_attack():
        check_attack(my_attack)

``art-ext attacks --check FILE.py:FUNCTION`` prints the same checks, one line each.
"""

from art_ext.testing.attacks import check_attack
from art_ext.testing.checks import Check
from art_ext.testing.detectors import check_detector
from art_ext.testing.models import check_model
from art_ext.testing.recipes import check_recipe

__all__ = ["Check", "check_attack", "check_detector", "check_model", "check_recipe"]
