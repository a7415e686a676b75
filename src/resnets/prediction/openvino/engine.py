"""The OpenVINO engine: a graph compiled for this processor."""

import queue
from pathlib import Path

import numpy as np
import openvino as ov

from resnets import machine

HINTS = {"float32": "f32", "bf16": "bf16", "int8": "f32"}  # an int8 graph's other parts stay float32


class OpenVINOEngine:
    """A compiled graph: a batch in, logits and features out. `lanes` calls may run at a time, each on its share of cores."""

    name = "openvino"

    def __init__(self, graph: ov.Model, precision: str, lanes: int = 1) -> None:
        """`precision` is always said to OpenVINO, whose own default is bf16 where that is fast."""
        settings = {
            "INFERENCE_PRECISION_HINT": HINTS[precision],
            "NUM_STREAMS": lanes,
            "INFERENCE_NUM_THREADS": max(lanes, machine.cores()),
        }
        self.precision = precision
        self.lanes = lanes
        self.compiled = ov.Core().compile_model(graph, "CPU", settings)
        self.requests: queue.SimpleQueue[ov.InferRequest] = queue.SimpleQueue()
        for _ in range(lanes):
            self.requests.put(self.compiled.create_infer_request())

    def __call__(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the graph reads → float32 logits [batch, classes] and features [batch, features]; waits for a free lane."""
        request = self.requests.get()
        try:
            answer = request.infer([batch], share_inputs=True)
            return np.array(answer["logits"]), np.array(answer["features"])
        finally:
            self.requests.put(request)


def read_graph(path: Path) -> ov.Model:
    """A graph from its file (`.xml`, the weights beside it)."""
    return ov.Core().read_model(path)


def capabilities() -> list[str]:
    """The precisions that OpenVINO has arithmetic for on this processor: "FP32", "INT8", "BF16", …"""
    return ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
