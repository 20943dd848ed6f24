"""The page in a real browser, on a desk's screen and a phone's, with real networks and real jobs."""

import io
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from math import ceil, floor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, Route, expect

from impasto.api.keys import Keys
from impasto.core.settings import ROOT, Settings
from tests.helpers.browser import SIZES, Visitor, chromium
from tests.helpers.processes import Service, in_folder

CAT = ROOT / "api/web/cat.jpg"
ANSWERED = ("Failed to load resource",)
"""Messages of the browser itself where the service answers with an error, or not at all."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def place(models: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Three networks: wave, which is trained, and two of `plain`, which are not."""
    folder = tmp_path_factory.mktemp("page")
    shutil.copytree(models, folder / "models")
    shutil.copy(ROOT / "models/aonet/coco/wave.safetensors", folder / "models/aonet/coco/wave.safetensors")
    shutil.copytree(ROOT / "models/styles", folder / "models/styles")
    (folder / "datasets/holiday").mkdir(parents=True)
    for number in range(2):
        shutil.copy(CAT, folder / f"datasets/holiday/{number}.jpg")
    return in_folder(
        folder,
        cache,
        models=folder / "models",
        max_pixels=500_000,
        max_side=1300,
        max_bytes=1_000_000,
    )


@pytest.fixture(scope="module")
def service(place: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(place, tmp_path_factory.mktemp("log") / "service.log")
    yield service
    service.terminate()


@pytest.fixture(params=SIZES)
def visitor(request: pytest.FixtureRequest, browser: Browser, service: Service, tmp_path: Path) -> Iterator[Visitor]:
    visitor = Visitor(browser, request.param, f"http://localhost:{service.port}", tmp_path)
    yield visitor
    visitor.context.close()


def jpeg(width: int, height: int, **options: object) -> bytes:
    """The cat of that size."""
    buffer = io.BytesIO()
    with Image.open(CAT) as cat:
        cat.resize((width, height)).save(buffer, "jpeg", **options)
    return buffer.getvalue()


def file(data: bytes, name: str = "photo.jpg", kind: str = "image/jpeg") -> dict:
    return {"name": name, "mimeType": kind, "buffer": data}


def painting(page: Page) -> bytes:
    """The picture shown as the painting: the address of its blob changes with each."""
    return page.locator("#stage .above").get_attribute("src")


def whole_pixels(element: Locator) -> tuple[Image.Image, tuple[float, float, float, float]]:
    """A picture of an element without the page's colour in it, where that begins or ends within a pixel; and its left,
    top, right and bottom, as parts of the element's width and height."""
    element.scroll_into_view_if_needed()
    box = element.bounding_box()
    assert box
    x, y, width, height = box["x"], box["y"], box["width"], box["height"]
    left, top, right, bottom = ceil(x), ceil(y), floor(x + width), floor(y + height)
    shot = element.page.screenshot(clip={"x": left, "y": top, "width": right - left, "height": bottom - top})
    parts = (left - x) / width, (top - y) / height, (right - x) / width, (bottom - y) / height
    return Image.open(io.BytesIO(shot)).convert("RGB"), parts


def saved(page: Page, button: str) -> bytes:
    with page.expect_download() as download:
        page.get_by_role("button", name=button).click()
    return Path(download.value.path()).read_bytes()


def test_a_visitor_sees_a_painting_within_100_kb_and_makes_one_with_one_click(visitor):
    page = visitor.page
    expect(page.locator("#stage .frame")).to_have_class("frame both")
    page.wait_for_load_state("networkidle")
    visitor.looks_right("first")
    sizes = page.evaluate(
        "performance.getEntries().filter(e => e.transferSize && !e.name.includes('/example')).map(e => e.transferSize)"
    )
    assert len(sizes) > 10
    assert sum(sizes) < 100_000
    expect(page.get_by_role("button", name="PNG")).to_be_disabled()
    visitor.paints()
    expect(page.locator("#told")).to_contain_text("451 × 300 px")
    visitor.looks_right("painted")
    visitor.leave()


def test_the_divider_moves_by_keyboard_and_by_touch(visitor):
    page = visitor.page
    visitor.paints()
    divider = page.get_by_role("slider", name="Divider")
    divider.focus()
    at = int(divider.input_value())
    page.keyboard.press("ArrowRight")
    expect(divider).to_have_value(str(at + 1))
    page.keyboard.press("End")
    expect(divider).to_have_attribute("aria-valuetext", "100% photograph, 0% painting")
    assert page.locator("#stage .above").evaluate("e => getComputedStyle(e).clipPath") == "inset(0px 0px 0px 100%)"
    box = divider.bounding_box()
    spot = box["x"] + box["width"] / 4, box["y"] + box["height"] / 2
    (page.touchscreen.tap if visitor.size == "phone" else page.mouse.click)(*spot)
    assert abs(int(divider.input_value()) - 25) <= 2
    visitor.leave()


def test_a_download_and_the_curl_line_give_what_the_api_gives(visitor, tmp_path):
    page = visitor.page
    visitor.paints(file(CAT.read_bytes(), "a cat's; own.jpg"))
    page.locator("#strength").fill("40")
    page.get_by_label("Keep the photograph").check()
    visitor.has_painted()
    page.get_by_role("button", name="Copy curl").click()
    expect(page.locator("#told")).to_contain_text("Copied: curl")
    line = page.evaluate("navigator.clipboard.readText()")
    assert "strength=0.4&preserve_color=true" in line
    shutil.copy(CAT, tmp_path / "a cat's; own.jpg")
    subprocess.run([*shlex.split(line), "--fail", "--silent", "--show-error"], cwd=tmp_path, check=True)
    expected = (tmp_path / "painted.png").read_bytes()
    assert saved(page, "PNG") == expected
    with Image.open(io.BytesIO(saved(page, "JPEG"))) as image, Image.open(io.BytesIO(expected)) as png:
        assert (image.format, image.size) == ("JPEG", png.size)
    with Image.open(io.BytesIO(saved(page, "WebP"))) as image:
        assert image.format == "WEBP"
    visitor.leave()


def test_strength_is_mixed_here_as_the_service_mixes_it(visitor):
    page = visitor.page
    visitor.paints()
    asked = len(visitor.asked)
    page.locator("#strength").fill("50")
    page.get_by_role("slider", name="Divider").fill("0")
    expect(page.locator("#strength-shown")).to_have_text("50%")
    assert len(visitor.asked) == asked
    page.evaluate("document.querySelectorAll('.line, .tag').forEach(e => e.hidden = true)")
    frame = page.locator("#stage .frame")
    shown, parts = whole_pixels(frame)
    with Image.open(io.BytesIO(saved(page, "PNG"))) as made:
        same = tuple(part * side for part, side in zip(parts, made.size * 2, strict=True))
        small = [
            np.asarray(image.resize((45, 30), Image.Resampling.BOX, box), int)
            for image, box in ((shown, None), (made.convert("RGB"), same))
        ]
        assert np.abs(small[0] - small[1]).mean() < 2  # of 0..255: WebP, corners that are round
    visitor.leave()


def test_another_style_is_painted_without_another_upload_and_the_last_one_wins(visitor):
    page = visitor.page
    visitor.paints()
    first = painting(page)
    asked = len(visitor.asked)
    for style in ("plain", "wave", "plain"):
        page.locator(f"#tiles [value={style}]").check(force=True)
    visitor.has_painted()
    posts = [line for line in visitor.asked[asked:] if "/stylize" in line]
    assert len(posts) == 3
    assert all("picture=" in line for line in posts)
    assert painting(page) != first
    expect(page.locator("#tiles [value=plain]")).to_be_checked()
    page.locator("#network [name=arch]").select_option("vgg16")
    visitor.has_painted()
    assert any("/stylize?arch=vgg16&dataset=coco&style=plain" in line for line in visitor.asked)
    visitor.looks_right("another-style")
    visitor.leave()


def test_a_photograph_that_lies_on_its_side_is_upright(visitor):
    exif = Image.Exif()
    exif[0x0112] = 6
    visitor.paints(file(jpeg(400, 200, exif=exif)))
    expect(visitor.page.locator("#told")).to_contain_text("200 × 400 px")
    box = visitor.page.locator("#stage .frame").bounding_box()
    assert abs(box["width"] / box["height"] - 0.5) < 0.02
    natural = visitor.page.locator("#stage .above").evaluate("e => [e.naturalWidth, e.naturalHeight]")
    assert natural == [200, 400]
    visitor.looks_right("rotated")
    visitor.leave()


def test_what_is_too_large_is_shrunk_here_and_the_page_says_so(visitor):
    page = visitor.page
    visitor.paints(file(jpeg(1200, 800)))
    expect(page.locator("#told")).to_contain_text("866 × 577 px. It had 1,200 × 800 px")
    visitor.paints(file(jpeg(2600, 130)))  # 338,000 pixels, but too long
    expect(page.locator("#told")).to_contain_text("1,300 × 65 px. It had 2,600 × 130 px")
    expect(page.locator("#told")).to_contain_text("the limit is 1,300 px a side: shrunk here")
    noise = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (640, 700, 3), np.uint8)).save(noise, "png")
    assert len(noise.getvalue()) > 1_000_000  # few pixels, many bytes
    visitor.paints(file(noise.getvalue(), "noise.png", "image/png"))
    expect(page.locator("#told")).to_contain_text("the limit is 1.0 MB: shrunk here")
    visitor.looks_right("shrunk")
    visitor.leave()


