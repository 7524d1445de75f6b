"""An ONNX file of others: read without running it, and its inputs and outputs beside what the spec says of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import onnx
from onnx import TensorProto

from edgewise.frames import input_shape
from edgewise.learn._import_spec import ImportSpec, Note
from edgewise.wire import NotValid


def read_onnx(data: bytes, name: str) -> onnx.ModelProto:
    """The network in a file's bytes; its own folder is never looked into for the weights of others.

    Args:
        name: of the file, for messages.
    Raises:
        NotValid: it is no ONNX file, not a whole one, or keeps its weights elsewhere.
    """
    try:
        model = onnx.load_model_from_string(data)
        outside = [one.name for one in model.graph.initializer if one.data_location == TensorProto.EXTERNAL]
        if outside:
            raise NotValid(
                f"{name} keeps {len(outside)} arrays in other files, first {outside[0][:80]!r}; save it as one "
                "file: onnx.save(onnx.load(path), one_path)",
                code="model_external",
            )
        onnx.checker.check_model(model)
    except NotValid:
        raise
    except Exception as error:  # protobuf and onnx raise classes of their own
        line = " ".join(str(error).split())[:300]
        raise NotValid(f"{name} is no ONNX file that can be read: {line}", code="model_invalid") from None
    if not model.graph.input or not model.graph.output:
        raise NotValid(f"{name} has no input or no output; export the whole network", code="model_invalid")
    return model


def shape_of(value: onnx.ValueInfoProto) -> list[int | str]:
    """Sizes, and names of those that are free."""
    dims = value.type.tensor_type.shape.dim
    return [one.dim_value if one.HasField("dim_value") else one.dim_param or "?" for one in dims]


def names_of(values: Sequence[onnx.ValueInfoProto]) -> str:
    """Tensors with their shapes, for people."""
    return ", ".join(f"{one.name} {shape_of(one)}" for one in values)


def check_input(model: onnx.ModelProto, spec: ImportSpec | None, note: Note) -> None:
    """Say whether the network takes what the spec's input makes."""
    weights = {one.name for one in model.graph.initializer}
    inputs = [one for one in model.graph.input if one.name not in weights]
    if len(inputs) != 1:
        note("missing", "input", f"{len(inputs)} inputs ({names_of(inputs)}); exactly one is needed")
        return
    shape, kind = shape_of(inputs[0]), inputs[0].type.tensor_type.elem_type
    seen = f"{inputs[0].name} {shape}"
    if kind != TensorProto.FLOAT:
        note("missing", "input", f"{seen} is of type {TensorProto.DataType.Name(kind)}; FLOAT is needed")
    elif spec is None:
        note("missing", "input", f"{seen}; the spec has to say how a frame becomes it: kind image, table or series")
    else:
        wanted = input_shape(spec.input)
        fits = len(shape) == len(wanted) + 1 and all(
            isinstance(have, str) or have == need for have, need in zip(shape[1:], wanted, strict=True)
        )
        level: Literal["missing", "found"] = "found" if fits else "missing"
        note(level, "input", seen if fits else f"{seen}; the spec's input makes ['N', {', '.join(map(str, wanted))}]")


def find_scores(model: onnx.ModelProto, spec: ImportSpec, note: Note) -> str | None:
    """The output with the scores; None where it is missing or not clear."""
    outputs = {one.name: one for one in model.graph.output}
    if spec.scores is not None:
        if spec.scores in outputs:
            note("found", "scores", names_of([outputs[spec.scores]]))
            return spec.scores
        note("missing", "scores", f"{spec.scores!r} is no output; outputs are {names_of(model.graph.output)}")
        return None
    count = len(spec.labels)
    fitting = [
        name for name, one in outputs.items() if len(shape_of(one)) == 2 and shape_of(one)[1] in (count, "?")
    ] or [name for name, one in outputs.items() if len(shape_of(one)) == 2 and isinstance(shape_of(one)[1], str)]
    if len(fitting) == 1:
        note("assumed", "scores", f"{fitting[0]}, the only output that can have a column for each of {count} labels")
        return str(fitting[0])
    seen = "several outputs" if fitting else "no output"
    note("missing", "scores", f"{seen} with {count} columns; name one of {names_of(model.graph.output)} as scores")
    return None


def free_batch(model: onnx.ModelProto) -> bool:
    """Let the first axis of input and outputs be any number; comes back with whether one was fixed."""
    fixed = False
    for value in (*model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        if dims and not (dims[0].HasField("dim_param") and dims[0].dim_param):
            fixed = fixed or dims[0].HasField("dim_value")
            dims[0].dim_param = "N"
    return fixed
