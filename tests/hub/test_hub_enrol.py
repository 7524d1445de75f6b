"""Enrolment: a one-time token, one key a device, and an answer that can be asked for again."""

from __future__ import annotations

import json

import pytest

from edgewise.hub import Hub, HubConfig, LocalDoor
from edgewise.hub.enrol import Enrolment
from edgewise.hub.store import tables
from edgewise.ports import MemoryClock, MemoryRuntime, SeededChance
from edgewise.sim._keeper import Keeper
from edgewise.trust import CertificateKey, token_digest
from edgewise.wire import NotNow, NotTrusted, NotValid, UseCase, loads

KEY, OTHER = CertificateKey.generate(b"one"), CertificateKey.generate(b"other")


def ask(yard, token: str, *, key: CertificateKey = KEY, **more) -> dict:
    return json.loads(yard.door.enrol(Enrolment(token=token, public=key.public, **more)))


def test_a_token_makes_one_device_known_and_tells_it_what_it_needs(yard):
    token = yard.token(site="south", labels={"line": "4"})
    answer = ask(yard, token, device="press-4", facts={"ram_mb": 512})
    assert (answer["device"], answer["site"], answer["use_case"]) == ("press-4", "south", "press")
    assert UseCase.model_validate_json(json.dumps(answer["usecase"])) == yard.apply()
    assert answer["root"] == yard.hub.root
    assert answer["hub_epoch"] == yard.hub.hub_epoch
    (row,) = yard.rows(tables.devices)
    assert (row["labels"], row["facts"], row["keyid"]) == ({"line": "4"}, {"ram_mb": 512}, KEY.public.keyid)


def test_the_token_itself_is_never_stored(yard):
    token = yard.token()
    stored = json.dumps(
        [dict(row) for table in tables.metadata.tables.values() for row in yard.rows(table)], default=str
    )
    assert token not in stored
    assert token_digest(token) in stored


def test_a_lost_answer_can_be_asked_for_again_with_the_same_key_only(yard):
    token = yard.token()
    assert ask(yard, token, device="one") == ask(yard, token, device="one")
    with pytest.raises(NotTrusted, match="used already"):
        ask(yard, token, key=OTHER)
    assert len(yard.rows(tables.devices)) == 1


def test_a_wrong_an_old_and_a_foreign_token_are_refused(yard):
    with pytest.raises(NotTrusted, match="not known"):
        ask(yard, "ew_guess")
    with pytest.raises(NotTrusted, match="is for device one"):
        ask(yard, yard.token(device="one"), device="two")
    token = yard.token()
    yard.clock.advance(yard.hub.limits.enrolment_token_s + 1)
    with pytest.raises(NotTrusted, match="expired"):
        ask(yard, token)
    assert yard.rows(tables.devices) == []


def test_a_key_belongs_to_one_device_and_a_name_to_one_key(yard):
    ask(yard, yard.token(), device="one")
    with pytest.raises(NotTrusted, match="make a new one"):
        ask(yard, yard.token(), device="two")
    with pytest.raises(NotValid, match="choose another name"):
        ask(yard, yard.token(), device="one", key=OTHER)
    assert ask(yard, yard.token(device="one"), key=OTHER)["device"] == "one", "a token made for it replaces its key"
    assert [row["keyid"] for row in yard.rows(tables.devices)] == [OTHER.public.keyid]


def test_what_is_no_name_is_refused_and_the_token_stays_good(yard):
    token = yard.token()
    with pytest.raises(NotValid, match="not a name"):
        ask(yard, token, device="a b")
    assert ask(yard, token)["device"].startswith("device-")


def test_without_a_root_of_trust_no_device_is_enrolled_because_it_could_check_nothing(yard):
    hub = Hub(HubConfig(), clock=MemoryClock(yard.clock.now()), chance=SeededChance(1), runtime=MemoryRuntime())
    with pytest.raises(NotNow, match="no root of trust"):
        _ = hub.root
    with pytest.raises(NotNow, match="no root of trust"):
        LocalDoor(hub).enrol(Enrolment(token="ew_any", public=KEY.public))
    Keeper(hub, b"offline", [], now=hub.now())
    assert loads(hub.root.encode())["signed"]["version"] == 1
    hub.close()
