"""The head of an HTTP/1.1 request, read strictly: what is not exactly right is refused, never guessed.

Source: RFC 9110 (fields), RFC 9112 (messages; section 6 for lengths, 3.2 for Host).
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

FIELDS_MAX = 100
TARGET_BYTES_MAX = 8192
_LINE = re.compile(rb"([A-Z]{1,20}) (/[!-~]*) HTTP/1\.([01])")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")


class BadHead(Exception):
    """The request cannot be read on; the status and words say why, and the connection ends."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class Head:
    """A request without its body. The same bytes give the same head, so it may be remembered.

    Attributes:
        data: its bytes, without the empty line at its end.
        path: decoded, without the query.
        headers: names in lower case and values, as they came.
        length: bytes of the body; 0 where it comes in chunks.
        raw_at: where binary tensors begin in the body, by protocol v2's own field; 0 where it says nothing.
        memo: what an application wants to remember about such requests.
    """

    __slots__ = (
        *(
            "chunked",
            "data",
            "expects",
            "headers",
            "keeps",
            "length",
            "memo",
            "method",
            "path",
            "query",
            "raw_at",
            "raw_path",
        ),
    )

    def __init__(self, data: bytes) -> None:
        self.data = data
        line, *fields = data.split(b"\r\n")
        found = _LINE.fullmatch(line)
        if found is None:
            raise BadHead(400, f"the request line is {line[:80]!r}, needs such as 'GET /v2 HTTP/1.1'")
        target = found[2]
        if len(target) > TARGET_BYTES_MAX:
            raise BadHead(414, f"the address has over {TARGET_BYTES_MAX} bytes")
        if len(fields) > FIELDS_MAX:
            raise BadHead(431, f"the request has over {FIELDS_MAX} header fields")
        self.method = found[1].decode()
        self.raw_path: bytes
        self.query: bytes
        self.raw_path, _, self.query = target.partition(b"?")
        self.path = unquote(self.raw_path.decode())
        self.headers = [_field(each) for each in fields]
        self.memo: Any = None
        is_new = found[3] == b"1"
        options = self._tokens(b"connection")
        self.keeps = b"close" not in options and (is_new or b"keep-alive" in options)
        self.expects = is_new and b"100-continue" in self._tokens(b"expect")
        if is_new and len(self._values(b"host")) != 1:
            raise BadHead(400, "the request needs exactly one Host field")
        self.chunked = self._is_chunked(is_new)
        self.length = self._length()
        begins = b"".join(self._values(b"inference-header-content-length"))
        self.raw_at = int(begins) if begins.isdigit() and len(begins) < 12 else 0

    def _values(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key == name]

    def _tokens(self, name: bytes) -> list[bytes]:
        return [part.strip().lower() for part in b",".join(self._values(name)).split(b",")]

    def _is_chunked(self, is_new: bool) -> bool:
        codings = self._values(b"transfer-encoding")
        if not codings:
            return False
        if not is_new or self._values(b"content-length"):  # the ways in which two readers can come to differ
            raise BadHead(400, "Transfer-Encoding goes neither with HTTP/1.0 nor with Content-Length")
        if [coding.lower() for coding in codings] != [b"chunked"]:
            raise BadHead(501, f"transfer coding {codings[0][:40]!r} is not known, needs chunked")
        return True

    def _length(self) -> int:
        lengths = self._values(b"content-length")
        if not lengths:
            return 0
        if len(lengths) > 1 or not lengths[0].isdigit() or len(lengths[0]) > 15:
            raise BadHead(400, f"Content-Length is {b', '.join(lengths)[:40]!r}, needs one number")
        return int(lengths[0])


def _field(line: bytes) -> tuple[bytes, bytes]:
    found = _FIELD.fullmatch(line)
    if found is None:
        raise BadHead(400, f"the header field {line[:80]!r} is none")
    return found[1].lower(), found[2].rstrip(b" \t")


class Chunks:
    """A body that comes in chunks, out of pieces of any size.

    Args:
        bytes_max: a longer body is refused.
    """

    LINE_BYTES_MAX = 256  # of a chunk's length with its extensions, and of a trailer field

    def __init__(self, bytes_max: int) -> None:
        self.body = bytearray()
        self._bytes_max = bytes_max
        self._left = 0  # of the chunk that is being read
        self._after = False  # whether its end of line is still to come
        self._line = b""
        self._trailers: int | None = None  # how many were read, once the last chunk was

    def feed(self, data: memoryview) -> int | None:
        """Read on; how many of these bytes belonged to the body, once it is whole, and None before. Raises BadHead."""
        at = 0
        while at < len(data):
            if self._left:
                part = data[at : at + self._left]
                self.body += part
                self._left -= len(part)
                at += len(part)
                self._after = not self._left
                continue
            line, at = self._read_line(data, at)
            if line is not None and self._is_last(line):
                return at
        return None

    def _read_line(self, data: memoryview, at: int) -> tuple[bytes | None, int]:
        piece = bytes(data[at : at + self.LINE_BYTES_MAX])
        cut = piece.find(b"\n")
        ends = at + (cut + 1 if cut >= 0 else len(piece))
        self._line += bytes(data[at:ends])
        if len(self._line) > self.LINE_BYTES_MAX:
            raise BadHead(400, "a chunk's line is too long")
        if cut < 0:
            return None, ends
        line, self._line = self._line, b""
        if not line.endswith(b"\r\n"):
            raise BadHead(400, "a chunk's line does not end in CR LF")
        return line[:-2], ends

    def _is_last(self, line: bytes) -> bool:
        """Take a line that is none of the body's; True for the one that ends it."""
        if self._after:
            if line:
                raise BadHead(400, "a chunk is longer than it says")
            self._after = False
            return False
        if self._trailers is not None:
            self._trailers += 1
            if self._trailers > FIELDS_MAX:
                raise BadHead(431, f"the request has over {FIELDS_MAX} trailer fields")
            return not line
        size = line.partition(b";")[0].rstrip(b" \t")
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,12}", size):
            raise BadHead(400, f"a chunk's length is {size[:40]!r}")
        self._left = int(size, 16)
        if len(self.body) + self._left > self._bytes_max:
            raise BadHead(413, f"the body has more than the {self._bytes_max} bytes that are taken")
        if self._left == 0:
            self._trailers = 0
        return False
