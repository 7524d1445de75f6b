"""Every bound of the hub in one record, each with its unit (invariant 11)."""

from __future__ import annotations

from dataclasses import dataclass, field

from edgewise.ports import BucketLimits
from edgewise.wire import SEGMENT_BYTES_MAX, SEGMENTS_MAX


@dataclass(frozen=True, kw_only=True, slots=True)
class LakeLimits:
    """Bounds of the lake's committer and of questions to it."""

    rows_max: int = 500_000  # of one commit, and those of one segment more
    bytes_max: int = 4 << 20  # of packed segments read at once
    segments_max: int = 2000  # looked at at once
    notes_max: int = 10_000
    batches_max: int = 20  # of one round; what is left comes in the next
    lease_s: float = 20
    compact_s: float = 600
    small_files_max: int = 16  # a partition with so many is compacted
    partitions_max: int = 4  # compacted in one round
    sweep_s: float = 3600  # between two looks at retention, residency and files that nobody needs
    queries_max: int = 2  # at once; who asks one more is told to ask again
    query_s_max: float = 30
    query_memory_bytes: int = 1 << 30  # of the process that answers it, beyond its libraries
    query_rows_max: int = 100_000
    query_bytes_max: int = 64 << 20  # of one answer
    sql_chars_max: int = 20_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What the hub accepts and how long it waits. What is over a bound is refused with its number."""

    contact_bytes_max: int = SEGMENTS_MAX * SEGMENT_BYTES_MAX + (2 << 20)
    inflated_bytes_max: int = 32 << 20  # of one segment, after decompression
    readings_max: int = 200_000  # of one segment, in all its blocks
    readings_page_max: int = 10_000  # in one answer
    blob_bytes_max: int = 512 << 20
    bucket: BucketLimits = field(default_factory=BucketLimits)  # where contents live in an object store
    parts_max: int = 1000  # unfinished uploads of blobs, of all devices
    parts_bytes_max: int = 16 << 30
    parts_device_max: int = 8  # of one device
    parts_device_bytes_max: int = 1 << 30
    parts_age_s: float = 7 * 86_400  # one that got nothing for so long is forgotten
    delta_blob_bytes_max: int = 256 << 20  # larger blobs are sent whole: a build holds both versions in memory
    delta_thorough_bytes_max: int = 8 << 20  # up to here every way of packing is tried, at about 4 MB/s
    delta_builds_max: int = 64  # waiting at once; who asks for one more is told to ask again later
    delta_cache_bytes_max: int = 2 << 30
    delta_cache_count_max: int = 10_000
    json_bytes_max: int = 8 << 20  # body of a call by a person, worker or signer
    import_samples_max: int = 10_000  # in one call
    labels_max: int = 10_000  # in one call
    label_act_samples_max: int = 100  # in one act, which is taken back as one
    label_claim_s: float = 180  # how long a sample is kept for who looks at it; their page asks again in time
    label_undo_s: float = 86_400  # how far back a person can take back what they did
    page_max: int = 1000  # rows in one answer
    lake: LakeLimits = field(default_factory=LakeLimits)
    console_rows_max: int = 50  # rows of a list on one page of the console
    console_watch_s: float = 60  # after it a page that follows a rollout asks again, with its session
    console_watch_look_s: float = 1  # between two looks for it
    console_watchers_max: int = 200  # pages that follow a rollout at once; the others ask every few seconds
    order_lease_s: float = 120  # a worker that is silent for longer loses its order
    order_attempts_max: int = 3
    controller_lease_s: float = 4  # a hub that takes over from one that was killed acts within 5 s
    enrolment_token_s: float = 7 * 86_400
    known_devices_max: int = 200_000  # held in memory, about 1 kB each
    contacts_at_once_max: int = 256  # that take the long way in one process; more are told to come back
    busy_s: float = 10  # after which, in the mean: spread by half either way
    device_contacts_per_s: float = 50  # of one device in the long run, and
    device_contacts_burst: float = 3000  # at once, after a time without
    device_bytes_per_s: int = 16 << 20  # of one device, segments and samples
    device_bytes_burst: int = 1 << 30
    streams_waiting_max: int = 4096  # contacts that wait for a commit where they arrived; more take the long way
    streams_commit_max: int = 512  # of them in one commit
    known_s: float = 0.25  # how long a change made by another hub on this database may go unseen by a quiet contact
    contact_jitter: float = 0.2  # of the use case's contact_s, either way, so that a fleet does not call all at once
    token_s_max: float = 5 * 366 * 86_400  # how far ahead a person's token may end
    token_used_s: float = 3600  # a token's last use is written down no more often
    tokens_max: int = 10_000  # people's tokens in force
    session_s: float = 8 * 3600  # of the console
    sessions_max: int = 10_000
    login_s: float = 600  # between leaving for the issuer and coming back
    logins_max: int = 1000
    attempts_max: int = 10  # wrong tokens of one address in a window
    attempts_window_s: float = 300
    attempts_keys_max: int = 10_000  # addresses, and people, whose failures are remembered
    refusals_max: int = 60  # refusals of one person that the audit log takes in a window
    issuer_bytes_max: int = 256 << 10  # one answer of an OIDC issuer
    issuer_keys_max: int = 64
    issuer_wait_s_max: float = 10
    issuer_age_s: float = 3600  # after it keys are asked for again
    issuer_pause_s: float = 30  # between two questions for a key that is not known
    issuer_stale_s_max: float = 86_400  # how long keys are good while the issuer does not answer
    clock_skew_s_max: float = 300  # between a device's clock and the hub's, before it is a sign of something
    clock_back_s_max: float = 5  # by which a device's clock may go back between two contacts
    threats_held_max: int = 5000  # kinds and subjects between two writes
    threats_hour_max: int = 1000  # kinds and subjects that are told apart in one hour
    threats_age_s: float = 90 * 86_400  # then they are forgotten
    alerts_waiting_max: int = 1000  # messages that wait to be told; what is over it is only in the hub's own list
    alerts_batch_max: int = 20  # told in one go
    alerts_pause_s: float = 10  # after the first try, doubled after each
    alerts_pause_s_max: float = 3600
    alerts_attempts_max: int = 24  # about a day
    alerts_age_s: float = 90 * 86_400
    jwt_bytes_max: int = 16 << 10
