"""``edgewise edge rotate-key``, ``recover``, ``erase``, ``subject``: what lies on a device, its key, forgetting it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import typer

from edgewise.cli._output import FORMAT, Format, show

DEVICE_DIR = typer.Option(
    Path("edgewise-device"), "--data-dir", envvar="EDGEWISE_EDGE_DATA_DIR", help="the device's folder"
)
TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"]
SINCE = typer.Option(None, "--from", formats=TIMES, help="of what was taken from then on; UTC unless it names a zone")
UNTIL = typer.Option(None, "--to", formats=TIMES, help="of what was taken until then")


def rotate_key(data_dir: Path = DEVICE_DIR, output: Format = FORMAT) -> None:
    """Lock the device's data with a new key. Nothing is encrypted anew, so it takes a moment; the agent must be off."""
    from edgewise.edge._data_key import rotate
    from edgewise.edge.agent import load_config, load_identity, locked

    load_identity(data_dir)
    with locked(data_dir):
        show(rotate(data_dir, load_config(data_dir).data_key_from), output)


def recover(
    key_file: Path | None = typer.Option(None, "--key-file", help="the former key, where it is not in its old place"),
    data_dir: Path = DEVICE_DIR,
    output: Format = FORMAT,
) -> None:
    """Move what was set aside for want of its key into the present outbox, now that the key is back. Agent off."""
    from edgewise.edge.recover import recover as bring_back

    show(bring_back(data_dir, key_file), output)


def erase(
    subject: str = typer.Option("", "--subject", help="the subject's id, or the group, as the source names it"),
    site: str = typer.Option("", "--site", help="of this site; another one than the device's covers nothing"),
    since: datetime | None = SINCE,
    until: datetime | None = UNTIL,
    reason: str = typer.Option("", "--reason", help="why; it goes into the audit log, so name nobody"),
    data_dir: Path = DEVICE_DIR,
    output: Format = FORMAT,
) -> None:
    """Forget what all that is named covers: waiting records, their frames, what memory held. The agent must be off."""
    from edgewise.edge.forget import erase_here

    done = erase_here(data_dir, subject=subject, site=site, since=in_zone(since), until=in_zone(until), reason=reason)
    show(done | {name: len(done[name]) for name in ("sealed", "segments", "stored")}, output)


def subject(
    name: str = typer.Argument(..., help="the subject's id, or the group, as the source names it", show_default=False),
    data_dir: Path = DEVICE_DIR,
    output: Format = FORMAT,
) -> None:
    """Print the keyed hash under which this device knows a subject: for `edgewise erasure create --subject`."""
    from edgewise.edge.forget import subject_name

    show({"subject": subject_name(data_dir, name)}, output)


def in_zone(when: datetime | None) -> datetime | None:
    """The time, in UTC where it names no zone."""
    return when.replace(tzinfo=UTC) if when is not None and when.tzinfo is None else when
