"""Take the pictures of the documentation: run the demo, look at its pages in a browser.

`make pictures` writes docs/pictures. It needs what the browser tests need, Chromium and its driver,
and takes about two minutes.
"""

import io
import os
import re
import signal
import subprocess
import sys
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from selenium.webdriver.common.by import By

from tests.kit.services.browser import Browser

ROOT = Path(__file__).resolve().parents[1]
WHERE = ROOT / "docs" / "pictures"
WIDTH, HEIGHT = 1400, 1000
"""Pixels of a picture; it is less high if the page is."""
HEIGHTS = {"group": 650}
"""Of those that are cut earlier: a traceback has the paths of the machine."""
COLOURS = 64
LARGEST = 150_000
"""Bytes of a picture."""
PATIENCE = 300
"""Seconds for the demo to get so far."""
INVITED = re.compile(r"An order now and then.*?(http://\S+/admin/)", re.DOTALL)
NOTE = "Snow on the road. The depot opens again at noon; retry then."
MESSAGING = "django_outbox/messaging/"


def main() -> int:
    """Write all pictures; fail if one is too large to be kept in a repository."""
    WHERE.mkdir(exist_ok=True)
    browser = Browser()
    try:
        with _demo() as admin:
            _log_in(browser, admin)
            _wait_for(browser, f"{admin}{MESSAGING}failures/", ".outbox-failure a")
            for name, page in _pages(browser, admin):
                _take(browser, name, page, HEIGHTS.get(name, HEIGHT))
    finally:
        browser.close()
    large = [each.name for each in WHERE.glob("*.png") if each.stat().st_size > LARGEST]
    if large:
        print("Too large:", ", ".join(large), file=sys.stderr)
    return 1 if large else 0


@contextmanager
def _demo() -> Iterator[str]:
    """Run the demo, and yield the address of its admin once it stays for somebody to look."""
    command = [sys.executable, "manage.py", "demo", "--serve", "--orders", "150", "--seed", "7"]
    log = WHERE / "demo.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while (found := INVITED.search(log.read_text())) is None:
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(log.read_text())
            time.sleep(1)
        yield found[1]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE)
        log.unlink()


def _log_in(browser: Browser, admin: str) -> None:
    size = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
    browser.command("Emulation.setDeviceMetricsOverride", **size)
    browser.command("Emulation.setScrollbarsHidden", hidden=True)
    light = [{"name": "prefers-color-scheme", "value": "light"}]
    browser.command("Emulation.setEmulatedMedia", features=light)
    browser.driver.get(f"{admin}login/")
    for name in ("username", "password"):
        browser.driver.find_element(By.NAME, name).send_keys("demo")
    browser.driver.find_element(By.CSS_SELECTOR, "[type=submit]").click()
    browser.driver.execute_script("localStorage['django.admin.navSidebarIsOpen'] = 'false'")


def _wait_for(browser: Browser, url: str, css: str) -> None:
    """Look at a page until there is something on it."""
    deadline = time.monotonic() + PATIENCE
    browser.driver.get(url)
    while not browser.driver.find_elements(By.CSS_SELECTOR, css):
        if time.monotonic() > deadline:
            raise SystemExit(f"There is no {css} on {url}.")
        time.sleep(2)
        browser.driver.get(url)


def _pages(browser: Browser, admin: str) -> Iterator[tuple[str, str]]:
    """Yield the names of pictures, and what they are of; some are found by links of others."""
    yield "overview", f"{admin}{MESSAGING}overview/"
    browser.driver.get(f"{admin}{MESSAGING}failures/")
    group = _href(browser, ".outbox-failure a")
    browser.driver.get(group)
    browser.driver.find_element(By.NAME, "text").send_keys(NOTE)
    browser.driver.find_element(By.CSS_SELECTOR, ".outbox-failure-note button").click()
    yield "group", group
    row = _href(browser, "#content td a[href*='/receipt/']")
    browser.driver.get(row)
    flow = _href(browser, "a[href*='/messaging/flow/?of=']")
    message = _href(browser, "a[href*='/message/?q=']")
    yield "conversation", flow
    browser.driver.get(message)
    yield "message", _href(browser, "#result_list a[href*='/message/']")
    yield "topology", f"{admin}{MESSAGING}flow/"


def _href(browser: Browser, css: str) -> str:
    found = browser.driver.find_element(By.CSS_SELECTOR, css).get_attribute("href")
    assert found is not None
    return found


def _take(browser: Browser, name: str, url: str, height: int) -> None:
    browser.driver.get(url)
    time.sleep(3)  # what is lazy is read by then
    tall = browser.driver.execute_script("return document.documentElement.scrollHeight")
    clip = {"x": 0, "y": 0, "width": WIDTH, "height": min(int(tall), height), "scale": 1}
    answer = browser.driver.execute(
        "executeCdpCommand", {"cmd": "Page.captureScreenshot", "params": {"clip": clip}}
    )
    picture = Image.open(io.BytesIO(b64decode(answer["value"]["data"]))).convert("RGB")
    few = picture.quantize(COLOURS, dither=Image.Dither.NONE)
    few.save(WHERE / f"{name}.png", optimize=True)
    print(os.path.relpath(WHERE / f"{name}.png"), (WHERE / f"{name}.png").stat().st_size)


if __name__ == "__main__":
    raise SystemExit(main())
