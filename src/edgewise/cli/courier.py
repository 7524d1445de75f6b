"""``edgewise courier``: hub and devices without any link between them, by a USB stick."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from edgewise.cli._hub import HUB, HUB_DATA, TOKEN, connect
from edgewise.cli._output import FORMAT, Format, show

if TYPE_CHECKING:
    from edgewise.ports.api import HubApi

app = typer.Typer(help="Air gap: carry releases in and uploads out on a signed stick.", no_args_is_help=True)
DEVICE_DIR = typer.Option(
    None, "--device-dir", envvar="EDGEWISE_COURIER_DEVICE_DIR", help="work for the device in this folder, not the hub"
)
STICK = typer.Argument(..., help="folder of the stick", show_default=False)


@app.command("export", epilog="Example: edgewise courier export /media/usb --device press-4")
def export(
    stick: Path = STICK,
    device: list[str] | None = typer.Option(None, "--device", help="at the hub: for which device; repeatable"),
    device_dir: Path | None = DEVICE_DIR,
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
    output: Format = FORMAT,
) -> None:
    """Write a stick. At the hub: releases, assignments, receipts for devices. At a device: its report and uploads."""
    from edgewise.wire import NotValid

    if (device_dir is None) == (not device):
        raise NotValid(
            "export needs --device NAME at the hub, or --device-dir FOLDER at a device; give exactly one", code="usage"
        )
    if device_dir is not None:
        from edgewise.edge.courier import export_stick

        show(export_stick(device_dir, stick), output)
        return
    with connect(hub, token, data_dir) as api:
        show(_fill(api, stick, device or []), output)


@app.command("import", epilog="Example: edgewise courier import /media/usb --device-dir edgewise-device")
def import_(
    stick: Path = STICK,
    device_dir: Path | None = DEVICE_DIR,
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
    output: Format = FORMAT,
) -> None:
    """Read a stick. At a device: update and let go of what the hub has. At the hub: store what devices sent."""
    if device_dir is not None:
        from edgewise.edge.courier import import_stick

        show(import_stick(device_dir, stick), output)
        return
    from edgewise.ports import devices_on
    from edgewise.wire import NotValid

    names = devices_on(stick)
    if not names:
        raise NotValid(
            f"{stick} holds nothing of a device; run `edgewise courier export {stick} --device-dir FOLDER` at one",
            code="stick_unfinished",
        )
    with connect(hub, token, data_dir) as api:
        parts = [_checked(api, stick, name) for name in names]
        show([_store(api, *part) for part in parts], output, ("device", "new", "watermark", "refused"))


def _fill(api: HubApi, stick: Path, devices: list[str]) -> dict[str, Any]:
    from edgewise.ports import StickPart, hub_part
    from edgewise.wire import canonical, decode
    from edgewise.wire.courier import HubListing, SealedListing

    answer = api.post("/courier/export", {"devices": devices})
    sealed = decode(SealedListing, canonical(answer["sealed"]))
    listing = decode(HubListing, _payload(sealed.envelope.payload))
    part = StickPart(hub_part(stick))
    for path, file in listing.files.items():
        text = answer["files"].get(path)
        part.put(path, api.get_blob(file.sha256) if text is None else text.encode())
    part.publish(sealed)
    size_bytes = sum(file.size_bytes for file in part.files.values())
    return {"stick": str(stick), "devices": sorted(set(devices)), "files": len(part.files), "bytes": size_bytes}


def _checked(api: HubApi, stick: Path, name: str) -> tuple[Any, Any]:
    """A device's part with all its digests checked here, and its signature by the hub; nothing is stored yet."""
    from edgewise.ports import StickPart, device_part
    from edgewise.wire import NotTrusted, NotValid, decode
    from edgewise.wire.courier import UPLOAD, DeviceListing

    part = StickPart(device_part(stick, name))
    sealed = part.sealed()
    try:
        listing = decode(DeviceListing, _payload(sealed.envelope.payload))
    except NotValid as error:
        raise NotTrusted(f"the listing of {name} cannot be read: {error}", code="stick_damaged") from error
    if listing.device != name or UPLOAD not in listing.files:
        raise NotTrusted(
            f"the folder of {name} holds a listing of {listing.device} with {len(listing.files)} files; needs its own "
            "with an upload",
            code="wrong_device",
        )
    part.take(listing.files)
    _send(api, sealed, None, b"")
    return part, sealed


def _store(api: HubApi, part: Any, sealed: Any) -> dict[str, Any]:
    from edgewise.wire.courier import UPLOAD

    for path in part.files:
        if path != UPLOAD:
            _send(api, sealed, path, part.read(path))
    return _send(api, sealed, UPLOAD, part.read(UPLOAD))


def _send(api: HubApi, sealed: Any, path: str | None, data: bytes) -> dict[str, Any]:
    from urllib.parse import quote

    from edgewise.wire import encode

    head = encode(sealed)
    where = "/courier/import" + (f"?path={quote(path, safe='')}" if path else "")
    body = struct.pack(">I", len(head)) + head + data
    answer: dict[str, Any] = api.post(where, content=body, media_type="application/octet-stream")
    return answer


def _payload(text: str) -> bytes:
    import base64
    import binascii

    from edgewise.wire import NotTrusted

    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise NotTrusted(f"the listing is not base64: {error}", code="stick_damaged") from error
