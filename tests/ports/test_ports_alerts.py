"""Every way of telling people keeps the same promise: taken, later, or never – and what goes out is signed and bare."""

from __future__ import annotations

import email
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from alert_servers import HookServer, MailServer
from edgewise.ports import MemoryClock
from edgewise.ports._sink_webhook import signature
from edgewise.ports.alerts import MailTeller, MemoryTeller, Teller, WebhookTeller
from edgewise.wire import NotNow, NotValid, decode
from edgewise.wire.alerts import Alert

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ALERT = Alert(
    id="a" * 32, cause="threat", about="cloned_key", title="Signs of cloned key", text="1 sign.", count=1, at=NOW
)


@dataclass
class Way:
    teller: Teller
    told: Callable[[], int]
    fail: Callable[[str], None]  # "later", "never" or "gone"


@pytest.fixture(params=["memory", "webhook", "mail"])
def way(request: pytest.FixtureRequest) -> Iterator[Way]:
    if request.param == "memory":
        errors: list[Exception] = []
        memory = MemoryTeller(fails=lambda: errors[0] if errors else None)
        yield Way(memory, lambda: len(memory.told), lambda how: errors.append(_error(how)))
        return
    server = HookServer() if request.param == "webhook" else MailServer()
    closed = []

    def fail(how: str) -> None:
        if how == "gone":
            server.close()
            closed.append(True)
        elif isinstance(server, HookServer):
            server.status = 503 if how == "later" else 404
        else:
            server.answer = "451 busy" if how == "later" else "554 no"

    teller: Teller
    if isinstance(server, HookServer):
        teller = WebhookTeller("webhook-1", server.url, secret="key", clock=MemoryClock(NOW), timeout_s=2)
    else:
        teller = MailTeller(
            "127.0.0.1", server.port, sender="a@b.example", to=("ann@b.example",), tls="none", timeout_s=2
        )
    yield Way(teller, lambda: len(server.got), fail)
    if not closed:
        server.close()


def _error(how: str) -> Exception:
    return NotValid("no") if how == "never" else NotNow("later")


def test_what_is_told_arrives(way: Way) -> None:
    way.teller.tell(ALERT)
    assert way.told() == 1


@pytest.mark.parametrize("how", ["later", "gone"])
def test_a_receiver_that_is_busy_or_away_is_asked_again_later(way: Way, how: str) -> None:
    way.fail(how)
    with pytest.raises(NotNow):
        way.teller.tell(ALERT)


def test_a_receiver_that_says_no_is_not_asked_again(way: Way) -> None:
    way.fail("never")
    with pytest.raises(NotValid):
        way.teller.tell(ALERT)


def test_a_webhook_is_signed_and_names_its_alert() -> None:
    server = HookServer()
    try:
        WebhookTeller("webhook-1", server.url, secret="key", clock=MemoryClock(NOW)).tell(ALERT)
        headers, body = server.got[0]
    finally:
        server.close()
    assert headers["x-edgewise-signature"] == signature("key", headers["x-edgewise-timestamp"], body)
    assert headers["idempotency-key"] == ALERT.id
    assert decode(Alert, body) == ALERT


def test_a_mail_is_plain_and_names_its_alert() -> None:
    server = MailServer()
    try:
        to = ("ann@b.example", "bob@b.example")
        MailTeller("127.0.0.1", server.port, sender="hub@b.example", to=to, tls="none").tell(ALERT)
        envelope = server.got[0]
    finally:
        server.close()
    mail = email.message_from_bytes(envelope.content)
    assert envelope.rcpt_tos == list(to)
    assert mail["Subject"] == "[edgewise] Signs of cloned key"
    assert ALERT.id in mail["Message-ID"]
    assert "1 sign." in mail.get_payload()
