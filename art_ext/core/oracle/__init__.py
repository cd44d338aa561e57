"""Query-counted access to a model.

The type of the oracle is the threat model. A hard-label attack gets a ``LabelOracle``, which has
neither scores nor gradients.
"""

from art_ext.core.oracle.gradients import Differentiated, GradientOracle
from art_ext.core.oracle.labels import LabelOracle
from art_ext.core.oracle.labels import Model as Model  # a type, without a page of its own
from art_ext.core.oracle.scores import Judge as Judge
from art_ext.core.oracle.scores import ScoreOracle

__all__ = ["Differentiated", "GradientOracle", "LabelOracle", "ScoreOracle"]
