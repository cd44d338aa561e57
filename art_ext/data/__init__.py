"""Data sets as tensors, in memory or read from their source when they are needed.

No code in a data file is executed.

from art_ext.data import as_dataset, load_data
digits = load_data("digits").first(100)      # scikit-learn's digits, always available
mnist = load_data("mnist", root="data")      # also through the environment variable ART_EXT_DATA
mine = load_data("my_images.npz")            # see load_data for the layouts
theirs = as_dataset(torchvision_dataset)     # also loaders, Hugging Face and MAITE datasets
"""

from __future__ import annotations

from art_ext.data.dataset import Dataset, dataset_from_arrays
from art_ext.data.lazy import LazyDataset
from art_ext.data.loading import DATA_NAMES, load_data
from art_ext.data.objects import as_dataset
from art_ext.data.request import ModelFacts
from art_ext.data.samples import Samples
from art_ext.data.transform import Transform

__all__ = [
    "DATA_NAMES",
    "Dataset",
    "LazyDataset",
    "ModelFacts",
    "Samples",
    "Transform",
    "as_dataset",
    "dataset_from_arrays",
    "load_data",
]
