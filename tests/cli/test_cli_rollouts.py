"""Rollouts and devices on the command line, against a hub that is served on a loopback port."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from edgewise.cli._app import build
from edgewise.cli._errors import run
from edgewise.wire import Failure

_SPEC = importlib.util.spec_from_file_location("loop_world", Path(__file__).parents[1] / "loop_world.py")
assert _SPEC is not None
assert _SPEC.loader is not None
loop_world = importlib.util.module_from_spec(_SPEC)
sys.modules["loop_world"] = loop_world
_SPEC.loader.exec_module(loop_world)

FLEET = tuple(f"press-{index}" for index in range(6))
PRICED = {"price_per_gb": 1e6, "currency": "EUR"}


class Said(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def words(self) -> str:
        """What was printed, each sentence on one line."""
        return self.out.replace("\n  ", " ")


Ask = Callable[..., Said]


@pytest.fixture(scope="module")
def fleet() -> Any:
    """Six devices at two sites that run parts@1, and parts@2 on its way to nobody yet."""
    world = loop_world.LoopWorld(loop_world.a_usecase(connectivity=PRICED))
    for index, name in enumerate(FLEET):
        world.enrol(name, site="ab"[index % 2])
        world.hear(name)
    world.roll_out(str(world.sign(world.bundle(name="one"), override="drill").id))
    go(world)
    world.sign(world.bundle(name="two"), override="drill")
    for name in FLEET:
        world.hear(name, facts={"network_metered": name == "press-1", "ram_mb": 512.0})
    with loop_world.served(world.hub) as url:
        yield world, url


@pytest.fixture
def ask(fleet: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Runs a command and hands back what it said; a table is never wider than 80 columns."""
    world, url = fleet
    monkeypatch.setenv("COLUMNS", "80")

    def edgewise(*arguments: str, token: str = "") -> Said:
        full = [*arguments, "--hub", url, "--token", token or world.hub.tokens.text("admin")]
        code = run(build(), full)
        out, err = capsys.readouterr()
        if "-o" not in arguments:
            assert max(map(len, out.splitlines()), default=0) <= 80, out
        return Said(code, out, err)

    return edgewise


def go(world: Any, minutes: int = 8) -> None:
    for _ in range(minutes * 4):
        world.tick(15)
        for name in FLEET:
            world.hear(name)
    world.tick()


def release(world: Any) -> str:
    world.count_of_releases = getattr(world, "count_of_releases", 2) + 1
    return str(world.sign(world.bundle(name=f"net-{world.count_of_releases}"), override="drill").id)


def made(ask: Ask, which: str, *options: str) -> str:
    said = ask("rollout", "create", which, "-o", "json", *options)
    assert said.code == 0, said.err
    return str(json.loads(said.out)["id"])


def test_a_preview_says_who_takes_part_the_waves_the_bytes_and_the_time(ask: Ask) -> None:
    said = ask("rollout", "preview", "parts@2", "--wave", "1", "--wave", "50%", "--select", "site=a")
    assert said.code == 0, said.err
    for text in (
        "parts@2 for 3 of 6 devices of parts, back to parts@1.",
        "wave 1  1 ",
        "wave 3  1 ",
        "bytes are fetched, none of it over metered links.",
        "Finished 2026-05-04",
        "Not selected: 3",
        "  3: site is b, needs eq a (press-1, press-3, press-5)",
        "Assumed: ",
    ):
        assert text in said.out
    seen = json.loads(ask("rollout", "preview", "parts@2", "--wave", "1", "-o", "json").out)
    assert [wave["total"] for wave in seen["waves"]] == [1, 5]
    assert ask("rollout", "status", "-o", "json").out.count("parts@2") == 0, "nothing was started"


