"""What a device may run: only the intersection of a signed release and a signed assignment (invariant 5)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TypeVar

from edgewise.trust._envelope import open_envelope
from edgewise.wire import (
    ASSIGNMENT_TYPE,
    Assignment,
    Envelope,
    NotTrusted,
    NotValid,
    PublicKey,
    Record,
    Release,
    decode,
    record_digest,
)

Signed = TypeVar("Signed", bound=Record)


def open_assignment(
    envelope: Envelope,
    keys: Sequence[PublicKey],
    *,
    device: str,
    newest: int,
    hub_epoch: str | None,
    newest_digest: str | None = None,
    earlier_epochs: Collection[str] = (),
) -> Assignment:
    """The assignment, once it is signed by the hub, meant for this device and not older than what it already has.

    Args:
        keys: the director's, as the targets role names them now.
        device: the name of the device that asks.
        newest: number of the newest assignment accepted here, 0 when there is none.
        hub_epoch: hub epoch of that assignment; None when there is none. A hub restored from a backup starts a new
            epoch, and its numbers start again.
        newest_digest: `wire.record_digest` of that assignment. The same number with the same content is accepted again
            (invariant 12), with another content it is refused. None skips this one check.
        earlier_epochs: epochs this device has left; an assignment from one of them is an old one, replayed.
    Raises:
        NotTrusted: any of these does not hold; the message names the value seen and the one needed.
    """
    payload = open_envelope(envelope, payload_type=ASSIGNMENT_TYPE, keys=keys)
    assignment = _signed_record(Assignment, payload)
    if assignment.device != device:
        raise NotTrusted(
            f"assignment {assignment.number} is for device {assignment.device}, this is {device}; send its own",
            code="device_wrong",
        )
    if assignment.hub_epoch in earlier_epochs:
        raise NotTrusted(
            f"assignment {assignment.number} is from hub epoch {assignment.hub_epoch}, which this device has left for "
            f"{hub_epoch}; an old assignment was sent again",
            code="assignment_old",
        )
    if assignment.hub_epoch == hub_epoch:
        _refuse_older(assignment, newest, newest_digest)
    return assignment


def _refuse_older(assignment: Assignment, newest: int, newest_digest: str | None) -> None:
    if assignment.number < newest:
        raise NotTrusted(
            f"assignment {assignment.number} is older than {newest}, which this device has; send a newer one",
            code="assignment_old",
        )
    if newest_digest is not None and assignment.number == newest and record_digest(assignment) != newest_digest:
        raise NotTrusted(
            f"two different assignments carry number {newest}; two hubs sign with the same key, stop one of them",
            code="assignment_forked",
        )


def may_install(
    assignment: Assignment,
    release: Release,
    *,
    manifest_digest: str,
    known_bad: Collection[str],
    committed_before: Collection[str],
    running: Release | None = None,
) -> None:
    """Nothing, when the device may install this bundle.

    The assignment comes from `open_assignment`, the release from the release repository.

    Args:
        manifest_digest: SHA-256 of the manifest bytes that the device holds.
        known_bad: manifest digests that failed their trial here.
        committed_before: manifest digests that were once committed here; a revert needs no release key because it can
            only go to one of these.
        running: the release that runs now. With it, a plain assignment cannot lead back to an older version.
    Raises:
        NotTrusted: with the code ``not_released``, ``not_assigned``, ``known_bad``, ``revert_unproven``,
            ``revert_unknown`` or ``release_old``.
    """
    if (assignment.release, assignment.use_case) != (release.id, release.use_case):
        raise NotTrusted(
            f"the assignment names release {assignment.release} of {assignment.use_case}, this one is {release.id} of "
            f"{release.use_case}; fetch the one it names",
            code="not_assigned",
        )
    if assignment.bundle != manifest_digest:
        raise NotTrusted(
            f"the assignment names bundle {_short(assignment.bundle)}, the manifest here is "
            f"{_short(manifest_digest)}; fetch it again",
            code="not_assigned",
        )
    if manifest_digest not in release.bundles.values():
        raise NotTrusted(
            f"bundle {_short(manifest_digest)} is not in release {release.id}, which holds "
            f"{', '.join(sorted(map(_short, release.bundles.values()))) or 'none'}; sign a release that does",
            code="not_released",
        )
    if manifest_digest in known_bad:
        raise NotTrusted(
            f"bundle {_short(manifest_digest)} of {release.id} failed on this device before; "
            "sign a new release with another bundle",
            code="known_bad",
        )
    if assignment.kind == "revert":
        _check_revert(assignment, manifest_digest, committed_before)
    elif running is not None and running.use_case == release.use_case and release.version < running.version:
        raise NotTrusted(
            f"release {release.id} is older than {running.id}, which runs now; going back needs a signed revert",
            code="release_old",
        )


def _check_revert(assignment: Assignment, manifest_digest: str, committed_before: Collection[str]) -> None:
    if not assignment.reason.strip() or assignment.evidence is None:
        raise NotTrusted(
            f"revert {assignment.number} has reason {assignment.reason!r} and evidence "
            f"{_short(assignment.evidence)}; it needs both",
            code="revert_unproven",
        )
    if manifest_digest not in committed_before:
        raise NotTrusted(
            f"revert {assignment.number} goes to bundle {_short(manifest_digest)}, which was never "
            "committed here; only a new release can bring it",
            code="revert_unknown",
        )


def _signed_record(kind: type[Signed], payload: bytes) -> Signed:
    try:
        return decode(kind, payload)
    except NotValid as error:
        # Signed and yet unreadable means a signer of another format: as little to be acted on as a wrong signature.
        raise NotTrusted(f"the signed content cannot be read: {error}", code="content_invalid") from error


def _short(value: str | None) -> str:
    return "none" if value is None else f"{value[:16]}…"
