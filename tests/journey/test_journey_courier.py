"""A device that never has a link again: sticks carry its updates in and its samples out, with every check."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import loop_world
from edgewise.cli.courier import _checked, _fill, _store
from edgewise.edge import Device
from edgewise.edge.agent import locked
from edgewise.edge.courier import import_stick, take_in, write_out
from edgewise.edge.device import DeviceLimits, Identity
from edgewise.edge.update import UpdateLimits
from edgewise.hub import enrol, usecases
from edgewise.hub.store import devices, tables
from edgewise.ports import Credentials, FolderLink, Frame, HubApi, ListSource, MemoryRuntime, SeededChance, StickPart
from edgewise.trust import CertificateKey, seal_certified, validity_of
from edgewise.wire import Assignment, NotNow, NotTrusted, NotValid, encode
from edgewise.wire.courier import DEVICE_STICK_TYPE, SealedListing


class Island:
    """A hub over HTTP for its people, and a device enrolled once that nothing reaches but sticks."""

    def __init__(self, folder: Path, url: str, world: Any) -> None:
        self.folder, self.world, self.hub = folder, world, world.hub
        self.release = world.sign(world.bundle(), override="a test")
        self.stick = folder / "stick"
        self.api = HubApi(url, self.hub.tokens.text("admin"))
        self.starts, self.fed = 0, 0
        self.frames: list[Frame] = []
        self.credentials = self.enrol("d1")
        self.device = self.start()

    def enrol(self, name: str) -> Credentials:
        """Enrol online, once."""
        home = self.folder / name
        home.mkdir()
        credentials, hub = Credentials(home), self.hub
        token, _ = enrol.make_token(
            hub.store, site="a", use_case="parts", who="admin", now=hub.now(), chance=hub.chance, limits=hub.limits
        )
        wish = enrol.Enrolment(token=token, device=name, public=credentials.key.public)
        enrol.enrol(hub.store, wish, now=hub.now(), chance=hub.chance)
        credentials.pin(hub.authority.root)
        made = hub.authority.device_certificate(credentials.key.public, site="a", device=name, now=hub.now())
        enrol.certified(hub.store, name, validity_of(made)[1])
        credentials.take((made, hub.authority.device_issuer))
        return credentials

    def start(self, name: str = "d1") -> Device:
        self.starts += 1
        identity = Identity(
            device=name, site="a", use_case="parts", usecase=self.world.usecase, root=self.hub.root,
            hub_epoch=self.hub.hub_epoch,
        )  # fmt: skip

        def open_source(after: str | None) -> ListSource:
            self.source = ListSource(frame for frame in self.frames if after is None or frame.name > after)
            return self.source

        return Device(
            self.folder / name, identity=identity, open_source=open_source, runtime=MemoryRuntime(),
            link=FolderLink(answer=lambda _: b""), clock=self.world.clock, chance=SeededChance(self.starts),
            limits=DeviceLimits(update=UpdateLimits(latency_ms_max=10_000)),
        )  # fmt: skip

    def assign(self, device: str = "d1") -> None:
        with self.hub.store.write() as connection:
            known = devices.get(connection, device)
            assert known is not None
            record = Assignment(
                device=device, number=known.assignment_number + 1, hub_epoch=self.hub.hub_epoch, use_case="parts",
                issued_at=self.hub.now(), trial_s=1, release=self.release.id, bundle=self.release.bundles["fp32"],
            )  # fmt: skip
            devices.assign(connection, record)

    def decide(self, count: int) -> None:
        for number in range(self.fed, self.fed + count):
            data = json.dumps({"x": (number % 7 - 3) / 3}).encode()
            frame = Frame(
                name=f"f{number:06d}", data=data, media_type="application/json", taken_at=self.world.clock.now(),
                group=f"g{number}", facts={},
            )  # fmt: skip
            self.frames.append(frame)
            self.source.add(frame)
        self.fed += count
        for _ in range(count + 30):
            self.device.decide_step(self.world.clock.now())
            self.device.record_step(self.world.clock.now())
            self.device.update_step(self.world.clock.now())
            self.world.clock.advance(2)
        self.device.decider.close_period()
        self.device.record_step(self.world.clock.now())

    # -- the four ways of a stick --------------------------------------------------------------------------------------

    def hub_export(self, *names: str, stick: Path | None = None) -> dict[str, Any]:
        return _fill(self.api, stick or self.stick, list(names or ("d1",)))

    def device_import(self, stick: Path | None = None) -> dict[str, Any]:
        return take_in(
            self.device, self.folder / "d1", stick or self.stick, self.world.clock, rest=self.world.clock.advance
        )

    def device_export(self, stick: Path | None = None) -> dict[str, Any]:
        return write_out(self.device, self.credentials, stick or self.stick, self.world.clock.now())

    def hub_import(self, name: str = "d1", stick: Path | None = None) -> dict[str, Any]:
        return _store(self.api, *_checked(self.api, stick or self.stick, name))

    # -- what is seen --------------------------------------------------------------------------------------------------

    def count(self, table: sa.Table) -> int:
        with self.hub.store.read() as connection:
            return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())

    def audited(self, action: str) -> int:
        with self.hub.store.read() as connection:
            where = tables.audit.c.action == action
            return int(
                connection.execute(sa.select(sa.func.count()).select_from(tables.audit).where(where)).scalar_one()
            )

    def hub_state(self) -> tuple[int, ...]:
        return tuple(self.count(t) for t in (tables.segments, tables.samples, tables.events, tables.telemetry))

    def device_state(self) -> tuple[Any, ...]:
        updater = self.device.updater
        tuf = sorted((path.name, path.read_bytes()) for path in (self.folder / "d1" / "tuf").rglob("*.json"))
        return updater.state, self.device.outbox.acked, self.device.outbox.epoch, self.device.backlog, tuf


@pytest.fixture
def island(tmp_path: Path) -> Iterator[Island]:
    world = loop_world.LoopWorld()
    with loop_world.served(world.hub) as url:
        made = Island(tmp_path, url, world)
        yield made
        made.api.close()
        made.device.close(world.clock.now())
    world.hub.close()


def test_a_device_without_any_link_is_updated_and_heard_by_sticks_exactly_once(island: Island) -> None:
    island.assign()
    island.hub_export()
    done = island.device_import()
    assert (done["release"], done["assignment"]) == (island.release.id, 1)

    island.decide(60)
    assert island.device.updater.phase.value == "committed"
    waiting = island.device.backlog
    assert waiting > 0
    island.device_export()
    assert island.device.backlog == waiting, "nothing is let go before the hub says that it has it"

    before = island.hub_state()
    first = island.hub_import()
    assert first["new"]
    after = island.hub_state()
    assert after[0] > before[0]
    assert island.world.row("d1").last_report.release == island.release.id
    assert island.audited("courier.imported") == 1

    again = island.hub_import()
    assert not again["new"]
    assert (island.hub_state(), island.audited("courier.imported")) == (after, 1)

    island.hub_export()
    done = island.device_import()
    assert done["acknowledged"] > 0
    assert island.device.outbox.acked == first["watermark"]
    state = island.device_state()
    assert island.device_import()["acknowledged"] == 0
    assert island.device_state()[1:3] == state[1:3]

    with island.hub.store.read() as connection:
        ids = list(connection.execute(sa.select(tables.samples.c.id)).scalars())
    assert len(ids) == len(set(ids))


def _flip(place: Path) -> None:
    data = bytearray(place.read_bytes())
    data[len(data) // 2] ^= 1
    place.write_bytes(bytes(data))


def _change_listing(part: Path) -> None:
    text = json.loads((part / "listing.json").read_text())
    signature = text["envelope"]["signatures"][0]
    signature["sig"] = ("A" if signature["sig"][0] != "A" else "B") + signature["sig"][1:]
    (part / "listing.json").write_text(json.dumps(text))


def _link_out(part: Path) -> None:
    victim = next((part / "files").iterdir())
    outside = part.parent / "outside"
    victim.rename(outside)
    victim.symlink_to(outside)


SPOILT: dict[str, Callable[[Path], None]] = {
    "changed-file": lambda part: _flip(max((part / "files").iterdir(), key=lambda item: item.stat().st_size)),
    "cut-file": lambda part: next((part / "files").iterdir()).write_bytes(b""),
    "missing-file": lambda part: next((part / "files").iterdir()).unlink(),
    "changed-signature": _change_listing,
    "no-listing": lambda part: (part / "listing.json").unlink(),
    "half-listing": lambda part: (part / "listing.json").write_bytes((part / "listing.json").read_bytes()[:100]),
    "link": _link_out,
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT.keys())
def test_a_spoilt_stick_is_refused_by_the_device_and_changes_nothing(
    island: Island, spoil: Callable[[Path], None]
) -> None:
    island.assign()
    island.hub_export()
    before = island.device_state()
    spoil(island.stick / "hub")
    with pytest.raises(NotTrusted):
        island.device_import()
    assert island.device_state() == before


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT.keys())
def test_a_spoilt_stick_is_refused_by_the_hub_and_stores_nothing(island: Island, spoil: Callable[[Path], None]) -> None:
    island.device_export()
    before = island.hub_state()
    spoil(island.stick / "devices" / "d1")
    with pytest.raises(NotTrusted):
        island.hub_import()
    assert island.hub_state() == before
    assert island.audited("courier.imported") == 0


def test_a_stick_is_refused_by_the_hub_once_the_policy_lets_nothing_leave_by_a_courier(island: Island) -> None:
    island.device_export()
    before, old = island.hub_state(), island.world.usecase
    leave = tuple(way for way in old.data.leave if way != "courier")
    case = old.model_copy(
        update={"data": old.data.model_copy(update={"version": old.data.version + 1, "leave": leave})}
    )
    usecases.apply(island.hub.store, case, source="", who="admin", now=island.hub.now())
    with pytest.raises(NotValid, match="courier may not leave"):
        island.hub_import()
    assert island.hub_state() == before


def test_a_stick_of_another_device_or_an_old_one_is_refused_and_changes_nothing(island: Island, tmp_path: Path) -> None:
    island.enrol("d2")
    island.assign("d2")
    island.hub_export("d2")
    before = island.device_state()
    with pytest.raises(NotTrusted, match="this stick is for d2"):
        island.device_import()
    assert island.device_state() == before

    island.assign()
    island.hub_export(stick=tmp_path / "old")
    island.assign()
    island.hub_export()
    island.device_import()
    before = island.device_state()
    with pytest.raises(NotTrusted):
        island.device_import(tmp_path / "old")
    assert island.device_state() == before


def test_a_receipt_that_the_hub_did_not_sign_deletes_nothing(island: Island) -> None:
    """A forged acknowledgement is worth a whole outbox: neither a device's key nor its own listing can make one."""
    island.hub_export()
    part = StickPart(island.stick / "hub")
    sealed = part.sealed()
    thief = CertificateKey.generate(b"thief")
    forged = seal_certified(b"{}", sealed.envelope.payload_type, thief)
    envelope = sealed.envelope.model_copy(update={"signatures": forged.signatures})
    (part.folder / "listing.json").write_bytes(encode(sealed.model_copy(update={"envelope": envelope})))
    island.device_export()
    before = island.device_state()
    with pytest.raises(NotTrusted):
        island.device_import()
    assert island.device_state() == before


