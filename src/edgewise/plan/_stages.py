"""What a bundle of several graphs needs."""

from __future__ import annotations

from edgewise.wire import Needs


def summed(first: Needs, *others: Needs) -> Needs:
    """What a bundle needs whose graphs need these: memory and time add up, for a frame may go through all of them.

    >>> find = Needs(opset=17, ram_mb=100, latency_ms=8)
    >>> both = summed(find, Needs(opset=18, ram_mb=20, latency_ms=1.5))
    >>> both.opset, both.ram_mb, both.latency_ms
    (18, 120.0, 9.5)
    """
    every = (first, *others)
    return first.model_copy(
        update={
            "opset": max(needs.opset for needs in every),
            "ram_mb": sum(needs.ram_mb for needs in every),
            "latency_ms": sum(needs.latency_ms for needs in every),
            "ops": tuple(sorted({op for needs in every for op in needs.ops or ()})) or None,
        }
    )
