"""Settings of a trainer from a file."""

from __future__ import annotations

from pathlib import Path

import yaml

BYTES_MAX = 100_000


def read_settings(path: Path) -> dict[str, str | float | int | bool]:
    """What a YAML file of plain settings says.

    Raises:
        NotValid: it cannot be read, or is no mapping of names to texts, numbers, true and false.
    """
    from edgewise.wire import NotValid

    try:
        data = path.read_bytes()
        found = yaml.safe_load(data) if len(data) <= BYTES_MAX else None
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise NotValid(f"{path} cannot be read as YAML: {str(error)[:200]}", code="config_invalid") from error
    if not isinstance(found, dict):
        raise NotValid(f"{path} needs to hold settings such as `trees: 200`, one a line", code="config_invalid")
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, str | int | float):
            raise NotValid(
                f"{path}: {str(name)[:60]} is {str(value)[:60]!r}, needs to be a text, a number, true or false",
                code="config_invalid",
            )
    return found
