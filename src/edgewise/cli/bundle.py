"""``edgewise bundle``: pack, verify and look into bundles, and make small files of what changed between two."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from edgewise.cli._output import FORMAT, Format, show, tell

if TYPE_CHECKING:
    from edgewise.ports import Saving
    from edgewise.wire import Manifest

app = typer.Typer(help="Bundles: everything a device needs to decide, as a folder or one file.", no_args_is_help=True)
BUNDLE = typer.Argument(..., help="a bundle's folder or packed file", show_default=False)


@app.command(epilog="Example: edgewise bundle pack bundle/ -o press.bundle.zip")
def pack(
    bundle: Path = BUNDLE,
    out: Path = typer.Option(..., "-o", "--out", help="the file to make; never replaces another one"),
) -> None:
    """Write a bundle as one file: a plain zip archive, the same bytes for the same bundle on every machine."""
    from edgewise.ports import pack_bundle

    digest = pack_bundle(bundle, out)
    typer.echo(f"{out} holds bundle {digest}; check it anywhere: edgewise bundle verify {out}")


@app.command(epilog="Example: edgewise bundle verify press.bundle.zip")
def verify(bundle: Path = BUNDLE, output: Format = FORMAT) -> None:
    """Check every byte, walk over each network's file, and open it in a limited process; nothing is installed."""
    from edgewise.ports import OnnxRuntime, verify_bundle

    checked = verify_bundle(bundle, OnnxRuntime())
    size_bytes = sum(blob.size_bytes for blob in checked.manifest.blobs.values())
    facts = {"digest": checked.digest, "name": checked.manifest.name, "size_bytes": size_bytes, "verified": True}
    show(facts, output)


@app.command("show", epilog="Example: edgewise bundle show bundle/")
def show_bundle(bundle: Path = BUNDLE, output: Format = FORMAT) -> None:
    """Check every byte of a bundle against its manifest, then show what it is."""
    from edgewise.ports import open_bundle
    from edgewise.wire import plain

    with open_bundle(bundle) as opened:
        for name in opened.names:
            for _ in opened.pieces(name):
                pass
    manifest = opened.manifest
    if output is not Format.table:
        show({"digest": opened.digest, **plain(manifest)}, output)
        return
    show(
        {
            "digest": opened.digest,
            "name": manifest.name,
            "task": manifest.task,
            "labels": list(manifest.labels),
            **({} if manifest.states is None else {"states": plain(manifest.states)}),
            "good_label": manifest.good_label,
            "size_bytes": sum(blob.size_bytes for blob in manifest.blobs.values()),
            "needs": manifest.needs.model_dump(),
            "trained_at": manifest.provenance.trained_at.isoformat(),
            "trainer": manifest.provenance.trainer,
            "parent": manifest.provenance.parent,
        },
        output,
    )


@app.command("import", epilog="Example: edgewise bundle import press.onnx --spec press.yaml -o bundle/")
def import_bundle(
    model: str = typer.Argument(
        ...,
        help="an ONNX, skops, TorchScript or .pt2 file, or mlflow://HOST/models/NAME/VERSION (or NAME@ALIAS)",
        show_default=False,
    ),
    spec: Path | None = typer.Option(None, "--spec", help="YAML: what the file does not say, docs/learn.md"),
    out: Path | None = typer.Option(None, "-o", "--out", help="folder for the bundle; without it only the report"),
    data: Path | None = typer.Option(None, "--data", help="labelled data: what is usual, for drift"),
    trust: list[str] = typer.Option(
        [], "--trust", help="a type of scikit-learn in a skops file that you vouch for; may be given again"
    ),
    token_file: Path | None = typer.Option(
        None,
        "--mlflow-token-file",
        envvar="EDGEWISE_MLFLOW_TOKEN_FILE",
        help="file, mode 600, with the registry's token; else EDGEWISE_MLFLOW_TOKEN",
    ),
    user: str | None = typer.Option(
        None, "--mlflow-user", envvar="EDGEWISE_MLFLOW_USER", help="the token is this user's password"
    ),
    ca: Path | None = typer.Option(None, "--mlflow-ca", help="authority of the registry's certificate"),
    form: Format = typer.Option(Format.table, "--format", help="table for people, json or yaml for programs"),
) -> None:
    """Make a bundle of a model that was made elsewhere; say what is missing."""
    import tempfile
    from dataclasses import asdict
    from datetime import UTC, datetime

    from edgewise.cli._sweep import read_yaml
    from edgewise.learn import import_model, read_dataset, read_spec
    from edgewise.ports import write_bundle

    asked = None if spec is None else read_spec(read_yaml(spec, "a spec", "spec_invalid"))
    samples = () if data is None else read_dataset(data).samples
    with tempfile.TemporaryDirectory(prefix="edgewise-import-") as folder:
        file, origin = _model_file(model, Path(folder), token_file, user, ca)
        found = import_model(file, asked, now=datetime.now(UTC), samples=samples, trusted=trust, origin=origin)
    missing = [one for one in found.findings if one.level == "missing"]
    told = [asdict(one) for one in found.findings]
    if form is Format.table:
        show(told, form, ("level", "about", "text"))
    else:
        show({"bundle": found.bundle.digest if found.bundle else None, "findings": told}, form)
    if missing or found.bundle is None:
        raise typer.Exit(1)
    if out is not None:
        write_bundle(out, found.bundle.manifest, found.bundle.blobs)
        if form is Format.table:
            typer.echo(f"{out}: bundle {found.bundle.digest[:12]}, labels {', '.join(found.bundle.manifest.labels)}")


