"""Data sets as tensors in memory, read from local files.

Nothing is downloaded, and no code in a file is executed.

from art_ext.data import load_data
digits = load_data("digits").first(100)      # scikit-learn's digits, always available
mnist = load_data("mnist", root="data")      # also through the environment variable ART_EXT_DATA
mine = load_data("my_images.npz")            # see load_data for the layouts
"""

from __future__ import annotations

from art_ext.data.dataset import Dataset, dataset_from_arrays
from art_ext.data.loading import DATA_NAMES, load_data

__all__ = ["DATA_NAMES", "Dataset", "dataset_from_arrays", "load_data"]
