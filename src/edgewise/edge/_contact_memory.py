"""What is remembered of the last contacts, so that `edge status` and `edge doctor` can tell while the agent is off."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from edgewise.edge._contacts import Contacts
from edgewise.ports import replace_file
from edgewise.wire import NotNow, NotValid, Record, decode, encode
from edgewise.wire._record import Time

FILE = "contact.json"
EVERY_S = 600.0  # flash wears out; a failure that begins or ends is written at once


class ContactNote(Record):
    """The newest contacts, by both clocks."""

    last_at: Time | None = None  # by this device's clock
    hub_at: Time | None = None  # by the hub's, in the same contact
    failures: int = 0  # in a row since
    error: str | None = None


def read_contact_note(folder: Path) -> ContactNote:
    """What was remembered; an empty note where there is nothing that can be read."""
    try:
        return decode(ContactNote, (folder / FILE).read_bytes())
    except (OSError, NotValid):
        return ContactNote()


class ContactMemory:
    """Writes the note when it says something new, and seldom otherwise.

    Args:
        folder: of the device.
        every_s: least seconds between two notes that say the same.
    """

    def __init__(self, folder: Path, *, every_s: float = EVERY_S) -> None:
        self._folder = folder
        self._every_s = every_s
        self._note = read_contact_note(folder)
        self._written_s: float | None = None

    def step(self, contacts: Contacts, now_s: float) -> None:
        """Look at the contacts. A disk that does not take the note is no trouble: it only helps people.

        Args:
            now_s: by the monotonic clock.
        """
        if contacts.last_at is None and not contacts.failures:
            return
        note = ContactNote(
            last_at=contacts.last_at or self._note.last_at,
            hub_at=contacts.hub_at or self._note.hub_at,
            failures=contacts.failures,
            error=contacts.error,
        )
        same = (note.failures > 0, note.error) == (self._note.failures > 0, self._note.error)
        if same and self._written_s is not None and now_s - self._written_s < self._every_s:
            return
        try:
            replace_file(self._folder / FILE, encode(note))
        except NotNow:
            return
        self._note, self._written_s = note, now_s


def newest_known(*moments: datetime | None) -> datetime | None:
    """The latest of the moments that this device has certainly lived through."""
    return max((at for at in moments if at is not None), default=None)
