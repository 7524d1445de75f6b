"""The release repository as a keeper of keys sees it: nothing of the hub is taken on its word.

A hub in wrong hands could hand out a document with one more release in it, or an old one from before a withdrawal, and
wait for an honest signature. So every document is verified from a pinned root on, and may not be older than the last
one seen here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from edgewise.ports import replace_file
from edgewise.signer._evidence import HubReader
from edgewise.trust.roles import ONLINE, ROOT, TARGETS, follow_roots, is_signed, parse, use_case_of
from edgewise.wire import NotNow, NotTrusted, NotValid, canonical, loads

PINNED, SEEN = "root.json", "seen.json"


class Hub(HubReader, Protocol):
    """A hub that also takes answers."""

    def post(self, path: str, body: Any = None) -> Any: ...


class Desk:
    """Reads verified documents, hands in new ones.

    Args:
        hub: where the repository is published.
        folder: keeps the pinned root and what was seen; the first root seen is pinned where none is yet. None keeps
            nothing.
    """

    def __init__(self, hub: Hub, folder: Path | None = None) -> None:
        self.hub = hub
        self._folder = folder
        self._held: dict[str, bytes] = {}

    def state(self) -> dict[str, Any]:
        """What the hub says about the repository."""
        found = self.hub.get("/trust")
        assert isinstance(found, dict)
        return found

    def load(self) -> None:
        """Read and verify every role as it is published now.

        Raises:
            NotNow: there is no root yet. NotTrusted: a document does not hold, or is older than one seen here.
        """
        versions = {item["role"]: int(item["version"]) for item in self.state()["roles"]}
        if ROOT not in versions:
            raise NotNow("the hub has no root of trust yet; run `edgewise trust init`", code="no_root")
        pinned = self._pinned()
        first = parse(pinned, ROOT).signed.version
        root = follow_roots(pinned, [self._file(ROOT, version) for version in range(first + 1, versions[ROOT] + 1)])
        held = {ROOT: root, TARGETS: self._file(TARGETS, versions[TARGETS])}
        self._check(TARGETS, held[TARGETS], root)
        for role, version in versions.items():
            if use_case_of(role) is not None:
                held[role] = self._file(role, version)
        self._refuse_older(versions)
        self._held = held
        self._remember(versions)

    def document(self, role: str) -> bytes | None:
        """The published document of a role, verified; None where there is none.

        Raises:
            NotTrusted: the role's keys did not sign it.
        """
        if not self._held:
            self.load()
        body = self._held.get(role)
        if body is not None and use_case_of(role) is not None:
            self._check(role, body, self._held[TARGETS])
        return body

    def raw(self, role: str) -> bytes | None:
        """The published document whoever signed it: for a role whose old keys were just revoked."""
        if not self._held:
            self.load()
        return self._held.get(role)

    def publish(
        self, documents: Mapping[str, bytes], files: Mapping[str, bytes] | None = None, *, why: str = ""
    ) -> dict[str, Any]:
        """Hand in; comes back with ``published``, ``waiting``, ``releases`` and ``withdrawn``."""
        body = {
            "documents": {role: data.decode() for role, data in documents.items()},
            "files": {path: data.decode() for path, data in (files or {}).items()},
            "why": why,
        }
        self._held = {}
        done = self.hub.post("/trust/publish", body)
        assert isinstance(done, dict)
        if self._folder is not None and ROOT in documents and parse(documents[ROOT], ROOT).signed.version == 1:
            self._pin(documents[ROOT])
        self._remember(done["published"])
        return done

    def waiting(self, role: str) -> bytes | None:
        """A document that lacks signatures; None where none waits."""
        if all(item["role"] != role for item in self.state()["waiting"]):
            return None
        return self.hub.get_bytes(f"/trust/waiting/{role}")

    def _check(self, role: str, body: bytes, delegator: bytes) -> None:
        if not is_signed(body, role, delegator):
            raise NotTrusted(
                f"the hub's {role} metadata are not signed by the keys of that role; look at the hub before signing "
                "anything more",
                code="metadata_unsigned",
            )

    def _file(self, role: str, version: int) -> bytes:
        body = self.hub.get_bytes(f"/tuf/metadata/{version}.{role}.json")
        if parse(body, role).signed.version != version:
            raise NotTrusted(f"the hub's {role} metadata are not version {version}", code="metadata_version")
        return body

    def _pinned(self) -> bytes:
        file = None if self._folder is None else self._folder / PINNED
        if file is not None and file.exists():
            return file.read_bytes()
        body = self._file(ROOT, 1)
        self._pin(body)
        return body

    def _pin(self, body: bytes) -> None:
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            replace_file(self._folder / PINNED, body)

    def _seen(self) -> dict[str, int]:
        file = None if self._folder is None else self._folder / SEEN
        if file is None or not file.exists():
            return {}
        value = loads(file.read_bytes())
        if not isinstance(value, dict):
            raise NotValid(f"{file} is damaged; remove it after looking at the hub", code="seen_damaged")
        return value

    def _refuse_older(self, versions: Mapping[str, int]) -> None:
        for role, version in self._seen().items():
            if versions.get(role, 0) < version:
                raise NotTrusted(
                    f"the hub publishes {role} version {versions.get(role, 0)}, version {version} was seen here; "
                    "signing on top of an old one would bring back what was withdrawn since. If the hub was restored "
                    f"from a backup, look at it and remove {SEEN}",
                    code="metadata_rollback",
                )

    def _remember(self, versions: Mapping[str, int]) -> None:
        seen = self._seen()
        # Snapshot and timestamp are the hub's own: they vouch for nothing that is signed here.
        newer = {role: max(version, seen.get(role, 0)) for role, version in versions.items() if role not in ONLINE}
        if self._folder is not None and not newer.items() <= seen.items():
            replace_file(self._folder / SEEN, canonical({**seen, **newer}))
