"""Routes for evidence and signing: verdicts, scorecards, requests to sign. The evaluation share is with the samples."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import Field

from edgewise.hub import gate, releases, scope, weighed
from edgewise.hub.api.auth import Approver, Reader, Signer, ThisHub, Watcher
from edgewise.hub.api.models import Out
from edgewise.hub.api.problems import responses
from edgewise.hub.body import Body
from edgewise.hub.store import bundles
from edgewise.hub.store import verdicts as rows
from edgewise.hub.store.verdicts import RequestRow, VerdictRow
from edgewise.wire import NotValid, Scorecard, Verdict, plain
from edgewise.wire._record import Digest

router = APIRouter()
JSON = "application/json"


class VerdictOut(Verdict):
    """A verdict with its digest and the order whose candidate it is about."""

    digest: str
    order: str | None = None


class RequestOut(Out):
    id: str
    use_case: str
    bundle: str
    verdict: str | None
    state: str
    by: str = Field(validation_alias="asked_by")
    why: str
    answered_by: str | None
    reason: str | None = Field(validation_alias="answer", description="why the signer refused")
    release: str | None
    made_at: datetime
    updated_at: datetime


class SigningIn(Body):
    bundle: Digest
    why: str = Field("pushed again by a person", max_length=500)


class RefusalIn(Body):
    reason: str = Field(min_length=1, max_length=2000)


@router.get("/verdicts", tags=["gate"], responses=responses())
def list_verdicts(
    hub: ThisHub, who: Reader, use_case: str | None = None, candidate: str | None = None, variants: bool = False
) -> list[VerdictOut]:
    """The gate's verdicts, newest first; each speaks of every site of its use case. Those on variants on request."""
    with hub.store.read() as connection:
        found = rows.find(connection, use_case=use_case, candidate=candidate, variants=variants)
        found = scope.visible(connection, who, found, whole=True)
    return [_verdict(row) for row in found]


@router.get("/verdicts/{digest}", tags=["gate"], response_model=Verdict, responses=responses(404))
def get_verdict(digest: str, hub: ThisHub, who: Reader) -> Response:
    """One verdict as the exact bytes that have this digest."""
    with hub.store.read() as connection:
        row = rows.get(connection, digest)
        if row is not None:
            scope.check_whole(connection, who, row.use_case, f"verdict {digest[:12]}…")
    if row is None:
        raise NotValid(f"there is no verdict {digest[:80]!r}; see GET /api/v1/verdicts", code="verdict_unknown")
    return Response(row.body, media_type=JSON)


@router.get("/scorecards/{digest}", tags=["gate"], response_model=Scorecard, responses=responses(404))
def get_scorecard(digest: str, hub: ThisHub, who: Signer) -> Response:
    """One scorecard with every prediction, as the exact bytes that have this digest. Never for workers."""
    who.check_everywhere("a scorecard")
    with hub.store.read() as connection:
        body = rows.scorecard_bytes(connection, digest)
    if body is None:
        raise NotValid(f"there is no scorecard {digest[:80]!r}; a verdict names its own", code="scorecard_unknown")
    return Response(body, media_type=JSON)


class VariantOut(Out):
    """A variant of the release's candidate: the gate's word, and its scorecard without the single predictions."""

    verdict: Verdict
    scorecard: Scorecard
    in_release: bool


class WeighedOut(Out):
    """A release's scorecard beside that of the champion that it was judged against, on the same samples."""

    release: str
    metric: str = Field(description="what the use case measures success by")
    good_labels: tuple[str, ...]
    labels_that_matter: tuple[str, ...]
    verdict: Verdict
    scorecard: Scorecard
    champion: Scorecard | None
    champion_release: str | None
    variants: dict[str, VariantOut]


@router.get("/releases/{release}/scorecard", tags=["gate"], responses=responses(404))
def release_scorecard(release: str, hub: ThisHub, who: Watcher) -> WeighedOut:
    """How good a release was found to be before it went out: by site and slice, and beside the champion.

    Never for workers: the predictions say what the samples of the evaluation share are.
    """
    with hub.store.read() as connection:
        row = releases.need(connection, release)
        scope.check_whole(connection, who, row.use_case, f"the scorecard of {release}")
        found = weighed.weigh(connection, release)
    return WeighedOut(
        release=release,
        metric=found.outcome.metric,
        good_labels=found.outcome.good_labels,
        labels_that_matter=found.outcome.labels_that_matter,
        verdict=found.verdict,
        scorecard=found.scorecard,
        champion=found.champion,
        champion_release=found.champion_release,
        variants={
            name: VariantOut(
                verdict=one.verdict,
                scorecard=one.scorecard.model_copy(update={"predictions": ()}),
                in_release=one.in_release,
            )
            for name, one in found.variants.items()
        },
    )


@router.get("/signing", tags=["signing"], responses=responses())
def list_requests(
    hub: ThisHub,
    who: Signer,
    state: Annotated[str, Query(pattern="^(waiting|signed|refused|withdrawn|all)$")] = "waiting",
) -> list[RequestOut]:
    """Requests to sign, newest first; those that wait where no state is named."""
    with hub.store.read() as connection:
        found = rows.requests(connection, states=() if state == "all" else (state,))
        found = scope.visible(connection, who, found, whole=True)
    return [RequestOut.model_validate(row) for row in found]


@router.post("/signing", tags=["signing"], status_code=201, responses=responses(404))
def ask_to_sign(wish: SigningIn, hub: ThisHub, who: Approver) -> RequestOut:
    """Push a candidate to the signer again. It looks at the evidence itself and refuses what did not pass."""
    with hub.store.read() as connection:
        bundle = bundles.get(connection, wish.bundle)
        scope.check_whole(connection, who, bundle.use_case if bundle else None, f"bundle {wish.bundle[:12]}…")
    row = gate.ask_to_sign(hub.store, wish.bundle, by=who.name, why=wish.why, now=hub.now(), chance=hub.chance)
    return RequestOut.model_validate(row)


@router.post("/signing/{request}/refuse", tags=["signing"], responses=responses(404))
def refuse(request: str, wish: RefusalIn, hub: ThisHub, who: Signer) -> RequestOut:
    """The signer will not sign, and says why."""
    with hub.store.read() as connection:
        asked = rows.request(connection, request)
        if asked is not None:
            scope.check_whole(connection, who, asked.use_case, f"signing request {request}")
    row: RequestRow = gate.refuse(hub.store, request, reason=wish.reason, by=who.name, now=hub.now())
    return RequestOut.model_validate(row)


def _verdict(row: VerdictRow) -> VerdictOut:
    return VerdictOut.model_validate({**plain(row.verdict), "digest": row.digest, "order": row.order})
