"""Training of conditional generators, their quality, and images of them.

from art_ext.configuration.generator import GeneratorOptions
from art_ext.data import load_data
from art_ext.training.generators import measure_quality, train_generator

train, test = load_data("digits", split="train"), load_data("digits")
result = train_generator(train, GeneratorOptions(epochs=120, latent_dim=16))
measure_quality(result.generator, train, test)["agreement"]
"""

from art_ext.training.generators.loop import GeneratorResult, train_generator
from art_ext.training.generators.quality import measure_quality
from art_ext.training.generators.sampling import GeneratedImages, sample, save_images

__all__ = [
    "GeneratedImages",
    "GeneratorResult",
    "measure_quality",
    "sample",
    "save_images",
    "train_generator",
]
