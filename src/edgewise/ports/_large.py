"""The large bundle behind a cascade: over protocol v2 and mutual TLS, and a twin in the same process."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Protocol

from edgewise.ports._credentials import Credentials
from edgewise.ports._http import LinkDown, Refused
from edgewise.ports._pipeline import Pipeline
from edgewise.ports._v2_client import V2Client
from edgewise.ports.tensors import DECIDE_SUFFIX, objects
from edgewise.wire import Decision, NotValid, decode

FRAME, DECISION = "frame", "decision"
REPLY_BYTES_MAX = 64_000
LABEL_MAX = 256


class Large(Protocol):
    """A bundle on another machine, asked about one private frame at a time."""

    def decide(self, data: bytes, media_type: str, *, timeout_s: float) -> Decision:
        """Its decision, marked as deferred.

        Raises:
            LinkDown: no answer, with code ``timeout`` where one may still have been on its way.
            Refused: it says no, or answers what is no decision. NotTrusted: certificates.
        """

    def close(self) -> None:
        """Let go of the connection; the next call makes a new one."""


class V2Large:
    """The bundle that `edgewise edge serve` serves.

    The frame goes as the one BYTES element of the input ``frame`` of the network ``<bundle>.decide``, its decision
    comes back as the JSON in ``decision``: the large bundle's own preprocessing stays with it, and a JPEG stays a JPEG.

    Args:
        url: of the server; https with the device's certificate, or http on loopback.
        bundle: the name under which it is served.
        credentials: the device's; a renewed certificate is used from the next call on.
    """

    def __init__(self, url: str, bundle: str, credentials: Credentials | None = None) -> None:
        self._url, self._bundle = url, bundle
        self._credentials = credentials
        self._client: V2Client | None = None
        self._stamp: tuple[int, ...] = ()

    def decide(self, data: bytes, media_type: str, *, timeout_s: float) -> Decision:
        """Raises as `Large.decide`."""
        del media_type  # the served bundle knows what it takes
        answer = self._connected().infer(
            self._bundle + DECIDE_SUFFIX, {FRAME: objects([data])}, outputs=(DECISION,), timeout_s=timeout_s
        )
        found = answer.get(DECISION)
        if found is None or found.size != 1:
            raise Refused(f"{self._url} gave no decision; serve a bundle there with `edgewise edge serve`")
        return marked(found.ravel()[0])

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def _connected(self) -> V2Client:
        secure = self._url.startswith("https://") and self._credentials is not None
        stamp = self._credentials.stamp() if secure and self._credentials is not None else ()
        if self._client is None or stamp != self._stamp:
            self.close()
            tls: ssl.SSLContext | None = self._credentials.context() if secure and self._credentials else None
            self._client = V2Client(self._url, tls=tls, timeout_s=60.0, reply_bytes_max=REPLY_BYTES_MAX)
            self._stamp = stamp
        return self._client


class MemoryLarge:
    """A bundle in the same process, behind a link that may be cut.

    Args:
        pipeline: the large bundle.
        lose: asked before each call; True loses it.
    """

    def __init__(self, pipeline: Pipeline, lose: Callable[[], bool] = lambda: False) -> None:
        self._pipeline, self._lose = pipeline, lose

    def decide(self, data: bytes, media_type: str, *, timeout_s: float) -> Decision:
        """Raises as `Large.decide`."""
        del timeout_s  # it answers at once, or not at all
        if self._lose():
            raise LinkDown("lost on the way to the large bundle")
        try:
            decision = self._pipeline.decide(self._pipeline.answer(data, media_type), None)
        except NotValid as error:
            raise Refused(str(error), code=error.code) from error
        return decision.model_copy(update={"deferred": True})

    def close(self) -> None:
        """Nothing is held."""


def marked(data: bytes) -> Decision:
    """The decision in these bytes, marked as deferred. Refused: they are none."""
    try:
        decision = decode(Decision, data)
    except NotValid as error:
        raise Refused(f"the large bundle's answer is no decision: {error}", code="answer_invalid") from error
    if not 0 < len(decision.label) <= LABEL_MAX:
        raise Refused(f"the large bundle's label has {len(decision.label)} characters", code="answer_invalid")
    return decision.model_copy(update={"deferred": True, "release": None})
