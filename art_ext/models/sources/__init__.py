"""Models by name: of files, libraries, trainings and other packages.

from art_ext.models import load_model
loaded = load_model("timm/resnet18")
scores = loaded.model(loaded.transform(image)[None])
"""

from __future__ import annotations

from art_ext.models.sources.normalization import Normalization
from art_ext.models.sources.resolving import (
    LIBRARIES,
    PLUGINS,
    check_source,
    is_run_folder,
    load_model,
    load_source,
    short_name,
)
from art_ext.models.sources.source import LoadedModel, ModelSource, Opened

__all__ = [
    "LIBRARIES",
    "PLUGINS",
    "LoadedModel",
    "ModelSource",
    "Normalization",
    "Opened",
    "check_source",
    "is_run_folder",
    "load_model",
    "load_source",
    "short_name",
]
