"""The sender: an intent becomes exactly one transaction, whatever dies in between."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import psycopg
import pytest
from django.db import connection, transaction

from ledger import faults
from ledger.faults import FaultInjected
from ledger.models import ChainAttempt, ChainIntent
from ledger.rails import deploy, evm, sender
from ledger.rails.base import Chain
from ledger.rails.errors import (
    ContractUnknown,
    FunctionUnknown,
    InsideTransaction,
    IntentReused,
    RoleUnknown,
    SenderBusy,
)
from ledger.rails.signer import signer
from tests.rails.conftest import START, Clock

SINK = "0x" + "99" * 20
SOURCE = Path(sender.__file__).read_text()
POINTS = sorted(set(re.findall(r'faults\.point\("(sender\.[a-z_]+)"\)', SOURCE)))


def mint(key: str, amount: int = 5, **more: int | None) -> ChainIntent:
    return sender.submit(
        key=key, role="faucet", contract="token", function="mint", args=[SINK, amount], now=START, **more
    )  # fmt: skip


def minted(chain: Chain) -> int:
    return int(chain.call("token", "balanceOf", SINK))


def transactions_of(chain: Chain, role: str) -> int:
    return chain.next_nonce(signer().address(role))


def test_an_intent_waits_for_the_pump_and_then_is_final(rails: Chain) -> None:
    row = mint("a")
    assert (row.state, minted(rails)) == ("queued", 0)

    assert sender.pump(now=START) == sender.Pumped(sent=1, final=1, reverted=0)

    row.refresh_from_db()
    assert (row.state, row.nonce, minted(rails)) == ("final", 0, 5)
    assert row.block_number == rails.head().number
    assert row.gas_used
    assert row.tx_hash
    assert row.receipt["succeeded"] is True
    assert sender.pump(now=START) == sender.Pumped()


def test_the_same_key_means_one_transaction(rails: Chain) -> None:
    first = mint("a")
    assert mint("a").pk == first.pk
    sender.pump(now=START)
    assert mint("a").pk == first.pk
    sender.pump(now=START)

    assert minted(rails) == 5
    with pytest.raises(IntentReused, match="'a'"):
        mint("a", amount=6)
    assert minted(rails) == 5


def test_an_intent_of_a_rolled_back_transaction_is_never_sent(rails: Chain) -> None:
    with transaction.atomic():
        mint("a")
        transaction.set_rollback(True)

    assert sender.pump(now=START).sent == 0
    mint("a")
    assert sender.pump(now=START).sent == 1


def test_the_pump_refuses_to_run_inside_a_transaction(rails: Chain) -> None:
    mint("a")
    with transaction.atomic(), pytest.raises(InsideTransaction):
        sender.pump(now=START)
    assert sender.pump(now=START).sent == 1


def test_a_second_sender_waits_and_then_says_so(rails: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    mint("a")
    monkeypatch.setattr(sender, "LOCK_SECONDS_MAX", 1)
    with psycopg.connect(**evm.connection_fields(), autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [sender.SENDER_LOCK])
        with pytest.raises(SenderBusy):
            sender.pump(now=START)
    assert sender.pump(now=START).final == 1


def test_what_cannot_be_encoded_is_refused_at_once(rails: Chain) -> None:
    with pytest.raises(FunctionUnknown, match="no function mint with 3"):
        sender.submit(key="a", role="faucet", contract="token", function="mint", args=[SINK, 1, 2], now=START)
    with pytest.raises(FunctionUnknown, match="does not take these"):
        sender.submit(key="a", role="faucet", contract="token", function="mint", args=[SINK, -1], now=START)
    with pytest.raises(RoleUnknown):
        sender.submit(key="a", role="thief", contract="token", function="mint", args=[SINK, 1], now=START)
    assert not ChainIntent.objects.exists()


def test_nothing_can_be_meant_for_a_contract_that_is_not_there(transactional_db: None, keys: Path) -> None:
    with pytest.raises(ContractUnknown, match="token"):
        mint("a")


def test_calls_go_out_in_the_order_of_submission(rails: Chain) -> None:
    for number in range(30):
        mint(f"{99 - number}")

    sender.pump(now=START)

    rows = ChainIntent.objects.order_by("nonce").values_list("key", flat=True)
    assert list(rows) == [f"{99 - number}" for number in range(30)]
    assert ChainIntent.objects.values("block_number").distinct().count() == 1


def test_a_revert_ends_the_intent_in_the_contracts_words(rails: Chain) -> None:
    row = sender.submit(key="a", role="operator", contract="token", function="mint", args=[SINK, 1], now=START)
    good = mint("b")

    assert sender.pump(now=START) == sender.Pumped(sent=2, final=1, reverted=1)

    row.refresh_from_db()
    good.refresh_from_db()
    assert (row.state, row.revert_reason) == ("reverted", "token: only the minter may mint")
    assert (good.state, good.revert_reason) == ("final", "")
    assert rails.receipt(row.tx_hash or "") is not None, "the revert really is on the chain"


def test_forced_gas_puts_even_a_starved_call_on_the_chain(rails: Chain) -> None:
    row = mint("a", force_gas=1)

    sender.pump(now=START)

    row.refresh_from_db()
    assert row.state == "reverted"
    assert row.gas_limit == sender.least_gas(bytes(row.calldata))
    assert rails.receipt(row.tx_hash or "") is not None
    assert minted(rails) == 0


def test_a_key_that_was_used_elsewhere_keeps_its_nonces_apart(rails: Chain) -> None:
    data = rails.embedded.state(rails.embedded.head()) if rails.embedded else None
    assert data is not None
    deploy._broadcast(rails, [elsewhere(rails, nonce=0)], START)

    mint("a")
    sender.pump(now=START)

    assert ChainIntent.objects.get().nonce == 1
    assert minted(rails) == 5


def test_a_nonce_that_is_stored_but_not_out_yet_is_not_given_twice(rails: Chain) -> None:
    mint("a")
    with faults.armed("sender.signed"), pytest.raises(FaultInjected):
        sender.pump(now=START)
    mint("b")

    sender._sign_batch(rails, START)  # as if the chain had not seen the first bytes yet

    assert list(ChainIntent.objects.order_by("key").values_list("nonce", flat=True)) == [0, 1]
    assert sender.pump(now=START).final == 2


def test_bytes_whose_nonce_was_taken_end_as_reverted(rails: Chain) -> None:
    row = mint("a")
    with faults.armed("sender.signed"), pytest.raises(FaultInjected):
        sender.pump(now=START)
    deploy._broadcast(rails, [elsewhere(rails, nonce=0)], START)

    assert sender.pump(now=START) == sender.Pumped(reverted=1)

    row.refresh_from_db()
    assert row.revert_reason == "nonce 0 of faucet was used by another transaction"
    mint("b")
    assert sender.pump(now=START) == sender.Pumped(sent=1, final=1)


def elsewhere(chain: Chain, *, nonce: int) -> bytes:
    """Bytes that the faucet key signed without this sender."""
    fields = {"chainId": chain.chain_id, "nonce": nonce, "gas": 50_000, "to": SINK, "value": 0, "data": b"",
              **chain.fees()}  # fmt: skip
    return signer().sign_transaction("faucet", fields).raw


@pytest.mark.parametrize("point", POINTS)
def test_after_a_fault_at_any_step_there_is_exactly_one_transaction(rails: Chain, point: str) -> None:
    for number in range(3):
        mint(f"{number}")
    if point == "sender.looked_up":  # lies on the way of a second pump only
        with faults.armed("sender.signed"), pytest.raises(FaultInjected):
            sender.pump(now=START)

    with faults.armed(point), pytest.raises(FaultInjected):
        sender.pump(now=START)
    sender.pump(now=START)

    assert minted(rails) == 15
    assert transactions_of(rails, "faucet") == 3
    assert set(ChainIntent.objects.values_list("state", flat=True)) == {"final"}
    assert ChainAttempt.objects.count() == 3


@pytest.mark.parametrize("point", POINTS)
def test_after_a_kill_at_any_step_there_is_exactly_one_transaction(shared_chain: Chain, point: str) -> None:
    deploy.ensure_deployed(START)
    before = transactions_of(shared_chain, "faucet")
    mint("a")
    if point == "sender.looked_up":
        killed_at("sender.signed")

    killed_at(point)
    sender.pump(now=START)

    assert minted(shared_chain) == 5
    assert transactions_of(shared_chain, "faucet") == before + 1
    assert ChainIntent.objects.get().state == "final"


def killed_at(point: str) -> None:
    """Pump in a forked child that is killed (-9) at the point."""
    connection.close()  # the child must not share the parent's session
    child = os.fork()
    if child == 0:
        try:
            with faults.armed(point, "kill"):
                sender.pump(now=START)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9


def test_three_hundred_calls_take_seconds(shared_chain: Chain, clock: Clock) -> None:
    deploy.ensure_deployed(clock.now)
    started = time.process_time()  # of this process: what others do on the machine is not counted
    with transaction.atomic():
        for number in range(300):
            sender.submit(
                key=f"{number}", role=f"verifier:{number % 3 + 1}", contract="token", function="approve",
                args=[SINK, number], now=clock.now,
            )  # fmt: skip
    submitted = time.process_time()
    pumped = sender.pump(now=clock.now)
    done = time.process_time()

    print(f"submit {300 / (submitted - started):.0f}/s, pump {300 / (done - submitted):.0f} tx/s")
    assert pumped == sender.Pumped(sent=300, final=300)
    assert done - started < 30