def test_what_cannot_be_read_is_said_before_and_after_it_is_sent(visitor):
    page = visitor.page
    told = page.locator("#told")
    choose = page.locator("#choose + input")
    choose.set_input_files(file(b"Dear diary\n", "<img src=x onerror=alert(1)>.txt", "text/plain"))
    expect(told).to_contain_text("<img src=x onerror=alert(1)>.txt is not a picture. Choose a JPEG, PNG")
    assert told.locator("img").count() == 0
    choose.set_input_files(file(b"", "empty.jpg"))
    expect(told).to_contain_text("is empty")
    choose.set_input_files(file(jpeg(12, 40)))
    expect(told).to_contain_text("16 px a side is the least")
    assert not any("POST" in line for line in visitor.asked)
    choose.set_input_files(file(b"\xff\xd8\xff" + bytes(1000), "broken.jpg"))
    expect(told).to_contain_text("The JPEG file is broken")
    assert any("POST" in line for line in visitor.asked)
    visitor.looks_right("unreadable")
    tiff = io.BytesIO()
    Image.open(CAT).save(tiff, "tiff")
    visitor.paints(file(tiff.getvalue(), "scan.tiff", "image/tiff"))  # which this browser cannot show
    expect(told).to_contain_text("451 × 300 px")
    visitor.leave(expected=ANSWERED)


