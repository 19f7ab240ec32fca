"""What holds on every page there is, found by walking the addresses: ids that name one thing, fields with a label, and
answers that no cache keeps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from marketplace import models as m
from marketplace.console.site import console
from tests.doors.factories import Market, seat

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
SKIPPED = (
    "/api/",
    "/console/logout/",
    "/console/password_change/",
    "/console/jsi18n/",
    "/console/r/",
    "/webhooks/",
    "/logout/",
)


class Read(HTMLParser):
    """The ids of a page, and its fields that no label names."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.named: set[str] = set()  # by `for`
        self.fields: list[tuple[str, dict[str, str | None], bool]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if given.get("id"):
            self.ids.append(str(given["id"]))
        if tag == "label" and given.get("for"):
            self.named.add(str(given["for"]))
        is_field = tag in ("select", "textarea") or (
            tag == "input" and given.get("type") not in ("hidden", "submit", "button", "image", "reset")
        )
        if is_field:
            self.fields.append((tag, given, "label" in self.open))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    @property
    def twice(self) -> list[str]:
        return [name for name, count in Counter(self.ids).items() if count > 1]

    @property
    def unlabelled(self) -> list[str]:
        return [
            str(given.get("name") or given.get("id") or tag)
            for tag, given, is_inside in self.fields
            if not is_inside and given.get("id") not in self.named and not given.get("aria-label")
            and not any(each in self.ids for each in (given.get("aria-labelledby") or "").split())
        ]  # fmt: skip


def addresses() -> list[str]:
    """Every address without a part that varies."""

    def walk(patterns: list[URLPattern | URLResolver], before: str) -> list[str]:
        found = []
        for each in patterns:
            here = before + str(each.pattern)
            if isinstance(each, URLResolver):
                found += walk(each.url_patterns, here)
            elif not any(sign in here for sign in "<(^$*\\") and not here.endswith("/add/"):
                found.append(f"/{here}")
        return found

    return [path for path in dict.fromkeys(walk(get_resolver().url_patterns, "")) if not path.startswith(SKIPPED)]


def own_things(market: Market) -> list[str]:
    """Pages about one thing: of the buyer, of the provider, and of each table of the console its newest row."""
    buyer, provider = market.buyers[0], market.providers[0]
    demands = [row for row in (m.Demand.objects.filter(party=buyer, state=state).first()
                               for state in ("posted", "funded", "awarded", "lost", "withdrawn")) if row]  # fmt: skip
    leases = list(m.Lease.objects.filter(buyer=buyer)[:2]) + list(m.Lease.objects.filter(provider=provider)[:2])
    found = [reverse("portal:demand", args=[row.pk]) for row in demands]
    found += [reverse("portal:worth", args=[row.pk]) for row in demands]
    found += [reverse(f"{door}:{page}", args=[row.pk]) for row in leases
              for door, page in (("portal", "lease"), ("portal", "lease_minutes"), ("portal", "lease_pack"),
                                 ("onboarding", "lease_minutes"), ("onboarding", "lease_pack"))]  # fmt: skip
    found += [reverse("portal:window", args=[row.pk]) for row in m.Window.objects.order_by("number")]
    found += [reverse("onboarding:class", args=[row.pk]) for row in provider.node_classes.order_by("pk")[:2]]
    found += [reverse("onboarding:place_class", args=[row.pk]) for row in provider.node_classes.order_by("pk")[:2]]
    found += [reverse("onboarding:place", args=[row.pk]) for row in m.Site.objects.filter(party=provider)[:1]]
    for model in console._registry:
        if (row := model.objects.order_by("pk").last()) is not None:
            name = f"admin:{model._meta.app_label}_{model._meta.model_name}_change"
            found.append(reverse(name, args=[row.pk]))
    return found


@pytest.fixture
def visitors(market, enter) -> dict[str, Client]:
    foundation = m.Party.objects.get(slug="foundation")
    seat(foundation, "everything@doors.example", role="operations", is_staff=True)
    m.User.objects.filter(email="everything@doors.example").update(is_superuser=True)
    return {name: enter(name) for name in ("buyer", "provider", "everything")} | {"stranger": enter(None)}


def door_of(path: str) -> str:
    """Who is let in at an address."""
    doors = {"/portal/": "buyer", "/onboarding/": "provider", "/console/": "everything"}
    return next((name for door, name in doors.items() if path.startswith(door)), "stranger")


def walk(market: Market, visitors: dict[str, Client]) -> Iterator[tuple[str, Any]]:
    """Every page and what it answers, also after a refusal: a form that is sent empty shows its mistakes in the same
    page. At the end every page has had its fields named, its ids once, and was kept by no cache.
    """
    seen, wrong = Counter[str](), []
    for path in [*addresses(), *own_things(market)]:
        name = door_of(path)
        answers = [visitors[name].get(path)]
        if name in ("buyer", "provider") and not answers[0].streaming and b'method="post"' in answers[0].content:
            answers.append(visitors[name].post(path, {}))
        for answer in answers:
            if answer.streaming:
                b"".join(answer.streaming_content)  # read to its end, a file is closed
            yield path, answer
            kept = {each.strip() for each in answer.headers.get("Cache-Control", "").split(",")}
            if name != "stranger" and not {"private", "no-store"} <= kept:
                wrong.append(f"{path}: may be kept by a cache ({kept})")
            if answer.status_code not in (200, 422) or not answer.headers["Content-Type"].startswith("text/html"):
                continue
            read = Read(answer.content.decode())
            seen[name] += 1
            wrong += [f"{path}: id {each} twice" for each in read.twice]
            wrong += [f"{path}: field {each} without a label" for each in read.unlabelled]

    assert min(seen[name] for name in visitors) > 10
    assert sorted(set(wrong)) == []


@pytest.mark.slow  # test_marks.py takes the same walk among rows that are full of marks
def test_every_page_names_its_fields_gives_ids_once_and_is_kept_by_no_cache(market, visitors):
    assert len({path for path, _ in walk(market, visitors)}) > 100


def test_a_page_with_an_id_twice_or_a_field_without_a_label_is_found_out():
    read = Read(
        '<p id="a"></p><label id="a">x <input name="in"></label><input name="b"><label for="c">c</label>'
        '<select id="c"></select><textarea aria-label="d"></textarea><input type="hidden" name="e">'
    )

    assert (read.twice, read.unlabelled) == (["a"], ["b"])


@pytest.mark.parametrize("name", ["buyer", "everything", "stranger"])
def test_no_cache_keeps_what_one_person_is_shown(market, visitors, name):
    paths = ["/portal/", "/onboarding/", "/console/", "/portal/nowhere/", "/api/v1/x", "/api/v1/demands",
             "/api/v1/balances", "/api/v1/windows", "/login/"]  # fmt: skip
    for path in [*paths, *([] if name == "stranger" else ["/market/", "/nowhere/", "/market/%00/", "/problems/"])]:
        kept = visitors[name].get(path).headers.get("Cache-Control", "")
        assert {"private", "no-store"} <= {each.strip() for each in kept.split(",")}, (path, kept)


def test_what_is_for_everybody_may_be_kept(market, visitors):
    stranger = Client()

    assert "no-store" not in stranger.get("/healthz").headers.get("Cache-Control", "")
    assert "no-store" not in stranger.get(reverse("bundle", args=[1])).headers.get("Cache-Control", "")
    stranger.cookies[settings.SESSION_COOKIE_NAME] = "x" * 32
    assert stranger.get("/market/").headers["Cache-Control"] == "private, no-store"
    assert visitors["buyer"].get("/fonts/grove.css").headers.get("Cache-Control", "").startswith(("public", "private"))


def test_a_key_reads_through_no_cache(market):
    answer = Client().get("/api/v1/balances", headers={"Authorization": "Bearer gx_live_00000000_" + "a" * 43})

    assert (answer.status_code, answer.headers["Cache-Control"]) == (401, "private, no-store")
