"""Names that try to be paths: nothing outside the service's own folders is read, written or removed."""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from fastapi.testclient import TestClient

from impasto.api.keys import Keys
from impasto.api.main import create_app
from impasto.core.pictures.codec import Picture, encode
from impasto.core.settings import Settings
from tests.helpers.work import with_our_styles

CANARY = b"canary: nobody may read this"


def attacks(canary: Path) -> list[str]:
    """Fifty names that reach for a file: up, absolute, encoded, cut by NUL, as other systems write them."""
    up = [f"{'../' * depth}{canary.name}" for depth in range(1, 6)] + [f"{'../' * depth}etc/passwd" for depth in (4, 9)]
    plain = [*up, str(canary), f"/{canary}", f"file://{canary}", f"//{canary}", f"~/{canary.name}", f"./{canary.name}"]
    odd = [name.replace("/", "\\") for name in plain[:5]] + [name.replace("../", "....//") for name in plain[:3]]
    odd += [
        f"wave{name}" for name in ("\0", "\0.png", "/../x", "/..", "/.", "\n", "\r\nX: y", "%00", ";", "|id", "$(id)")
    ]
    encoded = [quote(name, safe="") for name in plain[:5]] + [
        quote(quote(name, safe=""), safe="") for name in plain[:3]
    ]
    encoded += [name.replace("../", "..%c0%af") for name in plain[:2]] + [
        name.replace(".", "\uff0e") for name in plain[:2]
    ]
    return [*plain, *odd, *encoded, "..", ".", "", " ", "x" * 5000, "CON", "\u202egnp"][:60]


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    path = tmp_path / "canary.txt"
    path.write_bytes(CANARY)
    return path


@contextmanager
def nothing_but(ours: tuple[str, ...], canary: Path) -> Iterator[None]:
    """Under it, of the canary's folder nothing is read, made or removed but what begins with `ours`, nor a canary."""
    folder, touched, watching = canary.parent, set[tuple[str, Path]](), True
    events = ("open", "os.remove", "os.rename", "os.rmdir", "os.mkdir", "shutil.rmtree", "os.listdir")

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event in events:
            touched.update((event, Path(one)) for one in arguments[:2] if isinstance(one, str | os.PathLike))

    sys.addaudithook(watch)  # for good: nothing takes one away
    before = set(folder.rglob("*"))
    try:
        yield
    finally:
        watching = False
    assert canary.read_bytes() == CANARY
    harmless = {("os.mkdir", folder), ("os.listdir", folder)}  # the first on the way to a folder in it: it is there
    for _, path in touched - harmless:
        assert not {"passwd", canary.name} & set(path.parts)
        assert not path.is_relative_to(folder) or path.relative_to(folder).parts[0].startswith(ours), path
    after = set(folder.rglob("*")) - before
    assert all(path.relative_to(folder).parts[0].startswith(ours) for path in after)


def test_fifty_names_reach_nothing(settings: Settings, tmp_path: Path, photo: np.ndarray, canary: Path):
    (tmp_path / "datasets").mkdir()
    settings = with_our_styles(settings)
    png = encode(Picture(photo), "png")
    names = attacks(canary)
    assert len(set(names)) >= 50
    with (
        TestClient(create_app(settings), base_url="http://localhost", client=("127.0.0.1", 1)) as client,
        nothing_but(("jobs.sqlite", "storage", "styles", "datasets"), canary),
    ):
        for name in names:
            path = quote(name, safe="")
            form = {"kind": "train", "name": name, "style": "wave", "dataset": "holiday"}
            answers = [
                client.post("/stylize", params={"style": name, "arch": name, "dataset": name}, files={"image": png}),
                client.post("/stylize", params={"style": name}, files={"image": (name or "x", png)}),
                client.post("/stylize", params={"style": "wave", "picture": name}),
                client.post("/compare", params={"style": name}, files={"image": png}),
                client.get(f"/styles/aonet/coco/{path}/example"),
                client.delete(f"/styles/aonet/{path}/{path}"),
                client.get("/jobs", params={"after": name or "x"}),
                *(client.get(f"/jobs/{path}/{part}") for part in ("result", "preview", "losses")),
                client.delete(f"/jobs/{path}/"),
                client.post(f"/jobs/{path}/cancel"),
                client.post("/jobs", data=form, files={"image": png}),
                client.post("/jobs", data=form | {"name": "fine", "dataset": name or ".."}),
                client.post("/jobs", data={"kind": "gatys", "style": name or ".."}, files={"image": png}),
                client.get(f"/web/{path}"),
                client.get(f"/web/{name}") if name.isprintable() else client.get("/web/"),
            ]
            for answer in answers:
                assert answer.status_code < 500, (name, answer.request.url, answer.text)
                assert CANARY not in answer.content
                assert b"root:" not in answer.content
            if name not in ("wave\n",):
                assert answers[0].status_code in (404, 422), name


