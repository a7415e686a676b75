"""OpenVINO: the walk as its graph, preprocessing as its nodes, and the engine; the rule on processors."""
