"""Labels: what to label next, the history of each sample, and the split that keeps evaluation out of training."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa

from edgewise.hub import audit, usecases
from edgewise.hub.store import Store, opinions, rollouts, samples
from edgewise.hub.store import labels as rows
from edgewise.hub.store.opinions import OpinionRow
from edgewise.hub.store.samples import SampleRow
from edgewise.measure import marks_differ
from edgewise.wire import (
    Annotation,
    LabelledSample,
    NotValid,
    Target,
    UseCase,
    canonical,
    digest,
    plain,
    slice_facts,
    slices_of,
    value_of,
)

LABEL_CHARACTERS_MAX = 128
TRAIN, EVALUATION = "train", "evaluation"


class NewLabel(NamedTuple):
    """What somebody says about a sample. Another label without an annotation takes away the one that was there."""

    sample: str
    label: str
    annotation: Annotation | None = None


Said = NewLabel | tuple[str, str]


def next_to_label(
    store: Store, use_case: str, *, limit: int, now: datetime, sites: Collection[str] | None = None
) -> list[dict[str, Any]]:
    """What a person of these sites should label next, see `queue`.

    Raises:
        NotValid: no such use case.
    """
    with store.read() as connection:
        known = known_labels(connection, use_case)
        waiting = queue(connection, use_case, limit=limit, now=now, sites=sites)
    return [
        {
            "sample": row.id,
            "blob": row.blob,
            "media_type": row.media_type,
            "site": row.site,
            "device": row.device,
            "frame": row.frame,
            "group": row.group,
            "why": row.why,
            "taken_at": row.taken_at,
            "decision": row.decision,
            "shadow": row.shadow,
            "labels": known,
        }
        for row in waiting
    ]


def queue(
    connection: sa.Connection, use_case: str, *, limit: int, now: datetime, sites: Collection[str] | None = None
) -> list[SampleRow]:
    """Samples without a label: alarms, feedback, disagreements, audit, uncertain.

    While a rollout is under way its disagreements come before all others, until so many of them as
    `labelling.labels_per_day` were labelled within a day: they decide whether it goes on.
    """
    under_way = rollouts.under_way(connection, use_case)
    spent = samples.apart_labelled(connection, under_way, since=now - timedelta(days=1))
    left = max(0, usecases.need(connection, use_case).labelling.labels_per_day - spent)
    first = samples.apart_to_label(connection, under_way, limit=min(left, limit), sites=sites)
    shown = {row.id for row in first}
    rest = samples.unlabelled(connection, use_case, limit=limit, sites=sites)
    return [*first, *(row for row in rest if row.id not in shown)][:limit]


def known_labels(connection: sa.Connection, use_case: str) -> list[str]:
    """The labels of the use case, then those that labelling has added since."""
    declared = usecases.need(connection, use_case).outcome
    if declared.target is not None:
        return []  # numbers are no classes to choose from
    return list(dict.fromkeys([*declared.good_labels, *declared.labels, *rows.known(connection, use_case)]))


def set_labels(store: Store, wanted: Sequence[Said], *, who: str, now: datetime) -> tuple[int, int]:
    """Label samples, all or none; comes back with how many labels were new and how many said what is known.

    Args:
        wanted: (sample id, label) pairs, or with an annotation; a later one for the same sample wins.
    Raises:
        NotValid: an unknown sample, or not a label.
    """
    with store.write() as connection:
        return set_in(connection, wanted, who=who, now=now)


def set_in(
    connection: sa.Connection,
    wanted: Sequence[Said],
    *,
    who: str,
    now: datetime,
    act: str | None = None,
    kind: str = "label",
) -> tuple[int, int]:
    """`set_labels` inside the caller's write, as part of an act that can be taken back where one is named."""
    newest = {item.sample: item._replace(label=check_label(item.label)) for item in (NewLabel(*one) for one in wanted)}
    found = samples.these(connection, newest)
    unknown = [sample for sample in newest if sample not in found]
    if unknown:
        raise NotValid(
            f"sample {unknown[0][:40]} is not known here, as {len(unknown)} of {len(newest)}; nothing was labelled",
            code="sample_unknown",
        )
    cases = {name: usecases.need(connection, name) for name in {row.use_case for row in found.values()}}
    newest = {name: _as_number(item, cases[found[name].use_case].outcome.target) for name, item in newest.items()}
    changed = [(found[sample], item) for sample, item in newest.items() if _says_more(found[sample], item)]
    before = opinions.of(connection, [row.id for row, _ in changed])
    # Groups that get their first label together take turns by hash: their order in the request decides nothing.
    for row, item in sorted(changed, key=lambda pair: (digest(pair[0].group.encode()), pair[0].id)):
        purpose = row.purpose or _purpose(connection, row, item.label, case=cases[row.use_case], now=now)
        said = None if item.annotation is None else plain(item.annotation)
        samples.set_label(connection, row.id, label=item.label, annotation=said, purpose=purpose, now=now)
        rows.add(connection, row.use_case, row.id, label=item.label, annotation=said, who=who, now=now)
        _hold(connection, row, item.label, said, before.get(row.id, ()), who=who, now=now, act=act, kind=kind)
    if changed:
        _note(connection, [(row, item.label) for row, item in changed], who, now)
    return len(changed), len(wanted) - len(changed)


