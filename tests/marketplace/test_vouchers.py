"""Grant vouchers: issued by two people, redeemed once, spent on demand alone, and never cashed out (M-093)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from ledger.chart import Code
from ledger.grants import grant_credits_micros, programme_left_micros
from ledger.models import Transfer
from ledger.rails.mirror import read_words
from ledger.reconcile import check_books, compare_when_still
from ledger.selectors import balance
from ledger.services import account
from marketplace import clock, cycle
from marketplace import models as m
from marketplace.demand.funding import free_micros, kept_micros
from marketplace.demand.services import fund_demand
from marketplace.errors import (
    BadInput,
    LineNotDecided,
    NotYours,
    OverBudget,
    ReferenceReused,
    RoleForbidden,
    SamePerson,
)
from marketplace.escrow.vouchers import (
    approve_programme,
    close_vouchers,
    issue_voucher,
    propose_programme,
    propose_voucher,
    redeem_voucher,
    unissued_micros,
    withdraw_voucher,
)
from marketplace.parties.services import make_seat, register_party
from tests.journey import world
from tests.journey.refusals import refused, untouched

USD = 1_000_000
ANN, BEN = "ann@foundation.example", "ben@foundation.example"


def programme(**changes: Any) -> m.GrantProgramme:
    terms = {"code": "eurohpc-1", "name": "EuroHPC access", "funder": "EuroHPC JU", "budget_micros": 5_000 * USD,
             "voucher_max_micros": 2_000 * USD, "party_max_micros": 3_000 * USD, "person": ANN}  # fmt: skip
    row = propose_programme(**terms | changes, now=clock.now())
    return approve_programme(programme=row, person=BEN, now=clock.now())


def voucher(amount: int = 1_000 * USD, *, days: int = 60, **changes: Any) -> tuple[m.Voucher, str]:
    terms = {"programme": programme(), "amount_micros": amount, "valid_until": clock.now() + timedelta(days=days)}
    row = propose_voucher(**terms | changes, person=ANN, now=clock.now())
    return issue_voucher(voucher=row, person=BEN, now=clock.now())


@pytest.mark.stage("collecting")
def test_a_programme_and_its_vouchers_take_two_people_each() -> None:
    row = propose_programme(code="nairr", name="NAIRR pilot", funder="NSF", budget_micros=10 * USD,
                            voucher_max_micros=5 * USD, party_max_micros=8 * USD, person=ANN,
                            now=clock.now())  # fmt: skip
    with refused(SamePerson):
        approve_programme(programme=row, person=ANN, now=clock.now())
    with refused(LineNotDecided):
        propose_voucher(programme=row, amount_micros=USD, valid_until=world.day(90), person=ANN, now=clock.now())
    approve_programme(programme=row, person=BEN, now=clock.now())
    assert programme_left_micros(row.pk) == 10 * USD
    with untouched():
        approve_programme(programme=row, person=BEN, now=clock.now())

    made = propose_voucher(programme=row, amount_micros=5 * USD, valid_until=world.day(90), person=ANN,
                           now=clock.now())  # fmt: skip
    with refused(SamePerson):
        issue_voucher(voucher=made, person=ANN, now=clock.now())
    issued, code = issue_voucher(voucher=made, person=BEN, now=clock.now())

    assert (issued.state, len(code)) == ("ISSUED", 30)
    assert code not in str(list(m.Voucher.objects.values()))
    with untouched():
        assert issue_voucher(voucher=made, person=BEN, now=clock.now())[1] == ""


@pytest.mark.stage("collecting")
def test_caps_hold_for_programme_voucher_and_buyer() -> None:
    row = programme()
    for field, changes in (
        ("voucher_max_micros", {"voucher_max_micros": 0}), ("party_max_micros", {"party_max_micros": 1}),
        ("budget_micros", {"budget_micros": 10**14}), ("code", {"code": "No Spaces"}),
    ):  # fmt: skip
        with refused(BadInput, field=field):
            propose_programme(**{
                "code": "x", "name": "X", "funder": "F", "budget_micros": 3 * USD, "voucher_max_micros": USD,
                "party_max_micros": 2 * USD, "person": ANN, "now": clock.now()} | changes)  # fmt: skip
    with refused(ReferenceReused, field="code"):
        programme(name="Another")
    terms = {"programme": row, "valid_until": world.day(90), "person": ANN, "now": clock.now()}
    for amount in (0, 2_000 * USD + 1):
        with refused(BadInput, field="amount_micros"):
            propose_voucher(amount_micros=amount, **terms)
    with refused(BadInput, field="valid_until"):
        propose_voucher(amount_micros=USD, **terms | {"valid_until": terms["now"]})
    codes = [voucher(2_000 * USD)[1], voucher(2_000 * USD)[1]]
    with refused(OverBudget, left_micros=1_000 * USD):
        propose_voucher(amount_micros=1_001 * USD, **terms)

    redeem_voucher(party=world.party("alder"), code=codes[0], now=clock.now())
    with refused(OverBudget, redeemed_micros=2_000 * USD):
        redeem_voucher(party=world.party("alder"), code=codes[1], now=clock.now())
    assert redeem_voucher(party=world.party("birch"), code=codes[1], now=clock.now()).state == "REDEEMED"


@pytest.mark.stage("collecting")
def test_a_code_is_redeemed_once_in_time_by_whom_it_is_for() -> None:
    alder, birch = world.party("alder"), world.party("birch")
    row, code = voucher(for_party=alder)
    for party, text in ((birch, code), (alder, "0" * 30), (alder, "")):
        with refused(NotYours):
            redeem_voucher(party=party, code=text, now=clock.now())
    with refused(NotYours):
        redeem_voucher(party=alder, code=code, now=row.valid_until)
    with refused(BadInput, field="party"):
        redeem_voucher(party=world.party("granite"), code=code, now=clock.now())
    purchaser = make_seat(party=alder, email="p@alder.example", password=None, role="purchaser", now=clock.now())
    with refused(RoleForbidden):
        redeem_voucher(party=alder, code=code, seat=purchaser, now=clock.now())

    done = redeem_voucher(party=alder, code=f" {code} ", now=clock.now())

    assert redeem_voucher(party=alder, code=code, now=clock.now()) == done
    assert grant_credits_micros(alder.pk) == row.amount_micros
    assert programme_left_micros(row.programme_id) == row.programme.budget_micros - row.amount_micros
    with refused(LineNotDecided):
        withdraw_voucher(voucher=row, person=ANN, reason="late", now=clock.now())
    other, other_code = voucher()
    left = unissued_micros(other.programme)
    withdraw_voucher(voucher=other, person=ANN, reason="sent to the wrong lab", now=clock.now())
    assert unissued_micros(other.programme) == left + other.amount_micros
    with refused(NotYours):
        redeem_voucher(party=alder, code=other_code, now=clock.now())


@pytest.mark.stage("collecting")
def test_whoever_holds_its_own_key_could_take_the_coins_out_and_redeems_nothing() -> None:
    own = register_party(slug="own", name="Own", kind="enterprise_buyer", country="DE", parent_country="DE",
                         now=clock.now())  # fmt: skip
    m.Party.objects.filter(pk=own.pk).update(chain_address="0x" + "ab" * 20)
    own.refresh_from_db()
    _, code = voucher()

    with refused(BadInput, field="party"):
        redeem_voucher(party=own, code=code, now=clock.now())


def test_a_voucher_funds_demand_is_grant_down_to_the_payout_and_what_is_left_goes_home(
    own_world: Callable[[str], str],
) -> None:
    own_world("collecting")
    elm, hope = world.party("elm"), world.demand("hope")
    before = free_micros(elm)
    row, code = voucher(100 * USD, days=40)
    redeem_voucher(party=elm, code=code, now=clock.now())
    cycle.run_chain(now=clock.now())
    line = m.FundingLine.objects.get(voucher=row)
    assert balance(code="buyer.available", party=elm.pk).minor >= before + 100 * USD
    assert (free_micros(elm), kept_micros(line)) == (before, 100 * USD)  # none of it is the buyer's own

    fund_demand(demand=hope, party=elm, funding="grant", number=row.number, now=clock.now())
    assert free_micros(elm) == before
    assert m.Demand.objects.get(pk=hope.pk).funding_line == line
    for act in ("bidding", "cleared", "delivering", "delivered", "judged", "paid"):
        world.play(act)
    spent = sum(settled.earned_micros for settled in m.SettlementLine.objects.filter(lease__demand=hope))
    assert kept_micros(line) == 100 * USD - spent
    held = account(ledger=1, code="buyer.held", party=elm.pk, scope=world.window().pk)
    assert set(Transfer.objects.filter(ledger=1, debit=held).values_list("origin", flat=True)) == {"organic", "grant"}
    served = m.Lease.objects.get(demand=hope)
    payable = account(ledger=1, code="provider.payable", party=served.provider_id, scope=served.node_class_id)
    paid = Transfer.objects.filter(ledger=1, debit=payable, code=Code.PAID_OUT)
    assert sum(row.amount for row in paid.filter(origin="grant")) == m.SettlementLine.objects.get(
        lease=served).payable_micros  # fmt: skip

    clock.move_to(max(row.valid_until, clock.now()))
    cycle.advance_until_quiet(now=clock.now())

    row.refresh_from_db()
    assert (row.state, row.returned_micros) == ("CLOSED", 100 * USD - spent)
    assert grant_credits_micros(elm.pk) == 0
    assert programme_left_micros(row.programme_id) == row.programme.budget_micros - spent
    assert compare_when_still(read_words, now=clock.now()) == []
    assert [found for found in check_books(now=clock.now()) if not found.ok] == []
    with untouched():
        assert close_vouchers(now=clock.now()) == 0
