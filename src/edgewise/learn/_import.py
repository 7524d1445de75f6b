"""A network that was made elsewhere becomes a bundle like any other: its file, and what the file does not say.

An ONNX file tells its tensors and nothing of what they mean: how a picture becomes the input, what the outputs are
called, which label means good. A spec says it; the report says what is missing, with the value needed. Models of
scikit-learn and PyTorch become ONNX files first, in a limited process (`_foreign`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper

from edgewise import __version__
from edgewise.frames import golden_inputs, prepare
from edgewise.learn._dataset import TrainingSample
from edgewise.learn._graph import norms_of
from edgewise.learn._import_onnx import check_input, find_scores, free_batch, names_of
from edgewise.learn._import_source import open_source
from edgewise.learn._import_spec import Finding, ImportSpec, Note
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

SUM_TOLERANCE = 1e-3  # probabilities of a row sum to 1
REFERENCE_MAX = 512  # samples behind a reference
UNMEASURED_RAM_MB, UNMEASURED_LATENCY_MS = 256, 1000  # what a network may take before its needs are measured
Task = Literal["image-classification", "tabular-classification", "series-classification"]
TASKS: dict[str, Task] = {
    "image": "image-classification",
    "table": "tabular-classification",
    "series": "series-classification",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Imported:
    """The report, and the bundle where nothing is missing."""

    findings: tuple[Finding, ...]
    bundle: TrainedBundle | None


def import_model(
    path: Path | str,
    spec: ImportSpec | None,
    *,
    now: datetime,
    samples: Sequence[TrainingSample] = (),
    seed: int = 0,
    trusted: Sequence[str] = (),
    origin: Mapping[str, str] | None = None,
) -> Imported:
    """A bundle from an ONNX, skops, TorchScript or exported-program file, or a report of what is missing to make one.

    Args:
        spec: what the file does not say; None: the report tells what has to be in it.
        samples: for the reference that drift is measured against; none: drift stays off for this bundle.
        trusted: types of scikit-learn in a skops file that the user vouches for.
        origin: where the file comes from, such as a registry, for the bundle's provenance.
    Raises:
        NotValid: the file cannot be read at all, or is of a kind that is never opened. NotTrusted: it is refused by
            the vetting, or holds what could do more than compute.
    """
    file = Path(path)
    findings: list[Finding] = []

    def note(level: Literal["missing", "assumed", "found"], about: str, text: str) -> None:
        findings.append(Finding(level=level, about=about, text=text))

    source = open_source(file, spec, trusted, note)
    if source is None:
        return Imported(findings=tuple(findings), bundle=None)
    model = source.model
    opset = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)
    note("found", "opset", f"{opset}; the runtime of a device has to read it")
    check_input(model, spec, note)
    if spec is None:
        note("missing", "spec", "no spec; give one with --spec: name, input, labels, and what else is named here")
        return Imported(findings=tuple(findings), bundle=None)
    scores = find_scores(model, spec, note)
    if spec.embedding is None:
        note("assumed", "embedding", "none named: the device chooses what to keep by doubt alone, drift stays off")
    elif spec.embedding not in {one.name for one in model.graph.output}:
        note("missing", "embedding", f"{spec.embedding!r} is no output; outputs are {names_of(model.graph.output)}")
    if any(one.level == "missing" for one in findings) or scores is None:
        return Imported(findings=tuple(findings), bundle=None)
    freed = free_batch(model)
    if freed:
        note("assumed", "batch", "the first axis was fixed and is free now; it was run with one and with two inputs")
    graph = Graph(
        blob=MODEL_BLOB, input=model.graph.input[0].name, scores=scores, embedding=spec.embedding, pre=spec.input
    )
    golden = golden_inputs(spec.input, seed, GOLDEN_COUNT)
    _vet(model.SerializeToString(deterministic=True), graph, _unmeasured(opset))
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
            libraries=library_versions(source.libraries),
            data={
                "source": file.name[:200],
                "source_sha256": source.sha256,
                "producer": model.producer_name,
                **source.facts,
                **{f"origin_{name}": value[:4096] for name, value in (origin or {}).items()},
            },
        ),
        licence=spec.licence,
        card=spec.card or f"{spec.name}: imported from {file.name}; how it was trained is not known here.",
        blobs={MODEL_BLOB: Blob(sha256=blob, size_bytes=len(data), media_type="application/x-onnx")},
    )
    bundle = TrainedBundle(manifest=manifest, blobs={blob: data}, metrics={}, log=())
    return Imported(findings=tuple(findings), bundle=bundle)


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


def _unmeasured(opset: int) -> Needs:
    return Needs(opset=max(1, opset), ram_mb=UNMEASURED_RAM_MB, latency_ms=UNMEASURED_LATENCY_MS)


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
