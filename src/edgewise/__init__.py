"""AI across a cloud and its edge as one loop: train in the cloud, decide at the edge, learn from the edge."""

import os

__version__ = "0.1.0"

# ONNX Runtime 1.32 tells its maker how it is used, and keeps a file below the home folder for it. Nothing leaves a
# device unless its policy allows it (invariant 4), so that is off before anybody here can load it.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
