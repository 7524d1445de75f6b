"""What people must hear of, decided from the whole situation, and told until it has been taken.

An alert is raised once for each key – a cause and what it is about – and window. Each way of telling has a row of its
own, so that a restart loses nothing and one way that is down holds up no other. A message is marked as tried before it
goes out: two hubs never send it at once, and one that is killed meanwhile sends it again, under the same id.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from pydantic import Field

from edgewise.hub import health
from edgewise.hub.counters import Counters
from edgewise.hub.limits import Limits
from edgewise.hub.store import Store
from edgewise.hub.store import alerts as rows
from edgewise.hub.store import audit as audit_rows
from edgewise.hub.store import health as health_rows
from edgewise.hub.store import threats as threat_rows
from edgewise.hub.store import usecases as usecase_rows
from edgewise.hub.store.alerts import AlertRow
from edgewise.ports import Chance, Clock
from edgewise.ports.alerts import MailTeller, Teller, Tls, WebhookTeller
from edgewise.wire import EdgewiseError, NotNow, NotValid, Strict
from edgewise.wire.alerts import Alert, Cause, ThreatKind

HERE = "hub"  # the way that always is: the list in the hub itself
HUB = "hub"  # what an alert is about that concerns the whole hub
WITHDRAWN, REVERTING = "release.withdrawn", "rollout.reverting"
# From how many signs in one window on people hear of them. What a healthy fleet never shows is told at once.
SIGNS_MIN: Mapping[ThreatKind, int] = {
    "cloned_key": 1,
    "replay": 1,
    "version_regression": 1,
    "refused_by_device": 1,
    "unknown_device": 5,
    "clock": 10,
    "refused_data": 10,
    "failed_authentication": 20,
    "refused_access": 20,
}


class AlertSettings(Strict):
    """Whom to tell, and from when on. Also as ``EDGEWISE_ALERTS__WEBHOOK_URLS``, secrets by ``…_FILE``."""

    webhook_urls: tuple[str, ...] = Field((), max_length=10, description="each gets every alert by POST")
    webhook_secret: str | None = Field(None, description="signs the webhooks; give it by …WEBHOOK_SECRET_FILE")
    smtp_host: str | None = Field(None, description="the mail server; no mail without it")
    smtp_port: int = Field(587, ge=1, le=65535)
    smtp_tls: Tls = Field("starttls", description="none, starttls or tls")
    smtp_user: str | None = None
    smtp_password: str | None = Field(None, description="give it by …SMTP_PASSWORD_FILE")
    mail_from: str = Field("edgewise@localhost", description="the sender's address")
    mail_to: tuple[str, ...] = Field((), max_length=50, description="who gets the mails")
    window_s: int = Field(3600, ge=3600, le=86_400, multiple_of=3600, description="one alert of a cause in so long")
    disk_free_share: float = Field(0.1, ge=0, le=1, description="less than this free is told")
    silent_share: float = Field(0.2, gt=0, le=1, description="of a use case's devices")
    stuck_s: float = Field(300, ge=10, description="without a round of the controllers")


def tellers_of(settings: AlertSettings, clock: Clock) -> list[Teller]:
    """The ways that the settings name.

    Raises:
        NotValid: a mail server without anybody who gets the mails.
    """
    hooks: list[Teller] = [
        WebhookTeller(f"webhook-{number}", url, secret=settings.webhook_secret, clock=clock)
        for number, url in enumerate(settings.webhook_urls, start=1)
    ]
    if settings.smtp_host is None:
        return hooks
    if not settings.mail_to:
        raise NotValid("alerts.smtp_host is set and alerts.mail_to is empty; name who gets the mails")
    login = None if settings.smtp_user is None else (settings.smtp_user, settings.smtp_password or "")
    mail = MailTeller(
        settings.smtp_host,
        settings.smtp_port,
        sender=settings.mail_from,
        to=settings.mail_to,
        login=login,
        tls=settings.smtp_tls,
    )
    return [*hooks, mail]


@dataclass(frozen=True, kw_only=True, slots=True)
class Watched:
    """What alerts are decided from.

    Attributes:
        signs: of each kind in each window, with how many subjects.
        acts: (window, action, release, whether the hub itself did it) of releases withdrawn and rollouts reverting.
        disk: free bytes and size; None where there is no folder.
        silent: (devices, silent ones) by use case.
        stuck_s: since the last round of the controllers.
    """

    window_at: datetime
    signs: Mapping[tuple[datetime, ThreatKind], tuple[int, int]] = field(default_factory=dict)
    acts: Sequence[tuple[datetime, str, str, bool]] = ()
    disk: tuple[int, int] | None = None
    silent: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    stuck_s: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """An alert that should have been raised by now."""

    window_at: datetime
    cause: Cause
    about: str
    title: str
    text: str
    count: int = 0

    @property
    def key(self) -> str:
        return f"{self.cause}:{self.about}"[:160]


def wanted(watched: Watched, settings: AlertSettings) -> list[Wanted]:
    """The alerts that this situation asks for; which of them were raised before is not looked at here."""
    return [*_threats(watched), *_acts(watched), *_of_hub(watched, settings), *_silent(watched, settings)]


def _threats(watched: Watched) -> Iterator[Wanted]:
    for (window_at, kind), (signs, subjects) in watched.signs.items():
        if signs >= SIGNS_MIN[kind]:
            words = kind.replace("_", " ")
            text = f"{signs} signs of {words} from {subjects} sources since {_time(window_at)}. "
            text += f"`edgewise hub threats --kind {kind}` shows them."
            yield Wanted(
                window_at=window_at, cause="threat", about=kind, title=f"Signs of {words}", text=text, count=signs
            )


def _acts(watched: Watched) -> Iterator[Wanted]:
    for window_at, action, release, by_itself in watched.acts:
        cause: Cause = "release_withdrawn" if action == WITHDRAWN else "rollout_reverted"
        what = "was withdrawn" if action == WITHDRAWN else "is taken back"
        who = " by the hub itself, on its evidence" if by_itself else " by a person"
        text = f"Release {release} {what}{who}. `edgewise rollout status` and the audit log say why."
        title = f"Release {release} {what}"[:160]
        yield Wanted(window_at=window_at, cause=cause, about=release, title=title, text=text, count=1)


def _of_hub(watched: Watched, settings: AlertSettings) -> Iterator[Wanted]:
    window_at = watched.window_at
    if watched.disk is not None and watched.disk[1] > 0:
        free, size = watched.disk
        if free / size < settings.disk_free_share:
            text = (
                f"{free / 1e9:.1f} of {size / 1e9:.1f} GB are free where the hub's folder lies. Free space: when it is "
            )
            text += "full, the hub takes nothing more, and devices keep their records."
            yield Wanted(window_at=window_at, cause="disk_low", about=HUB, title="The hub's disk is low", text=text)
    if watched.stuck_s > settings.stuck_s:
        text = (
            f"No round of the controllers came to its end for {watched.stuck_s:.0f} s: no rollout goes on, and none is "
        )
        text += "stopped. The hub's log names what failed."
        title = "The hub's controllers are stuck"
        yield Wanted(window_at=window_at, cause="controllers_stuck", about=HUB, title=title, text=text)


def _silent(watched: Watched, settings: AlertSettings) -> Iterator[Wanted]:
    for use_case, (count, silent) in watched.silent.items():
        if count and silent / count >= settings.silent_share:
            text = f"{silent} of {count} devices of {use_case} were not heard for longer than five contacts. "
            text += f"`edgewise hub health --use-case {use_case}` shows at which sites."
            title = f"Devices of {use_case} are silent"[:160]
            yield Wanted(
                window_at=watched.window_at,
                cause="devices_silent",
                about=use_case,
                title=title,
                text=text,
                count=silent,
            )


def look(
    connection: sa.Connection,
    now: datetime,
    settings: AlertSettings,
    *,
    disk: tuple[int, int] | None,
    round_at: datetime | None,
    started_at: datetime,
) -> Watched:
    """Read the situation.

    Args:
        disk: free bytes and size.
        round_at: when the controllers last had their turn.
        started_at: when this hub started: devices that it could not hear before are not silent.
    """
    window_at = window_of(now, settings)
    before = window_at - timedelta(seconds=settings.window_s)  # what was written late belongs to the one before
    return Watched(
        window_at=window_at,
        signs=_signs(connection, before, settings),
        acts=[
            (window_of(entry["at"], settings), entry["action"], entry["subject"], entry["actor"] == "controller")
            for entry in audit_rows.since(connection, [WITHDRAWN, REVERTING], before)
        ],
        disk=disk,
        silent=_silent_counts(connection, now, started_at),
        stuck_s=(now - (round_at or started_at)).total_seconds(),
    )


def window_of(moment: datetime, settings: AlertSettings) -> datetime:
    """When the window of this moment began.

    >>> window_of(datetime(2026, 3, 1, 10, 59, tzinfo=UTC), AlertSettings()).hour
    10
    """
    seconds = int(moment.timestamp()) // settings.window_s * settings.window_s
    return datetime.fromtimestamp(seconds, UTC)


def _signs(
    connection: sa.Connection, since: datetime, settings: AlertSettings
) -> dict[tuple[datetime, ThreatKind], tuple[int, int]]:
    found: dict[tuple[datetime, ThreatKind], tuple[int, int]] = {}
    for hour, kind, signs, subjects in threat_rows.by_hour(connection, since=since):
        key = (window_of(hour, settings), kind)
        before = found.get(key, (0, 0))
        found[key] = (before[0] + signs, max(before[1], subjects))
    return found


def _silent_counts(connection: sa.Connection, now: datetime, started_at: datetime) -> dict[str, tuple[int, int]]:
    if (now - started_at).total_seconds() < health.SILENT_S_MIN:
        return {}
    condition = health.condition(connection, "silent", now)
    found = {}
    for name in usecase_rows.names(connection):
        where = health_rows.Where(use_case=name)
        heard = health_rows.count(connection, health_rows.heard(), where=where)
        silent = health_rows.count(connection, condition, where=where)
        found[name] = (sum(heard.values()), sum(silent.values()))
    return found


def raise_wanted(
    store: Store,
    found: Sequence[Wanted],
    *,
    channels: Sequence[str],
    now: datetime,
    chance: Chance,
    limits: Limits,
    counters: Counters,
) -> int:
    """Raise those that were not raised in their window; comes back with how many. Without any it writes nothing."""
    with store.read() as connection:
        fresh = [one for one in found if not rows.is_raised(connection, one.key, one.window_at)]
    if not fresh:
        return 0
    with store.write() as connection:
        rows.forget(connection, before=now - timedelta(seconds=limits.alerts_age_s))
        waiting = rows.waiting(connection)
        for one in fresh:
            if rows.is_raised(connection, one.key, one.window_at):
                continue
            alert = Alert(
                id=chance.id(),
                cause=one.cause,
                about=_name(one.about),
                title=one.title,
                text=one.text,
                count=one.count,
                at=now,
            )
            place: dict[str, Any] = {"key": one.key, "window_at": one.window_at}
            rows.add(connection, alert, channel=HERE, state=rows.SENT, **place)
            for channel in channels:
                if waiting >= limits.alerts_waiting_max:
                    counters.told(channel, "shed")
                    continue
                rows.add(connection, alert, channel=channel, state=rows.WAITING, **place)
                waiting += 1
    return len(fresh)


def deliver(store: Store, tellers: Sequence[Teller], *, now: datetime, limits: Limits, counters: Counters) -> int:
    """Tell what is due; comes back with how many messages were taken."""
    by_name, taken = {one.name: one for one in tellers}, 0
    for _ in range(limits.alerts_batch_max):
        row = _next(store, list(by_name), now, limits)
        if row is None:
            break
        taken += _tell(store, by_name[row.channel], row, now=now, limits=limits, counters=counters)
    return taken


def _next(store: Store, channels: list[str], now: datetime, limits: Limits) -> AlertRow | None:
    with store.read() as connection:
        if not channels or rows.due(connection, channels, now) is None:
            return None
    with store.write() as connection:
        row = rows.due(connection, channels, now)
        if row is not None:
            next_at = now + timedelta(seconds=pause_s(row.attempts, limits))
            rows.change(connection, row.position, attempts=row.attempts + 1, next_at=next_at)
        return row


def _tell(store: Store, teller: Teller, row: AlertRow, *, now: datetime, limits: Limits, counters: Counters) -> bool:
    values: dict[str, Any] = {"state": rows.SENT, "sent_at": now, "error": None}
    outcome = "sent"
    try:
        teller.tell(row.alert)
    except EdgewiseError as error:
        last = not isinstance(error, NotNow) or row.attempts + 1 >= limits.alerts_attempts_max
        outcome = rows.GIVEN_UP if last else "again"
        values = {"error": str(error)[:500], **({"state": rows.GIVEN_UP} if last else {})}
    counters.told(teller.name, outcome)
    with store.write() as connection:
        rows.change(connection, row.position, **values)
    return outcome == "sent"


def pause_s(attempts: int, limits: Limits) -> float:
    """How long to wait after so many tries: doubled each time, up to a bound.

    >>> [pause_s(tries, Limits()) for tries in (0, 1, 2, 20)]
    [10.0, 20.0, 40.0, 3600.0]
    """
    return float(min(limits.alerts_pause_s * 2 ** min(attempts, 30), limits.alerts_pause_s_max))


def _name(about: str) -> str:
    """As a plain name; releases, use cases and kinds are ones already."""
    return "".join(one if one.isascii() and (one.isalnum() or one in "._@:-") else "-" for one in about)[:128] or HUB


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")
