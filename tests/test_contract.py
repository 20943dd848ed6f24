"""Our OpenAPI, word by word, against the service itself: Schemathesis with all of its checks, stateful."""

import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from core.jobs import Jobs
from core.settings import ROOT, Settings
from core.stores import open_store
from tests.processes import Service
from tests.work import with_our_styles


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


def test_the_service_does_what_its_description_says(service, request):
    examples = 200 if request.config.getoption("--full") else 3
    url = f"http://localhost:{service.port}/openapi.json"
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", "tests/schemathesis.toml", "run", url]
    command += ["-n", str(examples), "--seed", "1", "--no-shrink", "--max-failures", "20"]
    command += ["--request-timeout", "20", "--max-time", "6000" if examples > 3 else "30"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    print("\n" + run.stdout[-3000:])
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
    assert service.answers("/livez")
    assert "Traceback" not in service.log.read_text()
