"""The release repository from its keepers' side: thresholds, rotation, withdrawal, and hubs in wrong hands."""

from __future__ import annotations

import importlib.util
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from edgewise.hub import repository
from edgewise.hub.store import releases as release_rows
from edgewise.hub.store import repository as repository_rows
from edgewise.ports import MemoryRuntime, make_keys, public_text, read_public_keys, read_signers
from edgewise.signer import Desk, Holders, Signer, add_signature, publish_release, revoke, rotate, withdraw_release
from edgewise.sim._keeper import Keeper, NearHub
from edgewise.trust import PrivateKey
from edgewise.trust.roles import crypto_signer, parse, plain_key
from edgewise.wire import NotNow, NotTrusted, NotValid, Release, canonical

_SPEC = importlib.util.spec_from_file_location("loop_world", Path(__file__).parents[1] / "loop_world.py")
assert _SPEC is not None
assert _SPEC.loader is not None
loop_world = importlib.util.module_from_spec(_SPEC)
sys.modules["loop_world"] = loop_world
_SPEC.loader.exec_module(loop_world)
ROLE = "releases-parts"


@pytest.fixture
def world() -> Any:
    made = loop_world.LoopWorld()
    made.label(20)
    return made


def signer(name: str) -> Any:
    return crypto_signer(PrivateKey.generate(name.encode()))


def holders(*signers: Any, threshold: int = 1) -> Holders:
    return Holders(keys=[one.public_key for one in signers], signers=signers, threshold=threshold)


def version(world: Any, role: str) -> int:
    with world.store.read() as connection:
        return repository_rows.newest_version(connection, role)


def a_release(world: Any, number: int = 1) -> Release:
    bundle = world.candidate()
    fields = {"id": f"parts@{number}", "use_case": "parts", "version": number, "bundles": {"fp32": bundle}}
    why = {"signed_as": "override", "override_reason": "a test"}
    return Release(**fields, **why, approved_by="bob", created_at=world.hub.now())


# -- thresholds ------------------------------------------------------------------------------------------------------


def test_nothing_is_published_before_the_threshold_and_signatures_add_up(world: Any) -> None:
    desk, now = world.keeper.desk, world.hub.now()
    one, two = signer("one"), signer("two")
    rotate(desk, "parts", world.keeper.targets, holders=holders(one, two, threshold=2), now=now)
    done = publish_release(desk, a_release(world), [one], now=now)
    assert (done["published"], done["waiting"]) == ({}, {ROLE: 1})
    assert version(world, ROLE) == 0
    (waiting,) = desk.state()["waiting"]
    assert (waiting["signed"], waiting["missing"]) == ([one.public_key.keyid], 1)
    again = add_signature(desk, ROLE, [one])
    assert again["waiting"] == {ROLE: 1}, "the same key twice counts once"
    with pytest.raises(NotTrusted, match="none of the role's keys"):
        rotate(desk, "parts", [signer("stranger")], holders=holders(one), now=now)
    done = add_signature(desk, ROLE, [two])
    assert (done["published"], done["releases"][0]["id"]) == ({ROLE: 1}, "parts@1")
    assert desk.state()["waiting"] == []


def test_the_automatic_signer_and_a_person_share_a_threshold(world: Any) -> None:
    one, two = signer("one"), signer("two")
    rotate(
        world.keeper.desk, "parts", world.keeper.targets, holders=holders(one, two, threshold=2), now=world.hub.now()
    )
    bundle = world.candidate()
    world.tick()
    with loop_world.served(world.hub) as url:
        from edgewise.ports.api import HubApi

        with HubApi(url, world.hub.tokens.text("signer")) as api:
            automatic = Signer(api, [one], runtime=MemoryRuntime(), clock=world.clock)
            automatic.step()
            automatic.step()
            assert world.keeper.desk.state()["waiting"][0]["signed"] == [one.public_key.keyid]
            second = Signer(api, [two], runtime=MemoryRuntime(), clock=world.clock)
            second.step()
    with world.store.read() as connection:
        (row,) = release_rows.find(connection, use_case="parts")
    assert (row.id, row.bundle) == ("parts@1", bundle)


