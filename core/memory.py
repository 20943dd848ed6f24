"""Memory: how much of it there is for this process, and the C library's allocator."""

import ctypes
import os
import sys
from contextlib import suppress
from pathlib import Path


def memory_limit(root: Path = Path("/")) -> int:
    """Bytes of this machine, or of this container where that is less: the least limit of its control groups, of version
    1 or 2. `root` is where `proc` and `sys` lie."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    groups = root / "sys/fs/cgroup"
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, kinds, path = line.split(":", 2)
            if kinds and "memory" not in kinds.split(","):
                continue
            top, name = (groups / "memory", "memory.limit_in_bytes") if kinds else (groups, "memory.max")
            # In a container the path may be the host's, of which only the last folder is to be seen here, as the top.
            group = top / path.strip("/")
            for folder in (group, *group.parents):
                if folder.is_relative_to(top):
                    with suppress(OSError, ValueError):  # no such file, or `max`
                        limits.append(int((folder / name).read_text()))
    return min(limits)


def keep_memory() -> None:
    """Tell glibc to keep freed memory: a step otherwise spends a third of its time on pages given back and fetched."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            libc.mallopt(-4, 0)  # M_MMAP_MAX: large blocks on the heap, too
            libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: and it does not shrink
