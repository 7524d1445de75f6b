"""Each way in which an update fails has a code, a category and a place; the hub counts them, a person reads them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import edgewise
from edgewise.edge._failures import CODES, failure_of
from edgewise.edge._guard import GuardLimits
from edgewise.edge._last_words import LastWords, write_last_words
from edgewise.edge.update import Phase, UpdateLimits
from edgewise.ports import MemoryFootprint
from edgewise.wire import Decision, Needs, NotTrusted, NotValid, Report, decode, encode

SOURCE = Path(edgewise.__file__).parent
DOCS = Path(__file__).parents[2] / "docs" / "device-life.md"
# What refuses an assignment or a release on its way: each code that is raised there on purpose has its row.
REFUSERS = ("trust/_install.py", "edge/_release_fetch.py", "edge/_slots.py", "edge/_trusted.py", "edge/_wants.py")


def settle(bench, updater, envelope=None):
    if envelope is not None:
        bench.accept(updater, envelope)
    for _ in range(20):
        before = updater.phase
        updater.step(bench.link(), bench.clock.now())
        if updater.phase is before:
            return


def installed(bench, *releases, **more):
    updater = bench.updater(**more)
    for release in releases:
        settle(bench, updater, bench.assign(release))
    return updater


# -- each scene leads to one failure ---------------------------------------------------------------------------------


def an_old_assignment(bench):
    old = bench.assign(bench.release(1))
    updater = installed(bench, bench.release(2))
    with pytest.raises(NotTrusted):
        bench.accept(updater, old)
    return updater


def another_devices_assignment(bench):
    updater = installed(bench, bench.release(1))
    with pytest.raises(NotTrusted):
        bench.accept(updater, bench.assign(bench.release(2), device="d2"))
    return updater


def another_use_cases_assignment(bench):
    updater = installed(bench, bench.release(1))
    with pytest.raises(NotTrusted):
        bench.accept(updater, bench.assign(bench.release(2), use_case="other"))
    return updater


def the_same_bad_bundle_again(bench):
    one, bad = bench.release(1), bench.release(2, broken=True)
    updater = installed(bench, one, bad)
    settle(bench, updater, bench.assign(bad))
    return updater


def a_withdrawn_release(bench):
    one, two = bench.release(1), bench.release(2)
    updater = installed(bench, one)
    bench.withdraw(two)
    settle(bench, bench.refreshed(updater), bench.assign(two))
    return updater


def an_older_release_that_is_no_revert(bench):
    one, two = bench.release(1), bench.release(2)
    updater = installed(bench, one, two)
    settle(bench, updater, bench.assign(one))
    return updater


def a_revert_to_what_never_ran(bench):
    updater = installed(bench, bench.release(1), bench.release(2))
    settle(bench, updater, bench.assign(bench.release(5), kind="revert"))
    return updater


def a_blob_changed_on_the_way(bench):
    one, two = bench.release(1), bench.release(2)
    updater = installed(bench, one)
    for name in bench.hub.blobs:
        bench.hub.blobs[name] = b"x" * len(bench.hub.blobs[name])
    settle(bench, updater, bench.assign(two))
    return updater


def a_bundle_that_needs_too_much(bench):
    updater = installed(bench, bench.release(1), facts={"ram_mb": 100})
    settle(bench, updater, bench.assign(bench.release(2, needs=Needs(opset=18, ram_mb=10_000, latency_ms=1))))
    return updater


def a_network_that_is_none(bench):
    updater = installed(bench, bench.release(1))
    settle(bench, updater, bench.assign(bench.hostile_release(2)))
    return updater


def wrong_golden_answers(bench):
    return installed(bench, bench.release(1), bench.release(2, broken=True))


def late_in_its_trial(bench):
    updater = installed(bench, bench.release(1))
    settle(bench, updater, bench.assign(bench.release(2), trial_s=60))
    for _ in range(30):
        updater.watch.decided(latency_ms=900)
    settle(bench, updater)
    return updater


def decisions_that_fail(bench):
    updater = installed(bench, bench.release(1), bench.release(2))
    for _ in range(5):
        updater.watch.failed(NotValid("no shape"))
    settle(bench, updater)
    return updater


def memory_that_grows(bench):
    footprint = MemoryFootprint(100)
    updater = installed(bench, bench.release(1), bench.release(2), footprint=footprint)
    for held_mb in (100, 1000, 1000, 1000):
        footprint.mb = held_mb
        bench.clock.advance(11)
        settle(bench, updater)
    return updater


def one_label_for_ever(bench):
    limits = UpdateLimits(guard=GuardLimits(suspect_block=8))
    updater = installed(bench, bench.release(1), bench.release(2), limits=limits)
    for number in range(2000):
        values = {"confidence": 0.5 + number % 100 / 1000, "margin": 0.3, "bundle": "0" * 64}
        decision = Decision(label="crack", **values)
        updater.watch.decided(1.0, decision)
        updater.watch.compared(decision, Decision(label="good", **values))
        if number % 8 == 0:
            settle(bench, updater)
        if updater.state.failure is not None:
            break
    return updater


def a_hang(bench):
    updater = installed(bench, bench.release(1), bench.release(2))
    running = updater.running
    words = LastWords(bundle=running.bundle, release=running.release, text="no answer", at=bench.clock.now())
    write_last_words(bench.folder, words)
    return bench.updater()


def three_crashes(bench):
    installed(bench, bench.release(1), bench.release(2), boot="x")
    for _ in range(3):
        updater = bench.updater(boot="x")
    return updater


def two_starts_in_a_trial(bench):
    updater = installed(bench, bench.release(1))
    settle(bench, updater, bench.assign(bench.release(2), trial_s=60))
    for _ in range(2):
        updater = bench.updater()
    return updater


def a_damaged_slot(bench):
    updater = installed(bench, bench.release(1), bench.release(2))
    (bench.folder / "slots" / updater.running.slot / "manifest.json").write_bytes(b"{}")
    return bench.updater()


def no_end_of_moves(bench):
    updater = installed(bench, bench.release(1), limits=UpdateLimits(moves_max=1))
    bench.accept(updater, bench.assign(bench.release(2)))
    for _ in range(4):
        updater.step(bench.link(), bench.clock.now())
        if updater.phase is Phase.STAGED:
            (bench.folder / "slots" / updater.installed.spare / "manifest.json").write_bytes(b"{}")
    return updater


SCENES = {
    "assignment_old": (an_old_assignment, "fetch", "committed"),
    "device_wrong": (another_devices_assignment, "fetch", "committed"),
    "use_case_wrong": (another_use_cases_assignment, "fetch", "committed"),
    "known_bad": (the_same_bad_bundle_again, "fetch", "fetching"),
    "release_old": (an_older_release_that_is_no_revert, "fetch", "fetching"),
    "revert_unknown": (a_revert_to_what_never_ran, "fetch", "fetching"),
    "blob_corrupt": (a_blob_changed_on_the_way, "fetch", "fetching"),
    "misfit": (a_bundle_that_needs_too_much, "fetch", "fetching"),
    "not_trusted": (a_network_that_is_none, "fetch", "fetching"),
    "golden_failed": (wrong_golden_answers, "trial", "trial"),
    "latency_over_deadline": (late_in_its_trial, "trial", "trial"),
    "decisions_failed": (decisions_that_fail, "guard", "committed"),
    "memory_over": (memory_that_grows, "guard", "committed"),
    "answers_stuck": (one_label_for_ever, "guard", "committed"),
    "hang": (a_hang, "guard", "committed"),
    "crash_loop": (three_crashes, "guard", "committed"),
    "trial_restarts": (two_starts_in_a_trial, "trial", "trial"),
    "slot_damaged": (a_damaged_slot, "slots", "committed"),
    "target_unknown": (a_withdrawn_release, "fetch", "fetching"),
    "moves_spent": (no_end_of_moves, "fetch", "idle"),
}


@pytest.mark.parametrize("code", SCENES)
def test_what_fails_is_told_as_time_phase_component_category_code_and_text(bench, code):
    scene, component, phase = SCENES[code]
    updater = scene(bench)
    fields = updater.report_fields()
    found = fields["failure"]
    assert (found.code, found.component, found.phase) == (code, component, phase)
    assert found.category == CODES[code].category
    assert found.text == fields["last_failure"] != ""
    assert found.at.tzinfo is not None
    again = decode(Report, encode(Report(at=bench.clock.now(), phase="idle", failure=found)))
    assert again.failure == found
    assert bench.updater(boot="y").state.failure is not None, "it outlives a start"


def test_a_bundle_that_passes_its_trial_ends_the_failure(bench):
    updater = installed(bench, bench.release(1), bench.release(2, broken=True))
    assert updater.state.failure is not None
    settle(bench, updater, bench.assign(bench.release(3)))
    assert (updater.state.failure, updater.state.last_failure) == (None, None)


def test_an_error_that_the_table_does_not_know_is_told_under_its_family(bench):
    now = bench.clock.now()
    assert failure_of(NotTrusted("x", code="brand_new"), phase="fetching", now=now).code == "not_trusted"
    made = failure_of(NotValid("x" * 5000), phase="fetching", now=now)
    assert (made.code, made.category, len(made.text)) == ("not_valid", "compatibility", 1000)


# -- the table -------------------------------------------------------------------------------------------------------


def test_every_code_of_the_table_is_used_and_every_refusal_has_a_row():
    files = [file for file in SOURCE.rglob("*.py") if file.name != "_failures.py"]
    used = set(re.findall(r'"([a-z0-9_]+)"', "\n".join(file.read_text() for file in files)))
    families = {"not_trusted", "not_valid"}
    assert set(CODES) - used - families == set()
    raised = {code for name in REFUSERS for code in _codes_raised(SOURCE / name)}
    assert raised - set(CODES) == set()


def test_the_table_in_the_docs_is_the_one_in_the_code():
    rows = [f"| `{code}` | {kind.component} | {kind.category} | {kind.meaning} |" for code, kind in CODES.items()]
    assert "\n".join(rows) in DOCS.read_text(), "\n".join(rows)


def _codes_raised(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("NotTrusted", "NotValid"):
            found |= {word.value.value for word in node.keywords if word.arg == "code" and hasattr(word.value, "value")}
    return found
