"""The release repository as it is served and shown: files for devices and mirrors, its roles for people."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from edgewise.hub.online_keys import ASSIGNMENT, NAMES, OnlineKeys
from edgewise.hub.store import Store
from edgewise.hub.store import repository as rows
from edgewise.hub.store.repository import PendingRow
from edgewise.trust.roles import (
    ROOT,
    TARGETS,
    TIMESTAMP,
    RoleKeys,
    check_next,
    delegated_roles,
    is_signed,
    keys_of,
    parse,
    plain_key,
    public_key,
    use_case_of,
)
from edgewise.wire import NotValid, plain

FILE = re.compile(r"(metadata|targets)/(.{1,600})")


def need_file(store: Store, path: str) -> bytes:
    """A file of the repository, as a static server would have it.

    Args:
        path: such as ``metadata/2.root.json``, ``metadata/timestamp.json``, ``targets/press/1/<sha256>.release.json``.

    Raises:
        NotValid: there is none (code ``file_unknown``).
    """
    found = FILE.fullmatch(path)
    kind, name = found.groups() if found else ("", "")
    with store.read() as connection:
        if kind == "metadata" and name.endswith(".json"):
            version, dot, role = name.removesuffix(".json").partition(".")
            body = None
            if name == f"{TIMESTAMP}.json":
                body = rows.document(connection, TIMESTAMP)
            elif dot and version.isdigit():
                body = rows.document(connection, role, int(version))
            if body is not None:
                return body
        folder, slash, base = name.rpartition("/")
        sha256, _, rest = base.partition(".")
        if kind == "targets" and rows.has_target(connection, f"{folder}{slash}{rest}", sha256):
            return store.blobs.get(sha256)
    raise NotValid(f"there is no {path[:200]!r} in the release repository", code="file_unknown")


def state(store: Store, online: OnlineKeys) -> dict[str, Any]:
    """Every role with its version, expiry and keys; what waits for signatures; the hub's own keys. Plain values."""
    with store.read() as connection:
        held, waiting = rows.newest(connection), rows.pending(connection)
    return {
        "roles": [_role_state(held, role) for role in held],
        "delegated": _delegated_state(held[TARGETS]) if TARGETS in held else [],
        "waiting": [_waiting_state(held, row, waiting) for row in waiting],
        "online": {
            name: [plain(key.public) if name == ASSIGNMENT else plain_key(public_key(key)) for key in online.of(name)]
            for name in NAMES
        },
    }


def waiting_document(store: Store, role: str) -> bytes:
    """A document that lacks signatures.

    Raises:
        NotValid: none waits.
    """
    with store.read() as connection:
        for row in rows.pending(connection):
            if row.role == role:
                return row.body
    raise NotValid(f"nothing of {role[:80]!r} waits for signatures; see `edgewise trust show`", code="waiting_unknown")


def _delegated_state(targets: bytes) -> list[dict[str, Any]]:
    """The roles that targets gives to release keys, those too that have published nothing yet."""
    signed = parse(targets, TARGETS).signed
    return [{"role": role, **_wanted_state(keys_of(signed, role))} for role in delegated_roles(signed)]


def _wanted_state(wanted: RoleKeys) -> dict[str, Any]:
    return {"threshold": wanted.threshold, "keys": [plain_key(key) for key in wanted.keys]}


def _role_state(held: Mapping[str, bytes], role: str) -> dict[str, Any]:
    signed = parse(held[role], role).signed
    delegator = held[ROOT] if use_case_of(role) is None else held[TARGETS]
    state: dict[str, Any] = {"role": role, "version": signed.version, "expires_at": signed.expires.isoformat()}
    try:
        wanted = keys_of(parse(delegator, TARGETS if use_case_of(role) else ROOT).signed, role)
    except ValueError:
        return state | {"threshold": 0, "keys": [], "signed": False}
    return state | _wanted_state(wanted) | {"signed": is_signed(held[role], role, delegator)}


def _waiting_state(held: Mapping[str, bytes], row: PendingRow, waiting: list[PendingRow]) -> dict[str, Any]:
    after = {**held, **{other.role: other.body for other in waiting if other.set == row.set}}
    delegator = after[ROOT] if use_case_of(row.role) is None else after[TARGETS]
    seen = check_next(row.body, row.role, current=held.get(row.role), delegator=delegator, now=row.made_at)
    return {
        "role": row.role,
        "version": row.version,
        "who": row.who,
        "made_at": row.made_at.isoformat(),
        "signed": list(seen.keyids),
        "missing": seen.missing,
        "files": row.files,
    }
