"""Nothing leaves unless the policy allows it (invariant 4): asked before sealing on the device, and again at intake."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edgewise.policy._sums import noise_missing
from edgewise.wire import AnyRecord, DataPolicy, Event, NotValid, Readings, RecordClass, Sample, SegmentHeader

NO_TRANSFORM = "none"
# A segment of these holds samples and so content.
CONTENT_CLASSES: frozenset[RecordClass] = frozenset({"sample", "audit_sample", "disagreement"})
# These hold content only when the segment names blobs: an alarm or an operator's word may come with its frame.
MIXED_CLASSES: frozenset[RecordClass] = frozenset({"alarm", "feedback"})
HIDDEN = re.compile(r"[0-9a-f]{64}")


class Forbidden(NotValid):
    """The policy does not let this leave; a person changes the policy or what is asked for."""

    def __init__(self, message: str, *, code: str = "forbidden") -> None:
        super().__init__(message, code=code)


def may_leave(policy: DataPolicy, kind: RecordClass | str) -> None:
    """Nothing, when records of this class may leave the device, or anything by this way out.

    Args:
        kind: a record class, or ``report`` for the state that goes with every contact (an audit sample is a sample);
            or a way out beside the uplink: ``deferral``, ``sink``, ``courier``, ``local-api``, ``log``.
    Raises:
        Forbidden: the policy does not list it; what is not listed does not leave.

    >>> may_leave(DataPolicy(), "audit_sample")
    >>> may_leave(DataPolicy(), "deferral")
    Traceback (most recent call last):
    ...
    edgewise.policy._leave.Forbidden: deferral may not leave the device under policy 1, which lists sample, telemetry,
    report, feedback, alarm, disagreement, audit, courier, local-api; add it to data.leave if it should
    """
    needed = "sample" if kind == "audit_sample" else kind
    if needed not in policy.leave:
        raise Forbidden(
            f"{kind} may not leave the device under policy {policy.version}, which lists "
            f"{', '.join(policy.leave) or 'nothing'}; add it to data.leave if it should",
            code="class_forbidden",
        )


def required_transform(policy: DataPolicy, media_type: str) -> str:
    """The transforms, joined by ``+``, that content of this type must have been through; ``none`` when there are none.

    Raises:
        Forbidden: the policy's data class has no way to make this type private, so it cannot be kept.

    >>> required_transform(DataPolicy(transforms=("strip-metadata", "grey")), "image/jpeg")
    'strip-metadata+grey'
    >>> required_transform(DataPolicy(data_class="measurement", transforms=()), "application/json")
    'none'
    """
    if media_type.startswith("image/") != (policy.data_class != "measurement"):
        raise Forbidden(
            f"content of type {media_type!r} does not belong to the data class {policy.data_class}; pictures need "
            "product-image or person-image, rows of numbers need measurement",
            code="content_forbidden",
        )
    return _transform(policy)


def _transform(policy: DataPolicy) -> str:
    return "+".join(policy.transforms) or NO_TRANSFORM


def check_segment(policy: DataPolicy, header: SegmentHeader, *, earlier: Sequence[DataPolicy] = ()) -> None:
    """Nothing, when the policy lets this segment leave, as far as its header tells; `check_contents` looks inside.

    Args:
        policy: the policy in force.
        earlier: older versions under which a device may still have sealed, where the hub goes on accepting them.
    Raises:
        Forbidden: an unknown policy version, a class that may not leave, content without the transform that makes it
            private, or content in a class that has none.
    """
    known = {item.version: item for item in (*earlier, policy)}
    if header.policy_version not in known:
        raise Forbidden(
            f"segment {header.number} was made private under policy {header.policy_version}; known are "
            f"{', '.join(str(version) for version in sorted(known))}; the device has to fetch the policy in force",
            code="policy_unknown",
        )
    # The class must be allowed now, whatever was allowed when the segment was sealed.
    may_leave(policy, header.record_class)
    has_content = bool(header.blobs) or header.record_class in CONTENT_CLASSES
    if has_content and header.record_class not in CONTENT_CLASSES | MIXED_CLASSES:
        raise Forbidden(
            f"segment {header.number} of class {header.record_class} names {len(header.blobs)} blobs; "
            "this class holds none",
            code="content_forbidden",
        )
    needed = _transform(known[header.policy_version])
    allowed = {needed} if has_content else {needed, NO_TRANSFORM}
    if header.transform not in allowed:
        raise Forbidden(
            f"segment {header.number} went through {header.transform!r}, policy {header.policy_version} needs "
            f"{needed!r}; the device has to make it private again or drop it",
            code="transform_missing",
        )


def check_contents(policy: DataPolicy, header: SegmentHeader, records: Iterable[AnyRecord]) -> None:
    """Nothing, when the records keep to what their segment's header promised and to the policy's fields.

    Args:
        policy: the one that the header names.
    Raises:
        Forbidden: a sample whose blob the header does not name, whose type the policy cannot make private, in a class
            without content, or with a fact or channel that may not travel; sums by channel without the noise that the
            policy asks for.
    """
    named = set(header.blobs)
    for record in records:
        if not isinstance(record, Sample):
            if header.record_class in CONTENT_CLASSES:
                raise Forbidden(
                    f"segment {header.number} of class {header.record_class} holds a {record.kind}; "
                    "it needs samples alone",
                    code="content_forbidden",
                )
            may_leave(policy, _class_of(record, header))
            if isinstance(record, Readings):
                _check_channels(policy, record)
            if isinstance(record, Event):
                _check_sums(policy, record)
            continue
        if record.blob not in named or header.transform != required_transform(policy, record.media_type):
            raise Forbidden(
                f"sample {record.id} in segment {header.number} has content {record.blob[:16]}… of type "
                f"{record.media_type} after {header.transform!r}; the header must name it, after the policy's "
                "transform",
                code="content_forbidden",
            )
        _check_fields(policy, record)


def _class_of(record: AnyRecord, header: SegmentHeader) -> str:
    if isinstance(record, Readings):
        return "telemetry"
    return record.kind if record.kind != "event" else header.record_class


def _check_channels(policy: DataPolicy, readings: Readings) -> None:
    extra = sorted(set(readings.channels) - set(policy.telemetry))
    if extra:
        raise Forbidden(
            f"readings {readings.id} are of {', '.join(extra[:5])}, policy {policy.version} lets only "
            f"{', '.join(policy.telemetry) or 'nothing'} travel; list them under data.telemetry if they should",
            code="fields_forbidden",
        )


def _check_sums(policy: DataPolicy, event: Event) -> None:
    missing, wanted = noise_missing(policy, event), policy.private.sums_noise
    if missing and wanted is not None:
        raise Forbidden(
            f"event {event.id} has sums by channel with {missing}; policy {policy.version} needs Gaussian noise of "
            f"epsilon {wanted.epsilon:g} and delta {wanted.delta:g} at most, values clipped to "
            f"±{wanted.clip:g} deviations of training; the device has to add it",
            code="noise_missing",
        )


def _check_fields(policy: DataPolicy, sample: Sample) -> None:
    extra = sorted(set(sample.facts) - set(policy.fields))
    if sample.group and "group" not in policy.fields:
        extra.append("group")
    if "frame" not in policy.fields and not HIDDEN.fullmatch(sample.frame):
        extra.append("frame")
    if extra:
        raise Forbidden(
            f"sample {sample.id} carries {', '.join(extra)}, policy {policy.version} lets only "
            f"{', '.join(policy.fields) or 'nothing'} travel; drop them on the device",
            code="fields_forbidden",
        )


def private_facts(policy: DataPolicy, facts: Mapping[str, Any]) -> dict[str, str | float | int | bool]:
    """The facts of a frame that may travel with its sample: those the policy lists, and only plain values.

    >>> private_facts(DataPolicy(fields=("line",)), {"line": 4, "operator": "A. Person"})
    {'line': 4}
    """
    return {
        name: value
        for name, value in facts.items()
        if name in policy.fields and isinstance(value, str | int | float | bool)
    }


def frame_name(policy: DataPolicy, name: str, key: bytes) -> str:
    """The frame's name as it may travel: itself where the policy lists ``frame``, else a keyed hash of it.

    A name may tell a person's; the key stays on the device, so nobody else can try names against the hash.

    Raises:
        NotValid: the key has fewer than 16 bytes.

    >>> frame_name(DataPolicy(), "part-7.jpg", b"")
    'part-7.jpg'
    """
    if "frame" in policy.fields:
        return name
    if len(key) < 16:
        raise NotValid(f"the key that hides names has {len(key)} bytes, needs at least 16", code="key_invalid")
    return hmac.new(key, name.encode(), hashlib.sha256).hexdigest()
