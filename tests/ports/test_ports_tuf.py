"""The TUF client against every attack on it that a repository or a network can make."""

from __future__ import annotations

import importlib.util
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edgewise.ports import LinkDown, MemoryClock
from edgewise.ports._patience import TooSlow
from edgewise.ports._tuf import TufClient, local_name, start_trust
from edgewise.ports._tuf_fetch import HttpFetcher, MemoryFetcher, NotServed, read_bounded
from edgewise.ports._tuf_updater import TufBounds
from edgewise.wire import EdgewiseError, NotNow, NotTrusted, NotValid

_SPEC = importlib.util.spec_from_file_location("tuf_repository", Path(__file__).parents[1] / "tuf_repository.py")
assert _SPEC is not None
assert _SPEC.loader is not None
world = importlib.util.module_from_spec(_SPEC)
sys.modules["tuf_repository"] = world
_SPEC.loader.exec_module(world)
NOW, ONLINE = world.NOW, world.ONLINE
LATER = timedelta(days=60)


class Device:
    """A client with a folder and a clock of its own; each call is a new client, as after a restart."""

    def __init__(self, served: Any, folder: Path) -> None:
        self.served = served
        self.repository = served.repository
        self.folder = folder / "metadata"
        self.targets = folder / "targets"
        self.clock = MemoryClock(NOW)
        self.bounds = TufBounds()
        self.fetcher = HttpFetcher()
        start_trust(self.folder, self.repository.published["root"][0])

    def client(self) -> TufClient:
        return TufClient(
            self.folder, self.served.metadata_url, clock=self.clock, bounds=self.bounds, fetcher=self.fetcher
        )

    def refresh(self) -> dict[str, int]:
        return {state.role: state.version for state in self.client().refresh()}

    def download(self, name: str) -> bytes:
        return self.client().download(name, self.served.target_url, self.targets).read_bytes()

    def held(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.folder.glob("*.json")}


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    with world.served(world.Repository()) as served:
        device = Device(served, tmp_path)
        yield device
        device.fetcher.close()


def refused(act: Callable[[], object], code: str, *words: str, family: type[EdgewiseError] = NotTrusted) -> None:
    """The act is refused with this code, and the sentence has these words."""
    with pytest.raises(family) as caught:
        act()
    assert caught.value.code == code, caught.value
    for word in words:
        assert word in str(caught.value)


def test_a_refresh_brings_the_four_roles_and_says_until_when_they_hold(device):
    states = device.client().refresh()
    assert [(state.role, state.version) for state in states] == [
        ("root", 1),
        ("timestamp", 1),
        ("snapshot", 1),
        ("targets", 1),
    ]
    assert all(state.expires == device.repository.expires for state in states)
    assert sorted(device.held()) == ["root.json", "snapshot.json", "targets.json", "timestamp.json"]


def test_a_refresh_with_nothing_new_costs_two_requests_and_under_4_kb(device):
    device.refresh()
    device.served.asked.clear()
    device.served.sent_bytes = 0
    device.refresh()
    assert device.served.asked == ["2.root.json", "timestamp.json"]
    assert device.served.sent_bytes < 4096


def test_a_refresh_is_one_connection(device):
    device.refresh()
    assert len(device.served.peers) == 1


def test_a_refresh_with_nothing_new_writes_nothing(device):
    device.refresh()
    before = {path: path.stat().st_ino for path in device.folder.rglob("*.json")}
    device.refresh()
    assert {path: path.stat().st_ino for path in device.folder.rglob("*.json")} == before


def older_timestamp(repository: Any) -> None:
    repository.lies["timestamp.json"] = repository.published["timestamp"][0]


def older_snapshot(repository: Any) -> None:
    repository.publish("snapshot", version=1)
    repository.publish("timestamp")


def older_targets(repository: Any) -> None:
    repository.publish("targets", version=1)
    repository.publish("snapshot", "timestamp")


def dropped_role(repository: Any) -> None:
    del repository.snapshot.meta["targets.json"]
    repository.publish("snapshot", "timestamp")


def mixed_snapshot(repository: Any) -> None:
    repository.publish("snapshot", "timestamp")
    repository.lies["3.snapshot.json"] = repository.published["snapshot"][1]


