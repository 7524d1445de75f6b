"""Two hospitals: the first model of one on the other, and how little of the other's labels brings it there.

Children with pneumonia (A) and adults (B), split by patient. A model of A alone is at chance on B. A share of B's
training pictures is chosen in periods by what a device keeps, by the model's doubt from the first period on (what a
device does at a site that its bundle knows), or by lot; the model goes on from A's with half of the training on A.
Beside it: training on all of both from the start.
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
from learning_parts.gains import Gain, Pair, gain_of
from learning_parts.generated import interval

from edgewise.edge.keep import Seen, is_cold, select
from edgewise.frames import prepare
from edgewise.learn import TrainingSample, read_dataset, train
from edgewise.learn._dataset import grouped_part
from edgewise.measure import auc
from edgewise.measure._intervals import weighted_auc
from edgewise.ports import OnnxRuntime, SeededChance, StoredBundle, open_pipeline

SHARE = 0.15
PERIODS = 3  # of B's pictures: the model is trained again after each
HELD_SHARE = 0.3
MADE_AT = datetime(2026, 1, 1, tzinfo=UTC)
GOOD = "normal"
BEHIND, LOST = 0.05, 0.02  # of AUC: behind training on all of both, and lost where the first model comes from
PLACES = {"A": "site_a_children", "B": "site_b_adults"}
Answer = tuple[str, bool, float]  # patient, ill, score
WAYS = ("chosen", "by doubt", "by lot")


def one_seed(data: str, seed: int) -> dict[str, Any]:
    """AUC on held-out patients of both, by way of training."""
    pools, held = pools_of(data, seed)
    first = trained(pools["A"], None, seed)
    both = trained([*pools["A"], *pools["B"]], None, seed)
    told = {"A alone": answers(first, held), "all of both": answers(both, held)}
    labels = {}
    for way in WAYS:
        bundle, labels[way] = one_way(way, first, pools, seed)
        told[way] = answers(bundle, held)
    return run_of(seed, told, labels)


def run_of(seed: int, told: dict[str, dict[str, list[Answer]]], labels: dict[str, float]) -> dict[str, Any]:
    """One seed as plain values."""
    found = {way: {place: auc_of(one) for place, one in places.items()} for way, places in told.items()}
    return {"seed": seed, "auc": found, "labels": labels, "answers": told}


def pools_of(data: str, seed: int) -> tuple[dict[str, list[TrainingSample]], dict[str, list[TrainingSample]]]:
    """(to train on, held out) by hospital, whole patients."""
    pools, held = {}, {}
    for place, folder in PLACES.items():
        samples = [
            replace(one, site=place, group=f"{place}-{one.group}", name=f"{place}-{one.name}")
            for one in read_dataset(Path(data) / "healthcare" / folder, good=(GOOD,), group="patient").samples
        ]
        kept, part = grouped_part(samples, share=HELD_SHARE, seed=seed)
        pools[place], held[place] = [samples[index] for index in kept], [samples[index] for index in part]
    return pools, held


def one_way(
    way: str,
    bundle: StoredBundle,
    pools: dict[str, list[TrainingSample]],
    seed: int,
) -> tuple[StoredBundle, float]:
    """(the bundle, the share of B's pictures that were labelled) after the last period."""
    sent: list[TrainingSample] = []
    order = np.random.default_rng([seed, 7]).permutation(len(pools["B"]))
    for number, period in enumerate(np.array_split(order, PERIODS)):
        there = [pools["B"][index] for index in period]
        picks = _picks(way, bundle, there, seed * 10 + number)
        sent += [replace(there[index], new=True) for index in picks]
        bundle = trained([*pools["A"], *sent], bundle, seed)
    return bundle, len(sent) / len(pools["B"])


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
    cold = way == "chosen" and is_cold(bundle.manifest.provenance.sites, "B")
    return [pick.index for pick in select(seen, budget, SeededChance(seed), cold=cold)]


def trained(samples: Sequence[TrainingSample], base: StoredBundle | None, seed: int) -> StoredBundle:
    made = train(samples, now=MADE_AT, good_labels=(GOOD,), base=base, seed=seed)
    return StoredBundle(manifest=made.manifest, digest=made.digest, blobs=made.blobs)


def answers(bundle: StoredBundle, held: dict[str, list[TrainingSample]]) -> dict[str, list[Answer]]:
    """By hospital, in the order of the held-out pictures."""
    pipeline = open_pipeline(bundle.manifest, bundle.digest, bundle.read_blob, OnnxRuntime())
    good = bundle.manifest.labels.index(GOOD)
    return {
        place: [
            (one.group, one.label != GOOD, 1 - float(pipeline.answer(one.read(), one.media_type).scores[good]))
            for one in samples
        ]
        for place, samples in held.items()
    }


def auc_of(told: Sequence[Answer]) -> float:
    value = auc([score for _, _, score in told], [truth for _, truth, _ in told])
    assert value is not None
    return value


def gain(runs: Sequence[dict[str, Any]]) -> Gain:
    """What the choice gains on B over pictures by lot: AUC, 90 % interval over seeds and patients."""
    pairs = []
    for run in runs:
        ours, theirs = (
            weighted_auc(np.array([score for _, _, score in told]), np.array([truth for _, truth, _ in told], bool))
            for told in (run["answers"][way]["B"] for way in ("chosen", "by lot"))
        )
        groups = tuple(group for group, _, _ in run["answers"]["chosen"]["B"])
        pairs.append(Pair(ours=ours, theirs=theirs, groups=groups))
    return gain_of(pairs)


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
    lines = [
        "| training | labels of B | AUC on A (95 %) | AUC on B (95 %) "
        "| B behind all of both, points | A lost | B by seed |",
        "|---|---|---|---|---|---|---|",
    ]
    for way in ("A alone", *WAYS, "all of both"):
        share = {"A alone": 0.0, "all of both": 1.0}.get(way)
        if share is None:
            share = statistics.mean(run["labels"][way] for run in runs)
        cells = []
        for place in PLACES:
            mean, low, high = interval([run["auc"][way][place] for run in runs])
            cells.append(f"{mean:.3f} ({low:.3f} to {high:.3f})")
        seeds = ", ".join(f"{run['auc'][way]['B']:.2f}" for run in runs)
        cells += [_points(one) for one in gaps(runs, way)] if way in WAYS else ["–", "–"]
        lines.append(f"| {way} | {share:.1%} | {' | '.join(cells)} | {seeds} |")
    return [*lines, "", f"B, chosen over by lot, points of AUC (90 %): {gain(runs).points}."]


def _points(value: tuple[float, float, float]) -> str:
    return f"{100 * value[0]:.1f} ({100 * value[1]:.1f} to {100 * value[2]:.1f})"


def missed(runs: Sequence[dict[str, Any]]) -> list[str]:
    """A sentence for each figure that is not reached."""
    behind, lost = gaps(runs, "chosen")
    told = []
    if behind[0] > BEHIND:
        told.append(f"hospital B is {100 * behind[0]:.1f} points of AUC behind training on all of both, allowed 5")
    if lost[0] > LOST:
        told.append(f"hospital A lost {100 * lost[0]:.1f} points of AUC, allowed 2")
    return told


def gaps(runs: Sequence[dict[str, Any]], way: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """How far a way is behind all of both on B, and behind A alone on A: paired by seed, mean and 95 % interval."""
    behind = [run["auc"]["all of both"]["B"] - run["auc"][way]["B"] for run in runs]
    return interval(behind), interval([run["auc"]["A alone"]["A"] - run["auc"][way]["A"] for run in runs])
