"""The command line that the public TUF conformance suite drives, and the behaviour that suite asks for.

The suite itself runs as a campaign where it is installed, or where EDGEWISE_TUF_CONFORMANCE names a checkout of it.
The tests here ask the same of the client from the outside: exit codes, requests, and the files in its two folders.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Delegations, Metadata, MetaFile, SuccinctRoles, Targets

from edgewise.cli.tuf_client import run
from edgewise.ports import MemoryClock

_SPEC = importlib.util.spec_from_file_location("tuf_repository", Path(__file__).parents[1] / "tuf_repository.py")
assert _SPEC is not None
assert _SPEC.loader is not None
world = importlib.util.module_from_spec(_SPEC)
sys.modules["tuf_repository"] = world
_SPEC.loader.exec_module(world)
NOW, ONLINE = world.NOW, world.ONLINE
ALL = ("root", *ONLINE)
EXECUTABLE = "from edgewise.cli.tuf_client import main; main()"


class Command:
    """The executable's commands on two folders, and what they leave there."""

    def __init__(self, served: Any, folder: Path) -> None:
        self.served = served
        self.repository = served.repository
        self.metadata = folder / "metadata"
        self.targets = folder / "targets"
        self.root = folder / "initial_root.json"
        self.clock = MemoryClock(NOW)
        self.metadata.mkdir()
        self.targets.mkdir()

    def init(self, root: bytes | None = None) -> int:
        self.root.write_bytes(self.repository.published["root"][0] if root is None else root)
        return self.run("init", str(self.root))

    def refresh(self) -> int:
        return self.run("--metadata-url", self.served.metadata_url, "refresh")

    def download(self, *names: str) -> int:
        asked = [word for name in names for word in ("--target-name", name)]
        places = ["--target-base-url", self.served.target_url, "--target-dir", str(self.targets)]
        return self.run("--metadata-url", self.served.metadata_url, *asked, *places, "download")

    def run(self, *arguments: str) -> int:
        return run(["--metadata-dir", str(self.metadata), *arguments], clock=self.clock)

    def trusted(self) -> dict[str, int]:
        return {
            path.stem: json.loads(path.read_bytes())["signed"]["version"]
            for path in sorted(self.metadata.glob("*.json"))
        }

    def downloaded(self) -> list[bytes]:
        files = [path for path in self.targets.rglob("*") if path.is_file()]
        return [path.read_bytes() for path in sorted(files, key=lambda path: path.stat().st_mtime_ns)]

    def asked(self) -> list[str]:
        """File names asked for since the last call."""
        asked, self.served.asked = self.served.asked, []
        return [name.removesuffix(".json") for name in asked]


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    with world.served(world.Repository()) as served:
        yield Command(served, tmp_path)


@pytest.fixture
def ready(command: Command) -> Command:
    assert command.init() == 0
    assert command.asked() == []
    return command


def versions(root: int, timestamp: int, snapshot: int, targets: int) -> dict[str, int]:
    return {"root": root, "snapshot": snapshot, "targets": targets, "timestamp": timestamp}


# The first refresh, and what it keeps.


def test_a_refresh_asks_for_each_role_once_in_order(ready):
    assert ready.refresh() == 0
    assert ready.asked() == ["2.root", "timestamp", "1.snapshot", "1.targets"]


def test_the_very_bytes_that_were_served_are_kept(ready):
    ready.repository.published["timestamp"][-1] += b" \n"
    assert ready.refresh() == 0
    for role in ALL:
        assert (ready.metadata / f"{role}.json").read_bytes() == ready.repository.published[role][-1]


def test_a_download_refreshes_first(ready):
    assert ready.download("nobody knows it") == 1
    assert ready.asked() == ["2.root", "timestamp", "1.snapshot", "1.targets"]
    assert ready.trusted() == versions(1, 1, 1, 1)


