"""Dataset revisions: the labelled samples of one moment, frozen under their digest."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from edgewise.hub.labels import TRAIN
from edgewise.hub.store import orders as rows
from edgewise.hub.store import samples
from edgewise.wire import DatasetRevision, NotValid


def freeze(connection: sa.Connection, use_case: str, *, now: datetime) -> tuple[str, DatasetRevision]:
    """The digest and the revision of everything that may be trained on now. It never holds the evaluation share.

    `new` names the samples that the last order's revision did not have, or had under another label.

    Raises:
        NotValid: nothing is labelled for training yet.
    """
    held = samples.labelled(connection, use_case, TRAIN)
    if not held:
        raise NotValid(
            f"use case {use_case} has no labelled sample to train on; label some with `edgewise label next`",
            code="nothing_to_train",
        )
    last = rows.newest(connection, use_case)
    parent = None if last is None else rows.revision(connection, last.revision)
    before = {} if parent is None else {sample.sample: sample.label for sample in parent.samples}
    revision = DatasetRevision(
        use_case=use_case,
        made_at=now,
        samples=tuple(held),
        new=tuple(sample.sample for sample in held if before.get(sample.sample) != sample.label),
        parent=None if last is None else last.revision,
    )
    return rows.add_revision(connection, revision), revision
