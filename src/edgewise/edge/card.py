"""The device's capability card: measured here, signed with the device's key, kept in its folder."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import psutil

from edgewise import __version__
from edgewise.edge.device import Device
from edgewise.ports import Clock, OnnxRuntime, replace_file
from edgewise.ports.reference import REFERENCES, measure_reference, ops_missing, opset_max
from edgewise.trust import CertificateKey, open_by_key, seal_certified
from edgewise.wire import CARD_TYPE, CapabilityCard, EdgewiseError, Envelope, decode, encode

CARD_FILE = "card.json"
MEASURE_S = 0.5  # for each reference network
Advance = Callable[[str, float], None]


def _silent(_step: str, _share: float) -> None:
    """Nobody looks."""


def measure_card(
    data_dir: Path, device: str, now: datetime, *, seconds: float = MEASURE_S, advance: Advance = _silent
) -> CapabilityCard:
    """What this machine can do; takes about a second.

    Args:
        device: its name.
        seconds: for each reference network.
        advance: told what is measured, and how far it is from 0 to 1.
    """
    import onnxruntime  # type: ignore[import-untyped]

    runtime, reference = OnnxRuntime(), {}
    for index, name in enumerate(REFERENCES):
        advance(f"network {name}", index / len(REFERENCES))
        reference[name] = measure_reference(runtime, name, seconds=seconds)
    battery = psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None
    return CapabilityCard(
        device=device,
        measured_at=now,
        version=__version__,
        **_machine(),
        disk_free_mb=round(shutil.disk_usage(data_dir).free / 1e6),
        battery_percent=None if battery is None else min(100.0, max(0.0, round(battery.percent, 1))),
        opset_max=opset_max(runtime),
        providers=tuple(onnxruntime.get_available_providers()),
        ops_missing=ops_missing(),
        reference=reference,
    )


def _machine() -> dict[str, str | int | float]:
    """What a card is void without: another machine or runtime is measured anew."""
    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "cpus": os.cpu_count() or 1,
        "ram_mb": round(psutil.virtual_memory().total / 1e6),
        "runtime": f"onnxruntime {importlib.metadata.version('onnxruntime')}",
    }


def load_card(data_dir: Path, key: CertificateKey) -> tuple[CapabilityCard, Envelope] | None:
    """The card in the folder; None where there is none, it is damaged, or this is another machine or runtime now."""
    try:
        envelope = decode(Envelope, (data_dir / CARD_FILE).read_bytes())
        card = decode(CapabilityCard, open_by_key(envelope, payload_type=CARD_TYPE, public=key.public))
    except (OSError, EdgewiseError):
        return None
    same = all(getattr(card, name) == value for name, value in _machine().items())
    return (card, envelope) if same else None


def make_card(
    data_dir: Path,
    device: str,
    key: CertificateKey,
    now: datetime,
    *,
    seconds: float = MEASURE_S,
    advance: Advance = _silent,
) -> tuple[CapabilityCard, Envelope]:
    """A new card, signed and stored. NotNow: the disk is full."""
    card = measure_card(data_dir, device, now, seconds=seconds, advance=advance)
    envelope = seal_certified(encode(card), CARD_TYPE, key)
    replace_file(data_dir / CARD_FILE, encode(envelope))
    return card, envelope


def bring_card(device: Device, data_dir: Path, key: CertificateKey, clock: Clock, *, measure: bool = True) -> None:
    """Give the device its card: at once where it lies in the folder, else measured in a thread of its own."""
    found = load_card(data_dir, key)
    if found is not None:
        device.take_card(*found)
        return
    if not measure:
        return

    def work() -> None:
        try:
            device.take_card(*make_card(data_dir, device.identity.device, key, clock.now()))
        except EdgewiseError as error:
            sys.stderr.write(f"edgewise card: {error}\n")  # a device decides without a card as well

    threading.Thread(target=work, name="edgewise-card", daemon=True).start()