def mixed_targets(repository: Any) -> None:
    repository.publish(*ONLINE)
    repository.lies["3.targets.json"] = repository.published["targets"][0]


def other_bytes(repository: Any) -> None:
    repository.with_hashes = True
    repository.publish(*ONLINE)
    repository.lies["3.targets.json"] = repository.published["targets"][-1].replace(b'"sig"', b'"sIg"')


def wrong_root(repository: Any) -> None:
    repository.publish("root", version=3)
    repository.lies["2.root.json"] = repository.published["root"][-1]


def unsigned(role: str) -> Callable[[Any], None]:
    def attack(repository: Any) -> None:
        repository.signers[role].clear()
        repository.publish(*(("root",) if role == "root" else ONLINE))

    return attack


def stolen_root(repository: Any) -> None:
    repository.signers["root"].clear()
    repository.rotate("root")
    repository.publish("root")


def far_ahead(role: str) -> Callable[[Any], None]:
    def attack(repository: Any) -> None:
        repository.publish(role, version=20_000_000)
        repository.publish(*ONLINE[ONLINE.index(role) + 1 :])

    return attack


def no_json(repository: Any) -> None:
    repository.lies["timestamp.json"] = b"\x00 not json"


def deep_json(repository: Any) -> None:
    repository.lies["timestamp.json"] = b"[" * 8000 + b"]" * 8000


def other_type(repository: Any) -> None:
    repository.add_key("timestamp", next(iter(repository.signers["snapshot"].values())))
    repository.publish("root")
    repository.lies["timestamp.json"] = repository.published["snapshot"][-1]


ATTACKS = [
    ("rollback of the timestamp", older_timestamp, "metadata_rollback", ["timestamp version 1", "needs 2"]),
    ("rollback of the snapshot", older_snapshot, "metadata_rollback", ["snapshot version 1", "needs 2"]),
    ("rollback of the targets", older_targets, "metadata_rollback", ["targets version 1", "needs 2"]),
    ("a role dropped from the snapshot", dropped_role, "metadata_rollback", ["leaves out role targets", "version 2"]),
    ("an older snapshot mixed in", mixed_snapshot, "metadata_mismatch", ["snapshot version 2", "version 3"]),
    ("older targets mixed in", mixed_targets, "metadata_mismatch", ["targets version 1", "version 3"]),
    ("targets with other bytes", other_bytes, "metadata_mismatch", ["targets has", "SHA-256", "sha256"]),
    ("a root out of order", wrong_root, "metadata_mismatch", ["root version 3", "version 2"]),
    ("an unsigned root", unsigned("root"), "metadata_unsigned", ["root version 2", "0 valid", "the 1", "nobody"]),
    ("an unsigned timestamp", unsigned("timestamp"), "metadata_unsigned", ["timestamp version 3", "0 valid"]),
    ("an unsigned snapshot", unsigned("snapshot"), "metadata_unsigned", ["snapshot version 3", "0 valid"]),
    ("unsigned targets", unsigned("targets"), "metadata_unsigned", ["targets version 3", "0 valid"]),
    ("a root by new keys only", stolen_root, "metadata_unsigned", ["root version 2", "0 valid", "allowed are"]),
    ("fast-forward of the timestamp", far_ahead("timestamp"), "metadata_fast_forward", ["timestamp version 20000000"]),
    ("fast-forward of the snapshot", far_ahead("snapshot"), "metadata_fast_forward", ["snapshot version 20000000"]),
    ("fast-forward of the targets", far_ahead("targets"), "metadata_fast_forward", ["targets version 20000000"]),
    ("metadata that are no JSON", no_json, "metadata_malformed", ["timestamp"]),
    ("metadata nested without end", deep_json, "metadata_malformed", ["timestamp"]),
    ("one role's metadata as another's", other_type, "metadata_malformed", ["Expected 'timestamp', got 'snapshot'"]),
]