def in_a_header(names: Iterable[str]) -> list[str]:
    """Those that a header can hold, as a server reads its bytes."""
    return [name.encode().decode("latin-1").strip() for name in names if not set("\r\n\0") & set(name)]


def test_idempotency_keys_are_no_paths(settings: Settings, photo: np.ndarray, canary: Path):
    """Each is a name for one job, and no more."""
    png, form = encode(Picture(photo), "png"), {"kind": "gatys", "style": "wave", "num_iterations": "1"}
    ids = dict[str, str]()
    with (
        TestClient(create_app(with_our_styles(settings)), base_url="http://localhost") as client,
        nothing_but(("jobs.sqlite", "storage"), canary),
    ):
        for name in in_a_header(attacks(canary)):
            key = {"Idempotency-Key": name.encode("latin-1")}
            answers = [client.post("/jobs", data=form, files={"image": png}, headers=key) for _ in range(2)]
            allowed = 1 <= len(name) <= 255
            assert {answer.status_code for answer in answers} == {202 if allowed else 422}, name
            if allowed:
                (ids[name],) = {answer.json()["id"] for answer in answers}
        stored = set(client.app.state.submissions.storage.groups("jobs"))  # type: ignore[attr-defined]
    assert len(ids) >= 40
    assert stored == set(ids.values())
    assert len(stored) == len(ids)


def test_bearer_keys_are_no_paths(settings: Settings, photo: np.ndarray, canary: Path, tmp_path: Path):
    keys = Keys(tmp_path / "keys")
    Keys(canary.with_name("other")).add("other", ["admin"])  # a file of keys, to be reached by nobody
    keys.add("ann", ["admin"])
    kept, png = keys.path.read_bytes(), encode(Picture(photo), "png")
    settings = with_our_styles(settings).model_copy(update={"keys": str(keys.path)})
    with (
        TestClient(create_app(settings), base_url="http://localhost") as client,
        nothing_but(("jobs.sqlite", "storage", "keys"), canary),
    ):
        for name in in_a_header([*attacks(canary), str(keys.path), "../other", kept.decode().split()[-2]]):
            for value in (f"Bearer {name}", f"bearer  {name} ", name, f"{name} {name}"):
                headers = {"Authorization": value.encode("latin-1")}
                answers = [
                    client.get("/jobs", headers=headers),
                    client.post("/stylize?style=wave", files={"image": png}, headers=headers),
                    client.delete("/styles/aonet/coco/wave", headers=headers),
                ]
                assert [answer.status_code for answer in answers] == [401] * 3, value
                assert not any(CANARY in answer.content for answer in answers)
    assert keys.path.read_bytes() == kept


def test_names_of_keys_are_no_paths(impasto, canary: Path, tmp_path: Path):
    """`impasto keys add` and `remove`; what they complain of does nothing to the terminal that shows it."""
    file = tmp_path / "keys"
    names = [*attacks(canary), "../canary", "a/b", "a\0b", "A", "x" * 65, "ann 0", "#ann", "ann\nbob"]
    assert impasto("keys", "--file", file, "add", "ann")[0] == 0
    kept = file.read_bytes()
    with nothing_but(("keys",), canary):
        for name in names:
            for action in ("add", "remove"):
                status, out, complaint = impasto("keys", "--file", file, action, "--", name)
                assert (status != 0, out) == (True, ""), name
                assert complaint and all(letter.isprintable() or letter == "\n" for letter in complaint), name
    assert file.read_bytes() == kept
    assert sorted(path.name for path in tmp_path.iterdir()) == ["canary.txt", "keys"]
