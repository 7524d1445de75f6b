"""A network that was made elsewhere becomes a bundle like any other: an ONNX file, and what the file does not say.

An ONNX file tells its tensors and nothing of what they mean: how a picture becomes the input, what the outputs are
called, which label means good. A spec says it; the report says what is missing, with the value needed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgewise import __version__
from edgewise.frames import golden_inputs, input_shape, prepare
from edgewise.learn._dataset import TrainingSample
from edgewise.learn._graph import norms_of
from edgewise.learn._needs import measure_needs
from edgewise.learn._reference import reference_from, sketch_basis
from edgewise.learn._train import GOLDEN_COUNT, GOLDEN_TOLERANCE, MODEL_BLOB, TrainedBundle, library_versions
from edgewise.learn._trainer import Floats
from edgewise.ports import OnnxRuntime, Session, VetLimits
from edgewise.wire import (
    Blob,
    EdgewiseError,
    Golden,
    Graph,
    InputSpec,
    Manifest,
    Needs,
    NotValid,
    Provenance,
    digest,
)

MODEL_BYTES_MAX = 512 << 20
SUM_TOLERANCE = 1e-3  # probabilities of a row sum to 1
REFERENCE_MAX = 512  # samples behind a reference
Task = Literal["image-classification", "tabular-classification", "series-classification"]
TASKS: dict[str, Task] = {
    "image": "image-classification",
    "table": "tabular-classification",
    "series": "series-classification",
}
OTHER_FORMATS = {
    ".pt": "a PyTorch file runs code when it is opened; export the network where it was made: torch.onnx.export(...)",
    ".pth": "a PyTorch file runs code when it is opened; export the network where it was made: torch.onnx.export(...)",
    ".pkl": "a pickle runs code when it is opened; convert the model where it was made: skl2onnx.to_onnx(...)",
    ".joblib": "a pickle runs code when it is opened; convert the model where it was made: skl2onnx.to_onnx(...)",
    ".h5": "convert it where it was made, with tf2onnx",
    ".tflite": "convert it where it was made, with tf2onnx --tflite",
}


class ImportSpec(BaseModel):
    """What an ONNX file does not say."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=160)
    input: InputSpec = Field(discriminator="kind")
    labels: tuple[str, ...] = Field(min_length=2, max_length=10_000)
    good_labels: tuple[str, ...] = ()
    scores: str | None = Field(None, description="tensor of the scores; found by its number of columns without it")
    scores_are: Literal["probabilities", "logits"] | None = Field(None, description="found by trying without it")
    embedding: str | None = None
    defect_threshold: float = Field(0.5, ge=0, le=1)
    licence: str = "unstated"
    card: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that the bundle needs.

    Attributes:
        level: missing stops the import; assumed is worth a look; found is as it has to be.
        text: what was seen, and what is needed where something is missing.
    """

    level: Literal["missing", "assumed", "found"]
    about: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Imported:
    """The report, and the bundle where nothing is missing."""

    findings: tuple[Finding, ...]
    bundle: TrainedBundle | None


def read_spec(value: object) -> ImportSpec:
    """A spec from plain values, such as a YAML file's.

    Raises:
        NotValid: what is wrong with it.
    """
    try:
        return ImportSpec.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise NotValid(
            f"the spec's {place} is wrong: {first['msg']}; see docs/learn.md, Networks of others", code="spec_invalid"
        ) from None


def import_model(
    path: Path | str,
    spec: ImportSpec | None,
    *,
    now: datetime,
    samples: Sequence[TrainingSample] = (),
    seed: int = 0,
) -> Imported:
    """A bundle from an ONNX file, or a report of what is missing to make one.

    Args:
        spec: what the file does not say; None: the report tells what has to be in it.
        samples: for the reference that drift is measured against; none: drift stays off for this bundle.
    Raises:
        NotValid: the file cannot be read at all, or is no ONNX file. NotTrusted: it is refused by the vetting.
    """
    file = Path(path)
    findings: list[Finding] = []

    def note(level: Literal["missing", "assumed", "found"], about: str, text: str) -> None:
        findings.append(Finding(level=level, about=about, text=text))

    model = _read(file)
    opset = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)
    note("found", "opset", f"{opset}; the runtime of a device has to read it")
    _inputs(model, spec, note)
    if spec is None:
        note("missing", "spec", "no spec; give one with --spec: name, input, labels, and what else is named here")
        return Imported(findings=tuple(findings), bundle=None)
    scores = _scores(model, spec, note)
    if spec.embedding is None:
        note("assumed", "embedding", "none named: the device chooses what to keep by doubt alone, drift stays off")
    elif spec.embedding not in {one.name for one in model.graph.output}:
        note("missing", "embedding", f"{spec.embedding!r} is no output; outputs are {_names(model.graph.output)}")
    if any(one.level == "missing" for one in findings) or scores is None:
        return Imported(findings=tuple(findings), bundle=None)
    freed = _free_batch(model)
    if freed:
        note("assumed", "batch", "the first axis was fixed and is free now; it was run with one and with two inputs")
    graph = Graph(
        blob=MODEL_BLOB, input=model.graph.input[0].name, scores=scores, embedding=spec.embedding, pre=spec.input
    )
    golden = golden_inputs(spec.input, seed, GOLDEN_COUNT)
    try:
        data = _with_probabilities(model, graph, spec, golden, note)
        graph = graph.model_copy(update={"scores": _score_name(data, graph), "norms": norms_of(data) or None})
        session = OnnxRuntime().open(data, threads=1)
        answers = _run(session, graph, golden)
    except EdgewiseError as error:
        note("missing", "run", str(error))
        return Imported(findings=tuple(findings), bundle=None)
    if spec.embedding is not None:
        seen = session.run_named({graph.input: golden}, [spec.embedding])[spec.embedding]
        if seen.ndim != 2:
            note("missing", "embedding", f"{spec.embedding} has shape {seen.shape}; (N, D) is needed: flatten it")
            return Imported(findings=tuple(findings), bundle=None)
    needs = measure_needs(data, session, golden)
    _vet(data, graph, needs)
    note("found", "run", f"{needs.latency_ms:.2f} ms an input on one thread here, {len(data) / 1e6:.1f} MB")
    inputs = _prepared(samples, spec.input)
    basis = None
    if spec.embedding is not None:
        basis = sketch_basis(samples, spec.input, session, embedding=spec.embedding, scores=graph.scores)
    reference = reference_from(inputs, session, spec.embedding, basis) if len(inputs) else None
    if reference is None:
        note("assumed", "reference", "no data given: what is usual is not known, so drift stays off; give --data")
    if not spec.good_labels:
        note("assumed", "good_labels", "none: no label means good, so there is no probability of a defect")
    if spec.licence == "unstated":
        note("assumed", "licence", "unstated; name it in the spec")
    blob = digest(data)
    manifest = Manifest(
        name=spec.name,
        task=TASKS[spec.input.kind],
        graphs=(graph,),
        labels=spec.labels,
        good_label=spec.good_labels[0] if spec.good_labels else None,
        good_labels=spec.good_labels,
        defect_threshold=spec.defect_threshold,
        golden=Golden(
            seed=seed,
            count=GOLDEN_COUNT,
            scores=tuple(tuple(float(value) for value in row) for row in answers),
            tolerance=GOLDEN_TOLERANCE,
        ),
        reference=reference,
        needs=needs,
        provenance=Provenance(
            seed=seed,
            trained_at=now,
            trainer="import",
            code_version=__version__,
            libraries=library_versions({}),
            data={
                "source": file.name[:200],
                "source_sha256": digest(file.read_bytes()),
                "producer": model.producer_name,
            },
        ),
        licence=spec.licence,
        card=spec.card or f"{spec.name}: imported from {file.name}; how it was trained is not known here.",
        blobs={MODEL_BLOB: Blob(sha256=blob, size_bytes=len(data), media_type="application/x-onnx")},
    )
    bundle = TrainedBundle(manifest=manifest, blobs={blob: data}, metrics={}, log=())
    return Imported(findings=tuple(findings), bundle=bundle)


Note = Callable[[Literal["missing", "assumed", "found"], str, str], None]


def _read(file: Path) -> onnx.ModelProto:
    if (why := OTHER_FORMATS.get(file.suffix.lower())) is not None:
        raise NotValid(f"{file.name} is no ONNX file: {why}", code="model_invalid")
    try:
        size = file.stat().st_size
        if size > MODEL_BYTES_MAX:
            raise NotValid(
                f"{file.name} has {size / 1e6:.0f} MB, at most {MODEL_BYTES_MAX / 1e6:.0f} MB are read; a device could "
                "not hold it",
                code="file_huge",
            )
        data = file.read_bytes()
    except OSError as error:
        raise NotValid(f"{file} cannot be read: {error.strerror}; name an ONNX file", code="file_unreadable") from None
    try:
        # From bytes: a file's own folder is never looked into for the weights of others.
        model = onnx.load_model_from_string(data)
        outside = [one.name for one in model.graph.initializer if one.data_location == TensorProto.EXTERNAL]
        if outside:
            raise NotValid(
                f"{file.name} keeps {len(outside)} arrays in other files, first {outside[0][:80]!r}; save it as one "
                "file: onnx.save(onnx.load(path), one_path)",
                code="model_external",
            )
        onnx.checker.check_model(model)
    except NotValid:
        raise
    except Exception as error:  # protobuf and onnx raise classes of their own
        line = " ".join(str(error).split())[:300]
        raise NotValid(f"{file.name} is no ONNX file that can be read: {line}", code="model_invalid") from None
    if not model.graph.input or not model.graph.output:
        raise NotValid(f"{file.name} has no input or no output; export the whole network", code="model_invalid")
    return model


def _shape(value: onnx.ValueInfoProto) -> list[int | str]:
    dims = value.type.tensor_type.shape.dim
    return [one.dim_value if one.HasField("dim_value") else one.dim_param or "?" for one in dims]


def _names(values: Sequence[onnx.ValueInfoProto]) -> str:
    return ", ".join(f"{one.name} {_shape(one)}" for one in values)


def _inputs(model: onnx.ModelProto, spec: ImportSpec | None, note: Note) -> None:
    weights = {one.name for one in model.graph.initializer}
    inputs = [one for one in model.graph.input if one.name not in weights]
    if len(inputs) != 1:
        note("missing", "input", f"{len(inputs)} inputs ({_names(inputs)}); exactly one is needed")
        return
    shape, kind = _shape(inputs[0]), inputs[0].type.tensor_type.elem_type
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


def _scores(model: onnx.ModelProto, spec: ImportSpec, note: Note) -> str | None:
    outputs = {one.name: one for one in model.graph.output}
    if spec.scores is not None:
        if spec.scores in outputs:
            note("found", "scores", _names([outputs[spec.scores]]))
            return spec.scores
        note("missing", "scores", f"{spec.scores!r} is no output; outputs are {_names(model.graph.output)}")
        return None
    count = len(spec.labels)
    fitting = [name for name, one in outputs.items() if len(_shape(one)) == 2 and _shape(one)[1] in (count, "?")] or [
        name for name, one in outputs.items() if len(_shape(one)) == 2 and isinstance(_shape(one)[1], str)
    ]
    if len(fitting) == 1:
        note("assumed", "scores", f"{fitting[0]}, the only output that can have a column for each of {count} labels")
        return str(fitting[0])
    seen = "several outputs" if fitting else "no output"
    note("missing", "scores", f"{seen} with {count} columns; name one of {_names(model.graph.output)} as scores")
    return None


def _free_batch(model: onnx.ModelProto) -> bool:
    """Let the first axis of input and outputs be any number; comes back with whether one was fixed."""
    fixed = False
    for value in (*model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        if dims and not (dims[0].HasField("dim_param") and dims[0].dim_param):
            fixed = fixed or dims[0].HasField("dim_value")
            dims[0].dim_param = "N"
    return fixed


def _with_probabilities(model: onnx.ModelProto, graph: Graph, spec: ImportSpec, golden: Floats, note: Note) -> bytes:
    """The file, with a softmax behind the scores where they are no probabilities."""
    data: bytes = model.SerializeToString(deterministic=True)
    scores = _run(OnnxRuntime().open(data, threads=1), graph, golden)
    if scores.shape[1] != len(spec.labels):
        raise NotValid(
            f"the scores have {scores.shape[1]} columns, the spec {len(spec.labels)} labels; name each, in their order",
            code="labels_wrong",
        )
    sums = np.abs(scores.sum(axis=1) - 1).max() < SUM_TOLERANCE and scores.min() >= -SUM_TOLERANCE
    if spec.scores_are == "probabilities" and not sums:
        raise NotValid(
            f"the scores are said to be probabilities and sum to {scores.sum(axis=1)[0]:.3f}; say logits, or look",
            code="scores_wrong",
        )
    if sums and spec.scores_are != "logits":
        note("found" if spec.scores_are else "assumed", "scores_are", "probabilities: rows sum to 1")
        return data
    note("found" if spec.scores_are else "assumed", "scores_are", "logits: a softmax was put behind them")
    name = f"{graph.scores}_softmax"
    model.graph.node.append(helper.make_node("Softmax", [graph.scores], [name], axis=1))
    model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", len(spec.labels)]))
    return bytes(model.SerializeToString(deterministic=True))


def _score_name(data: bytes, graph: Graph) -> str:
    names = [one.name for one in onnx.load_model_from_string(data).graph.output]
    behind = f"{graph.scores}_softmax"
    return behind if behind in names else graph.scores


def _run(session: Session, graph: Graph, golden: Floats) -> Floats:
    """The scores of the golden inputs, run together and one by one.

    Raises:
        NotValid: it does not run, or says something else of two inputs than of each.
    """
    together = np.asarray(session.run_named({graph.input: golden}, [graph.scores])[graph.scores], np.float32)
    if together.ndim != 2 or len(together) != len(golden) or not np.isfinite(together).all():
        raise NotValid(
            f"{graph.scores} has shape {together.shape} for {len(golden)} inputs, needs ({len(golden)}, labels) of "
            "finite numbers",
            code="scores_wrong",
        )
    alone = [
        session.run_named({graph.input: golden[index : index + 1]}, [graph.scores]) for index in range(len(golden))
    ]
    each = np.concatenate([one[graph.scores] for one in alone])
    if np.abs(each - together).max() > GOLDEN_TOLERANCE:
        raise NotValid(
            "it says something else of several inputs at once than of each alone; export it in evaluation mode",
            code="batch_wrong",
        )
    return together


def _vet(data: bytes, graph: Graph, needs: Needs) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        file.write_bytes(data)
        OnnxRuntime().vet(file, graph, needs, VetLimits())


def _prepared(samples: Sequence[TrainingSample], spec: InputSpec) -> Floats:
    inputs: list[Floats] = []
    for sample in samples[:REFERENCE_MAX]:
        try:
            inputs.append(prepare(sample.read(), sample.media_type, spec))
        except (NotValid, OSError):
            continue
    return np.stack(inputs) if inputs else np.empty((0, 1), np.float32)
