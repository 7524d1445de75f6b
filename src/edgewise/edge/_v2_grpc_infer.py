"""ModelInfer over gRPC as bytes: requests in, answers out; the tensors are never copied into messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from edgewise.edge._v2_grpc_messages import messages, split_raw, with_length
from edgewise.edge._v2_messages import (
    ANSWERS_MAX,
    PLAN_BYTES_MAX,
    PLANS_MAX,
    TENSORS_MAX,
    BadRequest,
    need_all,
    refuse_parameters,
    unknown_input,
    unknown_output,
)
from edgewise.edge._v2_models import Served, ServedModel
from edgewise.edge._v2_tensors import (
    BadTensor,
    checked_shape,
    datatype_of,
    from_bytes,
    from_values,
    need_type,
    write_bytes,
)
from edgewise.ports import Tensor

RAW_INPUT, RAW_OUTPUT = 7, 6  # field numbers
TYPED_MAX = 4_000_000  # each value takes up to a hundred bytes while it is read
CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


class Asked:
    """A request without its raw tensors, read and checked; it stands for every request of the same bytes.

    Raises:
        BadRequest, BadTensor: with what is wrong.
    """

    def __init__(self, message: Any, served: ServedModel) -> None:
        self.name: str = message.model_name
        self.version: str = message.model_version
        self.id: str = message.id
        self.served = served
        self.heads: dict[Any, bytes] = {}  # of answers, by the shapes of their tensors
        self._message = message
        refuse_parameters(message.parameters)
        if max(len(message.inputs), len(message.outputs)) > TENSORS_MAX:
            raise BadRequest(f"the request names over {TENSORS_MAX} tensors, so many are looked at")
        wanted = {tensor.name: tensor for tensor in served.inputs}
        self._inputs: dict[str, tuple[Tensor, tuple[int, ...]]] = {}
        for item in message.inputs:
            if item.name not in wanted or item.name in self._inputs:
                raise unknown_input(item.name, wanted, self._inputs)
            refuse_parameters(item.parameters)
            need_type(item.datatype, wanted[item.name])
            self._inputs[item.name] = wanted[item.name], checked_shape(list(item.shape[:64]), wanted[item.name])
        need_all(wanted, self._inputs)
        self.outputs = self._wanted_outputs(message.outputs)

    @property
    def is_all_raw(self) -> bool:
        """Whether nothing of the tensors is in the message itself."""
        return not any(item.HasField("contents") for item in self._message.inputs)

    def _wanted_outputs(self, items: Sequence[Any]) -> list[str]:
        known = [tensor.name for tensor in self.served.outputs]
        for item in items:
            if item.name not in known:
                raise unknown_output(item.name, known)
            refuse_parameters(item.parameters)
        return list(dict.fromkeys(item.name for item in items)) or known

    def arrays(self, raw: Sequence[memoryview]) -> dict[str, NDArray[Any]]:
        """The inputs by name. BadRequest, BadTensor: they are not what the request says."""
        if not raw:
            return {
                name: self._typed(item, *self._inputs[name])
                for name, item in zip(self._inputs, self._message.inputs, strict=True)
            }
        if len(raw) != len(self._inputs) or not self.is_all_raw:
            raise BadRequest(
                f"the request has {len(raw)} raw tensors for {len(self._inputs)} inputs; needs one for each, or typed "
                "contents in all of them"
            )
        return {
            name: from_bytes(data, tensor, shape)
            for (name, (tensor, shape)), data in zip(self._inputs.items(), raw, strict=True)
        }

    def _typed(self, item: Any, tensor: Tensor, shape: tuple[int, ...]) -> NDArray[Any]:
        field = CONTENTS.get(item.datatype)
        if field is None:
            raise BadTensor(f"input {tensor.name!r} is {item.datatype}, which is sent as raw_input_contents only")
        for descriptor, _ in item.contents.ListFields():
            if descriptor.name != field:
                raise BadTensor(f"input {tensor.name!r} is {item.datatype}, which is sent in {field}, not elsewhere")
        values = getattr(item.contents, field)
        if len(values) > TYPED_MAX:
            raise BadTensor(f"input {tensor.name!r} has over {TYPED_MAX} values; send them in raw_input_contents")
        return from_values(values, tensor, shape)


class InferReader:
    """Requests of ModelInfer out of their bytes. What repeats in them is read once and remembered by its bytes."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._known: dict[bytes, Asked] = {}

    def read(self, data: bytes) -> tuple[Asked, dict[str, NDArray[Any]]]:
        """What is asked, and the inputs. BadRequest, BadTensor: with what is wrong."""
        try:
            head, raw = split_raw(data, RAW_INPUT)
        except ValueError as error:
            raise BadRequest(f"the request is no message of this protocol: {error}") from error
        asked = self._known.get(head) if len(head) <= PLAN_BYTES_MAX else None
        if asked is None or asked.served is not self._served.find(asked.name, asked.version):
            asked = self._read(head)
        return asked, asked.arrays(raw)

    def _read(self, head: bytes) -> Asked:
        try:
            message = messages().ModelInferRequest.FromString(head)
        except Exception as error:  # protobuf's DecodeError, without loading protobuf for its name
            raise BadRequest("the request is no message of this protocol") from error
        asked = Asked(message, self._served.find(message.model_name, message.model_version))
        if len(head) <= PLAN_BYTES_MAX and asked.is_all_raw:
            if len(self._known) >= PLANS_MAX:
                self._known.clear()
            self._known[head] = asked
        return asked


def answer_bytes(asked: Asked, results: Mapping[str, NDArray[Any]]) -> bytes:
    """A ModelInferResponse, serialised."""
    served, key = asked.served, tuple([results[name].shape for name in asked.outputs])
    head = asked.heads.get(key)
    if head is None:
        head = _answer_head(asked, results)
        if len(asked.heads) < ANSWERS_MAX:
            asked.heads[key] = head
    parts = [head]
    for name in asked.outputs:
        raw = write_bytes(results[name], served.declared[name])
        parts += [with_length(RAW_OUTPUT, len(raw)), raw]
    return b"".join(parts)


def _answer_head(asked: Asked, results: Mapping[str, NDArray[Any]]) -> bytes:
    declared = asked.served.declared
    outputs = [
        {"name": name, "datatype": datatype_of(results[name], declared[name]), "shape": results[name].shape}
        for name in asked.outputs
    ]
    head: bytes = (
        messages()
        .ModelInferResponse(model_name=asked.name, model_version=asked.served.version, id=asked.id, outputs=outputs)
        .SerializeToString()
    )
    return head
