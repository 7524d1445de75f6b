"""The release repository (TUF): what the offline keys signed is checked and published; snapshot and timestamp follow.

The hub holds no key that vouches for a release (invariant 5). It refuses what devices would refuse, so that a mistake
is found where somebody can correct it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import sqlalchemy as sa

from edgewise.hub import audit, releases
from edgewise.hub.online_keys import ASSIGNMENT, OnlineKeys
from edgewise.hub.store import Store, bundles
from edgewise.hub.store import repository as rows
from edgewise.hub.store.repository import PendingRow
from edgewise.ports import Chance
from edgewise.trust import PrivateKey
from edgewise.trust.roles import (
    DIRECTOR,
    ONLINE,
    ROOT,
    SNAPSHOT,
    TARGETS,
    TIMESTAMP,
    Signatures,
    Validity,
    check_next,
    crypto_signer,
    director_in,
    is_signed,
    keys_of,
    manifest_path,
    merge_signatures,
    next_snapshot,
    next_timestamp,
    parse,
    public_key,
    read_release,
    release_path,
    use_case_of,
    versions_in,
)
from edgewise.wire import NotNow, NotTrusted, NotValid, Release, digest

VALIDITY = Validity()
KEPT = 16  # older documents of a role, for devices in the middle of a refresh
RENEW_SHARE = 0.15  # of a timestamp's life passes before it is signed anew: about once a day


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """What became of documents that were handed in.

    Attributes:
        roles: published now, with their version.
        waiting: those that lack signatures; nothing is published before they are complete.
        releases: newly taken; `withdrawn` are the ids of those taken out.
    """

    roles: Mapping[str, int] = field(default_factory=dict)
    waiting: Mapping[str, Signatures] = field(default_factory=dict)
    releases: tuple[Release, ...] = ()
    withdrawn: tuple[str, ...] = ()


def publish(
    store: Store,
    online: OnlineKeys,
    documents: Mapping[str, bytes],
    files: Mapping[str, bytes],
    *,
    who: str,
    now: datetime,
    chance: Chance,
    why: str = "",
) -> Published:
    """Take new versions of offline roles; once all of them are signed enough, publish them at once.

    Documents that lack signatures wait, and are merged with the same documents signed by others. Again changes nothing.

    Args:
        documents: signed metadata by role.
        files: the target files that are new in them; manifests are taken from the stored bundles.
        why: reason for a withdrawal.
    Raises:
        NotTrusted: a document that devices would refuse, or signed by nobody who may.
        NotValid: its content does not fit this hub. NotNow: there is no root yet.
    """
    unknown = [role for role in documents if role not in (ROOT, TARGETS) and use_case_of(role) is None]
    if unknown or not documents:
        raise NotValid(
            f"documents of {', '.join(unknown) or 'no role'} cannot be published; needs root, targets or a use case's "
            "role, snapshot and timestamp are the hub's own",
            code="role_unknown",
        )
    with store.write() as connection:
        held = rows.newest(connection)
        wanted = {role: data for role, data in documents.items() if not _same(held.get(role), data, role)}
        if not wanted:
            return Published()
        wanted, whole = _with_waiting(connection, wanted, files)
        seen = _check(held, wanted, now)
        if any(item.missing for item in seen.values()):
            _wait(connection, wanted, whole, seen, who=who, now=now, name=chance.id())
            return Published(waiting=seen)
        for role in wanted:
            rows.drop_pending(connection, role)
        return _publish(store, connection, online, held, wanted, whole, seen, who=who, now=now, why=why)


def renew(store: Store, online: OnlineKeys, now: datetime) -> bool:
    """Sign snapshot and timestamp anew where their time runs out; True when that was done."""
    with store.read() as connection:
        if not _is_due(connection, now):
            return False
    with store.write() as connection:
        if not _is_due(connection, now):
            return False
        _follow(connection, online, rows.newest(connection), now)
    return True


def newest_metadata(connection: sa.Connection) -> int:
    """The version of the newest timestamp, 0 before the first: a device that has an older one refreshes."""
    return rows.newest_version(connection, TIMESTAMP)


def root(store: Store) -> str:
    """The root that a device pins when it enrols.

    Raises:
        NotNow: there is none yet.
    """
    with store.read() as connection:
        body = rows.document(connection, ROOT)
    if body is None:
        raise no_root()
    return body.decode()


def no_root() -> NotNow:
    return NotNow(
        "the hub has no root of trust yet, so no device could check a release; run `edgewise trust init` where the "
        "offline keys shall be, or start everything with `edgewise up`",
        code="no_root",
    )


def assignment_key(store: Store, online: OnlineKeys) -> PrivateKey:
    """The newest of the hub's keys that the director lists; the newest of all before there is a director."""
    with store.read() as connection:
        targets = rows.document(connection, TARGETS)
    held = online.of(ASSIGNMENT)
    if targets is None:
        return held[-1]
    sha256 = parse(targets, TARGETS).signed.targets[DIRECTOR].hashes["sha256"]
    listed = {key.keyid for key in director_in(targets, store.blobs.get(sha256)).keys}
    return next(key for key in reversed(held) if key.public.keyid in listed)