def test_a_preview_of_what_could_never_work_shows_it_and_leaves_with_2(ask: Ask) -> None:
    said = ask("rollout", "preview", "parts@2", "--select", "site=moon")
    assert said.code == 2
    assert "parts@2 for 0 of 6 devices" in said.out
    assert "select matches none of 6 devices" in said.err
    assert "change select, or the labels of the devices" in said.err
    assert "select matches none" in ask("rollout", "create", "parts@2", "--dry-run", "--select", "site=moon").err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--select", "site=moon"], "select matches none of 6 devices"),
        (["--starts-at", "2031-01-01T00:00Z"], "starts_at is 2031-01-01"),
        (["--bake-s", "1e9"], "bake_s"),
        (["--return-to", "parts@7"], "return_to is parts@7"),
        (["--wave", "press-9"], "a wave names 'press-9', which parts does not have"),
        (["--rate", "fast"], "--rate 'fast': 'fast' is no number"),
        (["--starts-at", "tomorrow"], "'tomorrow' is no time with a zone"),
        (["--select", "site"], "a condition is a label or fact"),
        (["--shadow", "some"], "a number of devices (5) or a share"),
        (["--metered-bytes-max", "lots"], "bytes are a number"),
        (["--metered-bytes-max", "1"], "metered_bytes_max is 1; raise it"),
        (["--wave", "5x2", "--wave", "100%"], "only the last wave can grow"),
        (["--approval", "everybody"], "approval"),
        (["--policy", "nowhere.yaml"], "there is no file nowhere.yaml"),
    ],
)
def test_create_starts_nothing_that_cannot_work_and_says_why(ask: Ask, options: list[str], says: str) -> None:
    said = ask("rollout", "create", "parts@2", *options)
    assert said.code == 2, said.out
    assert says in said.err.replace("│", "").replace("\n", " ").replace("  ", " ")
    assert "Traceback" not in said.err
    assert "parts@2" not in ask("rollout", "status").out


def test_a_release_that_does_not_exist_is_refused(ask: Ask) -> None:
    for command in (["create"], ["preview"], ["create", "--dry-run"]):
        said = ask("rollout", command[0], "parts@9", *command[1:])
        assert (said.code, said.out) == (2, "")
        assert "parts@9" in said.err


def test_a_policy_comes_from_a_file_whose_mistakes_have_lines_and_options_win(ask: Ask, tmp_path: Path) -> None:
    night = tmp_path / "night.yaml"
    night.write_text("rollout:\n  waves: [{devices: 2}]\n  bake_s: 30\n  shadow: {devices: 1}\n")
    seen = json.loads(ask("rollout", "preview", "parts@2", "--policy", str(night), "--bake-s", "5", "-o", "json").out)
    assert (seen["policy"]["bake_s"], seen["policy"]["shadow"]["devices"]) == (5, 1)
    assert seen["policy"]["waves"][0]["devices"] == 2
    assert seen["shadow"]["total"] == 1
    night.write_text("bake_s: 30\nwave_s_mx: 3\n")
    said = ask("rollout", "preview", "parts@2", "--policy", str(night))
    assert said.code == 2
    assert "line 2: wave_s_mx: Extra inputs are not permitted (seen 3)" in said.err


def test_create_says_what_it_costs_and_status_says_what_it_waits_for(ask: Ask, fleet: Any) -> None:
    world, _ = fleet
    new = release(world)
    said = ask("rollout", "create", new, "--wave", "1", "--why", "drill")
    assert said.code == 0, said.err
    first = said.words.splitlines()[0]
    assert first.startswith(f"{new}: ")
    assert "over metered links: " in first
    assert first.endswith(" EUR.")
    which = json.loads(ask("rollout", "status", "-o", "json").out)[0]["id"]
    world.tick()
    told = ask("rollout", "status", which)
    assert f"Rollout {which}: {new} is running." in told.words
    assert "It waits: 0 of 1 devices have committed" in told.words
    assert "Next: wave 2 of 2 opens when wave 1 of 2 has passed." in told.words
    assert "wave 1  open" in told.out
    assert which in ask("rollout", "status").out
    assert ask("rollout", "pause", which).out == f"{which} is paused\n"
    paused = ask("rollout", "status", which)
    assert "Next: nothing, until a person resumes it" in paused.words
    assert f"  edgewise rollout resume {which}\n  edgewise rollout revert {which} --reason TEXT" in paused.out
    assert ask("rollout", "resume", which).out == f"{which} is running\n"
    assert ask("rollout", "revert", which, "--reason", "a drill").out == f"{which} is reverting\n"
    go(world)
    over = ask("rollout", "status", which)
    assert f"{new} is reverted." in over.words
    assert "Next: nothing; it is over, and its devices are at parts@1." in over.words
    assert ask("rollout", "resume", which).code == 2


