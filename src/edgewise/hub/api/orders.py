"""Routes for workers: orders, dataset revisions, bundles; and the list of releases."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from edgewise.hub import adapt_orders, bundles, orders, releases, scope, score_orders
from edgewise.hub.api.auth import Operator, OrderReader, Reader, ThisHub, Trainer
from edgewise.hub.api.device import read_body
from edgewise.hub.api.models import (
    AdaptIn,
    AskedOut,
    AskIn,
    BundleName,
    BundleOut,
    CancelIn,
    CandidateIn,
    ClaimIn,
    FailIn,
    HeartbeatIn,
    HeartbeatOut,
    OrderOut,
    ReleaseOut,
    ReleaseWhere,
    ScoredIn,
    SuggestIn,
)
from edgewise.hub.api.problems import responses
from edgewise.hub.orders import OrderWish
from edgewise.hub.store import bundles as bundle_rows
from edgewise.hub.store import devices, verdicts
from edgewise.hub.store import orders as rows
from edgewise.hub.store import releases as release_rows
from edgewise.wire import DatasetRevision, Manifest, NotValid, Order, ToScore, decode

router = APIRouter()
MANIFEST = {"schema": {"$ref": "#/components/schemas/Manifest"}}
BODY = {"requestBody": {"required": True, "content": {"application/json": MANIFEST}}}


@router.post("/orders", tags=["orders"], status_code=201, responses=responses(404, 409))
def make_order(wish: OrderWish, hub: ThisHub, who: Operator) -> Order:
    """Order a training run on everything labelled for training so far."""
    with hub.store.read() as connection:
        scope.check_whole(connection, who, wish.use_case, f"a training order of {wish.use_case}")
    return orders.create(hub.store, wish, who=who.name, now=hub.now(), chance=hub.chance, limits=hub.limits)


@router.get("/orders", tags=["orders"], responses=responses())
def list_orders(
    hub: ThisHub, who: OrderReader, use_case: str | None = None, state: str | None = None
) -> list[OrderOut]:
    """Orders, newest first."""
    states = () if state is None else (state,)
    with hub.store.read() as connection:
        found = rows.find(connection, use_case=use_case, states=states, limit=hub.limits.page_max)
        found = scope.visible(connection, who, found, whole=True)
    return [OrderOut.model_validate(row) for row in found]


@router.get("/orders/{order}", tags=["orders"], responses=responses(404))
def get_order(order: str, hub: ThisHub, who: OrderReader) -> OrderOut:
    """One order."""
    with hub.store.read() as connection:
        row = orders.need(connection, order)
        scope.check_whole(connection, who, row.use_case, f"order {order}")
        return OrderOut.model_validate(row)


@router.post(
    "/orders/claim",
    tags=["orders"],
    response_model=Order,
    responses={**responses(), 204: {"description": "nothing to do now; ask again later"}},
)
def claim_order(wish: ClaimIn, hub: ThisHub, who: Trainer) -> Order | Response:
    """Take the oldest open order; it comes back when the worker stays silent for longer than its lease."""
    who.check_everywhere("a worker's order")
    order = orders.claim(hub.store, wish.worker, wish.kinds, now=hub.now(), limits=hub.limits)
    return Response(status_code=204) if order is None else order


@router.post("/orders/{order}/heartbeat", tags=["orders"], responses=responses(404, 409))
def heartbeat(order: str, wish: HeartbeatIn, hub: ThisHub, who: Trainer) -> HeartbeatOut:
    """Say that the worker is alive; 409 means that it lost the order and must stop."""
    who.check_everywhere("a worker's order")
    until = orders.heartbeat(hub.store, order, wish.worker, now=hub.now(), limits=hub.limits)
    return HeartbeatOut(lease_until=until)


@router.post("/orders/{order}/fail", tags=["orders"], responses=responses(404, 409))
def fail_order(order: str, wish: FailIn, hub: ThisHub, who: Trainer) -> OrderOut:
    """Give an order back with what went wrong; it is tried again up to its bound. A planned stop counts as no try."""
    who.check_everywhere("a worker's order")
    row = orders.fail(hub.store, order, wish.worker, wish.error, planned=wish.planned, now=hub.now())
    return OrderOut.model_validate(row)


@router.post("/orders/{order}/cancel", tags=["orders"], responses=responses(404, 409))
def cancel_order(order: str, wish: CancelIn, hub: ThisHub, who: Operator) -> OrderOut:
    """End an order that is open or claimed; its worker stops at its next heartbeat. Again changes nothing."""
    with hub.store.read() as connection:
        row = orders.need(connection, order)
        scope.check_whole(connection, who, row.use_case, f"order {order}")
    return OrderOut.model_validate(orders.cancel(hub.store, order, reason=wish.reason, who=who.name, now=hub.now()))


@router.post("/orders/score", tags=["orders"], status_code=201, responses=responses(404, 409))
def make_score_order(wish: SuggestIn, hub: ThisHub, who: Operator) -> Order:
    """Let the champion look at all that waits for a label, so that people start from its word."""
    with hub.store.read() as connection:
        scope.check_whole(connection, who, wish.use_case, f"a score order of {wish.use_case}")
    return score_orders.create(
        hub.store, wish.use_case, why=wish.why, who=who.name, now=hub.now(), chance=hub.chance, limits=hub.limits
    )


@router.post("/orders/adapt", tags=["orders"], status_code=201, responses=responses(404, 409))
def make_adapt_order(wish: AdaptIn, hub: ThisHub, who: Operator) -> Order:
    """Have a variant of the champion made for one site, from the sums that its devices told."""
    with hub.store.read() as connection:
        scope.check_whole(connection, who, wish.use_case, f"an order of {wish.use_case} for a site")
    return adapt_orders.create(
        hub.store,
        wish.use_case,
        wish.site,
        why=wish.why,
        who=who.name,
        now=hub.now(),
        chance=hub.chance,
        limits=hub.limits,
    )


@router.post("/orders/adapt/ask", tags=["orders"], responses=responses(404, 409))
def ask_for_sums(wish: AskIn, hub: ThisHub, who: Operator) -> AskedOut:
    """Have the devices of a site tell their sums anew, with their next assignments."""
    with hub.store.read() as connection:
        scope.check_whole(connection, who, wish.use_case, f"an order of {wish.use_case} for a site")
    asked = adapt_orders.ask(hub.store, wish.use_case, wish.site, who=who.name, now=hub.now(), chance=hub.chance)
    return AskedOut(devices=asked)


@router.post("/orders/{order}/scored", tags=["orders"], responses=responses(404, 409))
def take_scored(order: str, wish: ScoredIn, hub: ThisHub, who: Trainer) -> list[ToScore]:
    """Give what the bundle says of some samples, and get the next ones; an empty list: the order is done."""
    who.check_everywhere("a worker's order")
    words = score_orders.Words(scored=wish.scored, unreadable=wish.unreadable)
    return list(score_orders.take(hub.store, order, wish.worker, words, now=hub.now(), limits=hub.limits))


@router.post("/orders/{order}/candidate", tags=["orders"], responses=responses(404, 409))
def give_candidate(order: str, wish: CandidateIn, hub: ThisHub, who: Trainer) -> OrderOut:
    """Answer an order with a bundle that was stored before; the gate judges it next."""
    who.check_everywhere("a worker's order")
    return OrderOut.model_validate(orders.take_candidate(hub.store, order, wish.worker, wish.candidate, now=hub.now()))


@router.get("/revisions/{digest}", tags=["orders"], responses=responses(404))
def get_revision(digest: str, hub: ThisHub, who: Trainer) -> DatasetRevision:
    """A frozen list of labelled samples. It never holds the evaluation share."""
    who.check_everywhere("a dataset revision")
    with hub.store.read() as connection:
        revision = rows.revision(connection, digest)
    if revision is None:
        raise NotValid(f"there is no dataset revision {digest[:80]!r} here", code="revision_unknown")
    return revision


@router.post("/bundles", tags=["bundles"], status_code=201, responses=responses(409, 413), openapi_extra=BODY)
async def add_bundle(request: Request, hub: ThisHub, who: Trainer) -> BundleName:
    """Store a bundle's manifest; PUT its blobs before. Comes back with the bundle's digest."""
    who.check_everywhere("a bundle for all sites")
    body = await read_body(request.scope, request.receive, hub.limits.json_bytes_max)
    name = await run_in_threadpool(
        bundles.add_bundle, hub.store, body, runtime=hub.runtime, who=who.name, now=hub.now()
    )
    return BundleName(digest=name)


@router.get("/bundles", tags=["bundles"], responses=responses())
def list_bundles(hub: ThisHub, who: Reader, use_case: str | None = None) -> list[BundleOut]:
    """Bundles, newest first."""
    with hub.store.read() as connection:
        found = bundle_rows.find(connection, use_case=use_case, limit=hub.limits.page_max)
        found = scope.visible(connection, who, found)
    return [BundleOut.model_validate(row) for row in found]


@router.get("/bundles/{digest}", tags=["bundles"], responses=responses(404))
def get_bundle(digest: str, hub: ThisHub, who: Reader) -> Manifest:
    """A bundle's manifest as a record; its exact bytes are at ``/bundles/{digest}/manifest``."""
    bundles.need_manifest(hub.store, digest)
    with hub.store.read() as connection:
        row = bundle_rows.get(connection, digest)
        scope.check_some(connection, who, row.use_case if row else None, f"bundle {digest[:12]}…")
        manifest = bundle_rows.manifest(connection, digest)
    assert manifest is not None
    return manifest


