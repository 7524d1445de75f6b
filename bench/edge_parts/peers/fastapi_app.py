"""What a person writes by hand: FastAPI around ONNX Runtime, raw bytes in and out."""

import sys

import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI, Request, Response

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
shape = (1, *session.get_inputs()[0].shape[1:])
app = FastAPI()


@app.post("/infer")
async def infer(request: Request) -> Response:
    values = np.frombuffer(await request.body(), np.float32).reshape(shape)
    return Response(session.run(None, {"input": values})[0].tobytes(), media_type="application/octet-stream")


uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning", access_log=False)
