"""The trainer for rows of numbers: gradient boosting of scikit-learn, as an ONNX graph of trees.

The plain kind, not the one on histograms: skl2onnx 1.20 cannot convert that one together with numpy 2 and onnx 1.23.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from importlib import metadata
from typing import Any, Literal

import numpy as np
from sklearn.ensemble import GradientBoostingClassifier  # type: ignore[import-untyped]

from edgewise.frames import prepare
from edgewise.learn._balance import sample_weights
from edgewise.learn._dataset import TrainingSample
from edgewise.learn._trainer import Fitted, Floats, Job, number, whole
from edgewise.wire import NotValid, TableSpec, loads

OPSET, TREES_OPSET = 17, 3  # of ai.onnx and ai.onnx.ml: read by every onnxruntime since 1.12
PROBE_COUNT = 64
COLUMNS_MAX = 2000


class TabularTrainer:
    """Boosted trees on the numeric columns of the rows; there is no embedding.

    Config: `trees` (default 80), `learning_rate` (0.1), `depth` (3). Each training starts anew on all rows: of the base
    only the order of classes and of columns is kept, so that a device's rows go on meaning the same.
    """

    @property
    def task(self) -> Literal["image-classification", "tabular-classification"]:
        return "tabular-classification"

    def fit(self, job: Job) -> Fitted:
        """The trees for these rows. See `Trainer.fit`."""
        started_s = time.perf_counter()
        rows, kept, unreadable = _rows(job.samples)
        spec = _spec(job, rows)
        inputs = np.stack([prepare(sample.read(), sample.media_type, spec) for sample in kept])
        truth = np.array([job.labels.index(sample.label) for sample in kept])
        present = sorted({int(place) for place in truth})
        if len(present) < 2:
            raise NotValid(
                f"all {len(kept)} rows are labelled {job.labels[present[0]]!r}; at least two classes are needed",
                code="too_few_classes",
            )
        job.progress("train", 0.1)
        classifier = GradientBoostingClassifier(
            n_estimators=whole(job.config, "trees", 80, low=1, high=5000),
            learning_rate=number(job.config, "learning_rate", 0.1, low=1e-4, high=1.0),
            max_depth=whole(job.config, "depth", 3, low=1, high=32),
            min_samples_leaf=max(1, min(20, len(kept) // 40)),
            random_state=job.seed,
        )
        classifier.fit(inputs, truth, sample_weight=sample_weights(kept))
        job.progress("export", 0.9)
        spread = np.zeros((len(present), len(job.labels)), np.float32)
        spread[np.arange(len(present)), present] = 1.0

        def reference(prepared: Floats) -> tuple[Floats, Floats | None]:
            return (classifier.predict_proba(prepared) @ spread).astype(np.float32), None

        right = float((classifier.predict(inputs) == truth).mean())
        return Fitted(
            graph=_export(classifier, spread, len(spec.columns)),
            input="input",
            scores="scores",
            embedding=None,
            pre=spec,
            reference=reference,
            probe=inputs[:PROBE_COUNT],
            metrics={"train_accuracy": right, "fit_seconds": time.perf_counter() - started_s},
            log=(f"{len(kept)} rows, {len(spec.columns)} columns, {classifier.n_estimators_} rounds of trees",),
            libraries={name: metadata.version(name) for name in ("scikit-learn", "skl2onnx")},
            facts={"columns": len(spec.columns)},
            unreadable=unreadable,
        )


def _rows(
    samples: Sequence[TrainingSample],
) -> tuple[list[dict[str, Any]], list[TrainingSample], tuple[str, ...]]:
    rows: list[dict[str, Any]] = []
    kept: list[TrainingSample] = []
    unreadable: list[str] = []
    for sample in samples:
        try:
            row = loads(sample.read())
        except NotValid:
            row = None
        if isinstance(row, dict):
            rows.append(row)
            kept.append(sample)
        else:
            unreadable.append(sample.name)
    if not kept:
        raise NotValid(
            f"none of the {len(samples)} samples is a JSON object of numbers; the tabular trainer takes rows, "
            "for pictures use the trainer `vision`",
            code="pictures_unreadable",
        )
    return rows, kept, tuple(unreadable)


def _spec(job: Job, rows: Sequence[dict[str, Any]]) -> TableSpec:
    """Columns of the base in its order, else every column that holds a number; filled by medians, scaled by spread."""
    held = job.base.manifest.graphs[0].pre if job.base else None
    names = (
        held.columns if isinstance(held, TableSpec) else tuple(sorted({name for row in rows for name in _numbers(row)}))
    )
    if not 1 <= len(names) <= COLUMNS_MAX:
        raise NotValid(f"the rows have {len(names)} numeric columns, needs 1 to {COLUMNS_MAX}", code="column_missing")
    fill, mean, std = [], [], []
    for name in names:
        values = [_numbers(row)[name] for row in rows if name in _numbers(row)] or [0.0]
        fill.append(statistics.median(values))
        mean.append(statistics.fmean(values))
        std.append(statistics.pstdev(values) or 1.0)
    return TableSpec(columns=names, fill=tuple(fill), mean=tuple(mean), std=tuple(std))


def _numbers(row: dict[str, Any]) -> dict[str, float]:
    return {
        name: float(value) for name, value in row.items() if isinstance(value, int | float) and math.isfinite(value)
    }


def _export(classifier: GradientBoostingClassifier, spread: Floats, columns: int) -> bytes:
    """The trees as ONNX, their probabilities spread over all classes of the bundle: one not seen gets 0."""
    import onnx
    from skl2onnx import to_onnx  # type: ignore[import-untyped]
    from skl2onnx.common.data_types import FloatTensorType  # type: ignore[import-untyped]

    made = to_onnx(
        classifier,
        initial_types=[("input", FloatTensorType([None, columns]))],
        options={"zipmap": False},
        target_opset={"": OPSET, "ai.onnx.ml": TREES_OPSET},
    )
    graph = made.graph
    graph.initializer.append(onnx.numpy_helper.from_array(spread, "spread"))
    graph.node.append(onnx.helper.make_node("MatMul", ["probabilities", "spread"], ["scores"]))
    del graph.output[:]
    graph.output.append(onnx.helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, ["N", spread.shape[1]]))
    onnx.checker.check_model(made)
    data: bytes = made.SerializeToString()
    return data
