"""``edgewise edge status``: what the device does and why, in sentences for people and values for programs."""

from __future__ import annotations

import sys
from pathlib import Path

from edgewise.cli._output import Format, show


def print_status(data_dir: Path, output: Format) -> None:
    """The story of the device in lines of 80 columns, or everything known as JSON or YAML."""
    from edgewise.edge._story import lines
    from edgewise.edge.agent import status

    values = status(data_dir)
    if output is not Format.table:
        show(values, output)
        return
    head = f"{values['device']} at {values['site']}, use case {values['use_case']}; the agent {values['agent']}."
    paragraphs = [("Device", head), *((item["topic"], item["text"]) for item in values["story"])]
    sys.stdout.write("\n".join(lines(paragraphs)) + "\n")
