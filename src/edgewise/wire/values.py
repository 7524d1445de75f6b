"""Values: what a bundle states instead of a label – a number of a target with an interval – and how one is written."""

from __future__ import annotations

import math
from typing import Annotated, TypeAlias

from pydantic import Field, model_validator

from edgewise.wire._record import Record, Share, Strict
from edgewise.wire.errors import NotValid

Stated: TypeAlias = tuple[float, float, float]  # the lower end of the interval, the value, the upper end
Text = Annotated[str, Field(min_length=1, max_length=256)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
SHOWN = 60  # characters of a text that is no number
# What a decision on a value says of the target's limits, in the place of a label.
WITHIN, ABOVE, BELOW = "within", "above", "below"


class Target(Strict):
    """The number that a use case wants to know, and when it is too high or too low."""

    name: Text = Field(description="column of the table or of the recorded series, such as power_mw")
    unit: str = Field("", max_length=32, description="such as MW; shown beside each value")
    coverage: float = Field(0.9, gt=0.5, lt=1, description="part of the true values that the stated intervals hold")
    horizon_s: float | None = Field(None, gt=0, description="of a forecast: how far ahead, seconds")
    above: Finite | None = Field(None, description="an alarm where the value is probably above it")
    below: Finite | None = Field(None, description="an alarm where the value is probably below it")

    @model_validator(mode="after")
    def _limits_agree(self) -> Target:
        if self.above is not None and self.below is not None and not self.below < self.above:
            raise ValueError(f"below is {self.below:g} and above is {self.above:g}; below has to be the smaller one")
        return self


class States(Record):
    """What a bundle states: quantiles of one target, all in its unit. Its graph gives float32 (N, 3) in their order."""

    target: Text
    unit: str = Field("", max_length=32)
    quantiles: tuple[Share, Share, Share] = (0.05, 0.5, 0.95)  # the interval's ends around the stated value
    horizon_s: float | None = Field(None, gt=0)  # of a forecast, from the last step of the window on
    # An interval that knows nothing: between the same quantiles of the values of training.
    spread: float = Field(gt=0, allow_inf_nan=False)
    mean: Finite  # of the values of training: what a regression has to beat
    now: Text | None = None  # column of a window whose last number is the target now: what a forecast has to beat
    # By how much the graph moves both ends of the trees' interval outwards, and the groups it was found on.
    correction: Finite = 0.0
    calibrated_on: int = Field(0, ge=0)
    above: Finite | None = None  # limits; a decision tells when the whole interval is beyond one
    below: Finite | None = None

    @model_validator(mode="after")
    def _in_order(self) -> States:
        low, middle, high = self.quantiles
        if not 0 < low < middle < high < 1:
            raise ValueError(f"quantiles are {self.quantiles}, need to rise from above 0 to below 1")
        return self

    @property
    def coverage(self) -> float:
        """Part of the true values that the interval is to hold."""
        return round(self.quantiles[2] - self.quantiles[0], 9)


def value_of(text: str, where: str = "this value") -> float:
    """The number that a label of a value is.

    Raises:
        NotValid: it is none, or not finite.

    >>> value_of("12.5"), value_of(" -3e2 ")
    (12.5, -300.0)
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise NotValid(f"{where} is {text[:SHOWN]!r}, needs to be a finite number such as 12.5", code="value_invalid")
    return value
