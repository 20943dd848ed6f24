import asyncio
import io
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from starlette.requests import ClientDisconnect, Request

from impasto.api.main import create_app
from impasto.api.services.slots import Slots
from impasto.core.errors import Busy
from impasto.core.settings import Settings
from tests.helpers.servers import service_here


def jpeg(rgb, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=95, **options)
    return buffer.getvalue()


def png(rgb) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "PNG")
    return buffer.getvalue()


def stylize(client, data, query="style=plain", name="image"):
    return client.post(f"/stylize?{query}", files={name: ("cat.jpg", data)})


def decoded(response) -> np.ndarray:
    assert response.status_code == 200, response.text
    return np.asarray(Image.open(io.BytesIO(response.content)))


def problem(response, status: int) -> dict:
    assert response.status_code == status, response.text
    body = response.json()
    assert {"error", "detail"} <= set(body)
    assert body["detail"]
    return body


def test_a_comparison_is_one_sheet(client, photo):
    response = client.post("/compare?style=plain", files={"image": ("cat.jpg", jpeg(photo))})
    page = decoded(response)
    assert page.shape[0] > 2 * photo.shape[0] and page.shape[1] > 2 * photo.shape[1]
    assert 'filename="plain.png"' in response.headers["content-disposition"]


def test_a_comparison_of_no_models_says_which_there_are(client, photo):
    response = client.post("/compare?style=plaim", files={"image": ("cat.jpg", jpeg(photo))})
    assert "aonet/coco/plain" in problem(response, 404)["known"]


@pytest.mark.parametrize("arch", ["aonet", "vgg16"])
def test_a_photograph_comes_back_painted(client, photo, arch):
    response = stylize(client, jpeg(photo), f"arch={arch}&style=plain&dataset=coco")
    painting = decoded(response)
    assert painting.shape == photo.shape
    assert np.abs(painting.astype(int) - photo).mean() > 10
    headers = response.headers
    assert headers["content-type"] == "image/png"
    assert headers["content-disposition"] == f'inline; filename="plain-{arch}-coco.png"'
    assert headers["x-content-type-options"] == "nosniff"
    assert [span.split(";")[0] for span in headers["server-timing"].split(", ")] == [
        "decode",
        "engine",
        "encode",
        "total",
    ]
    assert headers["etag"].startswith('"')


def test_the_same_question_has_the_same_etag(client, photo):
    first, again, other = (
        stylize(client, png(photo), f"style=plain&strength={s}").headers["etag"] for s in (1, 1, 0.5)
    )
    assert first == again != other


def test_exif_rotation_is_applied(client, photo):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to show
    response = stylize(client, jpeg(np.rot90(photo), exif=exif), "style=plain&strength=0")
    shown = decoded(response)
    assert shown.shape == photo.shape
    assert np.abs(shown.astype(int) - photo).mean() < 3  # JPEG


def test_strength_0_is_the_photograph(client, photo):
    np.testing.assert_array_equal(decoded(stylize(client, png(photo), "style=plain&strength=0")), photo)


@pytest.mark.parametrize(("format", "kind"), [("png", "PNG"), ("jpeg", "JPEG"), ("webp", "WEBP")])
def test_formats(client, photo, format, kind):
    response = stylize(client, png(photo), f"style=plain&format={format}")
    assert response.headers["content-type"] == f"image/{format}"
    assert Image.open(io.BytesIO(response.content)).format == kind


def test_alpha_comes_back(client, photo):
    alpha = np.arange(37 * 50, dtype=np.uint8).reshape(37, 50, 1)
    painting = decoded(stylize(client, png(np.concatenate([photo, alpha], axis=2))))
    np.testing.assert_array_equal(painting[..., 3:], alpha)


def test_max_side(client, photo):
    assert decoded(stylize(client, png(photo), "style=plain&max_side=25")).shape == (18, 25, 3)


def test_400_empty_and_undecodable(client, photo):
    assert problem(stylize(client, b""), 400)["error"] == "bad_picture"
    assert problem(stylize(client, jpeg(photo)[:400]), 400)["error"] == "bad_picture"
    assert "16" in problem(stylize(client, png(photo[:15])), 400)["detail"]


def test_413_too_many_bytes_says_the_limit(models, cache, photo, tmp_path):
    small = Settings(
        models=models, styles=tmp_path, cache=cache, device="cpu", hosts="*", max_bytes=3000, max_pixels=2000
    )
    with TestClient(create_app(small)) as client:
        body = problem(stylize(client, bytes(5000)), 413)
        assert (body["error"], body["limit"]) == ("too_large", 3000)

        def chunks():  # no Content-Length
            for _ in range(5):
                yield bytes(1000)

        streamed = client.post(
            "/stylize?style=plain", content=chunks(), headers={"Content-Type": "multipart/form-data; boundary=x"}
        )
        assert problem(streamed, 413)["limit"] == 3000
        body = problem(stylize(client, png(np.zeros((50, 60, 3), np.uint8))), 413)
        assert (body["limit"], body["actual"], body["scale_to"]) == (2000, 3000, 48)
        assert decoded(stylize(client, png(np.zeros((40, 48, 3), np.uint8)))).shape == (40, 48, 3)


