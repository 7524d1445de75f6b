"""The ledger: sample, label, revision, order, bundle, release, field result, and the way from each to its neighbours.

Nothing is stored for it. Each entry is read from the rows that the parts of the hub keep anyway, so it cannot say
anything else than they do; a walk over `made_of` leads back to samples, over `led_to` forward to where it ran.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, get_args

import sqlalchemy as sa

from edgewise.hub.store import bundles, champions, erasures, labels, releases, rollouts, samples
from edgewise.hub.store import ledger as rows
from edgewise.hub.store import orders as order_rows
from edgewise.hub.store.orders import OrderRow
from edgewise.hub.store.releases import ReleaseRow
from edgewise.wire import DatasetRevision, Manifest, NotValid

Kind = Literal["sample", "revision", "order", "bundle", "release"]
KINDS: tuple[Kind, ...] = get_args(Kind)
LINKS_MAX = 100  # in each direction; what is over it is counted
WHAT_BASE_IS = {"train": "where it starts from", "score": "what is asked", "adapt": "what is adapted"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """A neighbour in the ledger; with `kind` label or field it is a fact of its own and leads no further."""

    kind: str
    id: str
    text: str
    at: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One thing, what it was made of, and what was made of it."""

    kind: Kind
    id: str
    use_case: str
    site: str | None  # of a sample
    at: datetime
    text: str
    facts: dict[str, Any] = field(default_factory=dict)
    made_of: tuple[Link, ...] = ()
    led_to: tuple[Link, ...] = ()
    more: int = 0  # links that are left out


def find(connection: sa.Connection, name: str) -> Entry:
    """The entry with this id, whatever it is; of a bundle and a revision the first digits of the digest are enough.

    Raises:
        NotValid: nothing here has this id.
    """
    for kind in KINDS:
        entry = _LOOKS[kind](connection, name)
        if entry is not None:
            return entry
    raise NotValid(
        f"nothing in the ledger is called {name[:80]!r}; give the id of a sample, revision, order, bundle or release",
        code="entry_unknown",
    )


def look(connection: sa.Connection, kind: Kind, name: str) -> Entry:
    """The entry of this kind.

    Raises:
        NotValid: there is none.
    """
    entry = _LOOKS[kind](connection, name)
    if entry is None:
        raise NotValid(f"there is no {kind} {name[:80]!r} in the ledger", code="entry_unknown")
    return entry


def _said(item: Mapping[str, Any]) -> str:
    """One entry of a sample's history of labels."""
    back = item["taken_back_by"]
    if not item["label"]:
        return f"label taken back by {back}"
    return f"{item['label']}, said by {item['who']}" + (f"; the one after it taken back by {back}" if back else "")


def _sample(connection: sa.Connection, name: str) -> Entry | None:
    row = samples.get(connection, name)
    if row is None:
        return _erased(connection, name)
    said = [
        Link(kind="label", id=str(item["position"]), text=_said(item), at=item["at"])
        for item in labels.history(connection, name)
    ]
    decided = (row.decision or {}).get("release")
    if decided is not None:
        word = f"decided {row.decision['label']}" if row.decision else ""
        said.insert(0, Link(kind="release", id=decided, text=f"{word} on the device", at=row.taken_at))
    held = rows.revisions_with(connection, row.use_case, name, limit=LINKS_MAX + 1)
    led_to = [Link(kind="revision", id=one.digest, text=f"{one.count} samples", at=one.made_at) for one in held]
    if row.purpose == "evaluation":
        text = "kept from training: the gate judges on it"
    else:
        text = f"labelled {row.label}" if row.label is not None else "waits for a label"
    source = f"device {row.device}" if row.device is not None else "an import"
    return _entry(
        "sample",
        name,
        row.use_case,
        row.taken_at,
        f"kept as {row.why} by {source} at {row.site}; {text}",
        {
            "frame": row.frame,
            "group": row.group,
            "blob": row.blob,
            "inclusion_probability": row.inclusion_probability,
            "purpose": row.purpose,
            "label": row.label,
        },
        said,
        led_to,
        site=row.site,
    )


def _erased(connection: sa.Connection, name: str) -> Entry | None:
    stone = erasures.tombstone(connection, name)
    if stone is None:
        return None
    held = rows.revisions_with(connection, stone.use_case, name, limit=LINKS_MAX + 1)
    led_to = [Link(kind="revision", id=one.digest, text="holds its tombstone", at=one.made_at) for one in held]
    text = f"erased by erasure {stone.erasure}; it had {stone.labels} label{'' if stone.labels == 1 else 's'}"
    facts = {"purpose": stone.purpose}
    return _entry("sample", name, stone.use_case, stone.at, text, facts, (), led_to, site=stone.site)


def _revision(connection: sa.Connection, name: str) -> Entry | None:
    row = rows.revision(connection, name)
    if row is None:
        return None
    body = order_rows.revision(connection, name)
    assert body is not None
    made_of = [] if row.parent is None else [Link(kind="revision", id=row.parent, text="the one before it")]
    made_of += _samples_of(body)
    led_to = [_to_order(order) for order in rows.orders_on(connection, name, limit=LINKS_MAX + 1)]
    facts = {
        "samples": row.count,
        "new": row.new,
        "erased": len(body.erased or ()),
        "left_out": dict(body.left_out or {}),
        "by_label": dict(Counter(line.label for line in body.samples)),
        "by_site": dict(Counter(line.site for line in body.samples)),
    }
    text = f"{row.count} labelled samples, {row.new} of them new"
    return _entry("revision", name, row.use_case, row.made_at, text, facts, made_of, led_to)