def test_a_picture_can_be_pasted_dropped_and_photographed(visitor):
    page = visitor.page
    give = """async ([kind, name]) => {
        const blob = await (await fetch("web/cat.jpg")).blob();
        const data = new DataTransfer();
        data.items.add(new File([blob], name, {type: "image/jpeg"}));
        const target = kind === "paste" ? document : document.body;
        const event = kind === "paste"
            ? new ClipboardEvent("paste", {clipboardData: data, bubbles: true, cancelable: true})
            : new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true});
        target.dispatchEvent(event);
    }"""
    for kind in ("paste", "drop"):
        before = painting(page)
        page.evaluate(give, [kind, f"{kind}.jpg"])
        visitor.has_painted()
        assert painting(page) != before
    if visitor.size == "phone":
        with page.expect_file_chooser() as chooser:  # which is the camera's own app on a phone
            page.get_by_role("button", name="Take one").click()
        chooser.value.set_files(file(jpeg(100, 100)))
        expect(page.locator("#told")).to_contain_text("100 × 100 px")
    else:
        page.get_by_role("button", name="Take one").click()
        expect(page.get_by_role("button", name="Take the photograph")).to_be_enabled()
        visitor.looks_right("camera")
        page.get_by_role("button", name="Take the photograph").click()
        expect(page.locator("#told")).not_to_contain_text("451")
    visitor.has_painted()
    visitor.leave()


def test_all_networks_on_one_sheet(visitor):
    page = visitor.page
    page.locator("#tiles [value=plain]").check(force=True)
    visitor.paints()
    page.get_by_role("button", name="All networks").click()
    sheet = page.get_by_role("img", name="by 2 networks")
    expect(sheet).to_be_visible()
    visitor.looks_right("sheet")
    with Image.open(io.BytesIO(saved(page, "Download PNG"))) as image:
        assert image.format == "PNG"
        assert image.width > 2 * 384
    page.keyboard.press("Escape")
    expect(page.locator("#sheet")).to_be_hidden()
    visitor.leave()


def _kill_and_go_on(service: Service, route: Route) -> None:
    service.kill()
    route.continue_()


def test_a_service_that_stops_in_mid_request_and_comes_back(browser, place, tmp_path):
    for size in SIZES:
        service = Service(place.model_copy(update={"store": str(tmp_path / f"{size}.sqlite")}), tmp_path / "log")
        visitor = Visitor(browser, size, f"http://localhost:{service.port}", tmp_path)
        page = visitor.page
        visitor.paints()
        page.route("**/stylize*", partial(_kill_and_go_on, service))
        page.locator("#tiles [value=plain]").check(force=True)
        expect(page.locator("#told")).to_contain_text("The service does not answer")
        visitor.looks_right("stopped")
        page.unroute("**/stylize*")
        service.start()
        page.get_by_role("button", name="Try again").click()  # its memory of the picture is gone: it is sent again
        visitor.has_painted()
        assert sum("POST" in line and "picture=" not in line for line in visitor.asked) == 2
        visitor.leave(expected=ANSWERED)
        service.terminate()


