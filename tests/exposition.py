"""What promtool and a reader say of a page of metrics."""

from __future__ import annotations

import re
import subprocess

from needed import needs_program

SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{.*\})? ")


def promtool(*arguments: str, given: str = "") -> str:
    """Its words; they are empty where it has nothing to say."""
    program = needs_program("promtool")
    done = subprocess.run([program, *arguments], input=given, capture_output=True, text=True, check=False, timeout=60)
    return (done.stdout + done.stderr) if done.returncode or "check" in arguments else done.stdout


def series_names(text: str) -> set[str]:
    """The names of all samples on the page, also `…_bucket`, `…_sum`, `…_count` and `…_total`."""
    return {found[1] for line in text.splitlines() if (found := SAMPLE.match(line)) and not line.startswith("#")}


def families(text: str) -> dict[str, str]:
    """Metrics and their types, as the page declares them."""
    found = re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M)
    return {name: kind for name, kind in found if not name.endswith("_created")}


def labels_of(text: str) -> dict[str, set[str]]:
    """Label names by metric, as far as the page shows them."""
    found: dict[str, set[str]] = {}
    for line in text.splitlines():
        if (sample := SAMPLE.match(line)) and sample[2]:
            found.setdefault(sample[1], set()).update(re.findall(r'([a-zA-Z_]\w*)="', sample[2]))
    return found
