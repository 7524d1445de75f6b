"""How frames and counts are made private: the transforms by name, and the numbers that they go by."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import Field, model_validator

from edgewise.wire._record import Share, Strict

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

    @model_validator(mode="after")
    def _region_has_an_inside(self) -> PrivateSettings:
        left, top, right, bottom = self.region
        if left >= right or top >= bottom:
            raise ValueError(f"region is {self.region}; needs left < right and top < bottom, as shares from 0 to 1")
        return self