def test_without_jobs_there_are_no_sections_for_them(browser, place, tmp_path):
    service = Service(place.model_copy(update={"jobs": False}), tmp_path / "log")
    visitor = Visitor(browser, "desk", f"http://localhost:{service.port}", tmp_path)
    visitor.paints()
    for section in ("best", "teach"):
        expect(visitor.page.locator(f'[href="#{section}"]:visible')).to_have_count(0)
    visitor.leave()
    service.terminate()


def finer(page: Page, section: str, **values: int) -> None:
    form = page.locator(f"#{section}-form")
    if form.locator("details").get_attribute("open") is None:
        form.locator("summary").click()
    for name, value in values.items():
        form.locator(f"[name={name}]").fill(str(value))


@pytest.mark.parametrize("visitor", ["phone"], indirect=True)
def test_at_its_best_is_watched_left_and_found_again(visitor, place):
    page = visitor.page
    visitor.paints()
    page.get_by_role("link", name="At its best").last.click()
    expect(page.locator("#best-form img").first).to_be_visible()
    visitor.looks_right("best-form")
    finer(page, "best", num_iterations=40, size=96)
    page.get_by_role("button", name="Paint it").click()
    work = page.locator("#best-works article")
    expect(work.locator(".far")).to_contain_text("Step")
    page.reload()
    expect(work.get_by_role("heading")).to_have_text("Wave")
    other = visitor.tab()
    expect(other.locator("#best-works article")).to_have_count(1)
    expect(work.locator(".chip")).to_have_text("done")
    expect(work.get_by_role("img", name="Painted at once")).to_be_visible()
    best = work.get_by_role("img", name="Painted at its best")
    expect(best).to_be_visible()
    expect(work.get_by_role("img", name="Losses from step 1 to 40")).to_be_visible()
    visitor.looks_right("best-done")
    with page.expect_download() as download:
        work.get_by_role("button", name="Download PNG").click()
    with Image.open(download.value.path()) as image:
        assert image.size == (451, 300)
    page.once("dialog", lambda dialog: dialog.accept())
    work.get_by_role("button", name="Remove").click()
    expect(work).to_have_count(0)
    expect(other.locator("#best-works article")).to_have_count(0)
    visitor.leave()


@pytest.mark.parametrize("visitor", ["desk"], indirect=True)
def test_a_style_of_ones_own_stopped_half_way_keeps_the_best(visitor):
    page = visitor.page
    visitor.enter("best")
    page.locator("#best-form .well input").first.set_input_files(CAT)
    page.locator("#best-form .pill", has_text="A picture of mine").click()
    page.get_by_role("button", name="Paint it").click()
    expect(page.locator("#best-form")).to_contain_text("Choose a picture for its style")
    wells = page.locator("#best-form .well input")
    wells.nth(1).set_input_files(file(jpeg(120, 90), "my sunset.jpg"))
    finer(page, "best", num_iterations=5000, size=64)
    page.get_by_role("button", name="Paint it").click()
    work = page.locator("#best-works article")
    expect(work.get_by_role("heading")).to_have_text("Like my sunset")
    expect(work.get_by_role("img", name="Painted at its best")).to_be_visible()
    expect(work.locator(".chart svg")).to_be_visible()
    visitor.looks_right("best-running")
    work.get_by_role("button", name="Stop and keep the best").click()
    expect(work.locator(".chip")).to_have_text("stopped")
    expect(work.get_by_role("button", name="Download PNG")).to_be_visible()
    visitor.looks_right("best-stopped")
    visitor.leave()


