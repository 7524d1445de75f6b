"""Orders to forget, and what it takes to fall under one."""

from __future__ import annotations

from datetime import datetime
from typing import Self

from pydantic import Field, model_validator

from edgewise.wire._record import Digest, Name, Record, Time

ERASURES_MAX = 64  # in one assignment; the next ones come once these are done


class Erasure(Record):
    """Forget what is about a subject, of a site, from a time: all that is named must hold, and something must be.

    Made by the hub its `number` grows; one that a person gives on the device itself has none.
    """

    number: int = Field(0, ge=0)
    subject: Digest | None = None  # the keyed hash that the device or its site makes of a subject's id
    site: Name | None = None
    since: Time | None = None
    until: Time | None = None  # without it everything that is held when the order is carried out
    reason: str = Field("", max_length=500)

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if self.subject is None and self.site is None and self.since is None and self.until is None:
            raise ValueError("an erasure names a subject, a site, or a time from or to which it reaches")
        if self.since is not None and self.until is not None and self.since > self.until:
            raise ValueError(f"an erasure reaches from {self.since.isoformat()} to {self.until.isoformat()}: backwards")
        return self

    def covers(self, *, subject: str, site: str, at: datetime) -> bool:
        """Whether something of this site and time about this subject ('' for nobody known) is to be forgotten.

        >>> from datetime import UTC
        >>> Erasure(site="north").covers(subject="", site="north", at=datetime(2026, 1, 1, tzinfo=UTC))
        True
        """
        return (
            self.subject in (None, subject)
            and self.site in (None, site)
            and (self.since is None or at >= self.since)
            and (self.until is None or at <= self.until)
        )
