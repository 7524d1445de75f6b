"""What may be kept, leave and be seen, and after which transform; pure, asked on the device and again at the hub."""

from edgewise.policy._leave import (
    CONTENT_CLASSES,
    Forbidden,
    check_contents,
    check_segment,
    frame_name,
    may_leave,
    private_facts,
    required_transform,
)
from edgewise.policy._subject import SUBJECT_FACT, subject_hash, subject_of
from edgewise.policy._sums import CHANNEL_SUMS, noise_missing
from edgewise.policy._words import error_words, hide_words, may_name_frames

__all__ = [
    "CHANNEL_SUMS",
    "CONTENT_CLASSES",
    "SUBJECT_FACT",
    "Forbidden",
    "check_contents",
    "check_segment",
    "error_words",
    "frame_name",
    "hide_words",
    "may_leave",
    "may_name_frames",
    "noise_missing",
    "private_facts",
    "required_transform",
    "subject_hash",
    "subject_of",
]