def test_a_threshold_that_can_never_be_met_is_refused(world: Any) -> None:
    with pytest.raises(NotValid, match="2 of 1 keys"):
        rotate(
            world.keeper.desk,
            "parts",
            world.keeper.targets,
            holders=holders(signer("x"), threshold=2),
            now=world.hub.now(),
        )


# -- rotation and revocation -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["root", "targets", "snapshot", "timestamp", "director", "parts"])
def test_every_role_is_rotated_and_releases_go_on(world: Any, role: str) -> None:
    keeper, now = world.keeper, world.hub.now()
    keeper.sign(a_release(world), now)
    above = keeper.targets if role in ("director", "parts") else keeper.root
    new = signer("new")
    rotate(keeper.desk, role, above, holders=holders(new), now=now)
    before = keeper.releases
    if role == "parts":
        with pytest.raises(NotTrusted, match="none of the role's keys"):
            publish_release(keeper.desk, a_release(world, 2), before, now=now)
        keeper.releases = [new]
    keeper.sign(a_release(world, 2), now)
    assert {item["role"]: item["signed"] for item in keeper.desk.state()["roles"]}.keys() >= {"root", ROLE}
    assert all(item["signed"] for item in keeper.desk.state()["roles"])
    if role == "director":
        assert world.hub.key == world.hub.online.of("assignment")[1]


def test_a_revoked_key_counts_no_longer_and_the_last_one_stays(world: Any) -> None:
    desk, now = world.keeper.desk, world.hub.now()
    one, two = signer("one"), signer("two")
    rotate(desk, "parts", world.keeper.targets, holders=holders(one, two), now=now)
    publish_release(desk, a_release(world), [one], now=now)
    revoke(desk, "parts", one.public_key.keyid[:10], world.keeper.targets, own=[two], now=now)
    with pytest.raises(NotTrusted, match="none of the role's keys"):
        publish_release(desk, a_release(world, 2), [one], now=now)
    publish_release(desk, a_release(world, 2), [two], now=now)
    with pytest.raises(NotValid, match="1 of 0 keys"):
        revoke(desk, "parts", two.public_key.keyid, world.keeper.targets, now=now)
    with pytest.raises(NotValid, match="names 0 keys"):
        revoke(desk, "parts", "ffffffffffff", world.keeper.targets, now=now)


def test_a_director_that_is_not_this_hub_is_refused(world: Any) -> None:
    class Elsewhere(NearHub):
        def post(self, path: str, body: Any = None) -> Any:
            if path.startswith("/trust/online-keys"):
                return PrivateKey.generate(b"another hub").public.model_dump()
            return super().post(path, body)

    with pytest.raises(NotValid, match="none of them is this hub's"):
        rotate(Desk(Elsewhere(world.hub)), "director", world.keeper.targets, now=world.hub.now())


# -- withdrawal ------------------------------------------------------------------------------------------------------


def test_a_withdrawn_release_is_champion_no_longer_and_says_why(world: Any) -> None:
    keeper, now = world.keeper, world.hub.now()
    keeper.sign(a_release(world), now)
    with pytest.raises(NotValid, match="needs its reason"):
        withdraw_release(keeper.desk, "parts@1", keeper.releases, why=" ", now=now)
    done = withdraw_release(keeper.desk, "parts@1", keeper.releases, why="wrong labels", now=now)
    assert done["withdrawn"] == ["parts@1"]
    with world.store.read() as connection:
        row = release_rows.get(connection, "parts@1")
    assert row is not None
    assert (row.withdrawn_at, row.reverted_why) == (now, "wrong labels")
    with pytest.raises(NotValid, match="not vouched for"):
        withdraw_release(keeper.desk, "parts@1", keeper.releases, why="again", now=now)


# -- hubs in wrong hands ---------------------------------------------------------------------------------------------


def test_a_keeper_signs_on_top_of_nothing_that_its_role_did_not_sign(world: Any) -> None:
    keeper, now = world.keeper, world.hub.now()
    keeper.sign(a_release(world), now)

    class Forging(NearHub):
        def get_bytes(self, path: str) -> bytes:
            body = super().get_bytes(path)
            return body.replace(b"parts/1/", b"parts/7/") if ROLE in path else body

    with pytest.raises(NotTrusted, match="not signed by the keys of that role"):
        publish_release(Desk(Forging(world.hub)), a_release(world, 2), keeper.releases, now=now)


