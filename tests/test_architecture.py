"""The table of rooms, and that the code keeps to it."""

from __future__ import annotations

import ast
import graphlib
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "tfp_uqseg"

FLOORS = {
    "tfp_uqseg._startup": 1,
    "tfp_uqseg._checks": 1,
    "tfp_uqseg._files": 1,
    "tfp_uqseg._rulings": 1,
    "tfp_uqseg.labels": 2,
    "tfp_uqseg.layers": 2,
    "tfp_uqseg.losses": 2,
    "tfp_uqseg.metrics": 2,
    "tfp_uqseg.optimizers": 2,
    "tfp_uqseg.callbacks": 2,
    "tfp_uqseg.uncertainty": 2,
    "tfp_uqseg.data": 3,
    "tfp_uqseg.models": 3,
    "tfp_uqseg.evaluation": 3,
    "tfp_uqseg.plotting": 3,
    "tfp_uqseg.experiments": 4,
    "tfp_uqseg.serving": 4,
    "tfp_uqseg.cli": 5,
}

#: What a room never imports, directly or through others: (room, barred prefixes).
BARRED = [
    ("tfp_uqseg.data", ["tfp_uqseg.plotting"]),
    ("tfp_uqseg.uncertainty", ["tfp_uqseg.models", "tfp_uqseg.data"]),
    ("tfp_uqseg.evaluation", ["tfp_uqseg.models", "tfp_uqseg.data"]),
]

TENSORFLOW = ["tensorflow", "tf_keras", "keras", "tensorflow_probability"]
NUMPY_HALF = [
    "tfp_uqseg._checks",
    "tfp_uqseg._files",
    "tfp_uqseg._rulings",
    "tfp_uqseg.labels",
    "tfp_uqseg.uncertainty.measures",
    "tfp_uqseg.evaluation",
    "tfp_uqseg.plotting",
]

#: The one room that may import each of these.
SOLE_IMPORTERS = {
    "nibabel": "tfp_uqseg.data.nifti",
    "matplotlib": "tfp_uqseg.plotting",
}

#: Names that may be imported as names; everything else of the package comes as a
#: module, so that call sites read as phrases.
NAMES = {"DataError"}

#: Heavy optional dependencies that a function may import when it is called.
OPTIONAL: set[str] = set()

MAX_LINES = 400
MAX_BODY_LINES = 40


def module_name(path: pathlib.Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in FILES.items()}
MODULES = [name for name in FILES if name != "tfp_uqseg"]


def inside(name: str, room: str) -> bool:
    return name == room or name.startswith(room + ".")


def floor(name: str) -> int:
    rooms = [room for room in FLOORS if inside(name, room)]
    assert rooms, f"{name} stands in no room of the table"
    return FLOORS[max(rooms, key=len)]


