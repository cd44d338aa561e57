"""RobustBench as it comes from PyPI, made importable.

RobustBench 1.1.1 imports ``autoattack``, but the dependency that its metadata installs is called
``pyautoattack`` and has another signature. The bridge lasts as long as one import: site-packages is
not touched, no name stays behind.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import ModuleType


@contextmanager
def autoattack_bridge() -> Iterator[None]:
    """Let ``import autoattack`` find pyautoattack under autoattack's old signature inside the
    ``with`` block.

    A real ``autoattack``, where one is installed, is left alone.

    Raises:
        ImportError: if neither autoattack nor pyautoattack is installed.
    """
    if "autoattack" in sys.modules or find_spec("autoattack") is not None:
        yield
        return
    try:
        from pyautoattack.state import EvaluationState

        from art_ext.adapters.autoattack.git_signature import AutoAttack
    except ImportError as error:
        raise ImportError(
            "neither autoattack nor pyautoattack found: pip install 'art-ext[robustbench]'"
        ) from error
    package, state = ModuleType("autoattack"), ModuleType("autoattack.state")
    vars(state).update(EvaluationState=EvaluationState)
    vars(package).update(AutoAttack=AutoAttack, state=state)
    sys.modules.update({"autoattack": package, "autoattack.state": state})
    try:
        yield
    finally:
        for name in ("autoattack", "autoattack.state"):
            sys.modules.pop(name, None)


def import_robustbench() -> ModuleType:
    """Import RobustBench through the bridge.

    Returns:
        The module ``robustbench``, which ``import robustbench`` finds from then on.

    Raises:
        ImportError: if RobustBench or something it imports is missing, or if ``robustbench`` is the
            stub that torchattacks' wheel installs under that name. The message says what to do.
    """
    with autoattack_bridge():
        try:
            module = importlib.import_module("robustbench")
        except ImportError as error:
            raise ImportError(
                f"RobustBench cannot be imported ({error}): `art-ext doctor` explains why"
            ) from error
    if not hasattr(module, "benchmark"):
        raise ImportError(
            f"{module.__file__} is not RobustBench but the stub in torchattacks' wheel: "
            "pip install --no-deps --force-reinstall robustbench==1.1.1"
        )
    return module
