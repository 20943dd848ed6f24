"""api -> core <- worker, and nothing else."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = {"core", "api", "worker", "impasto", "benchmarks", "tests", "tools"}
MAY = {"core": set(), "api": {"core"}, "worker": {"core"}, "impasto": {"core", "api", "worker"}}
WEB_AND_QUEUE = {"fastapi", "starlette", "uvicorn", "celery", "kombu", "urllib3", "click"}


def imports(path: Path) -> set[str]:
    """Top-level packages that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found.add((node.module or "").split(".")[0])
    return found


@pytest.mark.parametrize("package", MAY)
def test_a_package_imports_only_what_lies_below_it(package):
    files = list((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        assert imports(path) & OURS <= MAY[package] | {package}, path


def test_core_knows_no_web_and_no_queue():
    for path in (ROOT / "core").rglob("*.py"):
        assert not imports(path) & WEB_AND_QUEUE, path


def test_only_the_command_line_prints():
    for package in ("core", "api", "worker"):
        for path in (ROOT / package).rglob("*.py"):
            calls = [
                n.func.id
                for n in ast.walk(ast.parse(path.read_text()))
                if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
            ]
            assert not {"print", "exit", "input"} & set(calls), path
