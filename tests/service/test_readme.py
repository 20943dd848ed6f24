"""The README and the pages of docs/ hold: their lines are run here, with another port and in another folder."""

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click import Command, Group
from PIL import Image, ImageOps

from impasto.api.errors import STATUS
from impasto.api.main import create_app
from impasto.cli import cli
from impasto.core.errors import PictureGone
from impasto.core.paint_params import PaintParams
from impasto.core.settings import ROOT, Settings
from tests.helpers.servers import free_port
from tools.settings_page import page


def code_lines(text: str) -> list[str]:
    """The indented lines of a page, those that a backslash continues put together."""
    return [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.startswith("    ")]


PAGES = {path: path.read_text() for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
README, HTTP, SETTINGS, ARCHITECTURE = (
    PAGES[ROOT / name] for name in ("README.md", "docs/http.md", "docs/settings.md", "docs/architecture.md")
)
TEXT = "\n".join(PAGES.values())
LINES = code_lines(TEXT)


@pytest.fixture(scope="module")
def served(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """`impasto serve` in a process of its own: its host and port, and what it said."""
    place = f"localhost:{free_port()}"
    said = tmp_path_factory.mktemp("serve") / "out"
    data = tmp_path_factory.mktemp("data")
    environment = os.environ | {
        "IMPASTO_CACHE": str(cache),
        "IMPASTO_PORT": place.split(":")[1],
        **{f"IMPASTO_{name}": str(data / name.lower()) for name in ("STORE", "STORAGE", "WORK", "STYLES")},
    }
    with said.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "impasto", "serve"], cwd=ROOT, env=environment, stdout=out
        )
    try:
        while "Impasto is ready" not in said.read_text():
            assert process.poll() is None, said.read_text()
            time.sleep(0.05)
        yield place, said.read_text()
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture
def cat() -> np.ndarray:
    """The cat, uint8 (300, 451, 3)."""
    with Image.open(ROOT / "docs/cat.jpg") as image:
        return np.array(image)


def test_it_opens_with_the_two_commands():
    assert [line for line in code_lines(README) if line.startswith("make")][:2] == ["make serve", "make test"]
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"`[^`\n]*\bmake ([a-z-]+)[^`\n]*`", TEXT)
    targets += [line.split()[1] for line in LINES if line.startswith("make ")]
    assert {"serve", "check", "bench"} < set(targets)
    assert all(f"\n{target}:" in makefile for target in targets)


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 150


def test_the_curl_line_paints_a_turned_photograph_upright(served, cat, tmp_path):
    place, said = served
    line = next(line for line in LINES if line.startswith("curl"))
    assert line.replace("localhost:8000", place) in said  # what the server says to paste
    exif = Image.Exif()
    exif[0x0112] = 6  # lying on its side, and saying so
    turned = Image.fromarray(np.rot90(cat))
    (tmp_path / "docs").mkdir()
    turned.save(tmp_path / "docs/cat.jpg", quality=95, exif=exif)
    assert turned.size == (300, 451)

    command = shlex.split(line.replace("localhost:8000", place))
    subprocess.run([*command, "--fail", "--silent", "--show-error"], cwd=tmp_path, check=True)
    with Image.open(tmp_path / "painted.png") as painted, Image.open(ROOT / "docs/painted.webp") as shown:
        assert painted.size == (451, 300)
        assert not painted.getexif()
        # the picture in the README, made from the cat as it was before JPEG; and not another way up
        difference = np.abs(np.asarray(painted, int) - np.asarray(shown, int)).mean()
        upside_down = np.abs(np.asarray(ImageOps.flip(painted), int) - np.asarray(shown, int)).mean()
    assert difference < 12
    assert upside_down > 2 * difference


def test_the_curl_line_for_a_job_begins_a_painting(served, cat, cache, tmp_path):
    place, said = served
    line = next(line for line in LINES if line.startswith("curl -F kind=gatys"))
    assert line.replace("localhost:8000", place) in said
    (tmp_path / "docs").mkdir()
    Image.fromarray(cat).save(tmp_path / "docs/cat.jpg")
    command = [*shlex.split(line.replace("localhost:8000", place)), "--fail", "--silent", "--show-error"]
    job = json.loads(subprocess.run(command, cwd=tmp_path, check=True, capture_output=True).stdout)
    url = f"http://{place}"
    with urllib.request.urlopen(f"{url}{job['links']['events']}") as events:
        assert any(line == b"event: preview\n" for line in events)
    with urllib.request.urlopen(f"{url}/jobs/{job['id']}/preview") as response, Image.open(response) as preview:
        assert max(preview.size) == 451
    jobs = [sys.executable, "-m", "impasto", "jobs", "--url", url]
    subprocess.run([*jobs, "cancel", job["id"]], check=True, cwd=ROOT)
    watched = subprocess.run([*jobs, "watch", job["id"], "-o", tmp_path / "best.png"], cwd=ROOT, stdout=subprocess.PIPE)
    assert (watched.returncode, b"canceled" in watched.stdout) == (1, True)
    with Image.open(tmp_path / "best.png") as best:
        assert best.size == (451, 300)
    here = os.environ | {"IMPASTO_CACHE": str(cache)}  # which has the admin's token
    listed = subprocess.run([*jobs, "list"], check=True, cwd=ROOT, env=here, capture_output=True, text=True).stdout
    assert job["id"] in listed


