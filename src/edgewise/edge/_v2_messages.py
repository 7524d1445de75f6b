"""Requests and answers of the Open Inference Protocol v2 as bytes: bytes in, arrays out, and back."""

from __future__ import annotations

import functools
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from numpy.typing import NDArray

from edgewise.edge._v2_tensors import BadTensor, datatype_of, read_tensor, write_bytes, write_json
from edgewise.ports import Tensor
from edgewise.wire import NotValid

BODY_BYTES_MAX = 64_000_000
CACHED_HEADER_BYTES_MAX = 4096
HEADER_LENGTH = "inference-header-content-length"


class BadRequest(NotValid):
    """The request is not one of this protocol."""

    def __init__(self, message: str, code: str = "bad_request") -> None:
        super().__init__(message, code=code)


@dataclass(frozen=True, kw_only=True, slots=True)
class InferRequest:
    """What a client asks of a network."""

    id: str | None
    inputs: Mapping[str, NDArray[Any]]
    outputs: Mapping[str, bool]  # name -> whether as binary data, in the order asked for


def uncompressed(body: bytes, coding: str) -> bytes:
    """The body as it was before ``Content-Encoding``, of bounded size.

    Raises:
        BadRequest: another coding than gzip, deflate and none, damaged, or too large.
    """
    if coding in ("", "identity"):
        return body
    if coding not in ("gzip", "deflate"):
        raise BadRequest(f"content encoding {coding[:40]!r} is not known, needs gzip or deflate")
    inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)  # 32: take gzip's header or zlib's
    try:
        plain = inflate.decompress(body, BODY_BYTES_MAX + 1)
    except zlib.error as error:
        raise BadRequest(f"the body is not valid {coding}: {error}") from error
    if len(plain) > BODY_BYTES_MAX:
        raise BadRequest(f"the body has over {BODY_BYTES_MAX} bytes once unpacked, that many are taken", "too_large")
    if not inflate.eof:
        raise BadRequest(f"the {coding} body is cut short")
    return plain


def compressed(body: bytes, coding: str) -> bytes:
    """The body in a coding, gzip or deflate."""
    pack = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS | (16 if coding == "gzip" else 0))
    return pack.compress(body) + pack.flush()


def read_request(
    body: bytes, header_length: str | None, inputs: Sequence[Tensor], outputs: Sequence[Tensor]
) -> InferRequest:
    """A checked request for a network.

    Args:
        body: JSON, followed by binary tensors where there are any.
        header_length: the value of ``Inference-Header-Content-Length``: how many bytes of it are JSON; None for all.
        inputs: what the network takes.
        outputs: what it gives.
    Raises:
        BadRequest, BadTensor: with what is wrong.
    """
    size = _header_size(header_length, len(body))
    head = body[:size]
    about = _cached_head(head) if size <= CACHED_HEADER_BYTES_MAX else _head(head)
    request_id = about.get("id")
    if request_id is not None and not isinstance(request_id, str):
        raise BadRequest("the request's id must be a text")
    return InferRequest(
        id=request_id,
        inputs=_inputs(about, memoryview(body)[size:], {tensor.name: tensor for tensor in inputs}),
        outputs=_outputs(about, [tensor.name for tensor in outputs]),
    )


def _header_size(value: str | None, body_size: int) -> int:
    if value is None:
        return body_size
    if not (value.isascii() and value.isdigit() and len(value) < 12 and int(value) <= body_size):
        raise BadRequest(f"Inference-Header-Content-Length is {value[:40]!r}, needs a number up to {body_size}")
    return int(value)


def _head(data: bytes) -> Mapping[str, Any]:
    def refuse(word: str) -> NoReturn:
        raise ValueError(f"{word} is not JSON")

    try:
        about = json.loads(data, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the request is not JSON: {str(error)[:200]}") from error
    if not isinstance(about, dict):
        raise BadRequest("the request must be a JSON object with inputs")
    return about


# A client that sends binary tensors sends the same JSON each time; nobody changes what comes back.
_cached_head = functools.lru_cache(maxsize=64)(_head)


def _inputs(about: Mapping[str, Any], raw: memoryview, wanted: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    at = 0
    for item in _items(about.get("inputs"), "inputs"):
        name = item["name"]
        if name not in wanted or name in arrays:
            known = ", ".join(repr(other) for other in wanted)
            raise BadTensor(f"input {name[:80]!r} is {'given twice' if name in arrays else 'not known'}; needs {known}")
        size = _binary_size(item, len(raw) - at)
        arrays[name] = read_tensor(item, wanted[name], None if size is None else raw[at : at + size])
        at += size or 0
    if at != len(raw):
        raise BadRequest(f"the request has {len(raw)} bytes of binary data, its inputs name {at}")
    absent = [name for name in wanted if name not in arrays]
    if absent:
        raise BadTensor(f"input {absent[0]!r} is missing")
    return arrays


def _items(value: Any, what: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(
        isinstance(item, dict) and isinstance(item.get("name"), str) for item in value
    ):
        raise BadRequest(f"the request's {what} must be a list of objects that have a name")
    if len(value) > 1024:
        raise BadRequest(f"the request has {len(value)} {what}, at most 1024 are looked at")
    return value


def _parameters(item: Mapping[str, Any]) -> Mapping[str, Any]:
    value = item.get("parameters", {})
    if not isinstance(value, dict):
        raise BadRequest("parameters must be a JSON object")
    for name in ("shared_memory_region", "classification"):
        if name in value:
            raise BadRequest(f"the parameter {name} is not supported here; leave it out")
    return value


def _binary_size(item: Mapping[str, Any], left: int) -> int | None:
    size = _parameters(item).get("binary_data_size")
    if size is None:
        return None
    if type(size) is not int or not 0 <= size <= left:
        raise BadRequest(f"binary_data_size of input {item['name'][:80]!r} is {str(size)[:40]}, {left} bytes are there")
    return size


def _outputs(about: Mapping[str, Any], known: Sequence[str]) -> dict[str, bool]:
    binary = _parameters(about).get("binary_data_output", False) is True
    if about.get("outputs") is None:
        return dict.fromkeys(known, binary)
    asked: dict[str, bool] = {}
    for item in _items(about["outputs"], "outputs"):
        if item["name"] not in known:
            names = ", ".join(repr(name) for name in known)
            raise BadTensor(f"output {item['name'][:80]!r} is not known; this network gives {names}")
        asked[item["name"]] = _parameters(item).get("binary_data", binary) is True
    return asked or dict.fromkeys(known, binary)


def write_answer(
    request: InferRequest, results: Mapping[str, NDArray[Any]], *, name: str, version: str
) -> tuple[bytes, dict[str, str]]:
    """The answer's bytes and headers.

    Raises:
        BadTensor: an output that JSON cannot say.
    """
    outputs: list[dict[str, Any]] = []
    raw: list[bytes] = []
    for output, binary in request.outputs.items():
        array = results[output]
        item: dict[str, Any] = {"name": output, "datatype": datatype_of(array), "shape": list(array.shape)}
        if binary:
            raw.append(write_bytes(array))
            item["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            item["data"] = write_json(array, output)
        outputs.append(item)
    about: dict[str, Any] = {"model_name": name, "model_version": version, "outputs": outputs}
    if request.id is not None:
        about["id"] = request.id
    head = json.dumps(about, separators=(",", ":"), allow_nan=False).encode()
    if not raw:
        return head, {"content-type": "application/json"}
    return b"".join([head, *raw]), {"content-type": "application/octet-stream", HEADER_LENGTH: str(len(head))}
