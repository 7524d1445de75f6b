"""The documentation names what exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TESTS = "\n".join(path.read_text() for path in sorted((ROOT / "tests").rglob("test_*.py")))
NAMED = sorted(set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "invariants.md").read_text())))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
ROOMS = sorted(path.name for path in (ROOT / "src" / "edgewise").iterdir() if (path / "__init__.py").is_file())


@pytest.mark.parametrize(
    "name", sorted(set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "invariants.md").read_text())))
)
def test_every_test_that_holds_an_invariant_exists(name: str) -> None:
    assert re.search(rf"def {name}\(", TESTS), f"docs/invariants.md names {name}, which is no test"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)", page.read_text())
    broken = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert broken == []


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_has_a_page_and_a_sentence(room: str) -> None:
    assert (ROOT / "docs" / f"{room}.md").is_file(), f"docs/{room}.md is missing"
    text = (ROOT / "src" / "edgewise" / room / "__init__.py").read_text()
    assert text.startswith('"""'), f"the room {room} does not say what it is"
