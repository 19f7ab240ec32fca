"""Each settlement publishes what classes could claim; a provider whose operator falls silent does so with its file."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse
from eth_account import Account
from eth_utils.hexadecimal import decode_hex

from contracts.claims import ClaimTree
from contracts.parameters import CLAIM_SILENCE
from ledger.ids import uuid7
from ledger.rails import abi
from ledger.rails.evm import chain
from ledger.reconcile import check_books
from ledger.selectors import balance, total
from marketplace import clock, cycle
from marketplace import models as m
from marketplace.errors import NotYours
from marketplace.payout import claims
from marketplace.payout import services as payout
from marketplace.payout.refusals import take_back_refused
from tests.journey import world


def bring(document: dict[str, Any], claim: dict[str, Any]) -> bool:
    """A stranger to the market brings a proof to the contract, with nothing but the file; tell whether it worked."""
    arguments = [claim["node_class"], claim["cumulative_micros"], claim["index"], claim["leaves"],
                 [decode_hex(sister) for sister in claim["proof"]]]  # fmt: skip
    stranger = Account.create()
    signed = stranger.sign_transaction({
        "chainId": document["chain_id"], "to": document["escrow"], "nonce": 0, "value": 0, "gas": 1_000_000,
        "maxFeePerGas": 0, "maxPriorityFeePerGas": 0, "data": abi.encode_call("escrow", "claim", arguments),
    })  # fmt: skip
    (sent,) = chain().broadcast([bytes(signed.raw_transaction)], now=clock.now())
    assert sent.receipt is not None, sent.refusal
    return sent.receipt.succeeded


def downloaded(party: m.Party) -> dict[str, Any]:
    """What somebody of the party gets from its dashboard."""
    user = m.User.objects.create(email=f"{party.slug}@claims.example")
    m.Seat.objects.create(id=uuid7(clock.now()), user=user, party=party, role="owner")
    browser = Client()
    browser.force_login(user)
    answer = browser.get(reverse("onboarding:claims_file"))
    assert "attachment" in answer.headers["Content-Disposition"]
    return json.loads(answer.content)  # type: ignore[no-any-return]


def settle_the_first_call_only(monkeypatch: pytest.MonkeyPatch) -> m.Settlement:
    """The operator falls silent between two calls of a window that needs several."""
    whole = payout._epochs
    with monkeypatch.context() as patch:
        patch.setattr(payout, "CALL_CLASSES_MAX", 1)
        patch.setattr(payout, "_epochs", lambda leases: whole(leases)[:1])
        payout.settle_window(window=world.window(), now=clock.now())
    cycle.run_chain(now=clock.now())
    return m.Settlement.objects.filter(window=world.window()).get()


def class_left_out(settlement: m.Settlement) -> m.NodeClass:
    """A class whose leases a settlement did not settle."""
    settled = {line.lease.node_class_id for line in settlement.lines.all()}
    return next(node for code in ("granite", "harbour", "prairie")
                if (node := world.node_class(code)).pk not in settled)  # fmt: skip


@pytest.mark.stage("judged")
def test_a_root_that_no_settlement_of_ours_published_proves_nothing() -> None:
    m.Settlement.objects.all().update(root=b"x" * 32)

    with pytest.raises(NotYours, match="published a root"):
        claims.proofs_of(world.party("granite"))


@pytest.mark.stage("paid")
def test_the_root_on_chain_owes_each_class_exactly_what_it_was_credited() -> None:
    settlement = claims.published()
    assert settlement is not None
    assert settlement.owed == {str(number): micros for number, micros in claims.owed_by_class().items()}
    for number, micros in claims.owed_by_class().items():
        assert chain().call("escrow", "class_of", number)[3] == micros
    document = claims.proofs_of(world.party("granite"))
    assert document["root"] == "0x" + bytes(chain().call("escrow", "claim_root")).hex()
    (claim,) = document["claims"]
    assert claim["node_class"] == world.node_class("granite").chain_class
    assert downloaded(world.party("granite")) == document


def test_a_provider_claims_with_the_published_root_and_the_next_settlement_covers_it(
    own_world: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own_world("judged")
    settlement = settle_the_first_call_only(monkeypatch)
    assert bytes(chain().call("escrow", "claim_root")) == bytes(settlement.root)
    settled = {line.lease.node_class_id for line in settlement.lines.all()}
    owners = {code: world.node_class(code) for code in ("granite", "harbour", "prairie")}
    late = next(node for node in owners.values() if node.pk not in settled)
    document = claims.proofs_of(late.party)
    (claim,) = document["claims"]
    credited = chain().call("escrow", "class_of", late.chain_class)[3]
    owed = claim["cumulative_micros"] - credited
    assert owed > 0

    assert not bring(document, claim), "the operator is not silent yet"
    clock.move_forward(CLAIM_SILENCE)
    assert not bring(document, {**claim, "cumulative_micros": claim["cumulative_micros"] + 1}), "the root says less"
    assert bring(document, claim)
    cycle.run_chain(now=clock.now())

    fee = owed * 250 // 10_000
    assert balance(code="provider.payable", party=late.party_id, scope=late.pk).minor == owed - fee
    assert claims.uncovered_by_class() == {late.chain_class: owed}
    assert total("suspense").minor == -owed

    # The operator is back: every lease is settled, the claimed ones without paying them again.
    assert payout.settle_window(window=world.window(), now=clock.now()) > 0
    cycle.run_chain(now=clock.now())
    assert payout.confirm_settlements(window=world.window(), now=clock.now()) == 6
    assert claims.uncovered_by_class() == {}
    assert total("suspense").minor == 0
    assert chain().call("escrow", "class_of", late.chain_class)[3] == claim["cumulative_micros"], "credited once"
    assert chain().call("escrow", "totals")[7] == 0
    assert all(found.ok for found in check_books())
    assert cycle.reconcile(now=clock.now()) == []


def test_a_settlement_signed_before_a_claim_is_refused_and_made_again_with_the_cover(
    own_world: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operator signs, falls silent, classes claim, and its call is mined after all."""
    own_world("judged")
    first = settle_the_first_call_only(monkeypatch)
    late = class_left_out(first)
    document = claims.proofs_of(late.party)
    (claim,) = document["claims"]
    with monkeypatch.context() as patch:
        patch.setattr(payout, "CALL_CLASSES_MAX", 1)  # two calls wait, of which the second names a later epoch
        assert payout.settle_window(window=world.window(), now=clock.now()) > 0
    stale = list(m.Settlement.objects.filter(window=world.window()).exclude(pk=first.pk))
    assert len(stale) > 1
    clock.move_forward(CLAIM_SILENCE)
    assert bring(document, claim)

    cycle.run_chain(now=clock.now())  # what was signed goes out only now
    before = balance(code="provider.payable", party=late.party_id, scope=late.pk).minor
    assert take_back_refused(now=clock.now()) == len(stale)
    assert take_back_refused(now=clock.now()) == 0, "once"

    for row in stale:
        row.refresh_from_db()
        assert row.refusal == "escrow: epoch is not the next"
        assert not row.lines.exists()
    assert payout.settle_window(window=world.window(), now=clock.now()) > 0
    cycle.run_chain(now=clock.now())
    assert payout.confirm_settlements(window=world.window(), now=clock.now()) == 6
    assert claims.uncovered_by_class() == {}
    assert total("suspense").minor == 0
    assert chain().call("escrow", "class_of", late.chain_class)[3] == claim["cumulative_micros"], "credited once"
    assert balance(code="provider.payable", party=late.party_id, scope=late.pk).minor == before
    assert chain().call("escrow", "last_epoch") == (1 << 32) + 1
    assert all(found.ok for found in check_books())
    assert cycle.reconcile(now=clock.now()) == []


