"""AutoAttack under the signature of the git package ``autoattack``, on top of the PyPI package
``pyautoattack``.

Imported by :mod:`art_ext.adapters.robustbench` only where no real ``autoattack`` is installed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pyautoattack
import torch
from torch import Tensor, nn


class AutoAttack(pyautoattack.AutoAttack):
    """The ensemble of parameter-free attacks, called as ``autoattack.AutoAttack`` is.

    Progress goes to the logger ``auto-attack``, where pyautoattack writes it. A ``state_path`` left
    by an earlier call cannot be resumed: neither package can.

    References:
        Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
        parameter-free attacks", 2020.
    """

    def __init__(
        self,
        model: nn.Module,
        norm: str = "Linf",
        eps: float = 0.3,
        seed: int | None = None,
        verbose: bool = True,
        attacks_to_run: Sequence[str] = (),
        version: str = "standard",
        is_tf_model: bool = False,
        device: str | torch.device = "cuda",
        log_path: str | Path | None = None,
    ) -> None:
        if is_tf_model:
            raise ValueError(
                "is_tf_model must be False, got True: pyautoattack attacks PyTorch models only"
            )
        if log_path is not None:
            raise ValueError(
                f"log_path must be None, got {log_path}: add a handler to the logger 'auto-attack'"
            )
        attacks = list(attacks_to_run)
        super().__init__(
            model,
            attacks=attacks or None,
            device=device,
            eps=eps,
            norm=norm,
            seed=seed,
            version=version,
        )
        self.verbose = verbose
        # pyautoattack keeps None, but callers may append to the list before they run it
        if version == "custom":
            self.attacks_to_run = attacks

    def run_standard_evaluation(
        self,
        x_orig: Tensor,
        y_orig: Tensor,
        bs: int = 250,
        return_labels: bool = False,
        state_path: Path | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Attack the images that the model gets right, one attack after the other.

        Args:
            x_orig: (N, C, H, W) images in [0, 1].
            y_orig: (N,) class indices.
            bs: rows per model call.
            return_labels: also return what the model predicts for each row returned.
            state_path: file in which pyautoattack records what it has done.

        Returns:
            (N, C, H, W) images, adversarial where an attack succeeded, and (N,) labels if asked
            for.
        """
        trace = sys.gettrace()
        try:
            adversarial, labels = super().run_standard_evaluation(
                x_orig, y_orig, batch_size=bs, state_path=state_path
            )
        finally:
            # its check for dynamic defences switches off debuggers and coverage
            sys.settrace(trace)
        return (adversarial, labels) if return_labels else adversarial

    def run_standard_evaluation_individual(
        self, x_orig: Tensor, y_orig: Tensor, bs: int = 250, return_labels: bool = False
    ) -> dict[str, Tensor | tuple[Tensor, Tensor]]:
        """Run each attack by itself on all images: the name of the attack, and what it returned.

        Arguments and values are those of :meth:`run_standard_evaluation`.
        """
        attacks, results = self.attacks_to_run, {}
        try:
            for attack in attacks:
                self.attacks_to_run = [attack]
                results[attack] = self.run_standard_evaluation(x_orig, y_orig, bs, return_labels)
        finally:
            self.attacks_to_run = attacks
        return results
