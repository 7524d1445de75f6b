"""The factory that the simulated devices look at: parts with four measurements, three sites that drift apart."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from edgewise.ports import Frame, SeededChance
from edgewise.sim._faults import chance_of
from edgewise.wire import TableSpec, UseCase, canonical

NAME = "parts"
SITES = ("north", "south", "west")
LABELS = ("ok", "crack", "pit")
COLUMNS = ("force", "sound", "heat", "speed")
SPEC = TableSpec(columns=COLUMNS, fill=(0.0,) * 4, mean=(0.0,) * 4, std=(1.0,) * 4)
SHARES = (("ok", 0.6), ("crack", 0.25), ("pit", 0.15))
CENTRES: Mapping[str, tuple[float, ...]] = {
    "ok": (1.2, 0.4, -0.6, 0.3),
    "crack": (-1.1, 0.9, 0.5, -0.4),
    "pit": (-0.2, -1.3, 0.8, 0.9),
}
NOISE = 0.45
DRIFT_AN_HOUR: Mapping[str, tuple[float, ...]] = {  # heat creeps up in the south, a microphone ages in the west
    "north": (0.0, 0.0, 0.0, 0.0),
    "south": (0.0, 0.0, 0.12, 0.05),
    "west": (-0.05, 0.1, 0.0, 0.0),
}
FRAMES_A_PART = 2
CAMERA_MEMORY = 512  # frames that wait at a device that is off or slow; older ones are overwritten


def use_case(devices: int = 1) -> UseCase:
    """The use case of every simulated fleet: short waves, labels that matter, one field that must not leave.

    Args:
        devices: more of them bring more labels. A release every half hour would end each rollout before it finishes,
            because a newer one takes the place of the one under way.
    """
    return UseCase.model_validate(
        {
            "name": NAME,
            "app": "simulated",
            "outcome": {"goal": "find cracks and pits", "labels": list(LABELS), "good_labels": ["ok"]},
            "people": {"owner": "Ann", "approver": "Bob", "oversight": "the line's stop button"},
            "sites": [{"name": site} for site in SITES],
            # `operator` is a fact of every frame and is not listed: it must never be found at the hub.
            "data": {
                "data_class": "measurement",
                "transforms": [],
                "fields": ["frame", "group", "taken_at", "line"],
            },
            "upload": {"share_of_bytes": 0.15, "period_frames": 8, "period_s": 400, "outbox_bytes": 1_000_000},
            "retrain": {"labels_min": max(150, 30 * devices)},
            "gate": {"evaluation_share": 0.25, "samples_min": 4, "when_inconclusive": "bake", "margin": 0.05},
            "rollout": {
                "waves": [{"devices": 1}, {"percent": 30}, {"percent": 100}],
                "bake_s": 900,
                "bake_decisions_min": 6,
                "trial_s": 180,
                # A device may lose its power twice within one trial and then gives up on it: no fault of the release.
                "failures_max": 2,
                "automatic": True,
            },
            "signing": {"automatic": True},
            "connectivity": {"contact_s": 240},
        }
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One frame, and what a person would say about it."""

    frame: Frame
    truth: str


class Line:
    """The production line in front of one device.

    >>> from datetime import UTC
    >>> north = Line(1, "d1", "north", datetime(2026, 3, 1, tzinfo=UTC))
    >>> north.make(datetime(2026, 3, 1, 1, tzinfo=UTC)).frame.name
    'd1-000001'
    """

    def __init__(self, seed: int, name: str, site: str, start: datetime) -> None:
        self._chance = chance_of(seed, "line", name)
        self._name, self._site, self._start = name, site, start
        self._count = 0
        self._truth = ""

    def make(self, now: datetime) -> Part:
        """The next part on the line; neighbouring frames show the same one."""
        if self._count % FRAMES_A_PART == 0:
            self._truth = _drawn(self._chance.random())
        self._count += 1
        hours = (now - self._start).total_seconds() / 3600
        centre, drift = CENTRES[self._truth], DRIFT_AN_HOUR[self._site]
        row: dict[str, Any] = {
            column: round(middle + hours * slope + NOISE * _bell(self._chance), 4)
            for column, middle, slope in zip(COLUMNS, centre, drift, strict=True)
        }
        frame = Frame(
            name=f"{self._name}-{self._count:06d}",
            data=canonical(row),
            media_type="application/json",
            taken_at=now,
            group=f"{self._name}-part-{(self._count + 1) // FRAMES_A_PART}",
            facts={"line": int(self._chance.random() * 4), "operator": f"badge-{int(self._chance.random() * 40)}"},
        )
        return Part(frame=frame, truth=self._truth)


class Camera:
    """A `ports.Source` whose frames outlive a power cut, as files in a folder do."""

    def __init__(self) -> None:
        self.skipped = 0
        self.last_skip = ""
        self._frames: deque[Frame] = deque(maxlen=CAMERA_MEMORY)
        self.after: str | None = None  # the last one that was taken

    def __len__(self) -> int:
        """Frames that were not taken yet."""
        return sum(self._is_new(frame) for frame in self._frames)

    def open(self, after: str | None) -> Camera:
        """The frames after the one with this name, None for all."""
        self.after = after
        return self

    def add(self, frame: Frame) -> None:
        self._frames.append(frame)

    def next(self) -> Frame | None:
        frame = next((frame for frame in self._frames if self._is_new(frame)), None)
        if frame is not None:
            self.after = frame.name
        return frame

    def close(self) -> None:
        """Nothing to let go of: the frames outlive the device's process."""

    def forget(self, recorded: str | None) -> None:
        """Let go of the frames up to this one: the device has recorded them for good."""
        while recorded is not None and self._frames and self._frames[0].name <= recorded:
            self._frames.popleft()

    def _is_new(self, frame: Frame) -> bool:
        return self.after is None or frame.name > self.after


def _drawn(value: float) -> str:
    for label, share in SHARES:
        value -= share
        if value < 0:
            return label
    return SHARES[-1][0]


def _bell(chance: SeededChance) -> float:
    """Nearly normal, mean 0 and deviation 1: the sum of six uniform draws has variance 1/2."""
    return (sum(chance.random() for _ in range(6)) - 3) * 2**0.5
