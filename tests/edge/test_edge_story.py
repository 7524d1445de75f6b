"""`edge status` explains: golden texts for each phase, what is named as a trouble, and the same text on and off."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent_world import site as site
from edgewise.cli._app import build
from edgewise.edge._contact_memory import ContactMemory, ContactNote, read_contact_note
from edgewise.edge._failures import failure
from edgewise.edge._story import COLUMNS, Situation, lines, story
from edgewise.edge._troubles import Known, clock_trouble, troubles
from edgewise.edge._update_state import Phase, Proof, Slot, UpdateState
from edgewise.edge.agent import enrol, load_identity, locked, run, status
from edgewise.wire import Assignment, Wait

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
GOLDEN = Path(__file__).parent / "golden_status"
DAY = timedelta(days=1)
FAILURE = "5 decisions in a row failed, the last one: scores are nan"
FAILED = failure("decisions_failed", FAILURE, phase="trial", now=datetime(2026, 3, 1, 12, tzinfo=UTC))


def slot(version: int, *, committed: bool = True) -> Slot:
    proof = Proof(roots=(), targets="t", role="r", release="x")
    return Slot(release=f"parts@{version}", bundle=f"{version}" * 64, proof=proof, committed=committed)


def wanted(version: int, **more) -> Assignment:
    values = {
        "device": "d1", "number": 7, "hub_epoch": "a" * 32, "use_case": "parts", "issued_at": NOW,
        "release": f"parts@{version}", "bundle": f"{version}" * 64, "trial_s": 60.0, "rollout": "c0ffee00" * 4,
    }  # fmt: skip
    return Assignment(**{**values, **more})


def state(phase: Phase, assignment: Assignment, *versions: int, **more) -> UpdateState:
    slots = {name: slot(version) for name, version in zip("ab", versions, strict=False)}
    return UpdateState(slots=slots, assignment=assignment, working=assignment, phase=phase, **more)


WAIT = Wait(
    reasons=(
        "battery_percent is 12, needs ge 40",
        "network_metered is True, needs eq False",
        "the window opens at 2026-03-01T22:00:00+01:00 (Europe/Berlin)",
    ),
    until=NOW + timedelta(hours=9),
)
EVERYTHING = Known(
    certificate=(NOW - 20 * DAY, NOW - 13 * DAY),
    metadata_expires_at=NOW - DAY,
    lived=NOW + DAY,
    contact=ContactNote(last_at=NOW - 3 * DAY, failures=9, error="no hub answers at https://hub.example:8443"),
)
BAKE = wanted(4, bake=True, reason="wave 2 of 3")
REVERT = wanted(3, kind="revert", reason="worse at site north", evidence="e" * 64, policy_version=2)
SHADOW = wanted(4, shadow=True)
CASES = {
    "idle_at_first": Situation(now=NOW, state=UpdateState()),
    "fetching_the_first": Situation(
        now=NOW, state=state(Phase.FETCHING, wanted(3)), next_contact_at=NOW + timedelta(seconds=60)
    ),
    "fetching_waits": Situation(
        now=NOW, state=state(Phase.FETCHING, wanted(4), 3), slot="a", not_now=WAIT, decisions=120_345, backlog=1
    ),
    "staged_waits": Situation(
        now=NOW, state=state(Phase.STAGED, wanted(4), 3, 4), slot="a", not_now=Wait(reasons=WAIT.reasons[:1])
    ),
    "shadow": Situation(now=NOW, state=state(Phase.SHADOW, SHADOW, 3, 4), slot="a"),
    "trial": Situation(now=NOW, state=state(Phase.TRIAL, wanted(4), 3, 4, trial_at=NOW, back_to="a"), slot="b"),
    "committed_and_baking": Situation(now=NOW, state=state(Phase.COMMITTED, BAKE, 3, 4), slot="b"),
    "committed_alone": Situation(now=NOW, state=state(Phase.COMMITTED, wanted(4), 4), slot="a"),
    "reverting": Situation(now=NOW, state=state(Phase.REVERTING, REVERT, 3, 4, back_to="a"), slot="b"),
    "idle_after_a_failure": Situation(
        now=NOW,
        state=state(
            Phase.IDLE, wanted(4), 3, 4, refused=7, failure=FAILED, known_bad={"9" * 64: "old", "4" * 64: FAILURE}
        ),
        slot="a",
        troubles=troubles(NOW, EVERYTHING, {"disk_free_mb": 20}),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_text_of_each_phase_is_the_golden_one_and_fits_80_columns(name):
    text = "\n".join(lines(story(CASES[name]))) + "\n"
    file = GOLDEN / f"{name}.txt"
    if os.environ.get("EDGEWISE_WRITE_GOLDEN"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    assert text == file.read_text(), "after a wanted change: EDGEWISE_WRITE_GOLDEN=1"
    assert max(len(line) for line in text.splitlines()) <= COLUMNS


def test_there_is_a_golden_text_for_every_phase():
    assert {situation.state.phase for situation in CASES.values()} == set(Phase)


def test_a_clock_is_named_only_where_it_is_certainly_wrong():
    good = Known(certificate=(NOW - DAY, NOW + 6 * DAY), lived=NOW - DAY, contact=ContactNote(last_at=NOW, hub_at=NOW))
    assert clock_trouble(NOW, good) is None
    assert clock_trouble(NOW + 300 * DAY, good) is None  # weeks away look like that as well
    assert "its certificate begins at" in clock_trouble(NOW - 3650 * DAY, good)
    assert "was here already" in clock_trouble(NOW - DAY / 2, Known(lived=NOW))
    far = Known(contact=ContactNote(last_at=NOW + 3653 * DAY, hub_at=NOW))
    assert "at the last contact it was 10 years ahead of the hub's; set the clock" in clock_trouble(NOW, far)
    near = Known(contact=ContactNote(last_at=NOW - timedelta(minutes=12), hub_at=NOW))
    assert "12 minutes behind the hub's" in clock_trouble(NOW, near)


class FakeContacts:
    """As much of `Contacts` as the memory looks at."""

    def __init__(self, **values) -> None:
        self.last_at, self.hub_at, self.failures, self.error = None, None, 0, None
        self.__dict__ |= values


def test_contacts_are_written_down_when_they_change_and_seldom_otherwise(tmp_path):
    memory = ContactMemory(tmp_path, every_s=600)
    memory.step(FakeContacts(), 0)
    assert read_contact_note(tmp_path) == ContactNote()
    memory.step(FakeContacts(last_at=NOW, hub_at=NOW), 1)
    memory.step(FakeContacts(last_at=NOW + DAY, hub_at=NOW + DAY), 300)
    assert read_contact_note(tmp_path).last_at == NOW  # nothing new within ten minutes
    memory.step(FakeContacts(last_at=NOW + DAY, failures=1, error="no hub answers"), 301)
    assert read_contact_note(tmp_path) == ContactNote(last_at=NOW + DAY, hub_at=NOW, failures=1, error="no hub answers")
    memory.step(FakeContacts(last_at=NOW + DAY, failures=2, error="no hub answers"), 302)
    assert read_contact_note(tmp_path).failures == 1
    (tmp_path / "contact.json").write_bytes(b"half")
    assert read_contact_note(tmp_path) == ContactNote()


def test_the_device_and_the_command_tell_the_same_story(site):
    enrol(site.data, site.url, site.token)
    site.assign(site.release(1))
    (site.camera / "f1.row").write_text('{"x": 1, "y": 1}')
    run(site.data, site.camera, once=True)
    said = status(site.data)
    texts = {item["topic"]: item["text"] for item in said["story"]}
    assert texts["Runs"].startswith("parts@1 (bundle ")
    assert "ahead of the hub's; set the clock" in texts["Blocked"]  # the small hub of the tests lives in March 2026
    assert texts["Holds"] == "1 decision made, 0 records not at the hub yet."
    shown = CliRunner().invoke(build(), ["edge", "status", "--data-dir", str(site.data)])
    assert shown.exit_code == 0, shown.output
    assert f"Device   {load_identity(site.data).device} at north, use case parts; the agent is off." in shown.output
    assert " ".join(texts["Why"].split()) in " ".join(shown.output.split())
    assert max(len(line) for line in shown.output.splitlines()) <= COLUMNS
    with locked(site.data):
        assert status(site.data)["agent"] == "runs"
    values = CliRunner().invoke(build(), ["edge", "status", "--data-dir", str(site.data), "-o", "json"])
    assert {"agent", "backlog", "bundle", "certificate", "decisions", "device", "hub", "last_failure", "outbox"} <= set(
        json.loads(values.output)
    )
    assert {"phase", "release", "site", "story", "use_case", "version", "why"} <= set(json.loads(values.output))


def test_a_running_device_tells_its_story_by_its_local_api(fleet):
    device = fleet.device()
    fleet.assign(fleet.release(1))
    for _ in range(5):
        device.step(fleet.clock.now())
        fleet.clock.advance(60)
    texts = {item["topic"]: item["text"] for item in device.status(fleet.clock.now())["story"]}
    assert texts["Runs"].startswith("parts@1")
    assert "The next contact is at" in texts["Next"]
    device.close(fleet.clock.now())
