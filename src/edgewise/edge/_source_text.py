"""Sources as a person types them: ``video:line.mp4``, ``mqtt://broker/press/+``, a folder, or a YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import ValidationError

from edgewise.wire import FolderSpec, NotValid, SourceSpec, explain
from edgewise.wire.sources import SOURCE

YAML_BYTES_MAX = 256 << 10
FORMS = (
    "a folder, video:PATH, camera:0, rtsp://…, mqtt://HOST/TOPIC, modbus://HOST?…, opc.tcp://HOST?…, csv:PATH, push:, "
    "or a .yaml file"
)


def read_source(text: str) -> SourceSpec:
    """The source that this text means. Options follow a question mark: ``csv:march.csv?speed=60&row.time=at``.

    A value of an option is YAML; a full stop in its name leads inside a part: ``row.facts=[line]``.

    Raises:
        NotValid: it means no source; the message says what is wrong and what there is.

    >>> read_source("mqtt://broker:1884/press/+?share=inspectors").topic
    'press/+'
    >>> read_source("camera:0?every_s=0.5").device, read_source("pictures").kind
    (0, 'folder')
    """
    try:
        return SOURCE.validate_python(_values(text))
    except ValidationError as error:
        raise NotValid(
            f"{_shown(text)} is no source: {explain(error)}; there is {FORMS}", code="source_invalid"
        ) from error


def _values(text: str) -> Mapping[str, Any]:
    head, _, rest = text.partition(":")
    if rest.startswith("//") or head == "opc.tcp":
        return _of_url(text)
    if head in ("video", "csv", "camera", "push"):
        place, _, query = rest.partition("?")
        return {"kind": head, **_place(head, place), **_options(query, text)}
    if Path(text).suffix in (".yaml", ".yml") and not Path(text).is_dir():
        return _of_file(Path(text))
    return {"kind": "folder", "path": text}


def _place(kind: str, place: str) -> dict[str, Any]:
    if kind == "push":
        return {"name": place} if place else {}
    if kind == "camera":
        return {"device": int(place)} if place.isdecimal() else {"path": place} if place else {}
    return {"path": place}


def _of_url(text: str) -> dict[str, Any]:
    try:
        url = urlsplit(text)
        port, host = url.port, url.hostname or ""
    except ValueError as error:
        raise NotValid(f"{_shown(text)} is no address: {error}", code="source_invalid") from error
    if url.password is not None:
        raise NotValid(
            f"{_shown(text)} holds a password; name a file or variable: ?login.user=…&login.password_file=…",
            code="source_invalid",
        )
    place = {"host": host} | ({"port": port} if port is not None else {})
    match url.scheme:
        case "rtsp" | "rtsps" | "http" | "https":
            return {"kind": "camera", "url": text}  # a camera's own options follow its question mark
        case "mqtt" | "mqtts":
            tls = {"tls": {}, "port": 8883} if url.scheme == "mqtts" else {}
            topic = {"topic": unquote(url.path.removeprefix("/"))}
            return {"kind": "mqtt", **tls, **place, **topic, **_options(url.query, text)}
        case "modbus":
            unit = {"unit": int(url.path[1:])} if url.path[1:].isdecimal() else {}
            return {"kind": "modbus", **place, **unit, **_options(url.query, text)}
        case "opc.tcp":
            return {"kind": "opcua", "url": text.partition("?")[0], **_options(url.query, text)}
    raise NotValid(f"{url.scheme!r} is no kind of source; there is {FORMS}", code="source_invalid")


def _options(query: str, text: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, given in parse_qsl(query, keep_blank_values=True):
        *parts, last = name.split(".")
        inner = values
        for part in parts:
            inner = inner.setdefault(part, {})
            if not isinstance(inner, dict):
                raise NotValid(f"{_shown(text)}: {name} is given in two ways", code="source_invalid")
        inner[last] = _yaml(f"{_shown(text)}: {name}", given)
    return values


def _of_file(file: Path) -> Mapping[str, Any]:
    try:
        with file.open("rb") as handle:
            values = _yaml(str(file), handle.read(YAML_BYTES_MAX))
    except OSError as error:
        raise NotValid(f"{file} cannot be read: {error.strerror}", code="source_missing") from error
    if not isinstance(values, dict):
        raise NotValid(f"{file} must hold one source, such as `kind: csv`", code="source_invalid")
    return values


def _yaml(where: str, text: str | bytes) -> Any:
    import yaml  # late: a folder or an address without options needs none

    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise NotValid(f"{where} is not YAML: {error}", code="source_invalid") from error


def _shown(text: str) -> str:
    """The text without what may be a password."""
    return repr(text if "@" not in text else text.split("://", 1)[0] + "://…")


def settled(spec: SourceSpec, *, device: str, folder: Path) -> SourceSpec:
    """The source with what only the device knows: its name at a broker, and where a push source's token lies.

    Args:
        folder: the device's own.
    """
    if spec.kind == "mqtt" and spec.client is None:
        return spec.model_copy(update={"client": f"{device}-{spec.name}"[:128]})
    if spec.kind == "push" and spec.token_file is None and spec.token_env is None:
        return spec.model_copy(update={"token_file": str(folder / "keys" / f"push-{spec.name}")})
    return spec


def as_spec(source: SourceSpec | str | Path) -> SourceSpec:
    """A source from what may stand for one. NotValid: as `read_source`."""
    if isinstance(source, Path):
        return FolderSpec(path=str(source))
    return read_source(source) if isinstance(source, str) else source
