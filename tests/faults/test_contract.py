"""Our OpenAPI, word by word, against the service itself: Schemathesis with all of its checks, stateful."""

import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from impasto.core.jobs.open import open_store
from impasto.core.jobs.transitions import Jobs
from impasto.core.settings import ROOT, Settings
from tests.helpers.processes import Service
from tests.helpers.work import with_our_styles


@pytest.fixture
def service(settings: Settings, tmp_path) -> Iterator[Service]:
    """One whose jobs wait, for workers that are only said to be there."""
    away = {"broker": "redis://localhost:1/0", "rate": 0, "queued_gatys": 100_000, "queued_train": 100_000}
    settings = with_our_styles(settings).model_copy(update=away)
    jobs, done = Jobs(open_store(settings.store)), threading.Event()

    def sign() -> None:
        jobs.sign()
        while not done.wait(5):
            jobs.sign()

    signing = threading.Thread(target=sign)
    signing.start()
    service = Service(settings, tmp_path / "log")
    while not service.answers("/readyz"):
        pass
    yield service
    done.set()
    signing.join()
    jobs.store.close()
    service.terminate()


@pytest.mark.parametrize("phases", ["examples,coverage,fuzzing", "stateful"])
def test_the_service_does_what_its_description_says(service, phases, full):
    url = f"http://localhost:{service.port}/openapi.json"
    command = [
        sys.executable,
        "-um",
        "schemathesis.cli",
        "--config-file",
        "tests/helpers/schemathesis.toml",
        "run",
        url,
    ]
    command += ["--phases", phases, "-n", "200" if full else "3", "--seed", "1", "--no-shrink", "--max-failures", "20"]
    command += ["--request-timeout", "20"]
    if phases == "stateful":  # Hypothesis ends each attempt early, as jobs come and go; so again, as long as this:
        command += ["--max-time", "600" if full else "10"]
    status = subprocess.run(command, cwd=ROOT, timeout=3000).returncode
    answers = Counter(_answer(line) for line in service.log.read_text().splitlines() if '"route"' in line)
    print("\n".join(f"{count:6} {answer}" for answer, count in sorted(answers.items())))
    assert status == 0
    assert service.answers("/livez")
    assert "Traceback" not in service.log.read_text()


def _answer(line: str) -> str:
    record = json.loads(line)
    return f"{record['method']} {record['route']} {record['status']}"
