"""A thin client of the Open Inference Protocol v2: binary tensors both ways over one kept-alive connection."""

from __future__ import annotations

import json
import ssl
import sys
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from edgewise.ports._http import LinkDown, Refused
from edgewise.ports._v2_socket import KeptSocket, Reply
from edgewise.ports.tensors import DATATYPES, DTYPES, ITEM_BYTES, objects, pack_texts, unpack_texts, widened
from edgewise.wire import NotValid

REPLY_BYTES_MAX = 64_000_000  # as much as `edge serve` takes
PLANS_MAX = 64  # request heads and answer heads that are remembered, each
PLAN_BYTES_MAX = 4096  # longer heads are read anew each time


class V2Client:
    """Asks a server of the Open Inference Protocol v2, such as `edgewise edge serve`, Triton or KServe.

    It holds one connection, made at the first call and made anew once where it has gone stale. Threads may share it,
    but wait for each other; a client each is faster.

    Args:
        url: ``http://host:port``, ``https://host:port`` or ``unix:///path/of.sock``.
        tls: for https, with the client's certificate where the server wants one; the system's authorities without it.
        timeout_s: longest time for one call, connecting included.
        reply_bytes_max: longer answers are refused.
    Raises:
        NotValid: not such an address.
    """

    def __init__(
        self,
        url: str,
        *,
        tls: ssl.SSLContext | None = None,
        timeout_s: float,
        reply_bytes_max: int = REPLY_BYTES_MAX,
    ) -> None:
        self._socket = KeptSocket(url, tls=tls, reply_bytes_max=reply_bytes_max)
        self._timeout_s = timeout_s
        self._turn = threading.Lock()
        self._requests: dict[Any, bytes] = {}
        self._answers: dict[bytes, list[_Output]] = {}

    def __enter__(self) -> V2Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next call makes a new one."""
        self._socket.close()

    def infer(
        self,
        model: str,
        inputs: Mapping[str, NDArray[Any]],
        *,
        outputs: Sequence[str] = (),
        timeout_s: float | None = None,
    ) -> dict[str, NDArray[Any]]:
        """The outputs by name; texts come as objects of type bytes, bfloat16 numbers as float32.

        Args:
            model: the name under which it is served.
            inputs: arrays of exactly the type that the network declares; texts as objects of type str or bytes.
            outputs: the wanted ones; all without names.
            timeout_s: for this call, instead of the client's.
        Raises:
            LinkDown: no answer in time, or the server is busy (with its own words). NotTrusted: the two sides do not
                trust each other's certificate.
            Refused: the server says no, or answers in another protocol. NotValid: an array of no such type.
        """
        key = (model, tuple([(name, array.dtype, array.shape) for name, array in inputs.items()]), tuple(outputs))
        tensors = [_raw(array) for array in inputs.values()]
        known = self._requests.get(key)
        if known is None:
            known = self._plan(model, inputs, tensors, outputs)
            if not any(array.dtype.kind in "OUS" for array in inputs.values()):  # texts differ in length each time
                _remember(self._requests, key, known)
        return self._results(self._ask([known, *tensors], timeout_s))

    def ready(self, model: str) -> bool:
        """Whether the server says that this model can be asked. LinkDown, NotTrusted: as `infer`."""
        return self._get(f"{_path(model)}/ready").status == 200

    def metadata(self, model: str) -> dict[str, Any]:
        """What the server says about a model: ``name``, ``versions``, ``inputs``, ``outputs``. Raises as `infer`."""
        reply = self._get(_path(model))
        if reply.status != 200:
            raise _failure(reply)
        value = _json(reply.body)
        if not isinstance(value, dict):
            raise _no_answer("the metadata are not a JSON object")
        return value

    def _get(self, path: str) -> Reply:
        return self._ask([self._head("GET", path, "")], None)

    def _ask(self, parts: Sequence[Any], timeout_s: float | None) -> Reply:
        wait_s = self._timeout_s if timeout_s is None else timeout_s
        if not self._turn.acquire(blocking=False) and not self._turn.acquire(timeout=max(wait_s, 0)):
            raise LinkDown("another thread uses this client all the time; give each its own", code="client_busy")
        try:
            return self._socket.exchange(parts, wait_s)
        finally:
            self._turn.release()

    def _head(self, method: str, path: str, more: str) -> bytes:
        start = f"{method} {self._socket.prefix}{path} HTTP/1.1\r\nHost: {self._socket.host_header}\r\n{more}\r\n"
        return start.encode("latin-1")

    def _plan(
        self, model: str, inputs: Mapping[str, NDArray[Any]], tensors: Sequence[Any], outputs: Sequence[str]
    ) -> bytes:
        """A request up to its tensors; it depends on names, types, shapes and lengths only."""
        sizes = [memoryview(tensor).nbytes for tensor in tensors]
        about: dict[str, Any] = {
            "inputs": [
                {
                    "name": name,
                    "shape": list(array.shape),
                    "datatype": _datatype(name, array),
                    "parameters": {"binary_data_size": size},
                }
                for (name, array), size in zip(inputs.items(), sizes, strict=True)
            ]
        }
        if outputs:
            about["outputs"] = [{"name": name, "parameters": {"binary_data": True}} for name in outputs]
        else:
            about["parameters"] = {"binary_data_output": True}
        head = json.dumps(about, separators=(",", ":")).encode()
        lengths = f"Inference-Header-Content-Length: {len(head)}\r\nContent-Length: {len(head) + sum(sizes)}\r\n"
        more = f"Content-Type: application/octet-stream\r\n{lengths}"
        return self._head("POST", f"{_path(model)}/infer", more) + head

    def _results(self, reply: Reply) -> dict[str, NDArray[Any]]:
        if reply.status != 200:
            raise _failure(reply)
        head = reply.body[: reply.raw_at].tobytes()
        plan = self._answers.get(head)
        if plan is None:
            plan = _answer_plan(head)
            if len(head) <= PLAN_BYTES_MAX and all(output.data is None for output in plan):
                _remember(self._answers, head, plan)
        at = reply.raw_at
        results = {}
        for output in plan:
            try:
                results[output.name] = output.array(reply.body, at)
            except (ValueError, TypeError, OverflowError) as error:
                raise _no_answer(f"output {output.name[:80]!r} does not hold what its shape and type name") from error
            at += output.size
        if at != len(reply.body):
            raise _no_answer(f"{len(reply.body) - at} bytes are left over behind its tensors")
        return results


class _Output:
    """How one output lies in an answer."""

    __slots__ = ("_datatype", "_dtype", "_shape", "count", "data", "name", "size")

    def __init__(self, item: Mapping[str, Any]) -> None:
        self.name: str = item["name"]
        self._datatype: str = item["datatype"]
        self._shape: tuple[int, ...] = tuple(item["shape"])
        if not isinstance(self.name, str) or not all(type(size) is int and size >= 0 for size in self._shape):
            raise ValueError("an output's name or shape")
        self.count = 1
        for size in self._shape:
            self.count *= size
        dtype = DTYPES[self._datatype]
        self._dtype = np.dtype(np.uint16 if dtype == "bfloat16" else dtype).newbyteorder("<")
        self.data = item.get("data")
        self.size: int = 0 if self.data is not None else item["parameters"]["binary_data_size"]
        wanted = self.size if self._datatype == "BYTES" else self.count * ITEM_BYTES[self._datatype]
        if type(self.size) is not int or self.size < 0 or (self.data is None and self.size != wanted):
            raise ValueError("an output's number of bytes")

    def array(self, body: memoryview, at: int) -> NDArray[Any]:
        if self.data is not None:
            return self._from_json(self.data)
        if at + self.size > len(body):
            raise _no_answer("fewer bytes came than its outputs name")
        if self._datatype == "BYTES":
            texts = unpack_texts(body[at : at + self.size], self.count)
            if texts is None:
                raise _no_answer(f"output {self.name[:80]!r} does not hold the texts that its shape names")
            return objects(texts).reshape(self._shape)
        values: NDArray[Any] = np.frombuffer(body, self._dtype, self.count, at).reshape(self._shape)
        if self._datatype == "BF16":
            return widened(values)
        if self._datatype == "BOOL":  # a byte other than 0 and 1 would be no valid bool in memory
            return np.not_equal(values.view(np.uint8), 0)
        return values if values.flags.aligned else values.copy()

    def _from_json(self, data: Any) -> NDArray[Any]:
        if self._datatype == "BYTES":
            flat = np.array(data, object).reshape(-1)
            return objects([str(value).encode() for value in flat]).reshape(self._shape)
        dtype = np.dtype(np.float32) if self._datatype == "BF16" else self._dtype
        return np.array(data, dtype).reshape(self._shape)


def _answer_plan(head: bytes) -> list[_Output]:
    try:
        items = json.loads(head)["outputs"]
        plan = [_Output(item) for item in items]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _no_answer(f"its head is {bytes(head[:80])!r}") from error
    if len({output.name for output in plan}) != len(plan):
        raise _no_answer("two of its outputs have one name")
    return plan


def _path(model: str) -> str:
    return f"/v2/models/{quote(model, safe='')}"


def _datatype(name: str, array: NDArray[Any]) -> str:
    kind = "object" if array.dtype.kind in "OUS" else array.dtype.name
    if kind not in DATATYPES:
        raise NotValid(
            f"input {name!r} is {array.dtype}, which the protocol has no name for; needs one of {', '.join(DATATYPES)}",
            code="bad_tensor",
        )
    return DATATYPES[kind]


def _raw(array: NDArray[Any]) -> Any:
    """The array's bytes as a buffer, without a copy where it lies as the protocol wants it."""
    if array.dtype.kind in "OUS":
        return pack_texts(array.reshape(-1).tolist())
    if not array.dtype.isnative or sys.byteorder == "big":
        array = array.astype(array.dtype.newbyteorder("<"))
    if not array.flags.c_contiguous:
        array = np.ascontiguousarray(array)
    return array.reshape(-1).view(np.uint8).data


def _remember(known: dict[Any, Any], key: Any, value: Any) -> None:
    if len(known) >= PLANS_MAX:
        known.pop(next(iter(known)))  # the oldest: the memory stays bounded
    known[key] = value


def _json(body: memoryview) -> Any:
    try:
        return json.loads(body.tobytes())
    except (ValueError, RecursionError) as error:
        raise _no_answer(f"it begins with {body[:80].tobytes()!r}") from error


def _no_answer(why: str) -> Refused:
    return Refused(f"the server's answer is none of this protocol: {why}", code="answer_invalid", status=502)


def _failure(reply: Reply) -> LinkDown | Refused:
    """What a status other than 200 means, in the server's own words."""
    text = f"the server answered with status {reply.status}"
    try:
        value = json.loads(reply.body.tobytes())
        text = str(value["error"])[:1000]
    except (ValueError, KeyError, TypeError, RecursionError):
        value = {}  # a proxy's page: the status alone must do
    if reply.status in (408, 425, 429) or reply.status >= 500:
        return LinkDown(text, code=f"http_{reply.status}")
    code = str(value.get("code") or f"http_{reply.status}")
    return Refused(text, code=code, status=reply.status, problem=value)
