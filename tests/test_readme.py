"""What the README shows works as it is written: its lines are run here, with another port and in another folder."""

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

from core.recipes import PaintParams
from core.settings import ROOT, Settings
from impasto.cli import cli
from tests.servers import free_port

README = (ROOT / "README.md").read_text()
LINES = [line.strip() for line in README.replace("\\\n", " ").splitlines() if line.startswith("    ")]


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
    assert [line for line in LINES if line.startswith("make")][:2] == ["make serve", "make test"]
    makefile = (ROOT / "Makefile").read_text()
    assert all(f"\n{target}:" in makefile for target in re.findall(r"`[^`\n]*make ([a-z]+)`", README))


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


def test_the_curl_line_for_a_job_begins_a_painting(served, cat, tmp_path):
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
    listed = subprocess.run([*jobs, "list"], check=True, cwd=ROOT, capture_output=True, text=True).stdout
    assert job["id"] in listed


def test_the_pages_are_there(served):
    place, _ = served
    for path in ("/", "/docs", "/styles", "/livez", "/readyz"):
        with urllib.request.urlopen(f"http://{place}{path}") as response:
            assert response.status == 200


def test_the_stylize_lines_run(cat, cache, tmp_path, monkeypatch):
    monkeypatch.setenv("IMPASTO_CACHE", str(cache))
    Image.fromarray(cat).save(tmp_path / "photo.jpg")
    (tmp_path / "holiday").mkdir()
    shutil.copy(tmp_path / "photo.jpg", tmp_path / "holiday/one.jpg")
    lines = [line for line in LINES if line.startswith(".venv/bin/impasto st")]
    assert len(lines) == 3
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for line in lines:
        command = [sys.executable, "-m", *shlex.split(line.removeprefix(".venv/bin/"))]
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    for path in ("out.png", "painted/one.png"):
        with Image.open(tmp_path / path) as image:
            assert image.size == (451, 300)


def test_every_command_line_has_options_that_exist():
    for line in LINES:
        words = shlex.split(line)
        if not words or words[0] != ".venv/bin/impasto":
            continue
        command: Command = cli
        rest = words[1:]
        while isinstance(command, Group):
            command = command.commands[rest.pop(0)]
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert {word for word in rest if word.startswith("-")} <= known, line


def test_every_parameter_and_setting_is_described():
    rows = re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE)
    assert rows[: len(PaintParams.model_fields)] == list(PaintParams.model_fields)
    rows = re.findall(r"^\| `IMPASTO_(\w+)` \| (\S*) ?\|", README, re.MULTILINE)
    defaults = {name.upper(): str(field.default) for name, field in Settings.model_fields.items()}
    assert dict(rows) == defaults | {"MODELS": "models"}


def test_every_command_is_described():
    for name, command in cli.commands.items():
        assert command.help
        assert f"impasto {name}" in README or f"make {name}" in README, name
