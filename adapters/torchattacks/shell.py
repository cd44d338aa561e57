"""Parts of all torchattacks shells: labels, modes, normalisation, and the way to the core."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor, nn
from torchattacks.attack import Attack

from art_ext.core.calling import ModelCall, outside_inference_mode
from art_ext.core.ensemble import Ensemble
from art_ext.core.geometry import norm_name
from art_ext.core.interruption import AttackInterrupted
from art_ext.core.keywords import CheckedKeywords
from art_ext.core.networks import frozen_eval
from art_ext.core.outputs import read_outputs
from art_ext.core.probe import ProbeOnce
from art_ext.core.result import AttackResult


class Logits(nn.Module):
    """The attack's ``get_logits`` as a module that holds the user's model, so that the oracle
    can keep its modes.
    """

    copies_rows = True

    def __init__(self, attack: CoreAttack) -> None:
        super().__init__()
        self.model = attack.model
        self.get_logits = attack.get_logits
        self.call = attack.call

    def forward(self, rows: Tensor) -> Tensor:
        """(R, K) logits of rows in [0, 1]."""
        logits: Tensor = self.get_logits(rows)
        return logits


class EnsembleOfLosses(Ensemble):
    """The attack's ensemble that averages losses, for rows that the attack may normalise first."""

    def __init__(self, attack: CoreAttack, ensemble: Ensemble) -> None:
        super().__init__(
            ensemble.members, ensemble.weights, average="losses", outputs=ensemble.outputs
        )
        self.prepare = attack.prepare

    def member_logits(self, rows: Tensor) -> list[Tensor]:
        """K logits (R, classes) of rows in [0, 1]."""
        return super().member_logits(self.prepare(rows))


def class_indices(labels: Tensor | None) -> Tensor | None:
    """(N,) class indices of index labels (N,) or one-hot rows (N, K)."""
    if isinstance(labels, Tensor) and labels.dim() == 2 and labels.shape[1] > 1:
        return labels.argmax(dim=1)
    return labels  # the core's to accept or refuse


class CoreAttack(CheckedKeywords, Attack):
    """Base of the torchattacks shells.

    The model always runs in eval mode, and each submodule gets its own mode back. torchattacks
    itself would switch the whole network, frozen layers included, to training mode.
    """

    def __init__(self, name: str, model: nn.Module, probe: bool) -> None:
        super().__init__(name, model)
        self._store(None)
        if not isinstance(probe, bool):
            raise ValueError(f"probe must be True or False, got {probe!r}")
        self.probe = probe
        # past torchattacks' __setattr__, for the reason that _store gives
        object.__setattr__(self, "_probe_once", ProbeOnce())

    @property
    def call(self) -> ModelCall:
        """Call of the model with rows."""
        call = self.__dict__.get("_call")
        if call is None or call.model is not self.model:
            call = ModelCall(self.model)
            object.__setattr__(self, "_call", call)
        return call

    def get_logits(
        self, inputs: Tensor, labels: Tensor | None = None, *args: Any, **kwargs: Any
    ) -> Tensor:
        """Return outputs of the model for inputs, which are normalised first where that is set."""
        return self.call(self.prepare(inputs))

    def prepare(self, inputs: Tensor) -> Tensor:
        """Return the inputs, normalised where ``set_normalization_used`` says so."""
        normalised: Tensor = (
            self.normalize(inputs) if self._normalization_applied is False else inputs
        )
        return normalised

    @property
    def last_result(self) -> AttackResult | None:
        """The ``AttackResult`` of the latest call: query counts, distances, verdicts. None
        before the first.
        """
        return self._last_result

    def _store(self, result: AttackResult | None) -> None:
        # torchattacks' __setattr__ ties every value into a reference cycle: an old result, perhaps
        # on the GPU, would stay until the garbage collector runs
        object.__setattr__(self, "_last_result", result)

    def _run(
        self, function: Callable[..., AttackResult], images: Tensor, *args: Any, **options: Any
    ) -> AttackResult:
        """Call a core function on the model, and keep its result. The first call on a model
        probes it.
        """
        whole = isinstance(self.model, Ensemble) and self.model.average == "losses"
        model = EnsembleOfLosses(self, self.model) if whole else Logits(self)
        found = None
        if self.probe:
            found = self._probe_once(
                self.model, model, images, batch_size=self.batch_size, device=self.device
            )
        try:
            result = function(
                model, images, *args, batch_size=self.batch_size, device=self.device, **options
            )
        except AttackInterrupted as stop:
            self._store(stop.result if found is None else found.charge(stop.result))
            raise
        result = result if found is None else found.charge(result)
        self._store(result)
        return result

    def get_output_with_eval_nograd(self, inputs: Tensor) -> Tensor:
        """(N, K) logits, from which torchattacks chooses targets. One column is read as two
        classes.
        """
        return read_outputs(super().get_output_with_eval_nograd(inputs), len(inputs), "logits")

    @outside_inference_mode()
    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        """Attack a batch. ``set_normalization_used`` stays in force even if this raises an
        error.

        Raises:
            TypeError: if the images are no tensor.
        """
        images = args[0] if args else None
        if args and not isinstance(images, Tensor):
            raise TypeError(f"images must be a torch tensor, got {type(images).__name__}")
        applied = self._normalization_applied
        try:
            adversarial: Tensor = super().__call__(*args, **kwargs)
            return adversarial
        finally:
            self._set_normalization_applied(applied)

    def _change_model_mode(self, given_training: bool) -> None:
        """Leave the modes to the oracle."""

    def _recover_model_mode(self, given_training: bool) -> None:
        """Leave the modes to the oracle."""


class FunctionAttack(CoreAttack):
    """Base of the shells whose arguments are those of a core function but for their names.

    All of torchattacks' targeted modes work where the attack reaches given classes. The model calls
    with which a mode chooses its targets are not among the counts of ``last_result``.

    Attributes:
        _function: the core function.
        _core_names: its keywords by the shell's, where they differ.
        _targets: whether it reaches given classes.
    """

    _function: ClassVar[Callable[..., AttackResult]]
    _core_names: ClassVar[dict[str, str]] = {}
    _targets: ClassVar[bool] = True

    def __init__(self, model: nn.Module, probe: bool = True, **arguments: Any) -> None:
        super().__init__(type(self).__name__, model, probe)
        for name, value in arguments.items():
            setattr(self, name, value)
        self._arguments = tuple(arguments)
        self.supported_mode = ["default", "targeted"] if self._targets else ["default"]

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Adversarial images for (N, ...) images in [0, 1]."""
        images, goal = images.to(self.device), class_indices(labels)
        if self.targeted:
            # torchattacks' own way would switch a training model's frozen layers
            with frozen_eval(self.model):
                goal = self.get_target_label(images, goal)
        settings = {
            self._core_names.get(name, name): getattr(self, name) for name in self._arguments
        }
        settings["norm"] = norm_name(self.norm)
        del settings["batch_size"]
        if self._targets:
            settings["targeted"] = self.targeted
        result = self._run(type(self)._function, images, goal, **settings)
        return result.x_adv.clone()  # last_result stays true whatever the caller does with it
