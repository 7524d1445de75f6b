"""Questions about who said what of a sample, acts that can be taken back, claims, and answers to operators."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from edgewise.hub.store._rows import chunks, columns, many, of_sites, one
from edgewise.hub.store.samples import SampleRow
from edgewise.hub.store.tables import answers, feedback, label_acts, label_claims, opinions, samples


@dataclass(frozen=True, kw_only=True, slots=True)
class OpinionRow:
    position: int
    sample: str
    who: str
    label: str
    annotation: dict[str, Any] | None
    at: datetime
    kind: str
    blind: bool
    settled: bool
    differs: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ActRow:
    position: int
    act: str
    use_case: str
    who: str
    kind: str
    before: list[dict[str, Any]]
    at: datetime
    undone_at: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class FeedbackRow:
    """An operator's word; `sample` is the kept frame that it speaks of, where there is one."""

    id: str
    site: str
    device: str
    frame: str
    given_at: datetime
    verdict: str
    label: str | None
    note: str
    sample: str | None
    answer: str | None
    answer_note: str | None
    answered_by: str | None


# -- opinions ----------------------------------------------------------------------------------------------------------


def add(
    connection: sa.Connection,
    use_case: str,
    sample: str,
    *,
    who: str,
    label: str,
    annotation: dict[str, Any] | None,
    kind: str,
    blind: bool,
    settled: bool,
    act: str | None,
    now: datetime,
    differs: bool = False,
) -> int:
    """Add what somebody says now; comes back with its position."""
    values = {"use_case": use_case, "sample": sample, "who": who, "label": label, "annotation": annotation}
    flags = {
        "kind": kind,
        "blind": blind,
        "settled": settled,
        "act": act,
        "at": now,
        "current": True,
        "differs": differs,
    }
    done = connection.execute(sa.insert(opinions).values(**values, **flags))
    assert done.inserted_primary_key is not None
    return int(done.inserted_primary_key[0])


def of(connection: sa.Connection, ids: Iterable[str]) -> dict[str, list[OpinionRow]]:
    """What each person holds now of these samples, oldest first; samples of which nobody said anything are left out."""
    found: dict[str, list[OpinionRow]] = {}
    for some in chunks(ids):
        statement = columns(opinions, OpinionRow).where(opinions.c.sample.in_(some), opinions.c.current)
        for row in many(connection, OpinionRow, statement.order_by(opinions.c.position)):
            found.setdefault(row.sample, []).append(row)
    return found


def replace(connection: sa.Connection, positions: Sequence[int]) -> None:
    """Their people said something newer."""
    _set(connection, positions, current=False)


def settle(connection: sa.Connection, positions: Sequence[int], *, settled: bool = True) -> None:
    """The label was set knowing of these."""
    _set(connection, positions, settled=settled)


def bring_back(connection: sa.Connection, positions: Sequence[int]) -> None:
    """These hold again, because what came after was taken back."""
    _set(connection, positions, current=True)


def differ(connection: sa.Connection, positions: Sequence[int], *, differs: bool) -> None:
    """These say something else than the label that was set just now, or the same."""
    _set(connection, positions, differs=differs)


def _set(connection: sa.Connection, positions: Sequence[int], **values: bool) -> None:
    if positions:
        connection.execute(sa.update(opinions).where(opinions.c.position.in_(positions)).values(**values))


def blind(connection: sa.Connection, use_case: str, *, limit: int, sites: Collection[str] | None) -> list[OpinionRow]:
    """Opinions given without knowing another one, on samples that two people or more judged so; newest first."""
    where = (opinions.c.use_case == use_case, opinions.c.current, opinions.c.blind)
    joint = sa.select(opinions.c.sample).where(*where).group_by(opinions.c.sample).having(sa.func.count() > 1)
    statement = columns(opinions, OpinionRow).where(*where, opinions.c.sample.in_(joint))
    if sites is not None:
        seen = sa.select(samples.c.id).where(samples.c.use_case == use_case, *of_sites(samples.c.site, sites))
        statement = statement.where(opinions.c.sample.in_(seen))
    return many(connection, OpinionRow, statement.order_by(opinions.c.position.desc()).limit(limit))


def disputed(
    connection: sa.Connection, use_case: str, *, limit: int, sites: Collection[str] | None = None
) -> list[SampleRow]:
    """Samples of which somebody said something else than their label, and nobody has settled it; oldest first."""
    return many(
        connection,
        SampleRow,
        columns(samples, SampleRow)
        .where(samples.c.use_case == use_case, *of_sites(samples.c.site, sites), _in_dispute())
        .order_by(samples.c.labelled_at, samples.c.id)
        .limit(limit),
    )


def _in_dispute() -> sa.ColumnElement[bool]:
    return sa.exists().where(
        opinions.c.sample == samples.c.id,
        opinions.c.current,
        sa.not_(opinions.c.settled),
        opinions.c.differs,
        samples.c.label.is_not(None),
    )