def _hold(
    connection: sa.Connection,
    row: SampleRow,
    label: str,
    annotation: dict[str, Any] | None,
    before: Sequence[OpinionRow],
    *,
    who: str,
    now: datetime,
    act: str | None,
    kind: str,
) -> None:
    """The label is this person's opinion now. Who says something else later disputes it; earlier ones are settled."""
    # Who settles a dispute keeps what they said blind before: it is one of the opinions that differed.
    mine = [] if kind == "settle" else [one for one in before if one.who == who]
    opinions.replace(connection, [one.position for one in mine])
    others = [one for one in before if one not in mine and not one.settled]
    if row.label is None:
        # Said without a label to know of, such as after the first one was taken back: others may still differ.
        for one in others:
            opinions.differ(connection, [one.position], differs=differs(one, label, annotation))
    else:
        opinions.settle(connection, [one.position for one in others])
    blind = row.label is None or any(one.blind for one in mine)
    opinions.add(
        connection,
        row.use_case,
        row.id,
        who=who,
        label=label,
        annotation=annotation,
        kind=kind,
        blind=blind,
        settled=True,
        act=act,
        now=now,
    )


def differs(one: OpinionRow, label: str, annotation: dict[str, Any] | None) -> bool:
    """Whether somebody said something else than this label, or marked something else."""
    return one.label != label or marks_differ(_marks(one.annotation), _marks(annotation))


def _marks(annotation: dict[str, Any] | None) -> Annotation | None:
    return None if annotation is None else Annotation.model_validate(annotation)


def _says_more(row: SampleRow, item: NewLabel) -> bool:
    """Whether this is anything else than what is known."""
    return row.label != item.label or (item.annotation is not None and row.annotation != plain(item.annotation))


def _as_number(item: NewLabel, target: Target | None) -> NewLabel:
    """The label as it is; where the use case has a target, its number as it is written everywhere.

    Raises:
        NotValid: it is no number, and has to be one.

    >>> _as_number(NewLabel("0" * 32, "12.50"), Target(name="power")).label
    '12.5'
    """
    if target is None:
        return item
    value = value_of(item.label, f"{target.name} of sample {item.sample[:12]}…")
    return item._replace(label=f"{value:.15g}")


