"""Where the hub is and who asks: the options that every client command shares."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from edgewise.ports.api import HubApi

ROOT_DIR = Path("edgewise-data")
DATA_DIR = ROOT_DIR / "hub"
HUB = typer.Option("http://127.0.0.1:8080", "--hub", envvar="EDGEWISE_HUB", help="address of the hub")
TOKEN = typer.Option(
    "",
    "--token",
    envvar="EDGEWISE_TOKEN",
    help="API token; else EDGEWISE_TOKEN_FILE, else tokens/admin.token of --data-dir",
)
HUB_DATA = typer.Option(DATA_DIR, "--data-dir", envvar="EDGEWISE_DATA_DIR", help="the hub's folder, to find its token")


def connect(hub: str, token: str, data_dir: Path, role: str = "admin", *, wait_s: float = 30.0) -> HubApi:
    """A client of the hub with the best token at hand.

    Args:
        wait_s: longest wait for one answer.
    Raises:
        NotTrusted: no token was given and none is found.
    """
    from edgewise.ports.api import HubApi
    from edgewise.wire import NotTrusted

    named = os.environ.get("EDGEWISE_TOKEN_FILE")
    place = Path(named) if named else data_dir / "tokens" / f"{role}.token"
    if not token and place.is_file():
        token = place.read_text().strip()
    if not token:
        raise NotTrusted(
            f"no API token: {place} does not exist; give --token, EDGEWISE_TOKEN or the hub's --data-dir",
            code="no_token",
        )
    return HubApi(hub, token, timeout_s=wait_s)