# -- checking ----------------------------------------------------------------------------------------------------------


def _same(held: bytes | None, data: bytes, role: str) -> bool:
    return held is not None and merge_signatures(held, data, role) is not None


def _with_waiting(
    connection: sa.Connection, wanted: dict[str, bytes], files: Mapping[str, bytes]
) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """The documents with all signatures that came so far, and what waits together with them."""
    waiting = {row.role: row for row in rows.pending(connection)}
    joined, whole = {}, dict(files)
    sets = set()
    for role, data in wanted.items():
        merged = merge_signatures(waiting[role].body, data, role) if role in waiting else None
        joined[role] = merged or data
        if merged is not None:
            sets.add(waiting[role].set)
    for row in waiting.values():
        if row.set in sets:
            joined.setdefault(row.role, row.body)
            whole |= {path: text.encode() for path, text in row.files.items() if path not in whole}
    return joined, whole


def _check(held: Mapping[str, bytes], wanted: Mapping[str, bytes], now: datetime) -> dict[str, Signatures]:
    after = {**held, **wanted}
    if ROOT not in after or TARGETS not in after:
        raise no_root()
    seen = {}
    for role in sorted(wanted, key=lambda name: (name != ROOT, name != TARGETS, name)):
        delegator = after[ROOT] if use_case_of(role) is None else after[TARGETS]
        seen[role] = check_next(wanted[role], role, current=held.get(role), delegator=delegator, now=now)
    if not is_signed(after[TARGETS], TARGETS, after[ROOT]) and TARGETS not in wanted:
        raise NotTrusted(
            "the new root names other keys for the targets role, and the published targets are not signed by them; "
            "hand in both together",
            code="metadata_unsigned",
        )
    return seen


def _wait(
    connection: sa.Connection,
    wanted: Mapping[str, bytes],
    files: Mapping[str, bytes],
    seen: Mapping[str, Signatures],
    *,
    who: str,
    now: datetime,
    name: str,
) -> None:
    for role in wanted:
        rows.drop_pending(connection, role)
    for index, (role, body) in enumerate(wanted.items()):
        texts = {path: data.decode() for path, data in files.items()} if index == 0 else {}
        version = parse(body, role).signed.version
        row = PendingRow(role=role, set=name, version=version, body=body, files=texts, who=who, made_at=now)
        rows.put_pending(connection, row)
        data = {"version": version, "signed": list(seen[role].keyids), "missing": seen[role].missing}
        audit.note(connection, actor=who, action="trust.signed", subject=role, data=data, now=now)


# -- publishing --------------------------------------------------------------------------------------------------------


def _publish(
    store: Store,
    connection: sa.Connection,
    online: OnlineKeys,
    held: Mapping[str, bytes],
    wanted: Mapping[str, bytes],
    files: Mapping[str, bytes],
    seen: Mapping[str, Signatures],
    *,
    who: str,
    now: datetime,
    why: str,
) -> Published:
    after = {**held, **wanted}
    published: dict[str, int] = {}
    taken: list[Release] = []
    gone: list[str] = []
    targets: dict[str, bytes] = {}
    for role, body in wanted.items():
        signed = parse(body, role).signed
        use_case = use_case_of(role)
        data = {"version": signed.version, "keys": list(seen[role].keyids)}
        audit.note(connection, actor=who, action="trust.published", subject=role, data=data, now=now)
        if role == TARGETS:
            targets[DIRECTOR] = _director_file(store, body, held.get(TARGETS), files, online)
        elif use_case is not None:
            more, fresh, left = _changed(connection, role, use_case, held.get(role), body, files)
            targets |= more
            for release in fresh:
                taken.append(releases.take(connection, release, keyids=seen[role].keyids, who=who, now=now))
            for name in left:
                releases.withdraw(connection, name, why=why or "its signers withdrew it", who=who, now=now)
            gone += left
        rows.add(connection, role, signed.version, body, expires_at=signed.expires, now=now)
        published[role] = signed.version
    # The bytes lie in the store before a document that names them can be read.
    rows.add_targets(connection, {path: store.blobs.put(data) for path, data in targets.items()}, now)
    _follow(connection, online, after, now)
    return Published(roles=published, releases=tuple(taken), withdrawn=tuple(gone))