@pytest.mark.parametrize(("attack", "code", "words"), [row[1:] for row in ATTACKS], ids=[row[0] for row in ATTACKS])
def test_an_attack_is_refused_with_a_reason_and_the_attacked_role_stays(device, attack, code, words):
    device.repository.publish(*ONLINE)
    device.refresh()
    before = device.held()
    attack(device.repository)
    refused(device.refresh, code, *words)
    role = words[0].split()[0]
    if f"{role}.json" in before:
        assert device.held()[f"{role}.json"] == before[f"{role}.json"]


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets"])
def test_a_frozen_role_is_refused_as_expired_and_nothing_else(device, role):
    device.refresh()
    for name in ("root", *ONLINE):
        if name != role:
            device.repository.documents[name].signed.expires = NOW + 2 * LATER
    device.repository.publish("root", *ONLINE)
    device.clock.advance(LATER.total_seconds())
    refused(device.refresh, "metadata_expired", f"{role} version 2 expired at 2026-07-01", "now it is 2026-07-31")


def test_a_cut_off_device_learns_of_it_by_expiry_and_goes_on_when_it_ends(device):
    device.refresh()
    device.clock.advance(LATER.total_seconds())
    refused(device.refresh, "metadata_expired", "root version 1")
    device.repository.documents["root"].signed.expires = NOW + 2 * LATER
    for name in ONLINE:
        device.repository.documents[name].signed.expires = NOW + 2 * LATER
    device.repository.publish("root", *ONLINE)
    assert device.refresh() == {"root": 2, "timestamp": 2, "snapshot": 2, "targets": 2}


def test_dropped_requests_are_not_now_and_change_nothing(device):
    device.refresh()
    before = device.held()
    device.repository.publish(*ONLINE)
    lost = TufClient(
        device.folder, "memory:/", clock=device.clock, fetcher=MemoryFetcher({}, lose=lambda what: what == "request")
    )
    refused(lost.refresh, "link_down", family=NotNow)
    assert device.held() == before


def test_every_key_may_rotate_while_a_device_is_offline(device):
    device.refresh()
    for _ in range(5):
        for role in ("root", *ONLINE):
            old = dict(device.repository.signers[role])
            device.repository.rotate(role)
            if role == "root":
                device.repository.signers[role].update(old)
        device.repository.publish("root")
        for key in old if role == "root" else ():
            del device.repository.signers["root"][key]
        device.repository.publish(*ONLINE)
    assert device.refresh() == {"root": 6, "timestamp": 6, "snapshot": 6, "targets": 6}


def test_new_keys_bring_a_repository_back_after_a_fast_forward(device):
    device.repository.publish("timestamp", version=9_999_999)
    assert device.refresh()["timestamp"] == 9_999_999
    device.repository.rotate("timestamp")
    device.repository.publish("root")
    device.repository.publish("timestamp", version=2)
    assert device.refresh()["timestamp"] == 2


def test_more_root_versions_than_one_refresh_may_take_are_reported(device):
    for _ in range(4):
        device.repository.publish("root")
    device.bounds = TufBounds(root_rotations_max=3)
    refused(device.refresh, "root_rotations", "3 new root versions", family=NotNow)
    assert device.refresh()["root"] == 5


def test_a_root_that_was_saved_but_not_yet_named_is_used_without_asking_again(device):
    device.refresh()
    device.repository.publish("root")
    device.refresh()
    (device.folder / "root.json").write_bytes(device.repository.published["root"][0])  # as a power cut leaves it
    device.served.asked.clear()
    assert device.refresh()["root"] == 2
    assert "2.root.json" not in device.served.asked


def endless(handler: BaseHTTPRequestHandler, data: bytes) -> None:
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(data)
    while True:  # ends when the client hangs up
        handler.wfile.write(b" " * 65536)


