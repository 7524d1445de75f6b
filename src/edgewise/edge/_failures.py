"""Every way in which an update fails or is refused here, as one table: what a program counts and a person acts on."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from edgewise.wire import EdgewiseError, Failure, NotTrusted
from edgewise.wire.failure import Category

TEXT_MAX = 1000


class Kind(NamedTuple):
    """What a code stands for."""

    component: str  # that finds it, unless the caller knows better
    category: Category
    meaning: str


# docs/device-life.md shows this table, and a test compares the two.
CODES: dict[str, Kind] = {
    # what the hub asks for
    "assignment_forked": Kind("fetch", "trust", "two assignments have one number"),
    "assignment_old": Kind("fetch", "trust", "the assignment is older than one known here"),
    "content_invalid": Kind("fetch", "trust", "what was signed cannot be read"),
    "device_wrong": Kind("fetch", "trust", "the assignment is for another device"),
    "moves_spent": Kind("fetch", "order", "the assignment did not come to an end, however often it was begun"),
    "signature_wrong": Kind("fetch", "trust", "no key that may sign it did"),
    "use_case_wrong": Kind("fetch", "trust", "the assignment or the release is for another use case"),
    # what it names
    "known_bad": Kind("fetch", "order", "the bundle failed here before"),
    "not_assigned": Kind("fetch", "trust", "the release and the assignment name different bundles"),
    "not_released": Kind("fetch", "trust", "the release does not name the bundle, or nobody vouches for it"),
    "release_invalid": Kind("fetch", "trust", "the release is not one that could have been signed"),
    "release_old": Kind("fetch", "order", "the release is older than the one that runs, and this is no revert"),
    "revert_unknown": Kind("fetch", "order", "the bundle to go back to never passed its trial here"),
    "revert_unproven": Kind("fetch", "order", "the revert has no evidence or reason"),
    "target_corrupt": Kind("fetch", "trust", "a file is not the one that was signed"),
    "target_unknown": Kind("fetch", "trust", "the repository vouches for no such file"),
    "not_trusted": Kind("fetch", "trust", "anything else that does not hold; the text says what"),
    # its bytes
    "blob_corrupt": Kind("fetch", "trust", "a blob was changed on the way"),
    "bundle_corrupt": Kind("fetch", "trust", "blobs and manifest do not fit together"),
    "foreign_file": Kind("runtime", "trust", "a blob is what no bundle carries, such as a program"),
    # whether it can run here
    "bundle_invalid": Kind("runtime", "compatibility", "networks and manifest do not fit together"),
    "misfit": Kind("fetch", "compatibility", "it needs what this device does not have"),
    "site_wrong": Kind("fetch", "compatibility", "it was made for another site"),
    "model_invalid": Kind("runtime", "compatibility", "a network cannot be opened by the runtime here"),
    "opset_wrong": Kind("runtime", "compatibility", "a network uses a newer opset than its manifest says"),
    "record_invalid": Kind("fetch", "compatibility", "the manifest cannot be read by this version"),
    "vet_failed": Kind("runtime", "compatibility", "a network did not run when it was looked at"),
    "not_valid": Kind("fetch", "compatibility", "anything else that cannot be; the text says what"),
    # how it does
    "answers_stuck": Kind("guard", "quality", "nearly always the same label, and the other bundle contradicts"),
    "bad_scores": Kind("runtime", "quality", "its scores are no probabilities"),
    "crash_loop": Kind("guard", "process", "the agent crashed again and again"),
    "crashed": Kind("runtime", "process", "a network ended its process when it was looked at"),
    "decisions_failed": Kind("guard", "quality", "too many decisions failed"),
    "golden_failed": Kind("trial", "quality", "other answers to its golden inputs than it must give"),
    "hang": Kind("guard", "process", "one run did not come back"),
    "late_alone": Kind("guard", "resource", "late on frames on which the other bundle is in time"),
    "latency_over_deadline": Kind("trial", "resource", "decisions take longer than the deadline"),
    "memory_over": Kind("guard", "resource", "memory grew over what the bundle may take"),
    "run_failed": Kind("runtime", "quality", "a network failed on an input that is in order"),
    "scores_saturated": Kind("guard", "quality", "always entirely sure, and the other bundle is not"),
    "scores_still": Kind("guard", "quality", "scores that do not move, and those of the other bundle do"),
    "slot_damaged": Kind("slots", "resource", "what lay in a slot is not whole any more"),
    "too_much_memory": Kind("runtime", "resource", "a network wants more memory than it may have"),
    "too_slow": Kind("runtime", "resource", "a run takes longer than is allowed"),
    "trial_restarts": Kind("trial", "process", "the agent was started again within the trial, and nobody planned it"),
    "worker_died": Kind("runtime", "process", "a network's process ended in a run"),
}


def failure(code: str, text: str, *, phase: str, now: datetime, component: str | None = None) -> Failure:
    """The record of a failure.

    Args:
        code: one of ``CODES``.
        phase: of the update.
        component: that found it, where it is another than the table says.

    >>> from datetime import UTC
    >>> made = failure("hang", "it did not come back", phase="trial", now=datetime(2026, 3, 1, tzinfo=UTC))
    >>> made.component, made.category
    ('guard', 'process')
    """
    kind = CODES[code]
    return Failure(
        at=now,
        phase=phase,
        component=component or kind.component,
        category=kind.category,
        code=code,
        text=text[:TEXT_MAX],
    )


def failure_of(error: EdgewiseError, *, phase: str, now: datetime, component: str | None = None) -> Failure:
    """The record of an error, under its own code where the table has it, else under its family's."""
    family = "not_trusted" if isinstance(error, NotTrusted) else "not_valid"
    code = error.code if error.code in CODES else family
    return failure(code, str(error), phase=phase, now=now, component=component)
