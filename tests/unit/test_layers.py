"""api -> core <- worker, and nothing else. No circle in any of them, and routers -> deps -> services in the API."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PACKAGES = {"core": {"core"}, "api": {"api", "core"}, "worker": {"worker", "core"}}
"""A package -> those that it may import."""
WEB_AND_QUEUE = {"fastapi", "starlette", "uvicorn", "celery", "kombu", "aiohttp", "click"}
MODULES = {
    ".".join(("impasto", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
}


def imports(path: Path) -> set[str]:
    """The modules that a file imports, anywhere in it, and what it imports from them, both by their whole names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def tops(path: Path) -> set[str]:
    """The packages that a file imports."""
    return {name.partition(".")[0] for name in imports(path)}


def arrows() -> dict[str, set[str]]:
    """The modules that each module imports, of ours."""
    found: dict[str, set[str]] = {}
    for name, path in MODULES.items():
        names = imports(path)
        found[name] = {other for other in names | {each.rpartition(".")[0] for each in names} if other in MODULES}
        found[name] -= {other for other in found[name] if any(each.startswith(f"{other}.") for each in MODULES)}
    return found


def folder(module: str) -> str:
    """The folder of a module inside its package; a module that lies in no folder is its own."""
    return ".".join(module.split(".")[:3])


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_what_lies_below_it(package):
    files = list((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        assert not tops(path) & {"core", "api", "worker", "benchmarks", "tests", "tools"}, path
        below = {name.split(".")[1] for name in imports(path) if name.startswith("impasto.")}
        assert below <= PACKAGES[package], path


@pytest.mark.parametrize("name", [lambda module: module, folder], ids=["modules", "folders"])
def test_nothing_imports_in_a_circle(name):
    graph: dict[str, set[str]] = {}
    for module, others in arrows().items():
        graph.setdefault(name(module), set()).update(name(other) for other in others if name(other) != name(module))
    assert len(graph) > 30
    TopologicalSorter(graph).prepare()  # raises CycleError, which names them


@pytest.mark.parametrize(
    ("lower", "upper"),
    [
        ("middleware", {"routers", "deps"}),
        ("services", {"routers", "deps", "middleware"}),
        ("deps", {"routers"}),
    ],
)
def test_the_api_is_imported_from_above(lower, upper):
    for module, others in arrows().items():
        if folder(module) == f"impasto.api.{lower}":
            assert not {folder(other).removeprefix("impasto.api.") for other in others} & upper, module


def test_core_knows_no_web_and_no_queue():
    for path in (ROOT / "core").rglob("*.py"):
        assert not tops(path) & WEB_AND_QUEUE, path


def test_only_the_command_line_prints():
    for path in MODULES.values():
        calls = [
            n.func.id
            for n in ast.walk(ast.parse(path.read_text()))
            if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
        ]
        assert not {"print", "exit", "input"} & set(calls), path
