"""A device's capability card: stored once its own key has signed it, refused and audited otherwise."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from edgewise.hub.api.models import DeviceOut
from edgewise.hub.store import devices, tables
from edgewise.trust import CertificateKey, seal_certified
from edgewise.wire import CARD_TYPE, CapabilityCard, Envelope, ReferenceRun, Report, encode, record_digest


def card(device: str = "one", **changes: Any) -> CapabilityCard:
    values: dict[str, Any] = {
        "device": device,
        "measured_at": datetime(2026, 1, 1, tzinfo=UTC),
        "version": "1",
        "system": "Linux",
        "machine": "aarch64",
        "cpus": 4,
        "ram_mb": 4000,
        "disk_free_mb": 9000,
        "runtime": "onnxruntime 1.32.0",
        "opset_max": 23,
        "providers": ("CPUExecutionProvider",),
        "reference": {"vision": ReferenceRun(p50_ms=20, p95_ms=25, runs=40)},
    }
    return CapabilityCard(**(values | changes))


def sealed(key: CertificateKey, record: CapabilityCard | None = None) -> Envelope:
    return seal_certified(encode(record or card()), CARD_TYPE, key)


def report(yard: Any, **more: Any) -> Report:
    return Report(at=yard.clock.now(), phase="idle", facts={"ram_mb": 512}, **more)


def row(yard: Any) -> devices.DeviceRow:
    with yard.hub.store.read() as connection:
        found = devices.get(connection, "one")
    assert found is not None
    return found


def refusals(yard: Any) -> list[Any]:
    return [item["data"]["code"] for item in yard.rows(tables.audit) if item["action"] == "card.refused"]


def test_a_card_is_stored_shown_and_kept_over_reports_without_one(yard):
    device = yard.enrol("one")
    device.send(report=report(yard, card=sealed(device.key)))
    device.send(report=report(yard))
    assert row(yard).card == card()
    assert DeviceOut.model_validate(row(yard)).card == card()
    measured = {"opset_max": 23, "ram_total_mb": 4000, "reference_vision_ms": 20, "providers": "CPUExecutionProvider"}
    assert row(yard).facts == {"ram_mb": 512, **measured}
    assert refusals(yard) == []


def test_a_newer_card_replaces_the_older_one(yard):
    device = yard.enrol("one")
    device.send(report=report(yard, card=sealed(device.key)))
    device.send(report=report(yard, card=sealed(device.key, card(cpus=8))))
    assert row(yard).card.cpus == 8


@pytest.mark.parametrize(
    ("forge", "code"),
    [
        (lambda _device: sealed(CertificateKey.generate(b"another")), "signature_wrong"),
        (lambda device: sealed(device.key, card("two")), "wrong_device"),
        (lambda device: sealed(device.key).model_copy(update={"payload": "e30="}), "signature_wrong"),
        (lambda device: seal_certified(b"{}", CARD_TYPE, device.key), "record_invalid"),
        (lambda device: seal_certified(encode(card()), "text/plain", device.key), "type_wrong"),
    ],
)
def test_a_card_that_does_not_hold_is_audited_once_and_not_stored(yard, forge, code):
    device = yard.enrol("one")
    forged = forge(device)
    for _ in range(2):
        device.send(report=report(yard, card=forged))
    assert (row(yard).card, row(yard).facts) == (None, {"ram_mb": 512})
    assert refusals(yard) == [code]


def test_a_good_card_stays_when_a_bad_one_comes(yard):
    device = yard.enrol("one")
    bad = sealed(CertificateKey.generate(b"another"))
    device.send(report=report(yard, card=sealed(device.key)))
    for _ in range(3):
        device.send(report=report(yard, card=bad))
    assert row(yard).card == card()
    assert refusals(yard) == ["signature_wrong"]


def test_a_device_cannot_silence_the_audit(yard):
    device = yard.enrol("one")
    bad = sealed(CertificateKey.generate(b"another"))
    device.send(report=report(yard, card=bad, card_refused=record_digest(bad)))
    assert refusals(yard) == ["signature_wrong"]
