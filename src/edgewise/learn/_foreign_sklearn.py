"""A classifier of scikit-learn in a skops file, as ONNX. Runs in the limited process alone."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np
import onnx
import skops.io  # type: ignore[import-untyped]
from skl2onnx import to_onnx  # type: ignore[import-untyped]
from skl2onnx.common.data_types import FloatTensorType  # type: ignore[import-untyped]
from sklearn.base import is_classifier  # type: ignore[import-untyped]

from edgewise.learn._foreign_common import Missing
from edgewise.learn._kinds import MODEL_BYTES_MAX
from edgewise.wire import NotTrusted

OPSETS = {"": 17, "ai.onnx.ml": 3}  # read by every onnxruntime since 1.12
NAMES_MAX = 20


def convert_skops(data: bytes, inputs: Any, trusted: list[str], facts: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
    """The network, and the model's own probabilities on the inputs to compare on. `facts` gets what the model tells."""
    model = _load(data, trusted)
    facts["model"] = _named(model)
    if not is_classifier(model) or not hasattr(model, "classes_"):
        raise Missing(
            "task", f"it is a {facts['model']}; a fitted classifier is needed, since a bundle decides between labels"
        )
    if isinstance(model.classes_, list):
        raise Missing("task", "it tells several things at once; one classifier for each is needed")
    facts["classes"] = [str(one) for one in model.classes_]
    if not hasattr(model, "predict_proba"):
        raise Missing(
            "scores",
            f"{facts['model']} gives no probabilities; put sklearn.calibration.CalibratedClassifierCV around it and fit"
            " that",
        )
    facts["columns"] = int(model.n_features_in_)
    facts["column_names"] = [str(one) for one in getattr(model, "feature_names_in_", ())]
    if inputs is None:
        raise Missing("input", f"rows of {facts['columns']} columns; the spec has to name them: kind table, columns")
    if inputs.ndim != 2 or inputs.shape[1] != facts["columns"]:
        raise Missing(
            "input",
            f"it takes (N, {facts['columns']}); the spec's input makes (N, {', '.join(map(str, inputs.shape[1:]))})",
        )
    try:
        made = to_onnx(
            model,
            initial_types=[("input", FloatTensorType([None, facts["columns"]]))],
            options={"zipmap": False},
            target_opset=OPSETS,
        )
    except (MemoryError, NotTrusted):
        raise
    except Exception as error:  # the converter raises classes of its own for what it does not know
        line = " ".join(str(error).split())[:200]
        raise Missing("convert", f"skl2onnx cannot write {facts['model']} as ONNX: {line}") from error
    return _scores_alone(made), {"probabilities": np.asarray(model.predict_proba(inputs), np.float32)}


def _load(data: bytes, trusted: list[str]) -> Any:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        total = sum(one.file_size for one in archive.infolist())
    if total > 2 * MODEL_BYTES_MAX:
        raise NotTrusted(f"unpacked it has {total} bytes, at most {2 * MODEL_BYTES_MAX} are read", code="file_huge")
    asked = skops.io.get_untrusted_types(data=data)
    ours = [name for name in asked if name.startswith("sklearn.")]
    if others := [name for name in asked if name not in ours]:
        raise NotTrusted(
            f"it holds {_list(others)}, code that is not scikit-learn's and that the converter does not know; take "
            "those steps out of the model, or export it as ONNX where it was made",
            code="types_untrusted",
        )
    if left := [name for name in ours if name not in trusted]:
        raise NotTrusted(
            f"it holds types for which skops does not vouch, since a forged file of them can crash whoever opens it: "
            f"{_list(left)}; if you know who made the file, trust them by name: "
            + " ".join(f"--trust {name}" for name in left[:NAMES_MAX]),
            code="types_untrusted",
        )
    return skops.io.loads(data, trusted=ours)


def _list(names: list[str]) -> str:
    return ", ".join(name[:120] for name in names[:NAMES_MAX]) + (" …" if len(names) > NAMES_MAX else "")


def _named(model: Any) -> str:
    """A model's class, a pipeline with its last step."""
    name = type(model).__name__
    steps = getattr(model, "steps", None)
    return f"{name} with {_named(steps[-1][1])}" if steps else name


def _scores_alone(model: onnx.ModelProto) -> bytes:
    """The file with the probabilities as its only output: labels are the spec's business."""
    kept = [one for one in model.graph.output if one.name == "probabilities"]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    opsets = {one.domain: one.version for one in model.opset_import}
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(domain, version) for domain, version in sorted(opsets.items()))
    data: bytes = model.SerializeToString(deterministic=True)
    return data
