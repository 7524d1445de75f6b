"""What a hub offers a device that holds an older version of a blob."""

from __future__ import annotations

from pydantic import Field

from edgewise.wire._record import Digest, Record


class DeltaOffer(Record):
    """A blob that turns another blob into the wanted one. It is fetched by its own SHA-256, as every blob is."""

    target: Digest
    base: Digest
    codec: int = Field(ge=1)  # version of the container, `edgewise.delta.VERSION`
    sha256: Digest  # of the delta
    size_bytes: int = Field(ge=1)
