"""The embedded chain: the real EVM, several writers, nothing lost, and no slot altered unseen."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from web3.exceptions import ContractLogicError, TransactionNotFound, Web3RPCError

from ledger.errors import ClockMissing
from ledger.rails import abi, embedded, evm
from ledger.rails.base import Chain
from ledger.rails.deploy import create_address
from ledger.rails.embedded import EmbeddedChain
from ledger.rails.errors import CallReverted
from ledger.rails.integrity import check_store
from ledger.rails.store import WRITER_LOCK, MemoryStore, PostgresStore, Store
from tests.rails import writer
from tests.rails.conftest import START, Clock
from tests.rails.writer import SINK, account, signed, token_code, transfer

TOKEN = create_address(account(1).address, 0)
PATIENCE_SECONDS = 400  # only ends what hangs


@pytest.fixture(params=["memory", "postgres"])
def empty(request: pytest.FixtureRequest, clock: Clock, settings: Any) -> Iterator[Chain]:
    """An empty chain on each kind of store: both pass the same tests."""
    if request.param == "memory":
        yield evm.open_embedded(MemoryStore(), writer.CHAIN_ID)
    else:
        yield request.getfixturevalue("shared_chain")


@pytest.fixture
def chain(empty: Chain) -> Chain:
    return with_token(empty)


@pytest.fixture
def stored(shared_chain: Chain) -> Chain:
    """A chain with a token in the database, for tests that look behind it."""
    return with_token(shared_chain)


def with_token(chain: Chain) -> Chain:
    mint = abi.encode_call("token", "mint", [account(1).address, writer.MINTED])
    raws = [signed(1, 0, to=None, data=token_code()), signed(1, 1, to=TOKEN, data=mint)]
    assert [mined.refusal for mined in inner(chain).mine(raws, at=START)] == [None, None]
    return chain


def inner(chain: Chain) -> EmbeddedChain:
    assert chain.embedded is not None
    return chain.embedded


def connect_with(chain: Chain) -> dict[str, Any]:
    store = inner(chain).store
    assert isinstance(store, PostgresStore)
    return store.connect_with


def balance(chain: Chain, address: str) -> int:
    return int(chain.call_at("token", TOKEN, "balanceOf", [address]))


def test_a_contract_is_deployed_called_and_heard(chain: Chain) -> None:
    sent = chain.broadcast([transfer(1, 2, TOKEN, 70)], now=START)[0]

    assert balance(chain, SINK) == 70
    receipt = chain.receipt(sent.tx_hash)
    assert receipt == sent.receipt
    assert receipt is not None
    assert receipt.succeeded
    (log,) = chain.logs([TOKEN], first_block=receipt.block_number, last_block=receipt.block_number)
    assert abi.decode_log("token", log.topics, log.data) == (
        "Transfer", {"sender": account(1).address, "receiver": SINK, "value": 70},
    )  # fmt: skip
    assert (log.tx_hash, log.block_hash) == (sent.tx_hash, receipt.block_hash)


def test_web3_sees_a_chain_like_any_other(chain: Chain) -> None:
    eth = chain.w3.eth
    raw = transfer(1, 2, TOKEN)
    tx_hash = eth.send_raw_transaction(raw)

    receipt = eth.wait_for_transaction_receipt(tx_hash)
    assert receipt["status"] == 1
    assert eth.get_transaction(tx_hash)["from"] == account(1).address
    block = eth.get_block(receipt["blockNumber"], full_transactions=True)
    assert block["transactions"][0]["hash"] == tx_hash  # type: ignore[index]
    assert eth.get_block("finalized")["hash"] == eth.get_block("latest")["hash"]
    assert eth.chain_id == writer.CHAIN_ID
    assert eth.gas_price == 0
    assert eth.get_code(TOKEN)  # type: ignore[arg-type]
    contract = eth.contract(address=TOKEN, abi=list(abi.load("token").abi))  # type: ignore[call-overload]
    assert contract.functions.symbol().call() == "TST"
    assert len(contract.events.Transfer().get_logs(from_block=0)) == 2
    needed = contract.functions.transfer(SINK, 5).estimate_gas({"from": account(1).address})
    # The recipient's balance slot is written already, so the second transfer is cheaper than the first.
    assert 21_000 < needed < receipt["gasUsed"]
    with pytest.raises(TransactionNotFound):
        eth.get_transaction_receipt(b"\7" * 32)
    with pytest.raises(Web3RPCError, match="nonce too low"):
        eth.send_raw_transaction(transfer(1, 2, TOKEN, 2))
    with pytest.raises(ContractLogicError):
        contract.functions.mint(SINK, 1).call({"from": SINK})


def test_a_refused_call_says_why_in_the_contracts_words(chain: Chain) -> None:
    with pytest.raises(CallReverted, match="token: balance is too small"):
        chain.call_at("token", TOKEN, "transfer", [SINK, 1], sender=SINK)
    reverted = chain.broadcast([transfer(2, 0, TOKEN)], now=START)[0]

    receipt = chain.receipt(reverted.tx_hash)
    assert receipt is not None
    assert not receipt.succeeded
    assert receipt.revert_output is not None
    assert abi.revert_sentence(receipt.revert_output) == "token: balance is too small"


def test_many_transactions_share_a_block_and_a_bad_one_harms_nobody(chain: Chain) -> None:
    before = chain.head().number
    raws = [transfer(1, nonce, TOKEN) for nonce in range(2, 22)]
    mined = inner(chain).mine([*raws[:5], transfer(1, 99, TOKEN), b"no transaction", *raws[5:]], at=START)

    assert chain.head().number == before + 1
    assert balance(chain, SINK) == 20
    refusals = [each.refusal for each in mined if each.refusal]
    assert len(refusals) == 2
    assert refusals[0].startswith("nonce too high: 99")


def test_the_same_bytes_count_once(chain: Chain) -> None:
    raw = transfer(1, 2, TOKEN)
    first = chain.broadcast([raw, raw], now=START)
    head = chain.head()
    again = chain.broadcast([raw], now=START)

    assert [each.refusal for each in [*first, *again]] == [None, None, None]
    assert balance(chain, SINK) == 1
    assert chain.head() == head, "a block without a new transaction is not made"


def test_transactions_that_wait_for_a_writer_go_into_one_block(chain: Chain, clock: Clock) -> None:
    before = chain.head().number
    threads = [
        threading.Thread(target=inner(chain).send, args=(transfer(1, nonce, TOKEN),)) for nonce in range(2, 7)
    ]
    with inner(chain)._lock:
        for number, thread in enumerate(threads, start=1):
            thread.start()
            while len(inner(chain)._waiting) < number:
                time.sleep(0.001)
    for thread in threads:
        thread.join()

    assert chain.head().number == before + 1
    assert balance(chain, SINK) == 5


def test_block_time_follows_the_clock_and_never_stands_still(chain: Chain) -> None:
    first = chain.head().timestamp
    chain.broadcast([transfer(1, 2, TOKEN)], now=START)
    assert chain.head().timestamp == first + 1
    chain.broadcast([transfer(1, 3, TOKEN)], now=START + timedelta(days=14))
    assert chain.head().timestamp == int((START + timedelta(days=14)).timestamp())


def test_without_a_clock_no_block_is_stamped(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    embedded.use_clock(None)
    monkeypatch.setattr("ledger.tasks._clock", None)

    with pytest.raises(ClockMissing):
        inner(chain).send(transfer(1, 2, TOKEN))
    (mined,) = inner(chain).mine([transfer(1, 2, TOKEN)], at=START)
    assert mined.refusal is None


def test_a_block_that_fails_half_way_leaves_nothing_behind(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    store, head = inner(chain).store, chain.head()
    with monkeypatch.context() as patch:
        patch.setattr(Store, "add_logs", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            inner(chain).mine([transfer(1, 2, TOKEN)], at=START)

    assert chain.head() == head
    assert set(store._cache) <= {key for key, _ in store.entries()}, "a node that was never written is never served"
    inner(chain).mine([transfer(1, 2, TOKEN)], at=START)
    assert balance(chain, SINK) == 1
    assert all(finding.ok for finding in check_store(inner(chain)))


def test_the_chain_is_found_again_by_the_next_process(stored: Chain) -> None:
    stored.broadcast([transfer(1, 2, TOKEN, 9)], now=START)
    head = stored.head()
    evm.close_all()

    reopened = evm.chain()
    assert reopened is not stored
    assert reopened.head() == head
    assert balance(reopened, SINK) == 9


def test_a_forked_child_reads_without_disturbing_its_parent(stored: Chain) -> None:
    child = os.fork()
    if child == 0:
        os._exit(0 if balance(stored, account(1).address) == writer.MINTED else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    stored.broadcast([transfer(1, 2, TOKEN)], now=START)
    assert balance(stored, SINK) == 1


@pytest.fixture(scope="module")
def processes() -> Any:
    """Children forked from an interpreter that has the chain loaded: 0.1 s each instead of 2 s."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.rails.writer"])
    return context