def test_a_style_is_taught_watched_and_found_in_the_gallery(visitor):
    page, name = visitor.page, f"Été {visitor.size}"
    visitor.enter("teach")
    form = page.locator("#teach-form")
    form.locator(".well input").first.set_input_files(file(jpeg(200, 150), "monet.jpg"))
    expect(form.locator("[name=title]")).to_have_value("Monet")
    form.locator("[name=title]").fill(name)
    expect(form).to_contain_text(f"The API knows it as ete_{visitor.size}")
    if visitor.size == "desk":
        form.get_by_role("radio", name="Photographs of mine").check(force=True)
        form.get_by_role("button", name="Teach it").click()
        expect(form).to_contain_text("Choose photographs to learn on")
        form.locator(".well input").nth(1).set_input_files([file(jpeg(300, 200), f"{n}.jpg") for n in range(3)])
        expect(form).to_contain_text("3 photographs. Few: 20 are enough")
    visitor.looks_right("teach-form")
    form.locator("summary").click()
    finer(page, "teach", steps=60, size=64, batch=1)
    form.get_by_role("button", name="Teach it").click()
    work = page.locator("#teach-works article").first
    expect(work.get_by_role("heading")).to_have_text(f"Ete {visitor.size}")
    expect(work.get_by_role("img", name="A photograph, and how the network paints it")).to_be_visible()
    visitor.looks_right("teach-running")
    expect(work.locator(".chip")).to_have_text("done")
    expect(work.locator(".chart svg")).to_be_visible()
    visitor.looks_right("teach-done")
    work.get_by_role("button", name="Paint with it").click()
    expect(page.locator(f"#tiles [value=ete_{visitor.size}]")).to_be_checked()
    visitor.paints()
    visitor.looks_right("taught")
    visitor.leave()


def test_the_keyboard_alone_reaches_everything_and_shows_where_it_is(visitor):
    page = visitor.page
    visitor.paints()
    wanted = {"Skip to the picture", "choose", "take", "sample", "style", "strength", "keep-colours", "curl", "compare"}
    seen = set()
    for _ in range(60):  # from where the click was to the end of the page, and from its top again
        page.keyboard.press("Tab")
        where = page.evaluate(
            """() => { const e = document.activeElement, ring = (x) => x && getComputedStyle(x).outlineStyle !== "none";
            return [e.id || e.name || e.textContent.trim() || e.tagName,
                e === document.body || ring(e) || ring(e.closest(".tile, .frame, .pill"))]; }"""
        )
        seen.add(where[0])
        assert where[1], f"no focus is seen at {where[0]}"
        if wanted <= seen:
            break
    assert wanted <= seen
    visitor.leave()


def test_dark_and_still(browser, service, tmp_path):
    for size in SIZES:
        visitor = Visitor(
            browser, size, f"http://localhost:{service.port}", tmp_path, color_scheme="dark", reduced_motion="reduce"
        )
        visitor.paints()
        page = visitor.page
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(23, 21, 19)"
        moving = "document.getAnimations().length"
        page.locator("#stage .frame").evaluate("e => e.classList.add('busy')")
        assert page.evaluate(moving) == 0
        page.locator("#stage .frame").evaluate("e => e.classList.remove('busy')")
        visitor.looks_right("dark-painted")
        for section in ("best", "teach"):
            visitor.enter(section)
            expect(page.locator(f"#{section}-form [type=submit]")).to_be_visible()
            visitor.looks_right(f"dark-{section}")
        visitor.leave()


def test_a_key_is_asked_for_and_kept_for_the_tab(browser, place, tmp_path):
    keys = Keys(tmp_path / "keys")
    secret = keys.add("ann", ["stylize", "jobs"])
    service = Service(place.model_copy(update={"keys": str(keys.path)}), tmp_path / "service.log")
    visitor = Visitor(browser, "desk", f"http://localhost:{service.port}", tmp_path)
    page = visitor.page
    page.get_by_role("button", name="Try the cat").click()
    expect(page.locator("#told")).to_contain_text("have a key")
    page.get_by_label("Your key").fill(secret)
    page.screenshot(path=tmp_path / "key.png", full_page=True)
    with page.expect_navigation():
        page.get_by_role("button", name="Use it").click()
    visitor.paints()
    page.evaluate(
        """async () => {
            const { json } = await import("./web/api.js");
            const form = new FormData();
            const fields = { kind: "gatys", style: "wave", size: 64, num_iterations: 3 };
            for (const [name, value] of Object.entries(fields)) form.append(name, value);
            form.append("image", await (await fetch("web/cat.jpg")).blob(), "cat.jpg");
            const job = await json("jobs", { method: "POST", body: form });
            (await import("./web/remember.js")).add({ id: job.id, kind: "gatys", title: "Mine" });
            (await import("./web/works.js")).sync();
        }"""
    )
    visitor.enter("best")
    best = page.get_by_alt_text("Painted at its best")
    expect(best).to_have_attribute("src", re.compile("^blob:"))  # an image's address would take no key along
    expect(page.locator("article .chip")).to_have_text("done")
    assert secret not in page.evaluate("document.cookie + JSON.stringify(localStorage)")
    assert secret not in (tmp_path / "service.log").read_text()
    visitor.context.close()
    service.terminate()
