"""Names that try to be paths: nothing outside the service's own folders is read, written or removed."""

import os
import sys
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from fastapi.testclient import TestClient

from api.main import create_app
from core.errors import ImpastoError
from core.images import Picture, encode
from core.keys import Keys
from core.settings import Settings
from tests.work import with_our_styles

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


def test_fifty_names_reach_nothing(settings: Settings, tmp_path: Path, photo: np.ndarray):
    canary = tmp_path / "canary.txt"
    canary.write_bytes(CANARY)
    (tmp_path / "datasets").mkdir()
    settings = with_our_styles(settings)
    png = encode(Picture(photo), "png")
    names = attacks(canary)
    assert len(set(names)) >= 50
    touched: list[tuple[str, Path]] = []
    watching = False

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event in (
            "open",
            "os.remove",
            "os.rename",
            "os.rmdir",
            "os.mkdir",
            "shutil.rmtree",
            "os.listdir",
        ):
            touched.extend((event, Path(one)) for one in arguments[:2] if isinstance(one, str | os.PathLike))

    sys.addaudithook(watch)
    before = set(tmp_path.rglob("*"))
    with TestClient(create_app(settings), base_url="http://localhost", client=("127.0.0.1", 1)) as client:
        client.post("/stylize?style=wave", files={"image": png})  # what is loaded once is loaded
        watching = True
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
        watching = False
    assert canary.read_bytes() == CANARY
    ours = ("jobs.sqlite", "storage", "styles", "datasets")
    harmless = {("os.mkdir", tmp_path), ("os.listdir", tmp_path)}  # the first on the way to a folder in it: it is there
    for _, path in set(touched) - harmless:
        assert not {"passwd", canary.name} & set(path.parts)
        assert not path.is_relative_to(tmp_path) or path.relative_to(tmp_path).parts[0].startswith(ours), path
    after = set(tmp_path.rglob("*")) - before
    assert all(path.relative_to(tmp_path).parts[0].startswith(ours) for path in after)


@pytest.mark.parametrize("name", ["../canary", "/etc/passwd", "a/b", "..", "", "a\0b", "A", "x" * 65])
def test_a_key_has_no_path_for_a_name(tmp_path, name):
    keys = Keys(tmp_path / "keys")
    with pytest.raises(ImpastoError):
        keys.add(name, ["stylize"])
    assert list(tmp_path.iterdir()) == []