def fund(chain: Chain, numbers: range) -> None:
    raws = [
        signed(1, 2 + place, to=TOKEN, data=abi.encode_call("token", "transfer", [account(number).address, 10**6]))
        for place, number in enumerate(numbers)
    ]
    inner(chain).mine(raws, at=START)


def test_several_processes_write_at_once_and_nothing_is_lost(stored: Chain, processes: Any, tmp_path: Path) -> None:
    numbers = range(2, 5)
    fund(stored, numbers)
    before = stored.head().number
    journals = [str(tmp_path / f"{number}.txt") for number in numbers]
    children = [
        processes.Process(target=writer.write, args=(connect_with(stored), number, TOKEN, journal, 12))
        for number, journal in zip(numbers, journals, strict=True)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(PATIENCE_SECONDS)

    assert [child.exitcode for child in children] == [0, 0, 0]
    assert balance(stored, SINK) == 36
    assert stored.head().number == before + 36
    assert all(inner(stored).executed(tx_hash) for tx_hash in writer.acknowledged(journals))
    assert all(finding.ok for finding in check_store(inner(stored)))


@pytest.mark.parametrize("rounds", [3, pytest.param(16, marks=pytest.mark.slow)])
def test_kills_of_three_writers_at_once_lose_no_acknowledged_transaction(
    stored: Chain, processes: Any, tmp_path: Path, rounds: int
) -> None:
    """Each round ends all three writers with SIGKILL, at another place of their work: 9 kills, or 48 (slow)."""
    numbers = range(2, 5)
    fund(stored, numbers)
    journals = [str(tmp_path / f"{number}.txt") for number in numbers]
    kills = 0
    for turn in range(rounds):
        children = [
            processes.Process(target=writer.write, args=(connect_with(stored), number, TOKEN, journal, 10_000))
            for number, journal in zip(numbers, journals, strict=True)
        ]
        seen = len(writer.acknowledged(journals))
        for child in children:
            child.start()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(writer.acknowledged(journals)) < seen + 6 and time.monotonic() < deadline:
            time.sleep(0.01)
        for child in children:
            time.sleep(0.003 * (turn % 5))
            child.kill()
            kills += 1
        for child in children:
            child.join()
            assert child.exitcode == -signal.SIGKILL

    nobody_writes_any_more(stored)
    kept = writer.acknowledged(journals)
    lost = [tx_hash.hex() for tx_hash in kept if inner(stored).executed(tx_hash) is None]
    supply = sum(balance(stored, account(number).address) for number in (1, *numbers)) + balance(stored, SINK)
    print(f"{kills} SIGKILLs over 3 writers on PostgreSQL: {len(kept)} acknowledged, {len(lost)} lost, "
          f"{balance(stored, SINK)} on the chain, supply {supply} of {writer.MINTED}")  # fmt: skip
    assert lost == []
    assert len(kept) >= 6 * rounds
    # A kill between commit and journal leaves a transaction that nobody was told of; it is never half of one.
    assert len(kept) <= balance(stored, SINK) <= len(kept) + kills
    assert supply == writer.MINTED
    assert all(finding.ok for finding in check_store(inner(stored)))


def nobody_writes_any_more(chain: Chain) -> None:
    """Wait for the writers' lock: the server may still be committing the last block of one that is dead already."""
    with psycopg.connect(**connect_with(chain)) as session:
        session.execute("SELECT pg_advisory_xact_lock(%s)", [WRITER_LOCK])


def broken(chain: Chain) -> set[str]:
    return {finding.invariant for finding in check_store(inner(chain)) if not finding.ok}


def alter(chain: Chain, statement: str, *parameters: Any) -> None:
    with psycopg.connect(**connect_with(chain), autocommit=True) as connection:
        assert connection.execute(statement, parameters).rowcount == 1  # type: ignore[arg-type]


def storage_leaf(chain: Chain) -> bytes:
    """The key of the trie node that holds the balance of SINK, found by its value."""
    amount = balance(chain, SINK)
    for key, value in inner(chain).store.entries():
        if len(key) == 32 and value.endswith(amount.to_bytes(3, "big")) and len(value) < 60:
            return key
    raise AssertionError("no leaf with this amount")


def test_an_altered_balance_is_found(stored: Chain) -> None:
    stored.broadcast([transfer(1, 2, TOKEN, 0x123456)], now=START)
    assert broken(stored) == set()

    key = storage_leaf(stored)
    alter(stored, "UPDATE chain.node SET value = set_byte(value, length(value) - 1, 255) WHERE key = %s", key)

    assert "chain.every_value_hashes_to_its_key" in broken(stored)


def test_a_missing_node_is_found(stored: Chain) -> None:
    stored.broadcast([transfer(1, 2, TOKEN, 0x123456)], now=START)
    alter(stored, "DELETE FROM chain.node WHERE key = %s", storage_leaf(stored))

    assert broken(stored) == {"chain.state_is_complete"}


def test_an_altered_log_is_found(stored: Chain) -> None:
    alter(stored, "UPDATE chain.log SET data = set_byte(data, 31, 77)")

    assert broken(stored) == {"chain.logs_are_those_of_the_receipts"}


def test_a_head_that_was_set_back_is_found(stored: Chain) -> None:
    earlier = stored.head().hash
    stored.broadcast([transfer(1, 2, TOKEN)], now=START)
    alter(stored, "UPDATE chain.node SET value = %s WHERE key = %s", bytes.fromhex(earlier[2:]),
          b"v1:canonical_head_hash")  # fmt: skip

    assert "chain.headers_are_connected" in broken(stored)
