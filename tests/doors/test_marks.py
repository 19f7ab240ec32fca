"""Whatever people write is shown as text: no name, reason or file name becomes a part of a page.

On the same walk every page names its fields, gives ids once and is kept by no cache (`test_every_page.walk`).
"""

from __future__ import annotations

from html import escape
from typing import Any

import pytest
from django.apps import apps
from django.db import DatabaseError, models, transaction
from django.test import Client

from marketplace import models as m
from tests.doors.factories import seat
from tests.doors.test_every_page import walk
from tests.owner import behind_the_triggers

MARK = "<x-ray onload=\"1\">'&"
WRITTEN = (
    "name", "title", "reason", "text", "sentence", "label", "note", "reference", "city", "file_name", "issuer",
    "claimed_name", "outcome", "grounds", "source", "answer", "purpose", "number", "detail", "last_error", "what",
    "words", "address", "subject", "actor",
)  # fmt: skip


def marked() -> set[str]:
    """Put the mark into every text that people write, where the database lets it stand; returns the columns."""
    found = set()
    for model in apps.get_app_config("marketplace").get_models():
        if model is m.BundleFile:  # its names are the market's own, and part of what is hashed
            continue
        for field in model._meta.concrete_fields:
            is_text = isinstance(field, models.CharField | models.TextField) and not isinstance(field, models.URLField)
            if not is_text or field.name not in WRITTEN or field.choices or field.primary_key:
                continue
            room = (field.max_length or 300) - len(MARK)
            if room >= 0 and _marks(model, field):
                found.add(f"{model.__name__}.{field.name}")
    return found


def _marks(model: Any, field: Any) -> bool:
    try:
        with transaction.atomic(), behind_the_triggers():
            for row in model.objects.order_by("pk"):
                is_free = not (field.unique or _is_in_a_key(model, field))
                text = MARK if is_free else f"{MARK}{row.pk}"[: field.max_length]
                model.objects.filter(pk=row.pk).update(**{field.name: text})
            return model.objects.exists()
    except DatabaseError:
        return False


def _is_in_a_key(model: Any, field: Any) -> bool:
    return any(field.name in each.fields for each in model._meta.constraints
               if isinstance(each, models.UniqueConstraint))  # fmt: skip


@pytest.fixture
def visitors(market, enter) -> dict[str, Client]:
    foundation = m.Party.objects.get(slug="foundation")
    seat(foundation, "reader@doors.example", role="operations", is_staff=True)
    m.User.objects.filter(email="reader@doors.example").update(is_superuser=True)
    return {"buyer": enter("buyer"), "provider": enter("provider"), "everything": enter("reader"),
            "stranger": enter(None)}  # fmt: skip


def test_no_text_that_people_write_becomes_a_part_of_a_page(market, visitors):
    columns = marked()
    shown = set()
    for path, answer in walk(market, visitors):
        assert answer.status_code < 500, path
        if not answer.streaming and answer.headers.get("Content-Type", "").startswith("text/html"):
            body = answer.content.decode()
            assert "<x-ray" not in body, path
            assert "&lt;x-ray onload=\"" not in body, path  # a quote that would end an attribute
            shown |= {path} if escape("<x-ray") in body else set()

    assert {"Party.name", "Window.name", "Demand.reference", "NodeClass.claimed_name"} <= columns
    assert len(shown) > 30  # the marks were really on the pages
