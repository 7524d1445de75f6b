"""Dataset revisions: the labelled samples of one moment, frozen under their digest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa

from edgewise.hub import likeness
from edgewise.hub.labels import EVALUATION, TRAIN
from edgewise.hub.store import labels, samples
from edgewise.hub.store import likeness as likeness_rows
from edgewise.hub.store import orders as rows
from edgewise.hub.store.samples import SampleRow
from edgewise.wire import DatasetRevision, LabelledSample, NotValid

# Why a labelled sample of the training share is not in a revision.
SAME = "the same content as a sample that the gate judges on"
NEAR = "nearly the same picture as one that the gate judges on"
CONTRADICTED = "labelled in two ways"


def freeze(connection: sa.Connection, use_case: str, *, now: datetime) -> tuple[str, DatasetRevision]:
    """The digest and the revision of everything that may be trained on now. It never holds the evaluation share.

    Nor does it hold a copy of what is in there, or content that has two labels. `new` names the samples that the last
    order's revision did not have, or had under another label.

    Raises:
        NotValid: nothing is labelled for training yet, or nothing of it may be trained on.
    """
    labelled = samples.labelled_rows(connection, use_case, TRAIN)
    if not labelled:
        raise NotValid(
            f"use case {use_case} has no labelled sample to train on; label some with `edgewise label next`",
            code="nothing_to_train",
        )
    judged_on = samples.labelled_rows(connection, use_case, EVALUATION)
    near = likeness.pairs(likeness_rows.of_use_case(connection, use_case))
    out = left_out(labelled, judged_on, near)
    held = [row for row in labelled if row.id not in out]
    if not held:
        raise NotValid(
            f"use case {use_case} has {len(labelled)} labelled samples to train on, and none may be: "
            f"{_counted(out.values())}; label other ones",
            code="nothing_to_train",
        )
    who = labels.newest_who(connection, use_case)
    last = rows.newest(connection, use_case)
    parent = None if last is None else rows.revision(connection, last.revision)
    before = {} if parent is None else {sample.sample: sample.label for sample in parent.samples}
    revision = DatasetRevision(
        use_case=use_case,
        made_at=now,
        samples=tuple(_line(row, who.get(row.id)) for row in held),
        new=tuple(row.id for row in held if before.get(row.id) != row.label),
        parent=None if last is None else last.revision,
        format=2,
        left_out=dict(sorted(Counter(out.values()).items())) or None,
    )
    return rows.add_revision(connection, revision), revision


def left_out(
    labelled: Sequence[SampleRow], judged_on: Sequence[SampleRow], near: Sequence[tuple[str, str]]
) -> dict[str, str]:
    """Ids of samples of the training share that must not be trained on, each with the reason.

    Args:
        near: pairs of samples of different groups that are nearly the same.
    """
    judged = {row.id for row in judged_on}
    contents = {row.blob for row in judged_on}
    beside = {one for pair in near for one, other in (pair, pair[::-1]) if other in judged}
    said: dict[str, set[str]] = {}
    for row in (*labelled, *judged_on):
        said.setdefault(row.blob, set()).add(row.label or "")
    found: dict[str, str] = {}
    for row in labelled:
        if row.blob in contents:
            found[row.id] = SAME
        elif row.id in beside:
            found[row.id] = NEAR
        elif len(said[row.blob]) > 1:
            found[row.id] = CONTRADICTED
    return found


def by_site(lines: Iterable[LabelledSample]) -> dict[str, dict[str, int]]:
    """How many samples each site has of each label.

    >>> line = LabelledSample(sample="0" * 32, blob="1" * 64, label="pit", site="a")
    >>> by_site([line, line])
    {'a': {'pit': 2}}
    """
    found: dict[str, Counter[str]] = {}
    for line in lines:
        found.setdefault(line.site, Counter())[line.label] += 1
    return {site: dict(sorted(counts.items())) for site, counts in sorted(found.items())}


def difference(
    before: DatasetRevision, after: DatasetRevision
) -> tuple[dict[str, dict[str, int]], dict[str, dict[str, int]], dict[str, int]]:
    """What came in, what went out, and which labels changed to which, counted."""
    old = {line.sample: line for line in before.samples}
    new = {line.sample: line for line in after.samples}
    changed = [(old[name].label, line.label) for name, line in new.items() if name in old]
    return (
        by_site(line for name, line in new.items() if name not in old),
        by_site(line for name, line in old.items() if name not in new),
        dict(sorted(Counter(f"{was} -> {now}" for was, now in changed if was != now).items())),
    )


def _line(row: SampleRow, who: str | None) -> LabelledSample:
    about: Mapping[str, object] = {
        "device": row.device,
        "taken_at": row.taken_at,
        "inclusion_probability": row.inclusion_probability,
        "labelled_at": row.labelled_at,
        "labelled_by": who,
    }
    return samples.line_of(row).model_copy(update=about)


def _counted(reasons: Iterable[str]) -> str:
    counts = Counter(reasons)
    return "; ".join(f"{count} are {reason}" for reason, count in sorted(counts.items()))
