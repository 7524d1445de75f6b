"""May this document follow that one? What the hub asks before it publishes, and a device before it opens a slot."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from tuf.api import exceptions
from tuf.api.metadata import Root, Targets  # type: ignore[attr-defined]  # public names of a private module

from edgewise.trust._roles import (
    DIRECTOR,
    PART,
    ROOT,
    TARGETS,
    Document,
    manifest_path,
    parse,
    patterns,
    read_release,
    release_path,
    role_of,
    use_case_of,
)
from edgewise.trust._roles_make import delegated_roles, versions_in
from edgewise.wire import Director, NotTrusted, NotValid, Release, decode, digest


@dataclass(frozen=True, kw_only=True, slots=True)
class Signatures:
    """How far a document is signed: the ids of the keys whose signatures hold, and how many are still missing."""

    keyids: tuple[str, ...]
    missing: int


def check_next(data: bytes, role: str, *, current: bytes | None, delegator: bytes, now: datetime) -> Signatures:
    """How far a new version of a role is signed, once everything else about it holds.

    Args:
        current: the version that is published now, None before the first.
        delegator: the published root; for a use case's role the published targets.
    Raises:
        NotTrusted: no signature of the role's keys holds, it is not the next version, it has expired, or it speaks for
            what is not its own.
    """
    document, old = parse(data, role), None if current is None else parse(current, role)
    needed = 1 if old is None else old.signed.version + 1
    if document.signed.version != needed:
        raise NotTrusted(
            f"{role} version {document.signed.version} is offered, needs version {needed}; start again from the "
            "published one",
            code="metadata_version",
        )
    if document.signed.is_expired(now):
        raise NotTrusted(
            f"{role} version {needed} expired at {document.signed.expires:%Y-%m-%dT%H:%M:%SZ}; sign it for longer",
            code="metadata_expired",
        )
    found = signatures(document, role, delegator, old)
    if not found.keyids:
        signers = ", ".join(sorted(key[:12] for key in document.signatures)) or "nobody"
        raise NotTrusted(
            f"{role} version {needed} is signed by {signers}, and none of the role's keys is among "
            "them; have it signed by the right key",
            code="metadata_unsigned",
        )
    if use_case_of(role) is not None:
        _check_paths(document.signed, role)
    elif role == TARGETS:
        _check_delegations(document.signed)
    return found


def signatures(document: Document, role: str, delegator: bytes, old: Document | None = None) -> Signatures:
    """Which of the role's keys have signed the document."""
    if role == ROOT:
        found = document.signed.get_root_verification_result(
            None if old is None else old.signed, document.signed_bytes, document.signatures
        )
        return Signatures(keyids=tuple(sorted(found.signed)), missing=max(found.first.missing, found.second.missing))
    above = parse(delegator, ROOT if use_case_of(role) is None else TARGETS).signed
    assert isinstance(above, Root | Targets)
    try:
        result = above.get_verification_result(role, document.signed_bytes, document.signatures)
    except ValueError as error:
        raise NotTrusted(
            f"nobody may sign {role} yet: the published targets do not delegate to it; run `edgewise trust delegate`",
            code="role_unknown",
        ) from error
    return Signatures(keyids=tuple(sorted(result.signed)), missing=result.missing)


def is_signed(data: bytes, role: str, delegator: bytes) -> bool:
    """Whether a published document still holds under a (new) delegator."""
    try:
        return signatures(parse(data, role), role, delegator).missing == 0
    except NotTrusted:
        return False


def proven_release(root: bytes, targets: bytes, role: bytes, release: bytes, *, use_case: str, version: int) -> Release:
    """The release that these documents vouch for, without regard to when; the root must be trusted already.

    Raises:
        NotTrusted: a signature or a hash does not hold.
    """
    name = role_of(use_case)
    for data, about, delegator in ((targets, TARGETS, root), (role, name, targets)):
        found = signatures(parse(data, about), about, delegator)
        if found.missing:
            raise NotTrusted(
                f"the kept proof of {use_case}@{version}: {about} lacks {found.missing} signatures; fetch it again",
                code="metadata_unsigned",
            )
    target = parse(role, name).signed.targets.get(release_path(use_case, version))
    if target is None or target.hashes.get("sha256") != digest(release):
        raise NotTrusted(
            f"the kept proof does not vouch for the record of {use_case}@{version} beside it; fetch it again",
            code="not_released",
        )
    return read_release(release, use_case=use_case, version=version)


def follow_roots(pinned: bytes, roots: Iterable[bytes]) -> bytes:
    """The last root of a chain that begins after the pinned one, each signed by the one before and by itself.

    Raises:
        NotTrusted: one does not follow from the one before.
    """
    data, document = pinned, parse(pinned, ROOT)
    for data in roots:
        newer = parse(data, ROOT)
        try:
            document.verify_delegate(ROOT, newer)
            newer.verify_delegate(ROOT, newer)
        except exceptions.UnsignedMetadataError as error:
            raise NotTrusted(
                f"root version {newer.signed.version} does not follow from version {document.signed.version}: {error}",
                code="metadata_unsigned",
            ) from error
        if newer.signed.version != document.signed.version + 1:
            raise NotTrusted(
                f"root version {newer.signed.version} comes after version {document.signed.version}, not the next one",
                code="metadata_version",
            )
        document = newer
    return data


def director_in(targets: bytes, data: bytes) -> Director:
    """The director's keys, once the targets role vouches for these bytes.

    Raises:
        NotTrusted: it does not.
    """
    target = parse(targets, TARGETS).signed.targets.get(DIRECTOR)
    if target is None or target.hashes.get("sha256") != digest(data):
        raise NotTrusted(
            f"the targets role does not vouch for a {DIRECTOR} with SHA-256 {digest(data)[:16]}…", code="target_corrupt"
        )
    try:
        return decode(Director, data)
    except NotValid as error:
        raise NotTrusted(f"the signed content cannot be read: {error}", code="content_invalid") from error


def _check_paths(targets: Targets, role: str) -> None:
    """A use case's role holds whole releases and nothing else, so that what is withdrawn is gone as a whole."""
    use_case = use_case_of(role) or ""
    versions = versions_in(targets, use_case)
    for path in targets.targets:
        parts = path.split("/")
        fits = parts[0] == use_case and len(parts) in (3, 4) and parts[1].isdigit() and int(parts[1]) in versions
        named = release_path(use_case, int(parts[1])) if fits and len(parts) == 3 else None
        if fits and len(parts) == 4 and PART.fullmatch(parts[2]):
            named = manifest_path(use_case, int(parts[1]), parts[2])
        if path != named:
            raise NotTrusted(
                f"{role} speaks for {path!r}, which is no file of a release of {use_case}; needs paths such as "
                f"{manifest_path(use_case, 1, 'fp32')}",
                code="path_wrong",
            )
    if targets.delegations is not None:
        raise NotTrusted(f"{role} delegates further, which is not done here", code="path_wrong")


def _check_delegations(targets: Targets) -> None:
    if DIRECTOR not in targets.targets:
        raise NotTrusted(
            f"the targets lack {DIRECTOR}; without it no device would take an assignment", code="director_missing"
        )
    for role in delegated_roles(targets):
        use_case = use_case_of(role)
        found = targets.get_delegated_role(role)
        if (
            use_case is None
            or getattr(found, "paths", None) != patterns(use_case)
            or len(found.keyids) < found.threshold
        ):
            raise NotTrusted(
                f"the targets delegate {getattr(found, 'paths', None)} to {role} with threshold {found.threshold} of "
                f"{len(found.keyids)} keys; make delegations with `edgewise trust delegate`",
                code="path_wrong",
            )
