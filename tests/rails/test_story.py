"""One small market turn on the real contracts, and after each step the books say what the chain says."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from web3.types import RPCEndpoint

from contracts.eip712 import (
    BenchmarkAttestation,
    ClassAttestation,
    Mandate,
    Struct,
    Verdict,
    in_signing_order,
    machine_id,
    provider_id,
)
from contracts.jurisdictions import index_of, mask_of
from ledger.ids import uuid_from
from ledger.models import ChainAddress, ChainClass, ChainEvent, ChainIntent, Ledger
from ledger.rails import indexer, sender
from ledger.rails.base import Chain
from ledger.rails.mirror import read_words
from ledger.rails.signer import signer
from ledger.services import post_hold_posting, reserve_hold, settle_postings
from tests.rails.conftest import Clock, minor

BUYER = uuid_from("buyer")
PROVIDER = uuid_from("provider")
NODE_CLASS = uuid_from("node class")
WINDOW = uuid_from("window")
LEASE = uuid_from("lease")
CLASS_ID = 7
WINDOW_NUMBER = 1
USD = 1_000_000
DAY = 86_400


class Market:
    """The story's actors; each step is one call, and `turn` brings it to the chain and into the books."""

    def __init__(self, chain: Chain, clock: Clock) -> None:
        self.chain, self.clock, self.steps = chain, clock, 0
        self.buyer, self.provider = f"buyer:{BUYER}", f"provider:{PROVIDER}"
        ChainAddress.objects.create(address=signer().address(self.buyer), party=BUYER, role="buyer")
        ChainAddress.objects.create(address=signer().address(self.provider), party=PROVIDER, role="provider")
        ChainClass.objects.create(class_id=CLASS_ID, provider=PROVIDER, node_class=NODE_CLASS)

    @property
    def seconds(self) -> int:
        return int(self.clock.now.timestamp())

    def submit(self, role: str, contract: str, function: str, *args: object, plan: tuple = ()) -> ChainIntent:  # type: ignore[type-arg]
        self.steps += 1
        return sender.submit(
            key=f"step {self.steps}", role=role, contract=contract, function=function, args=args, plan=plan,
            now=self.clock.now,
        )  # fmt: skip

    def turn(self) -> sender.Pumped:
        pumped = sender.pump(now=self.clock.now)
        while ChainIntent.objects.filter(state__in=sender.OPEN_STATES).exists():  # a node's finality takes its blocks
            assert self.chain.embedded is None
            self.chain.w3.provider.make_request(RPCEndpoint("anvil_mine"), ["0x10"])
            pumped += sender.pump(now=self.clock.now)
        indexer.index(now=self.clock.now)
        reverted = ChainIntent.objects.filter(state="reverted").values_list("function", "revert_reason")
        assert not reverted, list(reverted)
        assert_books_are_the_chain()
        return pumped

    def panel(self, kind: str, struct: Struct) -> tuple:  # type: ignore[type-arg]
        domain = self.chain.domain("stake")
        return in_signing_order({
            signer().address(f"{kind}:{n}"): signer().sign_typed(f"{kind}:{n}", struct, **domain) for n in (1, 2)
        })  # fmt: skip

    def fund(self, amount: int = 1_000 * USD) -> None:
        self.submit("faucet", "token", "mint", signer().address(self.buyer), amount)
        self.submit(self.buyer, "token", "approve", self.chain.address("escrow"), amount)
        self.submit(self.buyer, "escrow", "deposit", signer().address(self.buyer), amount)

    def attest(self) -> None:
        site = index_of("DE")
        attestation = ClassAttestation(
            provider=signer().address(self.provider), node_class=CLASS_ID, site=site, parent=site, operator=site,
            keys=site, tier=2, exposure_cap=500 * USD, expires=self.seconds + 60 * DAY, nonce=1,
        )  # fmt: skip
        self.submit("operator", "stake", "attest_class", attestation, self.panel("compliance", attestation))

    def prove(self, kind: int, epoch: int) -> None:
        attestation = BenchmarkAttestation(
            provider_id=provider_id(signer().address(self.provider)), machine_id=machine_id(CLASS_ID),
            hw_key_hash=bytes(32), kind=kind, seed=b"s" * 32, challenge_root=b"c" * 32, transcript_hash=b"t" * 32,
            params_hash=b"p" * 32, ops_per_sec=10**9, mem_bytes=10**9, mem_bytes_per_sec=10**9, rtt_max_km=100,
            started_at=self.seconds - 600, finished_at=self.seconds - 60, valid_until=self.seconds + 60 * DAY,
            epoch=epoch, panel_root=b"r" * 32,
        )  # fmt: skip
        self.submit("operator", "stake", "prove", attestation, self.panel("verifier", attestation))

    def stake(self, amount: int = 200 * USD) -> None:
        self.submit("faucet", "token", "mint", signer().address(self.provider), amount)
        self.submit(self.provider, "token", "approve", self.chain.address("stake"), amount)
        self.submit(self.provider, "stake", "stake", CLASS_ID, amount)

    def lock(self, amount: int = 300 * USD) -> None:
        hold = uuid_from("hold", LEASE)
        now = self.clock.now
        reserve_hold(id=hold, party=BUYER, window=WINDOW, amount=amount, timeout_at=now + timedelta(hours=1), now=now)
        mandate = Mandate(
            buyer=signer().address(self.buyer), window=WINDOW_NUMBER, max_spend=amount, zone_mask=mask_of(["DE"]),
            min_tier=1, parent_mask=mask_of(["DE"]), nonce=1, expiry=self.seconds + DAY,
        )  # fmt: skip
        signature = signer().sign_typed(self.buyer, mandate, **self.chain.domain("escrow"))
        plan = (post_hold_posting(hold_id=hold, party=BUYER, window=WINDOW, amount=amount),)
        self.submit("operator", "escrow", "open_window", WINDOW_NUMBER, self.seconds + 7 * DAY)
        self.submit(
            "operator", "escrow", "lock", WINDOW_NUMBER, [(mandate, signature)], [CLASS_ID], [amount], plan=plan
        )

    def settle(self, gross: int = 280 * USD, returned: int = 20 * USD, holdback: int = 0) -> None:
        fee = gross * self.chain.call("escrow", "fee_bps") // 10_000
        index = self.chain.call("escrow", "account_of", signer().address(self.buyer))[0]
        plan = settle_postings(
            lease=LEASE, buyer=BUYER, window=WINDOW, provider=PROVIDER, node_class=NODE_CLASS,
            earned=gross - fee - holdback, holdback=holdback, fee=fee, returned=returned, credit=0,
        )  # fmt: skip
        buyer_line = index << 128 | gross << 64 | returned
        class_line = CLASS_ID << 192 | gross << 128 | holdback << 64 | returned
        self.submit(
            "operator", "escrow", "settle", 1, [buyer_line], [class_line], 0, b"\1" * 32, b"\2" * 32, plan=tuple(plan)
        )


