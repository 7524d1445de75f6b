"""The trainer for rows of numbers: boosted trees of LightGBM as an ONNX graph, continued from those of a base."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any, Literal

import lightgbm
import numpy as np
from numpy.typing import NDArray

from edgewise.frames import prepare
from edgewise.learn._balance import sample_weights
from edgewise.learn._dataset import TrainingSample, grouped_part
from edgewise.learn._trainer import Fitted, Floats, Job, number, whole
from edgewise.learn._trees import continued, export_trees, scores_of
from edgewise.wire import NotValid, TableSpec, loads

PROBE_COUNT = 64
COLUMNS_MAX = 2000
TREES_MAX = 2000  # of a class; a base that has so many is not continued
VALIDATE_FROM, VALIDATION_SHARE = 400, 0.15
PATIENCE = 15  # trees without a better validation loss


class TabularTrainer:
    """Boosted trees on the numeric columns of the rows; there is no embedding.

    Config: `trees` (default 80; 40 more on a base), `learning_rate` (0.1), `depth` (3), `restart` (false). With the
    classes and columns of its base a training adds trees to those that are there, whose bytes stay, so that an update
    is small; else it starts anew. From 400 rows on the trees stop where whole groups that are set aside gain no more.
    """

    @property
    def task(self) -> Literal["tabular-classification"]:
        return "tabular-classification"

    def fit(self, job: Job) -> Fitted:
        """The trees for these rows. See `Trainer.fit`."""
        started_s = time.perf_counter()
        rows, kept, unreadable = rows_of(job.samples)
        spec, base = spec_of(job, rows), None
        inputs = np.stack([prepare(sample.read(), sample.media_type, spec) for sample in kept])
        truth = np.array([job.labels.index(sample.label) for sample in kept])
        present = sorted({int(place) for place in truth})
        if len(present) < 2:
            raise NotValid(
                f"all {len(kept)} rows are labelled {job.labels[present[0]]!r}; at least two classes are needed",
                code="too_few_classes",
            )
        if job.base is not None and not job.config.get("restart", False):
            base = _continued(job, present, spec)
        job.progress("train", 0.1)
        before = None if base is None else np.log(np.maximum(scores_of(base, inputs)[:, present], 1e-7))
        booster = _boosted(job, inputs, np.searchsorted(present, truth), kept, before)
        job.progress("export", 0.9)
        graph = export_trees(booster, present, len(job.labels), len(spec.columns), base)

        def reference(prepared: Floats) -> tuple[Floats, Floats | None]:
            raw = np.atleast_2d(booster.predict(prepared, raw_score=True))
            if base is not None:
                raw = raw + np.log(np.maximum(scores_of(base, prepared)[:, present], 1e-7))
            spread = np.zeros((len(prepared), len(job.labels)), np.float32)
            spread[:, present] = _softmax(raw)
            return spread, None

        right = float((reference(inputs)[0].argmax(axis=1) == truth).mean())
        grown = booster.num_trees() // len(present)
        return Fitted(
            graph=graph,
            input="input",
            scores="scores",
            embedding=None,
            pre=spec,
            reference=reference,
            probe=inputs[:PROBE_COUNT],
            metrics={"train_accuracy": right, "fit_seconds": time.perf_counter() - started_s, "trees": float(grown)},
            log=(f"{len(kept)} rows, {len(spec.columns)} columns, {grown} new trees a class",),
            libraries={name: metadata.version(name) for name in ("lightgbm", "onnxmltools")},
            facts={"columns": len(spec.columns), "warm_start": base is not None, "trees": grown},
            unreadable=unreadable,
        )


def _boosted(
    job: Job,
    inputs: Floats,
    truth: NDArray[np.int64],
    kept: Sequence[TrainingSample],
    before: NDArray[np.float64] | None,
) -> lightgbm.Booster:
    """New trees for what the scores before them leave open; stopped early where there are rows enough to tell."""
    depth = whole(job.config, "depth", 3, low=1, high=16)
    settings: dict[str, Any] = {
        "objective": "multiclass",
        "num_class": int(truth.max()) + 1,
        "learning_rate": number(job.config, "learning_rate", 0.1, low=1e-4, high=1.0),
        "max_depth": depth,
        "num_leaves": 2**depth,
        "min_data_in_leaf": max(1, min(20, len(kept) // 40)),
        "seed": job.seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbose": -1,
    }
    trees = whole(job.config, "trees", 80 if before is None else 40, low=1, high=TREES_MAX)
    learned, judged = list(range(len(kept))), list[int]()
    if len(kept) >= VALIDATE_FROM:
        learned, judged = grouped_part(kept, share=VALIDATION_SHARE, seed=job.seed)
    weights = sample_weights(kept)

    def part(places: Sequence[int]) -> lightgbm.Dataset:
        start = None if before is None else before[places]
        return lightgbm.Dataset(inputs[places], truth[places], weight=weights[places], init_score=start)

    def go_on(state: Any) -> None:
        job.progress("train", 0.1 + 0.8 * (state.iteration + 1) / trees)

    callbacks: list[Callable[..., Any]] = [go_on]
    sets = None
    if judged:
        callbacks.append(lightgbm.early_stopping(PATIENCE, verbose=False))
        sets = [part(judged)]
    return lightgbm.train(settings, part(learned), trees, valid_sets=sets, callbacks=callbacks)


def _continued(job: Job, present: Sequence[int], spec: TableSpec) -> bytes | None:
    """The base's graph, where its trees can be added to: the same columns, and the same classes seen."""
    assert job.base is not None
    manifest = job.base.manifest
    graph = manifest.graphs[0]
    if graph.pre != spec:
        return None
    data = job.base.read_blob(manifest.blobs[graph.blob].sha256)
    return data if continued(data, present, TREES_MAX) else None


def _softmax(raw: NDArray[np.floating]) -> Floats:
    grown = np.exp(raw - raw.max(axis=1, keepdims=True))
    return np.asarray(grown / grown.sum(axis=1, keepdims=True), np.float32)


def rows_of(
    samples: Sequence[TrainingSample],
) -> tuple[list[dict[str, Any]], list[TrainingSample], tuple[str, ...]]:
    """The rows that can be read, their samples, and the names of the others. NotValid: there are none."""
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


def spec_of(job: Job, rows: Sequence[dict[str, Any]]) -> TableSpec:
    """What the base does to a row, else every column that holds a number; filled by medians, scaled by spread.

    Trees ask for thresholds of prepared numbers: on a base these must go on meaning the same.
    """
    held = job.base.manifest.graphs[0].pre if job.base else None
    if isinstance(held, TableSpec) and not job.config.get("restart", False):
        return held
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
