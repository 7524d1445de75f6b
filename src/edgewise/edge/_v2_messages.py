"""Requests and answers of the Open Inference Protocol v2 as bytes: bytes in, arrays out, and back."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from edgewise.edge._v2_tensors import BadTensor, array_of_bytes, datatype_of, read_tensor, write_bytes, write_json
from edgewise.ports import Tensor
from edgewise.wire import NotValid

BODY_BYTES_MAX = 64_000_000
JSON_BYTES_MAX = 16_000_000  # JSON takes ten times its bytes while it is read; more is sent as binary data
PLAN_BYTES_MAX = 4096  # longer JSON is read anew each time
PLANS_MAX = 64  # per network; and as many answer heads per plan as
ANSWERS_MAX = 8
TENSORS_MAX = 1024
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
    answers: dict[Any, bytes] | None = None  # answer heads that such requests got, where they can be used again

    @property
    def names(self) -> list[str]:
        """The outputs asked for."""
        return list(self.outputs)


def uncompressed(body: bytes | memoryview, coding: str) -> bytes | memoryview:
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


class _Plan:
    """A request whose JSON was read and checked before: only its binary tensors are still to come."""

    def __init__(self, request: InferRequest, inputs: Mapping[str, Tensor], raw_size: int) -> None:
        self._id = request.id
        self._outputs = request.outputs
        self._answers: dict[Any, bytes] = {}
        self._tensors: list[tuple[str, Tensor, tuple[int, ...], int, int]] = []
        at = 0
        for name, array in request.inputs.items():
            size = array.size * (2 if inputs[name].dtype == "bfloat16" else array.itemsize)
            self._tensors.append((name, inputs[name], array.shape, at, at + size))
            at += size
        assert at == raw_size, "a checked request has exactly the bytes that its shapes need"
        self._raw_size = raw_size

    def fill(self, raw: memoryview) -> InferRequest:
        if len(raw) != self._raw_size:
            raise _left_over(len(raw), self._raw_size)
        arrays = {
            name: array_of_bytes(raw[start:end], tensor.dtype).reshape(shape)
            for name, tensor, shape, start, end in self._tensors
        }
        return InferRequest(id=self._id, inputs=arrays, outputs=self._outputs, answers=self._answers)


class RequestReader:
    """Checked requests for one network.

    A client that sends binary tensors sends the same JSON each time: it is read once and remembered by its bytes.

    Args:
        inputs: what the network takes.
        outputs: what it gives.
    """

    def __init__(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        self._inputs = {tensor.name: tensor for tensor in inputs}
        self._outputs = [tensor.name for tensor in outputs]
        self._plans: dict[bytes, _Plan] = {}

    def read(self, body: bytes | memoryview, header_length: str | None) -> InferRequest:
        """The request in a body.

        Args:
            body: JSON, followed by binary tensors where there are any.
            header_length: the value of ``Inference-Header-Content-Length``: how many of them are JSON; None for all.
        Raises:
            BadRequest, BadTensor: with what is wrong.
        """
        size = len(body) if header_length is None else _header_size(header_length, len(body))
        if size > JSON_BYTES_MAX:
            raise BadRequest(
                f"the request has {size} bytes of JSON, {JSON_BYTES_MAX} are taken; send tensors as binary data",
                "too_large",
            )
        head, raw = bytes(body[:size]), memoryview(body)[size:]
        if size <= PLAN_BYTES_MAX and (plan := self._plans.get(head)) is not None:
            return plan.fill(raw)
        about = _head(head)
        request_id = about.get("id")
        if request_id is not None and not isinstance(request_id, str):
            raise BadRequest("the request's id must be a text")
        request = InferRequest(
            id=request_id,
            inputs=_inputs(about, raw, self._inputs),
            outputs=_outputs(about, self._outputs),
        )
        if size <= PLAN_BYTES_MAX and self._is_all_binary(about):
            if len(self._plans) >= PLANS_MAX:
                self._plans.clear()  # clients with ever new ids would only fill it
            self._plans[head] = _Plan(request, self._inputs, len(raw))
        return request

    @property
    def is_plain(self) -> bool:
        """Whether the network takes one input, of numbers that lie in memory as they are sent."""
        return len(self._inputs) == 1 and all(
            tensor.dtype not in ("object", "bool", "bfloat16") for tensor in self._inputs.values()
        )

    def _is_all_binary(self, about: Mapping[str, Any]) -> bool:
        return all(
            "data" not in item and self._inputs[item["name"]].dtype != "object" for item in about.get("inputs", ())
        )


def _left_over(size: int, named: int) -> BadRequest:
    return BadRequest(f"the request has {size} bytes of binary data, its inputs name {named}")


def _header_size(value: str, body_size: int) -> int:
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


def _inputs(about: Mapping[str, Any], raw: memoryview, wanted: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    at = 0
    for item in _items(about.get("inputs"), "inputs"):
        name = item["name"]
        if name not in wanted or name in arrays:
            raise unknown_input(name, wanted, arrays)
        size = _binary_size(item, len(raw) - at)
        arrays[name] = read_tensor(item, wanted[name], None if size is None else raw[at : at + size])
        at += size or 0
    if at != len(raw):
        raise _left_over(len(raw), at)
    need_all(wanted, arrays)
    return arrays


def unknown_input(name: str, wanted: Mapping[str, Tensor], given: Mapping[str, Any]) -> BadTensor:
    known = ", ".join(repr(other) for other in wanted)
    return BadTensor(f"input {name[:80]!r} is {'given twice' if name in given else 'not known'}; needs {known}")


def need_all(wanted: Mapping[str, Tensor], given: Mapping[str, Any]) -> None:
    absent = [name for name in wanted if name not in given]
    if absent:
        raise BadTensor(f"input {absent[0]!r} is missing")


def unknown_output(name: str, known: Sequence[str]) -> BadTensor:
    names = ", ".join(repr(other) for other in known)
    return BadTensor(f"output {name[:80]!r} is not known; this network gives {names}")


def _items(value: Any, what: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(
        isinstance(item, dict) and isinstance(item.get("name"), str) for item in value
    ):
        raise BadRequest(f"the request's {what} must be a list of objects that have a name")
    if len(value) > TENSORS_MAX:
        raise BadRequest(f"the request has {len(value)} {what}, at most {TENSORS_MAX} are looked at")
    return value


def _parameters(item: Mapping[str, Any]) -> Mapping[str, Any]:
    value = item.get("parameters", {})
    if not isinstance(value, dict):
        raise BadRequest("parameters must be a JSON object")
    refuse_parameters(value)
    return value


def refuse_parameters(names: Mapping[str, Any]) -> None:
    """BadRequest: one of them asks for an extension that is not served here."""
    for name in ("shared_memory_region", "classification"):
        if name in names:
            raise BadRequest(f"the parameter {name} is not supported here; leave it out")


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
            raise unknown_output(item["name"], known)
        asked[item["name"]] = _parameters(item).get("binary_data", binary) is True
    return asked or dict.fromkeys(known, binary)


def write_answer(
    request: InferRequest, results: Mapping[str, NDArray[Any]], declared: Mapping[str, str], *, name: str, version: str
) -> tuple[bytes, list[bytes]]:
    """The answer's JSON, and the binary tensors that follow it.

    Args:
        declared: numpy's name of each output's type.
    Raises:
        BadTensor: an output that JSON cannot say.
    """
    key = tuple([results[output].shape for output in request.outputs]) if request.answers is not None else None
    if request.answers is not None and (known := request.answers.get(key)) is not None:
        return known, [write_bytes(results[output], declared[output]) for output in request.outputs]
    outputs: list[dict[str, Any]] = []
    raw: list[bytes] = []
    for output, binary in request.outputs.items():
        array = results[output]
        kind = datatype_of(array, declared[output])
        item: dict[str, Any] = {"name": output, "datatype": kind, "shape": list(array.shape)}
        if binary:
            raw.append(write_bytes(array, declared[output]))
            item["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            item["data"] = write_json(array, output)
        outputs.append(item)
    about: dict[str, Any] = {"model_name": name, "model_version": version, "outputs": outputs}
    if request.id is not None:
        about["id"] = request.id
    head = json.dumps(about, separators=(",", ":"), allow_nan=False).encode()
    if (
        request.answers is not None
        and len(raw) == len(outputs)
        and all(results[output].dtype != np.object_ for output in request.outputs)
    ):
        if len(request.answers) >= ANSWERS_MAX:
            request.answers.clear()
        request.answers[key] = head
    return head, raw
