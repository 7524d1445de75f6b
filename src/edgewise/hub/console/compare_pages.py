"""Two releases side by side: what they are, how good each was found to be, and what the update weighs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from fastapi import Response

from edgewise import delta
from edgewise.hub import releases, scope, usecases
from edgewise.hub.api.auth import ThisHub
from edgewise.hub.console._render import page
from edgewise.hub.console._router import router
from edgewise.hub.console.label_data import names
from edgewise.hub.console.login import Visitor
from edgewise.hub.fits import Fits
from edgewise.hub.store import bundles, deltas, orders
from edgewise.hub.store.releases import ReleaseRow
from edgewise.hub.weighed import Weighed, weigh
from edgewise.wire import Manifest, Metric, NotValid, UseCase


@router.get("/compare")
def compare(hub: ThisHub, who: Visitor, a: str = "", b: str = "") -> Response:
    """Two releases of one use case, the first on the left."""

    def values() -> Mapping[str, Any]:
        with hub.store.read() as connection:
            left, right = releases.need(connection, a), releases.need(connection, b)
            if left.use_case != right.use_case or a == b:
                raise NotValid(
                    f"{a[:80]} and {b[:80]} cannot stand side by side; choose two different releases of one use case",
                    code="compare_unknown",
                )
            scope.check_whole(connection, who, left.use_case, f"the scorecards of {left.use_case}")
            usecase = usecases.need(connection, left.use_case)
            frame = {"names": names(connection, who), "usecase": usecase, "active": "releases"}
            return frame | _both(connection, usecase, left, right)

    return page(hub, who, "compare.html", values)


def _both(connection: sa.Connection, usecase: UseCase, left: ReleaseRow, right: ReleaseRow) -> dict[str, Any]:
    sides = [_side(connection, row) for row in (left, right)]
    measure = usecase.outcome.metric
    scores = [_scores(side["weighed"], measure) for side in sides]
    places = list(dict.fromkeys(place for each in scores for place in each))
    sides[1]["beside_left"] = sides[1]["weighed"] is not None and sides[1]["weighed"].champion_release == left.id
    return {
        "left": sides[0],
        "right": sides[1],
        "measure": measure,
        "rows": [(place, *(each.get(place) for each in scores)) for place in places],
        "update": _update(connection, usecase, left.bundle, right.bundle),
    }


def _side(connection: sa.Connection, row: ReleaseRow) -> dict[str, Any]:
    weighed: Weighed | None = None
    try:
        weighed = weigh(connection, row.id)
    except NotValid as error:
        if error.code != "scorecard_unknown":
            raise
    held, manifest = bundles.get(connection, row.bundle), bundles.manifest(connection, row.bundle)
    name = None if manifest is None else manifest.provenance.revision
    revision = None if name is None else orders.revision(connection, name)
    return {
        "release": row,
        "weighed": weighed,
        "size_bytes": None if held is None else held.size_bytes,
        "revision": name,
        "samples": None if revision is None else len(revision.samples),
        "latency_ms": None if weighed is None else weighed.scorecard.latency_ms,
    }


def _scores(weighed: Weighed | None, measure: str) -> dict[str, Metric]:
    """The measure at each place of a scorecard; nothing where values are stated."""
    if weighed is None or measure not in ("balanced_accuracy", "macro_recall"):
        return {}
    card = weighed.scorecard
    return {score.site: getattr(score, measure) for score in (card.overall, *card.sites)}


def _update(connection: sa.Connection, usecase: UseCase, old: str, new: str) -> dict[str, Any]:
    """What a device with the one fetches for the other, and what it holds already."""
    fits = Fits(connection, latency_ms_max=usecase.placement.latency_ms_max)
    held, wanted = _blobs(fits.manifest(old)), _blobs(fits.manifest(new))
    fresh = [digest for digest in wanted if digest not in held]
    built = deltas.sizes(connection, fresh, delta.VERSION) if fresh else {}
    return {
        "size_bytes": fits.bytes_to_fetch(new, set(held)),
        "same": sum(size for digest, size in wanted.items() if digest in held),
        "exact": not fresh or any(base in held for base, _ in built),
    }


def _blobs(manifest: Manifest | None) -> dict[str, int]:
    return {} if manifest is None else {blob.sha256: blob.size_bytes for blob in manifest.blobs.values()}
