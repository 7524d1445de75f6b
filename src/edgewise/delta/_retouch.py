"""Small changes to an ONNX file without the library for it: other values in an array, an inner tensor as an output.

A device has ONNX Runtime, which can do neither, and not the `onnx` package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edgewise.delta._protobuf import BYTES
from edgewise.delta._regions import RegionKind
from edgewise.delta._scan import scan
from edgewise.delta._varint import varint
from edgewise.wire import NotValid

GRAPH, OUTPUT, NAME = 7, 12, 1  # field numbers of ModelProto.graph, GraphProto.output, ValueInfoProto.name


def with_arrays(model: bytes, arrays: Mapping[str, NDArray[np.float32]]) -> bytes:
    """The model with other values in some of its float32 arrays, of at least four numbers each; nothing else changes.

    Args:
        arrays: by name, with as many numbers as are there.
    Raises:
        NotValid: the model has no such array, or one of another size.
    """
    changed = bytearray(model)
    places = {
        region.name: region
        for region in scan(model)
        if region.kind is RegionKind.TENSOR and region.number_type and region.number_type.name == "float32"
    }
    for name, values in arrays.items():
        data = np.ascontiguousarray(values, "<f4").tobytes()
        place = places.get(name)
        if place is None or place.size_bytes != len(data):
            seen = "none of that name" if place is None else f"one of {place.size_bytes} bytes"
            raise NotValid(
                f"the network needs a float32 array {name[:80]!r} of {len(data)} bytes and has {seen}; "
                "take the sums of this very network",
                code="array_unknown",
            )
        changed[place.start : place.stop] = data
    return bytes(changed)


def with_outputs(model: bytes, names: Sequence[str]) -> bytes:
    """The model with inner tensors as further outputs, in this order; their types are left to whoever runs it.

    Parsers of Protocol Buffers join a message that comes twice, so a second piece of the graph is put behind the file.
    Source: protobuf.dev, "Encoding", last one wins.
    """
    outputs = b"".join(_field(OUTPUT, _field(NAME, name.encode())) for name in names)
    return model + _field(GRAPH, outputs) if names else model


def _field(number: int, value: bytes) -> bytes:
    return varint(number << 3 | BYTES) + varint(len(value)) + value
