"""Finds the numbers in a model file. Only the encoder scans; the decoder is told byte ranges."""

from __future__ import annotations

import json
import math
import struct

from edgewise.delta._numbers import BY_NAME
from edgewise.delta._onnx import onnx_regions
from edgewise.delta._regions import ByteData, Region, RegionKind, with_literals

SAFETENSORS_HEADER_BYTES_MAX = 100_000_000  # the format's own bound
SAFETENSORS_TYPES = {
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F64": "float64",
    "U8": "uint8",
    "I8": "int8",
    "I32": "int32",
}


def scan(data: ByteData) -> list[Region]:
    """The file as regions that cover it once, in order: tensors, arrays of trees, and literal bytes between.

    ONNX and safetensors are known. Anything else, also a damaged or overlong file of these, is one literal region:
    the scan never fails, it only finds less.

    >>> scan(b"not a model")
    [Region(start=0, stop=11, kind=<RegionKind.LITERAL: 'literal'>, name='', number_type=None, channels=1)]
    """
    view = memoryview(data).cast("B")
    for find in (_safetensors_regions, onnx_regions):
        try:
            regions = with_literals(find(view), len(view))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
        if any(region.kind is not RegionKind.LITERAL for region in regions):
            return regions
    return with_literals([], len(view))


def _safetensors_regions(view: memoryview) -> list[Region]:
    """Tensors of a safetensors file: u64 header length, JSON header, then the data.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: not such a file.
    Source: the safetensors format description, github.com/huggingface/safetensors.
    """
    if len(view) < 10 or view[8] != ord("{"):
        raise ValueError("not safetensors")
    (length,) = struct.unpack_from("<Q", view)
    if length > min(len(view) - 8, SAFETENSORS_HEADER_BYTES_MAX):
        raise ValueError("the header is longer than the file")
    header = json.loads(bytes(view[8 : 8 + length]))
    return [
        _safetensors_region(name, entry, 8 + length)
        for name, entry in header.items()
        if name != "__metadata__" and entry["dtype"] in SAFETENSORS_TYPES and math.prod(entry["shape"]) > 0
    ]


def _safetensors_region(name: str, entry: dict[str, list[int]], data_start: int) -> Region:
    start, stop = (data_start + int(offset) for offset in entry["data_offsets"])
    number_type = BY_NAME[SAFETENSORS_TYPES[str(entry["dtype"])]]
    shape = [int(size) for size in entry["shape"]]
    if start < data_start or stop - start != math.prod(shape) * number_type.size_bytes:
        raise ValueError(f"the range of {name} does not fit its shape")
    channels = shape[0] if len(shape) > 1 else 1
    return Region(start=start, stop=stop, kind=RegionKind.TENSOR, name=name, number_type=number_type, channels=channels)