def for_second(
    connection: sa.Connection, use_case: str, who: str, *, limit: int, sites: Collection[str] | None = None
) -> list[SampleRow]:
    """Samples that others labelled and of which there is one opinion alone, not this person's, in no order of meaning.

    Ids are random, so which labels are looked at twice hangs on nothing that was said.
    """
    said = sa.select(sa.func.count()).where(opinions.c.sample == samples.c.id, opinions.c.current).scalar_subquery()
    mine = sa.exists().where(opinions.c.sample == samples.c.id, opinions.c.current, opinions.c.who == who)
    where = (samples.c.use_case == use_case, samples.c.label.is_not(None), *of_sites(samples.c.site, sites))
    statement = columns(samples, SampleRow).where(*where, said == 1, sa.not_(mine)).order_by(samples.c.id)
    return many(connection, SampleRow, statement.limit(limit))


def counted(
    connection: sa.Connection, use_case: str, *, since: datetime, sites: Collection[str] | None
) -> list[Mapping[str, Any]]:
    """Of each person: acts since then and at all, and how many are second opinions."""
    where = [opinions.c.use_case == use_case]
    if sites is not None:
        seen = sa.select(samples.c.id).where(samples.c.use_case == use_case, *of_sites(samples.c.site, sites))
        where.append(opinions.c.sample.in_(seen))
    today = sa.func.sum(sa.case((opinions.c.at >= since, 1), else_=0))
    second = sa.func.sum(sa.case((opinions.c.kind == "second", 1), else_=0))
    statement = sa.select(
        opinions.c.who, sa.func.count().label("said"), today.label("today"), second.label("second")
    ).where(*where, opinions.c.current)
    rows = connection.execute(statement.group_by(opinions.c.who).order_by(sa.desc("said"), opinions.c.who)).mappings()
    return [{**row, "today": int(row["today"]), "second": int(row["second"])} for row in rows]


# -- acts --------------------------------------------------------------------------------------------------------------


def add_act(
    connection: sa.Connection,
    act: str,
    *,
    use_case: str,
    who: str,
    kind: str,
    before: Sequence[Mapping[str, Any]],
    now: datetime,
) -> None:
    values = {"act": act, "use_case": use_case, "who": who, "kind": kind, "before": list(before), "at": now}
    connection.execute(sa.insert(label_acts).values(**values))


def act(connection: sa.Connection, name: str) -> ActRow | None:
    return one(connection, ActRow, columns(label_acts, ActRow).where(label_acts.c.act == name))


def last_acts(connection: sa.Connection, use_case: str, who: str, *, since: datetime, limit: int) -> list[ActRow]:
    """What this person did since then and has not taken back, newest first."""
    where = (
        label_acts.c.use_case == use_case,
        label_acts.c.who == who,
        label_acts.c.undone_at.is_(None),
        label_acts.c.at >= since,
    )
    statement = columns(label_acts, ActRow).where(*where).order_by(label_acts.c.position.desc())
    return many(connection, ActRow, statement.limit(limit))


def undone(connection: sa.Connection, position: int, now: datetime) -> None:
    connection.execute(sa.update(label_acts).where(label_acts.c.position == position).values(undone_at=now))


# -- claims ------------------------------------------------------------------------------------------------------------


def claimed(connection: sa.Connection, ids: Iterable[str], *, now: datetime) -> dict[str, str]:
    """Who has each of these samples now; those that nobody has are left out."""
    found: dict[str, str] = {}
    for some in chunks(ids):
        where = (label_claims.c.sample.in_(some), label_claims.c.until > now)
        rows = connection.execute(sa.select(label_claims.c.sample, label_claims.c.who).where(*where))
        found.update({row.sample: row.who for row in rows})
    return found


def claim(connection: sa.Connection, use_case: str, ids: Sequence[str], *, who: str, until: datetime) -> None:
    """Give these samples to somebody; whoever had them loses them."""
    release(connection, ids)
    if ids:
        rows = [{"sample": one, "use_case": use_case, "who": who, "until": until} for one in ids]
        connection.execute(sa.insert(label_claims), rows)


def release(connection: sa.Connection, ids: Sequence[str]) -> None:
    for some in chunks(ids):
        connection.execute(sa.delete(label_claims).where(label_claims.c.sample.in_(some)))


def drop_claims(connection: sa.Connection, use_case: str, *, who: str, now: datetime) -> None:
    """Let go of what this person has, and forget claims that ran out."""
    mine = sa.and_(label_claims.c.use_case == use_case, label_claims.c.who == who)
    over = sa.and_(label_claims.c.use_case == use_case, label_claims.c.until <= now)
    connection.execute(sa.delete(label_claims).where(sa.or_(mine, over)))


# -- operators' words --------------------------------------------------------------------------------------------------


