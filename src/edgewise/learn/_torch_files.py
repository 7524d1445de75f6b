"""Archives of PyTorch are looked over and written anew before PyTorch opens them; it reads nothing unchecked.

Opening an exported program runs code that the file names (a callable by its path, a formula that is evaluated, Python
source made of its names, pickles beside it); TorchScript runs a program of its own. What could do more than compute is
refused by name, and the new archive holds only what computing needs.
"""

from __future__ import annotations

import ast
import io
import json
import re
import zipfile
from collections.abc import Iterator
from typing import Any

from edgewise.learn._kinds import MODEL_BYTES_MAX
from edgewise.wire import NotTrusted

ENTRIES_MAX = 20_000
TARGET = re.compile(
    r"torch\.ops\.aten\.[a-z0-9_]+\.\w+|_operator\.(getitem|add|sub|mul|floordiv|mod|neg|eq|ne|ge|gt|le|lt)"
)
FILE_OPERATORS = re.compile(r"(^|\.)_?(from_file|save|load)(\.|$)")
WORD = re.compile(r"[A-Za-z0-9_.+:\-]{0,400}")  # a name becomes Python source: nothing that could end it
TEXT = re.compile(r"[^'\"\\\n\r]{0,400}")
CALLS = (
    "Symbol",
    "Max",
    "Min",
    "Mod",
    "PythonMod",
    "FloorDiv",
    "CeilDiv",
    "CleanDiv",
    "Integer",
    "Eq",
    "Ne",
    "Ge",
    "Gt",
)
FORMULA = (
    ast.Expression, ast.Call, ast.Name, ast.Load, ast.Constant, ast.keyword, ast.BinOp, ast.UnaryOp, ast.operator,
    ast.unaryop, ast.Compare, ast.cmpop,
)  # fmt: skip
FORMULA_CHARACTERS_MAX = 2000
SPECS = ("parameter", "buffer", "tensor_constant", "user_input", "constant_input")
KEPT_EXPORTED = re.compile(
    r"models/model\.json|data/weights/(weight_\d+|model_weights_config\.json)|archive_(format|version)|byteorder|"
    r"data/constants/(tensor_\d+|model_constants_config\.json)|data/sample_inputs/model\.pt|\.data/version|version"
)
KEPT_SCRIPT = re.compile(r"data\.pkl|constants\.pkl|version|byteorder|(data|constants)/\d+|code/[\w/]+\.py")
# Beside files, a program may ask other machines, and a class may bring a program that runs as it is opened.
SCRIPT_REFUSED = re.compile(
    r"\b_?from_file\b|\b(torch|aten)\._?(save|load)\b|\brpc_\w+|\bdef __setstate__|\btorch\.classes\b|"
    r"\bops\.(?!prim\.|aten\.|quantized\.)\w+"
)


def checked_exported(data: bytes) -> bytes:
    """An archive of `torch.export.save` with what computing needs.

    Raises:
        NotTrusted: it holds something that could do more than compute; it is named.
    """
    entries = _entries(data, KEPT_EXPORTED)
    for name, held in entries.items():
        if name.endswith("_config.json"):
            _check_payload(_json(name, held))
    if "models/model.json" not in entries:
        raise NotTrusted(
            "it holds no models/model.json; export one network, as torch.export.save does", code="pt2_wrong"
        )
    program = _json("models/model.json", entries["models/model.json"])
    entries["models/model.json"] = json.dumps(_checked_program(program)).encode()
    return _archive(entries)


def checked_script(data: bytes) -> bytes:
    """An archive of `torch.jit.save` with what computing needs. Raises as `checked_exported`."""
    entries = _entries(data, KEPT_SCRIPT)
    for name, held in entries.items():
        if name.endswith(".py") and (found := SCRIPT_REFUSED.search(held.decode("utf-8", "replace"))):
            raise NotTrusted(
                f"its program has {found[0][:80]!r} in {name[:80]}, which does more than compute; export it again "
                "without, or as torch.export.save does",
                code="script_unsafe",
            )
    return _archive(entries)


