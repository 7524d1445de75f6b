"""Looks at labelled pictures in the background, so that near-copies never stand on both sides of a split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgewise.frames import decode_image, fingerprint, likeness, near_from, usual
from edgewise.frames._fingerprint import LENGTH, NEAR_MIN
from edgewise.hub.store import Store
from edgewise.hub.store import likeness as rows
from edgewise.hub.store.likeness import Mark, Near, Unmarked
from edgewise.wire import EdgewiseError

LOOKED_MAX = 256  # pictures in one tick, of 30 KB each about 0.7 s; the controllers' lease is 4 s
LOOKED_BYTES_MAX = 8 << 20  # and of large ones fewer: a photograph of 12 megapixels takes 0.1 s
COMPARED_MAX = 20_000  # the newest of a use case that a picture is compared with: 80 MB
NEAR_KEPT_MAX = 10


def tick(store: Store) -> int:
    """Take the fingerprints of some labelled pictures that have none; comes back with how many are done.

    Nothing is held while pictures are decoded and compared: contacts go on.
    """
    with store.read() as connection:
        waiting = _bounded(rows.unmarked(connection, LOOKED_MAX))
    by_case: dict[str, list[Unmarked]] = {}
    for row in waiting:
        by_case.setdefault(row.use_case, []).append(row)
    for use_case, some in by_case.items():
        with store.read() as connection:
            known = rows.marks(connection, use_case, limit=COMPARED_MAX)
        made = _looked_at(store, some, known)
        with store.write() as connection:
            rows.add(connection, made)
    return len(waiting)


def _bounded(waiting: Sequence[Unmarked]) -> list[Unmarked]:
    """The first ones that are not too large together, one at least."""
    total = 0
    some: list[Unmarked] = []
    for row in waiting:
        total += row.size_bytes
        if some and total > LOOKED_BYTES_MAX:
            break
        some.append(row)
    return some


def _looked_at(store: Store, waiting: Sequence[Unmarked], known: Sequence[Mark]) -> list[dict[str, Any]]:
    """Rows with the fingerprints of these, each compared with those known and with those before it."""
    found: list[dict[str, Any]] = []
    before = list(known)
    for row in waiting:
        about: dict[str, Any] = {"sample": row.id, "use_case": row.use_case, "mark": None, "nearest": None, "near": []}
        try:
            about["mark"] = fingerprint(decode_image(store.blobs.get(row.blob), channels=1)).tobytes()
        except EdgewiseError:
            found.append(about)  # what cannot be read is looked at once; a trainer leaves it out, too
            continue
        found.append(about)
        before.append(Mark(sample=row.id, site=row.site, group=row.group, mark=about["mark"]))
    if len(before) < 2:
        return found
    marks = np.frombuffer(b"".join(one.mark for one in before), np.int8).reshape(-1, LENGTH)
    shared = usual(marks)
    strange = np.array([f"{one.site}\0{one.group}" for one in before])
    for place in range(len(known), len(before)):
        others = np.flatnonzero(strange[:place] != strange[place])
        if not len(others):
            continue
        alike = likeness(marks[place][None], marks[others], shared)[0]
        order = np.argsort(-alike, kind="stable")[:NEAR_KEPT_MAX]
        row_of = next(one for one in found if one["sample"] == before[place].sample)
        row_of["nearest"] = float(alike[order[0]])
        row_of["near"] = [[before[others[at]].sample, float(alike[at])] for at in order if alike[at] >= NEAR_MIN]
    return found


def pairs(looked: Sequence[Near]) -> list[tuple[str, str]]:
    """Pairs of pictures of different groups that are nearly the same, by what is usual among all of them."""
    bound = near_from(np.array([one.nearest for one in looked if one.nearest is not None]))
    return [(one.sample, other) for one in looked for other, alike in one.near if alike >= bound]
