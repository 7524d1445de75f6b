"""The hub's own file tokens: the first administrator's, and those of programs that run beside the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias, get_args

from edgewise.hub.access import Person
from edgewise.ports import Chance, replace_file
from edgewise.trust import new_token, token_digest

FileRole: TypeAlias = Literal["admin", "worker", "signer"]
FILE_ROLES: tuple[FileRole, ...] = get_args(FileRole)
TOKEN_BYTES = 32


class Tokens:
    """The file tokens of this hub. Only their hashes are held for checking; the files are for those who may read them.

    Args:
        folder: where ``<role>.token`` files are found or made, mode 0600; None keeps the tokens in memory.
    """

    def __init__(self, chance: Chance, folder: Path | None) -> None:
        if folder is not None:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._texts = {role: _load_or_make(chance, folder, role) for role in FILE_ROLES}
        self._roles = {token_digest(text): role for role, text in self._texts.items()}

    def text(self, role: FileRole) -> str:
        """The token of a role, for programs that this process starts."""
        return self._texts[role]

    def person(self, token: str) -> Person | None:
        """Whoever shows this token; None where it is none of the files'."""
        # Looking a hash up in a table leaks nothing useful by its time: the hash of a guess is not the guess.
        role = self._roles.get(token_digest(token))
        return None if role is None else Person(name=role, role=role)


def _load_or_make(chance: Chance, folder: Path | None, role: FileRole) -> str:
    if folder is None:
        return new_token(chance.bytes(TOKEN_BYTES))
    place = folder / f"{role}.token"
    if place.is_file():
        return place.read_text().strip()
    text = new_token(chance.bytes(TOKEN_BYTES))
    replace_file(place, text.encode() + b"\n", mode=0o600)
    return text
