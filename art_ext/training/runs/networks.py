"""Networks to train, by short names. Their initial weights depend on a seed only."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from art_ext.core.checks import nearest
from art_ext.models import resolve_factory

NETWORKS = {  # functions of art_ext.models
    "digits-cnn": "digits_cnn",
    "mnist-conv2": "mnist_two_conv",
    "mnist-smallcnn": "mnist_small_cnn",
    "mnist-lenet5": "mnist_lenet5",
    "preactresnet18": "preact_resnet18",
    "resnet18": "resnet18",
    "wideresnet": "wide_resnet",
    "cifar-resnet": "cifar_resnet",
    "cifar-resnet20": "cifar_resnet20",
}


def check_network(name: str) -> None:
    """Raise ValueError unless the name is a short name, FILE.py:FACTORY or MODULE:FACTORY.

    The message lists the known names and the nearest match.
    """
    if ":" not in name and name not in NETWORKS:
        raise ValueError(
            f"model must be one of {', '.join(NETWORKS)}, or FILE.py:FACTORY or MODULE:FACTORY, "
            f"got {name!r}{nearest(name, NETWORKS)}"
        )


def make_network(name: str, arguments: Mapping[str, str], seed: int) -> nn.Module:
    """Create an untrained network. torch's global random stream is not changed.

    Args:
        name: one of ``NETWORKS``, or ``FILE.py:FACTORY`` or ``MODULE:FACTORY``.
        arguments: arguments of its function, as text.
        seed: seed of the initial weights, which the function draws from torch's stream on the CPU.

    Raises:
        ValueError: for an unknown name, as in ``resolve_factory``, and if the factory returns no
            ``nn.Module``.
    """
    check_network(name)
    spec = name if ":" in name else f"art_ext.models:{NETWORKS[name]}"
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would set the streams of GPUs too
        torch.default_generator.manual_seed(seed)
        # submodules in eval mode stay there
        model = resolve_factory(spec, arguments, eval_mode=False)
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"a model to train must be an nn.Module, but {name!r} made a {type(model).__name__}"
        )
    return model