@pytest.mark.parametrize("name", ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"])
def test_endless_metadata_are_cut_off(device, name):
    device.served.moods[name] = endless
    device.bounds = TufBounds(root_bytes_max=9000, snapshot_bytes_max=9000, targets_bytes_max=9000)
    refused(device.refresh, "endless_data", name.split(".")[-2], "at most")


def test_a_length_that_the_repository_signs_is_bounded_too(device):
    device.repository.timestamp.snapshot_meta.length = 1 << 40
    device.repository.publish("timestamp")
    refused(device.refresh, "metadata_too_long", "snapshot", str(1 << 40), "2000000")


def trickle(before_headers: bool) -> Callable[[BaseHTTPRequestHandler, bytes], None]:
    def mood(handler: BaseHTTPRequestHandler, data: bytes) -> None:
        raw = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n" % len(data)
        handler.wfile.write(raw + (b"" if before_headers else b"\r\n"))
        while not threading.Event().wait(0.005):  # never silent for long, never fast; ends when the client hangs up
            handler.wfile.write(b"1" if not before_headers else b"X-Slow: 1\r\n")

    return mood


@pytest.mark.parametrize("before_headers", [True, False], ids=["in the headers", "in the body"])
def test_an_answer_that_trickles_is_given_up(device, before_headers):
    device.fetcher = HttpFetcher(stall_s_max=0.2, rate_min_bytes_s=2000)
    device.served.moods["timestamp.json"] = trickle(before_headers)
    refused(device.refresh, "slow_retrieval", "2000 bytes/s are needed", "bytes in", family=NotNow)


def test_a_silent_server_is_given_up(device):
    device.fetcher = HttpFetcher(stall_s_max=0.1)
    device.served.moods["timestamp.json"] = lambda _handler, _data: device.served.gone.wait(5)
    refused(device.refresh, "slow_retrieval", "gave 0 bytes", family=NotNow)


def test_a_target_is_fetched_once_while_its_bytes_stay_the_same(device):
    device.repository.add_target("targets", "a/b.bin", b"network")
    device.repository.publish(*ONLINE)
    assert device.download("a/b.bin") == b"network"
    device.served.asked.clear()
    assert device.download("a/b.bin") == b"network"
    assert not [name for name in device.served.asked if name.endswith("b.bin")]
    device.repository.add_target("targets", "a/b.bin", b"network 2")
    device.repository.publish(*ONLINE)
    assert device.download("a/b.bin") == b"network 2"
    assert len(list(device.targets.iterdir())) == 1


def test_a_target_with_other_bytes_is_thrown_away(device):
    target = device.repository.add_target("targets", "b.bin", b"network")
    device.repository.publish(*ONLINE)
    device.repository.files[f"{target.hashes['sha256']}.b.bin"] = b"malware"
    refused(lambda: device.download("b.bin"), "target_corrupt", "b.bin", target.hashes["sha256"], "7 bytes")
    assert list(device.targets.iterdir()) == []


def test_an_endless_target_is_cut_off_at_its_length(device):
    target = device.repository.add_target("targets", "b.bin", b"network")
    device.repository.publish(*ONLINE)
    device.served.moods[f"{target.hashes['sha256']}.b.bin"] = endless
    refused(lambda: device.download("b.bin"), "endless_data", "b.bin", "7 at most")
    assert list(device.targets.iterdir()) == []


def test_a_target_over_the_bound_is_not_even_asked_for(device):
    device.repository.add_target("targets", "b.bin", b"network")
    device.repository.publish(*ONLINE)
    device.bounds = TufBounds(target_bytes_max=6)
    refused(lambda: device.download("b.bin"), "target_too_long", "7 bytes", "6 are the most")
    assert not [name for name in device.served.asked if name.endswith("b.bin")]


def test_a_target_that_nobody_vouches_for_is_refused(device):
    refused(lambda: device.download("b.bin"), "target_unknown", "b.bin")


BIG = bytes(range(256)) * 2048


def break_off(handler: BaseHTTPRequestHandler, data: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data[:200_000])
    handler.close_connection = True


def broken_download(device: Device) -> str:
    """A download that broke off; comes back with the file's name on the server."""
    target = device.repository.add_target("targets", "b.bin", BIG)
    device.repository.publish(*ONLINE)
    name = f"{target.hashes['sha256']}.b.bin"
    device.served.moods[name] = break_off
    with pytest.raises(LinkDown):
        device.download("b.bin")
    (part,) = device.targets.glob(".*.part")
    assert part.stat().st_size == 200_000
    return name


def test_a_download_goes_on_where_it_broke_off(device):
    name = broken_download(device)
    del device.served.moods[name]
    device.served.sent_bytes = 0
    assert device.download("b.bin") == BIG
    assert device.served.ranges[-1] == "bytes=200000-"
    assert [path.name for path in device.targets.iterdir()] == ["b.bin"]


def test_a_download_goes_on_without_ranges_too(device):
    name = broken_download(device)

    def whole(handler: BaseHTTPRequestHandler, data: bytes) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    device.served.moods[name] = whole
    assert device.download("b.bin") == BIG


def test_a_poisoned_part_file_costs_one_more_download_and_no_more(device):
    name = broken_download(device)
    del device.served.moods[name]
    (part,) = device.targets.glob(".*.part")
    part.write_bytes(b"x" * 200_000)
    assert device.download("b.bin") == BIG
    assert device.served.ranges[-2:] == ["bytes=200000-", None]


def test_part_files_of_older_bytes_go_away(device):
    broken_download(device)
    device.repository.add_target("targets", "b.bin", b"network 2")
    device.repository.publish(*ONLINE)
    device.download("b.bin")
    assert [path.name for path in device.targets.iterdir()] == ["b.bin"]


@pytest.mark.parametrize("name", ["..", ".", "../up", "/etc/x", "a b", "x" * 1000, "%2e%2e/up", "ü"])
def test_a_target_stays_inside_its_folder_whatever_its_name(name, tmp_path):
    path = tmp_path / local_name(name)
    assert path.parent == tmp_path
    assert path.name not in ("", ".", "..")
    path.write_bytes(b"fits")


def shared_role(repository: Any) -> None:
    """Two parents ask for a role `release` under keys of their own; it is signed by the first one's key only."""
    repository.delegate("targets", "parent-a", "a/*")
    repository.delegate("targets", "parent-b", "b/*")
    repository.delegate("parent-a", "release", "a/*")
    theirs = repository.delegate("parent-b", "release", "b/*")
    del repository.signers["release"][theirs.public_key.keyid]
    repository.add_target("release", "a/x", b"vouched for")
    repository.add_target("release", "b/x", b"not vouched for")
    repository.publish("release", "parent-a", "parent-b", *ONLINE)


def test_a_role_that_one_delegator_trusts_is_checked_again_for_another(device):
    shared_role(device.repository)
    client = device.client()
    assert client.download("a/x", device.served.target_url, device.targets).read_bytes() == b"vouched for"
    refused(lambda: client.find("b/x"), "metadata_unsigned", "release version 1", "parent-b asks for", "0 valid")
    assert [path.name for path in device.targets.iterdir()] == ["a%2Fx"]


def test_a_role_of_the_cache_is_checked_against_the_delegator_that_asks_now(device):
    shared_role(device.repository)
    device.client().find("a/x")
    refused(lambda: device.client().find("b/x"), "metadata_unsigned", "parent-b asks for")


def test_a_delegated_role_that_the_snapshot_does_not_list_is_not_even_fetched(device):
    device.repository.delegate("targets", "team", "team/*")
    device.repository.publish("team", "targets")
    del device.repository.snapshot.meta["team.json"]
    device.repository.publish("snapshot", "timestamp")
    refused(lambda: device.client().find("team/x"), "metadata_missing", "role team", "snapshot version 2")
    assert "1.team.json" not in device.served.asked


def test_a_maze_of_delegations_is_left_at_the_bound(device):
    last = "targets"
    for number in range(6):
        device.repository.delegate(last, f"role{number}")
        last = f"role{number}"
    device.repository.publish(*(f"role{number}" for number in range(6)), *ONLINE)
    device.bounds = TufBounds(delegations_max=4)
    refused(lambda: device.client().find("x"), "delegations_too_many", "4 delegations")


def test_what_a_role_says_about_a_target_comes_back_whole(device):
    target = device.repository.add_target("targets", "b.bin", b"network")
    target.unrecognized_fields["custom"] = {"use_case": "screws"}
    device.repository.publish(*ONLINE)
    found = device.client().find("b.bin")
    assert (found.size_bytes, dict(found.custom)) == (7, {"use_case": "screws"})


def test_trust_starts_only_from_a_root_that_signs_itself(tmp_path):
    repository = world.Repository()
    refused(lambda: start_trust(tmp_path / "a", b"{}"), "metadata_malformed")
    repository.rewrite("root", lambda document: document["signatures"].clear())
    refused(lambda: start_trust(tmp_path / "b", repository.published["root"][0]), "metadata_unsigned", "root version 1")
    assert list(tmp_path.iterdir()) == []


def test_trust_is_not_replaced_by_another_root(device):
    start_trust(device.folder, device.repository.published["root"][0])  # the same one again is fine
    other = world.Repository().published["root"][0]
    refused(lambda: start_trust(device.folder, other), "root_exists", family=NotValid)


def test_a_folder_without_trust_asks_for_a_root(tmp_path):
    refused(TufClient(tmp_path, "http://127.0.0.1:1/").refresh, "root_missing", family=NotValid)


def test_a_failed_refresh_leaves_nothing_older_to_answer_for_it(device):
    device.repository.add_target("targets", "b.bin", b"network")
    device.repository.publish(*ONLINE)
    client = device.client()
    client.refresh()
    device.clock.advance(LATER.total_seconds())
    refused(client.refresh, "metadata_expired")
    refused(lambda: client.find("b.bin"), "metadata_expired")


@pytest.fixture(params=["http", "memory"])
def static(request: pytest.FixtureRequest) -> Iterator[tuple[Any, str]]:
    """A fetcher and the address of a file `b.bin` with the bytes `0123456789`."""
    if request.param == "memory":
        yield MemoryFetcher({"memory:/b.bin": b"0123456789"}), "memory:/b.bin"
        return
    with world.served(world.Repository()) as served:
        served.repository.files["b.bin"] = b"0123456789"
        fetcher = HttpFetcher()
        yield fetcher, f"{served.target_url}/b.bin"
        fetcher.close()


def test_a_fetcher_gives_a_file_from_any_byte_on(static):
    fetcher, url = static
    for offset in (0, 1, 9):
        with closing(fetcher.open(url, offset=offset)) as pieces:
            assert b"".join(pieces) == b"0123456789"[offset:]


def test_a_fetcher_says_when_a_file_is_not_there(static):
    fetcher, url = static
    with pytest.raises(NotServed), closing(fetcher.open(url + "x")) as pieces:
        list(pieces)


def test_a_fetcher_reads_no_further_than_the_bound(static):
    fetcher, url = static
    assert read_bounded(fetcher, url, 10, "the file") == b"0123456789"
    refused(lambda: read_bounded(fetcher, url, 9, "the file"), "endless_data", "the file", "9 at most")


@pytest.mark.parametrize("url", ["", "ftp://x/y", "http://", "http://x:99999/", "file:///etc/passwd"])
def test_what_is_no_address_is_said_so(url):
    with closing(HttpFetcher().open(url)) as pieces:
        refused(lambda: next(pieces), "url_invalid", family=NotValid)


def test_a_server_that_is_not_there_is_not_now():
    with closing(HttpFetcher().open("http://127.0.0.1:1/x")) as pieces, pytest.raises(LinkDown, match=r"127\.0\.0\.1"):
        next(pieces)


def test_a_server_in_trouble_and_a_redirect_are_not_now(device):
    for status in (500, 503, 302):
        device.served.moods["timestamp.json"] = lambda handler, _data, status=status: handler.send_error(status)
        refused(device.refresh, "link_down", f"HTTP {status}", family=NotNow)


def test_a_fetcher_goes_through_the_proxy_that_the_environment_names(device, monkeypatch):
    monkeypatch.setenv("http_proxy", device.served.url)
    monkeypatch.setenv("no_proxy", "")
    fetcher = HttpFetcher()
    device.repository.files["b.bin"] = b"by proxy"
    assert read_bounded(fetcher, f"{device.served.url}/targets/b.bin", 10, "it") == b"by proxy"
    fetcher.close()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for 127.0.0.1 with its key, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "server.pem"
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(secret + made.public_bytes(pem))
    return path


def test_a_fetcher_speaks_tls_and_checks_who_answers(certificate):
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    with world.served(world.Repository(), server) as served:
        served.repository.files["b.bin"] = b"by TLS"
        url = f"{served.target_url}/b.bin"
        fetcher = HttpFetcher(tls=ssl.create_default_context(cafile=str(certificate)))
        assert read_bounded(fetcher, url, 10, "it") == b"by TLS"
        fetcher.close()
        stranger = HttpFetcher()
        refused(lambda: read_bounded(stranger, url, 10, "it"), "link_down", "CERTIFICATE_VERIFY_FAILED", family=NotNow)
        stranger.close()


def test_slowness_is_told_from_a_dead_link():
    assert issubclass(TooSlow, NotNow)
    assert not issubclass(TooSlow, LinkDown)
