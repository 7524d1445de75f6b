"""Blobs that come as changes to a blob in a slot. Whatever goes wrong, the whole blob is the way out."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydantic import Field

from edgewise import delta
from edgewise.ports import Link, LinkDown, Refused, disk_error, replace_file, sync_folder
from edgewise.wire import Blob, DeltaOffer, EdgewiseError, NotNow, NotTrusted, NotValid, Record, decode, encode

Tell = Callable[..., None]
NO_LINK = "link_down"
SPACE = {errno.ENOSPC, errno.EDQUOT}


class Grow(Protocol):
    """Fetches some more of a file that grows: `Download.grow`."""

    def __call__(self, link: Link, sha256: str, size_bytes: int, part: Path, bytes_max: int) -> int: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Base:
    """A blob that this device holds and that a wanted blob may be made from."""

    sha256: str
    file: Path


class Way(Record):
    """How a blob comes here, remembered over a power cut in ``<sha256>.way``."""

    offer: DeltaOffer | None = None  # the delta that is fetched, or was
    whole: bool = False  # no delta any more: it was tried, or there is none
    wasted_bytes: int = Field(0, ge=0)  # fetched for a delta that could not be used


class DeltaFetch:
    """One delta a blob: asked for, fetched piece by piece, applied, checked; or given up once and for all.

    Args:
        folder: of the download; beside the blobs it holds ``<sha256>.way``, ``.delta`` and ``.made``.
        grow: fetches pieces.
        tell: told of what the hub should hear of.
        checkpoint: called by name where a power cut would matter.
        bytes_min: smaller blobs are fetched whole: a question more would cost as much as it saves.
        asks_max: how often a hub may say "not now" before the blob is fetched whole.
    """

    def __init__(
        self, folder: Path, grow: Grow, *, tell: Tell, checkpoint: Callable[[str], None], bytes_min: int, asks_max: int
    ) -> None:
        self._folder = folder
        self._grow = grow
        self._tell = tell
        self._checkpoint = checkpoint
        self._bytes_min = bytes_min
        self._asks_max = asks_max
        self._asked: dict[str, int] = {}

    def may(self, blob: Blob, bases: Sequence[Base]) -> bool:
        """Whether the blob comes as a delta, or could."""
        way = self._way(blob.sha256)
        if way.whole:
            return False
        return way.offer is not None or (bool(bases) and blob.size_bytes >= self._bytes_min)

    def missing(self, blob: Blob) -> int | None:
        """Bytes of the blob's delta still to come, None where no delta is on its way."""
        way = self._way(blob.sha256)
        if way.whole or way.offer is None:
            return None
        return max(1, way.offer.size_bytes - _size(self._file(blob.sha256, "delta")))

    def fetched_bytes(self, sha256: str, *, done: bool) -> int | None:
        """Bytes that came over the link for a blob that came, or comes, as a delta; None where it comes whole."""
        way = self._way(sha256)
        if way.whole or way.offer is None:
            return None
        return way.wasted_bytes + (way.offer.size_bytes if done else _size(self._file(sha256, "delta")))

    def wasted_bytes(self, sha256: str) -> int:
        """Bytes that came for a delta that could not be used."""
        return self._way(sha256).wasted_bytes

    def advance(self, link: Link, blob: Blob, bases: Sequence[Base], bytes_max: int) -> int:
        """Fetch some of the delta, apply it when it is there; comes back with how many bytes came.

        Raises:
            NotNow: the link or the disk; what came stays.
        """
        part = self._file(blob.sha256, "delta")
        before = _size(part)
        try:
            offer = self._offer(link, blob, bases)
            came = self._grow(link, offer.sha256, offer.size_bytes, part, bytes_max)
            if _size(part) < offer.size_bytes and came >= bytes_max:
                return came
            self._make(blob, offer, next(base for base in bases if base.sha256 == offer.base))
            return came
        except NotNow:
            raise
        except (EdgewiseError, ImportError, MemoryError) as error:
            came = max(0, _size(part) - before)
            self._give_up(blob, str(error) or type(error).__name__)
            return came

    # -- small parts -------------------------------------------------------------------------------------------------

    def _offer(self, link: Link, blob: Blob, bases: Sequence[Base]) -> DeltaOffer:
        """The offer that is worked on, or a new one."""
        offer = self._way(blob.sha256).offer
        if offer is None:
            offer = self._ask(link, blob, bases)
            self._save(blob.sha256, Way(offer=offer))
            self._checkpoint("delta_offered")
        elif all(base.sha256 != offer.base for base in bases):
            raise NotValid(f"blob {offer.base[:12]}…, which it changes, is not in a slot any more", code="no_base")
        return offer

    def _ask(self, link: Link, blob: Blob, bases: Sequence[Base]) -> DeltaOffer:
        refusal: Refused | None = None
        for base in bases:
            try:
                data = link.get_delta(blob.sha256, base=base.sha256, codec=delta.VERSION)
            except LinkDown as error:
                self._count(blob, error)
                raise
            except Refused as error:
                refusal = error
                continue
            return _checked(decode(DeltaOffer, data), blob, base)
        assert refusal is not None, "a delta is asked for only where there is a base"
        raise refusal

    def _count(self, blob: Blob, error: LinkDown) -> None:
        """A hub that is there but never has the delta must not hold an update up for ever."""
        if error.code == NO_LINK:
            return
        self._asked[blob.sha256] = self._asked.get(blob.sha256, 0) + 1
        if self._asked[blob.sha256] >= self._asks_max:
            raise NotValid(f"the hub said {self._asks_max} times: {error}", code="delta_late") from error

    def _make(self, blob: Blob, offer: DeltaOffer, base: Base) -> None:
        """Apply the delta beside the blob's name, which appears only when every byte is verified and on disk."""
        part, made = self._file(blob.sha256, "delta"), self._file(blob.sha256, "made")
        if _size(part) < offer.size_bytes:
            raise NotNow(f"delta {offer.sha256[:12]}… ended after {_size(part)} of {offer.size_bytes} bytes")
        _check_file(part, offer)
        self._checkpoint("delta_fetched")
        try:
            with base.file.open("rb") as old, part.open("rb") as changes, made.open("wb") as out:
                limits = delta.Limits(target_bytes_max=blob.size_bytes)
                told = delta.decode(old, changes, out, limits=limits)
                if (told.target_sha256, told.target_size_bytes) != (blob.sha256, blob.size_bytes):
                    raise NotTrusted(
                        f"the delta makes {told.target_sha256[:12]}… of {told.target_size_bytes} bytes, needed is "
                        f"{blob.sha256[:12]}… of {blob.size_bytes}",
                        code="delta_wrong_target",
                    )
                out.flush()
                os.fsync(out.fileno())
        except OSError as error:
            if error.errno in SPACE:
                raise disk_error(error, made) from error
            # The base may lie on a bad place of the disk; the whole blob does not need it.
            raise NotValid(f"{base.file} cannot be read ({error.strerror or error})", code="no_base") from error
        self._checkpoint("delta_applied")
        made.replace(self._folder / blob.sha256)
        sync_folder(self._folder)
        self._checkpoint("blob_fetched")
        part.unlink(missing_ok=True)

    def _give_up(self, blob: Blob, why: str) -> None:
        way, came = self._way(blob.sha256), _size(self._file(blob.sha256, "delta"))
        self._save(blob.sha256, Way(whole=True, wasted_bytes=way.wasted_bytes + came))
        for kind in ("delta", "made"):
            self._file(blob.sha256, kind).unlink(missing_ok=True)
        text = f"blob {blob.sha256[:12]}… comes whole, {blob.size_bytes} bytes, not as a delta: {why}"
        self._tell("delta_refused", text, blob=blob.sha256, wasted_bytes=came)
        self._checkpoint("delta_given_up")

    def _file(self, sha256: str, kind: str) -> Path:
        return self._folder / f"{sha256}.{kind}"

    def _way(self, sha256: str) -> Way:
        try:
            return decode(Way, self._file(sha256, "way").read_bytes())
        except FileNotFoundError:
            return Way()
        except NotValid:
            return Way(whole=True)  # damaged: what lies beside it is not trusted either

    def _save(self, sha256: str, way: Way) -> None:
        replace_file(self._file(sha256, "way"), encode(way))


def _checked(offer: DeltaOffer, blob: Blob, base: Base) -> DeltaOffer:
    asked = (blob.sha256, base.sha256, delta.VERSION)
    if (offer.target, offer.base, offer.codec) != asked:
        raise NotTrusted(f"the hub offered a delta to {offer.target[:12]}…, another than asked for", code="delta_other")
    if offer.size_bytes >= blob.size_bytes:
        raise NotTrusted(
            f"the hub offered a delta of {offer.size_bytes} bytes for a blob of {blob.size_bytes}",
            code="delta_too_long",
        )
    return offer


def _check_file(part: Path, offer: DeltaOffer) -> None:
    with part.open("rb") as file:
        seen = hashlib.file_digest(file, "sha256").hexdigest()
    if seen != offer.sha256:
        raise NotTrusted(
            f"delta {offer.sha256[:12]}… came as {seen[:12]}…; it was changed on the way", code="blob_corrupt"
        )


def _size(file: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return file.stat().st_size
    return 0
