"""Two hospitals: the first model of one on the other, and how little of the other's labels brings it there.

Children with pneumonia (A) and adults (B), split by patient. A model of A alone is at chance on B. A share of B's
training pictures is chosen in periods by what a device keeps, or by lot; the model goes on from A's with half of the
training on A. Beside it: training on all of both from the start.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from learning_parts.generated import interval

from edgewise.edge.keep import Seen, select
from edgewise.frames import prepare
from edgewise.learn import TrainingSample, read_dataset, train
from edgewise.learn._dataset import grouped_part
from edgewise.measure import auc
from edgewise.ports import OnnxRuntime, SeededChance, StoredBundle, open_pipeline

SEEDS = (3, 4, 5)
SHARE = 0.15
PERIODS = 3  # of B's pictures: the model is trained again after each
HELD_SHARE = 0.3
MADE_AT = datetime(2026, 1, 1, tzinfo=UTC)
GOOD = "normal"
PLACES = {"A": "site_a_children", "B": "site_b_adults"}
WAYS = ("chosen", "by lot")


def one_seed(data: str, seed: int) -> dict[str, Any]:
    """AUC on held-out patients of both, by way of training."""
    pools, held = {}, {}
    for place, folder in PLACES.items():
        samples = [
            replace(one, site=place, group=f"{place}-{one.group}", name=f"{place}-{one.name}")
            for one in read_dataset(Path(data) / "healthcare" / folder, good=(GOOD,), group="patient").samples
        ]
        kept, part = grouped_part(samples, share=HELD_SHARE, seed=seed)
        pools[place], held[place] = [samples[index] for index in kept], [samples[index] for index in part]
    first = _trained(pools["A"], None, seed)
    both = _trained([*pools["A"], *pools["B"]], None, seed)
    found = {"A alone": _aucs(first, held), "all of both": _aucs(both, held)}
    labels = {}
    for way in WAYS:
        bundle, sent = first, list[TrainingSample]()
        order = np.random.default_rng([seed, 7]).permutation(len(pools["B"]))
        for number, period in enumerate(np.array_split(order, PERIODS)):
            there = [pools["B"][index] for index in period]
            picks = _picks(way, bundle, there, seed * 10 + number)
            sent += [replace(there[index], new=True) for index in picks]
            bundle = _trained([*pools["A"], *sent], bundle, seed)
        found[way] = _aucs(bundle, held)
        labels[way] = len(sent) / len(pools["B"])
    return {"seed": seed, "auc": found, "labels": labels, "counts": {one: len(held[one]) for one in held}}


def _picks(way: str, bundle: StoredBundle, there: Sequence[TrainingSample], seed: int) -> list[int]:
    data = [one.read() for one in there]
    budget = math.floor(SHARE * sum(map(len, data)))
    if way == "by lot":
        left, picks = budget, []
        for index in np.random.default_rng(seed).permutation(len(there)).tolist():
            if len(data[index]) <= left:
                left -= len(data[index])
                picks.append(index)
        return picks
    (graph,) = bundle.manifest.graphs
    session = OnnxRuntime().open(bundle.read_blob(bundle.manifest.blobs[graph.blob].sha256), threads=1)
    seen = []
    for one, frame in zip(there, data, strict=True):
        told = session.run(prepare(frame, one.media_type, graph.pre)[None])
        assert graph.embedding is not None
        best = np.sort(told[graph.scores][0])[::-1]
        seen.append(Seen(margin=float(best[0] - best[1]), size_bytes=len(frame), embedding=told[graph.embedding][0]))
    return [pick.index for pick in select(seen, budget, SeededChance(seed))]


def _trained(samples: Sequence[TrainingSample], base: StoredBundle | None, seed: int) -> StoredBundle:
    made = train(samples, now=MADE_AT, good_labels=(GOOD,), base=base, seed=seed)
    return StoredBundle(manifest=made.manifest, digest=made.digest, blobs=made.blobs)


def _aucs(bundle: StoredBundle, held: dict[str, list[TrainingSample]]) -> dict[str, float]:
    pipeline = open_pipeline(bundle.manifest, bundle.digest, bundle.read_blob, OnnxRuntime())
    good = bundle.manifest.labels.index(GOOD)
    found = {}
    for place, samples in held.items():
        scores = [1 - float(pipeline.answer(one.read(), one.media_type).scores[good]) for one in samples]
        value = auc(scores, [one.label != GOOD for one in samples])
        assert value is not None
        found[place] = value
    return found


def all_seeds(data: str, seeds: Sequence[int], jobs: int, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Every seed, some at a time."""
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(one_seed, data, seed) for seed in seeds]
        found = []
        for future in waiting:
            found.append(future.result())
            say(f"hospitals, seed {found[-1]['seed']}: {found[-1]['auc']}")
    return found


def table(runs: Sequence[dict[str, Any]]) -> list[str]:
    """AUC by way and hospital, as Markdown."""
    lines = ["| training | labels of B | AUC on A (95 %) | AUC on B (95 %) |", "|---|---|---|---|"]
    for way in ("A alone", *WAYS, "all of both"):
        share = {"A alone": 0.0, "all of both": 1.0}.get(way)
        if share is None:
            share = statistics.mean(run["labels"][way] for run in runs)
        cells = []
        for place in PLACES:
            mean, low, high = interval([run["auc"][way][place] for run in runs])
            cells.append(f"{mean:.3f} ({low:.3f} to {high:.3f})")
        lines.append(f"| {way} | {share:.1%} | {' | '.join(cells)} |")
    return lines


def missed(runs: Sequence[dict[str, Any]]) -> list[str]:
    """A sentence for each figure that is not reached."""
    behind = statistics.mean(run["auc"]["all of both"]["B"] - run["auc"]["chosen"]["B"] for run in runs)
    lost = statistics.mean(run["auc"]["A alone"]["A"] - run["auc"]["chosen"]["A"] for run in runs)
    told = []
    if behind > 0.05:
        told.append(f"hospital B is {100 * behind:.1f} points of AUC behind training on all of both, allowed 5")
    if lost > 0.02:
        told.append(f"hospital A lost {100 * lost:.1f} points of AUC, allowed 2")
    return told
