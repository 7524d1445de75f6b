"""From the numbers of frames to blocks of readings: sampled on the hot path, packed off it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from edgewise.delta import Column, decode_series, encode_series
from edgewise.ports import Frame
from edgewise.wire import READINGS_MAX, Readings, Sampling

ROW_BYTES_MAX = 64_000  # a longer frame is no row of a sensor
WHOLE_MAX = 2**63 - 1
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Number = int | float


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """The numbers of one moment, by channel."""

    at_ms: int  # since 1970
    values: Mapping[str, Number]


class Sampler:
    """Picks the listed numbers out of frames, each channel at a bounded rate. It touches memory only.

    Args:
        channels: names that may travel, as the policy lists them.
        every_s: a channel is read at most once in so many seconds of the frames' own time.
        prefix: of the names of this source's channels, where a device has several sources.

    >>> sampler = Sampler(["ac_power"], every_s=0)
    >>> frame = Frame(name="1", data=b'{"ac_power": 4.5, "who": 7}', media_type="application/json", taken_at=EPOCH)
    >>> sampler.take(frame)
    Reading(at_ms=0, values={'ac_power': 4.5})
    """

    def __init__(self, channels: Iterable[str], *, every_s: float, prefix: str = "") -> None:
        listed = (name for name in channels if name.startswith(prefix))
        self._channels = {name.removeprefix(prefix): name for name in listed}
        self._every_ms = round(every_s * 1000)
        self._last: dict[str, int] = {}
        self._all_read_until = -1  # before this moment no channel is due
        self._looked_at = 0

    def take(self, frame: Frame) -> Reading | None:
        """The numbers that are due, None when there are none."""
        at_ms = (frame.taken_at - EPOCH) // timedelta(milliseconds=1)
        # A clock that was set back must not silence a channel until it has caught up.
        if self._looked_at <= at_ms < self._all_read_until:
            return None
        self._looked_at = at_ms
        values = {name: value for name, value in self._numbers(frame) if self._is_due(name, at_ms)}
        if not values:
            return None
        self._last |= dict.fromkeys(values, at_ms)
        if len(self._last) == len(self._channels):
            self._all_read_until = min(self._last.values()) + self._every_ms
        return Reading(at_ms=at_ms, values=values)

    def _is_due(self, name: str, at_ms: int) -> bool:
        last = self._last.get(name)
        return last is None or at_ms < last or at_ms >= last + self._every_ms

    def _numbers(self, frame: Frame) -> Iterator[tuple[str, Number]]:
        found: dict[str, Any] = dict(frame.facts)
        if frame.media_type == "application/json" and len(frame.data) <= ROW_BYTES_MAX:
            try:
                row = json.loads(frame.data)
            except (ValueError, RecursionError):
                row = None  # the bundle says so, when it is to decide on it
            found |= row if isinstance(row, dict) else {}
        for column in self._channels.keys() & found.keys():
            value = found[column]
            if isinstance(value, float) or (_is_whole(value) and abs(value) <= WHOLE_MAX):
                yield self._channels[column], value


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


class Block:
    """Readings of one period that are not a record yet. Bounded: `take` says when it has to be closed first."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self.opened_at: datetime | None = None
        self.count = 0
        self._series: dict[tuple[str, type], tuple[list[int], list[Number]]] = {}

    def has_room(self, reading: Reading) -> bool:
        """Whether the reading still fits; an empty block takes any."""
        return not self.count or self.count + len(reading.values) <= self._sampling.readings_max

    def take(self, reading: Reading, now: datetime) -> None:
        """Put the reading into the block."""
        self.opened_at = self.opened_at or now
        for name, value in reading.values.items():
            times, values = self._series.setdefault((name, type(value)), ([], []))
            times.append(reading.at_ms)
            values.append(value)
        self.count += len(reading.values)
        assert self.count <= READINGS_MAX, "a frame has at most as many numbers as the policy lists channels"

    def is_due(self, now: datetime) -> bool:
        """Whether its period is over."""
        return self.opened_at is not None and not (
            timedelta(0) <= now - self.opened_at < timedelta(seconds=self._sampling.period_s)
        )

    def record(self, name: str, site: str) -> Readings:
        """The block as a record with this id."""
        channels = self._channels()
        newest = max(max(times) for times, _ in self._series.values())
        return Readings(
            id=name,
            site=site,
            end=EPOCH + timedelta(milliseconds=newest),
            channels=tuple(channels),
            count=self.count,
            block=base64.b64encode(self._packed(channels)).decode(),
        )

    def state(self) -> bytes:
        """What has to be remembered over a start."""
        if self.opened_at is None:
            return b""
        channels = self._channels()
        packed = base64.b64encode(self._packed(channels)).decode()
        about = {"opened_at": self.opened_at.isoformat(), "channels": channels, "count": self.count, "block": packed}
        return json.dumps(about).encode()

    @classmethod
    def from_state(cls, state: bytes | None, sampling: Sampling) -> Block:
        """The block of `state()`."""
        block = cls(sampling)
        if not state:
            return block
        about = json.loads(state)
        channels = about["channels"]
        for column in decode_series(base64.b64decode(about["block"]), channels=len(channels), count=about["count"]):
            kind = float if column.values.dtype == np.float64 else int
            block._series[channels[column.channel], kind] = (column.times_ms.tolist(), column.values.tolist())
        block.count, block.opened_at = about["count"], datetime.fromisoformat(about["opened_at"])
        return block

    def _channels(self) -> list[str]:
        return sorted({name for name, _ in self._series})

    def _packed(self, channels: Sequence[str]) -> bytes:
        return encode_series(
            [
                Column(
                    channel=channels.index(name),
                    times_ms=np.array(times, np.int64),
                    values=np.array(values, np.float64) if kind is float else np.array(values, np.int64),
                )
                for (name, kind), (times, values) in self._series.items()
            ]
        )
