"""The route that says how good the running release is in the field."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter, Query
from pydantic import Field

from edgewise.hub import field, scope
from edgewise.hub.api.auth import Reader, ThisHub
from edgewise.hub.api.models import Out
from edgewise.hub.api.problems import responses
from edgewise.wire import Metric

router = APIRouter()


class FieldOut(Out):
    """What the audit share says of a release."""

    use_case: str
    release: str
    since: datetime
    half_width: float = Field(description="of the interval of the accuracy that is wanted")
    labelled: int = Field(description="audit samples with a label")
    accuracy: Metric = Field(description="over all frames of all sites, each site with its share of them")
    sites: dict[str, Metric]
    recalls: dict[str, Metric] = Field(description="of the labels that matter, over all sites")
    wanted: dict[str, int] = Field(description="labels that are still missing for that interval, by site")
    missing: list[str] = Field(description="sites that decide and have too few labels: the accuracy leaves them out")
    waiting: dict[str, int] = Field(description="audit samples without a label, by site")
    next: list[str] = Field(description="samples to label next")


@router.get("/usecases/{name}/field", tags=["ledger"], responses=responses(404))
def field_status(
    name: str,
    hub: ThisHub,
    who: Reader,
    release: str | None = Query(None, max_length=200, description="the champion without it"),
    half_width: float = Query(0.02, ge=0.001, le=0.5),
    days: float = Query(field.DAYS, ge=1, le=366),
) -> FieldOut:
    """How good a release is in the field, from frames drawn at random, and which of them to label next."""
    with hub.store.read() as connection:
        scope.check_some(connection, who, name, f"the field results of {name}")
        found = field.status(
            connection,
            name,
            now=hub.now(),
            release=release,
            half_width=half_width,
            days=days,
            sites=who.sites,
        )
    return FieldOut.model_validate(
        {
            "use_case": found.use_case,
            "release": found.release,
            "since": found.since,
            "half_width": found.half_width,
            "labelled": found.labelled,
            "accuracy": found.result.accuracy,
            "sites": found.result.sites,
            "recalls": found.result.recalls,
            "wanted": found.result.wanted,
            "missing": list(found.result.missing),
            "waiting": found.waiting,
            "next": list(found.next),
        }
    )
