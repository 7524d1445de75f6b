"""How frames and counts are made private: the transforms by name, and the numbers that they go by."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import Field, model_validator

from edgewise.wire._record import Record, Share, Strict

Transform: TypeAlias = Literal[
    "strip-metadata",
    "grey",
    "centre-crop",
    "crop-region",
    "downscale",
    "blur-faces",
    "drop-faces",
    "blur-plates",
    "hide-identifiers",
]
ROW_TRANSFORMS: frozenset[str] = frozenset({"strip-metadata", "hide-identifiers"})
PICTURE_TRANSFORMS: frozenset[str] = frozenset(
    {"strip-metadata", "grey", "centre-crop", "crop-region", "downscale", "blur-faces", "drop-faces", "blur-plates"}
)
# One of these a picture of people needs; what each of them misses, docs/privacy.md says.
PERSON_TRANSFORMS: frozenset[str] = frozenset({"blur-faces", "drop-faces", "crop-region", "downscale"})


class SumsNoise(Strict):
    """The noise that sums by channel get before they are queued, and what a day may tell with it."""

    epsilon_per_day: float = Field(gt=0, le=24, description="privacy budget of a device and a day (UTC), over all sums")
    sends_per_day: int = Field(1, ge=1, le=100, description="how often a day; each gets an equal part of the epsilon")
    delta: float = Field(1e-6, gt=0, le=1e-3, description="of the Gaussian noise, for each time")
    clip: float = Field(3.0, gt=0, le=100, description="values are clipped to ± so many deviations of training")

    @property
    def epsilon(self) -> float:
        """What one event with sums spends."""
        return self.epsilon_per_day / self.sends_per_day

    @model_validator(mode="after")
    def _epsilon_is_one_that_gaussian_noise_knows(self) -> SumsNoise:
        if self.epsilon >= 1:
            raise ValueError(
                f"epsilon_per_day {self.epsilon_per_day:g} over sends_per_day {self.sends_per_day} is "
                f"{self.epsilon:g} each; Gaussian noise needs less than 1 each: less epsilon, or more sends"
            )
        return self


class PartNoise(Record):
    """What was done to one part of an event's sums.

    The deviations are those of the noise on each number of ``total`` and of ``square``.
    """

    clip: float = Field(gt=0)
    values_per_frame: int = Field(ge=1)  # that one frame adds to a sum: the positions of the norm
    total_deviation: float = Field(gt=0)
    square_deviation: float = Field(gt=0)


class NoiseApplied(Record):
    """Which noise an event's sums carry. It hides what one frame showed; the counts are exact."""

    mechanism: Literal["gaussian"] = "gaussian"
    unit: Literal["frame"] = "frame"
    epsilon: float = Field(gt=0)
    delta: float = Field(gt=0)
    parts: tuple[PartNoise, ...] = Field(min_length=1)  # of each norm, in their order


class PrivateSettings(Strict):
    """The numbers of the transforms. They are part of the policy: a change of one needs a new version of it."""

    region: tuple[Share, Share, Share, Share] = Field(
        (0.0, 0.0, 1.0, 1.0),
        description="crop-region: left, top, right, bottom that stay, as shares of width and height",
    )
    side_max: int = Field(640, ge=8, le=8192, description="downscale: pixels of the longer side")
    box_margin: float = Field(
        0.3, ge=0, le=2, description="blur: what a found box grows by on each side, over its size"
    )
    uncertain: Literal["blur", "drop"] = Field(
        "blur", description="blur-faces, blur-plates: what is done where the detector is not sure; drop keeps no frame"
    )
    identifiers: Literal["drop", "mask", "hash"] = Field(
        "drop", description="hide-identifiers: remove the field, write [email] in its place, or a keyed hash"
    )
    text_fields: tuple[str, ...] = Field((), description="fields of a row whose text may stay; other text is dropped")
    counts_min: int = Field(
        1, ge=1, description="counts of a label below this are merged with others before they leave"
    )
    sums_noise: SumsNoise | None = Field(
        None, description="noise on sums by channel before they leave; without it they leave exact"
    )

    @model_validator(mode="after")
    def _region_has_an_inside(self) -> PrivateSettings:
        left, top, right, bottom = self.region
        if left >= right or top >= bottom:
            raise ValueError(f"region is {self.region}; needs left < right and top < bottom, as shares from 0 to 1")
        return self
