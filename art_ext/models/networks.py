"""Short names of the networks of this package."""

from __future__ import annotations

NETWORKS = {  # functions of art_ext.models
    "digits-cnn": "digits_cnn",
    "mnist-conv2": "mnist_two_conv",
    "mnist-smallcnn": "mnist_small_cnn",
    "mnist-lenet5": "mnist_lenet5",
    "preactresnet18": "preact_resnet18",
    "resnet18": "resnet18",
    "resnet50": "resnet50",
    "resnext29": "resnext29",
    "densenet-bc": "densenet_bc",
    "densenet121": "densenet121",
    "vgg16": "vgg16",
    "wideresnet": "wide_resnet",
    "cifar-resnet": "cifar_resnet",
    "cifar-resnet20": "cifar_resnet20",
    "cifar-seven-layer": "cifar_seven_layer",
}
