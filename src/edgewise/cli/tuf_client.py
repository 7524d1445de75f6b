"""`edgewise-tuf-client`: the TUF client by itself, with the command line that the public conformance suite drives.

    edgewise-tuf-client --metadata-dir D init ROOT
    edgewise-tuf-client --metadata-dir D --metadata-url U refresh
    edgewise-tuf-client --metadata-dir D --metadata-url U --target-name T --target-base-url B --target-dir O download

Comes back with 0, or with 1 and a sentence on the error stream.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NoReturn

from edgewise.ports._clock import Clock
from edgewise.wire.errors import EdgewiseError, NotValid

NEEDS = {
    "init": ("root",),
    "refresh": ("metadata_url",),
    "download": ("metadata_url", "target_name", "target_base_url", "target_dir"),
}


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run one command and leave with its exit code."""
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None, *, clock: Clock | None = None) -> int:
    """Run one command; comes back with 0 or 1.

    Args:
        clock: the time that expiry is judged by; the machine's if None.
    """
    try:
        _act(_parse(arguments), clock)
    except EdgewiseError as error:
        print(f"edgewise-tuf-client: {error} [{error.code}]", file=sys.stderr)  # noqa: T201 – this is a command
        return 1
    except SystemExit as leave:  # of argparse: 2 for usage, which the protocol does not know
        return 1 if leave.code else 0
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="edgewise-tuf-client", description="Refresh TUF metadata, download targets.")
    parser.add_argument("--metadata-dir", type=Path, required=True, help="folder of the metadata that are trusted")
    parser.add_argument("--metadata-url", help="address of the repository's metadata")
    parser.add_argument("--target-name", action="append", help="path of a target; more than once for several")
    parser.add_argument("--target-base-url", help="address of the repository's targets")
    parser.add_argument("--target-dir", type=Path, help="folder for the downloaded targets")
    parser.add_argument("command", choices=NEEDS, help="what to do")
    parser.add_argument("root", nargs="?", type=Path, help="for init: a file with the root to trust")
    asked = parser.parse_args(arguments)
    for name in NEEDS[asked.command]:
        if getattr(asked, name) is None:
            parser.error(f"{asked.command} needs {'ROOT' if name == 'root' else '--' + name.replace('_', '-')}")
    return asked


def _act(asked: argparse.Namespace, clock: Clock | None) -> None:
    from edgewise.ports._tuf import TufClient, start_trust

    if asked.command == "init":
        start_trust(asked.metadata_dir, _read(asked.root))
        return
    with TufClient(asked.metadata_dir, asked.metadata_url, clock=clock) as client:
        client.refresh()
        for name in asked.target_name if asked.command == "download" else ():
            client.download(name, asked.target_base_url, asked.target_dir)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise NotValid(
            f"{path} cannot be read ({error.strerror}); needs a root metadata file", code="no_file"
        ) from error
