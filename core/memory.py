"""The C library's allocator, told to suit long loops over large tensors."""

import ctypes
import sys


def keep_memory() -> None:
    """Tell glibc to keep freed memory: a step otherwise spends a third of its time on pages given back and fetched."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            libc.mallopt(-4, 0)  # M_MMAP_MAX: large blocks on the heap, too
            libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: and it does not shrink