def _order(connection: sa.Connection, name: str) -> Entry | None:
    row = order_rows.get(connection, name)
    if row is None:
        return None
    order = row.order
    trains = order.kind == "train"
    made_of = [Link(kind="revision", id=order.revision, text="what it trains on")] if trains else []
    if order.base is not None:
        made_of.append(Link(kind="bundle", id=order.base, text=WHAT_BASE_IS[order.kind]))
    led_to = []
    if row.returned is not None:
        led_to.append(Link(kind="bundle", id=row.returned.bundle, text="its candidate", at=row.updated_at))
        made = row.returned.variants.items()
        led_to += [Link(kind="bundle", id=bundle, text=f"{variant} of its candidate") for variant, bundle in made]
    facts: dict[str, Any] = {
        "state": row.state,
        "trainer": order.trainer,
        "seed": order.seed,
        "config": dict(order.config),
    }
    facts |= {"worker": row.worker, "attempts": row.attempts, "error": row.error}
    if order.site is not None:
        facts |= {"site": order.site, "sums": order.revision}
    if row.returned is not None:
        facts |= {"metrics": dict(row.returned.metrics), "seconds": row.returned.seconds}
    text = f"{order.kind} order, {row.state}: {order.why}"
    return _entry("order", name, row.use_case, row.made_at, text, facts, made_of, led_to)


def _bundle(connection: sa.Connection, name: str) -> Entry | None:
    row = bundles.get(connection, name)
    if row is None:
        return None
    manifest = bundles.manifest(connection, name)
    assert manifest is not None
    made = manifest.provenance
    order = rows.order_of_bundle(connection, name)
    use_case = row.use_case or ""
    made_of = [] if order is None else [_to_order(order)]
    if made.revision is not None and order is None:
        made_of.append(Link(kind="revision", id=made.revision, text="trained on it, as its manifest says"))
    for digest, text in ((made.parent, "warm start from it"), (made.variant_of, f"{made.variant or made.site} of it")):
        if digest is not None:
            made_of.append(Link(kind="bundle", id=digest, text=text))
    led_to: list[Link] = []
    for verdict in rows.verdicts_on(connection, name, limit=LINKS_MAX):
        text = f"the gate: {verdict.result}"
        led_to.append(Link(kind="verdict", id=verdict.digest, text=text, at=verdict.made_at))
    whole = rows.releases_of(connection, use_case) if use_case else []
    led_to += [_to_release(one) for one in whole if name in one.body["bundles"].values()]
    return _entry("bundle", name, use_case, row.made_at, _about(manifest), _made(manifest), made_of, led_to)


def _release(connection: sa.Connection, name: str) -> Entry | None:
    row = releases.get(connection, name)
    if row is None:
        return None
    made_of = [Link(kind="bundle", id=digest, text=variant) for variant, digest in sorted(row.body["bundles"].items())]
    if row.verdict is not None:
        made_of.append(Link(kind="verdict", id=row.verdict, text="the gate's word that it was signed on"))
    led_to = []
    for rollout in rollouts.find(connection, use_case=row.use_case, release=name, limit=LINKS_MAX):
        led_to.append(Link(kind="rollout", id=rollout.id, text=f"rollout, {rollout.state}", at=rollout.made_at))
    ran = rows.devices_of(connection, [name]).get(name)
    if ran is not None:
        count, first, last = ran
        text = f"ran on {count} device{'' if count == 1 else 's'} until {last:%Y-%m-%d %H:%M}Z at least"
        led_to.append(Link(kind="field", id=name, text=text, at=first))
    led_to += [_to_release(one) for one in rows.releases_of(connection, row.use_case) if one.version == row.version + 1]
    champion = champions.champion(connection, row.use_case)
    state = "taken back: " + str(row.reverted_why) if row.reverted_at else "signed"
    if champion is not None and champion.id == name:
        state = "the champion"
    facts = {"signed_as": row.signed_as, "approved_by": row.body["approved_by"], "version": row.version}
    return _entry("release", name, row.use_case, row.received_at, state, facts, made_of, led_to)


_LOOKS: dict[Kind, Callable[[sa.Connection, str], Entry | None]] = {
    "sample": _sample,
    "revision": _revision,
    "order": _order,
    "bundle": _bundle,
    "release": _release,
}


def _entry(
    kind: Kind,
    name: str,
    use_case: str,
    at: datetime,
    text: str,
    facts: dict[str, Any],
    made_of: Sequence[Link],
    led_to: Sequence[Link],
    *,
    site: str | None = None,
) -> Entry:
    more = max(0, len(made_of) - LINKS_MAX) + max(0, len(led_to) - LINKS_MAX)
    shown = {"made_of": tuple(made_of[:LINKS_MAX]), "led_to": tuple(led_to[:LINKS_MAX])}
    return Entry(kind=kind, id=name, use_case=use_case, site=site, at=at, text=text, facts=facts, more=more, **shown)


def _samples_of(body: DatasetRevision) -> list[Link]:
    """Its samples, the new ones first: they are why the revision was made."""
    new = set(body.new)
    ordered = sorted(body.samples, key=lambda line: (line.sample not in new, line.sample))
    return [Link(kind="sample", id=line.sample, text=f"{line.label} at {line.site}") for line in ordered]


def _to_order(order: OrderRow) -> Link:
    return Link(kind="order", id=order.id, text=f"{order.kind} order, {order.state}", at=order.made_at)


def _to_release(row: ReleaseRow) -> Link:
    return Link(kind="release", id=row.id, text="taken back" if row.reverted_at else "signed", at=row.received_at)


def _about(manifest: Manifest) -> str:
    made = manifest.provenance
    return f"{manifest.task} by {made.trainer}, seed {made.seed}, code {made.code_version}"


def _made(manifest: Manifest) -> dict[str, Any]:
    made = manifest.provenance
    return {"trained_at": made.trained_at, "libraries": dict(made.libraries), "data": dict(made.data)}
