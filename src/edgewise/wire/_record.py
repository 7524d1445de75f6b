"""The base of all records: frozen, checked once at birth, unknown fields kept.

A record's checker is built when the first one is born (``defer_build``): a device needs a third of them to start.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypeAlias

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 in lower-case hexadecimal")]
Name = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@:-]{0,127}$", description="a plain name, 1 to 128 characters")
]
Id = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$", description="128 random bits in lower-case hexadecimal")]
Share = Annotated[float, Field(ge=0, le=1)]
Time = AwareDatetime
Place: TypeAlias = tuple[str | int, ...]  # of a value inside a record, such as ("sites", 0, "name")


class Mistakes(ValueError):
    """Mistakes that only a whole record shows, each with the place of the value that a person has to change."""

    def __init__(self, mistakes: Sequence[tuple[Place, str]]) -> None:
        super().__init__("; ".join(f"{'.'.join(str(part) for part in place)}: {text}" for place, text in mistakes))
        self.mistakes = tuple(mistakes)


class Record(BaseModel):
    """A record that crosses a boundary.

    A field we do not know is kept and written out again, so that an old device passes on a newer record unharmed.
    """

    model_config = ConfigDict(frozen=True, extra="allow", ser_json_inf_nan="null", defer_build=True)


class Strict(BaseModel):
    """A record that a person writes: an unknown field is a typing mistake and is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)
