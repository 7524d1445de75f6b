"""The trainer for a number that follows from a row of numbers: quantiles of LightGBM with a calibrated interval."""

from __future__ import annotations

import time
from importlib import metadata
from typing import Literal

import numpy as np

from edgewise.frames import prepare
from edgewise.learn._quantiles import asked_of, learn_quantiles
from edgewise.learn._tabular import PROBE_COUNT, rows_of, spec_of
from edgewise.learn._trainer import Fitted, Job


class RegressionTrainer:
    """The value of a target from the numeric columns of a row. Labels are numbers; there are no classes.

    Config: `target` (its name, "value"), `unit`, `coverage` (0.9), limits `above` and `below`; `trees` (160 a
    quantile), `learning_rate` (0.06), `depth` (5). A base gives the columns and how they are filled; the trees are new.
    """

    @property
    def task(self) -> Literal["value"]:
        return "value"

    def fit(self, job: Job) -> Fitted:
        """The trees for these rows. See `Trainer.fit`."""
        started_s = time.perf_counter()
        asked = asked_of(job.config)
        rows, kept, unreadable = rows_of(job.samples)
        spec = spec_of(job, rows)
        inputs = np.stack([prepare(sample.read(), sample.media_type, spec) for sample in kept])
        learned = learn_quantiles(job, asked, inputs, kept)
        return Fitted(
            graph=learned.graph,
            input="input",
            scores="scores",
            embedding=None,
            pre=spec,
            reference=learned.reference,
            probe=inputs[:PROBE_COUNT],
            metrics={**learned.metrics, "fit_seconds": time.perf_counter() - started_s},
            log=(
                f"{len(kept)} rows, {len(spec.columns)} columns; interval calibrated on {learned.calibrated} groups, "
                f"moved by {learned.shift:+.4g} {asked.unit}".rstrip(),
            ),
            libraries={name: metadata.version(name) for name in ("lightgbm", "onnxmltools")},
            facts={"columns": len(spec.columns), "trees": asked.trees, "target": asked.target},
            unreadable=unreadable,
            states=learned.states,
        )
