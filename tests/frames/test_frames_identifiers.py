"""Identifiers in texts, in names of fields and in numbers, found and taken out; ordinary readings stay."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.frames import CannotMakePrivate, Hider, made_private, make_private
from edgewise.frames._field_names import field_kind
from edgewise.frames._identifiers import TEXT_MAX, find_identifiers
from edgewise.wire import NotValid, PrivateSettings

KEY = b"k" * 32
# Made-up numbers, or ones that authorities print as examples.
IDENTIFIERS = [
    ("email", "Ada.L+x@mail.example.co.uk"), ("email", "ada(at)example.com"), ("user", "ada:pw"),
    ("iban", "DE89 3704 0044 0532 0130 00"), ("iban", "GB82WEST12345698765432"),
    ("mac", "00:1a:2b:3c:4d:5e"), ("mac", "00-1A-2B-3C-4D-5E"), ("mac", "001a.2b3c.4d5e"),
    ("ipv6", "2001:db8::8a2e:370:7334"), ("ipv6", "fe80::1ff:fe23:4567:890a"), ("ipv4", "192.168.1.77"),
    ("card", "4111 1111 1111 1111"), ("card", "5500005555555559"), ("card", "378282246310005"),
    ("vehicle", "1M8GDM9AXKP042788"),
    ("national-it", "RSSMRA85T10A562S"), ("national-es", "12345678Z"), ("national-es", "X1234567L"),
    ("national-fr", "2 55 08 14 168 025 38"), ("national-us", "078-05-1120"), ("national-br", "529.982.247-25"),
    ("national-de", "65 929 970 489"), ("national-pl", "44051401359"), ("national-in", "2341 2341 2346"),
    ("national-se", "811218-9876"), ("national-gb", "943 476 5919"), ("national-gb", "AB123456C"),
    ("phone", "+41 44 668 18 00"), ("phone", "(212) 555-0134"), ("phone", "0171/1234567"),
    ("position", "47.3769, 8.5417"),
]  # fmt: skip
AFTER_WORDS = [
    ("record", "MRN: ", "00471182"), ("record", "patient id=", "PX-2231"), ("record", "case no. ", "2024-1188"),
    ("birth", "born ", "24.12.1815"), ("birth", "DOB: ", "1990-02-03"), ("birth", "date of birth (d/m) ", "3/2/90"),
    ("passport", "Passport No: ", "C01X00T47"), ("national-us", "SSN ", "078051120"),
    ("national-nl", "BSN: ", "111222333"), ("phone", "tel. ", "044 668 18 00"),
]  # fmt: skip
READINGS = [
    "load 3.5 kN at 12:30:00, part 12345", "2026-03-01T12:00:00Z", "v1.2.3", "f000123.jpg", "a" * 64,
    "0123456789abcdef" * 4, "torque 12.5, 14.25; rpm 1500", "batch 2024-11-25-003", "1732489200000", "12.345.678",
    "release parts@12 bundle 0a1cb3536b59", "serial SN-99812-22", "x=-1.25 y=0.5 z=100", "lot 20241125", "20.1234 21.5",
    "4111 1111 1111 1112", "DE88370400440532013000", "999.1.1.1", "66 929 970 489",
]  # fmt: skip


@pytest.mark.parametrize(("kind", "text"), IDENTIFIERS)
def test_an_identifier_is_found_anywhere_and_only_it_is_taken(kind, text):
    where = f"https://{text}@host/ x" if kind == "user" else f"see {text}, please"
    (found,) = find_identifiers(where)
    assert (found.kind, where[found.start : found.end]) == (kind, text)


@pytest.mark.parametrize(("kind", "words", "text"), AFTER_WORDS)
def test_what_is_an_identifier_by_the_words_before_it_is_found(kind, words, text):
    where = f"note – {words}{text}; ok"
    (found,) = find_identifiers(where)
    assert (found.kind, where[found.start : found.end]) == (kind, text)


@pytest.mark.parametrize("text", READINGS)
def test_readings_of_machines_are_no_identifiers(text):
    assert find_identifiers(text) == []


@pytest.mark.parametrize("start", ["1 ", "a@", "0", "a:", "1.", "(0", "A1", "tel ", "birth ", "1234 ", "12-", "DE"])
def test_a_hostile_text_takes_time_in_proportion_to_its_length(start):
    text = (start * TEXT_MAX)[:TEXT_MAX]
    find_identifiers(text)  # the suite's timeout is the bound: a regular expression that explodes never comes back


@given(st.text(max_size=60), st.sampled_from(IDENTIFIERS), st.text(max_size=60))
def test_nothing_of_a_card_or_mail_is_left_whatever_stands_around_it(before, one, after):
    kind, text = one
    if kind not in ("email", "iban") or "(" in text:
        return
    hidden = Hider(action="mask").text(f"{before} {text} {after}")
    assert text not in hidden
    assert hidden.count(f"[{kind}]") >= 1


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("email", "email"), ("e-mail", "email"), ("patientName", "name"), ("first_name", "name"), ("name", "name"),
        ("customer_no", "record"), ("patient_id", "record"), ("PatientID", "record"), ("DOB", "birth"),
        ("worker", "name"), ("birth_date", "birth"), ("gps_lat", "position"), ("zip-code", "address"),
        ("licence_plate", "vehicle"), ("ip_address", "machine"), ("load_kn", None), ("machine_name", None),
        ("line", None), ("part_id", None), ("length", None), ("latency_ms", None),
        ("first", None), ("description", None),
    ],
)  # fmt: skip
def test_the_name_of_a_field_says_what_is_in_it(name, kind):
    assert field_kind(name) == kind


ROW = {
    "load": 3.5, "note": "call ada@example.com", "patient_id": "P-1", "ada@example.com": 4, "card": 4111111111111111,
    "deep": {"list": ["10.0.0.9", {"phone": "+41446681800", "ok": True}], "worker": None}, "shift": "late",
}  # fmt: skip


def test_dropping_leaves_out_the_field_masking_its_kind_and_hashing_a_keyed_hash():
    dropped = Hider(action="drop")
    assert dropped.value(ROW) == {"load": 3.5, "deep": {"list": [{"ok": True}], "worker": None}, "shift": "late"}
    assert dict(dropped.found) == {"email": 2, "record": 1, "ipv4": 1, "phone": 1, "card": 1}
    masked = Hider(action="mask").value(ROW)
    assert masked["note"] == "call [email]"
    assert masked["patient_id"] == "[record]"
    assert masked["[email]"] == 4
    assert masked["deep"] == {"list": ["[ipv4]", {"phone": "[phone]", "ok": True}], "worker": None}
    hashed, again = Hider(action="hash", key=KEY).value(ROW), Hider(action="hash", key=KEY).value(ROW)
    other = Hider(action="hash", key=b"o" * 32).value(ROW)
    assert hashed == again
    assert hashed["patient_id"] != other["patient_id"]
    for made in (masked, hashed):
        text = json.dumps(made)
        assert not any(word in text for word in ("ada@", "P-1", "4111", "10.0.0.9", "4466"))


def test_a_listed_field_is_not_condemned_by_its_name_but_searched_all_the_same():
    row = {"operator": "shift-b", "worker": "ada@example.com"}
    assert Hider(action="mask", listed=frozenset(row)).value(row) == {"operator": "shift-b", "worker": "[email]"}


def test_names_that_look_alike_once_masked_do_not_take_each_others_place():
    made = Hider(action="mask").value({"a@example.com": 1, "b@example.com": 2})
    assert made == {"[email]": 1, "[email] 2": 2}


def test_what_is_too_deep_too_long_or_without_a_key_is_refused():
    deep: list = []
    for _ in range(40):
        deep = [deep]
    for value in (deep, "x" * (TEXT_MAX + 1)):
        with pytest.raises(CannotMakePrivate):
            Hider(action="drop").value(value)
    with pytest.raises(NotValid, match="at least 16"):
        Hider(action="hash", key=b"short")


def test_a_row_of_a_device_loses_text_that_is_not_listed_and_identifiers_in_text_that_is():
    row = json.dumps({"x": 1, "shift": "late, ada@example.com", "worker": "Ada"}).encode()
    settings = PrivateSettings(text_fields=("shift",), identifiers="mask")
    made = made_private(row, "application/json", ["hide-identifiers", "strip-metadata"], settings)
    assert made.data == b'{"shift":"late, [email]","worker":"[name]","x":1}'
    assert made.found == {"email": 1, "name": 1}
    hashed, _ = make_private(
        row, "application/json", ["hide-identifiers"], PrivateSettings(identifiers="hash"), key=KEY
    )
    assert b"Ada" not in hashed
