"""Going through a DICOM object and everything in it: what goes, what is emptied, replaced, moved, and what stays."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections import Counter
from datetime import date, timedelta
from typing import Any

from edgewise.frames import _dicom_keep as keep
from edgewise.frames._cannot import CannotMakePrivate
from edgewise.frames._dicom_table import ACTIONS
from edgewise.frames._hide import masked

DEPTH_MAX = 32
WORD_MAX = 64  # characters of a word that stays; longer ones are sentences
WORDS_MAX = 16
SHIFT_DAYS_MAX = 3650
NUMBERS_MAX = 64  # where the dictionary sets no bound; larger tables are not needed to see a picture
PATIENT_ID = 0x00100020
# Dummies by value representation; words become REMOVED.
DUMMIES: dict[str, Any] = {
    "DA": "19000101", "TM": "000000", "DT": "19000101000000", "AS": "000Y", "DS": "0", "IS": "0", "OB": b"\0\0",
    "OW": b"\0\0", "UN": b"\0\0", "US": 0, "SS": 0, "UL": 0, "SL": 0, "FL": 0.0, "FD": 0.0,
}  # fmt: skip
_NUMBER = re.compile(r"[ ]*[+-]?[0-9]*\.?[0-9]*(?:[eE][+-]?[0-9]+)?[ ]*", re.ASCII)
_DATE = re.compile(r"(\d{4})(\d\d)(\d\d)", re.ASCII)


def keyed(key: bytes, what: str, text: str) -> bytes:
    """32 bytes that follow from a text and the key, for this use of it alone."""
    return hmac.new(key, f"{what}\n{text}".encode(), hashlib.sha256).digest()


def mapped_uid(key: bytes, uid: str) -> str:
    """Another UID, the same for the same one under the same key: 2.25 and a UUID of version 8 (PS3.5 B.2, RFC 9562).

    >>> mapped_uid(bytes(16), "1.2.3") == mapped_uid(bytes(16), "1.2.3") != mapped_uid(bytes(16), "1.2.4")
    True
    """
    number = int.from_bytes(keyed(key, "uid", uid)[:16], "big")
    number = number & ~(0xF << 76) | (0x8 << 76)
    number = number & ~(0x3 << 62) | (0x2 << 62)
    return f"2.25.{number}"


def patient_shift(dataset: Any, key: bytes) -> timedelta:
    """By how much a patient's dates move: whole days into the past, the same for all objects of one patient."""
    patient = f"{dataset.get('PatientID', '')}\n{dataset.get('IssuerOfPatientID', '')}"
    return timedelta(days=-1 - int.from_bytes(keyed(key, "shift", patient)[:4], "big") % SHIFT_DAYS_MAX)


