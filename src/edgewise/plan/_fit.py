"""Does a bundle fit a device, and what has to be fetched for it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from edgewise.wire import Manifest, Needs


def misfits(
    needs: Needs, facts: Mapping[str, Any], *, latency_ms_max: float | None = None, disk_bytes: int = 0
) -> list[str]:
    """Why this bundle cannot run on this device, each reason a sentence; empty when nothing speaks against it.

    What a device does not report is not held against it: its own trial decides, with a way back.

    Args:
        facts: the device's capability card: `opset_max`, `ops_missing` and `providers` (words), `ram_mb` (free for the
            bundle) or `ram_total_mb`, `disk_free_mb`, `speed_ratio` (how many times as fast as the machine that
            measured the bundle; 0.5 is half as fast) or `reference_vision_ms` (the card's reference network), and
            `latency_ms_max` (its deadline).
        latency_ms_max: the deadline where the card has none, such as the use case's `placement.latency_ms_max`.
        disk_bytes: that the bundle takes there on its way and in its slot, see `predicted_disk_bytes`.

    >>> needs = Needs(opset=18, ram_mb=120, latency_ms=8)
    >>> for reason in misfits(needs, {"opset_max": 17, "ram_mb": 2048, "speed_ratio": 0.1}, latency_ms_max=50):
    ...     print(reason)
    the bundle needs ONNX opset 18, the device runs up to 17
    one decision takes about 80 ms there, at most 50 ms allowed
    >>> misfits(needs, {})
    []
    """
    reasons = []
    opset_max = _number(facts, "opset_max")
    if opset_max is not None and needs.opset > opset_max:
        reasons.append(f"the bundle needs ONNX opset {needs.opset}, the device runs up to {opset_max:g}")
    lacking = sorted(set(needs.ops or ()).intersection(_words(facts, "ops_missing")))
    if lacking:
        reasons.append(f"the bundle uses {', '.join(lacking[:5])}, which the device's runtime has no code for")
    providers = _words(facts, "providers")
    if needs.providers and providers and not set(needs.providers).intersection(providers):
        reasons.append(f"the bundle needs {' or '.join(needs.providers)}, the device has {', '.join(providers)}")
    ram_mb = _number(facts, "ram_mb")
    ram_mb = _number(facts, "ram_total_mb") if ram_mb is None else ram_mb
    if ram_mb is not None and needs.ram_mb > ram_mb:
        reasons.append(f"the bundle needs {needs.ram_mb:g} MB of memory, the device has {ram_mb:g} MB")
    disk_free_mb = _number(facts, "disk_free_mb")
    if disk_free_mb is not None and disk_bytes > disk_free_mb * 1e6:
        reasons.append(f"the bundle needs {disk_bytes / 1e6:.3g} MB of disk, the device has {disk_free_mb:g} MB free")
    latency_ms = predicted_latency_ms(needs, facts)
    deadline_ms = _number(facts, "latency_ms_max")
    deadline_ms = latency_ms_max if deadline_ms is None else deadline_ms
    if latency_ms is not None and deadline_ms is not None and latency_ms > deadline_ms:
        reasons.append(f"one decision takes about {latency_ms:.3g} ms there, at most {deadline_ms:g} ms allowed")
    return reasons


def predicted_latency_ms(needs: Needs, facts: Mapping[str, Any]) -> float | None:
    """Milliseconds that one decision takes on the device; None where it does not report its speed.

    A `speed_ratio` that somebody states wins; else the same reference network, measured by the capability card on the
    device and by the trainer beside the bundle, says how the two compare.

    >>> predicted_latency_ms(Needs(opset=18, ram_mb=120, latency_ms=8), {"speed_ratio": 2})
    4.0
    >>> needs = Needs(opset=18, ram_mb=120, latency_ms=8, reference_ms=10)
    >>> predicted_latency_ms(needs, {"reference_vision_ms": 40.0})
    32.0
    """
    ratio = _number(facts, "speed_ratio")
    here_ms = _number(facts, "reference_vision_ms")
    if ratio is None and needs.reference_ms is not None and here_ms is not None and here_ms > 0:
        ratio = needs.reference_ms / here_ms
    return None if ratio is None or ratio <= 0 else needs.latency_ms / ratio


def predicted_bytes(manifest: Manifest, held: Collection[str]) -> int:
    """Bytes to fetch before the bundle is whole on a device: each blob once, those it holds not at all.

    Args:
        held: digests of the blobs on the device.
    """
    sizes = {blob.sha256: blob.size_bytes for blob in manifest.blobs.values()}
    have = set(held)
    return sum(size for sha256, size in sizes.items() if sha256 not in have)


def predicted_disk_bytes(manifest: Manifest, held: Collection[str]) -> int:
    """Free bytes of disk that the bundle takes: what is fetched, and the whole bundle once more in its slot.

    Args:
        held: digests of the blobs on the device.
    """
    whole = sum({blob.sha256: blob.size_bytes for blob in manifest.blobs.values()}.values())
    return whole + predicted_bytes(manifest, held)


def _words(facts: Mapping[str, Any], name: str) -> list[str]:
    value = facts.get(name)
    return value.split() if isinstance(value, str) else []


def _number(facts: Mapping[str, Any], name: str) -> float | None:
    value = facts.get(name)
    # A device may report anything; what is not a number counts as not reported.
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
