"""``edgewise bundle``: look into bundles."""

from __future__ import annotations

from pathlib import Path

import typer

from edgewise.cli._output import FORMAT, Format, show

NAME = "bundle"
app = typer.Typer(help="Bundles: immutable folders with everything a device needs to decide.", no_args_is_help=True)


@app.command("show", epilog="Example: edgewise bundle show bundle/")
def show_bundle(
    bundle: Path = typer.Argument(..., help="a bundle's folder", show_default=False), output: Format = FORMAT
) -> None:
    """Check every byte of a bundle against its manifest, then show what it is."""
    from edgewise.ports import read_bundle
    from edgewise.wire import plain

    stored = read_bundle(bundle)
    manifest = stored.manifest
    if output is not Format.table:
        show({"digest": stored.digest, **plain(manifest)}, output)
        return
    show(
        {
            "digest": stored.digest,
            "name": manifest.name,
            "task": manifest.task,
            "labels": list(manifest.labels),
            "good_label": manifest.good_label,
            "size_bytes": sum(blob.size_bytes for blob in manifest.blobs.values()),
            "needs": manifest.needs.model_dump(),
            "trained_at": manifest.provenance.trained_at.isoformat(),
            "trainer": manifest.provenance.trainer,
            "parent": manifest.provenance.parent,
        },
        output,
    )
