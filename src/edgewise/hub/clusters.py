"""Open pictures that look alike, so that one key labels many: fingerprints compared, and the largest group taken."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgewise.frames import decode_image, fingerprint, likeness, usual
from edgewise.hub.store import Store
from edgewise.hub.store.samples import SampleRow
from edgewise.wire import EdgewiseError

LOOKED_MAX = 240  # open pictures that are compared: about a second the first time, 20 ms after it
SHOWN_MAX = 24
KEPT_MAX = 4000  # fingerprints in memory: 16 MB
ALIKE_MIN = 0.5  # likeness of two pictures in a group, from -1 to 1; measured, docs/labelling.md


class Marks:
    """Fingerprints of contents, made once. A content never changes, so neither does its fingerprint."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[str, NDArray[np.int8] | None] = OrderedDict()

    def of(self, store: Store, blob: str) -> NDArray[np.int8] | None:
        """The fingerprint of a picture; None where it is not stored or cannot be read."""
        with self._lock:
            if blob in self._known:
                self._known.move_to_end(blob)
                return self._known[blob]
        made = _look_at(store, blob)
        with self._lock:
            self._known[blob] = made
            while len(self._known) > KEPT_MAX:
                self._known.popitem(last=False)
        return made


MARKS = Marks()


def next_group(store: Store, rows: Sequence[SampleRow]) -> list[SampleRow]:
    """The largest group of pictures that look alike, the most typical one first; empty where nothing can be compared.

    Only pictures of which the device said the same are grouped, so that one key is seldom wrong about some of them.
    """
    looked = [(row, mark) for row in rows[:LOOKED_MAX] if (mark := MARKS.of(store, row.blob)) is not None]
    if not looked:
        return []
    marks = np.stack([mark for _, mark in looked])
    alike = likeness(marks, marks, usual(marks)) if len(looked) > 1 else np.ones((1, 1))
    said = np.array([(row.decision or {}).get("label", "") for row, _ in looked])
    return [looked[at][0] for at in largest_group(alike, said)]


def largest_group(alike: NDArray[np.floating], said: NDArray[np.str_]) -> list[int]:
    """Places of the group around the picture that most others are near, itself first, then the nearest.

    Args:
        alike: (N, N), likeness of each two. said: (N,), what must be the same in a group.

    >>> alike = np.array([[1, 0.9, 0.1], [0.9, 1, 0.2], [0.1, 0.2, 1]])
    >>> largest_group(alike, np.array(["pit", "pit", "pit"])), largest_group(alike, np.array(["pit", "good", "pit"]))
    ([0, 1], [0])
    """
    near = (alike >= ALIKE_MIN) & (said[:, None] == said[None, :])
    np.fill_diagonal(near, True)
    middle = int(near.sum(axis=1).argmax())
    order = sorted(np.flatnonzero(near[middle]), key=lambda at: (at != middle, -alike[middle, at]))
    return [int(at) for at in order[:SHOWN_MAX]]


def _look_at(store: Store, blob: str) -> NDArray[np.int8] | None:
    try:
        return np.asarray(fingerprint(decode_image(store.blobs.get(blob), channels=1)), np.int8)
    except EdgewiseError:
        return None
