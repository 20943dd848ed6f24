"""Print the tables of docs/benchmarks.md: all, or those named, as in `python -m benchmarks gatys`."""

import sys

from benchmarks import engine, gatys, service
from impasto.core.device import cpu_precision, processor
from impasto.core.settings import Settings

TABLES = {
    "engine": (engine.against_eager, engine.unseen_sizes, engine.twelve_megapixels, engine.memory_over_sizes),
    "service": (service.over_http, service.start, service.decoding),
    "gatys": (gatys.an_evaluation, gatys.the_loss),
}

if __name__ == "__main__":
    print(f"{processor()}, engine in {cpu_precision()}\n")
    settings = Settings()
    for name in sys.argv[1:] or TABLES:
        for table in TABLES[name]:
            table(settings)
            print(flush=True)