def assert_books_are_the_chain() -> None:
    words = read_words()
    assert Ledger.objects.get(asset="USDC6").halted_reason == ""
    assert minor("chain.escrow") == words.escrow_balance
    assert minor("chain.stake") == words.stake_balance
    free, locked = words.buyers[BUYER]
    # An open hold is reserved in the books and still free on the chain.
    assert minor("buyer.available", party=BUYER) == free
    assert held() == locked
    committed, payable, holdback = words.classes[CLASS_ID]
    assert committed == locked
    assert minor("provider.payable", party=PROVIDER, scope=NODE_CLASS) == payable
    assert minor("provider.holdback", party=PROVIDER, scope=NODE_CLASS) == holdback
    assert minor("stake.mirror", party=PROVIDER, scope=NODE_CLASS) == words.stakes[CLASS_ID]
    assert minor("foundation.fees") == words.fees
    assert minor("insurance.pool") == words.pool


def held(window: UUID = WINDOW) -> int:
    return minor("buyer.held", party=BUYER, scope=window)


@pytest.fixture
def market(either: Chain, clock: Clock) -> Market:
    return Market(either, clock)


def test_a_turn_from_deposit_to_payout_keeps_books_and_chain_equal(market: Market, clock: Clock) -> None:
    market.fund()
    assert market.turn().final == 3
    assert minor("buyer.available", party=BUYER) == 1_000 * USD

    market.attest()
    market.prove(1, epoch=1)
    market.stake()
    market.turn()
    clock.forward(days=15)
    market.prove(2, epoch=2)
    market.turn()
    assert market.chain.call("stake", "state_of", CLASS_ID) == 2

    market.lock()
    market.turn()
    assert held() == 300 * USD

    clock.forward(hours=2)
    market.settle()
    market.turn()
    assert held() == 0
    assert minor("provider.payable", party=PROVIDER, scope=NODE_CLASS) == 273 * USD

    market.submit("operator", "escrow", "withdraw_for", CLASS_ID)
    market.submit(market.buyer, "escrow", "withdraw", 100 * USD)
    market.turn()
    assert market.chain.call("token", "balanceOf", signer().address(market.provider)) == 273 * USD
    assert minor("provider.payable", party=PROVIDER, scope=NODE_CLASS) == 0
    assert minor("buyer.available", party=BUYER) == 620 * USD
    assert not ChainEvent.objects.filter(booked=False).exists()


