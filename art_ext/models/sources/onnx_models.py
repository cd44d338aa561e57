"""Networks in the ONNX format, run by onnxruntime: ``FILE.onnx``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from art_ext.core.checks import check_choice
from art_ext.models.factory import digest_of_file, literals
from art_ext.models.sources.libraries import import_library
from art_ext.models.sources.source import ModelSource, Opened


class OnnxModel:
    """Outputs of an ONNX network for rows (R, *S). It has no gradients.

    Args:
        session: of onnxruntime.
        file: of the network.
        output: name of its output.
    """

    gives_gradients = False

    def __init__(self, session: Any, file: Path, output: str) -> None:
        self.__name__ = file.name
        self.digest = digest_of_file(file)
        self._session = session
        self._input = session.get_inputs()[0].name
        self._output = output

    def __call__(self, rows: Tensor) -> Tensor:
        """Return the output for rows (R, *S).

        Raises:
            ValueError: if a gradient is wanted.
        """
        if rows.requires_grad and torch.is_grad_enabled():
            raise ValueError(
                f"{self.__name__} runs in onnxruntime, which has no gradients: choose attacks that"
                " need labels or scores, such as --panel black-box"
            )
        given = {self._input: np.ascontiguousarray(rows.detach().cpu().numpy())}
        found = self._session.run([self._output], given)[0]
        return torch.from_numpy(found).to(rows.device)


def open_model(source: ModelSource) -> Opened:
    """Open an ONNX file.

    ``model_args`` may hold ``output``, the name of the output to use, and ``providers``, those of
    onnxruntime.

    Raises:
        ImportError: without onnxruntime.
        ValueError: for a file that cannot be read, has several inputs, a fixed batch, or several
            outputs of which none is named.
    """
    library = import_library("onnxruntime", source.source, "onnx")
    file = Path(source.source)
    if not file.is_file():
        raise ValueError(f"{file} must be an ONNX file, which does not exist or is a folder")
    if source.weights is not None or source.untrained:
        raise ValueError(f"{file} holds its own weights: --weights and --untrained do not apply")
    arguments = literals(source.model_args)
    options = library.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    providers = arguments.get("providers", ["CPUExecutionProvider"])
    try:
        session = library.InferenceSession(str(file), options, providers=providers)
    except Exception as error:  # of onnxruntime's own kinds
        first = str(error).partition("\n")[0]
        raise ValueError(f"{file} must be an ONNX file, but onnxruntime says: {first}") from error
    shape = _input_shape(session, file)
    return Opened(OnnxModel(session, file, _output(session, file, arguments)), None, shape)


def _input_shape(session: Any, file: Path) -> tuple[int, ...] | None:
    """Return the shape of a sample, or None if a part of it is free."""
    inputs = session.get_inputs()
    if len(inputs) != 1:
        names = ", ".join(one.name for one in inputs)
        raise ValueError(f"{file} must have one input, got {len(inputs)}: {names}")
    if inputs[0].type != "tensor(float)":
        raise ValueError(f"{file} must take float32, got {inputs[0].type}")
    batch, *shape = inputs[0].shape or [None]
    if isinstance(batch, int):
        raise ValueError(
            f"{file} must take any number of rows, got a fixed batch of {batch}: export it with a"
            " dynamic first axis (dynamic_axes, or dynamic_shapes with dynamo=True)"
        )
    return tuple(shape) if all(isinstance(side, int) for side in shape) else None


def _output(session: Any, file: Path, arguments: dict[str, Any]) -> str:
    """Return the name of the output to use."""
    names = tuple(one.name for one in session.get_outputs())
    if "output" in arguments:
        check_choice("output of model_args", arguments["output"], names)
        return str(arguments["output"])
    if len(names) > 1:
        raise ValueError(
            f"{file} has the outputs {', '.join(names)}: choose one by --model-args output=NAME"
        )
    return names[0]
