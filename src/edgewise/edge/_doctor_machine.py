"""The doctor's look at the machine: interpreter, runtime, memory, power, port, sources, supervisor."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from edgewise.edge._doctor_check import Check, Patient, fail, ok, warn
from edgewise.edge._last_words import read_last_words
from edgewise.ports import listen
from edgewise.wire import EdgewiseError, FolderSpec

BATTERY_PERCENT_MIN = 20
MEMORY_MB_MIN = 150.0  # of an agent with a small network
UNIT_FOLDERS = (Path("/etc/systemd/system"), Path("/run/systemd/system"), Path("/usr/lib/systemd/system"))
SYSTEMD = Path("/run/systemd/system")  # sd_booted(3)


def check_runtime(patient: Patient) -> Iterator[Check]:
    del patient
    yield ok("python", f"{sys.version.split()[0]} on {sys.platform}")
    try:
        import onnxruntime  # type: ignore[import-untyped]

        providers = ", ".join(name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers())
    except Exception as error:  # a broken library may raise anything when it is loaded
        text = f"onnxruntime cannot be loaded: {type(error).__name__}"
        yield fail("runtime", text, "pip install --force-reinstall 'edgewise[edge]'; look at glibc 2.28 or newer")
        return
    yield ok("runtime", f"onnxruntime {onnxruntime.__version__} with {providers}")


def check_memory(patient: Patient) -> Iterator[Check]:
    free = patient.card.get("ram_mb")
    if not isinstance(free, int | float):
        return
    if free < MEMORY_MB_MIN and not patient.agent_runs:
        yield warn("memory", f"{free:g} MB are free", f"free at least {MEMORY_MB_MIN:g} MB")
    else:
        yield ok("memory", f"{free:g} MB are free")


def check_battery(patient: Patient) -> Iterator[Check]:
    percent, charging = patient.facts.get("battery_percent"), patient.facts.get("charging")
    if not isinstance(percent, int | float):
        return
    text = f"battery at {percent:g} %{', charging' if charging else ''}"
    if percent < BATTERY_PERCENT_MIN and not charging:
        yield warn("battery", text, "charge it; updates may wait for more")
    else:
        yield ok("battery", text)


def check_port(patient: Patient) -> Iterator[Check]:
    port = patient.http_port
    if patient.agent_runs:
        yield ok("port", "the agent runs and has its own port")
        return
    try:
        listen("127.0.0.1", port).close()
    except EdgewiseError as error:
        yield warn("port", str(error), "stop the other program, or run the agent with --http-port N")
    else:
        yield ok("port", f"{port} is free on this machine")


def check_sources(patient: Patient) -> Iterator[Check]:
    if not patient.sources:
        yield warn("source", "no source is known here", "name one: --source FOLDER, or pipelines in edge.yaml")
    for spec in patient.sources:
        path = getattr(spec, "path", None)
        if path is None:
            yield ok("source", f"{spec.name} ({spec.kind}) is opened by the agent, not here")
            continue
        file = Path(path)
        readable = os.access(file, os.R_OK | os.X_OK if isinstance(spec, FolderSpec) else os.R_OK)
        if isinstance(spec, FolderSpec) and not file.is_dir():
            yield fail("source", f"{file} is not a folder", "make it, mount it, or name another")
        elif not readable:
            yield fail("source", f"{file} cannot be read", "check that it is there, and its permissions")
        else:
            yield ok("source", f"{file} can be read")


def check_agent(patient: Patient) -> Iterator[Check]:
    words, crashes = read_last_words(patient.folder), patient.state.crashes
    if words is not None:
        yield warn("agent", words.text, "start it again: it counts this against that bundle")
    elif crashes:
        yield warn("agent", f"it was started {crashes} times in a row without a planned stop", "edgewise edge logs")
    else:
        yield ok("agent", "it runs" if patient.agent_runs else "it is off")


def check_supervisor(patient: Patient) -> Iterator[Check]:
    """Whether something starts the agent again, and notices when it stands still."""
    del patient
    if not SYSTEMD.is_dir():
        yield ok("systemd", "this machine does not run systemd; something else has to start the agent again")
        return
    units = [unit for folder in UNIT_FOLDERS for unit in sorted(folder.glob("edgewise*.service"))]
    do = "edgewise edge unit --source FOLDER -o /etc/systemd/system/edgewise-edge.service"
    if not units:
        yield warn("systemd", "no unit starts the agent", do)
        return
    text = units[0].read_text(errors="replace")
    if not re.search(r"^WatchdogSec=\s*[1-9]", text, re.MULTILINE) or "Type=notify" not in text:
        yield warn("systemd", f"{units[0]} has no watchdog", do)
    else:
        yield ok("systemd", f"{units[0]} starts the agent again, and watches it")
