"""Sums by channel of what the normalisations of a network get at a site, as devices tell them and the hub adds them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgewise.wire._record import Digest, Id, Name, Record, Time
from edgewise.wire.bundle import NORMS_MAX
from edgewise.wire.private import NoiseApplied

TEXT_MAX = 21_848  # base64 of 4,096 numbers of four bytes


class NormSum(Record):
    """What one normalisation got, value by value in deviations of training: (value - mean) / deviation."""

    count: int = Field(ge=1)  # values behind each channel: frames times positions
    total: str = Field(max_length=TEXT_MAX)  # base64 of little-endian float32 (C,)
    square: str = Field(max_length=TEXT_MAX)  # likewise, of their squares


class ToldSums(Record):
    """What one device tells: sums, and never a picture."""

    release: Name
    bundle: Digest  # manifest digest of the network that was asked
    why: Literal["first", "alarm", "asked"]  # first: the first frames of this bundle at the device
    frames: int = Field(ge=1)  # behind the norm with the fewest
    since: Time
    until: Time
    norms: tuple[NormSum, ...] = Field(min_length=1, max_length=NORMS_MAX)  # in the manifest's order
    evidence: float | None = None  # of the alarm; left out beside noise
    noise: NoiseApplied | None = None


class SiteSums(Record):
    """The sums of a site's devices together: what a site variant is made from. The same sums have the same digest."""

    use_case: Name
    site: Name
    bundle: Digest
    frames: int = Field(ge=1)  # over all devices
    devices: int = Field(ge=1)
    events: tuple[Id, ...]  # that told them, sorted
    norms: tuple[NormSum, ...] = Field(min_length=1, max_length=NORMS_MAX)
