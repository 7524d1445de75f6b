"""What a person sees of a sample: a picture, channels of a time series, the fields of a row, or plain text."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from edgewise.frames import SERIES_TYPE
from edgewise.hub.store import Store, bundles, champions
from edgewise.hub.store.samples import SampleRow
from edgewise.wire import PastSpec, SeriesSpec

STEPS_SHOWN_MAX = 4000  # of one channel; longer ones are thinned to their least and largest in each stretch
CHANNELS_SHOWN_MAX = 8
FIELDS_SHOWN_MAX = 200
BYTES_MAX = 32 << 20
TEXT_BYTES_MAX = 20_000


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """A sample's content, ready to be shown.

    Attributes:
        steps: of a series: the whole window's number of steps, and which step each shown point is.
        note: what is not shown, or why nothing is.
    """

    kind: Literal["picture", "series", "row", "text"]
    channels: tuple[tuple[str, tuple[float | None, ...]], ...] = ()
    length: int = 0
    steps: tuple[int, ...] = ()
    fields: tuple[tuple[str, str], ...] = ()
    text: str = ""
    note: str = ""


def view(store: Store, connection: sa.Connection, row: SampleRow) -> View:
    """What to show of this sample. Content that cannot be read is told, never an error: it can still be labelled."""
    if row.media_type.startswith("image/"):
        return View(kind="picture")
    if not store.blobs.has(row.blob):
        return View(kind="text", note="the content of this sample is not stored")
    if row.size_bytes > BYTES_MAX:
        return View(kind="text", note=f"the content has {row.size_bytes} bytes; up to {BYTES_MAX} are shown")
    data = store.blobs.get(row.blob)
    if row.media_type == SERIES_TYPE:
        return _window(data, _columns(connection, row))
    return read_content(data)


def read_content(data: bytes) -> View:
    """A row or a series written as JSON, else text.

    >>> read_content(b'{"speed": 4.5, "line": "b"}').fields
    (('speed', '4.5'), ('line', 'b'))
    >>> read_content(b'{"x": [1, 2, 3]}').channels
    (('x', (1.0, 2.0, 3.0)),)
    """
    try:
        held = json.loads(data)
    except (ValueError, RecursionError):
        held = None
    if isinstance(held, list) and _is_channel(held):
        held = {"value": held}
    if isinstance(held, dict) and held:
        channels = {str(name): value for name, value in held.items() if _is_channel(value)}
        lengths = {len(value) for value in channels.values()}
        if channels and len(lengths) == 1:
            rest = {name: value for name, value in held.items() if str(name) not in channels}
            values = np.array([[math.nan if v is None else v for v in one] for one in channels.values()], np.float64)
            return _series(values, list(channels), fields=_fields(rest))
        return View(kind="row", fields=_fields(held))
    return View(kind="text", text=data[:TEXT_BYTES_MAX].decode(errors="replace"))


def _is_channel(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) > 1
        and all(one is None or (isinstance(one, int | float) and not isinstance(one, bool)) for one in value)
    )


def _fields(held: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    shown = list(held.items())[:FIELDS_SHOWN_MAX]
    return tuple((str(name)[:200], _text(value)) for name, value in shown)


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text[:500]


def _columns(connection: sa.Connection, row: SampleRow) -> tuple[str, ...]:
    """Names of a window's channels: of the bundle that decided on it, else of the champion; none where neither says."""
    champion = champions.champion(connection, row.use_case)
    for name in ((row.decision or {}).get("bundle"), None if champion is None else champion.bundle):
        manifest = None if name is None else bundles.manifest(connection, name)
        for graph in () if manifest is None else manifest.graphs:
            if isinstance(graph.pre, SeriesSpec | PastSpec):
                return graph.pre.columns
    return ()


def _window(data: bytes, columns: tuple[str, ...]) -> View:
    count = max(1, len(columns))
    if len(data) < 8 or len(data) % (4 * count):
        return View(kind="text", note=f"{len(data)} bytes are no window of {count} channels of float32 numbers")
    values = np.frombuffer(data, "<f4").astype(np.float64).reshape(count, -1)
    note = "" if columns else "no bundle names its channels, so it is shown as one"
    return _series(values, list(columns) or ["value"], note=note)


def _series(
    values: NDArray[np.float64], names: list[str], *, fields: tuple[tuple[str, str], ...] = (), note: str = ""
) -> View:
    """Channels (C, L) for a plot."""
    if len(names) > CHANNELS_SHOWN_MAX:
        note = f"{CHANNELS_SHOWN_MAX} of {len(names)} channels are shown"
    shown = values[:CHANNELS_SHOWN_MAX]
    steps = thinned(shown)
    channels = tuple(
        (name, tuple(None if not math.isfinite(v) else float(v) for v in one[steps]))
        for name, one in zip(names, shown, strict=False)
    )
    return View(
        kind="series",
        channels=channels,
        length=values.shape[1],
        steps=tuple(int(at) for at in steps),
        fields=fields,
        note=note,
    )


def thinned(values: NDArray[np.float64]) -> NDArray[np.intp]:
    """Steps to show of channels (C, L): all of them, or of each stretch where each channel is least and largest.

    A peak of one step is a peak in the plot too, which a mean or every n-th step would hide.

    >>> peak = np.zeros((1, 100_000)); peak[0, 54_321] = 1
    >>> 54_321 in thinned(peak), len(thinned(peak)) <= STEPS_SHOWN_MAX
    (True, True)
    """
    count, length = values.shape
    if length <= STEPS_SHOWN_MAX:
        return np.arange(length)
    stretches = max(1, (STEPS_SHOWN_MAX - 2) // (2 * count))
    edges = np.linspace(0, length, stretches + 1).astype(np.intp)
    safe = np.nan_to_num(values)
    found = {0, length - 1}
    for start, end in pairwise(edges):
        for one in safe[:, start:end]:
            found.update((int(start + one.argmin()), int(start + one.argmax())))
    return np.array(sorted(found), np.intp)
