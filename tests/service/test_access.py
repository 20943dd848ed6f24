"""Access control: names, pages, keys, rates, room; and its log."""

import json
import logging
import re
import time
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from starlette.routing import Route

from impasto.api.errors import flat
from impasto.api.keys import Keys
from impasto.api.main import create_app
from impasto.api.middleware.access import needed
from impasto.api.services import disk as space
from impasto.core.errors import TooMany
from impasto.core.jobs.transitions import LEASE
from impasto.core.logs import JsonLines
from impasto.core.settings import Settings
from tests.helpers.work import admin, with_our_styles

HERE = ("127.0.0.1", 50000)
ELSEWHERE = ("192.0.2.7", 50000)
FORM = {"kind": "gatys", "style": "wave", "num_iterations": "3"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return with_our_styles(settings)


def opened(settings: Settings, client: tuple[str, int] = ELSEWHERE, **changes) -> TestClient:
    app = create_app(settings.model_copy(update=changes))
    return TestClient(app, base_url="http://localhost", client=client)


@pytest.fixture
def keyed(settings: Settings, tmp_path) -> Iterator[tuple[TestClient, dict[str, dict[str, str]]]]:
    """A service with keys, and the headers of each."""
    keys = Keys(tmp_path / "keys")
    scopes = {"ann": ["stylize", "jobs"], "bob": ["jobs"], "eye": ["metrics"], "root": ["admin"], "few": ["stylize"]}
    secrets = {name: keys.add(name, given, 2 if name == "few" else None) for name, given in scopes.items()}
    with opened(settings, HERE, keys=str(keys.path)) as client:
        yield client, {name: {"Authorization": f"Bearer {secret}"} for name, secret in secrets.items()}


def submit(client: TestClient, png: bytes, headers: dict[str, str] | None = None):
    return client.post("/jobs", data=FORM, files={"image": png}, headers=headers)


def test_names_that_are_not_ours_are_refused(settings):
    def status(client: TestClient, host: str, path: str = "/styles") -> int:
        return client.get(path, headers={"Host": host}).status_code

    with opened(settings, hosts="") as client:  # on 127.0.0.1: a name that somebody lets point here is not ours
        for host in ("localhost:8000", "127.0.0.1:8000", "[::1]:8000", "localhost."):
            assert status(client, host) == 200, host
        for host in ("evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "[::2]", "[x"):
            assert status(client, host) == 403, host
        assert status(client, "10.0.0.1", "/readyz") != 403  # a probe has an address and no name
    with opened(settings, hosts="paint.example, *.example.org") as client:
        assert [status(client, host) for host in ("PAINT.example", "a.example.org:443")] == [200, 200]
        assert [status(client, host) for host in ("evil.example", "example.org", "aexample.org")] == [403] * 3
        assert status(client, "localhost:8000") == 200  # `impasto jobs` on the machine itself, a probe
    with opened(settings, host="0.0.0.0", hosts="") as client:
        assert status(client, "anything.example") == 200


def test_pages_of_other_sites_change_nothing(settings, png):
    with opened(settings) as client:

        def status(**headers: str) -> int:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return client.post("/stylize?style=wave", files={"image": png}, headers=named).status_code

        assert [status(), status(Origin="http://localhost"), status(Sec_Fetch_Site="same-origin")] == [200] * 3
        # behind a proxy that changes the name, the browser's own word counts
        assert status(Origin="https://paint.example", Sec_Fetch_Site="same-origin") == 200
        for origin in ("https://evil.example", "http://localhost:3000", "null", "http://localhost.evil.example", ""):
            assert status(Origin=origin) == 403, origin
        for site in ("cross-site", "same-site"):
            assert status(Sec_Fetch_Site=site) == 403
            assert client.delete(f"/jobs/{'0' * 32}", headers={"Sec-Fetch-Site": site}).status_code == 403
        assert client.get("/styles", headers={"Origin": "https://evil.example"}).status_code == 200
        assert (
            "access-control-allow-origin" not in client.get("/styles", headers={"Origin": "https://a.example"}).headers
        )
    friend = "https://friend.example"
    with opened(settings, origins=friend) as client:
        answer = client.post("/stylize?style=wave", files={"image": png}, headers={"Origin": friend})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, friend)
        asked = {"Origin": friend, "Access-Control-Request-Method": "POST"}
        assert client.options("/stylize", headers=asked).status_code == 200
        assert client.options("/stylize", headers=asked | {"Origin": "https://evil.example"}).status_code == 400
        assert client.post("/stylize?style=wave", headers={"Origin": "https://evil.example"}).status_code == 403


def test_every_route_says_what_it_needs(settings):
    open_to_all = {"/", "/livez", "/readyz", "/readyz/jobs", "/limits", "/recipes", "/datasets", "/styles"}
    open_to_all |= {"/styles/kept", "/styles/{arch}/{dataset}/{style}/example"}
    paths = create_app(settings).openapi()["paths"]
    assert len(paths) > 15
    for path, methods in paths.items():
        for method in methods:
            assert (needed(method.upper(), path) is None) == (method == "get" and path in open_to_all), path
    assert needed("GET", "/metrics") == "metrics"
    assert needed("DELETE", "/styles/aonet/coco/wave") == "admin"


def test_without_a_key_nothing_is_done_where_there_are_keys(keyed, png):
    client, keys = keyed
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Basic x"},
        {"Authorization": "Bearer é".encode()},
    ):
        answers = [client.post("/stylize?style=wave", files={"image": png}, headers=headers)]
        answers += [submit(client, png, headers), client.get("/jobs", headers=headers)]
        answers += [client.delete("/styles/aonet/coco/wave", headers=headers), client.get("/metrics", headers=headers)]
        for answer in answers:
            assert (answer.status_code, answer.json()["error"]) == (401, "unauthorized")
            assert answer.headers["www-authenticate"] == "Bearer"
    assert client.get("/").status_code == 200
    assert client.get("/limits").json()["keys"] is True
    assert client.post("/stylize?style=wave", files={"image": png}, headers=keys["ann"]).status_code == 200
    answer = client.post("/stylize?style=wave", files={"image": png}, headers=keys["bob"])
    assert (answer.status_code, "stylize" in answer.json()["detail"]) == (403, True)
    assert [client.get("/metrics", headers=keys[name]).status_code for name in ("eye", "root", "ann")] == [
        200,
        200,
        403,
    ]
    assert client.delete("/styles/aonet/coco/wave", headers=keys["ann"]).status_code == 403
    assert "came with Impasto" in client.delete("/styles/aonet/coco/wave", headers=keys["root"]).json()["detail"]


def test_a_key_sees_its_own_jobs_alone(keyed, png):
    client, keys = keyed
    same = {"Idempotency-Key": "one"}
    mine = [submit(client, png, keys["ann"] | same).json()["id"], submit(client, png, keys["ann"]).json()["id"]]
    his = submit(client, png, keys["bob"] | same).json()["id"]
    assert submit(client, png, keys["ann"] | same).json()["id"] == mine[0] != his
    record = client.app.state.submissions.jobs.get(mine[0])
    assert record.owner == "ann"
    assert keys["ann"]["Authorization"].split()[1] not in record.model_dump_json()

    def listed(name: str, query: str = "") -> list[str]:
        return [job["id"] for job in client.get(f"/jobs{query}", headers=keys[name]).json()["jobs"]]

    assert (listed("ann"), listed("bob"), listed("root")) == (mine[::-1], [his], [his, *mine[::-1]])
    for path in ("", "/preview", "/losses", "/losses.png", "/result", "/events"):
        assert client.get(f"/jobs/{mine[0]}{path}", headers=keys["bob"]).status_code == 404
    assert client.get(f"/jobs?after={mine[0]}", headers=keys["bob"]).status_code == 404
    assert client.post(f"/jobs/{mine[0]}/cancel", headers=keys["bob"]).status_code == 404
    assert client.delete(f"/jobs/{mine[0]}", headers=keys["bob"]).status_code == 404
    assert client.post(f"/jobs/{mine[0]}/cancel", headers=keys["ann"]).json()["status"] == "canceled"
    assert (listed("ann", "?status=canceled"), listed("bob", "?status=canceled")) == ([mine[0]], [])
    assert client.delete(f"/jobs/{his}", headers=keys["root"]).status_code == 204


@pytest.mark.parametrize("place", [HERE, ELSEWHERE])
def test_without_keys_the_admin_is_who_has_the_token(settings, png, place, tmp_path):
    with opened(settings, place, cache=tmp_path / "cache") as client:
        id = submit(client, png).json()["id"]
        path = tmp_path / "cache" / "admin-token"
        assert path.stat().st_mode & 0o777 == 0o600
        token = admin(settings.model_copy(update={"cache": tmp_path / "cache"}))
        assert token == {"Authorization": f"Bearer {path.read_text()}"}
        wrong = {}, {"Authorization": "Bearer "}, {"Authorization": "Bearer é".encode()}, {"Authorization": "Basic x"}
        for headers in wrong:
            assert client.get(f"/jobs/{id}", headers=headers).status_code == 200
            assert [client.get(path, headers=headers).status_code for path in ("/jobs", "/metrics")] == [403, 403]
            assert client.delete("/styles/aonet/coco/wave", headers=headers).status_code == 403
        assert [client.get(path, headers=token).status_code for path in ("/jobs", "/metrics")] == [200, 200]
        assert "came with Impasto" in client.delete("/styles/aonet/coco/wave", headers=token).json()["detail"]
    with opened(settings, place, cache=tmp_path / "cache") as client:  # the token is kept over a start
        assert client.get("/jobs", headers=token).status_code == 200


@pytest.mark.parametrize("planted", ["known", ""])
def test_a_token_that_others_could_read_is_replaced(settings, tmp_path, planted):
    path = tmp_path / "cache" / "admin-token"
    path.parent.mkdir()
    path.write_text(planted)
    with opened(settings, HERE, cache=path.parent) as client:
        assert client.get("/jobs", headers={"Authorization": f"Bearer {planted}"}).status_code == 403
        assert client.get("/jobs", headers={"Authorization": f"Bearer {path.read_text()}"}).status_code == 200
        assert path.stat().st_mode & 0o777 == 0o600


def test_where_no_token_can_be_kept_nobody_is_the_admin(settings, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    with opened(settings, HERE, cache=tmp_path / "file" / "cache") as client:
        for header in ({}, {"Authorization": "Bearer "}, {"Authorization": "Bearer None"}):
            assert client.get("/jobs", headers=header).status_code == 403
    assert "nobody is the admin" in caplog.text


def test_with_keys_the_token_opens_nothing(settings, keyed):
    client, _ = keyed
    assert client.get("/jobs", headers=admin(settings)).status_code == 401


def test_keys_can_be_taken_away_and_lines_that_are_none_open_nothing(tmp_path, caplog, impasto):
    path = tmp_path / "keys"
    _, secret, _ = impasto("keys", "--file", path, "add", "ann", "--scope", "stylize", "--rate", 60)
    secret = secret.strip()
    keys = Keys(path)
    found = keys.find(secret)
    assert found and (found.name, found.scopes, found.rate) == ("ann", {"stylize"}, 60)
    assert secret not in path.read_text()
    assert impasto("keys", "--file", path, "list")[1] == "ann: stylize, 60 a minute\n"
    for arguments in (("add", "ann"), ("add", "a b"), ("add", "eve", "--scope", "all"), ("remove", "eve")):
        assert impasto("keys", "--file", path, *arguments)[0] != 0
    _, other, _ = impasto("keys", "--file", path, "add", "bob")
    assert impasto("keys", "--file", path, "remove", "ann")[0] == 0
    assert keys.find(secret) is None
    assert keys.find(other.strip()) is not None
    with path.open("a") as file:
        file.write(f"{'secret-by-mistake'} nonsense\neve {'0' * 64} everything\n")
    assert keys.find(other.strip()) is not None
    assert "Line 3" in caplog.text and "secret-by-mistake" not in caplog.text
    path.unlink()
    assert keys.find(other.strip()) is None


def test_a_client_and_a_key_have_a_rate(settings, keyed, png):
    with opened(settings, rate=3) as client:
        assert [client.get("/styles").status_code for _ in range(4)] == [200, 200, 200, 429]
        late = client.get("/styles")
        assert 10 < int(late.headers["retry-after"]) == late.json()["retry_after"] <= 20  # the sooner, the later it is
        assert client.get("/livez").status_code == 200
        client._transport.client = ("192.0.2.8", 1)  # type: ignore[attr-defined]
        assert client.get("/styles").status_code == 200
        client._transport.client = ("2001:db8::1", 1)  # type: ignore[attr-defined]
        assert [client.get("/styles").status_code for _ in range(3)] == [200] * 3
        client._transport.client = ("2001:db8::2", 1)  # type: ignore[attr-defined]
        assert client.get("/styles").status_code == 429
    with opened(settings, rate=0) as client:
        assert {client.get("/livez").status_code for _ in range(10)} == {200}
    client, keys = keyed
    answers = [client.get("/styles", headers=keys["few"]).status_code for _ in range(3)]
    assert answers == [200, 200, 429]
    assert client.get("/styles", headers=keys["ann"]).status_code == 200


def test_tokens_come_back_with_time(monkeypatch):
    from impasto.api.middleware import access

    now = [1000.0]
    monkeypatch.setattr(access.time, "monotonic", lambda: now[0])
    rates = access.Rates()
    for _ in range(60):
        rates.take("a", 60)
    with pytest.raises(TooMany) as raised:
        rates.take("a", 60)
    assert raised.value.extra["retry_after"] == 1
    now[0] += 1
    rates.take("a", 60)
    with pytest.raises(TooMany):
        rates.take("a", 60)


def test_as_many_jobs_wait_as_may(settings, png):
    with opened(settings, queued_gatys=4) as client:  # half of them one client's
        first = submit(client, png, {"Idempotency-Key": "one"})
        assert [first.status_code, submit(client, png).status_code] == [202, 202]
        full = submit(client, png)
        assert (full.status_code, full.json()["error"], full.headers["retry-after"]) == (503, "busy", "60")
        assert submit(client, png, {"Idempotency-Key": "one"}).json()["id"] == first.json()["id"]
        client.post(f"/jobs/{first.json()['id']}/cancel")
        assert submit(client, png).status_code == 202


def test_one_key_has_half_of_the_places_at_most(settings, tmp_path, png):
    keys = Keys(tmp_path / "keys")
    ann, bob = ({"Authorization": f"Bearer {keys.add(name, ['jobs'])}"} for name in ("ann", "bob"))
    with opened(settings, queued_gatys=4, keys=str(keys.path)) as client:
        assert [submit(client, png, ann).status_code for _ in range(3)] == [202, 202, 503]
        assert submit(client, png, bob).status_code == 202


def test_a_nearly_full_disk_takes_no_jobs_and_paints_on(settings, png, monkeypatch):
    usage = space.shutil.disk_usage("/")._replace(total=1_000_000, used=960_000, free=40_000)
    monkeypatch.setattr(space.shutil, "disk_usage", lambda path: usage)
    with opened(settings, min_free=Settings.model_fields["min_free"].default) as client:
        full = submit(client, png)
        assert (full.status_code, full.json()["error"]) == (507, "no_space")
        assert "4.0%" in full.json()["detail"]
        assert client.post("/stylize?style=wave", files={"image": png}).status_code == 200
        assert "4.0% free" in client.get("/readyz/jobs").json()["state"]
    with opened(settings, min_free=3) as client:
        assert submit(client, png).status_code == 202


def test_a_form_has_64_parts_at_most(settings, png):
    with opened(settings) as client:
        for many in (
            {"files": [("image", png)] * 65},
            {"data": {f"f{n}": "1" for n in range(65)}, "files": {"i": png}},
        ):
            answer = client.post("/stylize?style=wave", **many)
            assert (answer.status_code, "64" in answer.json()["detail"]) == (400, True)
        fields = FORM | {f"f{number}": "1" for number in range(65)}
        assert client.post("/jobs", data=fields, files={"image": png}).status_code == 400


def test_documentation_can_be_left_out(settings):
    with opened(settings, docs=False) as client:
        assert [client.get(path).status_code for path in ("/docs", "/openapi.json", "/styles")] == [404, 404, 200]
        assert client.get("/limits").json()["docs"] is False


def test_a_request_is_told_of_once_without_what_it_was_about(settings, png, caplog):
    caplog.set_level(logging.INFO, "impasto")
    with opened(settings) as client:
        sent = {"X-Request-ID": "a-request.of_mine"}
        job = client.post("/jobs", data=FORM, files={"image": ("holiday-in-1987.png", png)}, headers=sent)
        assert job.headers["x-request-id"] == sent["X-Request-ID"]
        assert client.app.state.submissions.jobs.get(job.json()["id"]).request == sent["X-Request-ID"]
        for bad in ("short", "with space", "x" * 65, "line\tbreak"):
            given = client.get("/styles?secret=in-a-query", headers={"X-Request-ID": bad}).headers["x-request-id"]
            assert given != bad and len(given) == 16
        client.get(f"/jobs/{job.json()['id']}")
        client.get("/livez")
        client.get(f"/jobs/{job.json()['id']}", headers={"Host": "evil.example"})
    lines = [json.loads(JsonLines().format(record)) for record in caplog.records if record.name == "impasto.requests"]
    assert [(line["method"], line["route"], line["status"]) for line in lines] == [
        ("POST", "/jobs", 202),
        *[("GET", "/styles", 200)] * 4,
        ("GET", "/jobs/{id}", 200),
        ("GET", "/jobs/{id}", 403),
    ]
    for unwanted in ("holiday", "in-a-query", job.json()["id"]):
        assert unwanted not in "".join(map(json.dumps, lines))


def test_figures_for_prometheus(settings, png):
    with opened(settings, HERE) as client:
        token = client.post("/stylize?style=wave", files={"image": png}).headers["impasto-picture"]
        client.post(f"/stylize?style=wave&picture={token}")
        submit(client, png)
        client.app.state.submissions.jobs.sign(["gatys"])
        figures = dict(
            line.rsplit(" ", 1)
            for line in client.get("/metrics", headers=admin(settings)).text.splitlines()
            if line[0] != "#"
        )
    assert figures['impasto_requests_total{method="POST",route="/stylize",status="200"}'] == "2.0"
    assert figures['impasto_request_seconds_count{method="POST",route="/stylize"}'] == "2.0"
    assert figures['impasto_engine_seconds_count{model="aonet/coco/wave"}'] == "2.0"
    assert figures['impasto_cache_total{cache="picture",found="yes"}'] == "1.0"
    assert figures['impasto_working{kind="paint"}'] == figures['impasto_waiting{kind="paint"}'] == "0.0"
    assert figures['impasto_jobs{kind="gatys",status="queued"}'] == "1.0"
    assert float(figures['impasto_oldest_job_seconds{kind="gatys",status="queued"}']) > 0
    assert (figures['impasto_worker_alive{kind="gatys"}'], figures['impasto_worker_alive{kind="train"}']) == (
        "1.0",
        "0.0",
    )
    assert float(figures["process_resident_memory_bytes"]) > 1e7


def test_ready_for_jobs_is_another_word_than_ready_to_paint(settings):
    with opened(settings) as client:
        jobs = client.app.state.submissions.jobs
        while client.get("/readyz").status_code != 200:
            time.sleep(0.05)
        answer = client.get("/readyz/jobs")
        assert (answer.status_code, "no worker is alive for gatys and train" in answer.json()["state"]) == (503, True)
        jobs.sign()
        assert client.get("/readyz/jobs").status_code == 200
        jobs.store.sign("train", time.time() - LEASE - 1)
        assert client.get("/readyz/jobs").json()["state"] == "no worker is alive for train"
        assert client.get("/readyz").status_code == 200
    with opened(settings, jobs=False) as client:
        assert client.get("/readyz/jobs").status_code == 503


def test_what_no_route_takes_is_404_whoever_asks(settings, keyed):
    client, keys = keyed
    with opened(settings) as open_client:
        for asked, headers in ((open_client, {}), (client, {}), (client, keys["ann"]), (client, keys["root"])):
            for method, path in (
                ("POST", "/nothing"),
                ("DELETE", "/"),
                ("PUT", "/styles/a"),
                ("GET", "/jobs/x/nothing"),
            ):
                answer = asked.request(method, path, headers=headers)
                assert answer.status_code in ((404,) if path != "/" else (405,)), (method, path)
                assert answer.json()["error"] in ("not_found", "method_not_allowed")
            assert asked.post("/styles", headers=headers).headers["allow"] == "GET"


def requests_of(app) -> list[tuple[str, str]]:
    """(method, path) of every route, with a value for each part of a path."""
    routes = [route for route in flat(app.routes) if isinstance(route, Route)]
    return [(method, re.sub(r"{\w+}", "x", route.path)) for route in routes for method in route.methods or ()]


@pytest.mark.parametrize("written", ["{}", "{}/", "{}//", "/{}", "{}%2F", "{}/.", "{}?", "{};x"])
def test_no_way_of_writing_a_path_leads_past_access(keyed, written):
    """What needs a key is either no path, or needs it."""
    client, _ = keyed
    asked = [(method, path) for method, path in requests_of(client.app) if needed(method, path)]
    asked += [("HEAD", path) for method, path in asked if method == "GET" and "events" not in path]
    assert len(asked) > 15
    for method, path in asked:
        answer = client.request(method, "http://localhost" + written.format(path))
        assert answer.status_code in ((401,) if written in ("{}", "{}/", "{}?") else (401, 404, 405)), (method, path)


def test_a_path_may_end_with_a_slash(settings, png):
    with opened(settings) as client:
        painted = client.post("/stylize/?style=wave", files={"image": png}, follow_redirects=False)
        assert (painted.status_code, painted.headers["content-type"]) == (200, "image/png")
        sent = client.post("/jobs/", data=FORM, files={"image": png}, follow_redirects=False)
        assert (sent.status_code, sent.headers["location"]) == (202, f"/jobs/{sent.json()['id']}")
        for path in ("/styles/", "/docs/", "/limits/", "/livez/", f"/jobs/{sent.json()['id']}/"):
            assert client.get(path, follow_redirects=False).status_code == 200, path
        assert client.get("/web/", follow_redirects=False).status_code == 404


def test_head_answers_wherever_get_does_with_no_body(settings, png):
    with opened(settings) as client:
        job = submit(client, png).json()["id"]
        places = {path.replace("/x", f"/{job}", 1) for method, path in requests_of(client.app) if method == "GET"}
        places |= {"/web/main.js", "/styles/aonet/coco/wave/example"}
        for path in sorted(path for path in places if not path.endswith("/events")):
            got, head = (client.request(method, path, headers=admin(settings)) for method in ("GET", "HEAD"))
            assert (head.status_code, head.content) == (got.status_code, b""), path
            differing = {name for name in got.headers if head.headers.get(name) != got.headers[name]}
            assert differing <= {"x-request-id", "content-length"}, path
            if path != "/metrics":  # which has counted one more by then
                assert head.headers["content-length"] == got.headers["content-length"], path
        answer = client.head(f"/jobs/{job}/events")
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET")


@pytest.mark.parametrize("keys", ["", "keys"])
def test_the_description_says_what_takes_a_key(settings, keys):
    schema = create_app(settings.model_copy(update={"keys": keys})).openapi()
    assert schema["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    optional = [] if keys else [{}]
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            expected = [{"key": []}, *optional] if needed(method.upper(), path) else None
            assert operation.get("security") == expected, (method, path)
            assert {"401", "403", "422", "429"} <= operation["responses"].keys()
