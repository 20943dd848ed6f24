"""Sets up .venv for the Makefile: `python3 tools/setup.py [test] [dev]`, the extras of pyproject.toml.

Needs nothing but Python, and is written so that one too old for Impasto can still run it and say so. What is set up
is noted in .venv/set-up.json as the last step: a run that finds its note does nothing, and one that was interrupted
left none, so that the next sees to the rest. Environment: TORCH_INDEX, the package index that torch comes from.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
NOTE = VENV / "set-up.json"
INSTALL = [str(PYTHON), "-m", "pip", "install", "--no-compile"]
"""Python compiles what is imported, when it is; pip would compile all of it, two thirds of its time."""

OLDEST = (3, 11)
TORCH_CPU = "https://download.pytorch.org/whl/cpu"
PATIENCE = 3.0
"""Seconds that PyTorch's index has for its answer, from looking up its name to the first byte."""


def main() -> None:
    if "test" in sys.argv[1:]:
        install_programs()
    note = read_note()
    index = os.environ.get("TORCH_INDEX", "")
    extras = sorted({*note["extras"], *sys.argv[1:]})
    tell_kept_python()
    current = note["project"] == project() and note["extras"] == extras and index in ("", note["torch"])
    if current and PYTHON.exists():
        return
    make_venv()
    if NOTE.exists():
        NOTE.unlink()
    repair()
    if index not in ("", note["torch"]) or not torch_works():
        note["torch"] = index or choose_index()
        install_torch(note["torch"])
    wanted = f".[{','.join(extras)}]" if extras else "."
    say(f"Installing Impasto and what it needs: {wanted} …")
    if install_quietly("--editable", wanted):
        stop("pip could not install the packages in pyproject.toml: its reason is above.")
    NOTE.write_text(json.dumps({"project": project(), "extras": extras, "torch": note["torch"]}))
    say("Set up.")


def install_programs() -> None:
    """The tests start a Redis of their own, and drive a Chromium through the page. Where we may install them, we do;
    elsewhere the tests that need them are skipped, and the last line says what to do."""
    missing = [name for name in ("redis-server", "chromium") if not shutil.which(name)]
    if missing and shutil.which("apt-get") and os.geteuid() == 0:
        say(f"Installing {' and '.join(missing)}, for the tests …")
        for command in (["update", "-q"], ["install", "-qy", "--no-install-recommends", *missing]):
            subprocess.call(["apt-get", *command], env=dict(os.environ, DEBIAN_FRONTEND="noninteractive"))


def read_note() -> dict:
    """Read the last set-up: the project's state, its extras and the index that torch came from ("": pip's own)."""
    try:
        return json.loads(NOTE.read_text())
    except (OSError, ValueError):
        return {"project": "", "extras": [], "torch": ""}


def project() -> str:
    """Changes with pyproject.toml, and with the folder: the scripts in .venv hold its path."""
    return hashlib.sha256(str(ROOT).encode() + (ROOT / "pyproject.toml").read_bytes()).hexdigest()


def tell_kept_python() -> None:
    """A PYTHON named by hand does not replace the one that .venv has: torch would have to come again."""
    if os.environ.get("PYTHON") and (VENV / "lib").exists():
        wanted = "python" + ".".join(map(str, sys.version_info[:2]))
        kept = [folder.name for folder in (VENV / "lib").glob("python*")]
        if kept and wanted not in kept:
            say(f"Keeping .venv as it is, with {kept[0]}. For {wanted}, run `make clean` first.")


def make_venv() -> None:
    """A .venv with a pip that runs. A broken one, as after an upgrade of the system's Python, is made anew."""
    if PYTHON.exists() and run(PYTHON, "-m", "pip", "--version"):
        return
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST:
        stop(
            f"Impasto needs Python 3.11 or newer, and {sys.executable} is {version}. Install a newer one and name it:"
            " PYTHON=python3.12 make serve"
        )
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        stop(
            f"{sys.executable} (Python {version}) came without its venv module. On Debian and Ubuntu:"
            " sudo apt-get install python3-venv. Or name another Python: PYTHON=python3.12 make serve"
        )
    say(f"Making .venv with Python {version} …")
    if subprocess.call([sys.executable, "-m", "venv", "--clear", str(VENV)]):
        stop("Python could not make .venv: its reason is above.")


def repair() -> None:
    """Forgets packages that pip was interrupted at: it writes a RECORD last, and trusts what has none."""
    for packages in VENV.glob("lib/python*/site-packages"):
        for entry in packages.iterdir():
            halfway = entry.suffix == ".dist-info" and not (entry / "RECORD").exists()
            if halfway or entry.name.startswith("~"):
                shutil.rmtree(entry, ignore_errors=True)


def torch_works() -> bool:
    """Whether pip knows torch and torchvision and they fit together: on import, torchvision looks for its operators."""
    known = "from importlib.metadata import version; version('torch'), version('torchvision')"
    return run(PYTHON, "-c", f"{known}; import torch, torchvision")


def choose_index() -> str:
    """Linux's torch has CUDA inside, almost 5 GB. Without an NVIDIA GPU: PyTorch's own CPU index, if it answers."""
    if sys.platform != "linux" or shutil.which("nvidia-smi") or Path("/proc/driver/nvidia").exists():
        return ""
    if answers(TORCH_CPU + "/torchvision/"):
        return TORCH_CPU
    say(f"{TORCH_CPU} does not answer: torch comes from pip's own index, with CUDA inside, almost 5 GB.")
    return ""


def answers(url: str) -> bool:
    """In a thread of its own, as no timeout of Python's covers the name look-up."""
    found = threading.Event()

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PATIENCE):
                found.set()
        except (OSError, ValueError):
            pass

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return found.is_set()


def install_torch(index: str) -> None:
    """torch and torchvision in one go and from one place, as each torchvision fits one torch alone."""
    place = "CPU build" if index == TORCH_CPU else f"from {index}" if index else "from pip's own index"
    say(f"Installing torch ({place}) …")
    options, environment = [], dict(os.environ)
    if index:
        options = ["--index-url", index]
        environment.update(PIP_EXTRA_INDEX_URL=" ", PIP_FIND_LINKS=" ")  # else pip mixes in what it is set up with
    command = [*INSTALL, "--force-reinstall", *options, "torch", "torchvision"]
    elsewhere = "To have it from elsewhere, give the address of a package index: TORCH_INDEX=https://… make serve"
    if subprocess.call(command, env=environment):
        stop(f"torch could not be installed ({place}): pip's reason is above. {elsewhere}")
    if not torch_works():
        stop(f"torch and torchvision ({place}) are installed and do not work together. {elsewhere}")


def install_quietly(*arguments: str) -> int:
    """pip's exit status; of what it says, the downloads are shown."""
    with subprocess.Popen([*INSTALL, *arguments], cwd=str(ROOT), stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or []:
            if line.lstrip().startswith("Downloading ") and ".metadata" not in line:
                say("  " + line.strip())
    return process.returncode


def run(*command: object) -> bool:
    """Whether a command ends well, in silence."""
    return subprocess.call(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0


def say(line: str) -> None:
    print(line, flush=True)


def stop(reason: str) -> None:
    sys.exit("Set-up stopped. " + reason)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nSet-up interrupted: the next run sees to the rest.")
