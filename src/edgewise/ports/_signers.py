"""Keys of the release repository's offline roles: files in a folder, or whatever a signer address reaches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from securesystemslib.signer import Signer  # type: ignore[attr-defined]
from tuf.api.metadata import Key  # type: ignore[attr-defined]  # its public names come from a private module

from edgewise.ports._files import disk_error
from edgewise.ports._keys import FolderKeys
from edgewise.trust.roles import crypto_signer, key_from, plain_key, public_key
from edgewise.wire import NotValid, canonical, loads

PRIVATE, DESCRIBED = ".pem", ".key.json"


def read_signers(places: Sequence[Path]) -> list[Signer]:
    """Everything in these places that can sign.

    A place is a key file, or a folder of them: ``NAME.pem`` is an unencrypted ed25519 key that only its owner may read,
    ``NAME.key.json`` is ``{"uri": …, "public": …}`` with any address that securesystemslib has a signer for (an HSM, a
    cloud's key service, a vault, an encrypted file); without ``uri`` it is a public key alone and is passed over.

    Raises:
        NotValid: nothing there can sign, or a file cannot be read. NotTrusted: a key file is open to others.
    """
    found = [signer for file in _files(places) if (signer := _signer(file)) is not None]
    if not found:
        raise NotValid(
            f"no key that can sign is in {_named(places)}; needs a {PRIVATE} file or a {DESCRIBED} file with a uri",
            code="key_missing",
        )
    return found


def read_public_keys(places: Sequence[Path]) -> list[Key]:
    """The public halves of all keys in these places; see `read_signers`.

    Raises:
        NotValid: there is none, or a file cannot be read.
    """
    found = {key.keyid: key for key in (_public(file) for file in _files(places))}
    if not found:
        raise NotValid(f"no key is in {_named(places)}; make one with `edgewise trust init`", code="key_missing")
    return list(found.values())


def make_keys(folder: Path, count: int) -> list[Signer]:
    """Keys ``1.pem``, ``2.pem``, … in a folder; those there already stay. NotNow: the disk is full or fails."""
    keys = FolderKeys(folder)
    for number in range(1, count + 1):
        if not (folder / f"{number}{PRIVATE}").exists():
            keys.create(str(number))
    return read_signers([folder])


def public_text(key: Key) -> bytes:
    """What goes into a ``.key.json`` file for somebody who only needs the public half."""
    return canonical({"public": plain_key(key)})


def _files(places: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for place in places:
        if not place.exists():
            raise NotValid(f"there is no key file or folder {place}; name one that exists", code="key_missing")
        inside = sorted(place.iterdir()) if place.is_dir() else [place]
        files += [file for file in inside if file.name.endswith((PRIVATE, DESCRIBED))]
    return files


def _signer(file: Path) -> Signer | None:
    if file.name.endswith(PRIVATE):
        return crypto_signer(FolderKeys(file.parent).load(file.name.removesuffix(PRIVATE)))
    described = _described(file)
    if "uri" not in described:
        return None
    try:
        return Signer.from_priv_key_uri(str(described["uri"]), key_from(described["public"]))
    except NotValid:
        raise
    except Exception as error:  # each kind of signer has errors of its own
        raise NotValid(
            f"{file} names a signer that does not answer: {type(error).__name__}: {error}", code="key_invalid"
        ) from error


def _public(file: Path) -> Key:
    if file.name.endswith(PRIVATE):
        return public_key(FolderKeys(file.parent).load(file.name.removesuffix(PRIVATE)))
    return key_from(_described(file)["public"])


def _described(file: Path) -> dict[str, Any]:
    try:
        value = loads(file.read_bytes())
    except OSError as error:
        raise disk_error(error, file) from error
    if not isinstance(value, dict) or not isinstance(value.get("public"), dict):
        raise NotValid(f'{file} needs to be {{"uri": …, "public": {{…}}}}', code="key_invalid")
    return value


def _named(places: Sequence[Path]) -> str:
    return ", ".join(map(str, places)) or "no place"
