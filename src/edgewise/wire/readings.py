"""Readings of sensors: a block of times and values by channel, as one record."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Literal

from pydantic import Field

from edgewise.wire._record import Id, Name, Record, Time
from edgewise.wire.errors import NotValid

READINGS_MAX = 10_000  # in one block
CHANNELS_MAX = 256
BLOCK_BYTES_MAX = (
    READINGS_MAX * 8 * 3
)  # of no use to anybody: a column never takes more than 8 bytes a value and a head

Channel = Annotated[str, Field(min_length=1, max_length=128, description="a channel's name, as the row names it")]


class Readings(Record):
    """What some channels said in one period: `delta.decode_series` reads the block, `channels` names its columns."""

    kind: Literal["readings"] = "readings"
    id: Id
    site: Name
    end: Time  # of the newest reading
    channels: tuple[Channel, ...] = Field(min_length=1, max_length=CHANNELS_MAX)
    count: int = Field(ge=1, le=READINGS_MAX)
    block: str = Field(max_length=BLOCK_BYTES_MAX * 4 // 3 + 4, description="base64 (RFC 4648 section 4)")

    def block_bytes(self) -> bytes:
        """The block itself.

        Raises:
            NotValid: not base64.
        """
        try:
            return base64.b64decode(self.block, validate=True)
        except (binascii.Error, ValueError) as error:
            raise NotValid(
                f"the block of readings {self.id} is not base64: {error}", code="readings_invalid"
            ) from error
