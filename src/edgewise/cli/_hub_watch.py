"""``edgewise hub monitoring``, ``health``, ``threats`` and ``alerts``: how the fleet does, and what watches it."""

from __future__ import annotations

from pathlib import Path

import typer


def monitoring(
    output: Path = typer.Option(..., "-o", "--output", help="folder for the files; made where it is not there"),
) -> None:
    """Write Grafana dashboards, Prometheus alert rules with their tests, and a scrape configuration."""
    from importlib import resources

    from edgewise.wire import NotNow

    folder = resources.files("edgewise.hub") / "deploy" / "monitoring"
    names = sorted(one.name for one in folder.iterdir() if one.is_file())
    try:
        output.mkdir(parents=True, exist_ok=True)
        for name in names:
            (output / name).write_bytes((folder / name).read_bytes())
    except OSError as error:
        raise NotNow(f"{output} cannot be written: {error}; name another folder with -o", code="not_written") from error
    for name in names:
        typer.echo(f"{output / name}")
