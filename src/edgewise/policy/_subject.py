"""Whom a frame is about, as it may be told: a keyed hash whose key stays on the site."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

from edgewise.wire import NotValid

SUBJECT_FACT = "subject"
KEY_BYTES_MIN = 16


def subject_of(facts: Mapping[str, Any], group: str) -> str:
    """The id of whom or what a frame is about: its fact ``subject``, else its group; '' where it has neither.

    >>> subject_of({"subject": "patient 7"}, "ward-2"), subject_of({}, "spindle-9")
    ('patient 7', 'spindle-9')
    """
    return str(facts.get(SUBJECT_FACT) or group)


def subject_hash(subject: str, key: bytes) -> str:
    """The keyed hash of a subject's id, 64 hexadecimal characters; '' for nobody.

    Raises:
        NotValid: the key has fewer than 16 bytes.

    >>> subject_hash("", b"")
    ''
    """
    if not subject:
        return ""
    if len(key) < KEY_BYTES_MIN:
        raise NotValid(f"the key that hides subjects has {len(key)} bytes, needs {KEY_BYTES_MIN}", code="key_invalid")
    # Another domain than the one of frames' names: a frame named like its subject must not give the one for the other.
    return hmac.new(key, b"subject\0" + subject.encode(), hashlib.sha256).hexdigest()
