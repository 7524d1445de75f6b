"""What the keepers of root and targets keys do: begin, delegate, rotate, revoke."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from securesystemslib.signer import Signer  # type: ignore[attr-defined]
from tuf.api.metadata import Key  # type: ignore[attr-defined]  # its public names come from a private module

from edgewise.signer._desk import Desk
from edgewise.trust.roles import (
    DIRECTOR,
    ONLINE,
    ROOT,
    SNAPSHOT,
    TARGETS,
    TIMESTAMP,
    Change,
    RoleKeys,
    Validity,
    add_signatures,
    first_root,
    key_from,
    keys_of,
    next_releases,
    next_root,
    next_targets,
    parse,
    role_of,
)
from edgewise.wire import Director, NotValid, PublicKey, encode

VALIDITY = Validity()
DIRECTOR_ROLE = "director"


@dataclass(frozen=True, kw_only=True, slots=True)
class Holders:
    """Who holds a role from now on, and those of them who sign here."""

    keys: Sequence[Key]
    signers: Sequence[Signer] = ()
    threshold: int = 1

    def role_keys(self) -> RoleKeys:
        return RoleKeys(keys=tuple(self.keys), threshold=self.threshold)


def begin(
    desk: Desk,
    *,
    root: Holders,
    targets: Holders,
    releases: Holders | None = None,
    use_cases: Sequence[str] = (),
    now: datetime,
) -> dict[str, Any]:
    """The key ceremony: the first root and targets, for a hub that has none.

    The hub's online keys are taken as it names them.

    Raises:
        NotValid: the hub has a root already, or a threshold can never be met.
    """
    state = desk.state()
    if state["roles"]:
        raise NotValid(
            "the hub has a root of trust already; `edgewise trust show` shows it, `edgewise trust rotate` changes it",
            code="root_exists",
        )
    online = {name: tuple(key_from(item) for item in state["online"][name][-1:]) for name in ONLINE}
    roles = {ROOT: root.role_keys(), TARGETS: targets.role_keys()}
    roles |= {name: RoleKeys(keys=keys) for name, keys in online.items()}
    director = Director(keys=(PublicKey.model_validate(state["online"]["assignment"][-1]),))
    delegated = {} if releases is None else {role_of(name): releases.role_keys() for name in use_cases}
    documents = {
        ROOT: first_root(roles, root.signers, now=now, validity=VALIDITY),
        TARGETS: next_targets(
            None, Change(director=director, roles=delegated), targets.signers, now=now, validity=VALIDITY
        ),
    }
    return desk.publish(documents, {DIRECTOR: encode(director)})


def delegate(
    desk: Desk, use_case: str, releases: Holders, targets: Sequence[Signer], *, now: datetime
) -> dict[str, Any]:
    """Let these keys sign the releases of a use case; its published releases are signed anew where it had others."""
    role = role_of(use_case)
    change = Change(roles={role: releases.role_keys()})
    documents = {TARGETS: next_targets(_need(desk, TARGETS), change, targets, now=now, validity=VALIDITY)}
    body = desk.document(role)
    if body is not None and releases.signers:
        documents[role] = next_releases(body, use_case, releases.signers, now=now, validity=VALIDITY)
    return desk.publish(documents)


def rotate(
    desk: Desk, role: str, signers: Sequence[Signer], *, holders: Holders | None = None, now: datetime
) -> dict[str, Any]:
    """Give a role new keys; the old ones count no longer.

    Args:
        role: root, targets, snapshot, timestamp, director, or the name of a use case.
        signers: of the role above: root keys, or targets keys for the director and for use cases.
        holders: the new keys; for the hub's own roles the hub makes them.
    """
    if role == DIRECTOR_ROLE:
        made = PublicKey.model_validate(desk.hub.post("/trust/online-keys/assignment"))
        director = Director(keys=(made,))
        body = next_targets(_need(desk, TARGETS), Change(director=director), signers, now=now, validity=VALIDITY)
        return desk.publish({TARGETS: body}, {DIRECTOR: encode(director)})
    if role in (SNAPSHOT, TIMESTAMP):
        key = key_from(desk.hub.post(f"/trust/online-keys/{role}"))
        return _change_root(desk, role, Holders(keys=(key,)), signers, now=now)
    if holders is None:
        raise NotValid(f"rotating {role} needs the new keys: --new-keys FOLDER", code="key_missing")
    if role in (ROOT, TARGETS):
        return _change_root(desk, role, holders, signers, now=now)
    return delegate(desk, role, holders, signers, now=now)


def revoke(
    desk: Desk,
    role: str,
    keyid: str,
    signers: Sequence[Signer],
    *,
    own: Sequence[Signer] = (),
    now: datetime,
) -> dict[str, Any]:
    """Take one key out of root, targets or a use case's role.

    Args:
        keyid: its id, or the beginning of it.
        signers: of the role above.
        own: remaining keys of the role itself, to sign anew what the role had published.
    Raises:
        NotValid: no such key, or too few would be left for the threshold.
    """
    above = ROOT if role in (ROOT, TARGETS) else TARGETS
    name = role if role in (ROOT, TARGETS) else role_of(role)
    if role in (*ONLINE, DIRECTOR_ROLE):
        raise NotValid(f"{role} has one key, which is the hub's; `edgewise trust rotate {role}` replaces it")
    current = keys_of(parse(_need(desk, above), above).signed, name)
    left = [key for key in current.keys if not key.keyid.startswith(keyid)]
    if len(left) != len(current.keys) - 1:
        held = ", ".join(key.keyid[:12] for key in current.keys)
        raise NotValid(f"{keyid!r} names {len(current.keys) - len(left)} keys of {role}, needs one of {held}")
    holders = Holders(keys=left, threshold=current.threshold, signers=own)
    return rotate(desk, role, signers, holders=holders, now=now)


def add_signature(desk: Desk, role: str, signers: Sequence[Signer]) -> dict[str, Any]:
    """Sign what waits for a role, with one more key.

    Raises:
        NotValid: nothing waits.
    """
    body = desk.waiting(role)
    if body is None:
        raise NotValid(f"nothing of {role} waits for signatures; see `edgewise trust show`", code="role_unknown")
    return desk.publish({role: add_signatures(body, role, signers)})


def _change_root(
    desk: Desk, role: str, holders: Holders, signers: Sequence[Signer], *, now: datetime
) -> dict[str, Any]:
    signing = [*signers, *holders.signers] if role == ROOT else signers
    body = next_root(_need(desk, ROOT), {role: holders.role_keys()}, _once(signing), now=now, validity=VALIDITY)
    documents = {ROOT: body}
    if role == TARGETS:
        documents[TARGETS] = next_targets(_need(desk, TARGETS), Change(), holders.signers, now=now, validity=VALIDITY)
    return desk.publish(documents)


def _need(desk: Desk, role: str) -> bytes:
    body = desk.document(role)
    assert body is not None, f"{role} is there wherever a root is"
    return body


def _once(signers: Sequence[Signer]) -> list[Signer]:
    return list({signer.public_key.keyid: signer for signer in signers}.values())
