"""Our detectors as ART ``EvasionDetector`` subclasses: numpy in, numpy out, no mathematics.

The classes are written by ``make shells``.
"""

from art_ext.detectors import shells
from art_ext.detectors.shells import *  # noqa: F403

__all__: list[str] = []
__all__ += shells.__all__
