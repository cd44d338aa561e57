"""RobustBench: its import bridged, its models from local files, its evaluation on our data, and
submissions to it.
"""

from art_ext.adapters.robustbench.check import Check, check_submission
from art_ext.adapters.robustbench.evaluation import Evaluation, evaluate
from art_ext.adapters.robustbench.evidence import Evidence
from art_ext.adapters.robustbench.importing import autoattack_bridge, import_robustbench
from art_ext.adapters.robustbench.info import write_model_info
from art_ext.adapters.robustbench.rebuilding import check_submitted, submitted
from art_ext.adapters.robustbench.writing import Metadata, Source, submission
from art_ext.adapters.robustbench.zoo import load_zoo_model

__all__ = [
    "Check",
    "Evaluation",
    "Evidence",
    "Metadata",
    "Source",
    "autoattack_bridge",
    "check_submission",
    "check_submitted",
    "evaluate",
    "import_robustbench",
    "load_zoo_model",
    "submission",
    "submitted",
    "write_model_info",
]