@pytest.mark.parametrize(
    "data", [b"hello", b"%PDF-1.7", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%!PS-Adobe-3.0 EPSF-3.0"]
)
def test_415_no_format_that_we_read(client, data):
    assert "PNG" in problem(stylize(client, data), 415)["detail"]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("style=plain&strength=2", "strength"),
        ("style=plain&strength=much", "strength"),
        ("style=plain&format=gif", "format"),
        ("style=plain&max_side=0", "max_side"),
        ("style=plain&paint_size=half", "paint_size"),
        ("style=plain&arch=resnet", "arch"),
        (f"style={'a' * 201}", "style"),
        ("style=plain&colour=1", "colour: no such parameter"),
        ("", "style"),
    ],
)
def test_422_names_the_parameter(client, photo, query, names):
    assert names in problem(stylize(client, png(photo), query), 422)["detail"]


def test_422_without_a_picture_shows_how(client, photo):
    assert "curl -F image=@" in problem(stylize(client, png(photo), name="picture"), 422)["detail"]
    assert "curl -F image=@" in problem(client.post("/stylize?style=plain", data={"image": "text"}), 422)["detail"]
    assert "curl -F image=@" in problem(client.post("/stylize?style=plain"), 422)["detail"]


def test_422_without_a_style_says_where_they_are(client, photo):
    assert "GET /styles lists all" in problem(stylize(client, png(photo), query=""), 422)["detail"]


def test_404_lists_the_models_and_the_nearest(client, photo):
    body = problem(stylize(client, png(photo), "style=plan"), 404)
    assert body["known"] == ["aonet/coco/plain", "vgg16/coco/plain"]
    assert body["nearest"] == "aonet/coco/plain"


def test_other_paths_and_methods_answer_in_the_same_form(client, settings):
    assert problem(client.get("/nothing"), 404)["error"] == "not_found"
    refused = problem(client.get("/stylize"), 405)
    assert refused["error"] == "method_not_allowed"
    assert refused["detail"] == "/stylize takes POST, not GET."
    assert problem(client.post("/web/actions.js"), 405)["detail"] == "Method Not Allowed"  # no route of ours


def asker(patience: float) -> Request:
    """A request whose client hangs up after so many seconds."""

    async def receive() -> dict[str, str]:
        await asyncio.sleep(patience)
        return {"type": "http.disconnect"}

    return Request({"type": "http"}, receive)


def test_503_when_the_queue_is_full(settings, photo):
    app = create_app(settings.model_copy(update={"slots": 1, "queue": 0}))
    with TestClient(app) as client:
        working, done = threading.Event(), threading.Event()
        slots = app.state.studio.slots

        def work():
            working.set()
            return done.wait(60)

        thread = threading.Thread(target=lambda: client.portal.call(slots.run, work, asker(60)))
        thread.start()
        assert working.wait(60)
        response = stylize(client, png(photo))
        assert problem(response, 503)["error"] == "busy"
        assert int(response.headers["retry-after"]) >= 1
        assert client.get("/livez").status_code == 200
        done.set()
        thread.join()
        assert stylize(client, png(photo)).status_code == 200


def test_a_client_that_leaves_while_it_waits_leaves_its_place():
    async def crowd() -> None:
        slots, done = Slots(1, 1), threading.Event()
        first = asyncio.create_task(slots.run(lambda: done.wait(60), asker(60)))
        await asyncio.sleep(0)
        with pytest.raises(ClientDisconnect):
            await slots.run(lambda: pytest.fail("nobody wants it"), asker(0))
        assert slots.taken == 1
        done.set()
        assert await first
        # A picture that is being painted when its client leaves is painted to its end.
        assert await slots.run(lambda: time.sleep(0.2) or "painted", asker(0.1)) == "painted"
        slots.close()

    asyncio.run(crowd())


def held(order: list[str], slots: Slots, client: str) -> tuple[asyncio.Task[None], threading.Event]:
    """A call that runs until its event is set, and says in `order` when it began."""
    end = threading.Event()

    def work() -> None:
        order.append(client)
        assert end.wait(60)

    return asyncio.create_task(slots.run(work, asker(60), client)), end


async def until(ready: Callable[[], bool]) -> None:
    while not ready():
        await asyncio.sleep(0.005)


def test_one_client_leaves_a_slot_for_another():
    async def crowd() -> None:
        order: list[str] = []
        slots = Slots(3, 10)
        greedy = [held(order, slots, "greedy") for _ in range(5)]
        await until(lambda: len(order) == 2)
        stranger, end = held(order, slots, "stranger")
        await until(lambda: len(order) == 3)
        assert order == ["greedy", "greedy", "stranger"] and slots.waiting == 3
        for event in (end, *(event for _, event in greedy)):
            event.set()
        await asyncio.gather(stranger, *(task for task, _ in greedy))
        assert slots.taken == 0
        slots.close()

    asyncio.run(crowd())


