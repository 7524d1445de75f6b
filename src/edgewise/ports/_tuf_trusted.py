"""Which TUF metadata is trusted, and a sentence for each refusal: role, version seen, version needed.

The verification itself is python-tuf's. Here its verdicts get their reasons, and one more bound: how far a version may
jump at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from tuf.api import exceptions
from tuf.api.metadata import (  # type: ignore[attr-defined]  # its public names come from a private module
    Metadata,
    MetaFile,
    Root,
    Signed,
    Snapshot,
    Targets,
    Timestamp,
)
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet
from tuf.ngclient.config import EnvelopeType

from edgewise.wire import NotTrusted, digest

EXPIRED = "metadata_expired"  # a device warns on this one and goes on; every other refusal is an attack or a defect
Role = TypeVar("Role", bound=Signed)
Document = Metadata[Any]  # a role with its signatures


class Refusal(exceptions.RepositoryError):
    """A refusal with its reason, in python-tuf's family: after one of the cache it goes on to the network."""

    def __init__(self, text: str, code: str) -> None:
        super().__init__(text)
        self.code = code

    def as_error(self) -> NotTrusted:
        return NotTrusted(str(self), code=self.code)


@dataclass(frozen=True, kw_only=True, slots=True)
class RoleState:
    """A role as this client trusts it now."""

    role: str
    version: int
    expires: datetime


class TrustedRoles(TrustedMetadataSet):
    """The verified metadata of one refresh.

    Args:
        root: the root metadata to start from; it must be signed by itself.
        now: the moment against which expiry is judged, the same for the whole refresh.
        version_jump_max: how far a version may rise over the trusted one.
    Raises:
        Refusal: the root does not hold.
    """

    def __init__(self, root: bytes, now: datetime, version_jump_max: int) -> None:
        self._jump_max = version_jump_max
        try:
            super().__init__(root, EnvelopeType.METADATA)
        except exceptions.UnsignedMetadataError as error:
            raise _unsigned(Document.from_bytes(root), Document.from_bytes(root).signed, "root") from error
        except exceptions.RepositoryError as error:
            raise Refusal(f"the trusted root cannot be used: {error}", "metadata_malformed") from error
        self.reference_time = now

    def states(self) -> tuple[RoleState, ...]:
        """Every role that this refresh verified."""
        return tuple(
            RoleState(role=role, version=signed.version, expires=signed.expires)
            for role, signed in self._trusted_set.items()
        )

    def update_root(self, data: bytes) -> Root:
        needed = self.root.version + 1
        return self._explained(super().update_root, data, Root.type, self.root, _versions(needed))

    def update_timestamp(self, data: bytes) -> Timestamp:
        old = self.get(Timestamp.type)
        new = self._explained(super().update_timestamp, data, Timestamp.type, self.root, _not_older(old))
        if isinstance(old, Timestamp):
            self._refuse_jump("timestamp", old.version, new.version)
            self._refuse_jump("snapshot", old.snapshot_meta.version, new.snapshot_meta.version)
        return new

    def update_snapshot(self, data: bytes, trusted: bool | None = False) -> Snapshot:
        old = self.get(Snapshot.type)
        meta = self.timestamp.snapshot_meta
        new = self._explained(
            lambda body: super(TrustedRoles, self).update_snapshot(body, trusted),
            data,
            Snapshot.type,
            self.root,
            _complete(old, meta.version),
            meta,
        )
        if isinstance(old, Snapshot):
            for name, file in old.meta.items():
                self._refuse_jump(name.removesuffix(".json"), file.version, new.meta[name].version)
        return new

    def update_delegated_targets(self, data: bytes, role_name: str, delegator_name: str) -> Targets:
        delegator = self[delegator_name]
        assert isinstance(delegator, Root | Targets)
        meta = self.snapshot.meta.get(f"{role_name}.json")
        if meta is None:
            raise not_in_snapshot(role_name, self.snapshot.version)
        return self._explained(
            lambda body: super(TrustedRoles, self).update_delegated_targets(body, role_name, delegator_name),
            data,
            role_name,
            delegator,
            _versions(meta.version),
            meta,
            delegator_name,
        )

    def _explained(
        self,
        update: Callable[[bytes], Role],
        data: bytes,
        role: str,
        delegator: Root | Targets,
        why_version: Callable[[str, Signed], Refusal | None],
        meta: MetaFile | None = None,
        delegator_name: str = "root",
    ) -> Role:
        """Run one of python-tuf's checks; where it refuses, say why."""
        try:
            return update(data)
        except (exceptions.EqualVersionNumberError, Refusal):
            raise  # an equal timestamp is no refusal: nothing is new
        except exceptions.LengthOrHashMismatchError as error:
            raise _other_bytes(role, data, meta) from error
        except exceptions.ExpiredMetadataError as error:
            raise self._expired(role, data) from error
        except exceptions.UnsignedMetadataError as error:
            raise _unsigned(Document.from_bytes(data), delegator, role, delegator_name) from error
        except exceptions.BadVersionNumberError as error:
            raise why_version(role, _signed(data)) or Refusal(str(error), "metadata_version") from error
        except exceptions.RepositoryError as error:
            refusal = why_version(role, _signed(data)) if role == Snapshot.type and _is_snapshot(data) else None
            raise refusal or Refusal(f"the {role} metadata cannot be used: {error}", "metadata_malformed") from error

    def _expired(self, role: str, data: bytes) -> Refusal:
        # An older role may be the one that is over: a timestamp is refused because the root has expired.
        for name in (Root.type, Timestamp.type, Snapshot.type):
            if name in self and self[name].is_expired(self.reference_time):
                return _expired(name, self[name], self.reference_time)
        return _expired(role, _signed(data), self.reference_time)

    def _refuse_jump(self, role: str, old: int, new: int) -> None:
        if new - old > self._jump_max:
            raise Refusal(
                f"{role} version {new} is offered while version {old} is trusted; a step over {self._jump_max} would "
                "shut out every honest version after it (fast-forward): rotate the key that signed it",
                "metadata_fast_forward",
            )


