"""The two slots on disk, and the pointer to the one that runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgewise.edge._fetch_delta import Base
from edgewise.edge._trusted import Trusted
from edgewise.edge._update_state import Slot
from edgewise.ports import (
    Pipeline,
    Runtime,
    apart,
    disk_error,
    open_manifest,
    open_pipeline,
    read_bundle,
    replace_file,
    write_bundle,
)
from edgewise.wire import Manifest, NotNow, NotTrusted, NotValid, digest

POINTER_FILE = "current"
NAMES = ("a", "b")


@dataclass(frozen=True, kw_only=True, slots=True)
class Running:
    """A bundle that decides."""

    slot: str
    release: str
    bundle: str
    pipeline: Pipeline

    @property
    def is_contained(self) -> bool:
        """Whether its networks run in processes of their own, which end what hangs or takes too much."""
        stages = getattr(self.pipeline, "stages", ())
        return bool(stages) and all(hasattr(stage.session, "pid") for stage in stages)

    @property
    def worker_pids(self) -> tuple[int, ...]:
        """The processes beside this one that run its networks."""
        sessions = [getattr(stage, "session", None) for stage in getattr(self.pipeline, "stages", ())]
        pids = [getattr(session, "pid", None) for session in sessions]
        return tuple(pid for pid in pids if isinstance(pid, int))


def other_slot(name: str) -> str:
    """The other slot.

    >>> other_slot("a")
    'b'
    """
    return "b" if name == "a" else "a"


class Slots:
    """Bundles in ``slots/a`` and ``slots/b``; the file ``current`` names the one that runs.

    Args:
        folder: of the device.
        trusted: asked again whenever a bundle is opened.
        runtime: runs the bundles.
        checkpoint: called by name where a power cut would matter.
    """

    def __init__(self, folder: Path, *, trusted: Trusted, runtime: Runtime, checkpoint: Callable[[str], None]) -> None:
        self._folder = folder
        self._trusted = trusted
        self._runtime = runtime
        self._checkpoint = checkpoint
        try:
            (folder / "slots").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(error, folder) from error

    def path(self, name: str) -> Path:
        return self._folder / "slots" / name

    def pointer(self) -> str | None:
        """The slot that should run, None for none."""
        try:
            name = (self._folder / POINTER_FILE).read_text().strip()
        except FileNotFoundError:
            return None
        return name if name in NAMES else None

    def point_at(self, name: str | None) -> None:
        """Switch, in one step."""
        if self.pointer() != name:
            replace_file(self._folder / POINTER_FILE, f"{name or 'none'}\n".encode())

    def write(self, name: str, manifest: bytes, blobs: Mapping[str, bytes]) -> None:
        """Put a bundle into a slot in place of what was there. Between the two the slot is empty, never a mixture.

        Raises:
            NotNow: no space, or the disk did not keep what was written. NotTrusted: the blobs are not the manifest's.
        """
        shutil.rmtree(self.path(name), ignore_errors=True)
        self._checkpoint("slot_cleared")
        write_bundle(self.path(name), manifest, blobs)
        self._checkpoint("slot_written")
        if not self.holds(name, digest(manifest)):
            raise NotNow(f"slot {name} does not hold what was written to it; the disk fails", code="disk_failed")

    def holds(self, name: str, bundle: str) -> bool:
        """Whether this very bundle lies in the slot, every byte of it checked."""
        try:
            return read_bundle(self.path(name)).digest == bundle
        except (NotTrusted, NotValid):
            return False

    def open(self, name: str, slot: Slot, *, contained: bool = False) -> Running:
        """The bundle in a slot, every byte checked again, with the proof of its release.

        Args:
            contained: in processes of its own, where the runtime has such.
        Raises:
            NotTrusted: damaged, or not what its release says. NotValid: it does not run here.
        """
        release = self._trusted.open(slot.proof, slot.release)
        stored = read_bundle(self.path(name))
        if stored.digest != slot.bundle or stored.digest not in release.bundles.values():
            raise NotTrusted(
                f"slot {name} holds bundle {stored.digest[:12]}…, release {release.id} does not name it; it is not run",
                code="not_released",
            )
        runtime = apart(self._runtime) if contained else self._runtime
        pipeline = open_pipeline(stored.manifest, stored.digest, stored.read_blob, runtime)
        return Running(slot=name, release=release.id, bundle=stored.digest, pipeline=pipeline)

    def model_of(self, running: Running) -> bytes:
        """The ONNX file of a bundle's first graph, checked again. NotTrusted: the slot holds something else by now."""
        manifest = running.pipeline.manifest
        stored = read_bundle(self.path(running.slot))
        return stored.read_blob(manifest.blobs[manifest.graphs[0].blob].sha256)

    def held(self, manifest: Manifest, names: Iterable[str]) -> dict[str, bytes]:
        """Blobs of a bundle that lie in one of these slots already: unchanged bytes are never sent twice."""
        held = {}
        for name in names:
            for blob in manifest.blobs.values():
                file = self.path(name) / "blobs" / blob.sha256
                data = file.read_bytes() if blob.sha256 not in held and file.is_file() else b""
                if digest(data) == blob.sha256:
                    held[blob.sha256] = data
        return held

    def bases(self, manifest: Manifest, names: Iterable[str]) -> dict[str, list[Base]]:
        """Blobs of the same name in these slots' bundles, by the digest of the wanted blob; not checked."""
        found: dict[str, list[Base]] = {}
        for name in names:
            try:
                held, _ = open_manifest((self.path(name) / "manifest.json").read_bytes())
            except (OSError, NotTrusted, NotValid):
                continue
            for key, blob in manifest.blobs.items():
                old = held.blobs.get(key)
                if old is not None and old.sha256 != blob.sha256:
                    base = Base(sha256=old.sha256, file=self.path(name) / "blobs" / old.sha256)
                    bases = found.setdefault(blob.sha256, [])
                    if base.file.is_file() and all(one.sha256 != base.sha256 for one in bases):
                        bases.append(base)
        return found

    def sweep(self, keep: Collection[str]) -> None:
        """Remove what power cuts left beside the slots to keep."""
        for folder in (self._folder / "slots").iterdir():
            if folder.name not in keep:
                shutil.rmtree(folder, ignore_errors=True)