def test_a_device_that_is_shut_out_or_signs_for_another_is_refused(island: Island) -> None:
    second = island.enrol("d2")
    island.device_export()
    sealed = StickPart(island.stick / "devices" / "d1").sealed()
    payload = island.stick / "devices" / "d1" / "listing.json"
    as_other = SealedListing(
        envelope=seal_certified(_payload(sealed), DEVICE_STICK_TYPE, second.key),
        certificates=second.certificates().decode(),
    )
    good = payload.read_bytes()
    payload.write_bytes(encode(as_other))
    with pytest.raises(NotTrusted, match="in the name of d1"):
        island.hub_import()
    payload.write_bytes(good)
    enrol.shut_out(island.hub.store, "d1", reason="stolen", who="ann", now=island.hub.now())
    with pytest.raises(NotTrusted, match="shut out"):
        island.hub_import()
    with pytest.raises(NotTrusted, match="shut out"):
        island.hub_export()


def _payload(sealed: SealedListing) -> bytes:
    return base64.b64decode(sealed.envelope.payload)


def test_a_certificate_that_ended_is_taken_within_the_grace_and_the_next_one_comes_by_stick(island: Island) -> None:
    island.world.clock.advance(timedelta(days=20).total_seconds())
    island.hub.tick()
    assert island.credentials.validity()[1] < island.hub.now()
    island.device_export()
    assert island.hub_import()["new"]
    island.hub_export()
    island.device_import()
    assert island.credentials.validity()[1] > island.hub.now()
    island.world.clock.advance(timedelta(days=200).total_seconds())
    with pytest.raises(NotTrusted, match="enrol it again"):
        island.hub_import()


