"""API tokens of people and their programs: one for each role, made at the first start."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias, get_args

from edgewise.ports import Chance, replace_file
from edgewise.trust import new_token, token_digest
from edgewise.wire import NotTrusted

Role: TypeAlias = Literal["admin", "worker", "signer"]
ROLES: tuple[Role, ...] = get_args(Role)
TOKEN_BYTES = 32


class Tokens:
    """The tokens of this hub. Only their hashes are held for checking; the files are for those who may read them.

    Args:
        folder: where ``<role>.token`` files are found or made, mode 0600; None keeps the tokens in memory.
    """

    def __init__(self, chance: Chance, folder: Path | None) -> None:
        if folder is not None:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._texts = {role: _load_or_make(chance, folder, role) for role in ROLES}
        self._roles = {token_digest(text): role for role, text in self._texts.items()}

    def text(self, role: Role) -> str:
        """The token of a role, for programs that this process starts."""
        return self._texts[role]

    def role(self, token: str) -> Role:
        """The role of whoever shows this token.

        Raises:
            NotTrusted: nobody was given it.
        """
        # Looking a hash up in a table leaks nothing useful by its time: the hash of a guess is not the guess.
        role = self._roles.get(token_digest(token))
        if role is None:
            raise NotTrusted(
                "this API token is not known here; use one of the hub's tokens/<role>.token", code="no_token"
            )
        return role


def _load_or_make(chance: Chance, folder: Path | None, role: Role) -> str:
    if folder is None:
        return new_token(chance.bytes(TOKEN_BYTES))
    place = folder / f"{role}.token"
    if place.is_file():
        return place.read_text().strip()
    text = new_token(chance.bytes(TOKEN_BYTES))
    replace_file(place, text.encode() + b"\n", mode=0o600)
    return text
