"""A hub in memory whose champion is wrong about some good parts of two sites, and short ways to adapt it to one.

Devices a1 and a2 are at site a, b1 and b2 at b. Sums are of two norms of three channels, and nobody computes with them
here: the worker's answer is made by hand.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgewise.hub import adapt_orders, orders, site_sums
from edgewise.hub.store import audit as audit_rows
from edgewise.hub.store import bundles, champions, verdicts
from edgewise.hub.store import releases as release_rows
from edgewise.measure import ChannelSums, norm_sum
from edgewise.wire import Candidate, Event, Release, plain
from loop_world import NAME


def run_champion(world: Any, **options: Any) -> str:
    bundle = str(world.candidate(**{"norms": True, "least": 0.66, **options}))
    world.tick()
    release = world.sign(bundle)
    for device, site in (("a1", "a"), ("a2", "a"), ("b1", "b"), ("b2", "b")):
        if world.row(device) is None:
            world.enrol(device, site)
    settle(world)
    with world.store.read() as connection:
        champion = champions.whole(connection, NAME)
    assert champion is not None
    assert champion.id == release.id
    return bundle


def settle(world: Any, ticks: int = 12) -> None:
    for _ in range(ticks):
        world.tick(60)
        for device in ("a1", "a2", "b1", "b2"):
            world.hear(device)


def champion_of(world: Any) -> str:
    with world.store.read() as connection:
        return str(champions.whole(connection, NAME).bundle)


def told_of(world: Any, bundle: str, *, frames: int = 64, why: str = "first", shift: float = 1.0, **more: Any) -> Any:
    """The data of an event with sums of two norms of three channels."""
    values = np.random.default_rng(frames).normal(shift, 1.0, (frames, 3))
    norms = [plain(norm_sum(ChannelSums.of(values)))] * 2
    data = {"release": "parts@1", "bundle": bundle, "why": why, "frames": frames, "norms": norms}
    return data | {"since": world.hub.now().isoformat(), "until": world.hub.now().isoformat()} | more


def tell(world: Any, device: str, data: dict[str, Any]) -> None:
    event = Event(id=world.hub.chance.id(), at=world.hub.now(), what="channel_sums", text="", data=data)
    with world.store.write() as connection:
        site_sums.take(connection, world.row(device), [event], world.hub.now())


def ask(world: Any, site: str = "a") -> Any:
    hub = world.hub
    return adapt_orders.create(
        world.store, NAME, site, why="test", who="ann", now=hub.now(), chance=hub.chance, limits=hub.limits
    )


def answer(world: Any, order: Any, **options: Any) -> str:
    """What a worker would return: a variant that knows all good parts, unless told otherwise."""
    hub = world.hub
    claimed = orders.claim(world.store, "worker", ["adapt"], now=hub.now(), limits=hub.limits)
    assert claimed == order
    with world.store.read() as connection:
        base = bundles.manifest(connection, order.base)
    origin = type("Origin", (), {"id": base.provenance.order, "revision": base.provenance.revision})
    values = {"order": origin, "name": base.name, "norms": True, "variant_of": order.base, "site": order.site,
              "sums": order.revision}  # fmt: skip
    made = str(world.bundle(**{**values, **options}))
    orders.take_candidate(world.store, order.id, "worker", Candidate(order=order.id, bundle=made), now=hub.now())
    return made


def verdict_on(world: Any, bundle: str) -> Any:
    with world.store.read() as connection:
        row = verdicts.newest_on(connection, bundle)
    return None if row is None else row.verdict


def sign_for(world: Any, site: str, variant: str, *, override: str | None = None, **bundles_: str) -> Release:
    with world.store.read() as connection:
        known = verdicts.newest_on(connection, variant)
        version = release_rows.newest_version(connection, NAME) + 1
    release = Release(
        id=f"{NAME}@{version}",
        use_case=NAME,
        version=version,
        bundles={f"site:{site}": variant, "fp32": champion_of(world), **bundles_},
        verdict=known.digest if known and override is None else None,
        signed_as="gate" if override is None else "override",
        override_reason=override,
        approved_by="test",
        created_at=world.hub.now(),
    )
    return world.keeper.sign(release, world.hub.now())


def actions(world: Any) -> list[str]:
    with world.store.read() as connection:
        return [str(row["action"]) for row in audit_rows.newest(connection, limit=1000)]
