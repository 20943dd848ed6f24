"""Confine a process that decodes hostile files, on Linux: whoever takes it over can compute, and answer its parent.

`confine` sets three layers, each of which holds where another is missing:

- no privileges: none can be gained, and root's capabilities are dropped;
- Landlock: no file, no network, no signal to a process outside, no look into one;
- seccomp: an allow list of system calls, none of which takes a path, an address or another process.

Calls outside the list fail as on a kernel that does not have them (ENOSYS). C libraries are made to fall back then:
glibc starts a thread by `clone` where it cannot by `clone3`, whose flags no filter can read. Killing the process
instead would lose pictures to every call that a new library tries first.

RLIMIT_NPROC is left alone: it counts threads, and decoders of HEIC and AVIF start some. The filter denies processes.
"""

import ctypes
import os
import sys
from collections.abc import Callable
from errno import ENOSYS
from typing import Any

PR_SET_DUMPABLE, PR_SET_NAME, PR_SET_NO_NEW_PRIVS = 4, 15, 38
CLONE_THREAD = 0x10000
F_DUPFD_CLOEXEC = 1030
LANDLOCK_CREATE_RULESET, LANDLOCK_RESTRICT_SELF = 444, 446  # system calls; the same on every architecture
CAPABILITY_VERSION = 0x20080522
INT = 0xFFFFFFFF  # the bits of an argument that is an int

ALLOWED = (
    *("brk", "mmap", "munmap", "mremap", "mprotect", "madvise"),
    *("futex", "set_robust_list", "rseq", "set_tid_address", "sched_yield", "sched_getaffinity", "getpid", "gettid"),
    *("rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "restart_syscall", "exit", "exit_group"),
    *("clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "time"),
    *("getrandom", "getcpu", "getrusage", "uname", "sysinfo"),
    *("read", "readv", "pread64", "write", "writev", "lseek", "close", "poll", "ppoll"),
    *("recvfrom", "recvmsg", "sendto", "sendmsg"),
)
"""System calls that are allowed with any arguments: they reach memory, clocks, and descriptors that are open."""


def hide_memory() -> None:
    """Keep other processes of this user out of this one's memory and environment. A program that is started from here
    has to call it again."""
    if sys.platform == "linux":
        _prctl(PR_SET_DUMPABLE, 0)


def confine(filter: Callable[[], None]) -> list[str]:
    """Give up, for good, all that decoding does not need. Return the layers that this machine lacks, with the reason.

    `filter` comes from `prepare`.
    """
    missing = []
    for name, layer in (("loss of privileges", _drop), ("Landlock", _restrict), ("seccomp", filter)):
        try:
            layer()
        except Exception as error:
            missing.append(f"{name} ({error})")
    return missing


def prepare() -> Callable[[], None]:
    """The filter of system calls, built once: the function that loads it may be called in many processes. Where there
    can be none, that function raises the reason."""
    try:
        import pyseccomp as seccomp  # raises RuntimeError where the system has no libseccomp

        load: Callable[[], None] = _filter(seccomp).load
        return load
    except Exception as error:
        reason = error

    def fail() -> None:
        raise reason

    return fail


def _filter(seccomp: Any) -> Any:
    """The allow list, of a process that runs on x86-64 or ARM64. Raises OSError elsewhere."""
    if seccomp.system_arch() not in (seccomp.Arch.X86_64, seccomp.Arch.AARCH64):
        raise OSError("the list of system calls is for x86-64 and ARM64")
    rules = seccomp.SyscallFilter(seccomp.ERRNO(ENOSYS))
    for name in ALLOWED:
        if seccomp.resolve_syscall(seccomp.Arch.NATIVE, name) >= 0:  # `time` is not on ARM64
            rules.add_rule(seccomp.ALLOW, name)
    for name, place, mask, value in (
        ("clone", 0, CLONE_THREAD, CLONE_THREAD),
        ("prctl", 0, INT, PR_SET_NAME),
        ("fcntl", 1, INT, F_DUPFD_CLOEXEC),  # others have the kernel send signals to any process
        ("prlimit64", 0, INT, 0),  # its own limits
    ):
        rules.add_rule(seccomp.ALLOW, name, seccomp.Arg(place, seccomp.MASKED_EQ, mask, value))
    return rules


def _drop() -> None:
    """Gain no privileges from now on, and drop those of root."""
    _prctl(PR_SET_NO_NEW_PRIVS, 1)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capset((ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)()):
        raise _error()


def _restrict() -> None:
    """Enter a Landlock domain that grants nothing."""
    version = _syscall(LANDLOCK_CREATE_RULESET, None, 0, 1)
    files = 13 + (version >= 2) + (version >= 3) + (version >= 5)  # rights that this version knows
    rights = [(1 << files) - 1, 3 if version >= 4 else 0, 3 if version >= 6 else 0]  # files, network, signals
    domain = _syscall(LANDLOCK_CREATE_RULESET, (ctypes.c_uint64 * 3)(*rights), 24, 0)
    _syscall(LANDLOCK_RESTRICT_SELF, domain, 0)
    os.close(domain)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, *map(ctypes.c_ulong, (value, 0, 0, 0)))


def _syscall(number: int, *arguments: Any) -> int:
    """Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    whole = (ctypes.c_long(each) if isinstance(each, int) else each for each in (number, *arguments))
    result: int = libc.syscall(*whole)
    if result < 0:
        raise _error()
    return result


def _error() -> OSError:
    return OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