@pytest.mark.parametrize("spoil", ["no version", "wrong signature", "no JSON"])
def test_a_spoiled_first_root_is_refused_before_any_request(command, spoil):
    document = json.loads(command.repository.published["root"][0])
    if spoil == "no version":
        del document["signed"]["version"]
    elif spoil == "wrong signature":
        document["signatures"][0]["sig"] = "ab" * 64
    command.init(b"root" if spoil == "no JSON" else json.dumps(document).encode())
    assert command.refresh() == 1
    assert command.asked() == []


@pytest.mark.parametrize(
    ("role", "kept"),
    [
        ("root", {"root": 1}),
        ("timestamp", {"root": 2}),
        ("snapshot", {"root": 2, "timestamp": 2}),
        ("targets", {"root": 2, "snapshot": 2, "timestamp": 2}),
    ],
)
def test_an_unsigned_role_ends_the_refresh_and_what_came_before_is_kept(ready, role, kept):
    ready.repository.signers[role].clear()
    ready.repository.publish(*ALL)
    assert ready.refresh() == 1
    assert ready.trusted() == kept


@pytest.mark.parametrize(
    ("role", "kept"),
    [
        ("root", {"root": 1}),
        ("snapshot", {"root": 2, "timestamp": 2}),
        ("targets", {"root": 2, "snapshot": 2, "timestamp": 2}),
    ],
)
def test_a_version_other_than_its_address_says_is_refused(ready, role, kept):
    ready.repository.publish(*ALL)
    later = ready.repository
    held = {name: list(data) for name, data in later.published.items()}
    later.publish(role)
    ready.repository.lies[f"2.{role}.json"] = later.published[role][-1]
    later.published.update(held)
    assert ready.refresh() == 1
    assert ready.trusted() == kept


def test_another_timestamp_of_the_same_version_changes_nothing(ready):
    assert ready.refresh() == 0
    before = (ready.metadata / "timestamp.json").read_bytes()
    ready.repository.timestamp.snapshot_meta.version = 100
    ready.repository.publish("timestamp", version=1)
    ready.asked()
    assert ready.refresh() == 0
    assert ready.asked()[-1] == "timestamp"
    assert (ready.metadata / "timestamp.json").read_bytes() == before


def test_hashes_of_metadata_are_checked(ready):
    ready.repository.with_hashes = True
    ready.repository.publish(*ONLINE)
    assert ready.refresh() == 0
    ready.repository.publish("targets")
    ready.repository.snapshot.meta["targets.json"].hashes["sha256"] = "46" * 32
    ready.repository.publish("snapshot", "timestamp")
    assert ready.refresh() == 1
    assert ready.trusted() == versions(1, 3, 3, 2)


def test_targets_that_no_snapshot_names_are_not_asked_for(ready):
    assert ready.refresh() == 0
    ready.repository.publish("targets")
    ready.asked()
    assert ready.refresh() == 0
    assert ready.asked() == ["2.root", "timestamp"]


def test_fields_that_nobody_knows_are_signed_and_accepted(ready):
    signer = CryptoSigner.generate_ed25519()
    signer.public_key.unrecognized_fields["more"] = {"a": 1, "b": [2]}
    ready.repository.add_key("root", signer)
    ready.repository.root.unrecognized_fields["more"] = "value"
    ready.repository.root.roles["root"].unrecognized_fields["more"] = None
    ready.repository.publish("root")
    assert ready.refresh() == 0
    assert ready.trusted()["root"] == 2


def test_a_key_may_name_hash_algorithms_as_it_did_long_ago(ready):
    ready.repository.rotate("snapshot")
    (signer,) = ready.repository.signers["snapshot"].values()
    signer.public_key.unrecognized_fields["keyid_hash_algorithms"] = "md5"
    ready.repository.publish("root", "snapshot", "timestamp")
    assert ready.refresh() == 0
    assert ready.trusted() == versions(2, 2, 2, 1)