def not_in_snapshot(role: str, snapshot: int) -> Refusal:
    """A delegated role that the snapshot does not list: its newest version cannot be known."""
    return Refusal(
        f"role {role} is delegated but snapshot version {snapshot} does not list it, so which version is newest "
        "cannot be known; the repository must publish a snapshot with it",
        "metadata_missing",
    )


def _signed(data: bytes) -> Signed:
    signed = Document.from_bytes(data).signed
    assert isinstance(signed, Signed)
    return signed


def _is_snapshot(data: bytes) -> bool:
    try:
        return isinstance(_signed(data), Snapshot)
    except exceptions.RepositoryError:
        return False


def _versions(needed: int) -> Callable[[str, Signed], Refusal | None]:
    def why(role: str, new: Signed) -> Refusal | None:
        if new.version == needed:
            return None
        return Refusal(
            f"{role} version {new.version} was served where version {needed} is needed; versions of two states of the "
            "repository are mixed, or an older one is replayed",
            "metadata_mismatch",
        )

    return why


def _not_older(old: Signed | None) -> Callable[[str, Signed], Refusal | None]:
    def why(_: str, new: Signed) -> Refusal | None:
        if not (isinstance(old, Timestamp) and isinstance(new, Timestamp)):
            return None
        if new.version < old.version:
            return _rollback("timestamp", new.version, old.version)
        if new.snapshot_meta.version < old.snapshot_meta.version:
            return _rollback("snapshot", new.snapshot_meta.version, old.snapshot_meta.version)
        return None

    return why


def _complete(old: Signed | None, needed: int) -> Callable[[str, Signed], Refusal | None]:
    def why(_: str, new: Signed) -> Refusal | None:
        assert isinstance(new, Snapshot)
        for name, file in old.meta.items() if isinstance(old, Snapshot) else ():
            role = name.removesuffix(".json")
            if name not in new.meta:
                return Refusal(
                    f"snapshot version {new.version} leaves out role {role}, trusted at version {file.version}; a role "
                    "may be emptied but never dropped",
                    "metadata_rollback",
                )
            if new.meta[name].version < file.version:
                return _rollback(role, new.meta[name].version, file.version)
        return _versions(needed)("snapshot", new)

    return why


def _rollback(role: str, seen: int, trusted: int) -> Refusal:
    return Refusal(
        f"{role} version {seen} is offered while version {trusted} is trusted, needs {trusted} or later (rollback); "
        "going back needs new keys from the root",
        "metadata_rollback",
    )


def _expired(role: str, signed: Signed, now: datetime) -> Refusal:
    return Refusal(
        f"{role} version {signed.version} expired at {signed.expires:%Y-%m-%dT%H:%M:%SZ}, now it is "
        f"{now:%Y-%m-%dT%H:%M:%SZ}; a newer one must be published, or this server keeps an old state alive (freeze)",
        EXPIRED,
    )


def _unsigned(metadata: Document, delegator: Root | Targets, role: str, by: str = "root") -> Refusal:
    result = delegator.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
    if result.verified and isinstance(metadata.signed, Root):
        # The old root's keys agree, so it is the new root that lacks its own.
        result = metadata.signed.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
        by = "itself"
    return Refusal(
        f"{role} version {metadata.signed.version} has {len(result.signed)} valid signatures of the {result.threshold} "
        f"that {by} asks for; signed by {_short(metadata.signatures)}, "
        f"allowed are {_short(result.signed | result.unsigned)}",
        "metadata_unsigned",
    )


def _short(keys: Mapping[str, object]) -> str:
    return ", ".join(sorted(key[:12] for key in keys)) or "nobody"


def _other_bytes(role: str, data: bytes, meta: MetaFile | None) -> Refusal:
    assert meta is not None, "only roles with a length and hashes can differ from them"
    needed = [f"{meta.length} bytes"] if meta.length is not None else []
    needed += [f"{name} {value}" for name, value in (meta.hashes or {}).items()]
    return Refusal(
        f"{role} has {len(data)} bytes with SHA-256 {digest(data)}, needs {' and '.join(needed)}; "
        "it is not the file that the snapshot or timestamp names",
        "metadata_mismatch",
    )
