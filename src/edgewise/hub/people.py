"""People's tokens and console sessions: made, shown once, checked, revoked; each of it in the audit log."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any, cast

from edgewise.hub import audit
from edgewise.hub.access import MACHINES, PEOPLE, ROLES, Person, Refused, Role
from edgewise.hub.limits import Limits
from edgewise.hub.store import Store
from edgewise.hub.store import people as rows
from edgewise.hub.store.people import SessionRow, TokenRow
from edgewise.ports import Chance
from edgewise.trust import new_token, token_digest
from edgewise.wire import NotNow, NotTrusted, NotValid

SECRET_BYTES = 32
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}")
# Names that the audit log uses for the hub's own parts and its file tokens: nobody else may sign as one of them.
# Names of OIDC people begin with "oidc:", those of devices with "device ", so neither fits NAME.
RESERVED = frozenset({*ROLES, "configuration", "console", "controller", "hub", "trigger", "nobody"})
ENDED_KEPT = timedelta(days=1)  # a session that ended is known for so long, so that its cookie is no wrong guess


def make_token(
    store: Store,
    *,
    name: str,
    role: Role,
    sites: Collection[str] | None,
    expires_at: datetime | None,
    by: Person,
    now: datetime,
    chance: Chance,
    limits: Limits,
) -> tuple[str, TokenRow]:
    """A new token and its row. The text is shown once; the hub keeps its hash.

    Args:
        name: its owner, whom the audit log will name.
        sites: None for all.
        expires_at: None for never.
    Raises:
        NotValid: not a name, no sites, a machine bound to sites, or a time that is past or too far.
        NotTrusted: sites that the maker is not of.
        NotNow: too many tokens are in force.
    """
    _check_name(name)
    _check_sites(role, sites)
    _check_end(expires_at, now, limits)
    if sites is None:
        by.check_everywhere("a token for all sites")
    else:
        by.check_sites(sites, "a token")
    text, token = new_token(chance.bytes(SECRET_BYTES)), chance.id()
    held = None if sites is None else sorted(set(sites))
    with store.write() as connection:
        if rows.tokens_in_force(connection, now) >= limits.tokens_max:
            raise NotNow(f"{limits.tokens_max} tokens are in force; revoke those not needed", code="tokens_max")
        row: dict[str, Any] = {"id": token, "digest": token_digest(text), "name": name, "role": role, "sites": held}
        rows.add_token(connection, row | {"made_at": now, "made_by": by.name, "expires_at": expires_at})
        data = {"owner": name, "role": role, "sites": held, "expires_at": expires_at and expires_at.isoformat()}
        audit.note(connection, actor=by.name, action="people_token.made", subject=token, data=data, now=now)
        made = rows.token(connection, token)
    assert made is not None
    return text, made


def list_tokens(store: Store, *, by: Person, limits: Limits) -> list[TokenRow]:
    """Tokens whose sites are all this person's, newest first; without their secrets, which nobody has."""
    with store.read() as connection:
        return [row for row in rows.all_tokens(connection, limit=limits.tokens_max) if _within(row, by)]


def revoke_token(store: Store, token: str, *, by: Person, now: datetime) -> TokenRow:
    """End a token now, and the console sessions that began with it. A second time changes nothing.

    Raises:
        NotValid: there is none with this id. NotTrusted: it reaches sites that the caller is not of.
    """
    with store.write() as connection:
        row = rows.token(connection, token)
        if row is None:
            raise NotValid(
                f"there is no token {token[:40]!r}; see `edgewise hub token list`", code="people_token_unknown"
            )
        if not _within(row, by):
            by.check_sites(row.sites or (), f"token {token}")
            by.check_everywhere(f"token {token}")
        if row.revoked_at is None:
            rows.change_token(connection, token, revoked_at=now)
            data = {"owner": row.name, "role": row.role}
            audit.note(connection, actor=by.name, action="people_token.revoked", subject=token, data=data, now=now)
        ended = rows.token(connection, token)
    assert ended is not None
    return ended


def by_token(store: Store, text: str, *, now: datetime, limits: Limits) -> Person:
    """Whoever shows this token.

    Raises:
        NotTrusted: nobody has it, it ended, or it was revoked.
    """
    with store.read() as connection:
        row = rows.token_of(connection, token_digest(text))
    if row is None:
        raise NotTrusted(
            "this API token is not known here; `edgewise hub token create` makes one, and the hub's folder tokens/ "
            "has those of its first start",
            code="no_token",
        )
    _check_alive(row, now)
    if row.used_at is None or now - row.used_at > timedelta(seconds=limits.token_used_s):
        with store.write() as connection:
            rows.change_token(connection, row.id, used_at=now.replace(minute=0, second=0, microsecond=0))
    return _person(row.name, row.role, row.sites, row.id)


