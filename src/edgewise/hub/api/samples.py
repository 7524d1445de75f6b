"""Routes for samples and labels."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query

from edgewise.hub import labels, samples, scope, usecases
from edgewise.hub.api.auth import Labeller, Signer, ThisHub, Watcher
from edgewise.hub.api.models import (
    ImportIn,
    ImportOut,
    LabelHistory,
    LabelsIn,
    LabelsOut,
    SampleOut,
    SamplePage,
    SampleWithHistory,
    ToLabel,
)
from edgewise.hub.api.problems import responses
from edgewise.hub.labels import NewLabel
from edgewise.hub.samples import ImportedSample
from edgewise.hub.store import labels as label_rows
from edgewise.hub.store import samples as rows
from edgewise.hub.store.samples import SampleRow
from edgewise.wire import LabelledSample, NotValid

router = APIRouter()
Limit = Annotated[int, Query(ge=1, le=1000)]


@router.post("/samples/import", tags=["samples"], responses=responses(404, 409, 413))
def import_samples(wish: ImportIn | ImportedSample, hub: ThisHub, who: Labeller) -> ImportOut:
    """Bring samples in by hand, one or a list; PUT their blobs before. The same sample again keeps its id."""
    wanted = wish.samples if isinstance(wish, ImportIn) else (wish,)
    _bound(len(wanted), hub.limits.import_samples_max, "samples")
    who.check_sites((sample.site for sample in wanted), "an import")
    return ImportOut(ids=samples.import_samples(hub.store, wanted, who=who.name, now=hub.now()))


@router.get("/samples", tags=["samples"], responses=responses())
def list_samples(
    hub: ThisHub,
    who: Watcher,
    use_case: str | None = None,
    site: str | None = None,
    device: str | None = None,
    labelled: bool | None = None,
    cursor: str | None = None,
    limit: Limit = 100,
) -> SamplePage:
    """Samples in the order in which the hub received them, a page at a time."""
    after = None if cursor is None else read_cursor(cursor)
    with hub.store.read() as connection:
        found = rows.page(
            connection,
            use_case=use_case,
            site=site,
            device=device,
            labelled=labelled,
            sites=who.sites,
            after=after,
            limit=limit + 1,
        )
    page = found[:limit]
    return SamplePage(
        samples=[SampleOut.model_validate(row) for row in page],
        next=make_cursor(page[-1]) if len(found) > limit else None,
    )


@router.get("/samples/{sample}", tags=["samples"], responses=responses(404))
def get_sample(sample: str, hub: ThisHub, who: Watcher) -> SampleWithHistory:
    """One sample with every label that it ever had."""
    with hub.store.read() as connection:
        scope.check_samples(connection, who, [sample])
        row = rows.get(connection, sample)
        history = label_rows.history(connection, sample)
    if row is None:
        raise NotValid(f"there is no sample {sample[:80]!r}; see GET /api/v1/samples", code="sample_unknown")
    found = SampleOut.model_validate(row).model_dump()
    return SampleWithHistory(**found, labels=[LabelHistory.model_validate(dict(item)) for item in history])


@router.get("/labels/next", tags=["labels"], responses=responses(404))
def next_to_label(hub: ThisHub, who: Watcher, use_case: str, limit: Limit = 20) -> list[ToLabel]:
    """What to label next: disagreements of a rollout under way, within the labels of a day; then alarms, feedback,
    other disagreements, audit samples, and the least certain decisions.
    """
    found = labels.next_to_label(hub.store, use_case, sites=who.sites, limit=limit, now=hub.now())
    return [ToLabel.model_validate(item) for item in found]


@router.post("/labels", tags=["labels"], responses=responses(404, 413))
def set_labels(wish: LabelsIn, hub: ThisHub, who: Labeller) -> LabelsOut:
    """Label samples, all of them or none. A label that is known already counts as a duplicate."""
    _bound(len(wish.labels), hub.limits.labels_max, "labels")
    said = [NewLabel(item.sample, item.label, item.annotation) for item in wish.labels]
    with hub.store.read() as connection:
        scope.check_samples(connection, who, (item.sample for item in said))
    accepted, duplicates = labels.set_labels(hub.store, said, who=who.name, now=hub.now())
    return LabelsOut(accepted=accepted, duplicates=duplicates)


@router.get("/evaluation", tags=["gate"], responses=responses(404))
def evaluation_share(hub: ThisHub, who: Signer, use_case: str) -> list[LabelledSample]:
    """The evaluation share: what the gate judges on, with the slices of each sample. No worker ever sees it."""
    with hub.store.read() as connection:
        if who.sites is not None:
            scope.check_whole(connection, who, use_case, f"the evaluation share of {use_case}")
        return labels.evaluation_share(connection, usecases.need(connection, use_case))


def make_cursor(row: SampleRow) -> str:
    """The place in the list after this row."""
    return make_place(row.received_at, row.id)


def make_place(at: datetime, name: str) -> str:
    """The cursor of a place in a list that is ordered by a time and an id."""
    return base64.urlsafe_b64encode(f"{at.isoformat()} {name}".encode()).decode()


def read_cursor(cursor: str) -> tuple[datetime, str]:
    """The place that a cursor names.

    Raises:
        NotValid: it is none of ours.
    """
    try:
        text = base64.urlsafe_b64decode(cursor.encode()).decode()
        at, _, sample = text.partition(" ")
        when = datetime.fromisoformat(at)
    except (binascii.Error, ValueError):
        when, sample = None, ""
    if when is None or when.tzinfo is None or "\0" in sample:
        raise NotValid(f"{cursor[:60]!r} is not a cursor; take `next` of the page before", code="cursor_invalid")
    return when, sample


def _bound(count: int, count_max: int, what: str) -> None:
    if count > count_max:
        raise NotValid(f"{count} {what} in one call, at most {count_max} are taken; send them in parts", code="too_big")
