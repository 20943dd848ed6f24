"""Real workers and services in processes of their own, to be killed."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import psutil

from impasto.core.settings import ROOT, Settings
from tests.helpers.servers import free_port


def environment(settings: Settings, **more: str) -> dict[str, str]:
    """Settings as a process of its own reads them."""
    values = {f"IMPASTO_{name.upper()}": str(value) for name, value in settings.model_dump(mode="json").items()}
    one_thread = {"OMP_NUM_THREADS": "1"}  # several workers share the cores of a test machine
    return os.environ | one_thread | values | {"PYTHONPATH": str(ROOT)} | more


class Process:
    """A process with everything that it starts; `kill` is kill -9 of all but what outlives it on purpose."""

    def __init__(self, command: list[str], env: dict[str, str], log: Path) -> None:
        self.command, self.env, self.log = command, env, log
        self.start()

    all: ClassVar[list["Process"]] = []

    def start(self) -> None:
        self.all.append(self)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, env=self.env, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
            )

    def kill(self) -> None:
        """The group at once, as a machine that loses power; children of jobs are sessions of their own and follow."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        assert self.process.stdin
        self.process.stdin.close()

    def terminate(self, seconds: float = 60) -> float:
        """SIGTERM, and the seconds until it had ended."""
        begun = time.monotonic()
        self.process.terminate()
        self.process.wait(seconds)
        assert self.process.stdin
        self.process.stdin.close()
        return time.monotonic() - begun

    def children(self) -> list[psutil.Process]:
        return children(self.process.pid)


def children(pid: int | None = None) -> list[psutil.Process]:
    """The processes under one, this one unless told, that do a job's work."""
    found = []
    for process in psutil.Process(pid).children(recursive=True):
        try:
            if "impasto.worker.jobs.child" in process.cmdline():
                found.append(process)
        except psutil.Error:
            continue
    return found


def supervisor(settings: Settings, log: Path, **more: str) -> Process:
    return Process([sys.executable, "-m", "tests.helpers.impatient", "embedded"], environment(settings, **more), log)


def celery_worker(settings: Settings, log: Path, app: str = "tests.helpers.impatient", **more: str) -> Process:
    command = [sys.executable, "-m", "celery", "-A", app, "worker", "-Q", "gatys,train", "-l", "info"]
    return Process(command, environment(settings, **more), log)


class Service(Process):
    """`impasto serve` on a free port."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "impasto", "serve"]
        super().__init__(command, environment(settings, IMPASTO_PORT=str(self.port)), log)

    def start(self) -> None:
        super().start()
        wait_for(lambda: self.answers("/livez"))

    def kill(self) -> None:
        """This process alone: what it has started must notice."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdin
        self.process.stdin.close()

    def answers(self, path: str) -> Any:
        """The JSON that it answers, or None when it does not."""
        try:
            with urllib.request.urlopen(f"http://localhost:{self.port}{path}", timeout=10) as response:
                return json.load(response)
        except OSError:
            return None


def in_folder(folder: Path, cache: Path, **more: Any) -> Settings:
    """Settings of a service whose models are those in the clone, and whose other files lie in `folder`."""
    places = {
        "models": ROOT / "models",
        "styles": folder / "styles",
        "datasets": folder / "datasets",
        "cache": cache,
        "store": str(folder / "jobs.sqlite"),
        "storage": str(folder / "storage"),
        "work": folder / "work",
    }
    return Settings(**{**places, "device": "cpu", **more})


@contextmanager
def ready(settings: Settings, log: Path) -> Iterator[Service]:
    """A service that can paint; told to end afterwards."""
    service = Service(settings, log)
    wait_for(lambda: (service.answers("/readyz") or {}).get("ready"))
    yield service
    service.terminate()
    Process.all.remove(service)


def wait_for(what: Callable[[], Any], seconds: float = 120) -> Any:
    """Return the first result of `what()` that is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds} s in vain")
