"""An app's function is found among the installed packages, made anew for each pipeline; trouble is one sentence."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edgewise.edge.apps import act_maker
from edgewise.ports import Frame
from edgewise.wire import Decision, NotValid

CODE = """
def make():
    row = 0
    def act(frame, decision):
        nonlocal row
        row = row + 1 if decision.label == "crack" else 0
        return f"{row} cracks in a row, the last one on {frame.name}" if row == 2 else None
    return act
number = 4
"""


def install(folder: Path, name: str, value: str, code: str = CODE) -> None:
    """A package as an installer leaves it."""
    (folder / f"{name}.py").write_text(code)
    about = folder / f"{name}-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    (about / "entry_points.txt").write_text(f"[edgewise.acts]\npress = {value}\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("press_app", "other_app"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def frame(name: str) -> Frame:
    return Frame(name=name, data=b"", media_type="image/png", taken_at=datetime(2026, 1, 1, tzinfo=UTC))


def decision(label: str) -> Decision:
    return Decision(label=label, confidence=0.9, margin=0.8, bundle="0" * 64)


def test_an_installed_app_raises_alarms_with_a_state_of_its_own_in_each_pipeline(site: Path) -> None:
    install(site, "press_app", "press_app:make")
    make = act_maker("press")
    one, other = make(), make()
    assert one is not None
    assert other is not None
    assert [one(frame("a"), decision("crack")), other(frame("b"), decision("crack"))] == [None, None]
    assert one(frame("c"), decision("crack")) == "2 cracks in a row, the last one on c"
    assert one(frame("d"), decision("none")) is None


def test_without_an_app_there_is_nothing_to_act() -> None:
    assert act_maker("nobody-has-this")() is None


@pytest.mark.parametrize(
    ("value", "code", "words"),
    [
        ("press_app:missing", CODE, "cannot be loaded from press_app:missing"),
        ("press_app:make", "raise RuntimeError('no camera library')", "RuntimeError: no camera library"),
        ("press_app:number", CODE, "which is no function"),
    ],
)
def test_an_app_that_cannot_be_loaded_is_named(site: Path, value: str, code: str, words: str) -> None:
    install(site, "press_app", value, code)
    with pytest.raises(NotValid, match=words):
        act_maker("press")


def test_two_packages_may_not_claim_one_app(site: Path) -> None:
    install(site, "press_app", "press_app:make")
    install(site, "other_app", "other_app:make")
    with pytest.raises(NotValid, match="claimed by other_app:make, press_app:make"):
        act_maker("press")
