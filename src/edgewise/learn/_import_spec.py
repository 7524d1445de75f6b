"""What a file with a network in it does not say, told by its user; and what was found or is missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgewise.wire import InputSpec, NotValid


class ImportSpec(BaseModel):
    """What the file does not say."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=160)
    input: InputSpec = Field(discriminator="kind")
    labels: tuple[str, ...] = Field(min_length=2, max_length=10_000)
    good_labels: tuple[str, ...] = ()
    scores: str | None = Field(None, description="tensor of the scores; found by its number of columns without it")
    scores_are: Literal["probabilities", "logits"] | None = Field(None, description="found by trying without it")
    embedding: str | None = None
    defect_threshold: float = Field(0.5, ge=0, le=1)
    licence: str = "unstated"
    card: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that the bundle needs.

    Attributes:
        level: missing stops the import; assumed is worth a look; found is as it has to be.
        text: what was seen, and what is needed where something is missing.
    """

    level: Literal["missing", "assumed", "found"]
    about: str
    text: str


Note = Callable[[Literal["missing", "assumed", "found"], str, str], None]


def read_spec(value: object) -> ImportSpec:
    """A spec from plain values, such as a YAML file's.

    Raises:
        NotValid: what is wrong with it.
    """
    try:
        return ImportSpec.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise NotValid(
            f"the spec's {place} is wrong: {first['msg']}; see docs/learn.md, Networks of others", code="spec_invalid"
        ) from None
