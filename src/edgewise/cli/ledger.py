"""``edgewise ledger``: where a thing comes from, what became of it, and whether each round helped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from edgewise.cli._hub import HUB, HUB_DATA, TOKEN, connect
from edgewise.cli._output import FORMAT, Format, cell, short, show

WIDTH = 80
app = typer.Typer(
    help="The ledger: sample, label, revision, order, bundle, release, field result, followed in both directions.",
    no_args_is_help=True,
)


@app.command("show", epilog="Example: edgewise ledger show surface-inspection@2")
def show_entry(
    name: str = typer.Argument(..., help="id of a sample, revision, order, bundle or release", show_default=False),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
    output: Format = FORMAT,
) -> None:
    """Show one thing: what it was made of, and what was made of it."""
    with connect(hub, token, data_dir) as api:
        found = api.get(f"/ledger/{name}")
    if output is not Format.table:
        show(found, output)
        return
    typer.echo("\n".join(_entry_lines(found)))


@app.command(epilog="Example: edgewise ledger rounds surface-inspection")
def rounds(
    use_case: str = typer.Argument(..., help="the use case", show_default=False),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
    output: Format = FORMAT,
) -> None:
    """Show whether each release helped, beside the one that it replaced."""
    with connect(hub, token, data_dir) as api:
        found = api.get(f"/usecases/{use_case}/rounds")
    if output is not Format.table:
        show(found, output)
        return
    if not found:
        typer.echo("no release has replaced another one yet")
    for one in found:
        typer.echo("\n".join(_round_lines(one)))


def _entry_lines(found: Mapping[str, Any]) -> Iterator[str]:
    from edgewise.cli._rollout_words import text

    yield from text(f"{found['kind']} {found['id']}")
    yield from text(f"{short(found['at'])} UTC: {found['text']}")
    for name, value in found["facts"].items():
        if value not in (None, "", {}, []):
            yield from text(f"  {name.replace('_', ' ')}: {cell(value)}")
    for title, links in (("Made of", found["made_of"]), ("Led to", found["led_to"])):
        yield ""
        yield f"{title} {len(links)}:" if links else f"{title} nothing yet" if title == "Led to" else f"{title} nothing"
        for link in links:
            at = f"{short(link['at'])}  " if link["at"] else ""
            yield from text(f"  {link['kind']} {short(link['id'])}  {at}{link['text']}")
    if found["more"]:
        yield f"and {found['more']} more, in -o json of their own entries"


def _round_lines(one: Mapping[str, Any]) -> Iterator[str]:
    from edgewise.cli._rollout_words import text

    yield f"{one['release']} for {one['replaced']}, {short(one['at'])} UTC"
    yield from text(f"  {one['helped']['text']}")
    for site in one["gate"]:
        if site["candidate"] is not None and site["champion"] is not None:
            points = 100 * (site["candidate"] - site["champion"])
            yield from text(f"  gate, {site['site']}: {points:+.1f} points, {site['result']}")
    if one["taken_back"]:
        yield from text(f"  taken back: {one['taken_back']}")
