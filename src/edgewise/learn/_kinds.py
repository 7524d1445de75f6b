"""What a file with a model in it is, by its bytes and not by its name; and why some are never opened."""

from __future__ import annotations

import pickletools
import struct
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Literal

from edgewise.ports.limited import HEAD_BYTES, foreign
from edgewise.wire import NotValid

MODEL_BYTES_MAX = 512 << 20
DIRECTORY_BYTES_MAX = 4 << 20  # of a zip archive's list of files: some ten thousand
END_BYTES = (1 << 16) + 22 + 20 + 56  # a zip archive's last records, with the longest comment
PICKLE_BYTES_READ = 1 << 20
Kind = Literal["onnx", "skops", "torchscript", "exported"]
EXPORT = "torch.export.save(torch.export.export(module.eval(), (example,)), 'model.pt2')"
SKOPS = "skops.io.dump(model, 'model.skops')"
OTHER_FORMATS = {
    ".h5": "convert it where it was made, with tf2onnx",
    ".keras": "convert it where it was made, with tf2onnx",
    ".tflite": "convert it where it was made, with tf2onnx --tflite",
}
PICKLES = (".pkl", ".pickle", ".joblib")
# What a pickle of tensors alone asks for; a pickled module asks for its class too.
OF_WEIGHTS = ("collections.OrderedDict", "torch._utils._rebuild_", "torch.serialization._get_layout", "torch.Size")


def kind_of(file: Path) -> Kind:
    """What to open a file with.

    Raises:
        NotValid: it cannot be read, is too large, or is of a kind that is never opened; how to save it instead.
    """
    suffix, name = file.suffix.lower(), file.name
    try:
        size = file.stat().st_size
        if size > MODEL_BYTES_MAX:
            raise NotValid(
                f"{name} has {size / 1e6:.0f} MB, at most {MODEL_BYTES_MAX / 1e6:.0f} MB are read; a device could "
                "not hold it",
                code="file_huge",
            )
        with file.open("rb") as handle:
            head = handle.read(HEAD_BYTES)
            handle.seek(max(0, size - END_BYTES))
            tail = handle.read(END_BYTES)
    except OSError as error:
        raise NotValid(
            f"{file} cannot be read: {error.strerror}; name an ONNX, skops, TorchScript or .pt2 file",
            code="file_unreadable",
        ) from None
    if (why := OTHER_FORMATS.get(suffix)) is not None:
        raise _refused(f"{name} is a file of another framework: {why}")
    if head.startswith(b"PK") and suffix not in PICKLES:
        return _in_zip(file, tail)
    what = foreign(head)
    if suffix in (".pt", ".pth", ".pt2") or (what is not None and "pickle" in what and suffix not in PICKLES):
        raise _refused(
            f"{name} is no archive of PyTorch's but {what or 'something else'}, which runs code when it is opened; "
            f"export the network where it was made: {EXPORT}"
        )
    if suffix in PICKLES:
        raise _refused(
            f"{name} is a pickle, which runs code when it is opened; load it where it was made and save it as {SKOPS}"
        )
    if suffix == ".skops" or what is not None:
        raise _refused(f"{name} is {what or 'no skops file'}; needs an ONNX, skops, TorchScript or .pt2 file")
    return "onnx"


def directory_bytes(tail: bytes) -> int:
    """How long a zip archive says that its list of files is, by its last bytes; 0 where it says nothing.

    >>> directory_bytes(b"PK\\x05\\x06" + bytes(8) + (70).to_bytes(4, "little") + bytes(6))
    70
    """
    end, large = tail.rfind(b"PK\x05\x06"), tail.rfind(b"PK\x06\x06")
    short = struct.unpack_from("<I", tail, end + 12)[0] if 0 <= end <= len(tail) - 16 else 0
    long = struct.unpack_from("<Q", tail, large + 40)[0] if 0 <= large <= len(tail) - 48 else 0
    return int(max(short, long))


def _in_zip(file: Path, tail: bytes) -> Kind:
    listed = directory_bytes(tail)
    if listed > DIRECTORY_BYTES_MAX:
        raise _refused(f"{file.name} lists files over {listed} bytes, at most {DIRECTORY_BYTES_MAX} are read")
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            inner = {name.partition("/")[2] for name in names}
            if "schema.json" in names:
                return "skops"
            if any(name.startswith("models/") for name in inner) and "archive_format" in inner:
                return "exported"
            if "constants.pkl" in inner and any(name.startswith("code/") for name in inner):
                return "torchscript"
            if "data.pkl" in inner:
                entry = next(name for name in names if name.endswith("/data.pkl"))
                with archive.open(entry) as pickled:
                    raise _refused(f"{file.name} {_why_not(pickled.read(PICKLE_BYTES_READ))}")
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError) as error:
        raise _refused(f"{file.name} is a zip archive that cannot be read: {error}") from None
    raise _refused(f"{file.name} is a zip archive of something else; needs an ONNX, skops, TorchScript or .pt2 file")


def _why_not(pickled: bytes) -> str:
    """Why what `torch.save` wrote is not opened: a module needs code, weights need a module."""
    asked = asked_for(pickled)
    others = [name for name in asked if not name.startswith(OF_WEIGHTS) and not name.endswith("Storage")]
    if others:
        return (
            f"is a pickle of torch.save that asks for {others[0][:160]}, code that would run when it is opened; export "
            f"the network where that code is: {EXPORT}"
        )
    return (
        "holds weights alone (a state dict of torch.save): what computes with them is missing; build the module where "
        f"its class is, give it these by load_state_dict, then {EXPORT}"
    )


def asked_for(pickled: bytes) -> list[str]:
    """Names of the Python objects that a pickle asks for, in order; it is looked over, never run.

    >>> import pickle, collections
    >>> asked_for(pickle.dumps(collections.OrderedDict(a=1)))
    ['collections.OrderedDict']
    """
    found: dict[str, None] = {}
    texts: list[str] = []
    with suppress(ValueError):  # cut off, or no pickle: what was seen so far must do
        for code, value, _place in pickletools.genops(pickled):
            if code.name == "GLOBAL":
                found[str(value).replace(" ", ".")] = None
            elif code.name == "STACK_GLOBAL":
                found[".".join(texts[-2:])] = None
            elif isinstance(value, str):
                texts = [*texts[-1:], value]
    return list(found)


def _refused(text: str) -> NotValid:
    return NotValid(text, code="model_invalid")