def test_a_keeper_signs_on_top_of_nothing_older_than_it_has_seen(world: Any, tmp_path: Path) -> None:
    keeper, now = world.keeper, world.hub.now()
    keeper.sign(a_release(world), now)
    withdraw_release(Desk(NearHub(world.hub), tmp_path), "parts@1", keeper.releases, why="bad", now=now)

    class Rewound(NearHub):
        def get(self, path: str, **query: Any) -> Any:
            found = super().get(path, **query)
            for item in found["roles"] if path == "/trust" else ():
                item["version"] = 1 if item["role"] == ROLE else item["version"]
            return found

    with pytest.raises(NotTrusted, match="bring back what was withdrawn"):
        publish_release(Desk(Rewound(world.hub), tmp_path), a_release(world, 2), keeper.releases, now=now)


def test_a_keeper_follows_its_pinned_root_and_no_other(world: Any, tmp_path: Path) -> None:
    Desk(NearHub(world.hub), tmp_path).load()
    other = loop_world.LoopWorld(seed=2)
    other.keeper = Keeper(other.hub, b"others", [], now=other.hub.now())
    (tmp_path / "root.json").write_bytes(make_other_root(tmp_path))
    with pytest.raises(NotTrusted, match="not signed by the keys of that role"):
        Desk(NearHub(world.hub), tmp_path).load()


def make_other_root(folder: Path) -> bytes:
    from edgewise.trust.roles import RoleKeys, Validity, first_root

    key = make_keys(folder / "other", 1)[0]
    roles = {name: RoleKeys(keys=(key.public_key,)) for name in ("root", "targets", "snapshot", "timestamp")}
    return first_root(roles, [key], now=loop_world.START, validity=Validity())


# -- time ------------------------------------------------------------------------------------------------------------


def test_the_hub_signs_its_timestamp_anew_once_a_day_and_the_snapshot_before_it_ends(world: Any) -> None:
    first = (version(world, "timestamp"), version(world, "snapshot"))
    for _ in range(7 * 24):
        world.clock.advance(3600)
        repository.renew(world.store, world.hub.online, world.hub.now())
    assert version(world, "timestamp") - first[0] in (6, 7)
    with world.store.read() as connection:
        held = repository_rows.newest(connection)
    assert parse(held["timestamp"], "timestamp").signed.expires > world.hub.now() + timedelta(days=5)


def test_an_expired_document_is_not_published(world: Any) -> None:
    release = a_release(world)
    with pytest.raises(NotTrusted, match="expired at"):
        publish_release(world.keeper.desk, release, world.keeper.releases, now=world.hub.now() - timedelta(days=400))


# -- keys ------------------------------------------------------------------------------------------------------------


def test_any_signer_address_is_a_key_and_a_public_half_alone_is_named_but_signs_nothing(tmp_path: Path) -> None:
    (key,) = make_keys(tmp_path / "made", 1)
    folder = tmp_path / "described"
    folder.mkdir()
    described = {"uri": f"file2:{tmp_path / 'made' / '1.pem'}", "public": plain_key(key.public_key)}
    (folder / "hsm.key.json").write_bytes(canonical(described))
    other = signer("elsewhere")
    (folder / "colleague.key.json").write_bytes(public_text(other.public_key))
    assert [one.public_key.keyid for one in read_signers([folder])] == [key.public_key.keyid]
    assert {one.keyid for one in read_public_keys([folder])} == {key.public_key.keyid, other.public_key.keyid}
    (folder / "hsm.key.json").write_bytes(canonical(described | {"uri": "nowhere:1"}))
    with pytest.raises(NotValid, match="does not answer"):
        read_signers([folder])


def test_without_a_root_a_keeper_says_what_to_do() -> None:
    from edgewise.hub import Hub, HubConfig

    hub = Hub(HubConfig(), runtime=MemoryRuntime())
    with pytest.raises(NotNow, match="edgewise trust init"):
        Desk(NearHub(hub)).load()
    hub.close()
