"""AI across a cloud and its edge as one loop: train in the cloud, decide at the edge, learn from the edge."""

__version__ = "0.1.0"
