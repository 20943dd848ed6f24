"""A decoder that an attacker has taken over: pictures whose bytes are Python code, and a sandbox that runs it.

The code runs where a decoder would: in a real child, with all that confines it. Attacks are tried with each layer of
the confinement taken away in turn, too.
"""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import psutil
import pyseccomp
import pytest

from impasto.core.errors import BadPicture, TooLarge
from impasto.core.pictures import confine, forkserver
from impasto.core.pictures.sandbox import Sandbox, Terms
from impasto.core.settings import ROOT, Settings
from tests.helpers.processes import Process, Service, wait_for

PNG = b"\x89PNG\r\n\x1a\n"
SECRET = "SECRET of the service"
COMPROMISED = """
import ast, ctypes, fcntl, mmap, os, resource, signal, socket, sys, threading
from impasto.core.pictures import confine, sandbox_child as decoder

def run(service, data, *rest):
    names = {name: value for name, value in globals().items()} | {"service": service}
    try:
        exec(data[8:].decode(), names)
        result = names["result"]
    except OSError as error:
        result = error.strerror
    return {"error": "BadPicture", "message": repr(result)}

decoder._decode = run
def fail(): raise OSError("taken away")
WITHOUT
decoder.serve(socket.socket(fileno=int(sys.argv[1])))
"""
TAKEN_AWAY = {
    "nothing": "",
    "Landlock": "confine._restrict = fail",
    "seccomp": "decoder.prepare = lambda: fail",
    "both": "confine._restrict, decoder.prepare = fail, lambda: fail",
}
"""A layer -> the line that takes it away."""


class Attacker:
    """Sends code as a picture, and gets what it had as its result."""

    def __init__(self) -> None:
        self.sandbox = Sandbox(Terms())

    def run(self, code: str) -> object:
        """The value of `result`, or why a call failed. Raises BadPicture for a child that died of it."""
        with pytest.raises(BadPicture) as told:
            self.sandbox.decode(PNG + dedent(code).encode())
        if "ended the decoder" in told.value.message:
            raise told.value
        return ast.literal_eval(told.value.message)


def compromise(monkeypatch: pytest.MonkeyPatch, without: str = "nothing") -> Iterator[Attacker]:
    server = forkserver.ForkServer()
    code = COMPROMISED.replace("WITHOUT", TAKEN_AWAY[without])
    monkeypatch.setattr(forkserver, "DECODER", (sys.executable, "-c", code))
    monkeypatch.setattr(forkserver, "server", server)
    yield Attacker()
    server.close()


@pytest.fixture
def attacker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Attacker]:
    yield from compromise(monkeypatch)


