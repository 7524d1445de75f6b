"""A hub with something on every page of the console: rounds, a rollout on its way, pictures, readings, refusals."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
from PIL import Image

from edgewise.delta import Column, encode_series
from edgewise.hub import people, usecases
from edgewise.hub.access import Person
from edgewise.hub.store import intake as intake_rows
from edgewise.hub.store import orders
from edgewise.wire import Failure, Readings, SegmentHeader, digest
from loop_world import NAME, LoopWorld, a_usecase

FLEET = {"press-1": "a", "press-2": "a", "press-3": "b", "press-4": "b"}
BOSS = Person(name="admin", role="admin")
SOURCE = """# The first use case of the plant.
name: parts
app: test
outcome: {goal: find cracks, labels: [ok, crack], good_labels: [ok]}
"""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a full hub holds, by the names that pages have."""

    world: LoopWorld
    rollout: str
    order: str  # open: nobody has claimed it
    answered: str  # an order with a candidate
    sample: str  # a picture without a label


def token(world: LoopWorld, role: str, sites: list[str] | None = None) -> str:
    """The text of a new token of somebody of this role and these sites."""
    hub = world.hub
    about: dict[str, Any] = {"now": hub.now(), "chance": hub.chance, "limits": hub.limits, "expires_at": None}
    return people.make_token(hub.store, name=f"some-{role}", role=role, sites=sites, by=BOSS, **about)[0]  # type: ignore[arg-type]


def go(world: LoopWorld, minutes: float) -> None:
    """The fleet reports every 15 s, and the controllers turn."""
    for _ in range(int(minutes * 4)):
        world.tick(15)
        for name in FLEET:
            world.hear(name, bytes_fetched=40_000, bytes_full=90_000, decisions=700)


def full(url: str | None = None) -> Seen:
    """A hub after two rounds, while the third release rolls out.

    Args:
        url: of a database; None keeps it in memory.
    """
    link = {"contact_s": 10, "price_per_gb": 8, "currency": "EUR"}
    world = LoopWorld(usecase=a_usecase(connectivity=link), url=url)
    for least in (60, 40):
        wanted = a_usecase(connectivity=link, retrain={"labels_min": least})
        source = f"{SOURCE}retrain: {{labels_min: {least}}}\n"
        usecases.apply(world.store, wanted, source=source, who="Ann", now=world.hub.now())
    world.label(24)
    for name, site in FLEET.items():
        world.enrol(name, site=site)
        world.hear(name)
    answered = _round(world, least=0.45)
    go(world, 4)
    _round(world)
    go(world, 4)
    _sent(world)
    worse = world.candidate(right=False)
    world.tick()
    world.sign(worse, override="a drill of the line lead")
    rollout = world.roll_out("parts@3", waves=[{"devices": 1}, {"devices": 2}, {"percent": 100}])
    world.tick()
    world.hear("press-1")
    go(world, 1)
    world.hear("press-4", failure=_failure(world), last_failure="the disk is full")
    champion = world.release_bundle("parts@2")
    for truth in ("crack", "ok", "crack"):
        world.pair("press-1", rollout, ours="ok", theirs="crack", truth=truth, candidate=worse, champion=champion)
    sample = _pictures(world)
    world.label(12, size=0.7)
    world.tick()
    with world.store.read() as connection:
        waiting = orders.newest(connection, NAME)
    assert waiting is not None
    return Seen(world=world, rollout=rollout, order=waiting.id, answered=answered, sample=sample)


def _round(world: LoopWorld, **options: Any) -> str:
    """A candidate that the gate lets pass and that is signed; comes back with its order."""
    made = world.candidate(**options)
    world.tick()
    world.sign(made)
    with world.store.read() as connection:
        return next(row.id for row in orders.find(connection, use_case=NAME, limit=10) if row.bundle == made)


def _failure(world: LoopWorld) -> Failure:
    now = world.hub.now()
    return Failure(at=now, phase="fetching", component="disk", category="resource", code="disk_full", text="no room")


def _pictures(world: LoopWorld) -> str:
    """Samples with pictures that wait for a label; the id of one."""
    name = ""
    for at in range(6):
        pixels = np.full((48, 64, 3), 40 + 30 * at, np.uint8)
        pixels[10 : 20 + at, 20:40] = (200, 60, 40)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        blob = world.store.blobs.put(file.getvalue())
        about = {"blob": blob, "media_type": "image/png", "size_bytes": len(file.getvalue())}
        word = {"ours": "ok", "theirs": "crack", "candidate": "1" * 64, "champion": "2" * 64}
        name = world.pair("press-3", "0" * 32, truth=None, why="audit", **word, **about)
    return name


def _sent(world: LoopWorld) -> None:
    """Telemetry, readings, a segment that is stored and one that was refused."""
    now = world.hub.now()
    for at, name in enumerate(FLEET):
        start = now - timedelta(minutes=10)
        counts = {
            "decisions": 600 + at,
            "bytes_decided": 9_000_000,
            "alarms": 12,
            "labels": {"ok": 590, "crack": 10 + at},
        }
        world.count(name, start=start, end=now, **counts)
    times = round(now.timestamp() * 1000) - 1000 * np.arange(600)[::-1]
    waves = [Column(channel=at, times_ms=times, values=50 + at * 10 + np.sin(np.arange(600) / 40)) for at in (0, 1)]
    block = base64.b64encode(encode_series(waves)).decode()
    record = Readings(
        id=digest(b"readings")[:32], site="a", end=now, channels=("force_kn", "oil_c"), count=1200, block=block
    )
    with world.store.write() as connection:
        first = now - timedelta(seconds=599)
        intake_rows.add_readings(connection, [intake_rows.readings_row(NAME, "press-1", record, first, now)])
        for number, refused in ((1, None), (2, ("policy_version", "policy 9 is not known here; policy 1 is in force"))):
            header = SegmentHeader(
                number=number,
                sha256=digest(str(number).encode()),
                size_bytes=7000 * number,
                record_class="telemetry",
                count=6,
                policy_version=1,
                transform="none",
                sealed_at=now,
            )
            body = None if refused else b"x"
            row = intake_rows.segment_row("press-1", "e" * 32, header, body=body, now=now, refused=refused)
            intake_rows.add_segments(connection, [row])
