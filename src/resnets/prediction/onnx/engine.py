"""The engine of ONNX Runtime: a graph on this processor."""

import threading

import numpy as np
import onnxruntime

from resnets import machine

ERRORS = 3  # onnxruntime's level of what it says: nothing below an error


class ONNXRuntimeEngine:
    """A session: a batch in, logits and features out. `lanes` calls may run at a time, each on its share of cores."""

    name = "onnxruntime"

    def __init__(self, content: bytes, precision: str, lanes: int = 1) -> None:
        """`content` is an ONNX file's, with outputs `logits` and `features`; `precision` is what its arithmetic is."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = max(1, machine.cores() // lanes)
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = ERRORS
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if lanes == 1 else "0")
        self.precision = precision
        self.lanes = lanes
        self.session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        (self.entry,) = (entry.name for entry in self.session.get_inputs())
        self.free = threading.Semaphore(lanes)

    def __call__(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the graph reads → float32 logits [batch, classes] and features [batch, features]; waits for a free lane."""
        with self.free:
            logits, features = self.session.run(["logits", "features"], {self.entry: np.ascontiguousarray(batch)})
        return np.asarray(logits, np.float32), np.asarray(features, np.float32)
