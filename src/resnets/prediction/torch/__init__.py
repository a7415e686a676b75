"""PyTorch: the engine, and preprocessing as modules; the rule on CUDA."""
