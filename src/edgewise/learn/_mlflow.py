"""A registered model of MLflow as a file that can be imported: which of its flavours we open, and its parts in one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import yaml
from onnx import TensorProto

from edgewise.learn._import_onnx import read_onnx
from edgewise.learn._kinds import MODEL_BYTES_MAX, SKOPS
from edgewise.learn._trainer import Progress
from edgewise.ports.mlflow import ModelAddress, ModelVersion, Registry
from edgewise.wire import NotValid

PARTS_MAX = 100  # of a network's weights in files beside it
INSTEAD = "export it as ONNX where it was made and log it with mlflow.onnx.log_model(...)"


def _say_nothing(_what: str, _share: float) -> None:
    return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetched:
    """A model's file on disk.

    Attributes:
        origin: address, version, run and source, for the bundle's provenance.
    """

    file: Path
    origin: dict[str, str]


def fetch_model(registry: Registry, address: ModelAddress, folder: Path, progress: Progress = _say_nothing) -> Fetched:
    """The file of a registered model, in a folder that is ours alone.

    Args:
        progress: told what is fetched, and how much of it is there.
    Raises:
        NotValid: there is no such model, or it has no flavour that is opened. NotNow, NotTrusted: see `Registry`.
    """
    version = registry.version(address)
    flavour, paths = flavour_of(registry.read(version, "MLmodel"))
    path, file = _first(registry, version, paths, folder, progress)
    if flavour == "onnx":

        def part(name: str, left: int) -> bytes:
            beside, kept = str(Path(path).parent / name), folder / "part"
            registry.fetch(version, beside, kept, bytes_max=left, tell=partial(progress, name))
            return kept.read_bytes()

        file.write_bytes(in_one(file.read_bytes(), part))
    named = f"/{version.version}" if address.alias is None else f"/{version.version} (@{address.alias})"
    origin = {
        "registry": address.server,
        "model": f"{version.name}{named}",
        "run": version.run_id,
        "source": version.source or version.files_at,
        "flavour": flavour,
    }
    return Fetched(file=file, origin=origin)


def _first(
    registry: Registry, version: ModelVersion, paths: Sequence[str], folder: Path, progress: Progress
) -> tuple[str, Path]:
    """The first of these files that there is."""
    for number, path in enumerate(paths, 1):
        file = folder / f"model{Path(path).suffix[:10]}"
        try:
            registry.fetch(version, path, file, bytes_max=MODEL_BYTES_MAX, tell=partial(progress, path))
        except NotValid as error:
            if error.code != "registry_missing" or number == len(paths):
                raise
        else:
            return path, file
    raise NotValid("its MLmodel names no file; log the model again with MLflow", code="registry_wrong")


class _Closed(Exception):
    """Why a flavour is not opened."""


def flavour_of(mlmodel: bytes) -> tuple[str, tuple[str, ...]]:
    """Flavour of a model by its ``MLmodel``, the first of those that are opened, and the files that it can be in.

    Raises:
        NotValid: there is none; it says why each flavour is not opened, and what to do.

    >>> flavour_of(b"flavors: {onnx: {data: model.onnx}, python_function: {}}")
    ('onnx', ('model.onnx',))
    """
    try:
        value = yaml.safe_load(mlmodel)
    except (yaml.YAMLError, ValueError, RecursionError):
        value = None
    flavours = value.get("flavors") if isinstance(value, dict) else None
    if not isinstance(flavours, dict) or not flavours:
        raise NotValid("its MLmodel names no flavours; log the model again with MLflow", code="registry_wrong")
    reasons: list[str] = []
    for name, look in LOOKS.items():
        if name in flavours:
            try:
                return name, look(flavours[name] if isinstance(flavours[name], dict) else {})
            except _Closed as closed:
                reasons.append(f"{name}: {closed}")
    others = [str(name)[:40] for name in flavours if name not in LOOKS and name != "python_function"]
    reasons += [f"{name}: not opened here; {INSTEAD}" for name in others]
    if not reasons:
        reasons = [f"python_function: it runs code of its own; {INSTEAD}"]
    raise NotValid(f"no flavour of this model is opened: {'; '.join(reasons)[:1500]}", code="model_invalid")


def _onnx(flavour: dict[str, Any]) -> tuple[str, ...]:
    return (_path(flavour, "data", "model.onnx"),)


def _sklearn(flavour: dict[str, Any]) -> tuple[str, ...]:
    saved = str(flavour.get("serialization_format", "pickle"))[:40]
    if saved != "skops":
        raise _Closed(
            f"it was saved as {saved}, which runs code when it is opened; log it again with "
            f"mlflow.sklearn.log_model(..., serialization_format='skops'), or save it as {SKOPS}"
        )
    return (_path(flavour, "pickled_model", "model.skops"),)


def _pytorch(flavour: dict[str, Any]) -> tuple[str, ...]:
    folder = _path(flavour, "model_data", "data")
    return (f"{folder}/model.pt2", f"{folder}/model.pth")  # an exported program, else TorchScript or a pickle


def _path(flavour: dict[str, Any], key: str, usual: str) -> str:
    value = flavour.get(key)
    return value if isinstance(value, str) and value else usual


LOOKS: dict[str, Callable[[dict[str, Any]], tuple[str, ...]]] = {
    "onnx": _onnx,
    "sklearn": _sklearn,
    "pytorch": _pytorch,
}


def in_one(data: bytes, part: Callable[[str, int], bytes]) -> bytes:
    """An ONNX file with the weights that it keeps in files beside it: MLflow writes all but the smallest so.

    Args:
        part: gives a file by its plain name, of at most so many bytes.
    Raises:
        NotValid: it is no ONNX file, a name leads elsewhere, or a file is shorter than it is said to be.
    """
    try:
        model = onnx.load_model_from_string(data)
    except Exception:  # protobuf raises classes of its own; `read_onnx` says what is wrong
        read_onnx(data, "the model's ONNX file")
        raise
    parts: dict[str, bytes] = {}
    for tensor in model.graph.initializer:
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        told = {one.key: one.value for one in tensor.external_data}
        name = told.get("location", "")
        if not name or "/" in name or "\\" in name or name in (".", "..") or len(parts) >= PARTS_MAX:
            raise NotValid(
                f"its array {tensor.name[:80]!r} is in {name[:80]!r}, which is no file beside it", code="model_external"
            )
        if name not in parts:
            parts[name] = part(name, MODEL_BYTES_MAX - sum(map(len, parts.values())))
        start, size = _number(told.get("offset", "0")), told.get("length")
        end = len(parts[name]) if size is None else start + _number(size)
        if end > len(parts[name]):
            raise NotValid(f"{name[:80]} has {len(parts[name])} bytes, {end} are needed", code="model_external")
        tensor.raw_data = parts[name][start:end]
        tensor.data_location = TensorProto.DEFAULT
        del tensor.external_data[:]
    made: bytes = model.SerializeToString(deterministic=True) if parts else data
    return made


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise NotValid(f"{text[:40]!r} is no place in a file of weights", code="model_external")
    return int(text)
