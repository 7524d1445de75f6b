"""Labels that nobody has to give: what the target of a forecast was is in a window that the same device sent later."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

import numpy as np
import sqlalchemy as sa

from edgewise.frames import SERIES_TYPE
from edgewise.hub import labels, usecases
from edgewise.hub.store import Store, samples
from edgewise.hub.store.samples import WindowRow
from edgewise.wire import UseCase

WHO = "recorded series"
LOOKED_MAX = 4000  # windows of a use case in one tick, the newest ones
LABELLED_MAX = 256  # of them in one tick; each is one look into a blob
SIZE = 4  # bytes of a float32


class Match(NamedTuple):
    """A window without a label, and the one that holds what came after it, at this step from its end."""

    sample: str
    blob: str
    ago: int


def label(store: Store, use_case: str, now: datetime, *, check: Callable[[sa.Connection], None]) -> int:
    """Label windows of a forecast by what came later; how many. Again changes nothing.

    Args:
        check: called first in the transaction; it raises where this hub no longer holds the controllers' lease.
    """
    with store.read() as connection:
        usecase = usecases.need(connection, use_case)
        shape = _shape(usecase)
        if shape is None:
            return 0
        rows = samples.windows(connection, use_case, media_type=SERIES_TYPE, limit=LOOKED_MAX)
    columns, step_s, target, horizon_s = shape
    block_s = usecase.gate.block_hours * 3600
    place = columns.index(target)
    found: list[labels.NewLabel] = []
    for match in matches(rows, channels=len(columns), step_s=step_s, horizon_s=horizon_s, block_s=block_s):
        value = _value(store, match, place=place, channels=len(columns))
        if value is not None:
            found.append(labels.NewLabel(match.sample, repr(value)))
        if len(found) == LABELLED_MAX:
            break
    if found:
        with store.write() as connection:
            check(connection)
            labels.set_in(connection, found, who=WHO, now=now)
    return len(found)


def matches(
    rows: Sequence[WindowRow], *, channels: int, step_s: float, horizon_s: float, block_s: float
) -> Iterator[Match]:
    """For each window without a label the earliest one of the same device that reaches over its target's moment.

    A window whose target lies in another block of the split than its end gets none: it would be on both sides.

    >>> from datetime import UTC, timedelta
    >>> at = datetime(2026, 5, 4, tzinfo=UTC)
    >>> one = WindowRow(id="a", site="s", device="d", taken_at=at, blob="x", size_bytes=16, label=None)
    >>> two = one._replace(id="b", taken_at=at + timedelta(hours=5), blob="y")
    >>> list(matches([one, two], channels=1, step_s=3600, horizon_s=4 * 3600, block_s=86_400))
    [Match(sample='a', blob='y', ago=1)]
    """
    by_device: dict[tuple[str, str | None], list[WindowRow]] = {}
    for row in rows:
        by_device.setdefault((row.site, row.device), []).append(row)
    for windows in by_device.values():
        windows.sort(key=lambda row: row.taken_at)
        ends = [row.taken_at.timestamp() for row in windows]
        for row in windows:
            if row.label is not None:
                continue
            moment = row.taken_at.timestamp() + horizon_s
            if row.taken_at.timestamp() // block_s != moment // block_s:
                continue
            first = bisect_left(ends, moment - step_s / 2)
            if first == len(windows):
                continue
            ago = round((ends[first] - moment) / step_s)
            if 0 <= ago < windows[first].size_bytes // (SIZE * channels):
                yield Match(row.id, windows[first].blob, ago)


def _shape(usecase: UseCase) -> tuple[list[str], float, str, float] | None:
    """Channels, seconds of a step, target and horizon of a forecast; None where the use case asks for none."""
    target, config = usecase.outcome.target, usecase.retrain.config
    if target is None or target.horizon_s is None:
        return None
    columns = [name.strip() for name in str(config.get("columns", "")).split(",")]
    step_s = config.get("step_s")
    if target.name not in columns or not isinstance(step_s, int | float) or step_s <= 0:
        return None  # an older use case; `usecase check` says what is missing
    return columns, float(step_s), target.name, target.horizon_s


def _value(store: Store, match: Match, *, place: int, channels: int) -> float | None:
    """The target's number in the later window; None where its content is gone, or no window of this shape."""
    if not store.blobs.has(match.blob):
        return None
    data = store.blobs.get(match.blob)
    if not data or len(data) % (SIZE * channels):
        return None
    window = np.frombuffer(data, "<f4").reshape(channels, -1)
    if match.ago >= window.shape[1]:
        return None
    value = float(window[place, window.shape[1] - 1 - match.ago])
    return float(f"{value:.9g}") if math.isfinite(value) else None