def check_formula(text: str) -> None:
    """Let a formula over sizes pass: numbers, symbols, arithmetic and a few functions by name.

    Raises:
        NotTrusted: there is anything else in it, since it is evaluated as Python.

    >>> check_formula("2*Symbol('s77', positive=True, integer=True) + 1")
    >>> check_formula("s0.__class__")
    Traceback (most recent call last):
        ...
    edgewise.wire...NotTrusted: it holds the formula 's0.__class__', which is more than sizes and arithmetic...
    """
    try:
        tree = ast.parse(text, mode="eval") if len(text) <= FORMULA_CHARACTERS_MAX else None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        tree = None
    if tree is None or not all(_plain(node) for node in ast.walk(tree)):
        raise NotTrusted(
            f"it holds the formula {text[:80]!r}, which is more than sizes and arithmetic; export the network again",
            code="pt2_unsafe",
        )


def _plain(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in CALLS
    if isinstance(node, ast.Name):
        return node.id in CALLS or re.fullmatch(r"[suz][a-z]{0,2}\d{1,9}", node.id) is not None
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.fullmatch(r"[A-Za-z]\w{0,20}", node.value) is not None
    return isinstance(node, FORMULA)


def _checked_program(program: Any) -> Any:
    """The program without remarks, all its texts and targets looked at."""
    if not isinstance(program, dict) or not isinstance(program.get("graph_module"), dict):
        raise NotTrusted("its models/model.json is no exported program; export the network again", code="pt2_wrong")
    program = {**program, "guards_code": []}  # Python source that would be run
    for found in _maps(program):
        if "metadata" in found:
            found["metadata"] = {}  # remarks on where each step came from
        if (target := found.get("target")) is not None and not _computes(target):
            raise NotTrusted(
                f"it calls {str(target)[:160]!r}; only PyTorch's own operators are opened (torch.ops.aten…): export "
                "the network again with torch.export, without operators of others",
                code="pt2_unsafe",
            )
        for kind in (name for spec in found.get("input_specs") or () for name in spec):
            if kind not in SPECS:
                raise NotTrusted(f"it takes a {kind[:40]!r}, which is no tensor; export without", code="pt2_unsafe")
        if found.get("custom_obj_values"):
            raise NotTrusted("it holds objects that are no tensors; export the network without them", code="pt2_unsafe")
    for key, text in _texts(program):
        if key == "expr_str":
            check_formula(text)
        elif key in ("in_spec", "out_spec"):
            for _, inner in _texts(_json(key, text.encode())):
                _check_word(inner.strip('[]"'), WORD)
        else:
            _check_word(text, TEXT if key == "as_string" else WORD)
    return program


def _computes(target: object) -> bool:
    return isinstance(target, str) and bool(TARGET.fullmatch(target)) and not FILE_OPERATORS.search(target)


def _check_word(text: str, form: re.Pattern[str]) -> None:
    if not form.fullmatch(text):
        raise NotTrusted(f"it holds the name {text[:80]!r}; letters, digits and points are needed", code="pt2_unsafe")


def _check_payload(config: Any) -> None:
    for found in _maps(config):
        if found.get("use_pickle"):
            raise NotTrusted(
                "it keeps tensors as pickles; export the network again with plain tensors", code="pt2_unsafe"
            )
        if not re.fullmatch(r"(weight|tensor)_\d+", str(found.get("path_name", "weight_0"))):
            raise NotTrusted(f"it names a file {str(found['path_name'])[:80]!r} for a tensor", code="pt2_unsafe")
    for _, text in _texts(config):
        _check_word(text, WORD)


def _maps(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from _maps(one)


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text, and every key of a map under no key."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, one in value.items():
            yield "", name
            yield from _texts(one, name)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one, key)


def _json(name: str, data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise NotTrusted(f"its {name} is no JSON; export the network again", code="pt2_wrong") from None


def _entries(data: bytes, kept: re.Pattern[str]) -> dict[str, bytes]:
    """The files of an archive that are kept, by their names without the first folder. NotTrusted: it is odd."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            listed = archive.infolist()
            names = [one.filename.partition("/")[2] for one in listed]
            if len(set(names)) != len(names) or len(names) > ENTRIES_MAX:
                raise NotTrusted(
                    f"its archive has {len(names)} files, some of one name or too many", code="archive_odd"
                )
            total = sum(one.file_size for one in listed)
            if total > 2 * MODEL_BYTES_MAX:
                raise NotTrusted(
                    f"unpacked it has {total} bytes, at most {2 * MODEL_BYTES_MAX} are read", code="file_huge"
                )
            return {name: archive.read(one) for name, one in zip(names, listed, strict=True) if kept.fullmatch(name)}
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise NotTrusted(f"its archive cannot be read: {error}", code="archive_odd") from None


def _archive(entries: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        for name, held in entries.items():
            archive.writestr(f"model/{name}", held)
    return made.getvalue()
