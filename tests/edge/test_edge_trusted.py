"""Attacks on the release chain, rotations and revocations, seen from a whole device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from edgewise.edge.update import Phase
from edgewise.ports import LinkDown, MemoryLink
from edgewise.trust import PrivateKey

ROLE = "releases-parts"


@pytest.fixture
def running(fleet: Any) -> Any:
    """A device that decides with release 1, and its surroundings."""
    fleet.first = fleet.release(1)
    fleet.assign(fleet.first)
    fleet.at_work = fleet.device()
    fleet.feed(400)
    fleet.run(fleet.at_work, 80)
    assert fleet.at_work.updater.running.release == fleet.first.id
    return fleet


def notes(fleet: Any) -> dict[str, str]:
    """What the device has told the hub's audit log, by kind."""
    return {record["what"]: record["text"] for record in fleet.stored("event")}


def goes_on_deciding(fleet: Any) -> None:
    fleet.feed(10)
    assert fleet.run(fleet.at_work, 130) >= 10
    assert fleet.at_work.updater.running.release == fleet.first.id


# -- attacks: refused, reported, and decisions go on -----------------------------------------------------------------


def freeze(fleet: Any) -> None:
    """The hub names something newer and serves an old state until it is over."""
    fleet.hub.lies["metadata/timestamp.json"] = fleet.repository.published["timestamp"][-1]
    fleet.assign(fleet.release(2))
    fleet.clock.advance(11 * 366 * 86_400)


def roll_back(fleet: Any) -> None:
    old = fleet.repository.published["timestamp"][-2]
    fleet.assign(fleet.release(2))
    fleet.hub.lies["metadata/timestamp.json"] = old


def mix_and_match(fleet: Any) -> None:
    old = fleet.repository.published["snapshot"][-1]
    fleet.assign(fleet.release(2))
    fleet.hub.lies[f"metadata/{fleet.repository.snapshot.version}.snapshot.json"] = old


def endless_data(fleet: Any) -> None:
    fleet.assign(fleet.release(2))
    fleet.hub.lies["metadata/timestamp.json"] = b" " * 20_000


def fast_forward(fleet: Any) -> None:
    fleet.assign(fleet.release(2))
    fleet.repository.publish("timestamp", version=2**31)


def unsigned(fleet: Any) -> None:
    honest = dict(fleet.repository.signers[ROLE])
    fleet.repository.signers[ROLE] = fleet.repository.signers["snapshot"]
    fleet.assign(fleet.release(2))
    fleet.repository.signers[ROLE] = honest


@pytest.mark.parametrize(
    ("attack", "what", "words"),
    [
        (freeze, "metadata_refused", "(freeze)"),
        (roll_back, "metadata_refused", "(rollback)"),
        (mix_and_match, "metadata_refused", "it is not the file"),
        (endless_data, "metadata_refused", "goes on after"),
        (fast_forward, "metadata_refused", "(fast-forward)"),
        (unsigned, "metadata_refused", "0 valid signatures"),
    ],
)
def test_an_attack_on_the_metadata_is_refused_told_to_the_hub_and_stops_no_decision(
    running: Any, attack: Callable[[Any], None], what: str, words: str
) -> None:
    running.repository.with_hashes = True
    running.publish()
    running.run(running.at_work, 130)
    attack(running)
    goes_on_deciding(running)
    running.run(running.at_work, 130)
    assert words in notes(running)[what], notes(running)
    report = running.hub.uploads[-1].report
    assert any("metadata" in text for text in report.waits_for), report.waits_for
    assert running.at_work.updater.phase is not Phase.TRIAL


def test_after_an_attack_the_same_assignment_goes_through(running: Any) -> None:
    roll_back(running)
    running.run(running.at_work, 200)
    assert running.at_work.updater.running.release == running.first.id
    running.hub.lies.clear()
    running.run(running.at_work, 200)
    assert running.at_work.updater.running.release == "parts@2"
    assert running.at_work.updater.warnings(running.clock.now()) == ()


def test_dropped_requests_are_told_while_contacts_go_through(running: Any) -> None:
    class Dropping(MemoryLink):
        def get_file(self, path: str, *, offset: int = 0) -> Any:
            raise LinkDown(f"{path} does not come from byte {offset} on")

    running.at_work.close(running.clock.now())
    running.at_work = running.device(link=Dropping(running.hub, "d1"))
    running.assign(running.release(2))
    goes_on_deciding(running)
    assert any("newer metadata" in text for text in running.hub.uploads[-1].report.waits_for)


def test_an_assignment_for_another_device_is_refused_and_told(running: Any) -> None:
    running.assign(running.release(2), device="d2")
    goes_on_deciding(running)
    assert "is for device d2" in notes(running)["assignment_refused"]


def test_expiry_warns_blocks_updates_and_stops_nothing(running: Any) -> None:
    """Invariant 7, without any link: the agent starts again with metadata that are long over, and decides."""
    running.at_work.close(running.clock.now())
    running.clock.advance(12 * 366 * 86_400)
    running.lost = lambda _: True
    running.at_work = running.device()
    goes_on_deciding(running)
    status = running.at_work.status(running.clock.now())
    assert any("they expired at" in text for text in status["waits_for"])
    assert status["metadata_expires_at"] < running.clock.now().isoformat()
    running.lost = lambda _: False
    running.run(running.at_work, 1500)
    assert "expired" in notes(running)["metadata_expired"]


