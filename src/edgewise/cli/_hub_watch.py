"""``edgewise hub monitoring``, ``health``, ``threats`` and ``alerts``: how the fleet does, and what watches it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from edgewise.cli._hub import HUB, HUB_DATA, TOKEN, connect
from edgewise.cli._output import FORMAT, Format, show

if TYPE_CHECKING:
    from edgewise.ports.api import HubApi

PAGES_MAX = 20


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


def health(
    use_case: str = typer.Option("", "--use-case", help="only its devices"),
    hours: float = typer.Option(24, "--hours", min=0.1, help="how far back failures count"),
    late: bool = typer.Option(False, "--late", help="name the devices that are silent or behind"),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
    output: Format = FORMAT,
) -> None:
    """Show what goes wrong in the fleet, by kind, release and site, and which devices are silent or behind."""
    where = {"use_case": use_case} if use_case else {}
    with connect(hub, token, data_dir) as api:
        found = api.get("/fleet/health", hours=hours, **where)
        for which in ("silent", "behind") if late else ():
            found["devices"][f"{which}_names"] = _all(api, f"/fleet/health/{which}", where)
    if output is not Format.table:
        show(found, output)
        return
    for name in ("by_code", "by_release", "by_site"):
        show(found["failures"][name], output)
    rows = found["devices"]
    words = ("all", "silent", "behind")
    show([{"site": site, **{one: rows[one].get(site, 0) for one in words}} for site in rows["all"]], output)
    for which in ("silent", "behind") if late else ():
        show(rows[f"{which}_names"], output)


def threats(
    kind: str = typer.Option("", "--kind", help="only this kind, such as cloned_key"),
    hours: float = typer.Option(24, "--hours", min=0.1, help="how far back"),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
    output: Format = FORMAT,
) -> None:
    """Show signs of an attack: failed authentications, replays, cloned keys, versions and clocks that go back."""
    with connect(hub, token, data_dir) as api:
        found = api.get("/threats", hours=hours, limit=1000, **({"kind": kind} if kind else {}))
    if output is not Format.table:
        show(found, output)
        return
    show([one for one in found["kinds"] if one["signs"]], output, ("kind", "signs", "subjects", "last_at", "means"))
    show(found["rows"], output, ("last_at", "kind", "subject", "site", "count", "text"))


def alerts(hub: str = HUB, token: str = TOKEN, data_dir: Path = HUB_DATA, output: Format = FORMAT) -> None:
    """Show what people were told, by which way, and what could not be told."""
    with connect(hub, token, data_dir) as api:
        found = api.get("/alerts", limit=200)["alerts"]
    if output is not Format.table:
        show(found, output)
        return
    rows = [{**one, **{name: one["alert"][name] for name in ("at", "cause", "about", "title")}} for one in found]
    show(rows, output, ("at", "cause", "about", "title", "channel", "state", "attempts", "error"))


def _all(api: HubApi, path: str, where: dict[str, str]) -> list[Any]:
    """All pages, up to a bound that a person would not read beyond."""
    found: list[Any] = []
    after = ""
    for _ in range(PAGES_MAX):
        page = api.get(path, after=after, limit=1000, **where)
        found += page["devices"]
        if page["next"] is None:
            break
        after = page["next"]
    return found
