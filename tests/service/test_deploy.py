"""The compose files, as far as they can be tested without Docker; tests/faults/compose.sh runs them."""

import re

import pytest
import yaml

from impasto.core.settings import ROOT, Settings

FILES = sorted(ROOT.glob("docker-compose*.yml"))
TEXT = "".join(path.read_text() for path in FILES)
EXAMPLE = re.findall(r"^#?([A-Z][A-Z0-9_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE)


def test_the_example_lists_what_the_compose_files_read():
    read = set(re.findall(r"\$\{([A-Z0-9_]+)", TEXT)) | set(re.findall(r"^ +([A-Z0-9_]+):$", TEXT, re.MULTILINE))
    assert {name for name, _ in EXAMPLE} == read


def test_they_name_settings_that_there_are_with_their_defaults():
    fields = {f"IMPASTO_{name.upper()}": field.default for name, field in Settings.model_fields.items()}
    assert set(re.findall(r"IMPASTO_[A-Z0-9_]+", TEXT)) <= set(fields)
    for name, value in EXAMPLE:
        if name in fields and name not in ("IMPASTO_STORAGE", "IMPASTO_HOSTS"):
            assert value.lower() == str(fields[name]).lower(), name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_secret_is_written_down(path):
    for service in yaml.safe_load(path.read_text())["services"].values():
        for name, value in (service.get("environment") or {}).items():
            assert not re.search("SECRET|PASSWORD|KEY", name) or value is None or value.startswith("${"), name
