"""A person asks to be forgotten: from the command line to the device and back, and the hub never gets the rest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

import loop_world
from edgewise.cli._app import build
from edgewise.edge import Device
from edgewise.edge.device import DeviceLimits, Identity
from edgewise.edge.forget import subject_name
from edgewise.edge.update import UpdateLimits
from edgewise.hub.store import devices, tables
from edgewise.ports import Frame, ListSource, MemoryLink, MemoryRuntime, SeededChance, replace_file
from edgewise.wire import Assignment, encode


class Ward:
    """A real hub over HTTP for its people, and one device on real files whose link can be cut."""

    def __init__(self, folder: Path, world: Any, url: str) -> None:
        self.folder, self.world, self.hub, self.url = folder / "d1", world, world.hub, url
        self.is_down = False
        world.enrol("d1")
        release = world.sign(world.bundle(), override="a test")
        with self.hub.store.write() as connection:
            record = Assignment(
                device="d1", number=1, hub_epoch=self.hub.hub_epoch, use_case="parts", issued_at=self.hub.now(),
                trial_s=1, release=release.id, bundle=release.bundles["fp32"],
            )  # fmt: skip
            devices.assign(connection, record)
        self.identity = Identity(
            device="d1", site="a", use_case="parts", usecase=world.usecase, root=self.hub.root,
            hub_epoch=self.hub.hub_epoch,
        )  # fmt: skip
        self.source = ListSource()
        self.device = self.start()
        replace_file(self.folder / "device.json", encode(self.identity))

    def start(self) -> Device:
        return Device(
            self.folder, identity=self.identity, open_source=lambda _: self.source, runtime=MemoryRuntime(),
            link=MemoryLink(self.world.door, "d1", lambda _: self.is_down), clock=self.world.clock,
            chance=SeededChance(7), limits=DeviceLimits(update=UpdateLimits(latency_ms_max=10_000)),
        )  # fmt: skip

    def run(self, steps: int, seconds: float = 2.0) -> None:
        for _ in range(steps):
            self.device.step(self.world.clock.now())
            self.world.clock.advance(seconds)

    def look(self, first: int, count: int) -> None:
        for number in range(first, first + count):
            who = ("Ada", "Bea")[number % 2]
            data = json.dumps({"x": (number % 7 - 3) / 3, "who": f"{who}-{number}"}).encode()
            self.source.add(
                Frame(
                    name=f"f{number:06d}", data=data, media_type="application/json", group="",
                    taken_at=self.world.clock.now(), facts={"subject": who},
                )
            )  # fmt: skip
        self.run(count)

    def edgewise(self, *words: str) -> Any:
        access = ["--hub", self.url, "--token", self.hub.tokens.text("admin")] if words[0] == "erasure" else []
        done = CliRunner().invoke(build(), [*words, *access, "-o", "json"], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return json.loads(done.output)

    def names_at_hub(self) -> set[str]:
        """Whose content the hub has."""
        with self.hub.store.read() as connection:
            blobs = connection.execute(sa.select(tables.samples.c.blob)).scalars()
            return {json.loads(self.hub.store.blobs.get(blob))["who"][:3] for blob in blobs}

    def has_content_of(self, who: str) -> bool:
        """Whether the hub holds a frame's bytes, whatever its tables say."""
        blobs = self.hub.store.blobs
        return any(f'"{who}-'.encode() in blobs.get(name) for name in blobs.digests())


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    # Frames are named by keyed hashes alone and no subject travels: the hub can know nobody.
    world = loop_world.LoopWorld(loop_world.a_usecase(data={"fields": []}, upload={"share_of_bytes": 0.9}))
    with loop_world.served(world.hub) as url:
        made = Ward(tmp_path, world, url)
        yield made
        made.device.close(world.clock.now())
    world.hub.close()


@pytest.mark.parametrize("sealed", [False, True])
def test_a_subject_is_forgotten_everywhere_and_the_hub_never_gets_the_rest(ward: Ward, sealed: bool) -> None:
    ward.run(20)
    assert ward.device.updater.running is not None
    ward.is_down = True
    if not sealed:
        ward.device.contacts.next_at = ward.world.clock.now() + timedelta(hours=1)
    ward.look(0, 128)
    assert bool(ward.device.outbox.open_segments()) == sealed

    hidden = subject_name(ward.folder, "Ada")
    made = ward.edgewise("erasure", "create", "parts", "--subject", hidden, "--reason", "asked for")
    assert (made["done"], made["devices"]) == (0, 1)
    # Heard as from a stick, before anything is sent: then not even what is waiting right now leaves.
    ward.is_down = False
    ward.device.contacts.hurry(ward.world.clock.now())
    with ward.hub.store.read() as connection:
        told = devices.get(connection, "d1").wanted
    assert [erasure.subject for erasure in told.erasures] == [hidden]
    ward.device.updater.accept(_sealed(ward, told), ward.world.clock.now())
    ward.run(3)
    assert ward.device.eraser.done == 1
    ward.run(60, seconds=11)

    assert ward.names_at_hub() == {"Bea"}
    assert not ward.has_content_of("Ada")  # it was not forgotten there: it never came
    (row,) = ward.edgewise("erasure", "list")
    assert (row["done"], row["devices"], row["subject"]) == (1, 1, hidden)
    assert ward.device.backlog == 0
    with ward.hub.store.read() as connection:
        actions = set(connection.execute(sa.select(tables.audit.c.action)).scalars())
    assert {"erasure.ordered", "erasure.done"} <= actions


def _sealed(ward: Ward, assignment: Assignment) -> Any:
    from edgewise.hub.intake import sign_assignment

    return sign_assignment(assignment, ward.hub.key)


def test_what_the_hub_got_before_it_is_told_about_and_forgotten_too(ward: Ward) -> None:
    """The order comes with the answer to the very upload that holds the records; the device alone knows whose."""
    ward.run(20)
    ward.is_down = True
    ward.look(0, 128)
    assert ward.device.outbox.open_segments()
    ward.edgewise("erasure", "create", "parts", "--subject", subject_name(ward.folder, "Ada"), "--reason", "asked for")
    ward.is_down = False
    ward.run(60, seconds=11)
    assert ward.device.eraser.done == 1
    assert ward.names_at_hub() == {"Bea"}
    ward.hub.tick()
    assert not ward.has_content_of("Ada")  # the contents went with the rows
    ward.look(128, 64)
    ward.run(60, seconds=11)
    assert ward.names_at_hub() == {"Ada", "Bea"}  # an order without an end reaches back, not on


def test_the_same_on_the_device_itself_while_its_agent_is_off(ward: Ward) -> None:
    ward.run(20)
    ward.is_down = True
    ward.look(0, 128)
    told = ward.device.erase(_order(ward, "Ada"), ward.world.clock.now())
    assert told["records"] + len(told["sealed"]) > 0
    ward.is_down = False
    ward.run(60, seconds=11)
    assert ward.names_at_hub() == {"Bea"}


def _order(ward: Ward, subject: str) -> Any:
    from edgewise.wire import Erasure

    return Erasure(subject=subject_name(ward.folder, subject), reason="asked for")
