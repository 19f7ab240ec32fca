"""The console's page of the books before anything was booked. Apart from the console's tests, which share a market."""

from __future__ import annotations

import pytest
from django.test import Client

from marketplace import models as m

BOOKS = "/console/books/"


@pytest.mark.django_db
def test_books_without_a_transfer_say_what_will_open_them():
    client = Client()
    client.force_login(m.User.objects.create_user(email="first@console.example", is_staff=True))
    page, past = client.get(BOOKS).content.decode(), client.get(BOOKS, {"at": "1"})

    for words in ("the first deposit opens the first", "No epoch is closed yet.", "Not compared yet."):
        assert words in page
    assert "download" not in page
    assert past.status_code == 422
    assert "(seq_not_written)" in past.content.decode()
    assert "Transfers are numbered" not in past.content.decode()
