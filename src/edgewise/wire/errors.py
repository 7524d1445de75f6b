"""The three families of errors, grouped by who has to act.

Every message says what happened, the value seen, the value needed and what to do. The command line turns a family
into its exit code, the hub into an RFC 9457 problem, the device into a report.
"""

from __future__ import annotations


class EdgewiseError(Exception):
    """Base of every error that edgewise raises on purpose.

    Attributes:
        code: a stable word for programs, such as ``bundle_corrupt``.
        exit_code: what the command line returns (design section 8).
    """

    exit_code = 1

    def __init__(self, message: str, *, code: str = "failed") -> None:
        super().__init__(message)
        self.code = code


class NotNow(EdgewiseError):
    """The world is busy (link down, disk full, port taken): wait and try again, up to a bound.

    Attributes:
        retry_s: seconds after which it may be otherwise, where that is known.
    """

    exit_code = 4

    def __init__(self, message: str, *, code: str = "failed", retry_s: float | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_s = retry_s


class NotTrusted(EdgewiseError):
    """A signature, hash or version does not hold: refuse, report, never retry."""

    exit_code = 3


class NotValid(EdgewiseError):
    """The caller asked for what cannot be: a person fixes it."""

    exit_code = 2