class Cleaner:
    """Makes datasets private in place, and counts what it did by kind.

    Args:
        key: of UIDs and pseudonyms.
        shift: of the dates that the option leaves; None leaves none.
    """

    def __init__(self, *, key: bytes, shift: timedelta | None) -> None:
        self._key = key
        self._shift = shift
        self.found: Counter[str] = Counter()

    def clean(self, dataset: Any, depth: int = 0) -> None:
        """Change this dataset and all in its sequences. CannotMakePrivate: it goes too deep."""
        if depth > DEPTH_MAX:
            raise CannotMakePrivate(f"it goes deeper than {DEPTH_MAX} sequences", code="row_too_large")
        public_code = str(dataset.get("CodingSchemeDesignator", "")) in keep.CODING_SCHEMES
        for element in list(dataset):
            tag, group = int(element.tag), int(element.tag) >> 16
            if group % 2:
                done = "private"
            elif 0x5000 <= group <= 0x50FF or 0x6000 <= group <= 0x60FF:
                done = "overlays"
            elif tag in ACTIONS:
                done = self._by_table(element, ACTIONS[tag], depth)
            else:
                done = self._by_list(element, depth, public_code)
            if done in ("private", "overlays", "removed", "unlisted"):
                del dataset[element.tag]
            if done:
                self.found[done] += 1

    def _by_table(self, element: Any, action: str, depth: int) -> str:
        if action == "U":
            return self._map_uids(element)
        if action == "X/Z/U*":
            return self._go_in(element, depth)
        if self._shift is not None and element.keyword in keep.SHIFTED:
            return self._moved(element)
        if action == "X":
            return "removed"
        if element.is_empty:
            return ""
        if action in ("Z", "X/Z") or element.VR == "SQ":
            element.clear()
            return "emptied"
        self._dummy(element)
        return "replaced"

    def _dummy(self, element: Any) -> None:
        if element.VR == "UI":
            self._map_uids(element)
        elif int(element.tag) == PATIENT_ID:
            element.value = keyed(self._key, "patient", str(element.value)).hex()[:16]
        else:
            element.value = DUMMIES.get(element.VR, "REMOVED")

    def _by_list(self, element: Any, depth: int, public_code: bool) -> str:
        group, representation = int(element.tag) >> 16, element.VR
        if int(element.tag) in keep.PIXELS:
            return ""
        if representation == "SQ":
            goes_in = group in keep.SEQUENCE_GROUPS or element.keyword in keep.SEQUENCES
            return self._go_in(element, depth) if goes_in else "unlisted"
        if representation == "UI":
            return self._map_uids(element)
        if representation in keep.NUMBERS and group in keep.NUMBER_GROUPS:
            return "" if _are_numbers(element) else "unlisted"
        if element.keyword in keep.WORDS or (public_code and element.keyword in keep.CODE_WORDS):
            return _without_identifiers(element)
        return "unlisted"

    def _go_in(self, element: Any, depth: int) -> str:
        for item in element.value or ():
            self.clean(item, depth + 1)
        return ""

    def _map_uids(self, element: Any) -> str:
        values = [str(value) for value in _many(element.value)]
        mapped = [uid if uid.startswith(keep.STANDARD_UID) else mapped_uid(self._key, uid) for uid in values if uid]
        if mapped == values:
            return ""
        element.value = mapped[0] if len(mapped) == 1 else mapped
        return "uids"

    def _moved(self, element: Any) -> str:
        if element.VR == "TM" or element.is_empty:
            return ""
        assert self._shift is not None
        moved = [_moved_date(str(value), self._shift) for value in _many(element.value)]
        if None in moved:
            return "removed"
        element.value = moved[0] if len(moved) == 1 else moved
        return "shifted"


def _moved_date(text: str, shift: timedelta) -> str | None:
    """A DA or DT, moved by whole days; None where it is none, or would leave the calendar."""
    match = _DATE.match(text)
    try:
        day = date(*(int(part) for part in match.groups())) + shift if match else None
    except (ValueError, OverflowError):
        return None
    return day.strftime("%Y%m%d") + text[8:] if day is not None else None


def _many(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) or type(value).__name__ == "MultiValue" else [value]


def _are_numbers(element: Any) -> bool:
    """Whether the dictionary knows the element, and it holds as many numbers of the kind as it should.

    A wrong length makes a number swallow all that comes after it, names too; and a careless writer may have put
    anything into a string of numbers.
    """
    from pydicom.datadict import dictionary_has_tag, dictionary_VM, dictionary_VR

    values = _many(element.value)
    if not dictionary_has_tag(element.tag) or element.VR not in dictionary_VR(element.tag).split(" or "):
        return False
    most = re.split("-", dictionary_VM(element.tag))[-1]
    if len(values) > (int(most) if most.isdigit() else NUMBERS_MAX):
        return False
    return element.VR not in ("DS", "IS") or all(_NUMBER.fullmatch(str(value)) for value in values)


def _without_identifiers(element: Any) -> str:
    values = [str(value) for value in _many(element.value)]
    if len(values) > WORDS_MAX or any(len(value) > WORD_MAX for value in values):
        return "unlisted"
    hidden = [masked(value) for value in values]
    if hidden == values:
        return ""
    element.value = hidden[0] if len(hidden) == 1 else hidden
    return "replaced"