def test_the_pages_are_there(served):
    place, _ = served
    for path in ("/", "/docs", "/styles", "/livez", "/readyz"):
        with urllib.request.urlopen(f"http://{place}{path}") as response:
            assert response.status == 200


def test_the_stylize_and_models_lines_run(cat, cache, tmp_path, monkeypatch):
    monkeypatch.setenv("IMPASTO_CACHE", str(cache))
    Image.fromarray(cat).save(tmp_path / "photo.jpg")
    (tmp_path / "holiday").mkdir()
    shutil.copy(tmp_path / "photo.jpg", tmp_path / "holiday/one.jpg")
    lines = [line for line in LINES if line.startswith((".venv/bin/impasto stylize", ".venv/bin/impasto models"))]
    assert len(lines) >= 3
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for line in lines:
        command = [sys.executable, "-m", *shlex.split(line.removeprefix(".venv/bin/"))]
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    for path in ("out.png", "painted/one.png"):
        with Image.open(tmp_path / path) as image:
            assert image.size == (451, 300)


def test_the_python_lines_paint_pictures_and_arrays(cat, cache, tmp_path, monkeypatch):
    monkeypatch.setenv("IMPASTO_CACHE", str(cache))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    Image.fromarray(cat).save(tmp_path / "docs/cat.jpg")
    lines = code_lines(README[README.index("\nFrom Python.") : README.index("\nOver HTTP.")])
    names: dict[str, object] = {}
    exec("\n".join(lines), names)
    with Image.open(tmp_path / "painted.png") as painted:
        assert painted.size == (451, 300)
    (painting,) = [line for line in lines if line.startswith("painting = ")]
    names["picture"] = cat
    exec(painting, names)
    assert isinstance(names["painting"], np.ndarray)
    assert names["painting"].shape == cat.shape
    assert names["painting"].dtype == np.uint8


def test_every_command_line_has_options_that_exist():
    checked = 0
    for line in LINES:
        words = shlex.split(line)
        if ".venv/bin/impasto" in words:
            rest = words[words.index(".venv/bin/impasto") + 1 :]
        elif words[:1] == ["docker-compose"] and "impasto" in words:
            rest = words[words.index("impasto") + 1 :]
        else:
            continue
        command: Command = cli
        while isinstance(command, Group):
            command = command.commands[rest.pop(0)]
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert {word for word in rest if word.startswith("-")} <= known, line
        checked += 1
    assert checked > 20


def test_every_module_that_is_run_exists():
    modules = re.findall(r"celery -A ([\w.]+)", TEXT) + re.findall(r"python -m ([\w.]+)", TEXT)
    assert {"impasto.worker.tasks", "tools.settings_page"} <= set(modules)
    assert all(importlib.util.find_spec(module) for module in modules)


def test_every_parameter_and_setting_is_described():
    rows = re.findall(r"^\| `(\w+)` \|", HTTP, re.MULTILINE)
    assert rows[: len(PaintParams.model_fields)] == list(PaintParams.model_fields)
    rows = re.findall(r"^\| `IMPASTO_(\w+)` \| (\S*) ?\|", SETTINGS, re.MULTILINE)
    defaults = {name.upper(): str(field.default) for name, field in Settings.model_fields.items()}
    assert dict(rows) == defaults | {"MODELS": "models"}
    assert set(re.findall(r"IMPASTO_([A-Z0-9_]+)", TEXT)) <= defaults.keys() | {"KEY"}  # which `impasto jobs` reads


def test_the_page_of_settings_is_what_its_tool_writes():
    assert page() == SETTINGS, "run python -m tools.settings_page"


def test_every_command_is_described():
    for name, command in cli.commands.items():
        assert command.help
        assert f"impasto {name}" in TEXT or f"make {name}" in TEXT, name


def test_every_route_and_error_is_described(tmp_path):
    paths = create_app(Settings(cache=tmp_path)).openapi()["paths"]
    for path, methods in paths.items():
        for method in methods:
            assert re.search(rf"`{method.upper()} {re.escape(path)}[`?]", HTTP), f"{method} {path}"
    for kind, status in STATUS.items():
        assert f"| {status} | `{kind.code}` |" in HTTP
    assert f"`{PictureGone.code}`" in HTTP


def test_every_link_leads_somewhere():
    written = {path: text for path, text in PAGES.items() if path.name != "models.md"}  # `impasto evaluate` makes that
    for source, text in written.items():
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            name, _, heading = link.partition("#")
            target = source.parent / name if name else source
            assert target.exists(), f"{source.name}: {link}"
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE) if heading else []
            assert not heading or heading in {each.lower().replace(" ", "-") for each in headings}, link


def test_every_file_function_and_line_that_is_named_exists():
    named = re.findall(r"`([a-z]\w*/[\w/]+\.py)`(?:, `([\w.]+)`)?(?: \| `([^`]+)` \|)?", TEXT)
    assert len(named) > 40
    for file, function, line in named:
        code = (ROOT / file).read_text()
        for part in filter(None, function.split(".")):
            assert re.search(rf"^ *(?:async def|def|class) {part}\b", code, re.MULTILINE), f"{file}: {function}"
        assert line in code, f"{file}: {line}"
    for folder in re.findall(r"`((?:[a-z]\w*/)+)`", ARCHITECTURE):
        assert (ROOT / folder).is_dir(), folder
