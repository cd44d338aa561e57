"""The networks of the papers, their weights, and models named on a command line.

Every network takes images in [0, 1] and normalises them itself, so that a perturbation is always
measured in pixels.

    from art_ext.models import cifar_resnet20, load_model, load_weights
    model = load_weights(cifar_resnet20(), "resnet20.safetensors").eval()
    loaded = load_model("timm/resnet18")  # see load_model for the sources
    generator = load_generator("runs/gan")  # from latents and classes to images
"""

from __future__ import annotations

from art_ext.models.activations import replace_activations
from art_ext.models.cifar import cifar_resnet, cifar_resnet20
from art_ext.models.dense import densenet121, densenet_bc
from art_ext.models.factory import resolve_factory
from art_ext.models.generators import ConditionalGenerator, Discriminator, load_generator
from art_ext.models.joint import JointEnsemble, members
from art_ext.models.layers import Normalize, normalized
from art_ext.models.mnist import digits_cnn, mnist_lenet5, mnist_small_cnn, mnist_two_conv
from art_ext.models.plain import cifar_seven_layer, vgg16
from art_ext.models.remote import RemoteClassifier, drop_damaged_answers
from art_ext.models.residual import preact_resnet18, resnet18, resnet50, wide_resnet
from art_ext.models.resnext import resnext29
from art_ext.models.sources import LoadedModel, ModelSource, load_model
from art_ext.models.weights import load_weights, save_weights

__all__ = [
    "ConditionalGenerator",
    "Discriminator",
    "JointEnsemble",
    "LoadedModel",
    "ModelSource",
    "Normalize",
    "RemoteClassifier",
    "cifar_resnet",
    "cifar_resnet20",
    "cifar_seven_layer",
    "densenet121",
    "densenet_bc",
    "digits_cnn",
    "drop_damaged_answers",
    "load_generator",
    "load_model",
    "load_weights",
    "members",
    "mnist_lenet5",
    "mnist_small_cnn",
    "mnist_two_conv",
    "normalized",
    "preact_resnet18",
    "replace_activations",
    "resnet18",
    "resnet50",
    "resnext29",
    "resolve_factory",
    "save_weights",
    "vgg16",
    "wide_resnet",
]