def test_a_full_stick_is_not_now_and_what_lay_there_stays(island: Island, monkeypatch: pytest.MonkeyPatch) -> None:
    island.device_export()
    before = (island.stick / "devices" / "d1" / "listing.json").read_bytes()

    def full(_place: Path, _data: bytes, **_more: Any) -> None:
        raise NotNow("no space left", code="disk_full")

    monkeypatch.setattr("edgewise.ports._stick.replace_file", full)
    island.world.clock.advance(60)
    with pytest.raises(NotNow, match="no space"):
        island.device_export()
    monkeypatch.undo()
    assert (island.stick / "devices" / "d1" / "listing.json").read_bytes() == before
    assert island.hub_import()["new"]


def test_an_empty_stick_says_what_to_do(island: Island) -> None:
    with pytest.raises(NotValid, match="export again"):
        island.device_import()
    with pytest.raises(NotValid, match="export again"):
        island.hub_import()


def test_a_running_agent_keeps_its_folder(island: Island) -> None:
    (island.folder / "d1" / "device.json").write_bytes(encode(island.device.identity))
    with locked(island.folder / "d1"), pytest.raises(NotNow, match="another agent runs"):
        import_stick(island.folder / "d1", island.stick)


def test_a_stick_brings_an_erasure_and_what_it_covers_is_not_on_the_next_one(island: Island) -> None:
    island.assign()
    island.hub_export()
    island.device_import()
    island.decide(60)
    keeper = island.device.keeper
    gone = {keeper.hidden(f"g{number}") for number in range(0, 60, 2)}
    for subject in sorted(gone):
        island.api.post("/erasures", {"use_case": "parts", "subject": subject, "reason": "asked for"})
    island.hub_export()
    island.device_import()
    assert island.device.eraser.done == len(gone)
    assert sum(island.device.outbox.backlog().erased.values()) > 0
    island.device_export()
    island.hub_import()
    with island.hub.store.read() as connection:
        frames = list(connection.execute(sa.select(tables.samples.c.frame)).scalars())
    assert frames
    assert {int(frame.removeprefix("f")) % 2 for frame in frames} == {1}
    assert island.world.row("d1").last_report.erased == len(gone)
    assert island.audited("erasure.done") == 1
