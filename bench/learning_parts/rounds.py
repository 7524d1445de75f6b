"""Seven rounds of one way to choose, on the generated world: choose, label, train with replay, examine on the next."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
from learning_parts import arms
from learning_parts.world import (
    CLASSES,
    FRAMES,
    GOOD,
    NEW_CLASS,
    ROUNDS,
    SITES,
    Crop,
    SitePlan,
    base_crops,
    examination,
    stream,
)
from numpy.typing import NDArray

from edgewise.frames import prepare
from edgewise.learn import TrainingSample, train
from edgewise.ports import OnnxRuntime, Session, StoredBundle
from edgewise.wire import Graph

Floats = NDArray[np.float32]
MADE_AT = datetime(2026, 1, 1, tzinfo=UTC)
BASE_CONFIG: dict[str, Any] = {"architecture": "small"}
ROUND_CONFIG: dict[str, Any] = {"architecture": "small"}
BATCH = 512


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """All frames of one seed, made once for every arm."""

    seed: int
    base: list[Crop]
    streams: Mapping[tuple[str, int], list[Crop]]
    examinations: Mapping[tuple[str, int], list[Crop]]  # of rounds 1 to ROUNDS

    @classmethod
    def make(cls, seed: int) -> World:
        rounds = [(site, number) for site in SITES for number in range(ROUNDS)]
        return cls(
            seed=seed,
            base=base_crops(seed),
            streams={(site.name, number): stream(seed, site, number) for site, number in rounds},
            examinations={(site.name, number + 1): examination(seed, site, number + 1) for site, number in rounds},
        )

    @property
    def bytes_whole(self) -> int:
        return sum(len(crop.data) for crops in self.streams.values() for crop in crops)


@dataclass(kw_only=True, slots=True)
class Opened:
    """A bundle that answers to many crops at once."""

    graph: Graph
    session: Session
    labels: tuple[str, ...]

    @classmethod
    def of(cls, bundle: StoredBundle) -> Opened:
        manifest = bundle.manifest
        (graph,) = manifest.graphs
        data = bundle.read_blob(manifest.blobs[graph.blob].sha256)
        return cls(graph=graph, session=OnnxRuntime().open(data, threads=1), labels=manifest.labels)

    def look(self, crops: Sequence[Crop]) -> arms.Look:
        inputs = np.stack([prepare(crop.data, "image/png", self.graph.pre) for crop in crops])
        parts = [self.session.run(inputs[begin : begin + BATCH]) for begin in range(0, len(inputs), BATCH)]
        assert self.graph.embedding is not None
        return arms.Look(
            sizes=[len(crop.data) for crop in crops],
            scores=np.concatenate([part[self.graph.scores] for part in parts]),
            embeddings=np.concatenate([part[self.graph.embedding] for part in parts]),
        )

    def recalls(self, crops: Sequence[Crop]) -> dict[str, float]:
        """The recall of each class that occurs."""
        told = self.look(crops).scores.argmax(axis=1)
        right, seen = Counter[str](), Counter[str]()
        for crop, place in zip(crops, told, strict=True):
            seen[crop.label] += 1
            right[crop.label] += self.labels[place] == crop.label
        return {label: right[label] / count for label, count in seen.items()}


Adapt = Callable[[StoredBundle, SitePlan, Sequence[Crop]], StoredBundle]


@dataclass(kw_only=True, slots=True)
class Line:
    """What one arm cost and reached."""

    arm: str
    seed: int
    rounds: list[dict[str, Any]] = field(default_factory=list)

    @property
    def final(self) -> float:
        return float(self.rounds[-1]["macro_recall"])


def run_arm(
    world: World,
    first: StoredBundle,
    name: str,
    choose: Callable[[SitePlan], arms.Choice],
    *,
    adapt: Adapt | None = None,
) -> Line:
    """All rounds of one arm.

    Args:
        choose: makes the choice of one site; it may remember what it chose.
        adapt: makes the variant of a bundle for a site from the frames that it has just decided on.
    """
    line = Line(arm=name, seed=world.seed)
    bundle, choices = first, {site.name: choose(site) for site in SITES}
    learned = samples_of(world.base, new=False)
    variants = {site.name: bundle for site in SITES}
    for number in range(ROUNDS):
        chosen: list[Crop] = []
        for site in SITES:
            crops = world.streams[site.name, number]
            look = Opened.of(variants[site.name]).look(crops)
            chosen += [crops[index] for index in choices[site.name](look)]
        started_s = time.perf_counter()
        if chosen:
            fresh = samples_of(chosen, new=True)
            bundle = train_round([*learned, *fresh], base=bundle, seed=world.seed)
            learned += samples_of(chosen, new=False)
        seconds = time.perf_counter() - started_s
        for site in SITES:
            crops = world.streams[site.name, number]
            variants[site.name] = bundle if adapt is None else adapt(bundle, site, crops)
        line.rounds.append(_examined(world, number, chosen, variants, seconds))
    return line


def _examined(
    world: World, number: int, chosen: Sequence[Crop], variants: Mapping[str, StoredBundle], seconds: float
) -> dict[str, Any]:
    opened = {name: Opened.of(bundle) for name, bundle in variants.items()}
    by_site = {name: one.recalls(world.examinations[name, number + 1]) for name, one in opened.items()}
    macro = {name: sum(recalls.values()) / len(recalls) for name, recalls in by_site.items()}
    return {
        "round": number,
        "labels": len(chosen),
        "bytes": sum(len(crop.data) for crop in chosen),
        "new_class_labels": sum(crop.label == NEW_CLASS for crop in chosen),
        "new_class_recall": {name: recalls[NEW_CLASS] for name, recalls in by_site.items() if NEW_CLASS in recalls},
        "sites": macro,
        "macro_recall": sum(macro.values()) / len(macro),
        "train_seconds": round(seconds, 2),
    }


def first_bundle(world: World) -> StoredBundle:
    return _trained(samples_of(world.base, new=True), None, world.seed, BASE_CONFIG)


def train_round(samples: Sequence[TrainingSample], *, base: StoredBundle, seed: int) -> StoredBundle:
    return _trained(samples, base, seed, ROUND_CONFIG)


def _trained(
    samples: Sequence[TrainingSample], base: StoredBundle | None, seed: int, config: Mapping[str, Any]
) -> StoredBundle:
    made = train(samples, now=MADE_AT, trainer="vision", good_labels=(GOOD,), base=base, seed=seed, config=config)
    return StoredBundle(manifest=made.manifest, digest=made.digest, blobs=made.blobs)


def samples_of(crops: Sequence[Crop], *, new: bool) -> list[TrainingSample]:
    return [
        TrainingSample(
            name=f"{crop.group}-{index}",
            label=crop.label,
            group=crop.group,
            read=_reader(crop.data),
            media_type="image/png",
            site=crop.site,
            new=new,
        )
        for index, crop in enumerate(crops)
    ]


def _reader(data: bytes) -> Callable[[], bytes]:
    return lambda: data


__all__ = ["CLASSES", "FRAMES", "Line", "Opened", "World", "first_bundle", "run_arm", "samples_of", "train_round"]
