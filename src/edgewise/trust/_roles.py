"""The words of the release repository: its roles, its target paths, and its documents as bytes.

Source: The Update Framework specification, version 1.0.34; python-tuf does signing, verifying and serialisation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner, Signer, SSlibKey  # type: ignore[attr-defined]
from tuf.api import exceptions
from tuf.api.metadata import (  # type: ignore[attr-defined]  # its public names come from a private module
    Key,
    Metadata,
    Root,
    Signed,
    Snapshot,
    Targets,
    Timestamp,
)
from tuf.api.serialization import DeserializationError

from edgewise.trust._keys import PrivateKey
from edgewise.wire import NotTrusted, NotValid, Release, decode

ROOT, TARGETS, SNAPSHOT, TIMESTAMP = "root", "targets", "snapshot", "timestamp"
ONLINE = (SNAPSHOT, TIMESTAMP)
DIRECTOR = "director.json"
"""The target that names the keys of assignments."""
RELEASES = "releases-"
"""A use case's role is called this and its name."""
PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:-]{0,127}")  # one part of a target path
KINDS: dict[str, type[Signed]] = {ROOT: Root, SNAPSHOT: Snapshot, TIMESTAMP: Timestamp}
Kind = TypeVar("Kind", bound=Signed)
Document = Metadata[Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Validity:
    """How long a document holds after it is signed.

    The offline ones are long because a ceremony is work; the timestamp is short because it bounds a freeze: for so long
    can an old state be kept alive. Expiry never stops decisions.
    """

    root: timedelta = timedelta(days=730)
    targets: timedelta = timedelta(days=365)
    releases: timedelta = timedelta(days=365)
    snapshot: timedelta = timedelta(days=30)
    timestamp: timedelta = timedelta(days=7)

    def until(self, role: str, now: datetime) -> datetime:
        span = self.releases if role.startswith(RELEASES) else getattr(self, role)
        return (now + span).replace(microsecond=0)


def role_of(use_case: str) -> str:
    """The role that signs a use case's releases.

    >>> role_of("press"), use_case_of("releases-press"), use_case_of("targets")
    ('releases-press', 'press', None)
    """
    return RELEASES + use_case


def use_case_of(role: str) -> str | None:
    """The use case whose releases a role signs, None for a top-level role."""
    return role.removeprefix(RELEASES) if role.startswith(RELEASES) else None


def release_path(use_case: str, version: int) -> str:
    """Where a release's record lies among the targets.

    >>> release_path("press", 3), manifest_path("press", 3, "fp32")
    ('press/3/release.json', 'press/3/fp32/manifest.json')
    """
    return f"{use_case}/{version}/release.json"


def manifest_path(use_case: str, version: int, variant: str) -> str:
    """Where a bundle's manifest lies among the targets."""
    return f"{use_case}/{version}/{variant}/manifest.json"


def patterns(use_case: str) -> list[str]:
    """The paths that a use case's role may speak for."""
    return [f"{use_case}/*/release.json", f"{use_case}/*/*/manifest.json"]


def read_release(data: bytes, *, use_case: str, version: int) -> Release:
    """The release in a verified target.

    Raises:
        NotTrusted: it is another one than its path says, unreadable, names no bundle, or overrides without a reason.
    """
    try:
        release = decode(Release, data)
    except NotValid as error:
        # Signed and yet unreadable means a signer of another format: as little to be acted on as a wrong signature.
        raise NotTrusted(f"the signed content cannot be read: {error}", code="content_invalid") from error
    wanted = f"{use_case}@{version}"
    if (release.id, release.use_case, release.version) != (wanted, use_case, version):
        raise NotTrusted(
            f"release {release.id} calls itself version {release.version} of {release.use_case} and lies at "
            f"{release_path(use_case, version)}; it needs to be {wanted}",
            code="release_invalid",
        )
    if release.signed_as == "override" and not (release.override_reason or "").strip():
        raise NotTrusted(
            f"release {release.id} overrides the gate without a reason; a person has to give one when signing",
            code="release_invalid",
        )
    if not release.bundles or not all(PART.fullmatch(variant) for variant in release.bundles):
        raise NotTrusted(
            f"release {release.id} holds no bundle, or one under a name that no path can have: "
            f"{', '.join(release.bundles) or 'none'}; sign one that does",
            code="release_invalid",
        )
    return release


def version_of(release_id: str, use_case: str) -> int:
    """The version in a release's id.

    Raises:
        NotTrusted: the id is not one of this use case.

    >>> version_of("press@3", "press")
    3
    """
    name, _, version = release_id.rpartition("@")
    if name != use_case or not version.isdigit():
        raise NotTrusted(
            f"{release_id[:80]!r} is no release of {use_case}, needs {use_case}@ and a number", code="release_invalid"
        )
    return int(version)


def crypto_signer(key: PrivateKey) -> CryptoSigner:
    """One of our keys as the repository's library wants it."""
    return CryptoSigner(load_pem_private_key(key.to_pem(), password=None))


def public_key(key: PrivateKey) -> Key:
    """The public half as it stands in metadata."""
    return crypto_signer(key).public_key


def key_from(record: dict[str, Any]) -> Key:
    """A public key as `plain_key` wrote it.

    Raises:
        NotValid: it is none.
    """
    try:
        return SSlibKey.from_dict(str(record["keyid"]), {name: record[name] for name in record if name != "keyid"})
    except (KeyError, ValueError, TypeError) as error:
        raise NotValid(f"this is not a public key of a role: {error}", code="key_invalid") from error


def plain_key(key: Key) -> dict[str, Any]:
    """A public key as plain JSON values, its id included."""
    return {"keyid": key.keyid, **key.to_dict()}


def parse(data: bytes, role: str) -> Document:
    """The document in these bytes; nothing is verified.

    Raises:
        NotTrusted: it is no metadata, or of another role's kind.
    """
    try:
        document = Document.from_bytes(data)
    except (DeserializationError, exceptions.RepositoryError, ValueError) as error:
        raise NotTrusted(f"the {role} metadata cannot be read: {error}", code="metadata_malformed") from error
    if not isinstance(document.signed, KINDS.get(role, Targets)):
        raise NotTrusted(
            f"the {role} metadata are of type {document.signed.type!r}, needs {KINDS.get(role, Targets).type!r}",
            code="metadata_malformed",
        )
    return document


def signed_by(signed: Signed, signers: Iterable[Signer]) -> bytes:
    """The document of these contents, with one signature a signer."""
    document = Document(signed)
    for signer in signers:
        document.sign(signer, append=True)
    return document.to_bytes()


def add_signatures(data: bytes, role: str, signers: Iterable[Signer]) -> bytes:
    """The same document with further signatures: keys of a threshold are rarely in one place."""
    document = parse(data, role)
    for signer in signers:
        document.sign(signer, append=True)
    return document.to_bytes()


def merge_signatures(data: bytes, other: bytes, role: str) -> bytes | None:
    """One document with the signatures of both; None where their contents differ."""
    document, more = parse(data, role), parse(other, role)
    if document.signed_bytes != more.signed_bytes:
        return None
    document.signatures.update(more.signatures)
    return document.to_bytes()
