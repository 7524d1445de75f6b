"""What is odd about a contact: a report that goes back, a clock that is wrong, an upload that was sent before."""

from __future__ import annotations

from datetime import datetime, timedelta

from edgewise.hub.limits import Limits
from edgewise.hub.store.devices import DeviceRow
from edgewise.hub.versions import version_of
from edgewise.wire import Report, UploadHeader
from edgewise.wire.alerts import ThreatKind


def oddities(
    before: DeviceRow, header: UploadHeader, *, brought: bool, now: datetime, limits: Limits
) -> list[tuple[ThreatKind, str]]:
    """Signs of an attack in a contact whose sender was verified, each with a sentence.

    Args:
        before: the device as it was before this contact.
        brought: whether the upload held anything that the hub did not have.
    """
    return [
        *_clock(before, header, brought=brought, now=now, limits=limits),
        *_regressions(before, header.report),
    ]


def is_skewed(sent_at: datetime, now: datetime, limits: Limits) -> bool:
    """Whether a device's clock is further from the hub's than a slow link explains."""
    return abs((now - sent_at).total_seconds()) > limits.clock_skew_s_max


def _clock(
    before: DeviceRow, header: UploadHeader, *, brought: bool, now: datetime, limits: Limits
) -> list[tuple[ThreatKind, str]]:
    found: list[tuple[ThreatKind, str]] = []
    back = before.sent_at is not None and before.sent_at - header.sent_at > timedelta(seconds=limits.clock_back_s_max)
    if back and not brought and header.segments:
        # Its numbers are all known and its time is past: what a recorded upload looks like when it is sent again.
        return [("replay", f"an upload of {_at(header.sent_at)} came again, after one of {_at(before.sent_at)}")]
    if back:
        found.append(("clock", f"its clock went back, from {_at(before.sent_at)} to {_at(header.sent_at)}"))
    elif is_skewed(header.sent_at, now, limits):
        off_s = (header.sent_at - now).total_seconds()
        found.append(
            ("clock", f"its clock is {off_s:+.0f} s from the hub's, {limits.clock_skew_s_max:.0f} s are allowed")
        )
    return found


def _regressions(before: DeviceRow, report: Report) -> list[tuple[ThreatKind, str]]:
    told = before.last_report
    if told is None:
        return []
    found: list[tuple[ThreatKind, str]] = []
    if report.metadata < told.metadata:
        text = f"it reports release metadata {report.metadata}, before it was {told.metadata}"
        found.append(("version_regression", text))
    if _is_older(report.release, told.release) and not _is_meant(before, told, report):
        text = f"it runs {report.release}, before it was {told.release}, and nothing told it to go back"
        found.append(("version_regression", text))
    return found


def _is_older(release: str | None, than: str | None) -> bool:
    if release is None or than is None or release.rpartition("@")[0] != than.rpartition("@")[0]:
        return False
    return version_of(release) < version_of(than)


def _is_meant(before: DeviceRow, told: Report, report: Report) -> bool:
    """A device goes back by itself to the one before, and by assignment to the one named."""
    wanted = before.wanted
    return report.release == told.previous or (wanted is not None and wanted.release == report.release)


def _at(moment: datetime | None) -> str:
    return "?" if moment is None else moment.isoformat(timespec="seconds")
