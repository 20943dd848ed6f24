"""A real browser at the page: what it shows, what it asks for, what it complains of."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

SIZES = {"desk": (1280, 800), "phone": (390, 844)}
AXE = Path(__file__).parent / "axe/axe.min.js"
WAIT = 60_000  # ms: other work may have the machine

expect.set_options(timeout=WAIT)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's; playwright brings none along here."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not path:
        pytest.skip("chromium is not installed (Debian: apt-get install chromium)")
    camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=camera)
        yield browser
        browser.close()


class Visitor:
    """Somebody at the page at `url`, on a screen of one of SIZES."""

    def __init__(self, browser: Browser, size: str, url: str, shots: Path, **more: str) -> None:
        width, height = SIZES[size]
        self.size, self.url, self.shots = size, url, shots
        phone = size == "phone"
        self.context: BrowserContext = browser.new_context(
            viewport={"width": width, "height": height}, has_touch=phone, is_mobile=phone, accept_downloads=True, **more
        )
        self.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=url)
        self.context.add_init_script(path=AXE)
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page = self.tab()

    def tab(self) -> Page:
        page = self.context.new_page()
        page.set_default_timeout(WAIT)
        page.on("console", lambda message: self.complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.asked.append(f"{request.method} {request.url}"))
        page.goto(self.url, wait_until="domcontentloaded")
        return page

    def enter(self, section: str) -> None:
        self.page.locator(f'nav a[href="#{section}"]').click()

    def paints(self, file: object = None) -> None:
        """Give it a picture, the cat unless told, and wait for the painting."""
        if file is None:
            self.page.locator("#sample").click()
        else:
            self.page.locator("#choose + input").set_input_files(file)  # type: ignore[arg-type]
        self.has_painted()

    def has_painted(self) -> None:
        expect(self.page.locator("#told")).to_contain_text("Painted in")

    def looks_right(self, name: str, page: Page | None = None) -> None:
        """At every width: a window on a desk can be narrow."""
        page = page or self.page
        for size in sorted(SIZES, key=lambda size: size == self.size):  # its own last, and that it keeps
            width, height = SIZES[size]
            page.set_viewport_size({"width": width, "height": height})
            self._looks_right(page, name if size == self.size else f"{name}-at-the-width-of-a-{size}")

    def _looks_right(self, page: Page, name: str) -> None:
        """Nothing hangs over the edge, and axe finds nothing serious; what it looks like goes to a file."""
        page.screenshot(path=self.shots / f"{self.size}-{name}.png", full_page=True)
        over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert over == 0, f"{name} is {over} px too wide"
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        serious = [
            (violation["id"], [node["html"] for node in violation["nodes"]])
            for violation in found
            if violation["impact"] in ("serious", "critical")
        ]
        assert serious == [], name

    def leave(self, *, expected: tuple[str, ...] = ()) -> None:
        """The end: no complaint but what was `expected`, and no other host was asked for anything."""
        self.context.close()
        complaints = [text for text in self.complaints if not any(part in text for part in expected)]
        assert complaints == [], complaints
        elsewhere = [line for line in self.asked if line.split()[1].split(":")[0] not in ("blob", "data")]
        assert [line for line in elsewhere if not line.split()[1].startswith(self.url)] == []
