"""`manage.py api_key`: a program gets its key, uses it, and loses it."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from marketplace.parties.models import ApiKey, Party


def told(*words: str, **options: Any) -> str:
    out = StringIO()
    call_command("api_key", *words, stdout=out, stderr=StringIO(), **options)
    return out.getvalue().strip()


def status_of(secret: str) -> int:
    return Client().get("/api/v1/windows", headers={"Authorization": f"Bearer {secret}"}).status_code


def test_a_key_is_made_works_is_listed_without_its_secret_and_is_ended(market: Any) -> None:
    slug = Party.objects.filter(kind="enterprise").values_list("slug", flat=True)[0]

    secret = told("new", slug, "night bidder", "--write", "--days", "30")
    prefix = secret.split("_")[2]

    assert status_of(secret) == 200
    assert secret not in told("list", slug)
    assert f"{prefix}  write  until " in told("list", slug)
    assert told("revoke", prefix) == f"{prefix} of {slug} is ended."
    assert status_of(secret) == 401
    assert "revoked" in told("list", slug)


@pytest.mark.parametrize(("words", "sentence"), [
    (("new", "nobody", "x"), "There is no such party."),
    (("new", "{slug}", " "), "Name the key"),
    (("new", "{slug}", "x", "--days", "0"), "1 to 3650 days"),
    (("list", "nobody\x00"), "There is no such party."),
    (("revoke", "00000000"), "There is no such key."),
])  # fmt: skip
def test_a_refusal_says_why_and_writes_nothing(market: Any, words: tuple[str, ...], sentence: str) -> None:
    slug, before = Party.objects.values_list("slug", flat=True)[0], ApiKey.objects.count()

    with pytest.raises(CommandError, match=sentence):
        told(*(word.format(slug=slug) for word in words))

    assert ApiKey.objects.count() == before
