"""The tables: their columns, types and units. docs/lake.md shows them, and a test compares both."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]

Kind = Literal["text", "json", "whole", "number", "time", "day", "counts"]
PARTITION = ("use_case", "site", "date")


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One column.

    Attributes:
        kind: text; json (a text); whole (64 bits); number (double); time (UTC, microseconds); day (UTC);
            counts (a list of name and whole number).
        text: what it says, with its unit.
    """

    name: str
    kind: Kind
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """One table.

    Attributes:
        time: the column by which the policy's retention is counted.
        key: the column that an erasure names.
    """

    name: str
    text: str
    time: str
    key: str
    columns: tuple[Column, ...]


def _columns(*lines: str) -> tuple[Column, ...]:
    found = []
    for line in lines:
        name, kind, text = line.split(" ", 2)
        found.append(Column(name=name, kind=kind, text=text))  # type: ignore[arg-type]
    return tuple(found)


_WHERE = (
    "use_case text the use case",
    "site text the site",
    "date day the day on which the hub received it (UTC): the partition",
)
_ORIGIN = (
    *_WHERE,
    "id text the record's id, made on the device",
    "device text the device; none for what came by hand",
    "epoch text the outbox that it came from",
    "number whole the segment of that outbox: device, epoch and number are stored once",
    "received_at time when the hub received it, by the hub's clock",
)

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        Table(
            name="readings",
            text="what sensors said, one row a reading",
            time="read_at",
            key="id",
            columns=_columns(
                *_ORIGIN,
                "channel text name of the channel",
                "read_at time when it was read, by the device's clock, to the millisecond",
                "value number the reading, in the channel's own unit",
                "whole whole the same where the channel sends whole numbers, exact above 2^53 too",
            ),
        ),
        Table(
            name="telemetry",
            text="counts of one window of one release",
            time="started_at",
            key="id",
            columns=_columns(
                *_ORIGIN,
                "started_at time begin of the window",
                "ended_at time end of the window",
                "release text release that decided",
                "bundle text digest of its bundle",
                "rollout text rollout under way",
                "pipeline text pipeline, of a device that has several",
                "decisions whole decisions made",
                "bytes_decided whole bytes of the frames decided on",
                "alarms whole alarms; none where the policy hides the count",
                "overrides whole decisions that an operator called wrong or missed; none where not told",
                "paired whole decisions that both bundles made on the same frame",
                "disagreed whole of these, those on which they differed",
                "latency_p50_ms number median time of a decision, ms",
                "latency_p99_ms number 99th percentile of it, ms",
                "labels counts decisions by label",
                "shed counts records shed by class since the outbox was made",
                "deferrals counts of a cascade: decisions by fate since the device was made",
            ),
        ),
        Table(
            name="events",
            text="what happened on devices: changes of phase, refusals, starts, alarms",
            time="happened_at",
            key="id",
            columns=_columns(
                *_ORIGIN,
                "happened_at time when, by the device's clock",
                "what text which kind of event",
                "message text for people",
                "data json for programs",
            ),
        ),
        Table(
            name="samples",
            text="kept frames with the decisions on them; contents are blobs of the hub",
            time="taken_at",
            key="id",
            columns=_columns(
                *_ORIGIN,
                "taken_at time when the frame was taken, by the device's clock",
                "kept_at time when it was kept",
                "frame text its name at its source, or the keyed hash of it",
                "sample_group text part, spindle, patient: never split inside one",
                "why text why it was kept",
                "inclusion_probability number with which probability it was kept, above 0 to 1",
                "blob text digest of its content",
                "size_bytes whole bytes of its content",
                "media_type text type of its content",
                "decided text label of the decision",
                "confidence number probability of that label, 0 to 1",
                "margin number best minus second-best probability, 0 to 1",
                "release text release that decided",
                "bundle text digest of its bundle",
                "decision json the whole decision",
                "shadow_decided text label of the other bundle's decision on the same frame",
                "shadow json the whole of that",
                "rollout text rollout in which the pair was seen",
                "facts json facts of the frame that may travel",
            ),
        ),
        Table(
            name="feedback",
            text="what operators said of decisions",
            time="given_at",
            key="id",
            columns=_columns(
                *_ORIGIN,
                "given_at time when, by the device's clock",
                "frame text the frame's name",
                "verdict text wrong, missed or unknown",
                "label text what it should have been",
                "note text in the operator's words",
            ),
        ),
        Table(
            name="labels",
            text="the history of labels; the newest row of a sample holds",
            time="labelled_at",
            key="sample",
            columns=_columns(
                *_WHERE,
                "sample text id of the sample",
                "position whole place in the history: of two rows of a sample the higher one is newer",
                "device text its device; none for what came by hand",
                "label text the label; empty where the only one was taken back",
                "annotation json what was said beyond the label",
                "labelled_by text who",
                "labelled_at time when, by the hub's clock",
                "taken_back_by text who undid the label before",
            ),
        ),
    )
}


@functools.cache
def arrow_schema(name: str) -> pa.Schema:
    """The Arrow schema of a table."""
    import pyarrow as pa

    counts = pa.list_(pa.struct([pa.field("name", pa.string()), pa.field("count", pa.int64())]))
    types = {
        "text": pa.string(),
        "json": pa.string(),
        "whole": pa.int64(),
        "number": pa.float64(),
        "time": pa.timestamp("us", "UTC"),
        "day": pa.date32(),
        "counts": counts,
    }
    return pa.schema([pa.field(column.name, types[column.kind]) for column in TABLES[name].columns])


def statistics_columns(name: str) -> str:
    """Columns whose least and most values may stand in the table's log: nothing of what a record says."""
    plain = {"received_at", "read_at", TABLES[name].time}
    return ",".join(column.name for column in TABLES[name].columns if column.name in plain)
