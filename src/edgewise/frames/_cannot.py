"""The error of everything that makes frames private."""

from __future__ import annotations

from edgewise.wire import NotValid


class CannotMakePrivate(NotValid):
    """The frame cannot be made private, so it cannot be kept. Its text names no value that was found."""

    def __init__(self, message: str, *, code: str = "cannot_make_private") -> None:
        super().__init__(message, code=code)
