"""Every bound of the hub in one record, each with its unit (invariant 11)."""

from __future__ import annotations

from dataclasses import dataclass

from edgewise.wire import SEGMENT_BYTES_MAX, SEGMENTS_MAX


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What the hub accepts and how long it waits. What is over a bound is refused with its number."""

    contact_bytes_max: int = SEGMENTS_MAX * SEGMENT_BYTES_MAX + (2 << 20)
    inflated_bytes_max: int = 32 << 20  # of one segment, after decompression
    blob_bytes_max: int = 512 << 20
    json_bytes_max: int = 8 << 20  # body of a call by a person, worker or signer
    import_samples_max: int = 10_000  # in one call
    labels_max: int = 10_000  # in one call
    page_max: int = 1000  # rows in one answer
    order_lease_s: float = 120  # a worker that is silent for longer loses its order
    order_attempts_max: int = 3
    controller_lease_s: float = 30
    enrolment_token_s: float = 7 * 86_400
    contact_jitter: float = 0.2  # of the use case's contact_s, either way, so that a fleet does not call all at once
