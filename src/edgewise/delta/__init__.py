"""Model updates as small files: what changed between two versions of a network, and nothing else.

A hub calls `encode` once for a pair of versions, a device calls `decode` with the version that it has. Only the encoder
knows model formats; the decoder knows byte ranges.
"""

from edgewise.delta._container import Limits, Summary, summary
from edgewise.delta._decode import decode
from edgewise.delta._encode import encode
from edgewise.delta._regions import Region, RegionKind
from edgewise.delta._scan import scan
from edgewise.delta._snap import snap

__all__ = ["Limits", "Region", "RegionKind", "Summary", "decode", "encode", "scan", "snap", "summary"]
