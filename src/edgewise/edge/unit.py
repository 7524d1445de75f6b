"""The systemd unit of a device, filled in; the template lies in ``deploy/`` beside this file."""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Sequence
from pathlib import Path

from edgewise.wire import NotValid

STATE_ROOT = Path("/var/lib")
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")
MEMORY = re.compile(r"[1-9][0-9]*[KMGT]?")


def unit_text(
    *,
    python: str,
    data_dir: Path,
    source: Path | None = None,
    owner: str | None = None,
    device: str = "",
    memory_max: str = "1G",
    options: Sequence[str] = (),
) -> str:
    """The unit file.

    A folder directly under ``/var/lib`` becomes the unit's state directory under a user that systemd makes up
    (``DynamicUser``); any other folder keeps its owner.

    Args:
        python: the interpreter that has edgewise.
        data_dir: the device's folder, absolute.
        source: as `edgewise edge run --source` takes it; None where ``edge.yaml`` names pipelines.
        owner: user of a folder elsewhere.
        device: its name, for people.
        memory_max: bytes, or a number with K, M, G or T.
        options: further options of `edgewise edge run`.
    Raises:
        NotValid: a path that is not absolute, a memory bound that is none, or a folder elsewhere without an owner.
    """
    for path in (data_dir, source):
        if path is not None and not path.is_absolute():
            raise NotValid(f"{path} needs to be an absolute path in a unit", code="path_relative")
    if not MEMORY.fullmatch(memory_max):
        raise NotValid(f"the memory bound is {memory_max!r}, needs a number such as 800M or 1G", code="memory_invalid")
    run = ["-m", "edgewise", "edge", "run", "--data-dir", str(data_dir)]
    run += ["--source", str(source)] if source is not None else []
    run += options
    values = {
        "DEVICE": _plain(device) or data_dir.name,
        "COMMAND": " ".join(_quoted(word) for word in [python, *run]),
        "DATA_DIR": _percent(str(data_dir)),
        "IDENTITY": "\n".join(_identity(data_dir, owner)),
        "MEMORY_MAX": memory_max,
    }
    template = importlib.resources.files("edgewise.edge").joinpath("deploy/edgewise-edge.service").read_text()
    return re.sub("@(" + "|".join(values) + ")@", lambda found: values[found[1]], template)


def _identity(data_dir: Path, owner: str | None) -> list[str]:
    groups = "SupplementaryGroups=video dialout"  # they may open cameras and serial lines
    if data_dir.parent == STATE_ROOT and NAME.fullmatch(data_dir.name):
        return ["DynamicUser=yes", f"StateDirectory={data_dir.name}", "StateDirectoryMode=0700", groups]
    if owner is None or not NAME.fullmatch(owner):
        raise NotValid(
            f"the owner of {data_dir} is {owner!r}, needs a user's name: enrol the device first as the user that shall "
            f"run it, or choose a folder such as {STATE_ROOT / 'edgewise'}",
            code="owner_unknown",
        )
    return [f"User={owner}", f"ReadWritePaths={_quoted(str(data_dir))}", groups]


def _percent(text: str) -> str:
    """``%`` begins a specifier in a unit file."""
    if any(ord(letter) < 32 for letter in text):
        raise NotValid(f"{text!r} has control characters, which a unit file cannot hold", code="path_invalid")
    return text.replace("%", "%%")


def _quoted(word: str) -> str:
    """One word of a command line as systemd reads it (systemd.service(5), Command lines)."""
    safe = _percent(word).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{safe}"' if re.search(r"[\s\"'\\;]", word) else safe


def _plain(text: str) -> str:
    return _percent(" ".join(text.split()))
