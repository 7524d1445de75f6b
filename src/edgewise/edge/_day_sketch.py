"""The sketch of each day: sums over all decided frames, told once the day is over.

Made off the hot path, when a period is recorded, and durable with everything else; a restart loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import date
from typing import Any

import numpy as np

from edgewise.edge._period import Item, Period
from edgewise.edge._slots import Running
from edgewise.edge.ring import Ring
from edgewise.frames import prepare
from edgewise.measure import LIGHT_SIDE, Sketcher, light_of, lights_together
from edgewise.wire import DataPolicy, DaySketch, ImageSpec, InputSpec, NotValid
from edgewise.wire.sketch import Light

DAY_SKETCH = "day_sketch"  # what the event is called
LIGHT_EVERY = 4  # frames next to each other show the same part; one of them is prepared once more for its light
LIGHT_MAX = 64  # of a period
GREY = ImageSpec(width=LIGHT_SIDE, height=LIGHT_SIDE, channels=1, mean=(0.0,), std=(1.0,))
OPEN_MAX = 64  # sketches of days that are not told yet; over it the oldest is told early
Key = tuple[str, str, str, str]  # day, pipeline, bundle, release


class DaySketches:
    """The sketches that are not told yet, by day, pipeline and bundle. It belongs to the thread that records.

    Args:
        ring: the frames' bytes.
        before: what `plain` gave when the device stopped.
    """

    def __init__(self, ring: Ring, running: Callable[[], Running | None], before: Iterable[Any] = ()) -> None:
        self._ring = ring
        self._running = running
        self._held: dict[Key, DaySketch] = {
            (str(day), str(pipeline), str(bundle), str(release)): DaySketch.of_text(text)
            for day, pipeline, bundle, release, text in before
        }
        self._sketcher: tuple[str, Sketcher | None] = ("", None)

    def plain(self) -> list[list[str]]:
        """What is durable, as plain values."""
        return [[*key, sketch.text()] for key, sketch in self._held.items()]

    def take(self, period: Period) -> None:
        """Add a period's frames to their day's sketch; a bundle without a basis adds none.

        Raises:
            NotValid: the bundle's basis does not fit its embeddings.
        """
        running = self._running()
        if running is None or period.bundle != running.bundle:
            return
        sketcher = self._of(running)
        items = [item for item in period.items if item.embedding is not None]
        if sketcher is None or not items:
            return
        labels = running.pipeline.manifest.labels
        places = {label: place for place, label in enumerate(labels)}
        made = sketcher.sketch(
            np.stack([item.embedding for item in items if item.embedding is not None]),
            np.array([places.get(item.decision.label, len(labels) - 1) for item in items]),
            np.array([item.decision.confidence for item in items]),
            len(labels),
        ).model_copy(update={"light": self._light(items, running.pipeline.manifest.graphs[0].pre)})
        key = period.opened_at.date().isoformat(), period.pipeline, running.bundle, running.release or ""
        self._held[key] = self._held[key] + made if key in self._held else made

    def told(self, today: date, policy: DataPolicy) -> list[dict[str, Any]]:
        """The data of an event for each day that is over; it is not held any longer.

        Under a policy that asks for noise in sums nothing is told; under one with `counts_min`, no counts, and no
        sums of fewer frames than that.
        """
        due = [key for key in self._held if key[0] != today.isoformat()]
        due += sorted(set(self._held) - set(due))[: max(len(self._held) - len(due) - OPEN_MAX, 0)]
        found = []
        for key in due:
            sketch = _private(self._held.pop(key), policy)
            if sketch is not None:
                day, pipeline, bundle, release = key
                found.append({"day": day, "pipeline": pipeline, "bundle": bundle, "release": release,
                              "sketch": sketch.text()})  # fmt: skip
        return found

    def _light(self, items: Sequence[Item], pre: InputSpec) -> Light | None:
        """Of some of the frames that are still held; of pictures only."""
        if pre.kind != "image":
            return None
        found = []
        for item in items[::LIGHT_EVERY][:LIGHT_MAX]:
            frame = self._ring.get(item.name)
            if frame is None:
                continue
            try:
                found.append(light_of(prepare(frame.data, frame.media_type, GREY)[0]))
            except NotValid:
                continue
        return lights_together(found)

    def _of(self, running: Running) -> Sketcher | None:
        if self._sketcher[0] != running.bundle:
            reference = running.pipeline.manifest.reference
            basis = None if reference is None else reference.sketch
            self._sketcher = running.bundle, None if basis is None else Sketcher.of_basis(basis)
        return self._sketcher[1]


def _private(sketch: DaySketch, policy: DataPolicy) -> DaySketch | None:
    """What of a sketch may be told."""
    if policy.private.sums_noise is not None or sketch.count < policy.private.counts_min:
        return None
    if policy.private.counts_min > 1:
        light = sketch.light if sketch.light and sketch.light[0] >= policy.private.counts_min else None
        return sketch.model_copy(update={"classes": (), "novelty": (), "confidence": (), "light": light})
    return sketch


def restored(ring: Ring, running: Callable[[], Running | None], stored: list[Any]) -> DaySketches:
    """Those of a stored state; what cannot be read any more begins anew."""
    try:
        return DaySketches(ring, running, stored)
    except (NotValid, ValueError):
        return DaySketches(ring, running)
