"""``edgewise version``."""

from __future__ import annotations

import platform

import typer

EXAMPLE = "Example: edgewise version"


def command() -> None:
    """Print the version of edgewise and of Python."""
    from edgewise import __version__

    typer.echo(f"edgewise {__version__}, Python {platform.python_version()}")
