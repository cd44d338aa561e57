"""Options that several commands take, each with its text once."""

from __future__ import annotations

from dataclasses import replace

from art_ext.configuration.options import COMMAND, LOOP, Option
from art_ext.configuration.values import MODELS

INPUT = "input"  # the unit of eps
DATA = Option(
    "digits, mnist, fashion-mnist, cifar10, cifar100, imagenet, hf:NAME, torchvision:NAME,"
    " FILE.py:FUNCTION, or a path (.npz, .npy, a folder). art-ext data lists all names."
)
MODEL = Option(
    "timm/NAME, torchvision/NAME, hf/NAME or hf/FOLDER, robustbench/NAME, FILE.onnx, the folder of"
    f" a training, FILE.py:FACTORY or MODULE:FACTORY, or {', '.join(MODELS)} (art-ext models lists"
    " all)."
)
MODEL_ARGS = Option("Arguments of the factory or of the library: key=value,key=value.")
WEIGHTS = Option("Checkpoint: safetensors, or torch.save of tensors.")
NORMALIZE = Option(
    "Mean and standard deviation of the inputs in place of the source's own: imagenet, cifar10,"
    " cifar100, mnist, none, or 'MEAN;STD' with commas between the channels.",
    metavar="NAME|MEAN;STD",
)
CHECKPOINT = Option(
    "Weights of the folder of a training: best or final.", choices=("best", "final"), of=("model",)
)
UNTRAINED = Option("Initial weights drawn by the seed, no pretrained ones.")
TRUST_CHECKPOINT = Option(
    "Unpickle checkpoints that hold more than tensors. This runs the code in them."
)
CLASS_ORDER = Option(
    "Order of class folders: numeric (whole numbers by value) or text (as torchvision sorts them).",
    choices=("numeric", "text"),
)
CLASSES = Option(
    "File with the class index of each class folder: JSON, CSV folder,index, or one folder a line.",
    metavar="FILE",
)
NORM = Option("Norm of eps and distances: linf, l2 or l1.")
CLIP_VALUES = Option("The box: lower,upper.", unit=INPUT, shown="0,1")
DEVICE = Option("Device of the model, such as cpu or cuda.")
SEED = Option("Seed of every random number.", hosts=LOOP, range=">= 0")
TRACKERS = Option(
    "Trackers of the progress, separated by commas: tensorboard (in OUT/art_ext), wandb, mlflow.",
    doc="""``"tensorboard"``, ``"wandb"`` and ``"mlflow"``, or some of them: they get the
    progress.""",
    flag="--tracker",
    decides="",
)
TRACKER_ARGS = Option(
    "Arguments of the trackers: wandb.project=NAME,mlflow.run_name=NAME.",
    doc="""by tracker, its arguments, such as ``{"wandb": {"project": "robustness"}}``.""",
    of=("trackers",),
    decides="",
)
CONFIG = Option(
    "TOML file with these options by their names. The command line wins over it.",
    hosts=COMMAND,
    metavar="FILE.toml",
)
QUIET = Option("Print results and warnings only: no progress, no infos.", hosts=COMMAND)
FIGURE = Option(
    "Also write the card, one picture of the result, into a file that ends in .png or .svg.",
    hosts=COMMAND,
    metavar="FILE",
)
FAIL_UNDER = Option(
    "Exit with 1 if the worst case at the largest eps is below this share (0.5) or percentage"
    " (50%).",
    hosts=COMMAND,
    metavar="SHARE",
)


def with_more(shared: Option, sentence: str) -> Option:
    """Return a shared option with one more sentence, on what is particular to a command."""
    return replace(shared, help=f"{shared.help} {sentence}")
