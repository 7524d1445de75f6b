"""Events by HTTP POST: signed where there is a secret, with a key by which a receiver tells a repetition."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import httpx

from edgewise.ports._clock import Clock
from edgewise.ports._mqtt import tls_context
from edgewise.ports._secret import below, read_secret
from edgewise.wire import NotNow, NotValid, SinkEvent, WebhookSink, encode

TRY_AGAIN = {408, 425, 429}


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """What ``X-Edgewise-Signature`` holds: HMAC-SHA256 of timestamp, a full stop and the body, in hexadecimal.

    >>> signature("key", "1767225600", b"{}")[:23]
    'sha256=df344de429b8ee67'
    """
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


class Webhook:
    """A receiver of events. Redirects are not followed: an event goes where the use case says, or nowhere.

    Args:
        secrets: the folder in which secret and token lie.
    Raises:
        NotValid, NotTrusted: the secret, token or certificate cannot be read.
    """

    def __init__(self, spec: WebhookSink, *, clock: Clock, secrets: Path) -> None:
        self._spec = spec
        self._clock = clock
        self._secret = read_secret(below(secrets, spec.secret_file), spec.secret_env, f"the secret of sink {spec.name}")
        self._token = read_secret(below(secrets, spec.token_file), spec.token_env, f"the token of sink {spec.name}")
        verify = True if spec.tls is None else tls_context(spec.tls)
        self._client = httpx.Client(timeout=spec.timeout_s, verify=verify, follow_redirects=False)

    def send(self, event: SinkEvent) -> None:
        body = encode(event)
        headers = {"content-type": "application/json", "idempotency-key": event.id, "x-edgewise-event": event.event}
        if self._token is not None:
            headers["authorization"] = f"Bearer {self._token}"
        if self._secret is not None:
            timestamp = str(int(self._clock.now().timestamp()))
            headers |= {
                "x-edgewise-timestamp": timestamp,
                "x-edgewise-signature": signature(self._secret, timestamp, body),
            }
        try:
            # The answer's body says nothing that we need, and may be endless.
            with self._client.stream("POST", self._spec.url, content=body, headers=headers) as answer:
                status = answer.status_code
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise NotNow(
                f"{self._spec.url} does not answer: {error or type(error).__name__}", code="hook_down"
            ) from error
        if status >= 500 or status in TRY_AGAIN:
            raise NotNow(f"{self._spec.url} answers {status}; it is tried again", code="hook_busy")
        if not 200 <= status < 300:
            raise NotValid(f"{self._spec.url} answers {status}; it will not take this event", code="hook_refused")

    def idle(self) -> None:
        pass

    def close(self) -> None:
        self._client.close()
