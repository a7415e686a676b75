"""The house: imports go strictly downward, and the rooms that predict need no PyTorch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import resnets

ROOT = Path(resnets.__file__).parent
FLOORS = [  # from the top; a room imports only from floors below its own
    ["__main__"],
    ["cli"],
    ["terminal", "demonstration", "bench", "arguments"],
    ["summary", "training", "exporting", "conversion"],
    ["evaluation"],
    ["pages"],
    ["weights", "prediction"],
    ["complexity", "model"],
    ["data"],
    ["networks"],
    ["graph", "fetching"],
    ["architecture", "machine", "files", "errors", "metrics", "recipes", "words"],
    ["__init__"],
]
FLOOR = {room: height for height, rooms in enumerate(reversed(FLOORS)) for room in rooms}
NO_TORCH = [
    "architecture", "machine", "files", "errors", "metrics", "words", "graph", "complexity", "model", "summary", "terminal",
    "cli", "data.shards", "data.packing", "data.health", "pages.health",
    "data.order", "data.policies", "data.augmenting", "data.columns", "fetching",
    "data.decode", "data.preprocessing", "data.dataset", "data.sources", "data.augmentation", "data.loader", "evaluation",
    "prediction", "prediction.openvino.engine", "prediction.openvino.inputs", "prediction.predictor", "prediction.paths",
    "prediction.tables", "prediction.exported",
    "prediction.cluster", "prediction.connection", "prediction.node", "prediction.answers", "prediction.bulk",
    "prediction.record", "prediction.progress", "prediction.preparing", "prediction.sorting",
    "pages.evaluation", "pages.training", "pages.gallery",
]  # fmt: skip


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imports(path: Path) -> set[str]:
    """Every module of ours that a file imports, at its top or within a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "resnets":
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= set(names) if node.module == "resnets" else {node.module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "resnets"}
    return found


FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def own_room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_import_climbs(path):
    here = own_room(path)
    for module in imports(path):
        there = room(module)
        assert there == here or FLOOR[there] < FLOOR[here], f"{here} imports {module}, which is not below it"


def test_every_room_has_a_floor():
    assert {own_room(path) for path in FILES} <= FLOOR.keys()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_and_functions_stay_small(path):
    assert len(path.read_text().splitlines()) <= 300
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 60, f"{node.name} is {node.end_lineno - node.lineno + 1} lines"
            arguments = [*node.args.args, *node.args.kwonlyargs, *node.args.posonlyargs]
            assert len([a for a in arguments if a.arg not in ("self", "cls")]) <= 8, node.name


def test_rooms_that_predict_import_no_torch():
    modules = ", ".join(f"resnets.{name}" for name in NO_TORCH)
    code = f"import sys; import {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_public_names_are_there_and_load():
    for name in resnets.__all__:
        assert getattr(resnets, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        resnets.nothing  # noqa: B018
