"""The command line: one small file per command, heavy imports only where a command runs."""

from __future__ import annotations

import sys

from edgewise.cli._app import build

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> None:
    """Run one command; an error becomes one clear sentence and a stable exit code (design section 8)."""
    from edgewise.cli._errors import run

    words = sys.argv[1:] if arguments is None else arguments
    sys.exit(run(build(only=words[0] if words else None), arguments))