def test_reading_the_chain_again_from_its_first_block_moves_nothing(market: Market) -> None:
    market.fund()
    market.turn()
    before = minor("buyer.available", party=BUYER)

    assert indexer.index(now=market.clock.now) == 0
    assert indexer.replay_events(now=market.clock.now) == 0

    assert minor("buyer.available", party=BUYER) == before
    assert ChainEvent.objects.filter(name="Deposited").count() == 1


def test_a_slash_after_proof_reaches_the_harmed_buyer_in_books_and_chain(market: Market, clock: Clock) -> None:
    market.fund()
    market.attest()
    market.prove(1, epoch=1)
    market.stake()
    market.turn()
    clock.forward(days=15)
    market.prove(2, epoch=2)
    market.turn()
    market.lock()
    market.turn()
    before = minor("buyer.available", party=BUYER)

    clock.forward(hours=3)
    verdict = Verdict(
        evidence=b"e" * 32, node_class=CLASS_ID, batch=1, line=0, amount=10 * USD, kind=1,
        breach_at=market.seconds - 3_600, nonce=1, expires=market.seconds + DAY,
    )  # fmt: skip
    market.submit(
        "operator", "stake", "request_slash", verdict, [300 * USD], [signer().address(market.buyer)], [CLASS_ID],
        market.panel("slasher", verdict),
    )  # fmt: skip
    market.turn()
    clock.forward(hours=73)
    market.submit("operator", "stake", "execute_slash", 1)
    market.turn()

    assert minor("buyer.available", party=BUYER) == before + 10 * USD
    assert minor("stake.mirror", PROVIDER, NODE_CLASS) == 190 * USD
    assert minor("insurance.pool") == read_words().pool == 0


def test_an_unproven_breach_is_paid_from_holdback(market: Market, clock: Clock) -> None:
    market.fund()
    market.attest()
    market.prove(1, epoch=1)
    market.turn()
    market.lock()
    market.turn()
    clock.forward(hours=2)
    market.settle(gross=280 * USD, returned=20 * USD, holdback=200 * USD)
    market.turn()
    assert minor("provider.holdback", PROVIDER, NODE_CLASS) == 200 * USD

    verdict = Verdict(
        evidence=b"e" * 32, node_class=CLASS_ID, batch=1, line=0, amount=50 * USD, kind=1,
        breach_at=market.seconds - 3_600, nonce=1, expires=market.seconds + DAY,
    )  # fmt: skip
    domain = market.chain.domain("escrow")
    signatures = in_signing_order({
        signer().address(f"slasher:{n}"): signer().sign_typed(f"slasher:{n}", verdict, **domain) for n in (1, 2)
    })  # fmt: skip
    market.submit(
        "operator", "escrow", "forfeit_holdback", verdict, [300 * USD], [signer().address(market.buyer)], [CLASS_ID],
        signatures,
    )  # fmt: skip
    market.turn()

    assert minor("provider.holdback", PROVIDER, NODE_CLASS) == 150 * USD
    assert minor("buyer.available", BUYER) == 770 * USD