@pytest.fixture(params=TAKEN_AWAY)
def stronger(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Attacker]:
    """An attacker, with each layer taken away in turn."""
    yield from compromise(monkeypatch, request.param)


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has a secret in its environment and memory, as the service has, and no capabilities."""
    code = "from impasto.core.pictures import confine as c; c._drop(); c.hide_memory(); print(flush=True); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"IMPASTO_WEBHOOK_SECRET": SECRET},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin and process.stdout
    with process.stdin, process.stdout:
        process.stdout.readline()
        yield process
        process.kill()
        process.wait()


def test_the_attackers_code_runs_in_a_child(attacker: Attacker) -> None:
    """Or the tests below would show nothing."""
    assert attacker.run("result = 6 * 7, os.getpid() != os.getppid()") == (42, True)


def test_the_memory_of_the_service_cannot_be_read(stronger: Attacker, victim: subprocess.Popen[bytes]) -> None:
    """A webhook secret and the URL of Redis were read through /proc, even without the two filters."""
    for file in ("environ", "mem", "maps"):
        denied = stronger.run(f"result = open('/proc/{victim.pid}/{file}', 'rb').read(100)")
        assert denied in ("Permission denied", "Function not implemented"), file


def test_the_memory_of_the_service_cannot_be_written(stronger: Attacker, victim: subprocess.Popen[bytes]) -> None:
    numbers = [pyseccomp.resolve_syscall(0, name) for name in ("process_vm_readv", "process_vm_writev", "ptrace")]
    results = stronger.run(f"""
        libc, byte = ctypes.CDLL(None), ctypes.create_string_buffer(1)
        span = (ctypes.c_size_t * 2)(ctypes.addressof(byte), 1)
        read, write, trace = {numbers}
        result = [
            libc.syscall(read, {victim.pid}, span, 1, span, 1, 0),
            libc.syscall(write, {victim.pid}, span, 1, span, 1, 0),
            libc.syscall(trace, 16, {victim.pid}, 0, 0),  # PTRACE_ATTACH
        ]
    """)
    assert results == [-1, -1, -1]
    assert psutil.Process(victim.pid).status() != psutil.STATUS_TRACING_STOP


@pytest.mark.parametrize("without", ["nothing", "Landlock", "seccomp"])
def test_no_file_can_be_opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, without: str) -> None:
    secret, new = tmp_path / "secret", tmp_path / "new"
    secret.write_text(SECRET)
    for attacker in compromise(monkeypatch, without):
        for code in (
            f"open({str(secret)!r}).read()",
            f"open({str(secret)!r}, 'w').write('mine')",
            f"open({str(new)!r}, 'x').write('mine')",
            f"os.listdir({str(tmp_path)!r})",
            f"os.unlink({str(secret)!r})",
            f"os.rename({str(secret)!r}, {str(new)!r})",
            f"os.mkdir({str(new)!r})",
            f"os.symlink('/', {str(new)!r})",
        ):
            assert attacker.run(f"result = {code}") in ("Permission denied", "Function not implemented"), code
    assert secret.read_text() == SECRET and not new.exists()


OUTSIDE = (
    "socket.socket()",
    "socket.socket(socket.AF_UNIX)",
    "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
    "socket.socketpair()",
    "os.fork()",
    "os.posix_spawn('/bin/true', ['true'], {})",
    "os.execv('/bin/true', ['true'])",
    "os.memfd_create('program')",
    "os.pidfd_open(os.getppid())",
    "os.kill(PARENT, 0)",
    "os.killpg(0, 0)",
    "signal.pthread_kill(threading.get_ident(), 0) or os.kill(-1, 0)",
    "fcntl.fcntl(service, fcntl.F_SETOWN, PARENT)",  # and F_SETSIG: the kernel then sends any signal
    "fcntl.ioctl(service, 0x8901, (PARENT).to_bytes(4, sys.byteorder))",  # FIOSETOWN
    "resource.prlimit(PARENT, resource.RLIMIT_CORE, (0, 0))",
    "os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)",
    "os.sched_setaffinity(os.getppid(), {0})",
    "os.stat('/etc/passwd')",
    "os.chdir('/')",
)
"""Calls that reach out of the process; PARENT is the service."""


def test_nothing_outside_can_be_reached(attacker: Attacker) -> None:
    results = {code: attacker.run(f"result = {code.replace('PARENT', str(os.getpid()))}") for code in OUTSIDE}
    assert results == dict.fromkeys(OUTSIDE, "Function not implemented")


DANGEROUS = (
    *("execve", "execveat", "clone3", "ptrace", "process_vm_readv", "process_vm_writev", "kcmp"),
    *("kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_send_signal", "pidfd_getfd"),
    *("open", "openat", "openat2", "creat", "open_by_handle_at", "mknodat", "linkat", "symlinkat", "unlinkat"),
    *("fchmodat", "fchownat", "truncate", "statx", "newfstatat", "readlinkat", "name_to_handle_at", "inotify_init1"),
    *("mount", "umount2", "pivot_root", "chroot", "unshare", "setns", "fsopen", "move_mount", "open_tree"),
    *("bpf", "perf_event_open", "io_uring_setup", "userfaultfd", "keyctl", "add_key", "request_key", "syslog"),
    *("init_module", "finit_module", "kexec_load", "reboot", "swapon", "sethostname", "settimeofday", "acct"),
    *("socket", "socketpair", "connect", "bind", "listen", "accept4", "sendmmsg", "shmget", "msgget", "semget"),
    *("mq_open", "setuid", "setresuid", "setgroups", "capset", "personality", "seccomp", "process_madvise"),
)


def test_dangerous_system_calls_are_as_if_they_were_not_there(attacker: Attacker) -> None:
    numbers = {name: pyseccomp.resolve_syscall(0, name) for name in DANGEROUS}
    there = {name: number for name, number in numbers.items() if number >= 0}
    assert len(there) > 50
    errors = attacker.run(f"""
        libc, result = ctypes.CDLL(None, use_errno=True), dict()
        for name, number in {there}.items():
            ctypes.set_errno(0)
            result[name] = libc.syscall(number, -1, 0, 0, 0, 0, 0), os.strerror(ctypes.get_errno())
    """)
    assert errors == dict.fromkeys(there, (-1, "Function not implemented"))


@pytest.mark.parametrize("option", [1, 4, 8, 23, 35, 0x59616D61])  # PR_SET_PDEATHSIG, DUMPABLE, KEEPCAPS, …, PTRACER
def test_a_child_cannot_loosen_what_it_is_held_by(attacker: Attacker, option: int) -> None:
    assert attacker.run(f"result = ctypes.CDLL(None).prctl({option}, *map(ctypes.c_ulong, (0, 0, 0, 0)))") == -1


def test_no_process_can_be_started_by_clone(attacker: Attacker) -> None:
    """A thread can."""
    clone = pyseccomp.resolve_syscall(0, "clone")
    result = attacker.run(f"""
        libc, started = ctypes.CDLL(None), []
        thread = threading.Thread(target=lambda: started.append(1))
        thread.start(), thread.join()
        result = [libc.syscall({clone}, flags, 0, 0, 0, 0) for flags in (17, 0x4111, 0x10000011 + 0x100)], started
    """)
    assert result == ([-1, -1, -1], [1])


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="other processors have one way to call the system")
@pytest.mark.parametrize(
    "code",
    [
        "result = ctypes.CDLL(None).syscall(0x40000000 + 39)",  # getpid of x32
        """
        page = mmap.mmap(-1, 4096, prot=7)
        page.write(bytes.fromhex("b814000000cd80c3"))  # mov eax, 20; int 0x80; ret: getpid of 32 bits
        result = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
        """,
    ],
)
def test_the_systems_other_doors_end_the_child(attacker: Attacker, code: str) -> None:
    """Their calls have other numbers, which the list would take for its own."""
    with pytest.raises(BadPicture, match="ended the decoder"):
        attacker.run(code)


def test_a_child_has_no_privileges_and_no_descriptor_but_its_own(attacker: Attacker) -> None:
    attacker.sandbox.warm()
    child = wait_for(the_only_child)
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{child.pid}/status").read_text().splitlines())
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
    assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
    files = {str(file.readlink()).split(":")[0] for file in Path(f"/proc/{child.pid}/fd").iterdir()}
    assert files == {"/dev/null", "socket"}


def the_only_child() -> psutil.Process | None:
    """The child that was forked ahead, once it is confined and the one before it is gone."""
    assert forkserver.server._process
    children = psutil.Process(forkserver.server._process.pid).children()
    if len(children) == 1 and "Seccomp:\t2" in Path(f"/proc/{children[0].pid}/status").read_text():
        return children[0]
    return None


def test_a_child_never_serves_a_second_client(attacker: Attacker) -> None:
    """Code that stays in the process waits for the next client's photograph."""
    code = "result = os.getpid(), getattr(decoder, 'planted', None); decoder.planted = 'by the first client'"
    (first, before), (second, after) = attacker.run(code), attacker.run(code)  # type: ignore[misc]
    assert first != second and before is None and after is None


