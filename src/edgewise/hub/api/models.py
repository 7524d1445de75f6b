"""What the people's routes take and give: small models, so that the OpenAPI document says everything."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from edgewise.hub.body import Body
from edgewise.hub.samples import ImportedSample
from edgewise.wire import Annotation, Assignment, Candidate, CapabilityCard, Order, Release, Report, Scored, UseCase
from edgewise.wire._record import Digest, Id, Name


class Out(BaseModel):
    """An answer; it may be made from a row."""

    model_config = ConfigDict(from_attributes=True)


class UseCaseOut(Out):
    name: str
    version: int
    policy_version: int
    made_at: datetime
    who: str
    usecase: UseCase


class EnrolmentTokenIn(Body):
    site: Name
    use_case: Name
    device: Name | None = None
    labels: dict[str, str] = Field(default={}, max_length=100)


class EnrolmentTokenOut(Out):
    token: str
    expires_at: datetime


class DeviceOut(Out):
    id: str
    site: str
    use_case: str
    labels: dict[str, str]
    facts: dict[str, Any]
    enrolled_at: datetime
    certificate_ends_at: datetime | None
    revoked_at: datetime | None
    seen_at: datetime | None
    phase: str | None
    release: str | None
    bundle: str | None
    clone_seen: str | None
    pin: dict[str, Any] | None = Field(description="release, who, why, at: an operator keeps it there")
    conflict: dict[str, Any] | None = Field(description="text, since, resolved: it reports what this hub does not know")
    assignment: Assignment | None = Field(validation_alias="wanted")
    report: Report | None = Field(validation_alias="last_report")
    card: CapabilityCard | None  # as the device measured and signed it


class Reason(Body):
    reason: str = Field(min_length=1, max_length=500)


class Done(Out):
    ok: bool = True


class ImportIn(Body):
    samples: tuple[ImportedSample, ...] = Field(min_length=1)


class ImportOut(Out):
    ids: list[str]


class SampleOut(Out):
    id: str
    use_case: str
    site: str
    device: str | None
    frame: str
    group: str
    taken_at: datetime
    received_at: datetime
    why: str
    inclusion_probability: float
    blob: str
    size_bytes: int
    media_type: str
    decision: dict[str, Any] | None
    shadow: dict[str, Any] | None
    rollout: str | None
    facts: dict[str, Any] | None
    label: str | None
    annotation: dict[str, Any] | None
    labelled_at: datetime | None
    purpose: str | None


class SamplePage(Out):
    samples: list[SampleOut]
    next: str | None = Field(description="cursor of the next page; none on the last")


class LabelHistory(Out):
    label: str = Field(description="empty where the only label was taken back")
    annotation: dict[str, Any] | None
    who: str
    at: datetime
    taken_back_by: str | None = Field(description="who undid the label before, so that this one holds again")


class SampleWithHistory(SampleOut):
    labels: list[LabelHistory]


class ToLabel(Out):
    sample: str
    blob: str
    media_type: str
    site: str
    device: str | None
    frame: str
    group: str
    why: str
    taken_at: datetime
    decision: dict[str, Any] | None
    shadow: dict[str, Any] | None
    labels: list[str] = Field(description="labels known so far; a new one is fine too")


class LabelIn(Body):
    sample: Id
    label: str = Field(min_length=1, max_length=128)
    annotation: Annotation | None = None


class LabelsIn(Body):
    labels: tuple[LabelIn, ...] = Field(min_length=1)


class LabelsOut(Out):
    accepted: int
    duplicates: int


class OrderOut(Out):
    id: str
    use_case: str
    kind: str
    state: str
    order: Order
    made_at: datetime
    updated_at: datetime
    worker: str | None
    lease_until: datetime | None
    attempts: int
    attempts_max: int
    error: str | None
    candidate: dict[str, Any] | None
    bundle: str | None


class ClaimIn(Body):
    worker: Name
    kinds: tuple[str, ...] = Field(default=("train",), min_length=1, max_length=10)


class HeartbeatIn(Body):
    worker: Name


class HeartbeatOut(Out):
    lease_until: datetime


class FailIn(Body):
    worker: Name
    error: str = Field(min_length=1, max_length=100_000)
    planned: bool = Field(default=False, description="the worker was told to stop: this try does not count")


class CancelIn(Body):
    reason: str = Field(min_length=1, max_length=500)


class SuggestIn(Body):
    use_case: Name
    why: str = Field(default="by hand", max_length=500)


class AdaptIn(Body):
    use_case: Name
    site: Name
    why: str = Field(default="by hand", max_length=500)


class AskIn(Body):
    use_case: Name
    site: Name


class AskedOut(Out):
    devices: list[str] = Field(description="that were asked for their sums; they tell within some hundred frames")


class ScoredIn(Body):
    worker: Name
    scored: tuple[Scored, ...] = Field(default=(), max_length=1000)
    unreadable: tuple[Id, ...] = Field(
        default=(), max_length=1000, description="samples that no picture can be made of"
    )


class CandidateIn(Body):
    worker: Name
    candidate: Candidate


class BundleName(Out):
    digest: str


class BundleOut(Out):
    digest: str
    use_case: str | None
    name: str
    order: str | None
    size_bytes: int
    made_at: datetime
    who: str


class PublishIn(Body):
    documents: dict[str, str] = Field(description="signed TUF metadata by role, exactly as signed", max_length=64)
    files: dict[str, str] = Field(default={}, description="new target files by path", max_length=256)
    why: str = Field(default="", max_length=1000, description="reason of a withdrawal")


class PublishedOut(Out):
    published: dict[str, int] = Field(description="version by role")
    waiting: dict[str, int] = Field(description="signatures that are missing, by role; nothing is published before")
    releases: list[Release]
    withdrawn: list[str]


class ReleaseOut(Out):
    id: str
    use_case: str
    version: int
    bundle: str
    verdict: str | None
    signed_as: str
    release: Release = Field(validation_alias="body")
    received_at: datetime
    reverted_at: datetime | None
    reverted_why: str | None
    withdrawn_at: datetime | None


class ReleaseWhere(ReleaseOut):
    """A release traced both ways: back to what it was made of, forward to the devices that run it."""

    runs_on: list[str]
    gate: str | None = Field(description="the verdict's result")
    revision: str | None = Field(description="dataset revision it was trained on")
    parent: str | None = Field(description="bundle it was started from")
    order: str | None
    seed: int


class AuditOut(Out):
    index: int
    at: datetime
    actor: str
    action: str
    subject: str
    data: dict[str, Any]
    previous: Digest
    hash: Digest


class AuditChecked(Out):
    entries: int
    broken: int | None = Field(description="index of the first entry that does not hold; null when all do")
    head: str | None


class Health(Out):
    status: str
    checks: dict[str, str] = {}


class Version(Out):
    version: str
    api: str = "v1"