def test_clients_in_the_queue_take_turns_and_the_greediest_gives_way():
    async def crowd() -> None:
        order: list[str] = []
        slots = Slots(1, 4)
        first, end_first = held(order, slots, "a")
        waiting = [held(order, slots, "a") for _ in range(4)]
        await until(lambda: slots.taken == 5)
        with pytest.raises(Busy):
            await slots.run(lambda: None, asker(60), "a")  # nobody else has more than it has
        waiting += [held(order, slots, client) for client in "bc"]
        await until(lambda: waiting[2][0].done() and waiting[3][0].done())
        assert all(isinstance(task.exception(), Busy) for task, _ in waiting[2:4])
        with pytest.raises(Busy):
            await slots.run(lambda: None, asker(60), "b")  # two of a, one of b, one of c: no more to gain
        for event in (end_first, *(event for _, event in waiting)):
            event.set()
        await asyncio.gather(first, *(task for task, _ in waiting), return_exceptions=True)
        assert order == ["a", "a", "b", "c", "a"]
        slots.close()

    asyncio.run(crowd())


def test_requests_under_way_are_bounded_together(settings, photo):
    data = png(photo)
    with TestClient(create_app(settings.model_copy(update={"max_held": len(data) - 1}))) as client:
        for _ in range(2):  # what was refused is not held
            response = stylize(client, data)
            assert problem(response, 503)["retry_after"] == int(response.headers["retry-after"]) == 10
    with TestClient(create_app(settings.model_copy(update={"max_held": len(data) + 1000}))) as client:
        assert [stylize(client, data).status_code for _ in range(3)] == [200] * 3


def test_what_a_form_has_besides_is_not_passed_over(client, photo):
    data = png(photo)
    many = client.post("/stylize?style=plain", files=[("image", data), ("image", data)])
    assert "sent 2 times" in problem(many, 422)["detail"]
    fields = client.post("/stylize?style=plain", files={"image": data}, data={"strength": "0", "style": "plain"})
    assert "strength, style: the form has the field image alone" in problem(fields, 422)["detail"]


def test_styles_lists_what_can_be_asked(client):
    models = client.get("/styles").json()
    assert [(m["arch"], m["dataset"], m["style"]) for m in models] == [
        ("aonet", "coco", "plain"),
        ("vgg16", "coco", "plain"),
    ]
    assert models[0]["card"]["params"]["recipe"] == "ours"
    assert models[0]["card"]["loss_network"] == "bundled"


def test_a_new_style_is_served_with_no_restart(client, settings, models, photo):
    assert stylize(client, png(photo), "style=mine").status_code == 404
    path = settings.styles / "aonet/coco/mine.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes((models / "aonet/coco/plain.safetensors").read_bytes())
    assert stylize(client, png(photo), "style=mine").status_code == 200


def test_ready_only_when_a_model_loads(client, tmp_path, cache):
    assert client.get("/readyz").json() == {"ready": True, "state": "ready"}
    empty = Settings(models=tmp_path / "none", styles=tmp_path, cache=cache, hosts="*")
    with service_here(empty) as c:
        response = c.get("/readyz")
        assert response.status_code == 503
        assert "no models" in response.json()["state"]
        assert c.get("/livez").json() == {"live": True}


def test_ready_again_when_there_is_something_to_paint_with(tmp_path, cache, models, photo):
    settings = Settings(models=tmp_path / "none", styles=tmp_path, cache=cache, device="cpu", hosts="*")
    with service_here(settings) as client:
        assert client.get("/readyz").status_code == 503
        path = tmp_path / "aonet/coco/mine.safetensors"
        path.parent.mkdir(parents=True)
        path.write_bytes((models / "aonet/coco/plain.safetensors").read_bytes())
        assert stylize(client, png(photo), "style=mine").status_code == 200
        assert client.get("/readyz").status_code == 200


def test_a_start_that_fails_is_said(models, tmp_path):
    (tmp_path / "file").write_text("where the cache should go")
    settings = Settings(models=models, styles=tmp_path, cache=tmp_path / "file", device="cpu", hosts="*")
    with service_here(settings) as client:
        response = client.get("/readyz")
        assert response.status_code == 503
        assert response.json()["state"] == "no model could be loaded: see the log"  # which has the path


def test_documentation_needs_no_other_host(client):
    page = client.get("/docs").text
    assert "http://" not in page
    assert "https://" not in page
    for asset in ("swagger-ui-bundle.js", "swagger-ui.css", "favicon.png"):
        assert client.get(f"/static-offline-docs/{asset}").status_code == 200
        assert asset in page


def test_openapi_describes_every_parameter(client):
    operation = client.get("/openapi.json").json()["paths"]["/stylize"]["post"]
    names = {p["name"]: p for p in operation["parameters"]}
    assert set(names) == {
        "style",
        "arch",
        "dataset",
        "strength",
        "preserve_color",
        "paint_size",
        "max_side",
        "format",
        "picture",
    }
    assert all(p["description"] for p in names.values())
    assert set(operation["responses"]) == {"200", "400", "401", "403", "404", "413", "415", "422", "429", "503"}
    assert "curl -F image=@cat.jpg" in operation["description"]