def _model_file(
    model: str, folder: Path, token_file: Path | None, user: str | None, ca: Path | None
) -> tuple[Path, dict[str, str] | None]:
    """The file to import, and where it comes from if that is a registry."""
    from edgewise.ports.mlflow import TOKEN_ENV, Registry, is_registry, read_address, read_token

    if not is_registry(model):
        return Path(model), None
    from edgewise.cli._progress import progress
    from edgewise.learn import fetch_model

    address = read_address(model)
    token = read_token(token_file, TOKEN_ENV)
    with Registry(address.server, token=token, user=user, ca=ca) as registry, progress("fetch") as advance:
        fetched = fetch_model(registry, address, folder, advance)
    return fetched.file, fetched.origin


@app.command(epilog="Example: edgewise bundle variants bundle/ -o variants/ --calibrate pictures/")
def variants(
    bundle: Path = BUNDLE,
    out: Path = typer.Option(..., "-o", "--out", help="folder; each variant becomes a bundle in it"),
    calibrate: Path | None = typer.Option(
        None, "--calibrate", help="folder of labelled training data; int8 takes the ranges of values from it"
    ),
    precisions: list[str] = typer.Option(["fp16", "int8"], "--precision", help="fp16 or int8; may be given again"),
) -> None:
    """Make smaller forms of a bundle: weights in 16-bit floats, heavy layers in 8-bit integers."""
    from edgewise.cli._progress import progress
    from edgewise.learn import make_variants, read_dataset
    from edgewise.ports import read_bundle, write_bundle
    from edgewise.wire import NotValid

    source = read_bundle(bundle)
    found_data = None if calibrate is None else read_dataset(calibrate)
    tell(() if found_data is None else found_data.said)
    samples = () if found_data is None else found_data.samples
    with progress("convert") as advance:
        found = make_variants(source, precisions, samples, progress=advance)
    if not found.made:
        raise NotValid("; ".join(found.left_out.values()), code="variant_impossible")
    out.mkdir(parents=True, exist_ok=True)
    rows = [{"variant": "fp32", "shift": 0.0, **_about(source.manifest, source.digest)}]
    for name, made in found.made.items():
        write_bundle(out / name, made.manifest, made.blobs)
        rows.append({"variant": name, "shift": made.metrics["shift"], **_about(made.manifest, made.digest)})
    show(rows, Format.table, ("variant", "size_bytes", "latency_ms", "shift", "digest"))
    for name, why in found.left_out.items():
        typer.echo(f"no variant {name}: {why}", err=True)


@app.command("delta", epilog="Example: edgewise bundle delta bundle-1/ bundle-2/ -o update.ewd")
def make_delta(
    old: Path = typer.Argument(..., help="the version that is there: a bundle, or a plain file", show_default=False),
    new: Path = typer.Argument(..., help="the version to get: a bundle, or a plain file", show_default=False),
    output: Path = typer.Option(..., "-o", "--output", help="file for the delta; it must not exist yet"),
) -> None:
    """Write what turns one bundle, or one .onnx file, into another: only what changed."""
    from edgewise.ports import make_delta

    savings = make_delta(old, new, output)
    whole, sent = sum(one.size_bytes for one in savings), output.stat().st_size
    rows = [
        {"part": one.name, "bytes": one.size_bytes, "as delta": one.delta_bytes, "percent": _share(one)}
        for one in savings
    ]
    total = {"part": "all", "bytes": whole, "as delta": sent, "percent": f"{100 * sent / max(1, whole):.2f}"}
    show([*rows, total] if len(rows) > 1 else rows, Format.table)


@app.command("apply", epilog="Example: edgewise bundle apply bundle-1/ update.ewd -o bundle-2/")
def apply_delta(
    old: Path = typer.Argument(..., help="the version that the delta was made for", show_default=False),
    delta: Path = typer.Argument(..., help="what `edgewise bundle delta` wrote", show_default=False),
    output: Path = typer.Option(..., "-o", "--output", help="the new version; it must not exist yet"),
) -> None:
    """Make the new version from the old one. It appears only when every byte has the hash that the delta states."""
    from edgewise.ports import apply_delta

    typer.echo(f"{output}: {apply_delta(old, delta, output)}")


def _about(manifest: Manifest, digest: str) -> dict[str, str | int | float]:
    size_bytes = sum(blob.size_bytes for blob in manifest.blobs.values())
    return {"size_bytes": size_bytes, "latency_ms": manifest.needs.latency_ms, "digest": digest}


def _share(one: Saving) -> str:
    return f"{100 * one.delta_bytes / max(1, one.size_bytes):.2f}" if one.delta_bytes else "unchanged"