def _changed(
    connection: sa.Connection,
    role: str,
    use_case: str,
    held: bytes | None,
    body: bytes,
    files: Mapping[str, bytes],
) -> tuple[dict[str, bytes], list[Release], list[str]]:
    """What a use case's new document brings: target files, new releases, and the ids of those that are gone."""
    new = parse(body, role).signed
    old = None if held is None else parse(held, role).signed
    before = set() if old is None else versions_in(old, use_case)
    now_there = versions_in(new, use_case)
    for path, target in new.targets.items():
        if old is not None and path in old.targets and old.targets[path] != target:
            raise NotTrusted(
                f"{role} changes {path}; a release never changes, sign a new version", code="release_changed"
            )
    found: dict[str, bytes] = {}
    fresh = []
    for version in sorted(now_there - before):
        path = release_path(use_case, version)
        found[path] = _file(new.targets[path].hashes.get("sha256"), path, files)
        release = read_release(found[path], use_case=use_case, version=version)
        for variant, bundle in release.bundles.items():
            path = manifest_path(use_case, version, variant)
            manifest = bundles.manifest_bytes(connection, bundle)
            if manifest is None:
                raise NotValid(
                    f"release {release.id} names bundle {bundle[:12]}…, which is not stored here", code="bundle_unknown"
                )
            target = new.targets.get(path)
            if target is None or (target.hashes.get("sha256"), target.length) != (bundle, len(manifest)):
                raise NotTrusted(
                    f"{role} does not vouch for {path} as the manifest {bundle[:12]}…", code="not_released"
                )
            found[path] = manifest
        fresh.append(release)
    named = set(found) | {path for path in new.targets if int(path.split("/")[1]) in before}
    for path in new.targets:
        if path not in named:
            raise NotTrusted(f"{role} vouches for {path}, which its release does not name", code="not_released")
    return found, fresh, [f"{use_case}@{version}" for version in sorted(before - now_there)]


def _director_file(
    store: Store, body: bytes, held: bytes | None, files: Mapping[str, bytes], online: OnlineKeys
) -> bytes:
    sha256 = parse(body, TARGETS).signed.targets[DIRECTOR].hashes.get("sha256", "")
    data = _file(sha256, DIRECTOR, files) if DIRECTOR in files or held is None else store.blobs.get(sha256)
    listed = {key.keyid for key in director_in(body, data).keys}
    if not listed & {key.public.keyid for key in online.of(ASSIGNMENT)}:
        raise NotValid(
            f"{DIRECTOR} lists {', '.join(sorted(key[:12] for key in listed))} and none of them is this hub's; it "
            "could assign nothing any more. `edgewise trust rotate director` takes the right one",
            code="director_wrong",
        )
    return data


def _file(sha256: str | None, path: str, files: Mapping[str, bytes]) -> bytes:
    data = files.get(path)
    if data is None or digest(data) != sha256:
        seen = "nothing" if data is None else f"{digest(data)[:12]}…"
        raise NotValid(f"file {path} came as {seen}, the document needs {str(sha256)[:12]}…", code="file_missing")
    return data


def _follow(connection: sa.Connection, online: OnlineKeys, after: Mapping[str, bytes], now: datetime) -> None:
    """Snapshot and timestamp over what is published."""
    root_document = after[ROOT]
    named = [role for role in after if role != ROOT and role not in ONLINE]
    versions = {role: parse(after[role], role).signed.version for role in named}
    signers = {role: crypto_signer(_online_key(online, role, root_document)) for role in ONLINE}
    validity = VALIDITY
    snapshot = next_snapshot(after.get(SNAPSHOT), versions, signers[SNAPSHOT], now=now, validity=validity)
    timestamp = next_timestamp(after.get(TIMESTAMP), snapshot, signers[TIMESTAMP], now=now, validity=validity)
    for role, body in ((SNAPSHOT, snapshot), (TIMESTAMP, timestamp)):
        signed = parse(body, role).signed
        rows.add(connection, role, signed.version, body, expires_at=signed.expires, now=now)
        rows.forget_before(connection, role, signed.version - (KEPT if role == SNAPSHOT else 0))
    for role, version in versions.items():
        rows.forget_before(connection, role, version - KEPT)


def _online_key(online: OnlineKeys, role: str, root_document: bytes) -> PrivateKey:
    wanted = keys_of(parse(root_document, ROOT).signed, role)
    listed = {key.keyid for key in wanted.keys}
    for key in reversed(online.of(role)):
        if public_key(key).keyid in listed and wanted.threshold == 1:
            return key
    raise NotValid(
        f"the root gives {role} to {', '.join(sorted(keyid[:12] for keyid in listed))} with threshold "
        f"{wanted.threshold}; the hub needs one key of its own there and threshold 1, `edgewise trust rotate {role}` "
        "names it",
        code="online_wrong",
    )


def _is_due(connection: sa.Connection, now: datetime) -> bool:
    for role in ONLINE:
        body = rows.document(connection, role)
        if body is None:
            return False
        left = parse(body, role).signed.expires - now
        if left < (1 - RENEW_SHARE) * (VALIDITY.until(role, now) - now):
            return True
    return False
