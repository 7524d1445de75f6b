"""Orders of kind `adapt`: a site's variant of the champion, made from the sums that its devices told."""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa

from edgewise.hub import audit, site_sums, usecases
from edgewise.hub.limits import Limits
from edgewise.hub.store import Store, bundles, champions, devices
from edgewise.hub.store import channel_sums as sums_rows
from edgewise.hub.store import orders as rows
from edgewise.hub.store import usecases as usecase_rows
from edgewise.hub.store.orders import OrderRow
from edgewise.hub.store.releases import ReleaseRow
from edgewise.plan import variant_faults
from edgewise.ports import Chance
from edgewise.wire import VARIANT_MAX, Candidate, NotValid, Order, UseCase, encode, site_variant

KIND = "adapt"
LOOKED_AT_MAX = 1_000  # orders of a use case that may be about a site
SETTLE = timedelta(hours=1)  # since the first of a site's devices told, until the others are not waited for


def tick(store: Store, now: datetime, *, chance: Chance, limits: Limits) -> None:
    """Make an order where a use case adapts to its sites, and one of them has told what is not tried yet."""
    with store.write() as connection:
        for name in usecase_rows.names(connection):
            usecase = usecases.need(connection, name)
            if not usecase.retrain.adapt or rows.unfinished(connection, name, KIND) is not None:
                continue
            for site in usecase.sites:
                why = due(connection, usecase, site.name, now)
                if why is None:
                    continue
                try:
                    with connection.begin_nested():
                        make(
                            store,
                            connection,
                            name,
                            site.name,
                            why=why,
                            who="trigger",
                            now=now,
                            chance=chance,
                            limits=limits,
                        )
                except NotValid:
                    continue  # too few frames or too much noise yet: the next sums may do
                break


def due(connection: sa.Connection, usecase: UseCase, site: str, now: datetime) -> str | None:
    """Why a variant of the champion for this site is to be tried now; None when it is not.

    Once for a champion, when all devices of the site that run it have told, or an hour after the first did; and again
    after an alarm or an answer that came since.
    """
    champion = champions.whole(connection, usecase.name)
    if champion is None:
        return None
    told = site_sums.newest(sums_rows.find(connection, usecase.name, site=site), champion.bundle)
    if not told:
        return None
    last = _last(connection, usecase.name, site, champion.bundle)
    if last is not None:
        fresh = [row for row in told if row.why != "first" and row.received_at > last.made_at]
        return f"{fresh[0].device} told of {site} again: {fresh[0].why}" if fresh else None
    here = [row for row in devices.find(connection, use_case=usecase.name) if row.site == site and row.bundle]
    silent = {row.id for row in here if row.bundle == champion.bundle} - {row.device for row in told}
    if silent and now - min(row.received_at for row in told) < SETTLE:
        return None
    return f"{len(told)} devices of {site} have told what they get from {champion.id}"


def create(
    store: Store, use_case: str, site: str, *, why: str, who: str, now: datetime, chance: Chance, limits: Limits
) -> Order:
    """An order for a site's variant of the champion.

    Raises:
        NotValid: no such use case or site, no champion that runs on the whole fleet, sums that are missing, too few or
            too noisy, or such an order is unfinished.
    """
    with store.write() as connection:
        usecases.check_site(usecases.need(connection, use_case), site)
        return make(store, connection, use_case, site, why=why, who=who, now=now, chance=chance, limits=limits)


def ask(store: Store, use_case: str, site: str, *, who: str, now: datetime, chance: Chance) -> list[str]:
    """Have the devices of a site that run the champion tell their sums anew; comes back with who was asked.

    Nothing else in their assignments changes, so an update that is under way goes on.

    Raises:
        NotValid: no such use case or site, no champion that runs on the whole fleet, or none of its devices runs it.
    """
    with store.write() as connection:
        usecases.check_site(usecases.need(connection, use_case), site)
        champion, question = need_champion(connection, use_case), chance.id()
        asked = []
        for row in devices.find(connection, use_case=use_case):
            wanted = row.wanted
            if row.site != site or row.bundle != champion.bundle or row.revoked_at is not None:
                continue
            if wanted is None or wanted.bundle != champion.bundle or row.in_conflict:
                continue  # it is on its way to another bundle, or a person has to decide about it first
            number = row.assignment_number + 1
            devices.assign(connection, wanted.model_copy(update={"number": number, "sums": question, "issued_at": now}))
            data = {"number": number, "sums": question}
            audit.note(connection, actor=who, action="device.assigned", subject=row.id, data=data, now=now)
            asked.append(row.id)
        if not asked:
            raise NotValid(
                f"no device of {site} runs bundle {champion.bundle[:12]}… of {champion.id} as its assignment says, so "
                "none can tell its sums; wait for its rollout",
                code="sums_missing",
            )
        return asked


