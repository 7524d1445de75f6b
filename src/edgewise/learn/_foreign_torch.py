"""A network of PyTorch – TorchScript, or an exported program – as ONNX. Runs in the limited process alone."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import onnxscript  # noqa: F401 - loaded before the limits hold; torch.onnx needs it
import torch

from edgewise.learn._foreign_common import Missing, batches
from edgewise.learn._torch_files import checked_exported, checked_script

SCRIPT_OPSET = 17  # read by every onnxruntime since 1.12
EXPORTED_OPSET = 18  # the lowest that PyTorch's exporter of programs writes
Facts = dict[str, Any]


def convert_script(data: bytes, inputs: Any, _trusted: list[str], facts: Facts) -> tuple[bytes, dict[str, Any]]:
    """The network, and what the program itself answers to the inputs to compare on."""
    module = torch.jit.load(  # type: ignore[no-untyped-call]
        io.BytesIO(checked_script(data)), map_location="cpu"
    )
    facts["model"] = f"TorchScript {module.original_name}"[:80]
    facts["was_training"] = bool(module.training)
    module.eval()
    if inputs is None:
        raise Missing("input", "TorchScript does not tell its shape; the spec has to: kind image, table or series")
    answers = _answers(module, inputs, None, facts)
    names = _output_names(len(answers))
    made = io.BytesIO()
    torch.onnx.export(
        module,
        (torch.from_numpy(inputs[:2]),),
        made,  # type: ignore[arg-type]  # its stubs know no file objects, the exporter by tracing takes them
        dynamo=False,
        input_names=["input"],
        output_names=names,
        dynamic_axes={name: {0: "N"} for name in ("input", *names)},
        opset_version=SCRIPT_OPSET,
    )
    return made.getvalue(), dict(zip(names, answers, strict=True))


def convert_exported(data: bytes, inputs: Any, _trusted: list[str], facts: Facts) -> tuple[bytes, dict[str, Any]]:
    """As `convert_script`, of a program of `torch.export.save`."""
    program = torch.export.load(io.BytesIO(checked_exported(data)))
    facts["model"] = "exported program"
    taken = [node.meta["val"] for node in program.graph.nodes if node.name in program.graph_signature.user_inputs]
    if len(taken) != 1 or not isinstance(taken[0], torch.Tensor):
        raise Missing("input", f"it takes {len(taken)} inputs; exactly one tensor is needed")
    shape = [size if isinstance(size, int) else "N" for size in taken[0].shape]
    facts["input"] = shape
    if inputs is None:
        raise Missing(
            "input", f"it takes {shape}; the spec has to say how a frame becomes it: kind image, table or series"
        )
    size = shape[0] if shape and isinstance(shape[0], int) else None  # exported for so many inputs at once
    answers = _answers(program.module(), inputs, size, facts)
    names = _output_names(len(answers))
    made = torch.onnx.export(
        program,
        (),
        dynamo=True,
        input_names=["input"],
        output_names=names,
        opset_version=EXPORTED_OPSET,
        verbose=False,
        external_data=False,
    )
    assert made is not None
    return made.model_proto.SerializeToString(), dict(zip(names, answers, strict=True))


def _answers(module: Any, inputs: Any, size: int | None, facts: Facts) -> list[np.ndarray[Any, Any]]:
    """Each output for all inputs."""
    pieces = [_flat(_run(module, torch.from_numpy(piece), facts)) for piece in batches(inputs, size)]
    return [np.concatenate(parts) for parts in zip(*pieces, strict=True)]


def _run(module: Any, inputs: torch.Tensor, facts: Facts) -> Any:
    try:
        with torch.no_grad():
            return module(inputs)
    except (RuntimeError, AssertionError, TypeError) as error:
        if "allocate memory" in str(error):
            raise
        line = " ".join(str(error).split())[-200:]
        raise Missing(
            "input",
            f"{facts['model']} does not take float32 {list(inputs.shape)}, which the spec's input makes: {line}",
        ) from error


def _flat(given: Any) -> list[np.ndarray[Any, Any]]:
    found = list(given.values()) if isinstance(given, dict) else given
    found = list(found) if isinstance(found, list | tuple) else [found]
    if not found or not all(isinstance(one, torch.Tensor) and one.is_floating_point() and one.ndim for one in found):
        raise Missing("scores", "it does not answer with tensors of floats alone; export what gives the scores")
    return [one.detach().to(torch.float32).numpy() for one in found]


def _output_names(count: int) -> list[str]:
    return ["output"] if count == 1 else [f"output{number}" for number in range(count)]
