"""What opens a window: money of distinct owners, per class as the gate says; interest opens nothing."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from ledger.selectors import balance, spendable
from marketplace import clock
from marketplace import models as m
from marketplace.catalogue.services import open_window
from marketplace.clearing.services import judge_gate
from marketplace.demand.gates import gate_of, require_notional
from marketplace.demand.selectors import gates_of
from marketplace.demand.services import fund_demand, post_demand, withdraw_demand
from marketplace.errors import BadInput, ReferenceReused, UnknownName, WindowClosed
from marketplace.parties.services import register_party
from tests.journey import world
from tests.journey.refusals import refused, untouched

pytestmark = pytest.mark.stage("collecting")
FUNDERS = ("alder", "birch", "cedar")


def open_one(**changes: Any) -> m.Window:
    starts_at = world.day(60)
    terms: dict[str, Any] = {
        "name": "Gated", "slots": 24, "starts_at": starts_at, "demand_closes_at": starts_at - timedelta(days=3),
        "no_cancel_from": starts_at - timedelta(days=2), "bidding_closes_at": starts_at - timedelta(days=1),
        "gate_unit_hours": 1, "gate_parties": 3, "now": clock.now(),
    }  # fmt: skip
    return open_window(**terms | changes)


def post(into: m.Window, party: m.Party, reference: str, resource_class: str = "H100", units: int = 1) -> m.Demand:
    return post_demand(
        party=party, window=into, reference=reference, kind="divisible", accepted_classes=[resource_class],
        quantity_units=units, start_slot=0, end_slot=10, price_limit_micros=1_000_000, sla_code="99.0", now=clock.now(),
    )  # fmt: skip


def free_money() -> None:
    """Withdraw what these buyers hold in the main window."""
    for row in m.Demand.objects.filter(window=world.window(), state="funded"):
        withdraw_demand(demand=row, party=row.party, now=clock.now())


def fund(into: m.Window, *slugs: str, **terms: Any) -> None:
    for slug in slugs:
        row = post(into, world.party(slug), f"{slug} gate", **terms)
        fund_demand(demand=row, party=row.party, now=clock.now())


def judged(into: m.Window) -> str:
    return judge_gate(window=into, now=into.demand_closes_at)


def interested(into: m.Window, count: int) -> None:
    for no in range(count):
        buyer = register_party(slug=f"curious-{no}", name=f"Curious {no}", kind="enterprise_buyer", country="DE",
                               parent_country="DE", now=clock.now())  # fmt: skip
        post(into, buyer, f"interest {no}", units=100)


@pytest.mark.parametrize(("funders", "state"), [(2, "FAILED"), (3, "BIDDING")])
def test_two_funded_and_ten_unfunded_keep_the_gate_closed_and_a_third_opens_it(funders: int, state: str) -> None:
    free_money()
    into = open_one()
    fund(into, *FUNDERS[:funders])
    interested(into, 10)

    assert judged(into) == state


def test_children_of_one_last_owner_count_once_however_deep() -> None:
    free_money()
    into = open_one()
    fund(into, *FUNDERS)
    top, middle = (register_party(slug=slug, name=slug, kind="enterprise_buyer", country="DE", parent_country="DE",
                                  now=clock.now()) for slug in ("top-holding", "middle"))  # fmt: skip
    m.Party.objects.filter(slug="middle").update(parent=top)
    m.Party.objects.filter(slug="alder").update(parent=middle)
    m.Party.objects.filter(slug="birch").update(parent=top)

    assert {figure.name: figure.have for figure in gate_of(into)}["parties"] == 2
    assert gates_of([into])[into.pk].parties == 2
    assert judged(into) == "FAILED"


# needed in micro-USD for H100, and what is funded in units of ten dollars for H100 and for A100
NOTIONAL = [(30_000_000, 1, 0, "BIDDING"), (30_000_001, 1, 0, "FAILED"), (30_000_000, 0, 9, "FAILED"),
            (60_000_000, 2, 0, "BIDDING"), (60_000_001, 2, 9, "FAILED")]  # fmt: skip


@pytest.mark.parametrize(("needed", "h100", "a100", "state"), NOTIONAL)
def test_money_has_to_be_committed_to_the_class_itself(needed: int, h100: int, a100: int, state: str) -> None:
    free_money()
    into = open_one()
    require_notional(window=into, notional_micros={"H100": needed}, now=clock.now())
    if h100:
        fund(into, *FUNDERS, units=h100)
    for slug in FUNDERS if a100 else ():
        row = post(into, world.party(slug), f"{slug} other", "A100", units=a100)
        fund_demand(demand=row, party=row.party, now=clock.now())

    assert judged(into) == state
    if state == "FAILED":
        assert m.WindowTransition.objects.get(window=into).facts["missing"]["notional_micros:H100"] > 0


@pytest.mark.parametrize("needed", [20_000_000, 20_000_001])
def test_the_foundations_own_money_meets_no_condition_of_a_gate(needed: int) -> None:
    free_money()
    into = open_one(gate_unit_hours=20, gate_parties=2)
    require_notional(window=into, notional_micros={"H100": needed}, now=clock.now())
    fund(into, *FUNDERS)
    m.Party.objects.filter(slug="cedar").update(kind="foundation")

    have = {figure.name: figure.have for figure in gate_of(into)}
    assert have == {"unit_hours": 20, "parties": 2, "notional_micros:H100": 20_000_000}
    assert judged(into) == ("BIDDING" if needed == 20_000_000 else "FAILED")


def test_a_gate_that_was_missed_gives_every_hold_back() -> None:
    free_money()
    into = open_one()
    fund(into, *FUNDERS[:2])

    assert judged(into) == "FAILED"
    for slug in FUNDERS:
        party = world.party(slug)
        assert spendable(code="buyer.available", party=party.pk) == balance(code="buyer.available", party=party.pk)


def test_a_gate_rule_is_said_once_while_the_window_collects() -> None:
    into = open_one()
    for terms, kind, field in (
        ({"TPU": 1}, UnknownName, "resource_class"), ({"H100": 0}, BadInput, "notional_micros"),
        ({"H100": 2**63}, BadInput, "notional_micros"), ({"H100": 1.5}, BadInput, "notional_micros"),
        ({"": 1}, BadInput, "resource_class"),
    ):  # fmt: skip
        with refused(kind, field=field):
            require_notional(window=into, notional_micros=terms, now=clock.now())
    require_notional(window=into, notional_micros={"H100": 5}, now=clock.now())
    with untouched():
        require_notional(window=into, notional_micros={"H100": 5}, now=clock.now())
    with refused(ReferenceReused, field="notional_micros"):
        require_notional(window=into, notional_micros={"H100": 6}, now=clock.now())
    judged(into)
    with refused(WindowClosed, state="FAILED"):
        require_notional(window=into, notional_micros={"A100": 6}, now=clock.now())


@pytest.mark.parametrize("ppm", [0, -1, 10**9 + 1, 1.5, True])
def test_a_cover_ratio_is_a_ratio(ppm: Any) -> None:
    with refused(BadInput, field="cover_ppm"):
        open_one(cover_ppm=ppm)

    assert open_one(cover_ppm=10**9).cover_ppm == 10**9