# -- what it costs ---------------------------------------------------------------------------------------------------


def test_contacts_with_nothing_new_ask_the_repository_nothing(running: Any) -> None:
    running.run(running.at_work, 100)
    running.hub.asked.clear()
    running.run(running.at_work, 300)
    assert running.hub.asked == []


def test_a_refresh_with_nothing_new_takes_two_requests_and_under_4_kb(running: Any) -> None:
    running.run(running.at_work, 100)
    running.hub.asked.clear()
    running.repository.publish("timestamp")  # as the hub does once a day
    running.run(running.at_work, 130)
    assert [path for path, _ in running.hub.asked] == ["metadata/2.root.json", "metadata/timestamp.json"]
    assert sum(size for _, size in running.hub.asked) < 4096


# -- rotation and revocation of every role, while the device was away ------------------------------------------------


def rotate_root(fleet: Any) -> None:
    """The second root version is signed by the old and the new key, the third by the new one alone."""
    old = dict(fleet.repository.signers["root"])
    fleet.repository.rotate("root")
    new = dict(fleet.repository.signers["root"])
    fleet.repository.signers["root"] = {**old, **new}
    fleet.repository.publish("root")
    fleet.repository.signers["root"] = new
    fleet.repository.publish("root")


def rotate_top(role: str) -> Callable[[Any], None]:
    def rotate(fleet: Any) -> None:
        fleet.repository.rotate(role)
        fleet.repository.publish("root")
        fleet.publish(*([role] if role == "targets" else []))

    rotate.__name__ = f"rotate_{role}"
    return rotate


def rotate_releases(fleet: Any) -> None:
    targets = fleet.repository.role("targets")
    for keyid in list(targets.delegations.roles[ROLE].keyids):
        targets.revoke_key(keyid, ROLE)
    fleet.repository.signers[ROLE].clear()
    fleet.repository.add_key(ROLE, by="targets")
    fleet.publish("targets", ROLE)


def rotate_director(fleet: Any) -> None:
    fleet.assignment_key = PrivateKey.generate(b"another director")
    fleet.direct(fleet.assignment_key)


ROTATIONS = [
    rotate_root,
    rotate_top("targets"),
    rotate_top("snapshot"),
    rotate_top("timestamp"),
    rotate_releases,
    rotate_director,
]


@pytest.mark.parametrize("rotate", ROTATIONS, ids=lambda rotate: rotate.__name__)
def test_a_device_that_was_away_follows_a_rotation_and_the_old_keys_count_no_longer(running: Any, rotate: Any) -> None:
    before = {role: dict(signers) for role, signers in running.repository.signers.items()}
    director = running.assignment_key
    running.lost = lambda _: True
    running.run(running.at_work, 400)
    rotate(running)
    running.assign(running.release(2))
    running.lost = lambda _: False
    running.at_work.close(running.clock.now())
    running.at_work = running.device()
    running.run(running.at_work, 700)
    assert running.at_work.updater.running.release == "parts@2", running.at_work.waits_for()
    # The revoked keys: whatever they sign from now on is refused.
    changed = next((role for role, signers in before.items() if signers != running.repository.signers[role]), None)
    if changed is None:
        running.assignment_key = director
        running.assign(running.release(3))
    else:
        running.repository.signers[changed] = before[changed]
        running.assign(running.release(3))
        if changed in ("root", "targets"):
            running.publish(*([changed] if changed == "targets" else []))
        if changed == "root":
            running.repository.publish("root")
    running.run(running.at_work, 400)
    told = notes(running)
    assert running.at_work.updater.running.release == "parts@2"
    assert "metadata_refused" in told or "assignment_refused" in told, told
    # A restart finds the slots whole: their proof stands on the roots of then.
    running.at_work.close(running.clock.now())
    running.at_work = running.device()
    assert running.at_work.updater.running is not None


# -- withdrawal ------------------------------------------------------------------------------------------------------


def test_a_withdrawn_release_runs_on_is_told_and_nothing_goes_back_to_it(running: Any) -> None:
    running.assign(running.release(2))
    running.run(running.at_work, 200)
    assert running.at_work.updater.running.release == "parts@2"
    running.withdraw(running.first)
    running.assign(running.first, kind="revert")
    running.run(running.at_work, 300)
    assert running.at_work.updater.running.release == "parts@2", "a revert needs a release still validly signed"
    assert "vouches for target 'parts/1/release.json'" in str(running.at_work.updater.state.last_failure)


def test_a_withdrawn_release_is_not_taken_from_a_device_that_has_nothing_else(running: Any) -> None:
    running.withdraw(running.first)
    goes_on_deciding(running)
    running.at_work.close(running.clock.now())
    running.at_work = running.device()
    goes_on_deciding(running)
    assert any("was withdrawn" in text for text in running.at_work.waits_for())


# -- power cuts and damage -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["root.json", "timestamp.json", "snapshot.json", "targets.json", f"{ROLE}.json"])
def test_damaged_metadata_stop_no_decision_and_heal_at_the_next_refresh(running: Any, file: str) -> None:
    running.at_work.close(running.clock.now())
    place = running.folder / "tuf" / file
    assert place.exists()
    place.write_bytes(place.read_bytes()[:100])
    running.at_work = running.device()
    goes_on_deciding(running)
    running.assign(running.release(2))
    running.run(running.at_work, 200)
    assert running.at_work.updater.running.release == "parts@2"
