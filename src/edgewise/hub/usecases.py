"""Use cases in force: each change is a new version, audited; the data policy's own version grows with its content."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from edgewise.hub import audit
from edgewise.hub.store import Store, devices
from edgewise.hub.store import usecases as rows
from edgewise.hub.store.usecases import UseCaseRow
from edgewise.wire import NotValid, UseCase, record_digest


def apply(store: Store, usecase: UseCase, *, source: str, who: str, now: datetime) -> UseCaseRow:
    """Put this use case in force; the same one again changes nothing.

    Args:
        source: the text it was written in, kept with its comments.
    Raises:
        NotValid: the data policy changed but kept its version, or went back to an older one.
    """
    with store.write() as connection:
        old = rows.newest(connection, usecase.name)
        if old is not None and old.usecase == usecase:
            return old
        _check_policy(connection, usecase, old)
        version = 1 if old is None else old.version + 1
        rows.add(connection, usecase, version=version, source=source, who=who, now=now)
        data = {"version": version, "digest": record_digest(usecase), "policy_version": usecase.data.version}
        audit.note(connection, actor=who, action="usecase.applied", subject=usecase.name, data=data, now=now)
        row = rows.newest(connection, usecase.name)
        assert row is not None
        return row


def need(connection: sa.Connection, name: str) -> UseCase:
    """The use case in force under this name.

    Raises:
        NotValid: none is.
    """
    row = rows.newest(connection, name)
    if row is None:
        known = ", ".join(rows.names(connection)[:10]) or "none yet"
        raise NotValid(
            f"there is no use case {name[:80]!r}; known: {known}; add one with `edgewise usecase apply`",
            code="usecase_unknown",
        )
    return row.usecase


def sites_of(connection: sa.Connection, name: str) -> tuple[str, ...]:
    """Every site that the use case names, and those where it has devices still. Raises as `need`."""
    named = [site.name for site in need(connection, name).sites]
    return tuple(dict.fromkeys([*named, *devices.sites(connection, name)]))


def check_site(usecase: UseCase, site: str) -> None:
    """Raises NotValid where the use case has no such site."""
    names = [item.name for item in usecase.sites]
    if site not in names:
        raise NotValid(
            f"use case {usecase.name} has no site {site[:80]!r}; it has {', '.join(names[:10])}", code="site_unknown"
        )


def _check_policy(connection: sa.Connection, usecase: UseCase, old: UseCaseRow | None) -> None:
    """A segment names only the policy's version, so one version must never mean two policies."""
    same = rows.policy(connection, usecase.name, usecase.data.version)
    if same is not None and same != usecase.data:
        raise NotValid(
            f"the data policy of {usecase.name} changed but kept version {usecase.data.version}; "
            "raise data.version, so that what devices sealed under the old policy can be told apart",
            code="policy_version",
        )
    if old is not None and usecase.data.version < old.policy_version:
        raise NotValid(
            f"the data policy of {usecase.name} has version {usecase.data.version}, version {old.policy_version} is in "
            "force; versions only grow",
            code="policy_version",
        )
