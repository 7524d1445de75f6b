"""``edgewise erasure``: order that data are forgotten, and see where that is done."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import typer

from edgewise.cli._edge_data import SINCE, UNTIL, in_zone
from edgewise.cli._hub import HUB, HUB_DATA, TOKEN, connect
from edgewise.cli._output import FORMAT, Format, show

app = typer.Typer(help="Have devices forget a subject, a site or a time; see where that is done.", no_args_is_help=True)
COLUMNS = ("number", "use_case", "subject", "site", "since", "until", "done", "devices", "who", "reason")


@app.command(epilog="Example: edgewise erasure create ward-monitor --subject 3f… --reason 'asked for on 4 May'")
def create(
    use_case: str = typer.Argument(..., help="the use case", show_default=False),
    subject: str = typer.Option("", "--subject", help="keyed hash, as `edgewise edge subject` prints it on the device"),
    site: str = typer.Option("", "--site", help="only there; all sites of the use case without it"),
    since: datetime | None = SINCE,
    until: datetime | None = UNTIL,
    reason: str = typer.Option(..., "--reason", help="why; it goes to devices and into the audit log, so name nobody"),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
    dry_run: bool = typer.Option(False, "--dry-run", help="say what would be sent, change nothing"),
    output: Format = FORMAT,
) -> None:
    """Order an erasure: of what all that is named covers. Devices report when it is done."""
    from edgewise.wire import NotValid

    if not (subject or site or since or until):
        raise NotValid("an erasure names --subject, --site, --from or --to; give at least one", code="usage")
    times = {"since": in_zone(since), "until": in_zone(until)}
    body: dict[str, Any] = {"use_case": use_case, "subject": subject, "site": site, "reason": reason}
    body |= {name: when.isoformat() for name, when in times.items() if when is not None}
    body = {name: value for name, value in body.items() if value}
    if dry_run:
        show(body, output)
        return
    with connect(hub, token, data_dir) as api:
        show(api.post("/erasures", body), output)


@app.command("list", epilog="Example: edgewise erasure list")
def list_(
    use_case: str = typer.Option("", "--use-case", help="only of this one"),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
    output: Format = FORMAT,
) -> None:
    """Show the erasures that were ordered, newest first, and on how many devices each is done."""
    with connect(hub, token, data_dir) as api:
        show(api.get("/erasures" + (f"?use_case={use_case}" if use_case else "")), output, COLUMNS)
