"""Records of what was measured: a number with its interval, two bundles on the same samples, worse pictures."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgewise.wire._record import Name, Record, Share


class Metric(Record):
    """A value with its interval and the level of that interval."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0


class Compared(Record):
    """A candidate beside the champion in one measure, on the same samples of a site, of a slice or of all."""

    site: Name  # or slice:<name>, or overall
    measure: Literal["balanced_accuracy", "macro_recall", "good_recall", "recall"]
    label: str | None = None  # of `recall`, a label that matters; `good_recall` is of all good labels as one class
    n: int = Field(ge=0)  # samples that carry the measure
    groups: int = Field(ge=0)  # and in how many groups they are
    champion: float | None = None  # none where no sample carries it
    candidate: float | None = None
    difference: Metric  # candidate - champion; its interval redraws whole groups
    gained: int = Field(ge=0)  # discordant pairs: samples about which the candidate alone is right
    lost: int = Field(ge=0)  # and those about which the champion alone is
    groups_gained: int = Field(ge=0)  # groups in which the candidate is right more often
    groups_lost: int = Field(ge=0)
    p: Share  # exact McNemar test, two-sided, with the group as the unit
    few: str | None = None  # why this row says little, where its counts are small


class Harm(Record):
    """Macro recall on the same pictures as a worse camera would have taken them."""

    harm: str  # `none` for the pictures as they are, else one of `frames.harm.HARMS`
    macro_recall: Metric
    loss: Metric | None = None  # against the bundle's own answers on the pictures as they are
    behind: Metric | None = None  # how far it is behind the first of several bundles under the same harm


class Robustness(Record):
    """What a bundle loses on pictures of a worse camera."""

    harms: tuple[Harm, ...] = Field(max_length=64)
    samples: int = Field(ge=0)  # pictures that were looked at
    unreadable: int = Field(0, ge=0)  # and those of them that could not be read, so that they count nowhere
    trained_on: bool | None = None  # of a worker: whether the bundle learned from these very pictures
