"""A link without a wire: what the hub sent lies in a folder, and what the device sends is put into another."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from edgewise.ports._blobs import check_digest
from edgewise.ports._http import Refused
from edgewise.ports._stick import StickPart
from edgewise.wire import NotTrusted, digest
from edgewise.wire.courier import UPLOAD


class FolderLink:
    """A courier's stick as a `Link`.

    Args:
        came: what the hub put there, checked; None where nothing comes this time.
        goes: takes the upload and its blobs; None where nothing goes this time.
        answer: the receipt for an upload.
    """

    def __init__(
        self, *, came: StickPart | None = None, goes: StickPart | None = None, answer: Callable[[bytes], bytes]
    ) -> None:
        self._came = came
        self._goes = goes
        self._answer = answer

    def exchange(self, body: bytes) -> bytes:
        reply = self._answer(body)
        self._out().put(UPLOAD, body)
        return reply

    def put_blob(self, sha256: str, data: bytes, *, offset: int = 0) -> None:
        assert offset == 0, "on a stick a blob is whole or not there"
        if digest(data) != check_digest(sha256):
            raise NotTrusted(f"blob {sha256[:12]}… is {digest(data)[:12]}…", code="blob_corrupt")
        self._out().put(f"blobs/{sha256}", data)

    def blob_offset(self, sha256: str) -> int | None:
        return None if self.has_blob(sha256) else 0

    def has_blob(self, sha256: str) -> bool:
        return f"blobs/{check_digest(sha256)}" in self._out().files

    def get_blob(self, sha256: str, *, offset: int = 0, bytes_max: int | None = None) -> Iterator[bytes]:
        yield from self._read(f"blobs/{check_digest(sha256)}", "blob_missing", offset, bytes_max)

    def get_delta(self, sha256: str, *, base: str, codec: int) -> bytes:
        wanted, held = check_digest(sha256), check_digest(base)
        raise Refused(
            f"a stick holds whole blobs, no delta {codec} from {held[:12]}… to {wanted[:12]}…",
            code="delta_unknown",
            status=404,
        )

    def get_file(self, path: str, *, offset: int = 0) -> Iterator[bytes]:
        yield from self._read(f"tuf/{path}", "file_unknown", offset, None)

    def _read(self, path: str, code: str, offset: int, bytes_max: int | None) -> Iterator[bytes]:
        if self._came is None or path not in self._came.files:
            raise Refused(f"{path[:200]} is not on this stick", code=code, status=404)
        yield from self._came.pieces(path, offset=offset, bytes_max=bytes_max)

    def _out(self) -> StickPart:
        if self._goes is None:
            raise Refused("nothing is sent by this stick now; use `edgewise courier export`", code="stick_read_only")
        return self._goes
