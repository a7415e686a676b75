"""ONNX: the walk as its graph, preprocessing as its nodes, and the engine of ONNX Runtime."""
