"""API keys and machine keys through their pages: a secret is seen once, caps are kept, a stranger finds nothing."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from django.test import Client
from django.urls import reverse

from marketplace import clock
from marketplace import models as m
from marketplace.agent.keys import create_key, enrolment_statement
from marketplace.onboarding import machines
from marketplace.parties.services import make_seat
from marketplace.supply.machine_keys import claim_enrolment
from tests.doors.factories import NOW
from tests.owner import behind_the_triggers

DOORS = {"portal": ("buyer", "other.buyer"), "onboarding": ("provider", "newcomer")}
FORM = {"label": "night bidder", "days": "30", "may_write": "on", "notional_day_max_micros": "1200.50",
        "open_orders_max": "3", "resource_classes": ["H100-80"]}  # fmt: skip


def made(client: Client, door: str, **changes: object) -> tuple[m.ApiKey, str]:
    page = client.post(reverse(f"{door}:keys"), FORM | changes)
    secret = re.search(r"gx_live_[0-9a-f]{8}_[\w-]+", page.content.decode())
    assert page.status_code == 200
    assert secret, page.content.decode()
    return m.ApiKey.objects.get(prefix=secret[0].split("_")[2]), secret[0]


@pytest.mark.parametrize("door", DOORS)
def test_a_key_is_made_shown_once_works_is_capped_anew_and_ended(door, market, enter):
    client = enter(DOORS[door][0])
    key, secret = made(client, door)

    def status() -> int:
        return Client().get("/api/v1/leases", headers={"Authorization": f"Bearer {secret}"}).status_code

    assert status() == 200
    again = client.get(reverse(f"{door}:keys")).content.decode()
    assert secret not in again
    assert f"gx_live_{key.prefix}" in again
    assert "at most $1,200.50" in again
    assert (key.notional_day_max_micros, key.open_orders_max, key.resource_classes) == (1_200_500_000, 3, ["H100-80"])
    client.post(reverse(f"{door}:key_cap", args=[key.pk]), {"notional_day_max_micros": "", "open_orders_max": "9"})
    key.refresh_from_db()
    assert (key.notional_day_max_micros, key.open_orders_max, key.resource_classes) == (None, 9, [])
    client.post(reverse(f"{door}:key_revoke", args=[key.pk]))
    assert status() == 401


def test_ten_keys_cost_no_more_queries_than_none(market, enter, django_assert_num_queries):
    client = enter("buyer")
    for number in range(10):
        made(client, "portal", label=f"bot {number}")

    with django_assert_num_queries(6):
        client.get(reverse("portal:keys"))


def test_the_answer_with_the_secret_is_kept_by_no_cache(market, enter):
    page = enter("buyer").post(reverse("portal:keys"), FORM)

    assert page.headers["Cache-Control"] == "private, no-store"


@pytest.mark.parametrize("door", DOORS)
def test_somebody_elses_key_and_a_missing_one_are_404(door, market, enter):
    own, stranger = DOORS[door]
    key, _ = made(enter(own), door)

    for act in ("key_cap", "key_revoke"):
        assert enter(stranger).post(reverse(f"{door}:{act}", args=[key.pk]), FORM).status_code == 404
    key.refresh_from_db()
    assert key.revoked_at is None
    assert key.open_orders_max == 3
    assert key.label not in enter(stranger).get(reverse(f"{door}:keys")).content.decode()


def test_who_may_not_manage_keys_sees_them_and_changes_nothing(market, enter):
    key, _ = made(enter("provider"), "onboarding")
    operator = make_seat(party=market.providers[0], email="o@p.example", password=None, role="operator", now=NOW)
    client = Client()
    client.force_login(operator.user)

    page = client.get(reverse("onboarding:keys")).content.decode()
    assert "night bidder" in page
    assert "Make the key" not in page
    refused = client.post(reverse("onboarding:keys"), FORM)
    assert refused.status_code == 422
    assert "role_forbidden" in refused.content.decode()
    client.post(reverse("onboarding:key_revoke", args=[key.pk]))
    key.refresh_from_db()
    assert key.revoked_at is None


@pytest.mark.parametrize(("field", "typed"), [
    ("label", ""), ("days", "0"), ("open_orders_max", "0"), ("notional_day_max_micros", "a lot"),
    ("resource_classes", ["NOTHING"]),
])  # fmt: skip
def test_what_cannot_be_a_key_is_refused_beside_its_field(field, typed, market, enter):
    before = m.ApiKey.objects.count()

    page = enter("buyer").post(reverse("portal:keys"), FORM | {field: typed})

    assert page.status_code == 422
    assert f"id_{field}_error" in page.content.decode()
    assert m.ApiKey.objects.count() == before


# --- machine keys ----------------------------------------------------------------------------------------------------
def test_a_lost_key_is_ended_and_a_new_one_let_in_on_the_page(market, enter, tmp_path: Path):
    client, node_class = enter("provider"), market.providers[0].node_classes.first()
    m.MachineKeyChange.objects.create(
        node_class=node_class, kind="enrolled", public_key=node_class.machine_key, actor="a", reason="r", at=NOW
    )
    url = reverse("onboarding:class", args=[node_class.pk])
    client.post(reverse("onboarding:class_revoke_key", args=[node_class.pk]), {"reason": "stolen"})
    node_class.refresh_from_db()
    assert node_class.machine_key is None
    assert m.Standing.objects.get(node_class=node_class).state == "SUSPENDED"

    page = client.post(reverse("onboarding:class_code", args=[node_class.pk]))
    code = re.search(r"--token ([0-9a-f]{30})", page.content.decode())[1]
    assert page.headers["Cache-Control"] == "private, no-store"
    assert code not in client.get(url).content.decode()
    key = create_key(tmp_path / "home")
    row = claim_enrolment(statement=enrolment_statement(key, code), now=NOW)
    assert key.fingerprint in client.get(url).content.decode()
    stranger = enter("newcomer").post(reverse("onboarding:enrolment", args=[row.pk]), {"act": "accept"})
    assert stranger.status_code == 404
    client.post(reverse("onboarding:enrolment", args=[row.pk]), {"act": "accept"})

    node_class.refresh_from_db()
    assert bytes(node_class.machine_key) == key.public_bytes


def test_provers_of_further_units_are_let_in_and_retired_on_the_page(market, enter, tmp_path: Path):
    client, node_class = enter("provider"), market.providers[0].node_classes.first()
    url = reverse("onboarding:class", args=[node_class.pk])
    assert "all 32 units" in client.get(url).content.decode()
    prover = node_class.unit_provers.get(number=5)
    assert enter("newcomer").post(reverse("onboarding:unit_retire", args=[prover.pk])).status_code == 404
    client.post(reverse("onboarding:unit_retire", args=[prover.pk]), {"reason": "burnt"})
    assert "1 of 32 units have none" in client.get(url).content.decode()

    for asked in ("", "0", "2", "many", "9" * 30):
        page = client.post(reverse("onboarding:class_unit_codes", args=[node_class.pk]), {"codes": asked}, follow=True)
        assert "Ask for 1 to 1 codes." in page.content.decode()
    page = client.post(reverse("onboarding:class_unit_codes", args=[node_class.pk]), {"codes": "1"}).content.decode()
    (code,) = re.findall(r">([0-9a-f]{30})<", page)
    assert code not in client.get(url).content.decode()
    key = create_key(tmp_path / "unit")
    row = claim_enrolment(statement=enrolment_statement(key, code), now=NOW)
    page = client.get(url).content.decode()
    assert "as the prover of one more unit" in page
    assert key.fingerprint in page
    client.post(reverse("onboarding:enrolment", args=[row.pk]), {"act": "accept"})

    assert (row.unit_prover.number, bytes(row.unit_prover.public_key)) == (5, key.public_bytes)
    assert "all 32 units" in client.get(url).content.decode()


def test_the_page_says_of_each_unit_what_came_of_its_last_roll_call(market, enter):
    node_class = market.providers[0].node_classes.first()
    page = enter("provider").get(reverse("onboarding:class", args=[node_class.pk])).content.decode()
    assert page.count(">answered<") == 32

    with behind_the_triggers():
        m.RollReply.objects.filter(member__node_class=node_class, prover__number=7).delete()
        m.RollAnswer.objects.filter(member__node_class=node_class).delete()
    page = enter("provider").get(reverse("onboarding:class", args=[node_class.pk])).content.decode()
    assert (page.count(">answered<"), page.count(">did not answer<")) == (31, 1)

    with behind_the_triggers():
        m.RollCall.objects.filter(members__node_class=node_class).update(closes_at=clock.now() + timedelta(minutes=9))
    page = enter("provider").get(reverse("onboarding:class", args=[node_class.pk])).content.decode()
    assert (page.count(">answered<"), page.count(">called now, until ")) == (31, 1)


def test_a_new_key_for_a_unit_is_let_in_on_the_page_and_ends_the_old_one(market, enter, tmp_path: Path):
    client, node_class = enter("provider"), market.providers[0].node_classes.first()
    url, old = reverse("onboarding:class", args=[node_class.pk]), node_class.unit_provers.get(number=5)
    assert enter("newcomer").post(reverse("onboarding:unit_key", args=[old.pk])).status_code == 404
    page = client.post(reverse("onboarding:unit_key", args=[old.pk])).content.decode()
    (code,) = re.findall(r">([0-9a-f]{30})<", page)
    key = create_key(tmp_path / "unit")
    row = claim_enrolment(statement=enrolment_statement(key, code), now=NOW)
    page = client.get(url).content.decode()
    assert "with a new key for unit 5" in page
    assert key.fingerprint in page

    client.post(reverse("onboarding:enrolment", args=[row.pk]), {"act": "accept"})

    assert (row.unit_prover.number, bytes(row.unit_prover.public_key)) == (5, key.public_bytes)
    assert "all 32 units" in client.get(url).content.decode()
    assert client.post(reverse("onboarding:unit_key", args=[old.pk])).status_code == 404


def test_units_come_in_pages_and_those_that_did_not_answer_first(market, enter, monkeypatch):
    monkeypatch.setattr(machines, "UNITS_PER_PAGE", 10)
    node_class = market.providers[0].node_classes.first()
    with behind_the_triggers():
        m.RollReply.objects.filter(member__node_class=node_class, prover__number=27).delete()
        m.RollAnswer.objects.filter(member__node_class=node_class).delete()
    url = reverse("onboarding:class", args=[node_class.pk])

    first, last = (enter("provider").get(url, {"page": page}).content.decode() for page in (1, 4))

    assert (first.count(">answered<"), first.count(">did not answer<")) == (9, 1)
    assert "1 to 10 of 32" in first
    assert (last.count(">answered<"), last.count(">did not answer<")) == (2, 0)


def test_the_page_of_a_class_shows_the_commands_to_run(market, enter):
    node_class = market.providers[0].node_classes.first()

    body = enter("provider").get(reverse("onboarding:class", args=[node_class.pk])).content.decode()

    for command in ("enrol --server http://testserver --token CODE", "benchmark --preset full", "--market",
                    "meter --units 32",
                    "bid strategy.toml", f"cls_{node_class.pk.hex}", "sbatch "):  # fmt: skip
        assert command in body