@pytest.mark.parametrize(
    ("role", "asked", "kept"),
    [
        ("timestamp", "timestamp", versions(1, 1, 1, 1)),
        ("snapshot", "2.snapshot", versions(1, 2, 1, 1)),
        ("targets", "2.targets", versions(1, 2, 2, 1)),
    ],
)
def test_a_role_that_is_not_served_fails_the_refresh(ready, role, asked, kept):
    assert ready.refresh() == 0
    ready.repository.publish(*ONLINE)
    ready.repository.published[role] = [] if role == "timestamp" else ready.repository.published[role][:1]
    ready.asked()
    assert ready.refresh() == 1
    assert ready.asked()[-1] == asked
    assert ready.trusted() == kept


def test_a_snapshot_is_no_timestamp_even_under_its_key(ready):
    ready.repository.add_key("snapshot", next(iter(ready.repository.signers["timestamp"].values())))
    ready.repository.snapshot.meta = {"snapshot.json": MetaFile(1)}
    ready.repository.publish("root", "snapshot")
    ready.repository.lies["timestamp.json"] = ready.repository.published["snapshot"][-1]
    assert ready.refresh() == 1
    assert ready.trusted() == {"root": 2}


# Time.


def test_an_expired_root_is_kept_but_nothing_after_it(ready):
    assert ready.refresh() == 0
    ready.repository.root.expires = NOW - timedelta(days=1)
    ready.repository.publish(*ALL)
    assert ready.refresh() == 1
    assert ready.trusted() == versions(2, 1, 1, 1)


@pytest.mark.parametrize(
    ("role", "kept"),
    [("timestamp", versions(1, 1, 1, 1)), ("snapshot", versions(1, 2, 1, 1)), ("targets", versions(1, 2, 2, 1))],
)
def test_an_expired_role_is_not_kept(ready, role, kept):
    assert ready.refresh() == 0
    ready.repository.documents[role].signed.expires = NOW - timedelta(days=5)
    ready.repository.publish(*ONLINE)
    assert ready.refresh() == 1
    assert ready.trusted() == kept


@pytest.mark.parametrize("role", ALL)
def test_a_role_that_expired_here_is_followed_by_its_next_version(ready, role):
    document = ready.repository.documents[role].signed
    document.expires = NOW + timedelta(days=7)
    ready.repository.publish(*ALL)
    assert ready.refresh() == 0
    document.expires = NOW + timedelta(days=21)
    ready.repository.publish(*ALL)
    ready.clock.advance(timedelta(days=18).total_seconds())
    assert ready.refresh() == 0
    assert ready.trusted() == versions(3, 3, 3, 3)


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets"])
def test_a_role_that_expired_here_without_a_next_version_fails(ready, role):
    ready.repository.documents[role].signed.expires = NOW + timedelta(days=7)
    ready.repository.publish(*ALL)
    assert ready.refresh() == 0
    ready.clock.advance(timedelta(days=18).total_seconds())
    assert ready.refresh() == 1


def test_an_old_snapshot_that_expired_still_guards_against_rollback(ready):
    ready.repository.snapshot.expires = NOW + timedelta(days=7)
    ready.repository.publish(*ONLINE)
    assert ready.refresh() == 0
    ready.repository.snapshot.expires = NOW + timedelta(days=21)
    ready.repository.publish("targets", version=1)
    ready.repository.publish("snapshot", "timestamp")
    ready.clock.advance(timedelta(days=18).total_seconds())
    assert ready.refresh() == 1
    assert ready.trusted() == versions(1, 3, 2, 2)


def delegated(ready: Command, expires: Any) -> None:
    ready.repository.delegate("targets", "team", "team/*", expires=expires)
    ready.repository.add_target("team", "team/first", b"first")
    ready.repository.add_target("team", "team/second", b"second")
    ready.repository.publish("team", *ONLINE)


def test_a_delegated_role_that_is_expired_at_first_sight_is_not_used(ready):
    delegated(ready, NOW - timedelta(days=1))
    assert ready.refresh() == 0
    assert ready.download("team/first") == 1
    assert (ready.downloaded(), "team" in ready.trusted()) == ([], False)