def make(
    store: Store,
    connection: sa.Connection,
    use_case: str,
    site: str,
    *,
    why: str,
    who: str,
    now: datetime,
    chance: Chance,
    limits: Limits,
) -> Order:
    """`create` inside the caller's write."""
    waiting = rows.unfinished(connection, use_case, KIND)
    if waiting is not None:
        raise NotValid(
            f"order {waiting.id} of {use_case} for {waiting.order.site} is {waiting.state} already; one at a "
            "time, wait for it",
            code="order_open",
        )
    if len(site_variant(site)) > VARIANT_MAX:
        raise NotValid(f"the site's name has {len(site)} characters, too many for a variant's", code="site_unknown")
    champion = need_champion(connection, use_case)
    sums = site_sums.pool(connection, use_case, site, champion.bundle)
    order = Order(
        id=chance.id(),
        kind="adapt",
        use_case=use_case,
        revision=store.blobs.put(encode(sums)),  # its worker reads them by that digest
        base=champion.bundle,
        site=site,
        trainer="site",
        made_at=now,
        why=why,
    )
    rows.add(connection, order, labels_position=0, attempts_max=limits.order_attempts_max)
    data = {"order": order.id, "kind": KIND, "site": site, "bundle": champion.bundle, "sums": order.revision,
            "devices": sums.devices, "frames": sums.frames, "why": why}  # fmt: skip
    audit.note(connection, actor=who, action="order.made", subject=use_case, data=data, now=now)
    return order


def need_champion(connection: sa.Connection, use_case: str) -> ReleaseRow:
    """The release that a variant is made of.

    Raises:
        NotValid: none runs on the whole fleet yet.
    """
    champion = champions.whole(connection, use_case)
    if champion is None:
        raise NotValid(
            f"no release of {use_case} has finished its rollout on the whole fleet, so there is nothing to adapt; wait "
            "for one",
            code="no_champion",
        )
    return champion


def check_candidate(connection: sa.Connection, row: OrderRow, candidate: Candidate) -> None:
    """A worker's answer must be the variant of the order's bundle, for its site, made from its sums.

    Raises:
        NotValid: it is not.
    """
    order = row.order
    assert order.base is not None, "no order adapts nothing"
    assert order.site is not None, "no order adapts to no site"
    made, base = bundles.manifest(connection, candidate.bundle), bundles.manifest(connection, order.base)
    if made is None or base is None:
        missing = candidate.bundle if made is None else order.base
        raise NotValid(
            f"bundle {missing[:12]}… is not stored; put its blobs and POST /api/v1/bundles before",
            code="bundle_unknown",
        )
    name = site_variant(order.site)
    faults = variant_faults(made, name, base, order.base)
    if made.provenance.sums != order.revision:
        faults.append(f"it was made from sums {str(made.provenance.sums)[:12]}…, not {order.revision[:12]}…")
    if candidate.variants:
        faults.append("it has variants itself")
    if faults:
        raise NotValid(
            f"bundle {candidate.bundle[:12]}… is no variant {name} of {order.base[:12]}…: {'; '.join(faults)}",
            code="variant_wrong",
        )


def _last(connection: sa.Connection, use_case: str, site: str, bundle: str) -> OrderRow | None:
    """The newest order for this site's variant of this bundle, whatever became of it."""
    found = rows.find(connection, use_case=use_case, kind=KIND, limit=LOOKED_AT_MAX)
    return next((row for row in found if row.order.site == site and row.order.base == bundle), None)
