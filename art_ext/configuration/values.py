"""Names for help and completion, written by ``make tables`` from their lists."""

from __future__ import annotations

ATTACKS = (
    "ai_fgsm",
    "auto_pgd",
    "cw",
    "ead",
    "fgsm",
    "frank_wolfe",
    "frank_wolfe_black_box",
    "hmcam",
    "i_fgm",
    "i_fgsm",
    "in_distribution",
    "m_pgd",
    "mi_fgsm",
    "nes",
    "pgd",
    "rays",
    "sign_gradient",
    "square",
    "zoo",
)

DATA = (
    "cifar10",
    "cifar100",
    "digits",
    "fashion-mnist",
    "imagenet",
    "imagenet:robustbench",
    "mnist",
)

MODELS = (
    "cifar-resnet",
    "cifar-resnet20",
    "cifar-seven-layer",
    "densenet-bc",
    "densenet121",
    "digits-cnn",
    "mnist-conv2",
    "mnist-lenet5",
    "mnist-smallcnn",
    "preactresnet18",
    "resnet18",
    "resnet50",
    "resnext29",
    "vgg16",
    "wideresnet",
)

NORMS = ("l1", "l2", "linf")

PANELS = (
    "black-box",
    "black-box-2026.11",
    "paper",
    "paper-2026.11",
    "quick",
    "quick-2026.11",
    "rand",
    "rand-2026.11",
    "standard",
    "standard-2026.11",
    "standard-2026.12",
)

PRESETS = (
    "andriushchenko2020",
    "atcd-cifar10",
    "atcd-mnist",
    "chen-backward-smoothing",
    "chen-backward-smoothing-cyclic",
    "madry2018-cifar10",
    "madry2018-mnist",
    "pang2021",
    "pang2021-early-40-100",
    "pang2021-early-40-70",
    "pang2021-early-60-100",
    "pang2021-eval-bn",
    "pang2021-softplus-ls",
    "pang2021-trades",
    "rice2020",
    "shafahi2019-free8",
    "wong2020",
    "wong2020-mnist",
    "wu-war",
    "yopo2019-mnist",
    "yopo2019-preactresnet18",
    "yopo2019-trades-3-4",
    "yopo2019-wrn34",
    "zhang2019-trades",
)

RECIPES = (
    "adp",
    "atcd",
    "backward-smoothing",
    "cat",
    "distillation",
    "fast",
    "fast-plus",
    "fast-trades",
    "free",
    "grad-align",
    "mmc",
    "mmlda",
    "natural",
    "pgd",
    "rce",
    "trades",
    "war",
    "yopo",
    "yopo-trades",
)
