"""Prints the tables of the README's "How fast it is": all, or those named, as in `python -m benchmarks gatys`."""

import platform
import sys
from pathlib import Path

from benchmarks import engine, gatys, service
from core.engine import cpu_precision
from core.settings import Settings


def processor() -> str:
    """The processor's name, and what OpenVINO computes in on it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    name = next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.processor())
    flags = next((line for line in lines if line.startswith("flags")), "")
    best = next((f for f in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if f in flags), "")
    return f"{name}, {best}, engine in {cpu_precision()}"


TABLES = {
    "engine": (engine.against_eager, engine.unseen_sizes, engine.twelve_megapixels),
    "service": (service.over_http, service.start),
    "gatys": (gatys.an_evaluation, gatys.the_loss),
}

if __name__ == "__main__":
    print(processor(), "\n")
    settings = Settings()
    for name in sys.argv[1:] or TABLES:
        for table in TABLES[name]:
            table(settings)
            print(flush=True)