def check_label(label: str) -> str:
    """The label without spaces around it.

    Raises:
        NotValid: empty, too long, or with control characters.
    """
    text = label.strip()
    if not 1 <= len(text) <= LABEL_CHARACTERS_MAX or not text.isprintable():
        raise NotValid(
            f"{label[:40]!r} is not a label; needs 1 to {LABEL_CHARACTERS_MAX} printable characters",
            code="label_invalid",
        )
    return text


def to_evaluation(train: int, evaluation: int, share: float) -> bool:
    """Whether the next group goes to the evaluation share: when that brings the split nearer to `share`.

    >>> [to_evaluation(train, 0, 0.2) for train in range(4)]
    [False, False, True, True]
    """
    # Half a sample of slack: with a share of one fifth the 3rd, 8th, 13th … goes to evaluation, so a rare class is
    # trained on before it is judged.
    return evaluation + 0.5 <= share * (train + evaluation + 1)


def in_evaluation_block(taken_at: datetime, hours: float, share: float) -> bool:
    """Whether what was taken then is for evaluation under a split by time: every so many blocks one, evenly spread.

    It hangs on the time alone, so a purpose never changes and neighbours in time stay together, but for the ends of a
    block.

    >>> from datetime import UTC
    >>> days = [datetime(2026, 1, day, 9, tzinfo=UTC) for day in range(1, 11)]
    >>> [in_evaluation_block(day, 24, 0.2) for day in days].count(True)
    2
    """
    block = math.floor(taken_at.timestamp() / (3600 * hours))
    return math.floor((block + 1) * share) > math.floor(block * share)


def _purpose(connection: sa.Connection, row: SampleRow, label: str, *, case: UseCase, now: datetime) -> str:
    """What the sample's group is for: decided with its first label, once and for all."""
    known = samples.purpose(connection, row.use_case, row.site, row.group)
    if known is not None:
        return known
    gate = case.gate
    if gate.split == "time":
        evaluation = in_evaluation_block(row.taken_at, gate.block_hours, gate.evaluation_share)
    else:
        # Numbers hardly come twice: all of them take turns, as those of one class do.
        of = label if case.outcome.target is None else None
        counts = samples.purpose_counts(connection, row.use_case, row.site, of)
        evaluation = to_evaluation(counts.get(TRAIN, 0), counts.get(EVALUATION, 0), gate.evaluation_share)
    purpose = EVALUATION if evaluation else TRAIN
    samples.set_purpose(connection, row.use_case, row.site, row.group, purpose=purpose, label=label, now=now)
    return purpose


def _note(connection: sa.Connection, changed: Sequence[tuple[SampleRow, str]], who: str, now: datetime) -> None:
    for use_case in dict.fromkeys(row.use_case for row, _ in changed):
        mine = [(row.id, label) for row, label in changed if row.use_case == use_case]
        counts = Counter(label for _, label in mine)
        data = {"labels": dict(counts), "digest": digest(canonical(sorted(map(list, mine))))}
        audit.note(connection, actor=who, action="labels.set", subject=use_case, data=data, now=now)


def evaluation_share(connection: sa.Connection, usecase: UseCase) -> list[LabelledSample]:
    """The evaluation share as labelled now, each sample with the slices that it is in.

    What the slices ask goes with it, so that the signer can say for itself which those are.
    """
    if not usecase.slices:
        return samples.labelled(connection, usecase.name, EVALUATION)
    zones = {site.name: site.zone for site in usecase.sites}
    return [_with_slices(row, usecase, zones) for row in samples.labelled_rows(connection, usecase.name, EVALUATION)]


def _with_slices(row: SampleRow, usecase: UseCase, zones: Mapping[str, str]) -> LabelledSample:
    facts = slice_facts(
        usecase.slices,
        usecase.data.fields,
        site=row.site,
        zone=zones.get(row.site),
        group="" if row.group == row.id else row.group,
        device=row.device,
        taken_at=row.taken_at,
        facts=row.facts,
    )
    return samples.line_of(row).model_copy(update={"facts": facts, "slices": slices_of(usecase.slices, facts)})
