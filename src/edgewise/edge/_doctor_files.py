"""The doctor's look at the device's folder: disk, permissions, slots, outbox."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from edgewise.edge._doctor_check import Check, Patient, fail, ok, warn
from edgewise.edge._offline import outbox_status
from edgewise.edge._slots import POINTER_FILE
from edgewise.edge._troubles import DISK_FREE_MB_MIN
from edgewise.ports import probe_disk, read_bundle
from edgewise.wire import EdgewiseError, NotTrusted, NotValid

FSYNC_MS_MAX = 100.0  # a group of records waits for one; our choice, an SD card in order needs 5 to 30
BACKLOG_SHARE_MAX = 0.8


def check_folder(patient: Patient) -> Iterator[Check]:
    folder = patient.folder
    if not folder.is_dir():
        yield fail("folder", f"{folder} does not exist", "enrol the device: edgewise edge enroll --data-dir …")
        return
    try:
        took_ms = probe_disk(folder)
    except EdgewiseError as error:
        yield fail("folder", str(error), "free space, or make the folder writable for the agent's user")
        return
    yield ok("folder", f"{folder} can be written")
    text = f"the disk keeps 4 KiB in {took_ms:.1f} ms"
    if took_ms > FSYNC_MS_MAX:
        yield warn("disk speed", text, "look for a worn or busy disk; records wait for it, decisions do not")
    else:
        yield ok("disk speed", text)
    free = patient.facts.get("disk_free_mb")
    if not isinstance(free, int | float):
        return
    if free < DISK_FREE_MB_MIN:
        yield fail(
            "disk space", f"{free:g} MB are free", f"free at least {DISK_FREE_MB_MIN:g} MB; samples are shed now"
        )
    else:
        yield ok("disk space", f"{free:g} MB are free")


def check_permissions(patient: Patient) -> Iterator[Check]:
    """Keys that others can read are keys no more."""
    files = [patient.folder / "device.json", *sorted((patient.folder / "keys").glob("*"))]
    open_ = [file for file in files if _others_may(file)]
    if open_:
        names = ", ".join(str(file.relative_to(patient.folder)) for file in open_)
        yield fail("permissions", f"other users may read or write {names}", f"chmod 600 {names}, in {patient.folder}")
    elif any(file.exists() for file in files):
        yield ok("permissions", "keys and identity are for the agent's user alone")


def _others_may(file: Path) -> bool:
    try:
        mode = file.stat().st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) and bool(mode & 0o077)


def check_slots(patient: Patient) -> Iterator[Check]:
    """Whether each slot holds, byte for byte, what the device remembers of it."""
    try:
        running = (patient.folder / POINTER_FILE).read_text().strip()
    except OSError:
        running = "none"
    if not patient.state.slots:
        yield warn("slots", "no bundle is here yet", "wait for a first assignment, or look at the line `hub`")
    for name, slot in sorted(patient.state.slots.items()):
        use = "runs" if name == running else "is the other one"
        what = f"slot {name}: {slot.release}, which {use}"
        try:
            whole = read_bundle(patient.folder / "slots" / name).digest == slot.bundle
            why = "holds another bundle than is remembered"
        except (NotTrusted, NotValid, OSError) as error:
            whole, why = False, str(error)
        do = "start the agent: it runs the other slot, and fetches this one again"
        if whole:
            yield ok("slots", f"{what}, is whole")
        elif name == running:
            yield fail("slots", f"{what}: {why}", do)
        else:
            yield warn("slots", f"{what}: {why}", do)


def check_outbox(patient: Patient) -> Iterator[Check]:
    said = outbox_status(patient.folder / "outbox")
    if "error" in said["outbox"]:
        yield fail(
            "outbox", str(said["outbox"]["error"]), "start the agent: it sets the file aside and makes a new one"
        )
        return
    held = sum(item["waiting_bytes"] + item["sealed_bytes"] for item in said["outbox"].values())
    shed = {name: item["shed"] for name, item in said["outbox"].items() if item["shed"]}
    text = f"{said['backlog']:,} records wait, {held / 1e6:.1f} MB"
    text += f"; shed so far: {', '.join(f'{count:,} {name}' for name, count in shed.items())}" if shed else ""
    most = patient.identity.usecase.upload.outbox_bytes if patient.identity is not None else None
    if most is not None and held > BACKLOG_SHARE_MAX * most:
        yield warn(
            "outbox",
            f"{text}, of at most {most / 1e6:.0f} MB",
            "bring the link back, or carry a stick: edgewise courier",
        )
    else:
        yield ok("outbox", text)
