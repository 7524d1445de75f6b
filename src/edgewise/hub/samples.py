"""Samples that a person brings in by hand, with or without labels; those of devices come through the intake."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from pydantic import Field

from edgewise.hub import audit, labels, usecases
from edgewise.hub.body import Body
from edgewise.hub.store import Store, lake
from edgewise.hub.store import samples as rows
from edgewise.wire import Annotation, NotValid, UseCase, canonical, digest
from edgewise.wire._record import Digest, Name, Time


class ImportedSample(Body):
    """One sample to import; its blob must be stored before."""

    use_case: Name
    site: Name
    frame: str = Field(min_length=1, max_length=500)
    group: str = Field(default="", max_length=500)
    label: str | None = Field(default=None, max_length=128)
    annotation: Annotation | None = None
    blob: Digest
    media_type: str = Field(default="image/jpeg", max_length=100)
    size_bytes: int = Field(default=0, ge=0, le=2**53)
    taken_at: Time


def import_samples(store: Store, wanted: Sequence[ImportedSample], *, who: str, now: datetime) -> list[str]:
    """Store these samples; comes back with their ids, in order. The same sample again keeps its id and is stored once.

    Raises:
        NotValid: no such use case or site, a blob that is not stored, or not a label.
    """
    for blob in dict.fromkeys(sample.blob for sample in wanted):
        if not store.blobs.has(blob):
            raise NotValid(f"blob {blob[:12]}… is not stored; PUT it before the samples", code="blob_not_stored")
    ids = [sample_id(sample) for sample in wanted]
    with store.write() as connection:
        _check_sites(connection, wanted)
        fresh = rows.add(connection, [_row(sample, name, now) for sample, name in zip(wanted, ids, strict=True)])
        said = [
            labels.NewLabel(name, item.label, item.annotation)
            for name, item in zip(ids, wanted, strict=True)
            if item.label is not None
        ]
        labels.set_in(connection, said, who=who, now=now)
        if fresh:
            lake.note_imported(connection, sorted(fresh))
            data = {"samples": len(fresh), "labelled": len(said), "ids": digest(canonical(sorted(fresh)))}
            audit.note(connection, actor=who, action="samples.imported", subject=wanted[0].use_case, data=data, now=now)
    return ids


def sample_id(sample: ImportedSample) -> str:
    """An id that follows from what the sample is, so that an import can be repeated."""
    return digest(canonical([sample.use_case, sample.site, sample.frame, sample.blob]))[:32]


def _check_sites(connection: sa.Connection, wanted: Sequence[ImportedSample]) -> None:
    known: dict[str, UseCase] = {}
    for use_case, site in dict.fromkeys((sample.use_case, sample.site) for sample in wanted):
        known.setdefault(use_case, usecases.need(connection, use_case))
        usecases.check_site(known[use_case], site)


def _row(sample: ImportedSample, name: str, now: datetime) -> dict[str, Any]:
    return {
        "id": name,
        "use_case": sample.use_case,
        "site": sample.site,
        "frame": sample.frame,
        "group": sample.group or name,
        "taken_at": sample.taken_at,
        "kept_at": now,
        "received_at": now,
        "why": "import",
        "inclusion_probability": 1.0,
        "blob": sample.blob,
        "size_bytes": sample.size_bytes,
        "media_type": sample.media_type,
        "priority": rows.PRIORITY["import"],
    }
