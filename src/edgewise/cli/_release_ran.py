"""What ran where, as people read it, at most 80 columns wide."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer

from edgewise.cli._rollout_words import clock, columns


def print_moment(page: Mapping[str, Any]) -> None:
    """What each device ran at one moment; `page` is the answer of GET /ran."""
    rows = [["device", "site", "release", "variant", "since", "sure", "last seen so"]]
    for item in page["ran"]:
        sure = "yes" if item["sure"] else "no"
        since, last = clock(item["since"]), clock(item["last_seen_at"])
        rows.append([item["device"], item["site"], item["release"], item["variant"] or "–", since, sure, last])
    _print(f"What ran at {clock(page['at'])} UTC", rows, page["next"])


def print_stretches(page: Mapping[str, Any]) -> None:
    """Where a release ran; `page` is the answer of GET /releases/{id}/ran."""
    rows = [["device", "site", "variant", "since", "until", "last seen so"]]
    for item in page["stretches"]:
        until = clock(item["until"]) if item["until"] else "runs"
        since, last = clock(item["since"]), clock(item["last_seen_at"])
        rows.append([item["device"], item["site"], item["variant"] or "–", since, until, last])
    _print(f"Where {page['release']} ran", rows, page["next"])


def _print(title: str, rows: list[list[str]], more: str | None) -> None:
    typer.echo(title)
    typer.echo("\n".join(columns(rows)) if len(rows) > 1 else "nowhere, as far as the hub has heard")
    if more:
        typer.echo("there are more; ask for them with --limit")