@pytest.mark.parametrize("newer", [False, True], ids=["no newer version", "a newer version"])
def test_a_delegated_role_that_expired_here_needs_a_newer_version(ready, newer):
    delegated(ready, NOW + timedelta(days=7))
    assert ready.download("team/first") == 0
    if newer:
        ready.repository.role("team").expires = NOW + timedelta(days=21)
        ready.repository.publish("team", "snapshot", "timestamp")
    ready.clock.advance(timedelta(days=18).total_seconds())
    assert ready.download("team/second") == (0 if newer else 1)
    assert ready.downloaded() == [b"first", b"second"][: 2 if newer else 1]


# Going back.


@pytest.mark.parametrize("hashes", [False, True], ids=["versions", "hashes"])
@pytest.mark.parametrize(("role", "kept"), [("timestamp", (2, 2)), ("snapshot", (2, 2)), ("targets", (3, 2))])
def test_an_older_version_is_refused(ready, role, kept, hashes):
    ready.repository.with_hashes = hashes
    ready.repository.publish(*ONLINE)
    assert ready.refresh() == 0
    ready.repository.publish(role, version=1)
    ready.repository.publish(*ONLINE[ONLINE.index(role) + 1 :])
    assert ready.refresh() == 1
    timestamp, others = kept
    assert ready.trusted() == versions(1, timestamp, others, others)


def test_an_older_snapshot_that_no_timestamp_names_is_not_asked_for(ready):
    ready.repository.publish("snapshot", "timestamp")
    assert ready.refresh() == 0
    ready.repository.lies["2.snapshot.json"] = ready.repository.published["snapshot"][0]
    assert ready.refresh() == 0
    assert ready.trusted()["snapshot"] == 2


@pytest.mark.parametrize(
    ("role", "rotated"),
    [("timestamp", ["timestamp"]), ("snapshot", ["snapshot", "timestamp"]), ("targets", ["snapshot"])],
)
def test_new_keys_recover_from_a_fast_forward(ready, role, rotated):
    later = ONLINE[ONLINE.index(role) + 1 :]
    ready.repository.publish(role, version=99_999)
    ready.repository.publish(*later)
    assert ready.refresh() == 0
    assert ready.trusted()[role] == 99_999
    for name in rotated:
        ready.repository.rotate(name)
    ready.repository.publish("root")
    ready.repository.publish(role, version=1)
    ready.repository.publish(*later)
    assert ready.refresh() == 0
    assert ready.trusted()[role] == 1


# Keys and thresholds.


def test_fewer_signatures_than_the_threshold_are_refused(ready):
    ready.repository.root.roles["snapshot"].threshold = 3
    ready.repository.add_key("snapshot")
    ready.repository.add_key("snapshot")
    ready.repository.publish(*ALL)
    assert ready.refresh() == 0
    ready.repository.signers["snapshot"].popitem()
    ready.repository.publish(*ONLINE)
    assert ready.refresh() == 1
    assert ready.trusted()["snapshot"] == 2


def test_a_threshold_over_the_number_of_keys_cannot_be_met(ready):
    ready.repository.add_key("snapshot")
    ready.repository.root.roles["snapshot"].threshold = 3
    ready.repository.publish(*ALL)
    assert ready.refresh() == 1
    assert ready.trusted() == {"root": 2, "timestamp": 2}


@pytest.mark.parametrize("threshold", [1, 2])
def test_one_signature_does_not_count_twice(ready, threshold):
    ready.repository.root.roles["snapshot"].threshold = threshold
    ready.repository.publish(*ALL)
    ready.repository.rewrite("snapshot", lambda document: document["signatures"].extend(document["signatures"]))
    assert ready.refresh() == 1
    assert "snapshot" not in ready.trusted()


def test_one_key_listed_twice_for_a_role_is_refused(ready):
    ready.repository.publish("root")
    root = json.loads(ready.repository.published["root"][-1])["signed"]
    root["roles"]["snapshot"] = {"keyids": root["roles"]["snapshot"]["keyids"] * 2, "threshold": 2}
    (signer,) = ready.repository.signers["root"].values()
    from securesystemslib.formats import encode_canonical

    signature = signer.sign(encode_canonical(root).encode()).to_dict()
    ready.repository.lies["2.root.json"] = json.dumps({"signed": root, "signatures": [signature]}).encode()
    assert ready.refresh() == 1
    assert "snapshot" not in ready.trusted()


