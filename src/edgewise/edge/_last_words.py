"""What the agent says before it ends itself because a bundle hangs; read, and counted, at the next start."""

from __future__ import annotations

from pathlib import Path

from edgewise.ports import replace_file
from edgewise.wire import NotValid, Record, decode, encode
from edgewise.wire._record import Time

FILE = "last-words.json"


class LastWords(Record):
    """Why the process ended itself."""

    bundle: str
    release: str | None = None
    text: str
    at: Time


def write_last_words(folder: Path, words: LastWords) -> None:
    """Leave them for the next start. Raises NotNow where the disk does not take them."""
    replace_file(folder / FILE, encode(words))


def read_last_words(folder: Path) -> LastWords | None:
    """What the process before this one left; None when it left nothing that can be read."""
    try:
        return decode(LastWords, (folder / FILE).read_bytes())
    except (OSError, NotValid):
        return None


def forget_last_words(folder: Path) -> None:
    """They are counted."""
    (folder / FILE).unlink(missing_ok=True)