def _feedback() -> sa.Select[Any]:
    kept = sa.and_(samples.c.device == feedback.c.device, samples.c.frame == feedback.c.frame)
    sample = sa.select(sa.func.min(samples.c.id)).where(kept).scalar_subquery().label("sample")
    own = [feedback.c[name] for name in ("id", "site", "device", "frame", "given_at", "verdict", "label", "note")]
    said = (answers.c.verdict.label("answer"), answers.c.note.label("answer_note"), answers.c.who.label("answered_by"))
    return sa.select(*own, sample, *said).outerjoin(answers, answers.c.feedback == feedback.c.id)


def words_of(connection: sa.Connection, frames: Sequence[tuple[str, str]]) -> list[FeedbackRow]:
    """What operators said of these (device, frame) pairs, oldest first."""
    if not frames:
        return []
    where = sa.tuple_(feedback.c.device, feedback.c.frame).in_(frames)
    return many(connection, FeedbackRow, _feedback().where(where).order_by(feedback.c.given_at, feedback.c.id))


def words(
    connection: sa.Connection, use_case: str, *, answered: bool | None, limit: int, sites: Collection[str] | None
) -> list[FeedbackRow]:
    """What operators said, newest first; with `answered` only what has an answer, or has none."""
    statement = _feedback().where(feedback.c.use_case == use_case, *of_sites(feedback.c.site, sites))
    if answered is not None:
        statement = statement.where(answers.c.feedback.is_not(None) if answered else answers.c.feedback.is_(None))
    return many(connection, FeedbackRow, statement.order_by(feedback.c.given_at.desc(), feedback.c.id).limit(limit))


def word(connection: sa.Connection, name: str) -> FeedbackRow | None:
    return one(connection, FeedbackRow, _feedback().where(feedback.c.id == name))


def open_words(connection: sa.Connection, use_case: str, *, sites: Collection[str] | None) -> int:
    """How many words of operators have no answer yet."""
    joined = feedback.outerjoin(answers, answers.c.feedback == feedback.c.id)
    where = (feedback.c.use_case == use_case, answers.c.feedback.is_(None), *of_sites(feedback.c.site, sites))
    return int(connection.execute(sa.select(sa.func.count()).select_from(joined).where(*where)).scalar_one())


def use_case_of_word(connection: sa.Connection, name: str) -> str | None:
    return connection.execute(sa.select(feedback.c.use_case).where(feedback.c.id == name)).scalar_one_or_none()


def answer(
    connection: sa.Connection,
    name: str,
    *,
    use_case: str,
    verdict: str,
    note: str,
    who: str,
    act: str | None,
    now: datetime,
) -> None:
    """Answer an operator; a newer answer takes the place of an older one."""
    connection.execute(sa.delete(answers).where(answers.c.feedback == name))
    values = {"use_case": use_case, "verdict": verdict, "note": note, "who": who, "act": act, "at": now}
    connection.execute(sa.insert(answers).values(feedback=name, **values))


def take_answers_back(connection: sa.Connection, act: str) -> None:
    connection.execute(sa.delete(answers).where(answers.c.act == act))


# -- pools that orders choose from -------------------------------------------------------------------------------------


def newest(
    connection: sa.Connection,
    use_case: str,
    *,
    limit: int,
    sites: Collection[str] | None = None,
    pictures: bool = False,
) -> list[SampleRow]:
    """Samples without a label, the newest first; with `pictures` no others."""
    where = [samples.c.use_case == use_case, samples.c.label.is_(None), *of_sites(samples.c.site, sites)]
    if pictures:
        where.append(samples.c.media_type.like("image/%"))
    order = (samples.c.received_at.desc(), samples.c.id)
    return many(connection, SampleRow, columns(samples, SampleRow).where(*where).order_by(*order).limit(limit))


def apart(
    connection: sa.Connection, use_case: str, *, limit: int, sites: Collection[str] | None = None
) -> list[SampleRow]:
    """Samples without a label on which two releases, or the device and its operator, said different things."""
    spoken = sa.exists().where(feedback.c.device == samples.c.device, feedback.c.frame == samples.c.frame)
    told = samples.c.decision["label"].as_string()
    other = sa.and_(samples.c.shadow.is_not(None), samples.c.shadow["label"].as_string() != told)
    where = (samples.c.use_case == use_case, samples.c.label.is_(None), *of_sites(samples.c.site, sites))
    order = (samples.c.priority, samples.c.received_at, samples.c.id)
    statement = columns(samples, SampleRow).where(*where, sa.or_(spoken, other)).order_by(*order)
    return many(connection, SampleRow, statement.limit(limit))


def uncertain(
    connection: sa.Connection, use_case: str, *, limit: int, sites: Collection[str] | None = None
) -> list[SampleRow]:
    """Samples without a label that a device decided on, the smallest margin first."""
    margin = samples.c.decision["margin"].as_float()
    where = (samples.c.use_case == use_case, samples.c.label.is_(None), samples.c.decision.is_not(None))
    statement = columns(samples, SampleRow).where(*where, *of_sites(samples.c.site, sites))
    return many(connection, SampleRow, statement.order_by(margin, samples.c.id).limit(limit))
