"""Every operation of the schema, asked by everybody, empty-handed and with ids of their own: an answer or a refusal."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from django.core.cache import cache
from django.test import Client

from marketplace import models as m
from marketplace.api.docs import SCHEMA
from marketplace.parties.models import ROLES
from marketplace.parties.services import register_party
from tests.api.conftest import Caller, caller
from tests.doors.factories import NOW, seat

PROGRAMS = 3
BODIES: tuple[Any, ...] = (None, {}, {"x": 1}, {"reason": 5, "units": None, "window": [], "statements": [{}]})


def operations() -> list[tuple[str, str]]:
    paths = yaml.load(SCHEMA.read_bytes(), Loader=yaml.CSafeLoader)["paths"]
    return [(method, path.removeprefix("/api/v1")) for path, found in paths.items() for method in found]


def ids_of(market: Any) -> dict[str, list[str]]:
    """For each part of an address that varies: an id of somebody's row, one of nobody's, and one that is none."""
    buyer, provider = market.buyers[0], market.providers[0]
    rows = {
        "demand": ("dem", m.Demand.objects.filter(party=buyer)), "bid": ("bid", m.Bid.objects.filter(party=provider)),
        "lease": ("lea", m.Lease.objects.filter(buyer=buyer)), "window": ("win", m.Window.objects.all()),
        "award": ("awd", m.Award.objects.filter(demand__party=buyer)),
        "node_class": ("cls", m.NodeClass.objects.filter(party=provider)),
        "site": ("sit", m.Site.objects.filter(party=provider)),
    }  # fmt: skip
    return {
        name: [*(f"{prefix}_{row.pk.hex}" for row in found.order_by("pk")[:1]), f"{prefix}_{'0' * 32}", "'"]
        for name, (prefix, found) in rows.items()
    }


def callers(market: Any) -> list[Caller]:
    """Programs of each kind of party, a person of each role on both sides, and nobody."""
    found = [caller(market.buyers[0]), caller(market.providers[0]), Caller(Client(), {})]
    found.append(caller(register_party(slug="looker", name="Looker", kind="verifier", country="DE",
                                       parent_country="DE", now=NOW)))  # fmt: skip
    for party in (market.buyers[0], market.providers[0]):
        for role in ROLES:
            client = Client()
            client.force_login(seat(party, f"{role}@{party.slug}.example", role=role))
            found.append(Caller(client, {}))
    return found


@pytest.mark.parametrize("part", [12, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("method", ["get", "post"])
def test_every_operation_answers_everybody_with_a_result_or_a_typed_refusal(market, settings, method, part):
    """They take turns: a person asks one operation of `part`, a program one of a third as many."""
    settings.API_PARTY_PER_MINUTE = settings.API_ADDRESS_PER_MINUTE = 10**6
    ids, known, asked = ids_of(market), operations(), 0
    for turn, who in enumerate(callers(market)):
        is_person = not who.headers and turn > PROGRAMS
        every = part if is_person else max(1, part // 3)
        who.client.raise_request_exception = False
        for number, (verb, path) in enumerate(known):
            if verb != method or (number + turn) % every:
                continue
            name = re.search(r"\{(\w+)\}", path)
            for each in ids.get(name[1], [f"{name[1][:3]}_{'0' * 32}"]) if name else [""]:
                filled = re.sub(r"\{(\w+)\}", "x", re.sub(r"\{(\w+)\}", each, path, count=1))
                for body in BODIES if method == "post" and not is_person else (BODIES[turn % 3],):
                    answer = getattr(who, method)(filled) if method == "get" else who.post(filled, body)
                    if answer.streaming:
                        b"".join(answer.streaming_content)
                    asked += 1
                    assert answer.status_code < 500, (verb, filled, body, answer.content[:300])
                    if answer.status_code >= 400:
                        assert answer.json()["code"] != "internal_error"
                        assert answer.headers["Content-Type"] == "application/problem+json", (verb, filled)
        cache.clear()
    assert asked * part > 2_000
