"""BentoML around ONNX Runtime; tensors as JSON, started by its own command."""

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    os.environ["BENCH_MODEL"] = sys.argv[1]
    os.chdir(Path(__file__).resolve().parent)
    command = [
        sys.executable,
        "-m",
        "bentoml",
        "serve",
        "bentoml_app:Onnx",
        "--host",
        "127.0.0.1",
        "--port",
        sys.argv[2],
    ]
    os.execv(sys.executable, command)

import bentoml
import numpy as np


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Onnx:
    def __init__(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(os.environ["BENCH_MODEL"], options)

    @bentoml.api
    def infer(self, data: np.ndarray) -> np.ndarray:
        return self.session.run(None, {"input": data.astype(np.float32)})[0]
