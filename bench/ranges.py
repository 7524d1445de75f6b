"""What keeping a base's ranges of values saves of an int8 update: `make bench NAME=ranges`.

The fine-tunes of `bench/delta.py` (MobileNetV2, trained once and kept in --folder), each quantised by `learn` twice:
calibrated anew on pictures that came since, and with the base's ranges where they still fit. Bytes are those of the
delta that a device fetches; per cent are of Zstandard level 19 of the whole new file. Exit code 1 if keeping costs more
than half a point of accuracy, or more bytes.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import onnx
import torch
from delta_parts import pairs, peers
from onnx import helper

from edgewise.delta import encode
from edgewise.learn._convert import to_int8
from edgewise.wire import Graph, ImageSpec

COUNT = 32  # calibration pictures, as `learn` takes them
LOSS_POINTS_MAX = 0.5
BEFORE, SINCE = 4, 5  # seeds of the calibration pictures
SPEC = ImageSpec(width=pairs.SIZE, height=pairs.SIZE, channels=3)
GRAPH = Graph(blob="model", input="input", scores="probabilities", pre=SPEC)
TUNINGS = ("head", "last block", "full SGD")


def say(text: str) -> None:
    """One line of output, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def with_probabilities(path: Path) -> bytes:
    """The network with a softmax behind it, as bundles have it."""
    model = onnx.load(path)
    logits = model.graph.output[0].name
    model.graph.node.append(helper.make_node("Softmax", [logits], ["probabilities"], axis=1))
    model.graph.output.pop()
    model.graph.output.append(
        helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, ["N", pairs.CLASSES])
    )
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def accuracy(data: bytes, folder: Path) -> float:
    """In per cent, on the shifted test pictures."""
    place = folder / "judged.onnx"
    place.write_bytes(data)
    return pairs.accuracy(place)


def main() -> int:
    """Run the benchmark; 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("tmp/bench-delta"), help="trained networks are kept here")
    parser.add_argument("--json", type=Path, help="write the results here")
    options = parser.parse_args()
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    before, since = (pairs.pictures(seed, COUNT, shifted=True)[0].numpy() for seed in (BEFORE, SINCE))
    network = pairs.train_base(pairs.mobilenet_v2_like, 0, folder / "MobileNetV2-base.pt")
    base = to_int8(with_probabilities(pairs.export(network, folder / "ranges-base.onnx")), GRAPH, before).data
    heads = f"{'anew B':>10}{'%':>7}{'kept B':>10}{'%':>7}{'anew acc':>10}{'kept acc':>10}"
    say(f"{'update':14}{'ranges':>8}{'kept':>6}{heads}")
    rows: list[dict[str, Any]] = []
    for tuning in (one for one in pairs.TUNINGS if one.name in TUNINGS):
        path = folder / f"ranges-{tuning.name.replace(' ', '-')}.onnx"
        if not path.exists():
            pairs.export(pairs.tune(network, tuning), path)
        tuned = with_probabilities(path)
        anew, kept = to_int8(tuned, GRAPH, since), to_int8(tuned, GRAPH, since, base=base)
        row: dict[str, Any] = {"update": tuning.name, "ranges": kept.ranges, "kept": kept.kept}
        for name, made in (("anew", anew), ("kept", kept)):
            size = len(encode(base, made.data))
            row |= {f"{name}_bytes": size, f"{name}_percent": 100 * size / peers.zstd_full(base, made.data)}
            row |= {f"{name}_accuracy": accuracy(made.data, folder)}
        rows.append(row)
        say(
            f"{row['update']:14}{row['ranges']:8}{row['kept']:6}{row['anew_bytes']:10,}{row['anew_percent']:7.2f}"
            f"{row['kept_bytes']:10,}{row['kept_percent']:7.2f}{row['anew_accuracy']:10.1f}{row['kept_accuracy']:10.1f}"
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    return int(
        any(
            row["anew_accuracy"] - row["kept_accuracy"] > LOSS_POINTS_MAX or row["kept_bytes"] > row["anew_bytes"]
            for row in rows
        )
    )


if __name__ == "__main__":
    raise SystemExit(main())
