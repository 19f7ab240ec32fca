"""A buyer pays by card in a market that `manage.py up` runs: page, payment page, webhook, books, chain."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
import requests

from tests.house.test_up import PATIENCE_SECONDS, Up, port, up  # noqa: F401  fixtures


def wait_for(words: str, look) -> str:
    """Ask for a page until it says `words`."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    text = look()
    while words not in text and time.monotonic() < give_up_at:
        time.sleep(0.5)
        text = look()
    assert words in text, text
    return text


@pytest.mark.slow
def test_a_card_payment_ends_in_escrow(up: Up, home: Path) -> None:  # noqa: F811
    assert up.says("beat is up"), up.output.read_text()
    site = f"http://127.0.0.1:{up.port}"
    email, password = re.search(r"(\S+@\S+) +(\S+) +/portal/", up.output.read_text()).groups()
    with requests.Session() as person:
        def token(path: str) -> dict[str, str]:
            found = re.search(r'csrfmiddlewaretoken" value="(\w+)', person.get(site + path).text)
            return {"csrfmiddlewaretoken": found[1]}

        person.post(f"{site}/login/", token("/login/") | {"username": email, "password": password})
        key = re.search(r'name="key" value="([\w-]+)"', person.get(f"{site}/portal/escrow/").text)[1]
        form = token("/portal/escrow/") | {"amount_micros": "25.00", "key": key}
        page = person.post(f"{site}/portal/escrow/card/", form)
        steps = wait_for("Continue to the payment page", lambda: person.get(page.url).text)
        pay = re.search(r'href="(http://127.0.0.1:\d+/pay/[^"]+)"', steps)[1]

        back = person.post(pay, {"number": "4242 4242 4242 4242"})

        assert back.url == page.url
        wait_for("<b>In escrow</b>", lambda: person.get(page.url).text)
        assert "$25.00" in person.get(f"{site}/portal/escrow/").text
