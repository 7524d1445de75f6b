"""Questions about use cases: every version is kept, the highest is in force."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from weakref import WeakKeyDictionary

import sqlalchemy as sa

from edgewise.hub.store._rows import columns, many, one
from edgewise.hub.store.tables import usecases as table
from edgewise.wire import DataPolicy, UseCase, plain


@dataclass(frozen=True, kw_only=True, slots=True)
class UseCaseRow:
    name: str
    version: int
    policy_version: int
    body: dict[str, Any]
    source: str
    made_at: datetime
    who: str

    @property
    def usecase(self) -> UseCase:
        return UseCase.model_validate_json(json.dumps(self.body))


def newest(connection: sa.Connection, name: str) -> UseCaseRow | None:
    """The version in force, None for an unknown name."""
    return one(
        connection, UseCaseRow, columns(table, UseCaseRow).where(table.c.name == name).order_by(table.c.version.desc())
    )


def names(connection: sa.Connection) -> list[str]:
    return list(connection.execute(sa.select(table.c.name).distinct().order_by(table.c.name)).scalars())


def versions(connection: sa.Connection, name: str) -> list[UseCaseRow]:
    """All versions of a use case, oldest first."""
    return many(
        connection, UseCaseRow, columns(table, UseCaseRow).where(table.c.name == name).order_by(table.c.version)
    )


def add(connection: sa.Connection, usecase: UseCase, *, version: int, source: str, who: str, now: datetime) -> None:
    connection.execute(
        sa.insert(table).values(
            name=usecase.name,
            version=version,
            policy_version=usecase.data.version,
            body=plain(usecase),
            source=source,
            made_at=now,
            who=who,
        )
    )


def policy(connection: sa.Connection, name: str, policy_version: int) -> DataPolicy | None:
    """The data policy with this version, as the newest version of the use case that has it says."""
    statement = columns(table, UseCaseRow).where(table.c.name == name, table.c.policy_version == policy_version)
    row = one(connection, UseCaseRow, statement.order_by(table.c.version.desc()))
    return None if row is None else row.usecase.data


# Every contact asks for the use case in force, which changes rarely: reading it again is by far the larger part.
_IN_FORCE: WeakKeyDictionary[sa.Engine, dict[str, tuple[object, UseCase, list[DataPolicy]]]] = WeakKeyDictionary()


def in_force(connection: sa.Connection, name: str) -> tuple[UseCase, list[DataPolicy]]:
    """The use case in force and all its data policies, the one in force first, one for each policy version."""
    statement = sa.select(table.c.version, table.c.made_at).where(table.c.name == name)
    stamp = connection.execute(statement.order_by(table.c.version.desc()).limit(1)).one()
    cache = _IN_FORCE.setdefault(connection.engine, {})
    if name not in cache or cache[name][0] != tuple(stamp):
        newest_first = [row.usecase for row in reversed(versions(connection, name))]
        policies = {usecase.data.version: usecase.data for usecase in reversed(newest_first)}
        current = policies.pop(newest_first[0].data.version)
        cache[name] = (tuple(stamp), newest_first[0], [current, *policies.values()])
    _, usecase, known = cache[name]
    return usecase, known