def test_a_second_person_approves_or_denies(ask: Ask, fleet: Any) -> None:
    world, _ = fleet
    later = ("--approval", "person", "--starts-at", "2026-05-05T22:00+02:00")
    new = release(world)
    which = made(ask, new, *later)
    told = ask("rollout", "status", which)
    assert "Next: somebody else than admin approves or denies it; no device is touched before." in told.words
    assert f"  edgewise rollout approve {which}" in told.out
    assert ask("rollout", "approve", which).code == 3, "who made it cannot approve it"
    token = str(json.loads(ask("hub", "token", "create", "bob", "--role", "approver", "-o", "json").out)["token"])
    assert ask("rollout", "deny", which, "--reason", "not before the audit", token=token).out == f"{which} is aborted\n"
    which = made(ask, new, *later)
    assert ask("rollout", "approve", which, token=token).out == f"{which} is running\n"
    world.tick()
    assert "Next: it begins at 2026-05-05 20:00 UTC." in ask("rollout", "status", which).words
    assert ask("rollout", "abort", which, "--reason", "drill").out == f"{which} is aborted\n"
    assert "Next: nothing; it is over." in ask("rollout", "status", which).words


def test_failures_are_told_with_time_phase_component_and_code(ask: Ask, fleet: Any) -> None:
    world, _ = fleet
    assert ask("rollout", "failures", "--device", "press-5").out == "none\n"
    failed = Failure(
        at=world.hub.now(),
        phase="trial",
        component="runtime",
        category="quality",
        code="golden_wrong",
        text="3 of 4 golden outputs differ, by up to 0.2, at most 0.001 allowed",
    )
    world.hear("press-5", failure=failed, last_failure=failed.text)
    said = ask("rollout", "failures", "--device", "press-5")
    assert "press-5 (b)  trial, runtime, quality: golden_wrong" in said.out.replace("\n  ", " ")
    assert "golden outputs differ" in said.out
    assert json.loads(ask("rollout", "failures", "-o", "json").out)["failures"][0]["code"] == "golden_wrong"


def test_what_ran_where_at_a_moment_and_where_a_release_ran(ask: Ask) -> None:
    said = ask("release", "ran", "--site", "a")
    assert said.code == 0, said.err
    assert [line.split()[0] for line in said.out.splitlines()[2:]] == ["press-0", "press-2", "press-4"]
    assert "parts@1" in said.out
    before = ask("release", "ran", "--at", "2026-05-04T07:00Z").out
    assert before == "What ran at 2026-05-04 07:00 UTC\nnowhere, as far as the hub has heard\n"
    where = ask("release", "ran", "parts@1").out
    assert where.startswith("Where parts@1 ran\n")
    assert where.count("runs") == 6
    assert ask("release", "ran", "parts@1", "--site", "a").code == 2
    assert ask("release", "ran", "parts@7").code == 2
    assert json.loads(ask("release", "ran", "-o", "json").out)["ran"][0]["device"] == "press-0"


def test_devices_are_listed_shown_pinned_and_resolved(ask: Ask) -> None:
    listed = ask("device", "list", "--site", "b").out
    assert [line.split()[:3] for line in listed.splitlines()[1:]] == [
        ["press-1", "b", "parts@1"],
        ["press-3", "b", "parts@1"],
        ["press-5", "b", "parts@1"],
    ]
    shown = ask("device", "show", "press-3").out
    assert "press-3 at b, use case parts; last heard of" in shown
    assert "Runs: parts@1, committed." in shown
    assert ask("device", "pin", "press-3", "--reason", "audit week", "--release", "parts@2").code == 2
    assert ask("device", "pin", "press-3", "--reason", "audit week").out == "press-3 stays at parts@1\n"
    assert "pinned: audit week" in ask("device", "list").out
    assert "pinned to parts@1" in ask("rollout", "preview", "parts@2").out
    assert ask("device", "unpin", "press-3").out == "press-3 is not pinned\n"
    assert "pinned" not in ask("device", "show", "press-3").out
    said = ask("device", "resolve", "press-3", "--how", "adopt", "--reason", "drill")
    assert said.code == 2, "it is not in conflict"
    assert ask("device", "show", "nobody").code == 2
    assert json.loads(ask("device", "show", "press-3", "-o", "json").out)["site"] == "b"
