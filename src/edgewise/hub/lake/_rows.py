"""From stored segments to rows of the tables. Pure: bytes and offsets go in, Arrow tables come out."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from edgewise import _zstd
from edgewise.delta import decode_series
from edgewise.hub.lake._tables import TABLES, arrow_schema
from edgewise.hub.segments import OPENED_BYTES_MAX
from edgewise.hub.store.lake import Note, SegmentBody

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]
    from numpy.typing import NDArray

TABLE_OF = {
    "readings": "readings",
    "telemetry": "telemetry",
    "event": "events",
    "sample": "samples",
    "feedback": "feedback",
}
# Whether rows of a use case and site may enter, and from which moment on they are kept.
Admits = Callable[[str, str], datetime | None]


@dataclass(slots=True)
class _Block:
    """Readings of one block, as arrays; everything else is the same for all of them."""

    origin: dict[str, Any]
    channels: list[str]
    times_ms: list[NDArray[np.int64]] = field(default_factory=list)
    values: list[NDArray[np.float64] | NDArray[np.int64]] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)


class Batch:
    """Rows on their way into the tables.

    Args:
        offsets: for each table the position up to which its segments are in it: rows of these are left out.
        admits: the moment before which a row is past its retention; None where none may enter at all.
    """

    def __init__(self, offsets: Mapping[str, int], admits: Admits) -> None:
        self._offsets = offsets
        self._admits = admits
        self._rows: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
        self._blocks: list[_Block] = []
        self.count = 0

    def add_segment(self, segment: SegmentBody) -> None:
        """The records of a segment, but those that were stored before."""
        seen = set(segment.repeated or ())
        told: set[str] = set()
        for line in _zstd.unpack(segment.body, bytes_max=OPENED_BYTES_MAX)[0].splitlines():
            record = json.loads(line)
            kind, name = record["kind"], f"{record['kind']}/{record['id']}"
            table = TABLE_OF[kind]
            if name in told or (name in seen) or segment.position <= self._offsets[table]:
                continue
            told.add(name)
            self._add(table, record, self._origin(segment, record))

    def add_notes(self, notes: Iterable[Note], imported: Iterable[Mapping[str, Any]], *, after: int) -> None:
        """What came in no segment: labels as their notes hold them, and samples that came by hand.

        Args:
            imported: rows of the store for the notes of kind ``import`` above `after`.
        """
        for note in notes:
            if note.kind == "label" and note.position > after:
                data = note.data
                at = datetime.fromisoformat(data["at"])
                row = {
                    "use_case": data["use_case"],
                    "site": data["site"],
                    "date": at.astimezone(UTC).date(),
                    "sample": note.sample,
                    "position": data["position"],
                    "device": data["device"],
                    "label": data["label"],
                    "annotation": _text(data["annotation"]),
                    "labelled_by": data["who"],
                    "labelled_at": at,
                    "taken_back_by": data["taken_back_by"],
                }
                self._keep("labels", row)
        for sample in imported:
            origin = {name: sample[name] for name in ("use_case", "site", "id", "device", "epoch", "number")}
            origin |= {"received_at": sample["received_at"], "date": sample["received_at"].date()}
            self._keep("samples", origin | _sample(sample, sample["decision"] or {}))

    def table(self, name: str) -> pa.Table | None:
        """The rows of one table; None without any."""
        import pyarrow as pa

        if name == "readings":
            return _readings(self._blocks) if self._blocks else None
        rows = self._rows[name]
        return pa.Table.from_pylist(rows, schema=arrow_schema(name)) if rows else None

    def _origin(self, segment: SegmentBody, record: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "use_case": segment.use_case,
            "site": record.get("site", segment.site),
            "date": segment.received_at.date(),
            "id": record["id"],
            "device": segment.device,
            "epoch": segment.epoch,
            "number": segment.number,
            "received_at": segment.received_at,
        }

    def _add(self, table: str, record: Mapping[str, Any], origin: dict[str, Any]) -> None:
        if table == "readings":
            self._add_readings(record, origin)
        else:
            self._keep(table, origin | _ROWS[table](record))

    def _keep(self, table: str, row: dict[str, Any]) -> None:
        since = self._admits(row["use_case"], row["site"])
        if since is not None and row[TABLES[table].time] >= since:
            self._rows[table].append(row)
            self.count += 1

    def _add_readings(self, record: Mapping[str, Any], origin: dict[str, Any]) -> None:
        since = self._admits(origin["use_case"], origin["site"])
        if since is None:
            return
        block = _Block(origin=origin, channels=[])
        data = base64.b64decode(record["block"])
        for column in decode_series(data, channels=len(record["channels"]), count=record["count"]):
            kept = column.times_ms >= int(since.timestamp() * 1000)
            times, values = column.times_ms[kept], column.values[kept]
            if len(times):
                block.channels.append(record["channels"][column.channel])
                block.times_ms.append(times)
                block.values.append(values)
                block.counts.append(len(times))
        if block.counts:
            self._blocks.append(block)
            self.count += sum(block.counts)


def _readings(blocks: list[_Block]) -> pa.Table:
    """The rows of all blocks: what is the same for a whole block is made once and repeated."""
    import pyarrow as pa

    schema = arrow_schema("readings")
    sizes = np.array([sum(block.counts) for block in blocks])
    of_block = pa.array(np.repeat(np.arange(len(blocks)), sizes))
    names = [name for name in schema.names if name in blocks[0].origin]
    columns = {
        name: pa.array([block.origin[name] for block in blocks], schema.field(name).type).take(of_block)
        for name in names
    }
    channels = [channel for block in blocks for channel in block.channels]
    counts = np.array([count for block in blocks for count in block.counts])
    columns["channel"] = pa.array(channels, pa.string()).take(pa.array(np.repeat(np.arange(len(counts)), counts)))
    times = np.concatenate([part for block in blocks for part in block.times_ms])
    columns["read_at"] = pa.array(times * 1000, pa.int64()).cast(schema.field("read_at").type)
    values = [part for block in blocks for part in block.values]
    columns["value"] = pa.array(np.concatenate([part.astype(np.float64) for part in values]))
    is_whole = np.repeat(np.array([part.dtype == np.int64 for part in values]), counts)
    whole = np.concatenate([part if part.dtype == np.int64 else np.zeros(len(part), np.int64) for part in values])
    columns["whole"] = pa.array(whole, pa.int64(), mask=~is_whole)
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _telemetry(record: Mapping[str, Any]) -> dict[str, Any]:
    withheld = record.get("withheld", ())
    latency = record.get("latency_ms") or {}
    same = ("release", "bundle", "rollout", "pipeline")
    return {name: record.get(name) for name in same} | {
        "started_at": _time(record["start"]),
        "ended_at": _time(record["end"]),
        "decisions": record["decisions"],
        "bytes_decided": record.get("bytes_decided", 0),
        "alarms": None if "alarms" in withheld else record.get("alarms", 0),
        "overrides": None if "overrides" in withheld else record.get("overrides"),
        "paired": record.get("paired", 0),
        "disagreed": record.get("disagreed", 0),
        "latency_p50_ms": latency.get("p50"),
        "latency_p99_ms": latency.get("p99"),
        "labels": _counts(record.get("labels")),
        "shed": _counts(record.get("shed")),
        "deferrals": _counts(record.get("deferrals")),
    }


def _event(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "happened_at": _time(record["at"]),
        "what": record["what"],
        "message": record["text"],
        "data": _text(record.get("data") or {}),
    }


def _sample_of(record: Mapping[str, Any]) -> dict[str, Any]:
    times = {name: _time(record[name]) for name in ("taken_at", "kept_at")}
    return _sample({**record, **times}, record["decision"])


def _sample(row: Mapping[str, Any], decision: Mapping[str, Any]) -> dict[str, Any]:
    same = ("taken_at", "kept_at", "frame", "why", "inclusion_probability", "blob", "size_bytes", "media_type")
    shadow = row.get("shadow") or {}
    return {name: row[name] for name in same} | {
        "sample_group": row.get("group") or row["id"],
        "decided": decision.get("label"),
        "confidence": decision.get("confidence"),
        "margin": decision.get("margin"),
        "release": decision.get("release"),
        "bundle": decision.get("bundle"),
        "decision": _text(decision or None),
        "shadow_decided": shadow.get("label"),
        "shadow": _text(shadow or None),
        "rollout": row.get("rollout"),
        "facts": _text(row.get("facts") or {}),
    }


def _feedback(record: Mapping[str, Any]) -> dict[str, Any]:
    told = {name: record.get(name) for name in ("frame", "verdict", "label")}
    return told | {"given_at": _time(record["given_at"]), "note": record.get("note", "")}


_ROWS: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "telemetry": _telemetry,
    "events": _event,
    "samples": _sample_of,
    "feedback": _feedback,
}


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _text(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _counts(value: Mapping[str, int] | None) -> list[dict[str, Any]] | None:
    return None if value is None else [{"name": name, "count": count} for name, count in sorted(value.items())]
