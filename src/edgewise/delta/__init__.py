"""Model updates as small files: what changed between two versions of a network, and nothing else.

A hub calls `encode` once for a pair of versions, a device calls `decode` with the version that it has. Only the encoder
knows model formats; the decoder knows byte ranges. `Walk` steps over Protocol Buffers for others as well.

The names load on first use: whoever only walks over a file pays for neither pcodec nor Zstandard.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgewise._late import late_names

if TYPE_CHECKING:
    from edgewise.delta._container import VERSION, Limits, Summary, summary
    from edgewise.delta._decode import decode
    from edgewise.delta._encode import encode
    from edgewise.delta._protobuf import (
        BYTES,
        FIXED32,
        FIXED64,
        VARINT,
        Field,
        Walk,
        tagged_floats_count,
        tagged_integer_ends,
    )
    from edgewise.delta._regions import Region, RegionKind
    from edgewise.delta._retouch import with_arrays, with_outputs
    from edgewise.delta._scan import scan
    from edgewise.delta._series import Column, decode_series, encode_series
    from edgewise.delta._snap import snap

__all__ = [
    "BYTES",
    "FIXED32",
    "FIXED64",
    "VARINT",
    "VERSION",
    "Column",
    "Field",
    "Limits",
    "Region",
    "RegionKind",
    "Summary",
    "Walk",
    "decode",
    "decode_series",
    "encode",
    "encode_series",
    "scan",
    "snap",
    "summary",
    "tagged_floats_count",
    "tagged_integer_ends",
    "with_arrays",
    "with_outputs",
]

_HOMES = {
    "_container": ("VERSION", "Limits", "Summary", "summary"),
    "_decode": ("decode",),
    "_encode": ("encode",),
    "_protobuf": (
        "BYTES",
        "FIXED32",
        "FIXED64",
        "VARINT",
        "Field",
        "Walk",
        "tagged_floats_count",
        "tagged_integer_ends",
    ),
    "_regions": ("Region", "RegionKind"),
    "_retouch": ("with_arrays", "with_outputs"),
    "_scan": ("scan",),
    "_series": ("Column", "decode_series", "encode_series"),
    "_snap": ("snap",),
}

__getattr__ = late_names(__name__, _HOMES)
