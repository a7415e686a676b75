"""OpenVINO: the walk as its graph, preprocessing as its nodes, and the engine; the rule on processors.

OpenVINO loads its model converter, and with it a client that reports each import to its makers, whenever it is imported;
both are left out, as it allows, for they are two thirds of its import and nothing here needs them. `convert_model` is
still there for whoever calls it, and loads the converter then.
"""

import sys
from typing import Any

CONVERTER = "openvino.tools.ovc"


def _convert_model(*arguments: Any, **how: Any) -> Any:
    """OpenVINO's `convert_model`, its converter loaded when first called."""
    import importlib

    return importlib.import_module(CONVERTER).convert_model(*arguments, **how)


if "openvino" not in sys.modules:
    sys.modules[CONVERTER] = None  # type: ignore[assignment]  # so that its import fails, which OpenVINO takes
    try:
        import openvino
    finally:
        del sys.modules[CONVERTER]
    openvino.convert_model = _convert_model
