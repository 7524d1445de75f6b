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
from edgewise.learn import TrainingSample, make_site_variant, train
from edgewise.ports import OnnxRuntime, Session, StoredBundle, norm_sums
from edgewise.wire import Graph

Floats = NDArray[np.float32]
MADE_AT = datetime(2026, 1, 1, tzinfo=UTC)
BATCH = 512
HALF_BYTES = 2  # of a mean or a deviation as it is sent


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How a cloud trains, and what it makes of a site's sums.

    Attributes:
        style: share of the pictures that take the manner of others (`learn`, config `style`).
        remembers: all that was ever sent counts as new, half of the training; else only this round's.
        adapts: each site gets a variant with its own statistics.
    """

    style: float = 0.0
    remembers: bool = False
    adapts: bool = False


# The world was calibrated with the first, before the second was there; peers are shown with both.
PLAIN = Recipe()
WHOLE = Recipe(style=0.5, remembers=True, adapts=True)


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
    world: World, first: StoredBundle, name: str, choose: Callable[[SitePlan], arms.Choice], recipe: Recipe
) -> Line:
    """All rounds of one arm.

    Args:
        choose: makes the choice of one site; it may remember what it chose.
    """
    line = Line(arm=name, seed=world.seed)
    bundle, choices = first, {site.name: choose(site) for site in SITES}
    base, sent = samples_of(world.base, new=False), list[Crop]()
    variants = {site.name: bundle for site in SITES}
    for number in range(ROUNDS):
        chosen: list[Crop] = []
        for site in SITES:
            crops = world.streams[site.name, number]
            look = Opened.of(variants[site.name]).look(crops)
            chosen += [crops[index] for index in choices[site.name](look)]
        started_s = time.perf_counter()
        if chosen:
            before = samples_of(sent, new=recipe.remembers)
            bundle = _trained([*base, *before, *samples_of(chosen, new=True)], bundle, world.seed, recipe)
            sent += chosen
        seconds = time.perf_counter() - started_s
        sums_bytes = 0
        for site in SITES:
            if recipe.adapts:
                variants[site.name], site_bytes = for_site(bundle, site, world.streams[site.name, number])
                sums_bytes += site_bytes
            else:
                variants[site.name] = bundle
        line.rounds.append(_examined(world, number, chosen, variants, seconds, sums_bytes))
    return line


def for_site(bundle: StoredBundle, site: SitePlan, crops: Sequence[Crop]) -> tuple[StoredBundle, int]:
    """The variant of a bundle for a site from the frames that were just seen there, and the bytes of their sums."""
    (graph,) = bundle.manifest.graphs
    inputs = np.stack([prepare(crop.data, "image/png", graph.pre) for crop in crops])
    model = bundle.read_blob(bundle.manifest.blobs[graph.blob].sha256)
    sums = norm_sums(OnnxRuntime(), model, graph, inputs)
    made = make_site_variant(bundle, site.name, sums, frames=len(crops))
    sent_bytes = sum(2 * HALF_BYTES * len(one.total) for one in sums)
    return StoredBundle(manifest=made.manifest, digest=made.digest, blobs=made.blobs), sent_bytes


def _examined(
    world: World,
    number: int,
    chosen: Sequence[Crop],
    variants: Mapping[str, StoredBundle],
    seconds: float,
    sums_bytes: int,
) -> dict[str, Any]:
    opened = {name: Opened.of(bundle) for name, bundle in variants.items()}
    by_site = {name: one.recalls(world.examinations[name, number + 1]) for name, one in opened.items()}
    macro = {name: sum(recalls.values()) / len(recalls) for name, recalls in by_site.items()}
    return {
        "round": number,
        "labels": len(chosen),
        "bytes": sum(len(crop.data) for crop in chosen) + sums_bytes,
        "new_class_labels": sum(crop.label == NEW_CLASS for crop in chosen),
        "new_class_recall": {name: recalls[NEW_CLASS] for name, recalls in by_site.items() if NEW_CLASS in recalls},
        "sites": macro,
        "macro_recall": sum(macro.values()) / len(macro),
        "train_seconds": round(seconds, 2),
    }


def first_bundle(world: World, recipe: Recipe) -> StoredBundle:
    return _trained(samples_of(world.base, new=True), None, world.seed, recipe)


def _trained(samples: Sequence[TrainingSample], base: StoredBundle | None, seed: int, recipe: Recipe) -> StoredBundle:
    config: dict[str, str | float] = {"architecture": "small", "style": recipe.style}
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
