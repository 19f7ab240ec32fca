"""Headless Chromium against the whole site in this process, over one connection that is rolled back at the end.

Any request to another host and any console error fails the test. Without a browser the tests are skipped and say what
was not tested; `REQUIRE_BROWSER=1` makes that a failure.
"""

from __future__ import annotations

import gzip
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.servers.basehttp import ThreadedWSGIServer
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections, connections, transaction
from django.test import Client
from django.test.testcases import QuietWSGIRequestHandler

from tests.doors.factories import PASSWORD, Market, make_market, seat

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync",
         "--disable-dev-shm-usage"]  # fmt: skip


class OneConnectionServer(ThreadedWSGIServer):
    """Serves each request over the test's own connection, and leaves it open."""

    def _close_connections(self) -> None:
        pass


class OneAtATime:
    """Hands one request after the other to the site, because all share one connection; refuses once it is over."""

    def __init__(self, application: Any) -> None:
        self.application, self.turn, self.is_over = application, threading.Lock(), False

    def __call__(self, environ: dict, start_response: Callable) -> Any:
        with self.turn:
            if self.is_over:
                start_response("503 Over", [])
                return [b""]
            return self.application(environ, start_response)

    def end(self) -> None:
        with self.turn:
            self.is_over = True


@dataclass
class Site:
    """The running site: its address and the rows in it."""

    url: str
    market: Market


@pytest.fixture(scope="package")
def site(django_db_setup: None, django_db_blocker, browser) -> Iterator[Site]:
    # The browser's driver keeps an event loop in this thread, and Django then keeps connections per context: the one
    # used here is another than the session's, so it is closed here. Hence `browser` comes first.
    with django_db_blocker.unblock(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")  # the browser's driver runs an event loop in this thread
        assert "test" in str(connections["default"].settings_dict["NAME"]), "this would write into a live database"
        with transaction.atomic():
            market = make_market()
            seat(market.buyers[0], "buyer@doors.example")
            seat(market.providers[0], "provider@doors.example")
            seat(market.providers[1], "newcomer@doors.example")
            Client().get("/login/")  # the first page loads the whole site; that must not count against a time-out
            own = connections["default"]
            own.inc_thread_sharing()
            for signal in (request_started, request_finished):
                signal.disconnect(close_old_connections)  # a connection inside a transaction looks unusable to it
            server = OneConnectionServer(
                ("127.0.0.1", 0), QuietWSGIRequestHandler, allow_reuse_address=False,
                connections_override={"default": own},
            )  # fmt: skip
            application = OneAtATime(StaticFilesHandler(get_wsgi_application()))
            server.set_app(application)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield Site(f"http://127.0.0.1:{server.server_port}", market)
            application.end()
            server.shutdown()
            server.server_close()
            for signal in (request_started, request_finished):
                signal.connect(close_old_connections)
            own.dec_thread_sharing()
            transaction.set_rollback(True)
        own.close()


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        sentence = "No Chromium: pages were not looked at by a browser. Install Debian's chromium or set CHROMIUM."
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(sentence)
        pytest.skip(sentence)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium
        chromium.close()


@dataclass
class Look:
    """One tab, and everything wrong that it met."""

    page: Any
    site: Site
    faults: list[str] = field(default_factory=list)

    def open(self, path: str) -> Any:
        return self.page.goto(self.site.url + path)

    def follow(self, link_or_button: Any) -> None:
        """Press what leads to another page, or to this one anew, and wait until that page is there as a whole.

        A bare click returns as soon as the browser has turned to the new page: what is read then may be of the old
        one, or of a document that has no root yet.
        """
        with self.page.expect_navigation():
            link_or_button.click()

    def sign_in(self, who: str) -> None:
        self.open("/login/")
        self.page.get_by_label("E-mail").fill(f"{who}@doors.example")
        self.page.get_by_label("Password").fill(PASSWORD)
        self.follow(self.page.get_by_role("button", name="Sign in"))
        self.page.wait_for_url("**/portal/" if who == "buyer" else "**/onboarding/")

    def watch(self) -> None:
        own = (self.site.url, "data:")
        self.page.on("request", lambda r: r.url.startswith(own) or self.faults.append(f"off-host {r.url}"))
        self.page.on("console", lambda m: m.type == "error" and self.faults.append(f"console {m.text}"))
        self.page.on("pageerror", lambda e: self.faults.append(f"script {e}"))

    def weigh(self, path: str) -> dict[str, int]:
        """Open a page and return the compressed size of everything that was loaded for it, by address."""
        loaded: list[Any] = []
        self.page.on("requestfinished", lambda request: loaded.append(request))
        self.open(path)
        self.page.wait_for_load_state("networkidle")
        return {request.url: len(gzip.compress(request.response().body())) for request in loaded}


@pytest.fixture
def look(browser, site: Site, db: None) -> Iterator[Callable[..., Look]]:
    opened: list[tuple[Any, Look]] = []

    def opening(width: int = 1280, scheme: str = "light") -> Look:
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        context.set_default_timeout(60_000)  # only what hangs is ended by it
        tab = Look(context.new_page(), site)
        tab.watch()
        opened.append((context, tab))
        return tab

    yield opening
    for context, tab in opened:
        context.close()
        expected = [f for f in tab.faults if "status of 4" not in f]  # a refusal answers 422: that is its job
        assert expected == [], "\n".join(expected)