LIES = (
    "[]",
    "{",
    '"size"',
    '{"height": -32, "width": -32}',
    '{"height": 1e9, "width": 32}',
    '{"height": 100000, "width": 100000}',
    '{"height": null, "width": 32}',
    '{"error": "SystemExit", "message": ""}',
    '{"error": "BadPicture", "message": "", "extra": {"self": 1}}',
    "[" * 60_000,
)


def test_lies_of_a_child_are_a_bad_picture(attacker: Attacker) -> None:
    for answer in LIES:
        for before in ("", 'service.send(b\'{"height": 32, "width": 32}\'); service.recv(9);'):
            code = f"{before} service.send({answer!r}.encode()); os._exit(0)"
            with pytest.raises((BadPicture, TooLarge)):
                attacker.sandbox.decode(PNG + code.encode())


def test_no_more_pixels_come_than_were_admitted(attacker: Attacker) -> None:
    """Memory was made sure of for 32 x 32."""
    code = """
    service.send(b'{"height": 32, "width": 32}'); service.recv(9)
    service.send(b'{"height": 4000, "width": 6000}'); os._exit(0)
    """
    with pytest.raises(BadPicture, match=r"24,000,000 pixels, and 1,024 by its header"):
        attacker.sandbox.decode(PNG + dedent(code).encode())


@pytest.mark.parametrize("without", ["Landlock", "seccomp"])
def test_the_start_says_what_the_machine_lacks(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, without: str
) -> None:
    for attacker in compromise(monkeypatch, without):
        for _ in range(2):
            attacker.sandbox.warm()
    (record,) = [record for record in caplog.records if record.name == "impasto"]
    assert record.levelname == "WARNING" and f"no {without} (taken away)" in record.getMessage()


def test_another_processor_has_no_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyseccomp, "system_arch", lambda: pyseccomp.Arch.S390X)
    with pytest.raises(OSError, match="x86-64 and ARM64"):
        confine.prepare()()


class Plain(Service):
    """A service without capabilities, where these tests run as root: they would hide it by themselves."""

    def start(self) -> None:
        drop = "from impasto.core.pictures.confine import _drop; _drop()"
        start = "import os, sys; os.execv(sys.argv[1], sys.argv[1:])"
        self.command = [sys.executable, "-c", f"{drop}; {start}", *self.command]
        super().start()


READ = """
import sys
from impasto.core.pictures.confine import _drop
_drop()
for pid in sys.argv[1:]:
    try:
        print(pid, len(open(f"/proc/{pid}/environ").read()))
    except (PermissionError, FileNotFoundError):  # hidden, or a child that has ended
        pass
"""


def test_service_worker_and_decoders_are_hidden_from_their_own_user(settings: Settings, tmp_path: Path) -> None:
    service = Plain(settings, tmp_path / "log")
    try:
        wait_for(lambda: (service.answers("/readyz") or {}).get("ready"))
        mine = psutil.Process(service.process.pid)
        names = {process.pid: " ".join(process.cmdline()) for process in (mine, *mine.children(recursive=True))}
        for part in ("impasto serve", "impasto.worker.embedded", "sandbox_child"):
            assert any(part in name for name in names.values()), names
        command = [sys.executable, "-c", READ, *map(str, names)]
        seen = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert not seen, (seen, names)
    finally:
        service.terminate()
        Process.all.remove(service)