@router.get("/releases", tags=["releases"], responses=responses())
def list_releases(hub: ThisHub, who: Reader, use_case: str | None = None) -> list[ReleaseOut]:
    """Releases, newest first."""
    with hub.store.read() as connection:
        found = release_rows.find(connection, use_case=use_case, limit=hub.limits.page_max)
        found = scope.visible(connection, who, found)
    return [ReleaseOut.model_validate(row) for row in found]


@router.get("/releases/{release}", tags=["releases"], responses=responses(404))
def get_release(release: str, hub: ThisHub, who: Reader) -> ReleaseWhere:
    """One release: its gate, what it was made of, and the devices that reported to run it."""
    with hub.store.read() as connection:
        row = releases.need(connection, release)
        scope.check_some(connection, who, row.use_case, f"release {release}")
        fleet = devices.find(connection, use_case=row.use_case, sites=who.sites)
        verdict = verdicts.get(connection, row.verdict) if row.verdict else None
        body = bundle_rows.manifest_bytes(connection, row.bundle)
    made = decode(Manifest, body).provenance if body else None
    found = ReleaseOut.model_validate(row)
    return ReleaseWhere.model_validate(
        {
            **found.model_dump(exclude={"release"}),
            "body": found.release,
            "runs_on": sorted(device.id for device in fleet if device.release == release),
            "gate": verdict.verdict.result if verdict else None,
            "revision": made.revision if made else None,
            "parent": made.parent if made else None,
            "order": made.order if made else None,
            "seed": made.seed if made else 0,
        }
    )
