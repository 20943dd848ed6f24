"""The device of a job: one job at a time works on each GPU of a machine."""

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, flock

from impasto.core.device import find_device
from impasto.core.settings import Settings


@contextmanager
def free_device(settings: Settings) -> Iterator[str]:
    """A device that no other job of this machine works on, as torch names it; waits for a GPU to become free.

    On the CPU there is nothing to wait for: whoever runs several jobs there wants them to share it.
    """
    if find_device(settings.device) != "cuda":
        yield "cpu"
        return
    import torch

    settings.work.mkdir(parents=True, exist_ok=True)
    for number in itertools.cycle(range(torch.cuda.device_count())):
        with (settings.work / f"cuda-{number}.lock").open("w") as lock, suppress(BlockingIOError):
            flock(lock, LOCK_EX | LOCK_NB)
            yield f"cuda:{number}"
            return
        time.sleep(0.5)
