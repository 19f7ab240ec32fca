"""The card sandbox as a process of its own beside a test, and short words to play cardholder and bank with it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from django.db import connection

from marketplace.environment import CHECKOUT

PATIENCE_SECONDS = 120  # only ends what hangs
GOOD, DECLINED, DISPUTED = "4242424242424242", "4000000000000002", "4000000000000259"


@dataclass
class Processor:
    """The sandbox at `url`."""

    url: str

    def request(self, method: str, path: str, form: dict[str, Any] | None = None, **headers: str) -> tuple[int, Any]:
        """Return status and body of one request past the SDK."""
        where = urlsplit(self.url)
        line = http.client.HTTPConnection(where.hostname or "", where.port, timeout=PATIENCE_SECONDS)
        try:
            line.request(
                method, path, urlencode(form or {}), {"Authorization": "Bearer sk_test_x", "Content-Type":
                "application/x-www-form-urlencoded"} | headers,
            )  # fmt: skip
            answer = line.getresponse()
            text = answer.read().decode()
            return answer.status, json.loads(text) if "json" in answer.getheader("Content-Type", "") else text
        finally:
            line.close()

    def behave(self, **how: int) -> None:
        """Let it misbehave in these ways and no others."""
        assert self.request("POST", "/_sandbox/behaviour", how)[0] == 200

    def pay(self, page: str, card: str = GOOD) -> int:
        """Fill in a payment page; the status of what the browser then sees."""
        return self.request("POST", urlsplit(page).path, {"number": card})[0]

    def dispute(self, charge: str, cents: int) -> str:
        return str(self.request("POST", "/_sandbox/disputes", {"charge": charge, "amount": cents})[1]["id"])

    def end_refund(self, id: str, how: str) -> int:
        return self.request("POST", f"/_sandbox/refunds/{id}/{how}")[0]

    def held(self) -> list[tuple[bytes, str]]:
        """The webhooks that were held back: raw body and signature, in the order of their events."""
        found = self.request("GET", "/_sandbox/deliveries")[1]["data"]
        return [(each["payload"].encode(), each["signature"]) for each in found]


@contextmanager
def running(webhook: str = "") -> Iterator[Processor]:
    """Run a sandbox over the test database until the block ends."""
    command = [sys.executable, "-m", "ledger.rails.stripe_sandbox", "--webhook", webhook]
    database = {"DATABASE_NAME": connection.settings_dict["NAME"]}
    process = subprocess.Popen(command, cwd=CHECKOUT, env=os.environ | database, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:"), "the sandbox did not start"
        yield Processor(url)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()
