"""`impasto jobs`: list, watch and cancel, over the API of a running service."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import Request, urlopen

import click
from tqdm import tqdm

from impasto.api.admin_token import read_token
from impasto.core.errors import ImpastoError, Unavailable
from impasto.core.files import write_bytes
from impasto.options import read_settings

HERE = ("localhost", "127.0.0.1", "::1")
PATIENCE = 30
"""Seconds without a byte after which a connection is broken. The service sends a byte every 15."""


class Client:
    """A client of a running service. Shows the service's own errors."""

    def __init__(self, url: str, key: str | None = None) -> None:
        self.url, self.key = url.rstrip("/"), key

    def show_list(self, status: str | None) -> None:
        path: str | None = "/jobs" + (f"?{urlencode({'status': status})}" if status else "")
        while path:
            page = self._json(path)
            for job in page["jobs"]:
                step, total = job["progress"]["step"], job["progress"]["total"]
                why = job["error"]["message"] if job["error"] else ""
                about = job["params"].get("style") or "own style"
                when = job["created"][:16].replace("T", " ")
                click.echo(f"{job['id']}  {when}  {job['kind']:5}  {about:16}  {job['status']:9}  {step}/{total} {why}")
            path = page["next"]

    def watch(self, id: str, output: Path | None) -> str:
        """Show progress until the job is over, write its result to `output`, and return its last status."""
        job: dict[str, Any] = {}
        with tqdm(unit="step", dynamic_ncols=True) as bar:
            for event, data in self._events(f"/jobs/{quote(id)}/events"):
                if event == "progress":
                    bar.total = data["total"] or None
                    bar.set_postfix({k: f"{v:.3g}" for k, v in data["losses"].items()}, refresh=False)
                    bar.update(data["step"] - bar.n)
                elif event == "status":
                    bar.set_description(data["status"])
                elif event == "done":
                    job = data
        click.echo(f"{id} {job['status']}" + (f": {job['error']['message']}" if job.get("error") else ""))
        if output and "result" in job.get("links", {}):
            write_bytes(output, self._bytes(job["links"]["result"]))
            click.echo(str(output))
        return str(job["status"])

    def cancel(self, id: str) -> None:
        job = json.loads(self._bytes(f"/jobs/{quote(id)}/cancel", method="POST"))
        click.echo(f"{id} {job['status']}" + (", and being canceled" if job["status"] == "running" else ""))

    def _events(self, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield (event, data) until `done`. After a broken connection goes on from the last event."""
        last: str | None = None
        while True:
            with self._open(Request(self.url + path, headers={"Last-Event-ID": last} if last else {})) as response:
                event = ""
                try:
                    for line in response:
                        name, _, value = line.decode().rstrip("\n").partition(": ")
                        if name == "event":
                            event = value
                        elif name == "id":
                            last = value
                        elif name == "data":
                            yield event, json.loads(value)
                            if event == "done":
                                return
                except OSError:
                    continue

    def _json(self, path: str) -> Any:
        return json.loads(self._bytes(path))

    def _bytes(self, path: str, method: str = "GET") -> bytes:
        with self._open(Request(self.url + path, method=method)) as response:
            return bytes(response.read())

    def _open(self, request: Request) -> Any:
        if self.key:
            request.add_header("Authorization", f"Bearer {self.key}")
        try:
            return urlopen(request, timeout=PATIENCE)
        except HTTPError as error:
            try:
                detail = json.loads(error.read())["detail"]
            except (ValueError, KeyError):
                detail = str(error)
            raise ImpastoError(detail) from error
        except (URLError, OSError) as error:
            raise Unavailable(
                f"There is no service at {self.url} ({error}). "
                "Start one (make serve), or give its address: impasto jobs --url …"
            ) from error


@click.group()
@click.option("--url", help="Address of the service.  [default: localhost, at IMPASTO_PORT]")
@click.option(
    "--key",
    envvar="IMPASTO_KEY",
    help="Key of its API.  [default: IMPASTO_KEY, or on this machine the admin's token]",
)
@click.pass_context
def jobs(context: click.Context, url: str | None, key: str | None) -> None:
    """List, watch and cancel the jobs of a running service."""
    settings = read_settings()
    url = url or f"http://localhost:{settings.port}"
    if not key and urlsplit(url).hostname in HERE:  # the token is for this machine's service and leaves it for no other
        key = read_token(settings.cache_folder)
    context.obj = Client(url, key)


@jobs.command("list")
@click.option("--status", help="Only jobs that are queued, running, succeeded, failed or canceled.")
@click.pass_obj
def list_jobs(client: Client, status: str | None) -> None:
    """List all jobs, or those of the key, the newest first."""
    client.show_list(status)


@jobs.command()
@click.argument("id")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write the result to.")
@click.pass_obj
def watch(client: Client, id: str, output: Path | None) -> None:
    """Follow a job until it is over."""
    if client.watch(id, output) != "succeeded":
        sys.exit(1)


@jobs.command()
@click.argument("id")
@click.pass_obj
def cancel(client: Client, id: str) -> None:
    """Cancel a job. A painting ends with the best picture so far."""
    client.cancel(id)
