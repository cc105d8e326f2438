"""A real browser in which somebody is logged in."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import Model
from django.test import Client
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.expected_conditions import staleness_of
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait

from tests.kit.admin_pages import detail_url, list_url
from tests.kit.services.browser import Browser

PATIENCE = 20
"""Seconds that a page may take."""


@dataclass
class Person:
    """Somebody in front of a browser: looks at pages, and clicks at what they show."""

    browser: Browser
    address: str

    @property
    def driver(self) -> WebDriver:
        return self.browser.driver

    def visit(self, where: str | type[Model] | Model) -> None:
        if isinstance(where, type):
            where = list_url(where)
        elif isinstance(where, Model):
            where = detail_url(where)
        self.driver.get(self.address + where)

    @property
    def place(self) -> str:
        """The address of the page, from the site's root."""
        return self.driver.current_url.removeprefix(self.address)

    @property
    def text(self) -> str:
        return self.driver.find_element(By.ID, "content").text

    @property
    def told(self) -> list[str]:
        """The messages on the page."""
        return [each.text for each in self.all(".messagelist li")]

    def all(self, css: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def click(self, text: str) -> None:
        """Click at a button or link, and wait for the page that it leads to."""
        path = f"//*[self::a or self::button][normalize-space()='{text}']"
        self._follow(self.driver.find_element(By.XPATH, f"//*[@id='container']{path}"))

    def _follow(self, found: WebElement) -> None:
        self.follow(found, found.click)

    def follow(self, found: WebElement, act: Callable[[], object]) -> None:
        """Do something that leads to another page, on which an element is no more."""
        act()
        # Between two pages the driver may know neither.
        patient = WebDriverWait(self.driver, PATIENCE, ignored_exceptions=[WebDriverException])
        patient.until(staleness_of(found))
        self.driver.find_element(By.ID, "content")

    def buttons(self) -> list[str]:
        return [each.text for each in self.all(".outbox-button")]

    def choose(self, action: str) -> None:
        """Choose an action of a list, and have it run."""
        Select(self.driver.find_element(By.NAME, "action")).select_by_visible_text(action)
        self._follow(self.driver.find_element(By.CSS_SELECTOR, "button[name=index]"))

    def run(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def resize(self, width: int) -> None:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self.browser.command("Emulation.setDeviceMetricsOverride", **size)

    def run_scripts(self, value: bool) -> None:
        """Let pages run scripts, or not."""
        self.browser.command("Emulation.setScriptExecutionDisabled", value=not value)


@pytest.fixture(scope="session")
def _browser(live_server: Any) -> Iterator[Browser]:
    found = Browser()
    yield found
    found.close()
    # What it was connected to is closed by then, and before the server ends.
    for thread in threading.enumerate():
        if "process_request_thread" in thread.name:
            thread.join(PATIENCE)


@pytest.fixture
def browser(_browser: Browser, live_server: Any, client: Client) -> Iterator[Person]:
    """A browser in which a superuser is logged in, who sees no error in its console."""
    client.force_login(User.objects.create_superuser("root"))
    driver = _browser.driver
    driver.get(f"{live_server.url}/admin/login/")
    session = client.cookies[settings.SESSION_COOKIE_NAME]
    driver.add_cookie({"name": session.key, "value": session.value, "path": "/"})
    _browser.errors()
    person = Person(_browser, live_server.url)
    person.resize(1400)
    yield person
    person.run_scripts(True)
    errors = _browser.errors()
    driver.delete_all_cookies()
    driver.get("about:blank")
    assert errors == []
