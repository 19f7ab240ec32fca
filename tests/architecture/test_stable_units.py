"""M-034: prices, stakes and payouts are in stable units, and no token's price is among the inputs of any payment."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from django.apps import apps
from django.db import models, transaction

from contracts import artifacts
from ledger.models import ChainEvent
from ledger.money import ASSETS
from marketplace import clock
from marketplace import models as m
from marketplace.environment import CHECKOUT
from marketplace.payout.services import pay_window, settle_window
from tests.journey import world
from tests.owner import behind_the_triggers

MONEY = ("escrow", "stake", "anchor")
A_PRICE_OF_MONEY = re.compile(r"exchange|oracle|(?<!site_)rate_of|token_price|usd_per|per_token|price_feed|twap", re.I)


def functions(contract: str) -> Iterator[dict]:
    yield from (entry for entry in artifacts.load(contract).abi if entry["type"] == "function")


# --- the contracts ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("contract", MONEY)
def test_no_contract_takes_or_pays_the_chains_own_coin(contract: str) -> None:
    """Nothing is payable, there is no fallback, and the source neither reads nor sends what the chain's coin is."""
    kinds = {entry["type"] for entry in artifacts.load(contract).abi}
    source = (CHECKOUT / "contracts" / f"{contract}.vy").read_text(encoding="utf-8")
    code = re.sub(r"#[^\n]*", "", re.sub(r'"{3}.*?"{3}', "", source, flags=re.S))

    assert not kinds & {"fallback", "receive"}
    assert {entry["stateMutability"] for entry in functions(contract)} <= {"nonpayable", "view", "pure"}
    assert not re.search(r"msg\.value|self\.balance|\bsend\(|(?<!\w)value\s*=", code)


@pytest.mark.parametrize("contract", MONEY)
def test_no_call_of_a_contract_takes_a_price_of_money(contract: str) -> None:
    told = [each["name"] for entry in functions(contract) for each in entry["inputs"]]
    told += [entry["name"] for entry in functions(contract)]

    assert [name for name in told if A_PRICE_OF_MONEY.search(name)] == []


def test_escrow_and_stake_hold_one_token_and_it_has_six_decimals() -> None:
    """One asset, named once when a contract is made: there is nothing to change one into another by."""
    for contract in ("escrow", "stake"):
        named = [kind for name, kind in artifacts.load(contract).constructor_inputs() if "token" in name]
        assert named == ["address"]
    assert {code: asset.scale for code, asset in ASSETS.items()} == {"USDC6": 6, "USD2": 2, "GRANT": 6, "PLAY": 6}


# --- the tables -------------------------------------------------------------------------------------------------------
def test_no_column_holds_a_price_of_money_and_all_money_is_whole() -> None:
    for table in apps.get_models():
        if table._meta.app_label not in ("marketplace", "ledger"):
            continue
        for field in table._meta.concrete_fields:
            assert not A_PRICE_OF_MONEY.search(field.name) or field.name.startswith("present_"), (table, field)
            if re.search(r"_micros$|_minor$|^amount$", field.name):
                assert not isinstance(field, models.DecimalField | models.FloatField), (table, field)


# --- a payout, with every figure changed that is not its own ----------------------------------------------------------
def paid() -> dict[str, list[tuple]]:
    """Settle and pay the judged window; what each lease and each class came to, in micro-USD. Taken back."""
    window = world.window()
    settle_window(window=window, now=clock.now())
    m.Settlement.objects.filter(final_at=None).update(final_at=clock.now())
    with behind_the_triggers():
        m.Window.objects.filter(pk=window.pk).update(state="SETTLED")
    pay_window(window=world.window(), now=clock.now())
    columns = ("lease_id", "earned_micros", "payable_micros", "holdback_micros", "fee_micros", "returned_micros",
               "credit_micros")  # fmt: skip
    lines = m.SettlementLine.objects.filter(lease__window=window).order_by("lease_id")
    payouts = m.Payout.objects.filter(window=window).order_by("node_class_id")
    return {"lines": list(lines.values_list(*columns)),
            "payouts": list(payouts.values_list("node_class_id", "amount_micros"))}  # fmt: skip


@pytest.mark.stage("judged")
def test_a_payout_is_the_same_whatever_anything_else_is_worth() -> None:
    """Reference prices and the prices of comparators move: no lease pays a micro-USD else."""
    sid = transaction.savepoint()
    before = paid()
    transaction.savepoint_rollback(sid)
    with behind_the_triggers():
        m.ResourceClass.objects.update(reference_price_micros=models.F("reference_price_micros") * 3)
        for price in (1, 10**9):
            m.ComparatorQuote.objects.create(
                resource_class_id="H100", provider=f"p{price}", place="x", country="DE", is_edge=False,
                price_micros=price, source="s", quoted_on=clock.now().date(), entered_on=clock.now().date(), person="a",
            )  # fmt: skip
    assert len(before["lines"]) == 6
    assert len(before["payouts"]) > 1

    assert paid() == before


@pytest.mark.stage("closed")
def test_what_was_paid_is_the_same_number_in_books_contract_and_table() -> None:
    """One unit from end to end: no step between the award and the coins multiplies by anything."""
    for award in m.Award.objects.all():
        assert award.amount_micros == award.units * sum(award.slot_prices_micros)
    paid_out = sum(m.Payout.objects.exclude(final_at=None).values_list("amount_micros", flat=True))
    assert paid_out == sum(int(event.args["amount"]) for event in ChainEvent.objects.filter(name="PaidOut"))
    assert paid_out > 0
