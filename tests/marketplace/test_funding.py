"""What stands behind a demand: escrow, card, or an order or grant that another person approved, within its limit."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from ledger.chart import Origin
from ledger.ids import uuid7
from ledger.models import CardIntent, Transfer
from ledger.selectors import spendable
from marketplace import clock, cycle
from marketplace import models as m
from marketplace.demand.funding import card_left_micros, left_micros
from marketplace.demand.selectors import funding_gap_micros
from marketplace.demand.services import fund_demand, post_demand, withdraw_demand
from marketplace.errors import BadInput, LineNotDecided, NotFunded, ReferenceReused, SamePerson
from marketplace.escrow.advances import approve_line, ask_line, refuse_line
from marketplace.escrow.selectors import money_of
from marketplace.parties.services import make_seat
from marketplace.templatetags.grove import usd_text
from tests.journey import world
from tests.journey.refusals import refused, untouched

ASKER, DECIDER = "cfo@elm.example", "ops@grove.example"
LIMIT = 100 * world.USD


def ask(**changes: Any) -> m.FundingLine:
    terms: dict[str, Any] = {
        "party": world.party("elm"), "kind": "purchase_order", "number": "PO 7", "limit_micros": LIMIT,
        "valid_until": world.day(300), "person": ASKER, "now": clock.now(),
    }  # fmt: skip
    return ask_line(**terms | changes)


def approve(line: m.FundingLine, person: str = DECIDER) -> m.FundingLine:
    return approve_line(line=line, person=person, reason="the customer pays in 30 days", now=clock.now())


def post(reference: str = "ordered", units: int = 5, party: str = "elm") -> m.Demand:
    """A demand of ten dollars a unit."""
    return post_demand(
        party=world.party(party), window=world.window(), reference=reference, kind="divisible",
        accepted_classes=["H100"], quantity_units=units, start_slot=0, end_slot=10, price_limit_micros=1_000_000,
        sla_code="99.0", now=clock.now(),
    )  # fmt: skip


def fund(demand: m.Demand, funding: str = "purchase_order", number: str = "PO 7") -> m.Demand:
    return fund_demand(demand=demand, party=demand.party, funding=funding, number=number, now=clock.now())


def approved(own_world: Callable[[str], str], **changes: Any) -> m.FundingLine:
    """An approved line whose money is in escrow."""
    own_world("collecting")
    line = approve(ask(**changes))
    cycle.run_chain(now=clock.now())
    return line


def test_an_approved_order_funds_demand_up_to_its_limit(own_world: Callable[[str], str]) -> None:
    line = approved(own_world)
    assert spendable(code="buyer.available", party=line.party_id).minor == LIMIT

    first = fund(post(units=6))
    assert (first.funding_kind, first.funding_line, first.state) == ("purchase_order", line, "funded")
    assert left_micros(line) == 40 * world.USD
    beyond = post("beyond", units=5)
    with refused(NotFunded, needed_micros=50 * world.USD, left_micros=40 * world.USD):
        fund(beyond)
    # What the order has left is kept for it: as the buyer's own money it funds nothing.
    with refused(NotFunded, kept_for_orders_micros=40 * world.USD, available_micros=0):
        fund(beyond, "escrow", "")
    assert fund(post("fits", units=4)).state == "funded"
    withdraw_demand(demand=first, party=first.party, now=clock.now())
    assert left_micros(line) == 60 * world.USD


def test_what_is_told_as_free_is_what_funds_a_demand_and_kept_money_stands_beside_it(
    own_world: Callable[[str], str],
) -> None:
    line = approved(own_world)
    party, client = line.party, Client()
    seat = make_seat(party=party, email="cfo@elm.example", password=None, role="admin", now=clock.now())
    client.force_login(seat.user)

    def told() -> tuple[int, int, int]:
        """Free, kept and reserved by the API; the pages say the same."""
        rows = client.get("/api/v1/balances").json()["data"]
        (row,) = [each for each in rows if each["account"] == "buyer.available"]
        money, free, kept = money_of(party), int(row["free_micros"]), int(row["kept_micros"])
        assert (money.available_micros, money.kept_micros) == (free, kept)
        assert int(row["balance_micros"]) == free + kept + int(row["reserved_micros"])
        assert money.total_micros == int(row["balance_micros"]) + money.locked_micros
        for page in ("/portal/", "/portal/escrow/"):
            text = client.get(page).content.decode()
            assert f"<b>{usd_text(free)}</b>" in text
            assert (usd_text(kept) in text) is bool(kept)
        return free, kept, int(row["reserved_micros"])

    assert told() == (0, LIMIT, 0)
    beyond = post("own money", units=1)
    with refused(NotFunded, available_micros=0, kept_for_orders_micros=LIMIT):
        fund(beyond, "escrow", "")
    page = client.get(f"/portal/demands/{beyond.pk}/").content.decode()
    assert f"{usd_text(LIMIT)} more is kept for your orders and grants" in page
    others = funding_gap_micros(party, of_own_money=True) - beyond.hold_micros
    assert f"funding gap: {usd_text(others + beyond.hold_micros)}<" in client.get("/portal/").content.decode()
    fund(beyond)  # by the order that the money is kept for

    assert told() == (0, 90 * world.USD, 10 * world.USD)
    assert f"funding gap: {usd_text(others)}<" in client.get("/portal/").content.decode()


def test_money_of_a_grant_keeps_its_origin(own_world: Callable[[str], str]) -> None:
    approved(own_world, kind="grant", number="EuroHPC 12")

    granted = fund(post(), "grant", "EuroHPC 12")

    assert Transfer.objects.get(id=granted.hold_id).origin == Origin.GRANT
    genome = world.demand("genome")
    assert (genome.funding_kind, Transfer.objects.get(id=genome.hold_id).origin) == ("escrow", Origin.ORGANIC)


@pytest.mark.stage("collecting")
def test_an_order_counts_only_once_another_person_has_approved_it() -> None:
    line, demand = ask(), post()
    with refused(LineNotDecided, number="PO 7", state="PENDING"):
        fund(demand)
    with refused(SamePerson, person=ASKER):
        approve(line, ASKER)
    approve(line)
    with untouched():
        approve(line)
    with refused(NotFunded):  # approved, and its money is still on its way to the chain
        fund(demand)
    with refused(LineNotDecided, state="APPROVED"):
        refuse_line(line=line, person=DECIDER, reason="no", now=clock.now())


@pytest.mark.stage("collecting")
def test_a_refused_and_an_expired_order_fund_nothing() -> None:
    demand = post()
    refuse_line(line=ask(), person=DECIDER, reason="no credit", now=clock.now())
    with refused(LineNotDecided, state="REFUSED"):
        fund(demand)
    short = approve(ask(number="PO 8", valid_until=clock.now() + timedelta(hours=1)))
    late = clock.now() + timedelta(hours=2)
    with refused(LineNotDecided, number="PO 8"):
        fund_demand(demand=demand, party=demand.party, funding="purchase_order", number="PO 8", now=late)
    assert short.state == "APPROVED"
    stale = ask(number="PO 9", valid_until=clock.now() + timedelta(hours=1))
    with refused(LineNotDecided, number="PO 9"):
        approve_line(line=stale, person=DECIDER, reason="late", now=late)


@pytest.mark.stage("collecting")
@pytest.mark.parametrize(("funding", "number", "field"), [
    ("promise", "", "funding"), ("escrow", "PO 7", "number"), ("purchase_order", "PO 404", "number"),
    ("purchase_order", "", "number"), ("grant", "PO 7", "number"),
])  # fmt: skip
def test_a_funding_that_is_none_is_refused(funding: str, number: str, field: str) -> None:
    ask()
    demand = post()
    with refused(BadInput, field=field):
        fund(demand, funding, number)


@pytest.mark.stage("collecting")
@pytest.mark.parametrize(("changes", "field"), [
    ({"kind": "loan"}, "kind"), ({"number": ""}, "number"), ({"limit_micros": 0}, "limit_micros"),
    ({"limit_micros": 10**13 + 1}, "limit_micros"), ({"limit_micros": True}, "limit_micros"),
    ({"valid_until": "now"}, "valid_until"), ({"party": "harbour"}, "party"), ({"person": ""}, "person"),
])  # fmt: skip
def test_a_bad_order_is_refused_beside_its_field(changes: dict[str, Any], field: str) -> None:
    if "party" in changes:
        changes = {"party": world.party("harbour")}
    if "valid_until" in changes:
        changes = {"valid_until": clock.now()}
    with refused(BadInput, field=field):
        ask(**changes)
    ask()
    with refused(ReferenceReused, field="number"):
        ask(limit_micros=LIMIT + 1)


@pytest.mark.stage("collecting")
def test_card_money_is_what_came_in_by_card() -> None:
    demand = post("by card", units=1, party="birch")
    withdraw_demand(demand=world.demand("climate"), party=world.party("birch"), now=clock.now())
    with refused(NotFunded, needed_micros=10 * world.USD, available_micros=0):
        fund(demand, "card", "")
    paid: dict[str, Any] = {"party": demand.party_id, "cents": 1_000, "state": "done", "created_at": clock.now(),
                            "ended_at": clock.now()}  # fmt: skip
    deposit = CardIntent.objects.create(id=uuid7(clock.now()), key="x:1", kind="deposit", processor_id="cs_1", **paid)
    CardIntent.objects.create(id=uuid7(clock.now()), key="x:2", kind="exchange", parent=deposit, **paid)
    assert card_left_micros(demand.party) == 10 * world.USD

    assert fund(demand, "card", "").funding_kind == "card"
    assert card_left_micros(demand.party) == 0


@pytest.mark.stage("collecting")
def test_interest_is_funded_by_nothing_and_holds_nothing() -> None:
    hope = world.demand("hope")

    assert (hope.state, hope.funding_kind, hope.hold_id) == ("posted", "", None)
