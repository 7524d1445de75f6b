"""The doctor's look at identity, clock and hub: each step of a contact by itself."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from edgewise.edge._doctor_check import Check, Patient, fail, ok, warn
from edgewise.edge._offline import known_here, metadata_end
from edgewise.edge._story import moment
from edgewise.edge._troubles import CLOCK_OFF_MAX, clock_trouble
from edgewise.edge.certificate import Wish, certificate_sentence, certificate_wish
from edgewise.ports import Credentials, HubProbe, probe_hub
from edgewise.wire import EdgewiseError

PROBE_S_MAX = 6.0  # of name, connection, handshake and answer together; twice where the clock is in doubt
TIME_FAULTS = ("expired", "not yet valid")  # as OpenSSL says it


def check_identity(patient: Patient) -> Iterator[Check]:
    if patient.identity is None:
        yield fail(
            "identity",
            f"{patient.folder} is not an enrolled device",
            "run edgewise edge enroll with a token of the hub",
        )
        return
    yield ok("identity", f"{patient.identity.device} at {patient.identity.site}, use case {patient.identity.use_case}")
    credentials = Credentials(patient.folder)
    try:
        start, end = credentials.validity()
    except EdgewiseError as error:
        yield fail("certificate", str(error), "enrol again into an empty folder")
        return
    text = certificate_sentence(credentials, patient.now)
    if patient.now < start - CLOCK_OFF_MAX:
        yield fail("certificate", f"begins at {moment(start)}, later than this clock says", "set the clock")
    elif certificate_wish(start, end, patient.now) is Wish.COME_BACK:
        yield warn("certificate", text, "let the agent reach the hub; after the hub's grace a new token is needed")
    else:
        yield ok("certificate", text)


def check_clock_and_hub(patient: Patient) -> Iterator[Check]:
    """The clock against everything certain, then the hub; one after the other, for the hub's answer tells the time."""
    probe = _probe(patient)
    known = known_here(patient.folder, patient.state, None)
    trouble = clock_trouble(patient.now, known)
    off = _off(probe)
    if off is not None and abs(off) > CLOCK_OFF_MAX:
        way = "ahead of" if off > timedelta() else "behind"
        yield fail("clock", f"{abs(off).total_seconds():.0f} s {way} the hub's", "set the clock, or switch NTP on")
    elif trouble is not None and off is None:
        yield fail("clock", trouble, "set the clock, or switch NTP on; decisions go on meanwhile")
    else:
        yield ok(
            "clock", f"{moment(patient.now)}" + (f", {_apart(off)}" if off is not None else ", the hub was not asked")
        )
    yield from _hub_lines(patient, probe)


def _probe(patient: Patient) -> HubProbe | None:
    if not patient.hub_url.startswith("https://"):
        return None
    try:
        context = Credentials(patient.folder).context()
    except (EdgewiseError, OSError):
        return None
    probe = probe_hub(patient.hub_url, context, wait_s=PROBE_S_MAX)
    if probe.tls and any(fault in probe.tls for fault in TIME_FAULTS):
        # By this clock the hub's certificate does not hold. Whoever holds its key tells the time that it knows.
        again = probe_hub(patient.hub_url, context, wait_s=PROBE_S_MAX, ignore_time=True)
        probe.hub_at, probe.seen_at = again.hub_at, again.seen_at
    return probe


def _hub_lines(patient: Patient, probe: HubProbe | None) -> Iterator[Check]:
    url = patient.hub_url or "no address"
    if probe is None:
        yield warn("hub", f"{url} was not asked: this folder has no identity to show", "enrol the device first")
        return
    steps = {
        "hub tcp": (probe.tcp, f"{url} accepts connections", "look at cable, address, name service and firewall"),
        "hub tls": (probe.tls, "both sides trust each other", "look at the clock above, and who sits between"),
        "hub http": (probe.http, f"it answers with status {probe.status}", "look at the hub, or the proxy before it"),
    }
    for name, (went_wrong, fine, do) in steps.items():
        if went_wrong is None:
            return  # not reached: the line before says why
        # A device decides for weeks without a hub, so this alone is no failure of the device.
        yield warn(name, went_wrong, f"{do}; decisions go on meanwhile") if went_wrong else ok(name, fine)


def _off(probe: HubProbe | None) -> timedelta | None:
    if probe is None or probe.hub_at is None or probe.seen_at is None:
        return None
    return probe.seen_at - probe.hub_at


def _apart(off: timedelta) -> str:
    seconds = abs(off).total_seconds()
    return "as the hub's" if seconds < 2 else f"{seconds:.0f} s from the hub's"


def check_metadata(patient: Patient) -> Iterator[Check]:
    if patient.identity is None:
        return
    ends: datetime | None = metadata_end(patient.folder, patient.identity, patient.clock)
    if ends is None:
        yield warn("metadata", "no release metadata were verified here yet", "let the agent reach the hub once")
    elif ends <= patient.now:
        yield warn(
            "metadata",
            f"ended at {moment(ends)}: nothing new is installed, decisions go on",
            "let the agent reach the hub, or carry a stick: edgewise courier",
        )
    else:
        yield ok("metadata", f"fresh until {moment(ends)}")
