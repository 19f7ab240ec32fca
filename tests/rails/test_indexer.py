"""The indexer: each event enters the books once, and what they cannot explain stops payouts."""

from __future__ import annotations

import pytest
from django.db import connection

from ledger import faults
from ledger.errors import LedgerHalted
from ledger.faults import FaultInjected
from ledger.ids import chain_reference, uuid_from
from ledger.models import ChainAddress, ChainClass, ChainEvent, ChainMark, Ledger, Transfer
from ledger.rails import abi, deploy, indexer, sender
from ledger.rails.base import Chain
from ledger.rails.errors import ChainRewound
from ledger.rails.mirror import read_words
from ledger.rails.signer import signer
from ledger.services import USDC6_LEDGER, refuse_if_halted, resume_ledger
from tests.rails.conftest import START, Clock, minor
from tests.rails.test_story import BUYER, CLASS_ID, NODE_CLASS, PROVIDER, USD, Market

STRANGER = "0x" + "77" * 20


@pytest.fixture
def market(rails: Chain, clock: Clock) -> Market:
    return Market(rails, clock)


def halted_reason() -> str:
    return Ledger.objects.get(pk=USDC6_LEDGER).halted_reason


def test_every_event_is_kept_with_its_place_and_every_transfer_names_its_event(market: Market) -> None:
    market.fund()
    market.turn()

    event = ChainEvent.objects.get(name="Deposited")
    assert event.args == {"buyer": signer().address(market.buyer), "index": 1, "amount": 1_000 * USD}
    transfer = Transfer.objects.get()
    assert bytes(transfer.reference) == chain_reference(event.block_hash, event.log_index)
    mark = ChainMark.objects.get()
    assert (mark.block_number, mark.block_hash) == (market.chain.head().number, market.chain.head().hash)


@pytest.mark.parametrize("point", ["indexer.kept", "indexer.before_commit", "ledger.post.before"])
def test_a_run_that_dies_leaves_no_half_of_a_block(market: Market, point: str) -> None:
    market.fund()
    sender.pump(now=START)

    with faults.armed(point), pytest.raises(FaultInjected):
        indexer.index(now=START)
    assert (ChainEvent.objects.count(), Transfer.objects.count()) == (0, 0)

    assert indexer.index(now=START) == 1
    assert indexer.index(now=START) == 0
    assert minor("buyer.available", BUYER) == 1_000 * USD


def test_money_for_an_unknown_address_gets_a_party_of_its_own(market: Market) -> None:
    market.submit("faucet", "token", "mint", signer().address("custody"), 7)
    market.submit("custody", "token", "approve", market.chain.address("escrow"), 7)
    market.submit("custody", "escrow", "deposit", STRANGER, 7)
    sender.pump(now=START)
    indexer.index(now=START)

    party = ChainAddress.objects.get(address=STRANGER).party
    assert minor("buyer.available", party) == 7
    assert read_words().buyers[party] == (7, 0)
    assert halted_reason() == ""


def test_an_unknown_class_halts_the_ledger_and_is_booked_once_it_is_known(market: Market) -> None:
    ChainClass.objects.all().delete()
    market.attest()
    market.stake(20 * USD)
    market.fund()
    sender.pump(now=START)
    indexer.index(now=START)

    assert "class 7 belongs to nobody" in halted_reason()
    with pytest.raises(LedgerHalted):
        refuse_if_halted()
    assert minor("buyer.available", BUYER) == 1_000 * USD, "deposits go on while payouts stand still"
    assert list(ChainEvent.objects.filter(booked=False).values_list("name", flat=True)) == ["Staked"]

    ChainClass.objects.create(class_id=CLASS_ID, provider=PROVIDER, node_class=NODE_CLASS)
    indexer.index(now=START)
    resume_ledger(ledger=USDC6_LEDGER)
    assert minor("stake.mirror", PROVIDER, NODE_CLASS) == 20 * USD
    assert not ChainEvent.objects.filter(booked=False).exists()


def test_a_settlement_that_we_did_not_send_halts_the_ledger(market: Market) -> None:
    data = abi.encode_call("escrow", "settle", [1, [], [], 0, b"\1" * 32, b"\2" * 32])
    chain = market.chain
    fields = {"chainId": chain.chain_id, "nonce": 0, "gas": 10**6, "to": chain.address("escrow"), "value": 0,
              "data": data, **chain.fees()}  # fmt: skip
    deploy._broadcast(chain, [signer().sign_transaction("operator", fields).raw], START)

    indexer.index(now=START)

    assert "is none of ours" in halted_reason()


def test_an_event_without_a_recipe_is_never_passed_over(market: Market) -> None:
    known = {(contract, event.name) for contract in indexer.WATCHED for event in abi._events(contract).values()}
    without = known - set(indexer.BOOKINGS)

    assert without == set()
    assert set(indexer.BOOKINGS) <= known, "no booking is listed for an event that does not exist"


def test_a_block_that_left_the_chain_is_noticed(market: Market) -> None:
    market.fund()
    market.turn()
    ChainMark.objects.update(block_hash="0x" + "00" * 32)

    with pytest.raises(ChainRewound):
        indexer.index(now=START)
    assert "no longer on the chain" in halted_reason()


def test_nothing_but_the_indexer_has_posted(market: Market) -> None:
    market.fund()
    sender.pump(now=START)

    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM ledger_transfer")
        assert cursor.fetchone() == (0,)
    indexer.index(now=START)
    assert minor("buyer.available", BUYER) == 1_000 * USD


def test_the_mirror_is_read_at_the_block_that_is_booked(market: Market) -> None:
    market.fund()
    market.turn()
    market.fund(5)
    sender.pump(now=START)

    assert read_words().escrow_balance == 1_000 * USD
    assert read_words().block_number == ChainMark.objects.get().block_number
    indexer.index(now=START)
    assert read_words().escrow_balance == 1_000 * USD + 5
    assert read_words().buyers == {BUYER: (1_000 * USD + 5, 0)}
    assert uuid_from("buyer") == BUYER