SIGNERS = {
    "ed25519": CryptoSigner.generate_ed25519,
    "ecdsa-sha2-nistp256": CryptoSigner.generate_ecdsa,
    "rsassa-pss-sha256": lambda: CryptoSigner.generate_rsa(size=2048),
    "rsa-pkcs1v15-sha256": lambda: CryptoSigner.generate_rsa(scheme="rsa-pkcs1v15-sha256", size=2048),
}


@pytest.mark.parametrize("scheme", SIGNERS)
def test_each_kind_of_key_counts_and_its_wrong_signature_does_not(ready, scheme):
    signer = ready.repository.add_key("root", SIGNERS[scheme]())
    ready.repository.root.roles["root"].threshold = 2
    ready.repository.publish("root")
    assert ready.refresh() == 0
    assert ready.trusted()["root"] == 2
    ready.repository.publish("root")

    def spoil(document: dict[str, Any]) -> None:
        for signature in document["signatures"]:
            if signature["keyid"] == signer.public_key.keyid:
                signature["sig"] = signature["sig"][:-2] + ("00" if signature["sig"][-2:] != "00" else "01")

    ready.repository.rewrite("root", spoil)
    assert ready.refresh() == 1
    assert ready.trusted()["root"] == 2


@pytest.mark.parametrize("signature", ["ab" * 64, ""], ids=["plausible", "empty"])
def test_a_wrong_signature_beside_enough_right_ones_does_no_harm(ready, signature):
    spoiled = next(iter(ready.repository.signers["timestamp"]))
    ready.repository.add_key("timestamp")
    ready.repository.publish("root", "timestamp")

    def spoil(document: dict[str, Any]) -> None:
        for entry in document["signatures"]:
            if entry["keyid"] == spoiled:
                entry["sig"] = signature

    ready.repository.rewrite("timestamp", spoil)
    assert ready.refresh() == 0


# Each row: keys, threshold and signers of the root's versions one after the other; the last may be refused.
ROOTS = {
    "one key replaced": ("a:1:a", "b:1:ab", "b:1:b"),
    "one key replaced beside signatures nobody asked for": ("a:1:xay", "b:1:xbay", "b:1:xby"),
    "three of five in turn": ("abcde:3:ace", "abcde:3:aeb", "abcde:3:abd", "abcde:3:abd"),
    "one of five replaced": ("abcde:3:ace", "abdef:3:aeb"),
    "one of five replaced with a step between": ("abcde:3:ace", "abdef:3:acef", "abdef:3:aef"),
    "all of five replaced": ("abcde:3:ace", "fghij:3:acefgh", "fghij:3:fgh"),
    "threshold raised": ("abc:1:a", "abc:2:ab"),
    "threshold lowered": ("abc:2:ab", "abc:1:ab", "abc:1:a"),
    "threshold raised with a key": ("a:1:a", "ab:2:ab"),
    "refused without the old key": ("a:1:a", "b:1:bxy"),
    "refused without the new key": ("a:1:a", "b:1:axy"),
    "refused without three new keys": ("abcde:3:ace", "abdef:3:ace"),
    "refused without three old keys": ("abcde:3:ace", "abdef:3:aef"),
    "refused below the new threshold": ("abc:1:a", "abc:2:b"),
    "refused below the old threshold": ("abc:2:ab", "abc:1:a"),
}


def sign_as(repository: Any, role: str, row: str, signers: dict[str, CryptoSigner]) -> None:
    keys, threshold, by = row.split(":")
    repository.root.roles[role].keyids.clear()
    repository.signers[role].clear()
    repository.root.roles[role].threshold = int(threshold)
    for letter in dict.fromkeys(keys + by):
        signers.setdefault(letter, CryptoSigner.generate_ed25519())
    for letter in keys:
        repository.root.add_key(signers[letter].public_key, role)
    for letter in by:
        repository.signers[role][signers[letter].public_key.keyid] = signers[letter]


