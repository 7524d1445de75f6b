"""A small TUF repository in memory, and a static server for it that can misbehave.

Roles are changed in place and then published, which signs them and gives them their next version; an attack changes
what was published afterwards.
"""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

TOP = ("root", "timestamp", "snapshot", "targets")
ONLINE = ("targets", "snapshot", "timestamp")
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
Mood = Callable[[BaseHTTPRequestHandler, bytes], None]


class Repository:
    """The four top-level roles at version 1, one Ed25519 key each, valid for 30 days from now."""

    def __init__(self, now: datetime = NOW) -> None:
        self.documents: dict[str, Metadata[Any]] = {}
        self.published: dict[str, list[bytes]] = {}
        self.signers: dict[str, dict[str, CryptoSigner]] = {}
        self.files: dict[str, bytes] = {}
        self.lies: dict[str, bytes] = {}  # metadata files that are served whatever was published
        self.with_hashes = False
        self.expires = now + timedelta(days=30)
        for name, kind in zip(TOP, (Root, Timestamp, Snapshot, Targets), strict=True):
            self.documents[name] = Metadata(kind(expires=self.expires))
        for name in TOP:
            self.add_key(name)
        self.publish("root", *ONLINE)

    @property
    def root(self) -> Root:
        return self.documents["root"].signed

    @property
    def timestamp(self) -> Timestamp:
        return self.documents["timestamp"].signed

    @property
    def snapshot(self) -> Snapshot:
        return self.documents["snapshot"].signed

    def role(self, name: str) -> Targets:
        return self.documents[name].signed

    def add_key(self, role: str, signer: CryptoSigner | None = None, *, by: str = "root") -> CryptoSigner:
        """A further key for a role; it signs from now on."""
        signer = signer or CryptoSigner.generate_ed25519()
        self.documents[by].signed.add_key(signer.public_key, role)
        self.signers.setdefault(role, {})[signer.public_key.keyid] = signer
        return signer

    def rotate(self, role: str) -> None:
        """New keys for a role, the old ones no longer count."""
        for key in list(self.root.roles[role].keyids):
            self.root.revoke_key(key, role)
        self.signers[role].clear()
        for _ in range(self.root.roles[role].threshold):
            self.add_key(role)

    def publish(self, *roles: str, version: int | None = None) -> None:
        """Sign the next version of each role, in this order, and name it in the snapshot or timestamp."""
        for role in roles:
            document = self.documents[role]
            done = self.published.setdefault(role, [])
            if version is not None:
                document.signed.version = version
            elif done:
                document.signed.version += 1
            document.signatures.clear()
            for signer in self.signers[role].values():
                document.sign(signer, append=True)
            data = document.to_bytes()
            done.append(data)
            meta = MetaFile(document.signed.version)
            if self.with_hashes:
                meta = MetaFile.from_data(document.signed.version, data, ["sha256"])
            if role == "snapshot":
                self.timestamp.snapshot_meta = meta
            elif role not in ("root", "timestamp"):
                self.snapshot.meta[f"{role}.json"] = meta

    def delegate(
        self, by: str, name: str, *paths: str, terminating: bool = False, expires: datetime | None = None
    ) -> CryptoSigner:
        """Delegate paths to a role, with a new key."""
        delegator = self.role(by)
        if delegator.delegations is None:
            delegator.delegations = Delegations({}, {})
        assert delegator.delegations.roles is not None
        delegator.delegations.roles[name] = DelegatedRole(name, [], 1, terminating, list(paths or ("*",)))
        self.documents.setdefault(name, Metadata(Targets(expires=expires or self.expires)))
        return self.add_key(name, by=by)

    def add_target(self, role: str, name: str, data: bytes) -> TargetFile:
        target = TargetFile.from_data(name, data, ["sha256"])
        self.role(role).targets[name] = target
        folder, slash, base = name.rpartition("/")
        self.files[f"{folder}{slash}{target.hashes['sha256']}.{base}"] = data
        self.files[name] = data
        return target

    def rewrite(self, role: str, change: Callable[[dict[str, Any]], None]) -> None:
        """Change the newest published document without signing it again."""
        document = json.loads(self.published[role][-1])
        change(document)
        self.published[role][-1] = json.dumps(document).encode()

    def metadata(self, name: str) -> bytes | None:
        """A metadata file by its name in the URL, such as ``2.root.json``."""
        if name in self.lies:
            return self.lies[name]
        stem = name.removesuffix(".json")
        version, dot, role = stem.partition(".")
        if dot and version.isdigit():
            for data in reversed(self.published.get(unquote(role), [])):
                if json.loads(data)["signed"]["version"] == int(version):
                    return data
            return None
        if stem != "timestamp" and self.root.consistent_snapshot:
            return None
        done = self.published.get(unquote(stem))
        return done[-1] if done else None


@dataclass
class Served:
    """A repository behind HTTP on this machine.

    Attributes:
        asked: paths in the order asked for, without the leading ``metadata/`` or ``targets/``.
        ranges: the Range header of each request, None if it had none.
        moods: what happens instead of an honest answer, by path.
        peers: the connections seen.
    """

    repository: Repository
    url: str = ""
    asked: list[str] = field(default_factory=list)
    ranges: list[str | None] = field(default_factory=list)
    moods: dict[str, Mood] = field(default_factory=dict)
    peers: set[Any] = field(default_factory=set)
    sent_bytes: int = 0
    gone: threading.Event = field(default_factory=threading.Event)

    @property
    def metadata_url(self) -> str:
        return f"{self.url}/metadata/"

    @property
    def target_url(self) -> str:
        return f"{self.url}/targets"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        kind, _, name = handler.path.removeprefix(self.url).lstrip("/").partition("/")
        self.asked.append(name)
        self.peers.add(handler.client_address)
        self.ranges.append(handler.headers.get("Range"))
        data = self.repository.metadata(name) if kind == "metadata" else self.repository.files.get(name)
        if name in self.moods:
            self.moods[name](handler, data or b"")
        elif data is None:
            handler.send_response(404)
            handler.send_header("Content-Length", "9")
            handler.end_headers()
            handler.wfile.write(b"not here\n")
        else:
            honest(handler, data)
            self.sent_bytes += len(data)


def honest(handler: BaseHTTPRequestHandler, data: bytes) -> None:
    """The whole file, or from the byte asked for."""
    asked = handler.headers.get("Range", "")
    start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
    handler.send_response(206 if asked else 200)
    if asked:
        handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
    handler.send_header("Content-Length", str(len(data) - start))
    handler.end_headers()
    handler.wfile.write(data[start:])


@contextlib.contextmanager
def served(repository: Repository, tls: ssl.SSLContext | None = None) -> Iterator[Served]:
    """The repository on a free port until the block ends; over TLS if a context is given."""
    state = Served(repository)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            with contextlib.suppress(ConnectionError):  # a client that hangs up on an attack is what we want
                state.answer(self)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    state.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.gone.set()
        server.shutdown()
        server.server_close()
        thread.join()