def imported(node: ast.AST) -> list[tuple[str, str | None]]:
    """(module, name) for each import a statement makes; name None for a module."""
    if isinstance(node, ast.Import):
        return [(alias.name, None) for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    assert node.level == 0, "imports are absolute"
    found = []
    for alias in node.names:
        whole = f"{node.module}.{alias.name}"
        is_module = whole in FILES
        found.append((whole, None) if is_module else (node.module, alias.name))
    return found


def imports(name: str) -> set[str]:
    return {
        module for node in ast.walk(TREES[name]) for module, _ in imported(node)
    } - {"__future__"}


def reached(name: str) -> set[str]:
    """All modules that `name` imports, itself or through others of the package.

    The top package is left out: whoever imports any part of it runs its __init__.
    """
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        for module in imports(waiting.pop()) - seen - {"tfp_uqseg"}:
            seen.add(module)
            if module in TREES:
                waiting.append(module)
    return seen


def functions(name: str) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [node for node in ast.walk(TREES[name]) if isinstance(node, kinds)]


def test_every_room_of_the_table_exists():
    missing = [room for room in FLOORS if room not in FILES]
    assert not missing


@pytest.mark.parametrize("name", MODULES)
def test_a_module_stands_in_a_room_of_the_table(name):
    assert floor(name) in range(1, 6)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_from_its_own_floor_or_below(name):
    above = [
        f"{name} (floor {floor(name)}) imports {module} (floor {floor(module)})"
        for module in imports(name)
        if inside(module, "tfp_uqseg") and module != "tfp_uqseg"
        if floor(module) > floor(name)
    ]
    assert not above


def test_no_module_imports_itself_through_others():
    graph = {
        name: {module for module in imports(name) if module in MODULES} - {name}
        for name in MODULES
        if FILES[name].name != "__init__.py"
    }
    tuple(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize(("room", "barred"), BARRED)
def test_a_room_never_reaches_what_is_barred_to_it(room, barred):
    wrong = [
        f"{name} reaches {module}"
        for name in MODULES
        if inside(name, room)
        for module in reached(name)
        if any(inside(module, other) for other in barred)
    ]
    assert not wrong


@pytest.mark.parametrize("room", NUMPY_HALF)
def test_the_numpy_half_never_reaches_tensorflow(room):
    wrong = [
        f"{name} reaches {module}"
        for name in MODULES
        if inside(name, room)
        for module in reached(name)
        if module.partition(".")[0] in TENSORFLOW
    ]
    assert not wrong


@pytest.mark.parametrize(("library", "importer"), SOLE_IMPORTERS.items())
def test_a_library_has_one_importing_room(library, importer):
    users = [
        name
        for name in FILES
        if any(module.partition(".")[0] == library for module in imports(name))
    ]
    assert users
    assert all(inside(name, importer) for name in users)


def test_tensorflow_probability_is_subclassed_in_layers_alone():
    wrong = [
        f"{name}.{node.name}"
        for name, tree in TREES.items()
        if not inside(name, "tfp_uqseg.layers")
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        if any(re.match(r"(tfp|tfd|tfpl)\b", ast.unparse(base)) for base in node.bases)
    ]
    assert not wrong


@pytest.mark.parametrize("name", MODULES)
def test_modules_are_imported_not_names(name):
    names = [
        f"from {module} import {item}"
        for node in ast.walk(TREES[name])
        for module, item in imported(node)
        if item is not None and inside(module, "tfp_uqseg") and item not in NAMES
        if FILES[name].name != "__init__.py"
    ]
    assert not names


@pytest.mark.parametrize("name", MODULES)
def test_imports_stand_at_the_top(name):
    late = [
        f"{function.name}: {ast.unparse(node)}"
        for function in functions(name)
        for node in ast.walk(function)
        for module, _ in imported(node)
        if module.partition(".")[0] not in OPTIONAL
    ]
    assert not late


@pytest.mark.parametrize("name", FILES)
def test_a_module_has_at_most_400_lines(name):
    assert len(FILES[name].read_text("utf-8").splitlines()) <= MAX_LINES


@pytest.mark.parametrize("name", FILES)
def test_a_function_body_has_at_most_40_lines(name):
    too_long = []
    for node in functions(name):
        body = node.body[1:] if ast.get_docstring(node) else node.body
        if body and node.end_lineno - body[0].lineno + 1 > MAX_BODY_LINES:
            too_long.append(f"{node.name}, line {node.lineno}")
    assert not too_long


@pytest.mark.parametrize("name", FILES)
def test_the_library_has_no_assert(name):
    lines = [n.lineno for n in ast.walk(TREES[name]) if isinstance(n, ast.Assert)]
    assert not lines


@pytest.mark.parametrize(
    "name", [name for name in MODULES if FILES[name].name == "__init__.py"]
)
def test_an_init_file_only_re_exports(name):
    allowed = (ast.Import, ast.ImportFrom, ast.Assign)
    other = [
        ast.unparse(node)
        for node in TREES[name].body[1 if ast.get_docstring(TREES[name]) else 0 :]
        if not isinstance(node, allowed)
    ]
    assert not other
