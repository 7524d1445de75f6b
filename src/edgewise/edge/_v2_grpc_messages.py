"""The gRPC messages of the Open Inference Protocol v2, built here: the numbers below are the protocol.

Source: Open Inference Protocol, gRPC, version 2, with the extensions of Triton for configuration, statistics and
repository. Only the fields that this server reads or writes are declared; protobuf lets others pass.
"""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

from edgewise.wire import NotValid

PACKAGE = "inference"
SERVICE = "inference.GRPCInferenceService"

# message -> field -> (number, type); a type with a star is repeated, "{}" is a map from text, "|" one of several.
MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "ServerLiveRequest": {},
    "ServerLiveResponse": {"live": (1, "bool")},
    "ServerReadyRequest": {},
    "ServerReadyResponse": {"ready": (1, "bool")},
    "ModelReadyRequest": {"name": (1, "string"), "version": (2, "string")},
    "ModelReadyResponse": {"ready": (1, "bool")},
    "ServerMetadataRequest": {},
    "ServerMetadataResponse": {"name": (1, "string"), "version": (2, "string"), "extensions": (3, "string*")},
    "ModelMetadataRequest": {"name": (1, "string"), "version": (2, "string")},
    "ModelMetadataResponse": {
        "name": (1, "string"),
        "versions": (2, "string*"),
        "platform": (3, "string"),
        "inputs": (4, "ModelMetadataResponse.TensorMetadata*"),
        "outputs": (5, "ModelMetadataResponse.TensorMetadata*"),
    },
    "ModelMetadataResponse.TensorMetadata": {"name": (1, "string"), "datatype": (2, "string"), "shape": (3, "int64*")},
    "InferParameter": {
        "bool_param": (1, "bool|"),
        "int64_param": (2, "int64|"),
        "string_param": (3, "string|"),
        "double_param": (4, "double|"),
        "uint64_param": (5, "uint64|"),
    },
    "InferTensorContents": {
        "bool_contents": (1, "bool*"),
        "int_contents": (2, "int32*"),
        "int64_contents": (3, "int64*"),
        "uint_contents": (4, "uint32*"),
        "uint64_contents": (5, "uint64*"),
        "fp32_contents": (6, "float*"),
        "fp64_contents": (7, "double*"),
        "bytes_contents": (8, "bytes*"),
    },
    "ModelInferRequest": {
        "model_name": (1, "string"),
        "model_version": (2, "string"),
        "id": (3, "string"),
        "parameters": (4, "InferParameter{}"),
        "inputs": (5, "ModelInferRequest.InferInputTensor*"),
        "outputs": (6, "ModelInferRequest.InferRequestedOutputTensor*"),
        "raw_input_contents": (7, "bytes*"),
    },
    "ModelInferRequest.InferInputTensor": {
        "name": (1, "string"),
        "datatype": (2, "string"),
        "shape": (3, "int64*"),
        "parameters": (4, "InferParameter{}"),
        "contents": (5, "InferTensorContents"),
    },
    "ModelInferRequest.InferRequestedOutputTensor": {"name": (1, "string"), "parameters": (2, "InferParameter{}")},
    "ModelInferResponse": {
        "model_name": (1, "string"),
        "model_version": (2, "string"),
        "id": (3, "string"),
        "outputs": (5, "ModelInferResponse.InferOutputTensor*"),
        "raw_output_contents": (6, "bytes*"),
    },
    "ModelInferResponse.InferOutputTensor": {"name": (1, "string"), "datatype": (2, "string"), "shape": (3, "int64*")},
    "ModelStreamInferResponse": {"error_message": (1, "string"), "infer_response": (2, "ModelInferResponse")},
    "ModelConfigRequest": {"name": (1, "string"), "version": (2, "string")},
    "ModelConfigResponse": {"config": (1, "ModelConfig")},
    "ModelConfig": {
        "name": (1, "string"),
        "platform": (2, "string"),
        "max_batch_size": (4, "int32"),
        "input": (5, "ModelInput*"),
        "output": (6, "ModelOutput*"),
        "backend": (17, "string"),
    },
    "ModelInput": {"name": (1, "string"), "data_type": (2, "DataType"), "dims": (4, "int64*")},
    "ModelOutput": {"name": (1, "string"), "data_type": (2, "DataType"), "dims": (3, "int64*")},
    "ModelStatisticsRequest": {"name": (1, "string"), "version": (2, "string")},
    "ModelStatisticsResponse": {"model_stats": (1, "ModelStatistics*")},
    "ModelStatistics": {
        "name": (1, "string"),
        "version": (2, "string"),
        "last_inference": (3, "uint64"),
        "inference_count": (4, "uint64"),
        "execution_count": (5, "uint64"),
        "inference_stats": (6, "InferStatistics"),
    },
    "InferStatistics": {
        "success": (1, "StatisticDuration"),
        "fail": (2, "StatisticDuration"),
        "compute_infer": (5, "StatisticDuration"),
    },
    "StatisticDuration": {"count": (1, "uint64"), "ns": (2, "uint64")},
    "RepositoryIndexRequest": {"repository_name": (1, "string"), "ready": (2, "bool")},
    "RepositoryIndexResponse": {"models": (1, "RepositoryIndexResponse.ModelIndex*")},
    "RepositoryIndexResponse.ModelIndex": {
        "name": (1, "string"),
        "version": (2, "string"),
        "state": (3, "string"),
        "reason": (4, "string"),
    },
    "ModelRepositoryParameter": {
        "bool_param": (1, "bool|"),
        "int64_param": (2, "int64|"),
        "string_param": (3, "string|"),
        "bytes_param": (4, "bytes|"),
    },
    "RepositoryModelLoadRequest": {
        "repository_name": (1, "string"),
        "model_name": (2, "string"),
        "parameters": (3, "ModelRepositoryParameter{}"),
    },
    "RepositoryModelLoadResponse": {},
    "RepositoryModelUnloadRequest": {
        "repository_name": (1, "string"),
        "model_name": (2, "string"),
        "parameters": (3, "ModelRepositoryParameter{}"),
    },
    "RepositoryModelUnloadResponse": {},
}
FIELDS_MAX = 10_000  # of one message, at its top
DATA_TYPES = (
    *("TYPE_INVALID", "TYPE_BOOL", "TYPE_UINT8", "TYPE_UINT16", "TYPE_UINT32", "TYPE_UINT64", "TYPE_INT8"),
    *("TYPE_INT16", "TYPE_INT32", "TYPE_INT64", "TYPE_FP16", "TYPE_FP32", "TYPE_FP64", "TYPE_STRING", "TYPE_BF16"),
)


