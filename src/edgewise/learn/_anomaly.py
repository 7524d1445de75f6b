"""The trainer for rows of which only good ones are known: how far a row is from what is usual.

Source: Mahalanobis, On the generalised distance in statistics, 1936; the covariance is drawn towards a round one as in
Ledoit and Wolf, A well-conditioned estimator for large-dimensional covariance matrices, 2004.
"""

from __future__ import annotations

import time
from importlib import metadata
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf  # type: ignore[import-untyped]

from edgewise.frames import prepare
from edgewise.learn._dataset import grouped_part
from edgewise.learn._graph import GraphBuilder
from edgewise.learn._tabular import PROBE_COUNT, rows_of, spec_of
from edgewise.learn._trainer import Fitted, Floats, Job, number
from edgewise.measure import auc
from edgewise.wire import NotValid

MAKE = "edgewise-distance-1"
HELD_SHARE = 0.25  # of the good groups: where the bound lies is never learned from what the distance is
GOOD_MIN = 40  # rows, half a percent of false alarms cannot be told from fewer; then it is an order statistic
USUAL_SCORE = 0.05  # of a row of middle distance
FLOOR = 1e-6


class AnomalyTrainer:
    """A distance from usual rows, and a bound that good ones exceed as seldom as the order asks.

    Config: `false_alarms` (0.01) – share of good rows of groups that were set aside that lie beyond the bound. Rows
    with another label are not learned from; how well they are told apart is among the metrics.
    """

    @property
    def task(self) -> Literal["anomaly-detection"]:
        return "anomaly-detection"

    def fit(self, job: Job) -> Fitted:
        """The distance for these rows. See `Trainer.fit`."""
        started_s = time.perf_counter()
        rows, kept, unreadable = rows_of(job.samples)
        good = [place for place, sample in enumerate(kept) if not job.good_labels or sample.label in job.good_labels]
        if len(good) < GOOD_MIN:
            raise NotValid(
                f"{len(good)} good rows are labelled, needs {GOOD_MIN} to say what is usual; label more good ones",
                code="too_few_good",
            )
        alarms = number(job.config, "false_alarms", 0.01, low=1e-4, high=0.5)
        spec = spec_of(job, [rows[place] for place in good])
        inputs = np.stack([prepare(sample.read(), sample.media_type, spec) for sample in kept])
        learned, held = grouped_part([kept[place] for place in good], share=HELD_SHARE, seed=job.seed)
        if not held:
            raise NotValid(
                "all good rows are of one group, so nothing can be set aside to find the bound; give a column group",
                code="one_group",
            )
        usual = inputs[[good[place] for place in learned]]
        job.progress("train", 0.3)
        shape = LedoitWolf().fit(usual)
        centre = shape.location_.astype(np.float32)
        whitener = np.linalg.cholesky(shape.precision_ + FLOOR * np.eye(len(centre))).astype(np.float32)
        apart = np.sort(_distance(inputs[[good[place] for place in held]], centre, whitener))
        bound = float(apart[min(len(apart) - 1, int(np.ceil((1 - alarms) * (len(apart) + 1))) - 1)])
        middle = float(np.median(apart))
        steep = float(np.log(1 / USUAL_SCORE - 1) / max(bound - middle, 1e-3))
        told = _distance(inputs, centre, whitener)
        bad = [place for place in range(len(kept)) if place not in set(good)]
        metrics = {"bound": bound, "held_rows": float(len(held)), "false_alarms": float((apart > bound).mean())}
        if bad:
            both = [*(told[good[place]] for place in held), *(told[place] for place in bad)]
            truth = [False] * len(held) + [True] * len(bad)
            metrics |= {"auc": auc(both, truth) or 0.0, "found": float((told[bad] > bound).mean())}

        def reference(prepared: Floats) -> tuple[Floats, Floats | None]:
            score = 1 / (1 + np.exp(-steep * (_distance(prepared, centre, whitener) - bound)))
            return np.stack([1 - score, score], axis=1).astype(np.float32), ((prepared - centre) @ whitener)

        return Fitted(
            graph=_export(centre, whitener, steep, bound),
            input="input",
            scores="scores",
            embedding="embedding",
            pre=spec,
            reference=reference,
            probe=inputs[:PROBE_COUNT],
            metrics=metrics | {"fit_seconds": time.perf_counter() - started_s},
            log=(
                f"{len(learned)} good rows, {len(held)} set aside, {len(bad)} others",
                f"log distance bound {bound:.2f}",
            ),
            libraries={"scikit-learn": metadata.version("scikit-learn")},
            facts={"columns": len(centre), "false_alarms": alarms, "good_rows": len(good)},
            unreadable=unreadable,
        )


def _distance(inputs: Floats, centre: Floats, whitener: Floats) -> NDArray[np.float64]:
    """Logarithm of the squared distance of each row."""
    white = ((inputs - centre) @ whitener).astype(np.float64)
    return np.asarray(np.log((white**2).sum(axis=1) + FLOOR))


def _export(centre: Floats, whitener: Floats, steep: float, bound: float) -> bytes:
    graph = GraphBuilder()
    for name, values in (("centre", centre), ("whitener", whitener)):
        graph.weight(name, values)
    for name, value in (("floor", FLOOR), ("steep", steep), ("bound", bound), ("one", 1.0)):
        graph.weight(name, np.array(value, np.float32))
    graph.weight("axes", np.array([1], np.int64))
    white = graph.op("MatMul", [graph.op("Sub", ["input", "centre"]), "whitener"], name="embedding")
    square = graph.op("ReduceSum", [graph.op("Mul", [white, white]), "axes"], keepdims=1)
    apart = graph.op("Sub", [graph.op("Log", [graph.op("Add", [square, "floor"])]), "bound"])
    score = graph.op("Sigmoid", [graph.op("Mul", [apart, "steep"])])
    graph.op("Concat", [graph.op("Sub", ["one", score]), score], name="scores", axis=1)
    width = len(centre)
    return graph.build(
        input_name="input", input_shape=(width,), outputs={"scores": 2, "embedding": width}, producer=MAKE
    )
