"""The limited process in which models of scikit-learn and PyTorch are opened and written as ONNX.

``python -m edgewise.learn._foreign_child ORDER``; ORDER is JSON: the fields that `_foreign.opened` gives. It answers as
`edgewise.ports.limited` says: the network, and behind it what the model itself says of the inputs of `parity_inputs`.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from edgewise.learn._foreign_common import Missing, parity_inputs
from edgewise.ports.limited import limit_files, limit_memory
from edgewise.wire import InputSpec, NotTrusted

OPEN_FILES_MAX = 256  # libraries are loaded late, a few of them at once
TEXT_MAX = 400


def main(order: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """The answer to an order, and the bytes behind it."""
    convert = _opener(order["kind"])
    spec = order["spec"]
    inputs = None if spec is None else parity_inputs(TypeAdapter(InputSpec).validate_python(spec))
    tempfile.gettempdir()  # found by writing a file, which the limits forbid; PyTorch asks for its name
    signal.setitimer(signal.ITIMER_PROF, order["cpu_s"])
    limit_files(OPEN_FILES_MAX)
    limit_memory(order["memory_bytes"])
    _say(b"ready\n")
    facts: dict[str, Any] = {}
    try:
        network, answers = convert(Path(order["file"]).read_bytes(), inputs, order["trusted"], facts)
    except Missing as error:
        return {"facts": facts, "missing": [error.about, str(error)[:TEXT_MAX]]}, b""
    except NotTrusted as error:
        return {"code": error.code, "text": str(error)[: 4 * TEXT_MAX]}, b""
    except MemoryError:
        return {"code": "too_much_memory", "text": ""}, b""
    except Exception as error:  # libraries raise whatever they meet
        line = " ".join(str(error).split()) or type(error).__name__
        if "allocate memory" in line or "bad_alloc" in line:
            return {"code": "too_much_memory", "text": ""}, b""
        return {"code": "model_invalid", "text": f"it cannot be opened: {_short(line)}"}, b""
    parts = [network, *(np.ascontiguousarray(one, np.float32).tobytes() for one in answers.values())]
    shapes = {name: list(one.shape) for name, one in answers.items()}
    sizes = [len(part) for part in parts]
    return {"facts": facts, "outputs": shapes, "sizes": sizes, "bytes": sum(sizes)}, b"".join(parts)


# The file, the inputs to compare on (None without a spec), the types that are trusted, and facts to fill in; it answers
# with the network and what the model itself says of the inputs.
Converter = Callable[[bytes, Any, list[str], dict[str, Any]], tuple[bytes, dict[str, Any]]]


def _opener(kind: str) -> Converter:
    """What opens the kind, with all its libraries loaded."""
    if kind == "skops":
        # skops loads all of scikit-learn, and that would bring PyTorch along where it is: seconds, for nothing.
        sys.modules["sklearn.externals.array_api_compat.torch"] = None  # type: ignore[assignment]  # "not installed"
        from edgewise.learn._foreign_sklearn import convert_skops

        return convert_skops
    import torch

    from edgewise.learn._foreign_torch import convert_exported, convert_script

    torch.set_num_threads(1)
    return convert_script if kind == "torchscript" else convert_exported


def _short(line: str) -> str:
    return line if len(line) <= TEXT_MAX else f"{line[: TEXT_MAX - 1]}…"


def _say(data: bytes) -> None:
    ANSWERS.write(data)
    ANSWERS.flush()


if __name__ == "__main__":
    # Whatever a library prints must not come between the answers.
    ANSWERS = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    found, behind = main(json.loads(sys.argv[1]))
    _say(json.dumps(found).encode() + b"\n" + behind)