@cache
def messages() -> SimpleNamespace:
    """The message classes by their names without dots. NotValid: the extra for gRPC is not installed."""
    try:
        from google.protobuf import (  # type: ignore[import-untyped]
            descriptor_pb2,
            descriptor_pool,
            message_factory,
        )
    except ImportError as error:
        raise needs_extra() from error
    file = descriptor_pb2.FileDescriptorProto(name="edgewise/v2.proto", package=PACKAGE, syntax="proto3")
    data_type = file.enum_type.add(name="DataType")
    for number, name in enumerate(DATA_TYPES):
        data_type.value.add(name=name, number=number)
    made: dict[str, Any] = {}
    for name in sorted(MESSAGES, key=lambda name: name.count(".")):  # what holds others comes before them
        outer, _, inner = name.rpartition(".")
        made[name] = made[outer].nested_type.add(name=inner) if outer else file.message_type.add(name=name)
    for name, fields in MESSAGES.items():
        for field, (number, kind) in fields.items():
            _declare(made[name], name, field, number, kind)
    # A pool of its own: another package may have registered the same names in the common one.
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return SimpleNamespace(
        **{
            name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))
            for name in MESSAGES
            if "." not in name
        }
    )


def _declare(message: Any, name: str, field: str, number: int, kind: str) -> None:
    bare = kind.rstrip("*{}|")
    added = message.field.add(name=field, number=number)
    added.label = added.LABEL_REPEATED if kind[-1] in "*}" else added.LABEL_OPTIONAL
    if kind.endswith("|"):
        if not message.oneof_decl:
            message.oneof_decl.add(name="parameter_choice")
        added.oneof_index = 0
    if kind.endswith("{}"):
        entry = message.nested_type.add(name="".join(part.title() for part in field.split("_")) + "Entry")
        entry.options.map_entry = True
        _declare(entry, "", "key", 1, "string")
        _declare(entry, "", "value", 2, bare)
        added.type, added.type_name = added.TYPE_MESSAGE, f".{PACKAGE}.{name}.{entry.name}"
    elif bare == "DataType":
        added.type, added.type_name = added.TYPE_ENUM, f".{PACKAGE}.{bare}"
    elif bare in MESSAGES:
        added.type, added.type_name = added.TYPE_MESSAGE, f".{PACKAGE}.{bare}"
    else:
        added.type = getattr(added, f"TYPE_{bare.upper()}")


def needs_extra() -> NotValid:
    """What to do where gRPC is not installed."""
    return NotValid("gRPC is not installed here; install it with: pip install 'edgewise[grpc]'", code="extra_missing")


def split_raw(data: bytes, field: int) -> tuple[bytes, list[memoryview]]:
    """A message without one of its fields of bytes, and that field's values, which are not copied.

    Args:
        data: a serialised message.
        field: the number of a repeated field of bytes.
    Raises:
        ValueError: this is no message.

    >>> rest, values = split_raw(b"\\x0a\\x01m" + b"\\x3a\\x02ab" + b"\\x3a\\x00", 7)
    >>> rest, [bytes(value) for value in values]
    (b'\\n\\x01m', [b'ab', b''])
    """
    view = memoryview(data)
    rest: list[memoryview] = []
    values: list[memoryview] = []
    at = 0
    while at < len(data):
        if len(rest) + len(values) >= FIELDS_MAX:
            raise ValueError(f"over {FIELDS_MAX} fields")
        start = at
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 2:
            size, at = _varint(data, at)
            begins, at = at, at + size
        elif kind == 0:
            _, at = _varint(data, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if at > len(data):
            raise ValueError("cut short")
        if kind == 2 and tag >> 3 == field:
            values.append(view[begins:at])
        else:
            rest.append(view[start:at])
    return b"".join(rest), values


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("cut short")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a number of over 64 bits")


def with_length(tag: int, size: int) -> bytes:
    """What comes before a field of so many bytes: its number, up to 15, and their count.

    >>> with_length(6, 300)
    b'2\\xac\\x02'
    """
    out = bytearray([tag << 3 | 2])
    while size > 127:
        out.append(size & 127 | 128)
        size >>= 7
    out.append(size)
    return bytes(out)
