"""A seat does what its role may, by every way to money there is; nobody approves what a program of theirs posted."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any
from uuid import uuid4

import pytest
from django.core.exceptions import ObjectDoesNotExist

from ledger.models import CardIntent
from marketplace import clock
from marketplace import models as m
from marketplace.demand.approvals import approve_demand
from marketplace.demand.services import post_demand
from marketplace.errors import MarketError, RoleForbidden, SamePerson
from marketplace.escrow import cards
from marketplace.escrow.advances import approve_line, ask_line, refuse_line
from marketplace.escrow.services import deposit_funds
from marketplace.escrow.standing import enter_windows, reprice, stand, withdraw_standing
from marketplace.maker import services as maker
from marketplace.parties.services import issue_api_key, make_seat, register_party
from marketplace.payout.banks import pay_now
from marketplace.payout.invoice_models import Invoice
from marketplace.payout.invoices import note_payment
from marketplace.payout.taxes import approve_tax, propose_tax
from marketplace.slashing.appeals import give_opinion
from marketplace.spending.services import set_spending_rule
from marketplace.supply.admissions import admit, ask_admission, leave_waitlist
from marketplace.supply.bilateral import open_bilateral
from tests.journey import world
from tests.journey.refusals import refused
from tests.marketplace.limits import limited

pytestmark = pytest.mark.stage("collecting")
USD = world.USD


def seat(role: str, slug: str = "elm") -> m.Seat:
    return make_seat(party=world.party(slug), email=f"{role}@{slug}.example", password=None, role=role, now=clock.now())


def standing(by: m.Seat | None = None, **changes: Any) -> m.StandingDemand:
    terms: dict[str, Any] = {
        "party": world.party("elm"), "reference": "lasts", "price_limit_micros": USD, "renewal_cap_ppm": 0,
        "starts_at": world.window().starts_at, "ends_at": world.day(400), "kind": "divisible",
        "accepted_classes": ["H100"], "quantity_units": 10, "sla_code": "99.0", "seat": by, "now": clock.now(),
    }  # fmt: skip
    return stand(**terms | changes)


def _admission() -> m.Admission:
    row = world.node_class("harbour")
    return ask_admission(party=row.party, node_class=row, month=date(2031, 1, 1), unit_hours=1, now=clock.now())


# What is asked, who may not, who may. A refusal by another rule than the role's is one too: only the role is judged.
BUYER_ACTS: dict[str, tuple[Callable[[m.Seat], object], str, str]] = {
    "stand": (lambda by: standing(by), "purchaser", "owner"),
    "reprice": (
        lambda by: reprice(standing=standing(), party=by.party, price_limit_micros=2 * USD, seat=by, now=clock.now()),
        "purchaser", "owner"),
    "withdraw_standing": (
        lambda by: withdraw_standing(standing=standing(), party=by.party, seat=by, now=clock.now()),
        "finance", "purchaser"),
    "ask_line": (
        lambda by: ask_line(party=by.party, kind="grant", number="G 1", limit_micros=USD, valid_until=world.day(300),
                            person=by.user.email, seat=by, now=clock.now()), "compliance", "finance"),
    "deposit": (lambda by: deposit_funds(party=by.party, amount_micros=USD, key="one", seat=by, now=clock.now()),
                "counsel", "finance"),
    "card": (
        lambda by: cards.start_card_deposit(party=by.party, amount_micros=USD, key="one", seat=by,
                                            return_url="http://127.0.0.1/", now=clock.now()), "approver", "finance"),
    "card_back": (
        lambda by: cards.return_to_card(party=by.party, deposit=CardIntent(kind="deposit", state="failed"), key="one",
                                        seat=by, now=clock.now()), "purchaser", "finance"),
    "bilateral": (lambda by: open_bilateral(buyer=by.party, provider_slug="harbour", name="Two", slots=24, seat=by,
                                            starts_at=world.day(40), now=clock.now()), "compliance", "purchaser"),
}  # fmt: skip
PROVIDER_ACTS: dict[str, tuple[Callable[[m.Seat], object], str, str]] = {
    "ask_admission": (lambda by: ask_admission(party=by.party, node_class=world.node_class("harbour"), unit_hours=1,
                                               month=date(2031, 2, 1), seat=by, now=clock.now()),
                      "finance", "operator"),
    "admit": (lambda by: admit(admission=_admission(), seat=by, now=clock.now()), "compliance", "operator"),
    "leave": (lambda by: leave_waitlist(admission=_admission(), party=by.party, seat=by, now=clock.now()),
              "compliance", "operator"),
    "pay_now": (lambda by: pay_now(party=by.party, seat=by, now=clock.now()), "operator", "finance"),
}  # fmt: skip


def may(act: Callable[[Any], object], by: object) -> bool:
    try:
        act(by)
    except RoleForbidden:
        return False
    except (MarketError, ObjectDoesNotExist):
        pass  # by another rule, or the next look finds that there is no such thing here
    return True


@pytest.mark.parametrize("name", BUYER_ACTS)
def test_a_seat_of_a_buyer_commits_no_money_beyond_its_role(name: str) -> None:
    act, without, with_ = BUYER_ACTS[name]
    assert not may(act, seat(without))
    assert may(act, seat(with_))


@pytest.mark.parametrize("name", PROVIDER_ACTS)
def test_a_seat_of_a_provider_moves_no_capacity_or_money_beyond_its_role(name: str) -> None:
    act, without, with_ = PROVIDER_ACTS[name]
    assert not may(act, seat(without, "harbour"))
    assert may(act, seat(with_, "harbour"))


def rule() -> m.Seat:
    """Above 5 USD another person approves; the owner may do so up to 100 USD."""
    owner = seat("owner")
    set_spending_rule(seat=owner, threshold_micros=5 * USD, approvals_needed=1, needs_purchase_order=False,
                      now=clock.now())  # fmt: skip
    for each in (owner, seat("approver")):
        limited(each, 10_000 * USD, by=owner)
    return owner


def test_whoever_issued_a_key_does_not_approve_what_it_posted() -> None:
    owner = rule()
    key, _ = issue_api_key(party=owner.party, label="bot", may_write=True, seat=owner, now=clock.now())
    big = post_demand(
        party=owner.party, window=world.window(), kind="divisible", accepted_classes=["H100"], reference="by bot",
        quantity_units=10, start_slot=0, end_slot=1, price_limit_micros=USD, sla_code="99.0", key=key, now=clock.now(),
    )
    assert big.state == "pending"
    with refused(SamePerson):
        approve_demand(demand=big, seat=owner, reason="my own program", now=clock.now())
    assert approve_demand(demand=big, seat=seat("approver"), reason="needed", now=clock.now()).state == "posted"


@pytest.mark.parametrize("by_key", [False, True])
def test_whoever_lets_a_demand_stand_does_not_approve_its_entries(by_key: bool) -> None:
    owner = rule()
    key, _ = issue_api_key(party=owner.party, label="bot", may_write=True, seat=owner, now=clock.now())
    row = standing(key=key) if by_key else standing(owner)
    assert enter_windows(now=clock.now()) == 1
    demand = row.entries.get().demand
    assert demand.state == "pending"
    with refused(SamePerson):
        approve_demand(demand=demand, seat=owner, reason="my own", now=clock.now())
    assert approve_demand(demand=demand, seat=seat("approver"), reason="needed", now=clock.now()).state == "posted"


def of_the_foundation(role: str) -> str:
    house = m.Party.objects.filter(kind="foundation").first() or register_party(
        slug="house", name="House", kind="foundation", country="CH", parent_country="CH", now=clock.now())  # fmt: skip
    return make_seat(party=house, email=f"{role}@house.example", password=None, role=role, now=clock.now()).user.email


def line(number: str) -> m.FundingLine:
    return ask_line(party=world.party("elm"), kind="grant", number=number, limit_micros=USD, valid_until=world.day(300),
                    person="a@elm.example", now=clock.now())  # fmt: skip


TAX = {"country": "DE", "rate_ppm": 1, "words": "VAT"}
FOUNDATION_ACTS: dict[str, tuple[Callable[[str], object], str, str]] = {
    "approve_line": (lambda who: approve_line(line=line("A"), person=who, reason="r", now=clock.now()),
                     "auditor", "operations"),
    "refuse_line": (lambda who: refuse_line(line=line("B"), person=who, reason="r", now=clock.now()),
                    "market_maker", "operations"),
    "opinion": (lambda who: give_opinion(case=m.SlashCase(pk=uuid4()), judge=who, upholds=True, reason="r",
                                         now=clock.now()), "auditor", "judge"),
    "payment": (lambda who: note_payment(invoice=Invoice(pk=uuid4()), person=who, reference="r", now=clock.now()),
                "judge", "operations"),
    "approve_tax": (lambda who: approve_tax(rule_id=uuid4(), person=who, now=clock.now()), "auditor", "operations"),
    "quote": (lambda who: maker.place_quote(
        party=m.Party.objects.filter(kind="foundation").first(), window=world.window(), reference="q",
        resource_class="H100", quantity_units=1, start_slot=0, end_slot=1, price_limit_micros=USD,
        sla_code="99.0", person=who,
        now=clock.now()), "operations", "market_maker"),
    "tax": (lambda who: propose_tax(**TAX, valid_from=world.day(300), person=who, now=clock.now()),
            "auditor", "operations"),
}  # fmt: skip


@pytest.mark.parametrize("name", FOUNDATION_ACTS)
def test_a_seat_of_the_foundation_decides_nothing_beyond_its_role(name: str) -> None:
    act, without, with_ = FOUNDATION_ACTS[name]
    assert not may(act, of_the_foundation(without))
    assert may(act, of_the_foundation(with_))
