"""What anybody may cause at escrow, above all when the operator has fallen silent: the books follow, and stay equal."""

from __future__ import annotations

import pytest

from contracts.claims import ClaimTree
from ledger.chart import Code
from ledger.errors import PostingRefused
from ledger.ids import chain_reference, uuid_from
from ledger.models import ChainEvent, Ledger, Transfer
from ledger.rails import indexer, sender
from ledger.rails.base import Chain
from ledger.rails.mirror import read_words
from ledger.rails.rebuild import rebuild
from ledger.rails.signer import signer
from ledger.reconcile import check_books
from ledger.services import Posting, account, book_refund, cover_posting, post_transfers
from tests.rails.conftest import Clock, minor
from tests.rails.test_story import BUYER, CLASS_ID, LEASE, NODE_CLASS, PROVIDER, USD, WINDOW, Market, held

LOCKED, OWED = 300 * USD, 100 * USD
FEE = OWED * 250 // 10_000


@pytest.fixture
def market(rails: Chain, clock: Clock) -> Market:
    """A proven class with a lease of 300 dollars, of which the operator's last root says that 100 are earned."""
    market = Market(rails, clock)
    market.fund()
    market.attest()
    market.prove(1, epoch=1)
    market.stake()
    market.turn()
    clock.forward(days=15)
    market.prove(2, epoch=2)
    market.lock(LOCKED)
    market.turn()
    market.submit("operator", "escrow", "settle", 1, [], [], 0, tree(market).root, bytes(32))
    market.turn()
    return market


def tree(market: Market) -> ClaimTree:
    return ClaimTree(market.chain.chain_id, market.chain.address("escrow"), {CLASS_ID: OWED})


def send(market: Market, function: str, *args: object, plan: tuple = ()) -> None:  # type: ignore[type-arg]
    """Somebody calls escrow, the indexer reads what came of it, and books and chain are compared."""
    role = "operator" if function == "settle" else "faucet"
    market.submit(role, "escrow", function, *args, plan=plan)
    pumped_and_equal(market)


def pumped_and_equal(market: Market) -> None:
    sender.pump(now=market.clock.now)
    indexer.index(now=market.clock.now)
    assert Ledger.objects.get(asset="USDC6").halted_reason == ""
    words = read_words()
    assert minor("chain.escrow") == words.escrow_balance
    free, locked = words.buyers[BUYER]
    assert (minor("buyer.available", BUYER), held()) == (free, locked)
    _, payable, holdback = words.classes[CLASS_ID]
    assert minor("provider.payable", PROVIDER, NODE_CLASS) == payable
    assert minor("provider.holdback", PROVIDER, NODE_CLASS) == holdback
    assert minor("foundation.fees") == words.fees
    assert [finding for finding in check_books() if not finding.ok] == []


def test_fees_that_anybody_sends_to_the_treasury_leave_the_books(market: Market) -> None:
    market.clock.forward(days=4)
    send(market, "claim", *tree(market).proof(CLASS_ID).abi())
    assert minor("foundation.fees") == FEE > 0

    send(market, "withdraw_fees")

    assert minor("foundation.fees") == 0
    assert Transfer.objects.get(code=Code.FEES_WITHDRAWN).amount == FEE


def test_a_claim_is_booked_against_suspense_and_the_next_settlement_covers_it(market: Market) -> None:
    market.clock.forward(days=4)
    send(market, "claim", *tree(market).proof(CLASS_ID).abi())

    assert minor("provider.payable", PROVIDER, NODE_CLASS) == OWED - FEE
    assert minor("suspense") == -OWED
    assert held() == LOCKED, "nobody was debited yet"

    index = market.chain.call("escrow", "account_of", buyer(market))[0]
    plan = (cover_posting(key=LEASE, buyer=BUYER, window=WINDOW, amount=OWED),)
    epoch = (1 << 32) + 1  # a claim begins a generation of epochs
    send(market, "settle", epoch, [index << 128 | OWED << 64], [], OWED, tree(market).root, bytes(32), plan=plan)

    assert (minor("suspense"), held()) == (0, LOCKED - OWED)


def test_after_wind_up_a_buyer_gets_its_share_and_what_was_claimed_clears_suspense(market: Market) -> None:
    market.clock.forward(days=4)
    send(market, "claim", *tree(market).proof(CLASS_ID).abi())
    before = minor("buyer.available", BUYER)
    market.clock.forward(days=15)
    send(market, "wind_up")

    send(market, "refund", buyer(market))

    assert minor("buyer.available", BUYER) - before == LOCKED - OWED
    assert (minor("suspense"), held()) == (0, 0)

    # What was refunded has left the accounts that it was worked out from: a replay finds it all the same, and once.
    assert [found.detail for found in rebuild(now=market.clock.now) if not found.ok] == []
    event = ChainEvent.objects.get(name="Refunded")
    again = {"party": BUYER, "locked": LOCKED, "amount": LOCKED - OWED, "now": market.clock.now,
             "reference": chain_reference(event.block_hash, event.log_index)}  # fmt: skip
    assert book_refund(**again) == 0
    for other in ({"amount": LOCKED - OWED + 1}, {"locked": LOCKED + 1}):
        with pytest.raises(PostingRefused, match="other amounts"):
            book_refund(**again | other)


def test_a_refund_of_another_amount_than_the_books_hold_halts_the_ledger(market: Market) -> None:
    stray = Posting(
        uuid_from("stray"), account(ledger=1, code="buyer.held", party=BUYER, scope=WINDOW),
        account(ledger=1, code="suspense"), 1, "posted", Code.CORRECTION, "organic",
    )  # fmt: skip
    post_transfers(ledger=1, postings=[stray], now=market.clock.now)
    market.clock.forward(days=15)
    market.submit("faucet", "escrow", "wind_up")
    market.submit("faucet", "escrow", "refund", buyer(market))
    sender.pump(now=market.clock.now)
    indexer.index(now=market.clock.now)

    assert "another amount than was locked" in Ledger.objects.get(asset="USDC6").halted_reason
    assert not Transfer.objects.filter(code=Code.WOUND_UP).exists()


def buyer(market: Market) -> str:
    return signer().address(market.buyer)