@pytest.mark.parametrize("name", ROOTS)
def test_a_chain_of_roots_holds_or_breaks(command, name):
    repository, signers = command.repository, {}
    repository.published["root"].clear()
    for number, row in enumerate(ROOTS[name], 1):
        sign_as(repository, "root", row, signers)
        repository.publish("root", version=number)
    broken = name.startswith("refused")
    assert command.init() == 0
    assert command.refresh() == (1 if broken else 0)
    expected = repository.published["root"][-2 if broken else -1]
    assert (command.metadata / "root.json").read_bytes() == expected


ROLES = {
    "its key replaced": "b:1:b",
    "signatures nobody asked for": "a:1:xay",
    "three of five": "abcde:3:ace",
    "three other of five": "abcde:3:bcd",
    "the last three of five": "abcde:3:cde",
    "refused under an old key": "b:1:axy",
    "refused with one key of three gone": "abdef:3:ace",
    "refused below the threshold": "abdef:3:ae",
}


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
@pytest.mark.parametrize("name", ROLES)
def test_a_role_holds_under_the_keys_of_the_newest_root_only(ready, name, role):
    sign_as(ready.repository, role, ROLES[name], {})
    ready.repository.publish(*ALL)
    broken = name.startswith("refused")
    assert ready.refresh() == (1 if broken else 0)
    assert (role in ready.trusted()) is not broken


