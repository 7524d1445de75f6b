"""Ways to tell people of an alert: a signed webhook, a mail, and a list in memory."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Callable
from email.message import EmailMessage
from email.utils import format_datetime
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from edgewise.ports._clock import Clock
from edgewise.wire import NotNow, NotValid, encode
from edgewise.wire.alerts import Alert

if TYPE_CHECKING:
    import httpx

TRY_AGAIN = {408, 425, 429}
Tls: TypeAlias = Literal["none", "starttls", "tls"]


class Teller(Protocol):
    """A way to tell people. An alert may come twice, with one id, where an answer was lost."""

    name: str

    def tell(self, alert: Alert) -> None:
        """Tell it. Raises NotNow: try again later. NotValid: this way will never take it; a person must look."""


class MemoryTeller:
    """Keeps what it was told.

    Args:
        fails: asked before each; an error that it returns is raised.
    """

    def __init__(self, name: str = "memory", fails: Callable[[], Exception | None] = lambda: None) -> None:
        self.name = name
        self.told: list[Alert] = []
        self._fails = fails

    def tell(self, alert: Alert) -> None:
        error = self._fails()
        if error is not None:
            raise error
        self.told.append(alert)


class WebhookTeller:
    """A POST of the alert as JSON; redirects are not followed.

    Signed as the device's webhooks are: ``X-Edgewise-Signature`` is ``sha256=`` and the HMAC-SHA256 of
    ``X-Edgewise-Timestamp``, a full stop and the body. ``Idempotency-Key`` is the alert's id.

    Args:
        secret: for the signature; None sends none.
    """

    def __init__(self, name: str, url: str, *, secret: str | None, clock: Clock, timeout_s: float = 10.0) -> None:
        self.name = name
        self._url = url
        self._secret = secret
        self._clock = clock
        self._timeout_s = timeout_s

    def tell(self, alert: Alert) -> None:
        import httpx

        body = encode(alert)
        try:
            # The answer's body says nothing that we need, and may be endless.
            with (
                httpx.Client(timeout=self._timeout_s, follow_redirects=False) as client,
                client.stream("POST", self._url, content=body, headers=self._headers(alert, body)) as answer,
            ):
                self._check(answer)
        except (httpx.HTTPError, OSError) as error:
            raise NotNow(f"{self.name} does not answer: {error or type(error).__name__}", code="hook_down") from error
        except httpx.InvalidURL as error:
            raise NotValid(
                f"{self.name} is no address: {error}; see alerts.webhook_urls", code="url_invalid"
            ) from error

    def _headers(self, alert: Alert, body: bytes) -> dict[str, str]:
        from edgewise.ports._sink_webhook import signature

        headers = {"content-type": "application/json", "idempotency-key": alert.id, "x-edgewise-event": "alert"}
        if self._secret is not None:
            timestamp = str(int(self._clock.now().timestamp()))
            headers["x-edgewise-timestamp"] = timestamp
            headers["x-edgewise-signature"] = signature(self._secret, timestamp, body)
        return headers

    def _check(self, answer: httpx.Response) -> None:
        status = answer.status_code
        if status >= 500 or status in TRY_AGAIN:
            raise NotNow(f"{self.name} answers {status}; it is tried again", code="hook_busy")
        if not 200 <= status < 300:
            raise NotValid(f"{self.name} answers {status}; it will not take this alert", code="hook_refused")


class MailTeller:
    """A mail in plain text.

    Args:
        host, port: of the SMTP server.
        sender, to: addresses.
        login: user and password; None for none.
        tls: ``none`` for a server on this machine, ``starttls``, or ``tls`` from the first byte.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        sender: str,
        to: tuple[str, ...],
        login: tuple[str, str] | None = None,
        tls: Tls = "starttls",
        timeout_s: float = 20.0,
    ) -> None:
        self.name = "mail"
        self._place = (host, port)
        self._sender = sender
        self._to = to
        self._login = login
        self._tls = tls
        self._timeout_s = timeout_s

    def tell(self, alert: Alert) -> None:
        host, port = self._place
        try:
            with self._connect() as server:
                if self._login is not None:
                    server.login(*self._login)
                server.send_message(self._mail(alert), from_addr=self._sender, to_addrs=list(self._to))
        except smtplib.SMTPRecipientsRefused as error:
            codes = sorted({code for code, _ in error.recipients.values()})
            raise _family(f"the mail server {host}:{port} refuses who shall get it ({codes})", max(codes)) from error
        except smtplib.SMTPResponseException as error:
            raise _family(f"the mail server {host}:{port} answers {error.smtp_code}", error.smtp_code) from error
        except (smtplib.SMTPException, OSError) as error:
            text = f"the mail server {host}:{port} does not answer: {error or type(error).__name__}"
            raise NotNow(text, code="mail_down") from error

    def _connect(self) -> smtplib.SMTP:
        host, port = self._place
        if self._tls == "tls":
            return smtplib.SMTP_SSL(host, port, timeout=self._timeout_s, context=ssl.create_default_context())
        server = smtplib.SMTP(host, port, timeout=self._timeout_s)
        if self._tls == "starttls":
            server.starttls(context=ssl.create_default_context())
        return server

    def _mail(self, alert: Alert) -> EmailMessage:
        mail = EmailMessage()
        mail["From"], mail["To"] = self._sender, ", ".join(self._to)
        mail["Subject"] = f"[edgewise] {alert.title}"
        mail["Date"] = format_datetime(alert.at)
        mail["Message-ID"] = f"<{alert.id}@{self._sender.rpartition('@')[2]}>"
        mail.set_content(f"{alert.text}\n\ncause: {alert.cause}\nabout: {alert.about}\nid: {alert.id}\n")
        return mail


def _family(text: str, code: int) -> NotNow | NotValid:
    """RFC 5321 section 4.2.1: 4xx may succeed later, 5xx will not."""
    if code >= 500:
        return NotValid(f"{text}; see alerts.mail_to and the login", code="mail_refused")
    return NotNow(f"{text}; it is tried again", code="mail_busy")