def open_session(store: Store, person: Person, *, how: str, now: datetime, chance: Chance, limits: Limits) -> str:
    """Sign a person in to the console; comes back with the session's secret.

    Raises:
        NotTrusted: a machine's role. NotNow: too many sessions are open.
    """
    if person.role not in PEOPLE:
        raise Refused(
            f"the console is for people; a token of role {person.role} is for a program, sign in as one of "
            f"{', '.join(PEOPLE)}",
            code="role_wrong",
            person=person,
        )
    text = new_token(chance.bytes(SECRET_BYTES))
    until = now + timedelta(seconds=limits.session_s)
    with store.write() as connection:
        if rows.forget_sessions(connection, before=now - ENDED_KEPT) >= limits.sessions_max:
            raise NotNow(f"{limits.sessions_max} console sessions are open; try again later", code="sessions_max")
        row = {"digest": token_digest(text), "name": person.name, "role": person.role, "token": person.token}
        sites = None if person.sites is None else sorted(person.sites)
        rows.add_session(connection, row | {"sites": sites, "made_at": now, "expires_at": until})
        data = {"role": person.role, "sites": sites, "how": how}
        audit.note(connection, actor=person.name, action="session.opened", subject="console", data=data, now=now)
    return text


def by_session(store: Store, text: str, *, now: datetime) -> Person:
    """Whoever has this session.

    Raises:
        NotTrusted: nobody (`no_token`), or it ended or its token was revoked (`session_ended`).
    """
    with store.read() as connection:
        row = rows.session(connection, token_digest(text))
        began_with = None if row is None or row.token is None else rows.token(connection, row.token)
    if row is None:
        raise NotTrusted("this session is not known here; sign in again", code="no_token")
    _check_session(row, began_with, now)
    return _person(row.name, row.role, row.sites, row.token)


def close_session(store: Store, text: str, person: Person, *, now: datetime) -> None:
    """Sign out."""
    with store.write() as connection:
        rows.end_session(connection, token_digest(text))
        audit.note(connection, actor=person.name, action="session.closed", subject="console", now=now)


def note_failed(store: Store, *, address: str, code: str, count: int, count_max: int, now: datetime) -> None:
    """Write down that a token was not accepted; the last entry of a window says that the address must wait."""
    data = {"address": address, "code": code, "failures": count, "must_wait": count >= count_max}
    with store.write() as connection:
        audit.note(connection, actor="nobody", action="access.failed", subject=address, data=data, now=now)


def note_refused(
    store: Store, error: Refused, *, asked: str, address: str, count: int, count_max: int, now: datetime
) -> None:
    """Write down that somebody known may not do this, up to a bound a window; its last entry says so."""
    if count > count_max:
        return
    person = error.person
    sites = None if person.sites is None else sorted(person.sites)
    data = {"role": person.role, "sites": sites, "code": error.code, "why": str(error)[:500], "address": address}
    with store.write() as connection:
        more = {"further_ones_are_not_written": True} if count == count_max else {}
        audit.note(
            connection, actor=person.name, action="access.refused", subject=asked[:300], data=data | more, now=now
        )


def _person(name: str, role: str, sites: Collection[str] | None, token: str | None) -> Person:
    return Person(name=name, role=cast(Role, role), sites=None if sites is None else frozenset(sites), token=token)


def _within(row: TokenRow, by: Person) -> bool:
    return by.sites is None or (row.sites is not None and by.sites.issuperset(row.sites))


def _check_alive(row: TokenRow, now: datetime) -> None:
    if row.revoked_at is not None:
        raise NotTrusted(
            f"this API token of {row.name} was revoked at {row.revoked_at.isoformat()}; ask for a new one",
            code="token_revoked",
        )
    if row.expires_at is not None and row.expires_at <= now:
        raise NotTrusted(
            f"this API token of {row.name} ended at {row.expires_at.isoformat()}; ask for a new one",
            code="token_ended",
        )


def _check_session(row: SessionRow, began_with: TokenRow | None, now: datetime) -> None:
    if row.expires_at <= now:
        raise NotTrusted(f"this session ended at {row.expires_at.isoformat()}; sign in again", code="session_ended")
    if began_with is not None:
        try:
            _check_alive(began_with, now)
        except NotTrusted as error:
            raise NotTrusted(str(error), code="session_ended") from error


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name) or name.lower() in RESERVED:
        raise NotValid(
            f"{name[:100]!r} cannot own a token; needs 1 to 100 letters, digits and . _ @ + -, and none of "
            f"{', '.join(sorted(RESERVED))}",
            code="name_invalid",
        )


def _check_sites(role: Role, sites: Collection[str] | None) -> None:
    if sites is not None and not sites:
        raise NotValid("a token of no site could do nothing; name its sites, or all", code="sites_missing")
    if sites is not None and role in MACHINES:
        raise NotValid(f"a {role} serves whole use cases, so its token is for all sites", code="sites_invalid")


def _check_end(expires_at: datetime | None, now: datetime, limits: Limits) -> None:
    if expires_at is None:
        return
    latest = now + timedelta(seconds=limits.token_s_max)
    if not now < expires_at <= latest:
        raise NotValid(
            f"a token that ends at {expires_at.isoformat()} makes no sense now; needs a time from "
            f"{now.isoformat()} to {latest.isoformat()}",
            code="expiry_invalid",
        )