@pytest.mark.stage("paid")
def test_a_line_cannot_cover_less_than_nothing_nor_out_of_nowhere() -> None:
    line = m.SettlementLine.objects.select_related("settlement", "lease").first()
    assert line is not None
    parts = {name: getattr(line, name) for name in ("earned_micros", "payable_micros", "holdback_micros", "fee_micros",
                                                    "returned_micros", "credit_micros")}  # fmt: skip
    twin = {"settlement": line.settlement, "lease": line.lease, **parts}
    for wall, change in (
        ("settlement_line_splits_what_was_earned", {"covered_micros": 1}),
        ("settlement_line_has_no_negative_part", {"covered_micros": -1, "fee_micros": line.fee_micros + 1}),
        ("lease_id", {"covered_micros": 0}),  # as it should be, but for the lease that has its line already
    ):
        with pytest.raises(IntegrityError, match=wall), transaction.atomic():
            m.SettlementLine.objects.create(**{**twin, **change})


@pytest.mark.stage("paid")
def test_what_was_claimed_is_shared_over_leases_up_to_what_each_earned() -> None:
    assert payout._covers([30, 50, 20], 0) == [0, 0, 0]
    assert payout._covers([30, 50, 20], 60) == [30, 30, 0]
    assert payout._covers([30, 50], 100) == [30, 50]
    assert ClaimTree(1, "0x" + "11" * 20, {1: 5}).root != claims.tree_of({1: 5}).root
