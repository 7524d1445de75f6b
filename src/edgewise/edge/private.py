"""From a frame to a sample that may leave: what cannot be made private cannot be kept (invariant 4)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from edgewise.edge.outbox import Entry
from edgewise.frames import make_private
from edgewise.policy import (
    SUBJECT_FACT,
    frame_name,
    may_leave,
    private_facts,
    required_transform,
    subject_hash,
    subject_of,
)
from edgewise.ports import Frame
from edgewise.wire import DataPolicy, Decision, RecordClass, Sample, digest

Why = Literal["margin", "audit", "novelty", "feedback", "disagreement", "alarm"]
BOXES_FIELD = "boxes"
CLASS_OF: dict[str, RecordClass] = {
    "margin": "sample",
    "novelty": "sample",
    "audit": "audit_sample",
    "feedback": "feedback",
    "disagreement": "disagreement",
    "alarm": "alarm",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Chosen:
    """A frame to keep, and why."""

    frame: Frame
    why: Why
    inclusion_probability: float
    decision: Decision
    shadow: Decision | None = None
    rollout: str | None = None


def sample_id(device: str, frame: str, why: str) -> str:
    """The id of a frame's sample: the same whenever the same frame is kept for the same kind of reason.

    It is made from the name as it may travel (`frame_name`): made from the name itself it would let anybody try names.

    After a crash the frames of an unfinished period are decided again; a random id would keep them twice. An audit
    sample has an id of its own: the same frame may go up at once for a disagreement and later as part of the audit.
    """
    family = why if why in ("audit", "disagreement", "feedback", "alarm") else "chosen"
    return digest(f"{device}\n{family}\n{frame}".encode())[:32]


def event_id(device: str, event: str, frame: str) -> str:
    """The id of an ``alarm`` or ``decision`` on a frame: the same when the frame is decided again after a crash.

    Args:
        frame: its name as it may travel.
    """
    return digest(f"{device}\n{event} event\n{frame}".encode())[:32]


def private_content(frame: Frame, policy: DataPolicy, *, key: bytes) -> tuple[bytes, str, str]:
    """A frame's bytes as they may leave, their media type, and the transforms they went through; ``none`` without any.

    Every way out that carries a frame takes it from here, so that none forgets the transforms' settings.

    Raises:
        NotValid: the policy has no way to make this private, or it failed.
    """
    transform = required_transform(policy, frame.media_type)
    if transform == "none":
        return frame.data, frame.media_type, transform
    return *make_private(frame.data, frame.media_type, transform.split("+"), policy.private, key=key), transform


def private_entry(
    chosen: Chosen,
    *,
    policy: DataPolicy,
    device: str,
    site: str,
    name_key: bytes,
    now: datetime,
    subject_key: bytes | None = None,
) -> Entry:
    """The outbox entry of a frame after the policy's transforms.

    Args:
        name_key: hides names of frames that may not travel.
        subject_key: hides subjects, always; the same as `name_key` unless given.

    Raises:
        NotValid: the policy does not let it leave, or the frame cannot be made private.
    """
    frame, record_class = chosen.frame, CLASS_OF[chosen.why]
    may_leave(policy, record_class)
    data, media_type, transform = private_content(frame, policy, key=name_key)
    name = frame_name(policy, frame.name, name_key)
    subject = subject_hash(subject_of(frame.facts, frame.group), subject_key or name_key)
    facts = private_facts(policy, frame.facts)
    if SUBJECT_FACT in facts:  # who it is never travels, only which of the site's subjects
        facts[SUBJECT_FACT] = subject
    sample = Sample(
        id=sample_id(device, name, chosen.why),
        frame=name,
        site=site,
        taken_at=frame.taken_at if "taken_at" in policy.fields else now,
        kept_at=now,
        group=frame.group if "group" in policy.fields else "",
        why=chosen.why,
        inclusion_probability=chosen.inclusion_probability,
        blob=digest(data),
        size_bytes=len(data),
        media_type=media_type,
        decision=_told(policy, chosen.decision),
        shadow=None if chosen.shadow is None else _told(policy, chosen.shadow),
        rollout=chosen.rollout,
        facts=facts,
    )
    return Entry(
        record=sample,
        record_class=record_class,
        policy_version=policy.version,
        transform=transform,
        content=data,
        subject=subject,
        about_at=frame.taken_at,
    )


def _told(policy: DataPolicy, decision: Decision) -> Decision:
    """The decision as it may travel: where things are in a picture only with `boxes` among the policy's fields.

    A box tells of the whole picture, also of what a crop or a blur has taken out of it.
    """
    if decision.boxes is None or BOXES_FIELD in policy.fields:
        return decision
    return decision.model_copy(update={"boxes": None})
