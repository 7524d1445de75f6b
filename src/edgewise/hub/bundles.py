"""Bundles that a worker or a person brings in: taken only when every blob is stored as the manifest says."""

from __future__ import annotations

import tempfile
from datetime import datetime
from pathlib import Path

from edgewise.hub import audit
from edgewise.hub.store import Store
from edgewise.hub.store import bundles as rows
from edgewise.ports import Runtime, copied_blobs, open_manifest, vet_bundle
from edgewise.wire import Manifest, NotTrusted, NotValid, canonical, decode, digest, loads


def add_bundle(store: Store, body: bytes, *, runtime: Runtime, who: str, now: datetime) -> str:
    """Store a manifest whose networks were vetted in a limited process; comes back with its digest. Again changes
    nothing.

    Args:
        body: the manifest as JSON; it is stored in its canonical form, whose SHA-256 is the bundle's name.
        runtime: vets the networks.
    Raises:
        NotValid: not a manifest, or a blob is missing or of another size. NotTrusted: refused when it was vetted; the
        audit log has an entry. NotNow: it cannot be vetted now.
    """
    exact = canonical(loads(body))
    manifest, name = decode(Manifest, exact), digest(exact)
    with store.read() as connection:
        if rows.get(connection, name) is not None:
            return name
    _check_blobs(store, manifest)
    try:
        open_manifest(exact)
        with tempfile.TemporaryDirectory(prefix="edgewise-vet-") as folder:
            vet_bundle(manifest, copied_blobs(store.blobs.pieces, Path(folder)), runtime)
    except NotTrusted as error:
        data = {"code": error.code, "text": str(error)[:500]}
        with store.write() as connection:
            audit.note(connection, actor=who, action="bundle.refused", subject=name, data=data, now=now)
        raise
    with store.write() as connection:
        if rows.get(connection, name) is None:
            size_bytes = sum(blob.size_bytes for blob in manifest.blobs.values())
            rows.add(connection, name, exact, name=manifest.name, size_bytes=size_bytes, who=who, now=now)
            about = {"name": manifest.name, "size_bytes": size_bytes}
            audit.note(connection, actor=who, action="bundle.added", subject=name, data=about, now=now)
    return name


def need_manifest(store: Store, name: str) -> bytes:
    """The exact bytes of a manifest.

    Raises:
        NotValid: there is no such bundle.
    """
    with store.read() as connection:
        body = rows.manifest_bytes(connection, name)
    if body is None:
        raise NotValid(f"there is no bundle {name[:80]!r} here; see GET /api/v1/bundles", code="bundle_unknown")
    return body


def _check_blobs(store: Store, manifest: Manifest) -> None:
    for graph in manifest.graphs:
        if graph.blob not in manifest.blobs:
            raise NotValid(
                f"graph {graph.name} names blob {graph.blob!r}, the manifest has {', '.join(manifest.blobs) or 'none'}",
                code="manifest_invalid",
            )
    for key, blob in manifest.blobs.items():
        if not store.blobs.has(blob.sha256):
            raise NotValid(
                f"blob {blob.sha256[:12]}… ({key}) is not stored; PUT it before the manifest", code="blob_not_stored"
            )
        size = store.blobs.size(blob.sha256)
        if size != blob.size_bytes:
            raise NotValid(f"blob {key} has {size} bytes, the manifest says {blob.size_bytes}", code="manifest_invalid")
