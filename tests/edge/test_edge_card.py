"""The capability card on the device: measured once, signed, sent until the hub has heard it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from edgewise.edge.card import CARD_FILE, bring_card, load_card, make_card
from edgewise.ports import SystemClock
from edgewise.trust import CertificateKey, open_by_key
from edgewise.wire import CARD_TYPE, CapabilityCard, Needs, decode

NOW = datetime(2026, 3, 1, tzinfo=UTC)
KEY = CertificateKey.generate(b"device")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("device")
    seen: list[float] = []
    card, envelope = make_card(folder, "d1", KEY, NOW, seconds=0.1, advance=lambda _step, share: seen.append(share))
    assert seen == sorted(seen)
    return folder, card, envelope


def test_a_card_says_what_was_measured_under_the_devices_signature(made):
    _, card, envelope = made
    assert decode(CapabilityCard, open_by_key(envelope, payload_type=CARD_TYPE, public=KEY.public)) == card
    assert "CPUExecutionProvider" in card.providers
    assert card.opset_max >= 17
    assert card.reference["window"].p50_ms < card.reference["vision"].p50_ms
    assert card.facts()["reference_vision_ms"] == card.reference["vision"].p50_ms


def test_a_card_is_read_again_and_not_by_another_key_or_when_damaged(made, tmp_path):
    folder, card, envelope = made
    assert load_card(folder, KEY) == (card, envelope)
    assert load_card(folder, CertificateKey.generate(b"another")) is None
    assert load_card(tmp_path, KEY) is None
    (tmp_path / CARD_FILE).write_bytes((folder / CARD_FILE).read_bytes()[:-9])
    assert load_card(tmp_path, KEY) is None


def test_a_card_of_another_machine_is_measured_again(made, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 1000)
    assert load_card(made[0], KEY) is None


def test_the_card_goes_with_the_report_until_the_hub_has_heard_it(fleet, made):
    device = fleet.device()
    bring_card(device, made[0], KEY, SystemClock())
    fleet.hub.down = True
    fleet.run(device, 3)
    fleet.hub.down = False
    fleet.run(device, 200, seconds=5)
    cards = [upload.report.card for upload in fleet.hub.uploads]
    assert cards[0] == made[2]
    assert cards[-1] is None
    assert fleet.hub.uploads[-1].report.facts["opset_max"] == made[1].opset_max


def test_no_card_leaves_where_no_report_may(fleet, made):
    device = fleet.device(data={"data_class": "measurement", "transforms": [], "leave": ["telemetry"], "fields": []})
    bring_card(device, made[0], KEY, SystemClock())
    fleet.run(device, 3)
    assert all(upload.report.card is None and not upload.report.facts for upload in fleet.hub.uploads)


def test_a_bundle_that_would_be_too_slow_here_by_the_card_is_not_downloaded(fleet, made):
    device = fleet.device()
    bring_card(device, made[0], KEY, SystemClock())
    here_ms = made[1].reference["vision"].p50_ms
    # Where it was made the reference network took a thousandth of what it takes here, and a decision a second.
    needs = Needs(opset=18, ram_mb=10, latency_ms=1000, reference_ms=here_ms / 1000)
    fleet.assign(fleet.release(1, needs=needs))
    fleet.run(device, 5)
    assert device.updater.running is None
    assert "one decision takes about" in device.updater.state.last_failure
    assert device.updater.state.bytes_fetched == 0
