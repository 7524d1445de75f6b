"""LitServe around ONNX Runtime; tensors as base64 in JSON."""

import base64
import sys

import litserve
import numpy as np
import onnxruntime


class Api(litserve.LitAPI):
    def setup(self, device: str) -> None:  # noqa: ARG002 - the name is the library's
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])

    def decode_request(self, request: dict) -> np.ndarray:
        return np.frombuffer(base64.b64decode(request["data"]), np.float32).reshape(request["shape"])

    def predict(self, values: np.ndarray) -> np.ndarray:
        return self.session.run(None, {"input": values})[0]

    def encode_response(self, scores: np.ndarray) -> dict:
        return {"scores": scores.ravel().tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Api(), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="warning")
