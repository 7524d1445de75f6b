"""New documents of the release repository: the first ones, and each next version, signed by whoever has the keys."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from securesystemslib.signer import Signer  # type: ignore[attr-defined]
from tuf.api.metadata import (  # type: ignore[attr-defined]  # its public names come from a private module
    DelegatedRole,
    Delegations,
    Key,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from edgewise.trust._roles import (
    DIRECTOR,
    ROOT,
    SNAPSHOT,
    TARGETS,
    TIMESTAMP,
    Validity,
    manifest_path,
    parse,
    patterns,
    release_path,
    role_of,
    signed_by,
    use_case_of,
)
from edgewise.wire import Director, NotValid, Release, encode

RELEASES_MAX = 32  # of a use case that stay vouched for; each costs every device some 400 bytes a refresh


@dataclass(frozen=True, kw_only=True, slots=True)
class RoleKeys:
    """Whose signatures a role needs, and how many of them."""

    keys: tuple[Key, ...]
    threshold: int = 1

    def check(self, role: str) -> None:
        """Raises NotValid where the threshold can never be met."""
        count = len({key.keyid for key in self.keys})
        if not 1 <= self.threshold <= count:
            raise NotValid(
                f"role {role} would need {self.threshold} of {count} keys; the threshold goes from 1 to the number of "
                "different keys",
                code="threshold_invalid",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """What becomes different in the root or the targets role; what is not named stays."""

    roles: Mapping[str, RoleKeys] = field(default_factory=dict)
    director: Director | None = None


def first_root(roles: Mapping[str, RoleKeys], signers: Iterable[Signer], *, now: datetime, validity: Validity) -> bytes:
    """The root that devices pin: the keys of all four top-level roles.

    Raises:
        NotValid: a threshold that can never be met.
    """
    root = Root(version=1, expires=validity.until(ROOT, now), consistent_snapshot=True)
    _set_root_keys(root, roles)
    return signed_by(root, signers)


def next_root(
    current: bytes, roles: Mapping[str, RoleKeys], signers: Iterable[Signer], *, now: datetime, validity: Validity
) -> bytes:
    """The root after this one; it needs the signatures of the old root keys and of the new ones."""
    root = copy.deepcopy(parse(current, ROOT).signed)
    root.version += 1
    root.expires = validity.until(ROOT, now)
    _set_root_keys(root, roles)
    return signed_by(root, signers)


def next_targets(
    current: bytes | None, change: Change, signers: Iterable[Signer], *, now: datetime, validity: Validity
) -> bytes:
    """The top-level targets: the director, and which keys sign the releases of each use case.

    Args:
        current: None makes the first version.
        change: its roles are use cases' roles (`role_of`).
    """
    targets = _next(current, TARGETS)
    targets.expires = validity.until(TARGETS, now)
    if change.director is not None:
        targets.targets[DIRECTOR] = TargetFile.from_data(DIRECTOR, encode(change.director), ["sha256"])
    for role, keys in change.roles.items():
        _delegate(targets, role, keys)
    return signed_by(targets, signers)


def next_releases(
    current: bytes | None,
    use_case: str,
    signers: Iterable[Signer],
    *,
    now: datetime,
    validity: Validity,
    add: Mapping[str, bytes] | None = None,
    withdraw: Iterable[int] = (),
) -> bytes:
    """A use case's releases: some more targets, or some less.

    Args:
        add: target files by path, as `release_files` makes them. Over the bound the oldest versions leave.
        withdraw: versions that are no longer vouched for.
    """
    role = role_of(use_case)
    targets = _next(current, role)
    targets.expires = validity.until(role, now)
    for path, data in (add or {}).items():
        targets.targets[path] = TargetFile.from_data(path, data, ["sha256"])
    gone = set(withdraw) | set(sorted(versions_in(targets, use_case))[:-RELEASES_MAX])
    targets.targets = {path: target for path, target in targets.targets.items() if _version(path) not in gone}
    return signed_by(targets, signers)


def release_files(release: Release, manifests: Mapping[str, bytes]) -> dict[str, bytes]:
    """The target files of a release: its record, and the manifest of each variant.

    Args:
        manifests: by variant.
    """
    files = {release_path(release.use_case, release.version): encode(release)}
    for variant in release.bundles:
        files[manifest_path(release.use_case, release.version, variant)] = manifests[variant]
    return files


def versions_in(targets: Targets, use_case: str) -> set[int]:
    """The versions of releases that the role vouches for."""
    return {
        _version(path) for path in targets.targets if path.startswith(f"{use_case}/") and path.endswith("/release.json")
    }


def next_snapshot(
    current: bytes | None, versions: Mapping[str, int], signer: Signer, *, now: datetime, validity: Validity
) -> bytes:
    """The snapshot of these versions of the targets role and of each use case's role."""
    version = 0 if current is None else parse(current, SNAPSHOT).signed.version
    meta = {f"{role}.json": MetaFile(number) for role, number in versions.items()}
    snapshot = Snapshot(version=version + 1, expires=validity.until(SNAPSHOT, now), meta=meta)
    return signed_by(snapshot, [signer])


def next_timestamp(
    current: bytes | None, snapshot: bytes, signer: Signer, *, now: datetime, validity: Validity
) -> bytes:
    """The timestamp over this snapshot."""
    version = 0 if current is None else parse(current, TIMESTAMP).signed.version
    meta = MetaFile.from_data(parse(snapshot, SNAPSHOT).signed.version, snapshot, ["sha256"])
    timestamp = Timestamp(version=version + 1, expires=validity.until(TIMESTAMP, now), snapshot_meta=meta)
    return signed_by(timestamp, [signer])


def keys_of(delegator: Root | Targets, role: str) -> RoleKeys:
    """Who signs a role, as its delegator says."""
    found = delegator.get_delegated_role(role)
    return RoleKeys(keys=tuple(delegator.get_key(keyid) for keyid in found.keyids), threshold=found.threshold)


def delegated_roles(targets: Targets) -> Sequence[str]:
    """The use cases' roles that the targets role knows."""
    delegations = targets.delegations
    return () if delegations is None or delegations.roles is None else tuple(delegations.roles)


def _next(current: bytes | None, role: str) -> Targets:
    if current is None:
        return Targets(version=1)
    targets = copy.deepcopy(parse(current, role).signed)
    targets.version += 1
    assert isinstance(targets, Targets)
    return targets


def _set_root_keys(root: Root, roles: Mapping[str, RoleKeys]) -> None:
    for role, wanted in roles.items():
        wanted.check(role)
        for keyid in list(root.roles[role].keyids):
            root.revoke_key(keyid, role)
        for key in wanted.keys:
            root.add_key(key, role)
        root.roles[role].threshold = wanted.threshold


def _delegate(targets: Targets, role: str, wanted: RoleKeys) -> None:
    wanted.check(role)
    use_case = use_case_of(role)
    if use_case is None:
        raise NotValid(f"{role} is no use case's role; needs one such as {role_of('press')}", code="role_unknown")
    if targets.delegations is None:
        targets.delegations = Delegations({}, {})
    roles: dict[str, Any] = targets.delegations.roles or {}
    if role in roles:
        for keyid in list(roles[role].keyids):
            targets.revoke_key(keyid, role)
    roles[role] = DelegatedRole(role, [], wanted.threshold, True, patterns(use_case))
    targets.delegations.roles = roles
    for key in wanted.keys:
        targets.add_key(key, role)


def _version(path: str) -> int:
    parts = path.split("/")
    return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 0