# Delegations: each row is the roles' edges `from>to`, with `!` where it is terminating and `/*.py` for other paths.
GRAPHS = {
    "one role": ("t>A", "A"),
    "two roles": ("t>A t>B", "AB"),
    "two levels": ("t>A t>B B>C", "ABC"),
    "depth first": ("t>A t>B A>C A>D", "ACDB"),
    "three levels deep first": ("t>A t>B A>C C>D", "ACDB"),
    "terminating": ("t>A t>B A>C! A>D", "AC"),
    "below a terminating role": ("t>A t>B A>C! C>D", "ACD"),
    "a branch for other paths": ("t>A/*.py t>B A>C", "B"),
    "a lower branch for other paths": ("t>A t>B A>C/*.py C>D", "AB"),
    "a ring": ("t>A t>B B>C C>D D>B", "ABCD"),
    "two ways to a role": ("t>A t>B B>C A>C", "ACB"),
    "two ways, one for other paths": ("t>A t>B B>C A>C/*.py", "ABC"),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_delegations_are_walked_in_their_order(ready, name):
    edges, order = GRAPHS[name]
    names: list[str] = []
    for edge in edges.split():
        ends, _, path = edge.partition("/")
        by, _, role = ends.rstrip("!").partition(">")
        ready.repository.delegate("targets" if by == "t" else by, role, path or "*", terminating=ends.endswith("!"))
        names.append(role)
    ready.repository.publish(*dict.fromkeys(names), *ONLINE)
    assert ready.download("missing") == 1
    assert ready.asked()[4:] == [f"1.{role}" for role in order]


TREE = {
    "top": (True, ""),
    "README.md": (True, "A"),
    "releases/x/x1": (True, "BC"),
    "releases/y/y1.zip": (True, "BD"),
    "releases/z/z1.zip": (False, "B"),
    "releases/README.md": (False, ""),
    "foo-1.tgz": (True, "A"),
    "foo-alpha.tgz": (False, ""),
    "README.MD": (False, ""),
}


@pytest.mark.parametrize("name", TREE)
def test_a_target_is_found_where_every_role_of_the_chain_allows_its_path(ready, name):
    found, order = TREE[name]
    repository = ready.repository
    repository.delegate("targets", "A", "*.doc", "*.md", "foo-?.tgz")
    repository.delegate("targets", "B", "releases/*/*")
    repository.delegate("B", "C", "releases/x/*")
    repository.delegate("B", "D", "releases/y/*.zip")
    for role, path in (
        ("targets", "top"),
        ("C", "releases/x/x1"),
        ("D", "releases/y/y1.zip"),
        ("D", "releases/z/z1.zip"),
    ):
        repository.add_target(role, path, path.encode())
    for path in ("README.md", "releases/README.md", "foo-1.tgz", "foo-alpha.tgz"):
        repository.add_target("A", path, path.encode())
    repository.publish(*"ABCD", *ONLINE)
    assert ready.download(name) == (0 if found else 1)
    assert ready.downloaded() == ([name.encode()] if found else [])
    assert [asked for asked in ready.asked() if asked[2:] in "ABCD"] == [f"1.{role}" for role in order]


def test_hashed_bins_lead_to_one_role(ready):
    signer = CryptoSigner.generate_ed25519()
    bins = SuccinctRoles([], 1, 4, "bin")
    ready.repository.role("targets").delegations = Delegations({}, None, bins)
    for name in bins.get_roles():
        ready.repository.documents[name] = Metadata(Targets(expires=ready.repository.expires))
        ready.repository.signers[name] = {signer.public_key.keyid: signer}
    ready.repository.role("targets").add_key(signer.public_key)
    name = bins.get_role_for_target("x")
    ready.repository.add_target(name, "x", b"binned")
    ready.repository.publish(*bins.get_roles(), *ONLINE)
    assert ready.download("x") == 0
    assert [asked for asked in ready.asked() if "bin-" in asked] == [f"1.{name}"]


def test_a_role_is_checked_against_the_delegator_now_asking(ready):
    repository = ready.repository
    for parent in "ab":
        repository.delegate("targets", f"parent-{parent}", f"{parent}/*")
        signer = repository.delegate(f"parent-{parent}", "release", f"{parent}/*")
        repository.add_target("release", f"{parent}/x", parent.encode())
    del repository.signers["release"][signer.public_key.keyid]
    repository.publish("release", "parent-a", "parent-b", *ONLINE)
    assert ready.download("a/x", "b/x") == 1
    assert ready.downloaded() == [b"a"]


def test_a_delegated_role_outside_the_snapshot_is_not_asked_for(ready):
    ready.repository.delegate("targets", "team", "team/*")
    ready.repository.publish("team", "targets")
    del ready.repository.snapshot.meta["team.json"]
    ready.repository.publish("snapshot", "timestamp")
    assert ready.refresh() == 0
    ready.asked()
    assert ready.download("team/x") == 1
    assert ready.asked() == ["2.root", "timestamp"]
    assert "team" not in ready.trusted()


@pytest.mark.parametrize(
    ("role", "quoted"),
    [
        ("?", "%3F"),
        ("#", "%23"),
        ("/team", "%2Fteam"),
        ("../team", "..%2Fteam"),
        ("..", ".."),
        (".", "."),
        ("ü", "%C3%BC"),
    ],
)
def test_a_role_may_have_any_name(ready, role, quoted):
    ready.repository.delegate("targets", role)
    ready.repository.publish(role, *ONLINE)
    assert ready.download("missing") == 1
    assert f"1.{quoted}" in ready.asked()
    assert len(ready.trusted()) == 5
    assert not list(ready.metadata.parent.glob("*team*"))


def test_a_repository_without_versions_in_its_addresses_works_too(ready):
    ready.repository.root.consistent_snapshot = False
    ready.repository.delegate("targets", "team", "team/*")
    ready.repository.add_target("team", "team/x", b"plain")
    ready.repository.publish("root", "team", *ONLINE)
    assert ready.download("team/x") == 0
    assert ready.asked() == ["2.root", "3.root", "timestamp", "snapshot", "targets", "team", "team/x"]


# Target files.


@pytest.mark.parametrize("name", ["a.txt", "deep/down/a.txt", "a b.txt", "a?b", "a%20b", "(a)+[b]~;,=&$!@:'*", "ü.txt"])
def test_a_target_comes_as_it_is(ready, name):
    from urllib.parse import quote

    target = ready.repository.add_target("targets", name, b"content")
    folder, slash, base = name.rpartition("/")
    stored = f"{folder}{slash}{target.hashes['sha256']}.{base}"
    ready.repository.files[quote(stored, safe="/%:@!$&'()*+,;=?-._~")] = b"content"  # as the request will have it
    ready.repository.publish(*ONLINE)
    assert ready.download(name) == 0
    assert ready.downloaded() == [b"content"]


def test_a_target_that_is_here_is_not_fetched_again(ready):
    ready.repository.add_target("targets", "a", b"content")
    ready.repository.publish(*ONLINE)
    assert ready.download("a") == 0
    ready.asked()
    assert ready.download("a") == 0
    assert ready.asked() == ["2.root", "timestamp"]


def test_targets_may_change_many_times_and_never_without_the_repository(ready):
    for number in range(6):
        ready.repository.add_target("targets", "a", b"content %d" % number)
        ready.repository.publish(*ONLINE)
        if number % 2:
            continue  # the client sees every other version
        assert ready.download("a") == 0
        assert ready.downloaded() == [b"content %d" % number]
        ready.repository.files = dict.fromkeys(ready.repository.files, b"malware")
        ready.download("a")
        assert ready.downloaded() == [b"content %d" % number]


def test_malware_is_not_stored(ready):
    ready.repository.add_target("targets", "a", b"content")
    ready.repository.publish(*ONLINE)
    ready.repository.files = dict.fromkeys(ready.repository.files, b"malware!")
    assert ready.download("a") == 1
    assert ready.downloaded() == []


# The command itself.


@pytest.mark.parametrize(
    "arguments", [[], ["refresh"], ["--metadata-dir", "x", "download"], ["--metadata-dir", "x", "init"]]
)
def test_a_wrong_call_leaves_with_1(arguments, capsys):
    assert run(arguments) == 1
    assert "usage: edgewise-tuf-client" in capsys.readouterr().err


def test_a_missing_root_file_is_named(tmp_path, capsys):
    assert run(["--metadata-dir", str(tmp_path), "init", str(tmp_path / "no.json")]) == 1
    assert "no.json cannot be read" in capsys.readouterr().err


def test_the_executable_runs_by_itself(tmp_path):
    with world.served(world.Repository(datetime.now(UTC).replace(microsecond=0))) as served:
        (tmp_path / "root").write_bytes(served.repository.published["root"][0])

        def call(*arguments: str) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-c", EXECUTABLE, "--metadata-dir", str(tmp_path / "metadata"), *arguments]
            return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)

        assert call("init", str(tmp_path / "root")).returncode == 0
        assert call("--metadata-url", served.metadata_url, "refresh").returncode == 0
        served.repository.lies["timestamp.json"] = b"{}"
        refused = call("--metadata-url", served.metadata_url, "refresh")
        assert refused.returncode == 1
        assert re.fullmatch(r"edgewise-tuf-client: the timestamp .* \[metadata_malformed\]\n", refused.stderr)


@pytest.mark.campaign
def test_the_public_conformance_suite_passes_without_an_expected_failure(tmp_path):
    suite = _public_suite()
    if suite is None:
        pytest.skip("the tuf-conformance suite is not installed; EDGEWISE_TUF_CONFORMANCE may name a checkout of it")
    client = tmp_path / "edgewise-tuf-client"
    client.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{EXECUTABLE}" "$@"\n')
    client.chmod(0o755)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--entrypoint", str(client), str(suite)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=1800, cwd=suite.parent)
    assert done.returncode == 0, done.stdout[-4000:]
    assert not re.search(r"\d+ x(failed|passed)", done.stdout), done.stdout[-200:]


def _public_suite() -> Path | None:
    named = os.environ.get("EDGEWISE_TUF_CONFORMANCE")
    if named:
        return Path(named).resolve() / "tuf_conformance"
    found = importlib.util.find_spec("tuf_conformance")
    places: Sequence[str] = (found.submodule_search_locations if found else None) or []
    return Path(places[0]) if places else None
