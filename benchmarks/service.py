"""The service as a client sees it: a server of its own process, over HTTP on this machine."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from statistics import median

from benchmarks.engine import cat, networks, seconds
from impasto.core.pictures.codec import Picture, decode, encode
from impasto.core.pictures.sandbox import Terms, open_sandbox
from impasto.core.settings import ROOT, Settings
from impasto.core.stylize.engine import Engine


@contextmanager
def server() -> Iterator[tuple[HTTPConnection, int, float]]:
    """A running server: a connection to it, its process and the seconds until it was ready."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "impasto", "serve", "--port", str(port)]
    begun = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, env=os.environ | {"IMPASTO_HOST": "127.0.0.1"}
    )
    address = f"http://127.0.0.1:{port}"
    try:
        while not _ready(address):
            if process.poll() is not None or time.perf_counter() - begun > 120:
                raise RuntimeError("the server did not start")
            time.sleep(0.01)
        yield HTTPConnection("127.0.0.1", port), process.pid, time.perf_counter() - begun
    finally:
        process.terminate()
        process.wait()


def _ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/readyz") as response:
            return bool(json.load(response)["ready"])
    except OSError:
        return False


def post(client: HTTPConnection, query: str, picture: bytes) -> bytes:
    """POST /stylize, as curl -F does, over a connection that stays open."""
    boundary = uuid.uuid4().hex
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
    body = head.encode() + picture + f"\r\n--{boundary}--\r\n".encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    client.request("POST", f"/stylize?{query}", body, headers)
    response = client.getresponse()
    assert response.status == 200
    return response.read()


def over_http(settings: Settings) -> None:
    """256 px, JPEG in and out, one client, against the engine alone in this process, turn by turn."""
    rgb = cat(256, 256)
    photo = encode(Picture(rgb), "jpeg")
    painter = Engine(settings.cache_folder, device="cpu").painter(networks(settings)["aonet"])
    with server() as (client, _, _):
        query = "style=wave&format=jpeg"
        times = [(seconds(lambda: painter(rgb)), seconds(lambda: post(client, query, photo))) for _ in range(60)][10:]
    alone, http = (median(column) * 1000 for column in zip(*times, strict=True))
    print(f"/stylize at 256 px, JPEG in and out, one client: p50 {http:.1f} ms; the engine alone: {alone:.1f} ms")


def start(settings: Settings) -> None:
    """From the command to ready with a warm cache, the first picture, and memory with two models loaded."""
    photo = encode(Picture(cat(256, 256)), "jpeg")
    with server() as (client, pid, ready):
        first = seconds(lambda: post(client, "style=wave", photo))
        print(f"ready {ready:.1f} s after the command, first picture {first * 1000:.0f} ms after that, {_rss(pid)} MB")
        for arch in networks(settings):
            post(client, f"style=wave&arch={arch}", photo)
        print(f"resident memory with {len(networks(settings))} models loaded: {_rss(pid)} MB")


def decoding(settings: Settings) -> None:
    """A JPEG of 12 megapixels in a child of the sandbox, against the same in this process, turn by turn."""
    photo = encode(Picture(cat(3000, 4000)), "jpeg")
    sandbox = open_sandbox(Terms(settings.limits), on=True)
    times = [(seconds(lambda: sandbox.decode(photo)), seconds(lambda: decode(photo))) for _ in range(24)][4:]
    there, here = (median(column) * 1000 for column in zip(*times, strict=True))
    print(f"decoding 12 megapixels of JPEG: {there:.0f} ms in a child, {here:.0f} ms in place")


def _rss(pid: int) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return f"{int(next(line for line in lines if line.startswith('VmRSS')).split()[1]) / 1024:,.0f}"
