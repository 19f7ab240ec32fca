"""A log proven in its block, on the embedded chain and on anvil: header, transaction and receipt by their hashes."""

from __future__ import annotations

from typing import Any

import pytest
from eth_account import Account
from eth_utils.hexadecimal import decode_hex

from ledger.models import ChainEvent
from ledger.rails import evm
from ledger.rails.base import Chain
from ledger.rails.errors import LogsMissing
from ledger.rails.inclusion import prove_log, transaction_bytes
from ledger.rails.signer import signer
from marketplace.payout import offline
from tests.rails.conftest import Clock
from tests.rails.test_story import USD, Market

DEPOSITS = 20


@pytest.fixture
def deposits(either: Chain, clock: Clock) -> list[ChainEvent]:
    """Deposits of one buyer: on the embedded chain all in one block, among other calls."""
    market = Market(either, clock)
    market.submit("faucet", "token", "mint", signer().address(market.buyer), DEPOSITS * USD)
    market.submit(market.buyer, "token", "approve", either.address("escrow"), DEPOSITS * USD)
    for _ in range(DEPOSITS):
        market.submit(market.buyer, "escrow", "deposit", signer().address(market.buyer), USD)
    market.turn()
    return list(ChainEvent.objects.filter(name="Deposited"))


def test_each_log_is_proven_by_the_hash_of_its_block(deposits: list[ChainEvent]) -> None:
    assert len(deposits) == DEPOSITS
    for event in deposits:
        shown = prove_log(evm.chain(), event.tx_hash, event.log_index).as_json()

        header = decode_hex(shown["header"])
        parts = offline.rlp(header)
        assert "0x" + offline.keccak(header).hex() == shown["block_hash"] == event.block_hash
        raw = offline.in_trie(parts[4], shown["place"], hexes(shown["transaction_nodes"]), "it")
        receipt = offline.in_trie(parts[5], shown["place"], hexes(shown["receipt_nodes"]), "it")
        assert "0x" + offline.keccak(raw).hex() == shown["tx_hash"] == event.tx_hash
        emitter, topics, data = offline.rlp(receipt[1:])[3][shown["log"]]
        assert emitter == decode_hex(evm.chain().address("escrow"))
        assert topics[0] == offline.keccak(b"Deposited(address,uint32,uint64)")
        assert int.from_bytes(data[32:64], "big") == USD
        with pytest.raises(offline.Broken, match="node"):
            offline.in_trie(parts[4], shown["place"], hexes(shown["receipt_nodes"]), "it")
        with pytest.raises(offline.Broken):
            offline.in_trie(parts[5], shown["place"] ^ 1, hexes(shown["receipt_nodes"]), "it")


def test_a_node_that_tells_another_block_proves_nothing(
    deposits: list[ChainEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    event, ask = deposits[0], evm.chain().w3.eth
    told: Any = ask.get_block(event.block_hash, full_transactions=True)  # type: ignore[arg-type]
    monkeypatch.setattr(ask, "get_block", lambda *_, **__: {**told, "timestamp": told["timestamp"] + 1})
    with pytest.raises(LogsMissing, match="not what its header tells of"):
        prove_log(evm.chain(), event.tx_hash, event.log_index)


CALL = {"nonce": 3, "gas": 90_000, "to": b"\xab" * 20, "value": 5, "data": b"\x00\x01call", "chainId": 31_337}
FEES = {"maxFeePerGas": 10**10, "maxPriorityFeePerGas": 0}
ACCESS = [{"address": "0x" + "cd" * 20, "storageKeys": ["0x" + "01" * 32, "0x" + "00" * 32]}]


@pytest.mark.parametrize("fields", [
    {"gasPrice": 10**9}, {"gasPrice": 10**9, "type": 1, "accessList": ACCESS},
    {**FEES, "type": 2, "accessList": ACCESS}, {**FEES, "type": 2}, {**FEES, "type": 2, "to": b""},
])  # fmt: skip
def test_the_bytes_of_each_kind_of_transaction_are_those_that_were_signed(fields: dict[str, Any]) -> None:
    account = Account.from_key("0x" + "11" * 32)
    signed = account.sign_transaction({**CALL, **fields})
    told = {"accessList": [], **CALL, **fields, "input": CALL["data"], "v": signed.v, "yParity": signed.v,
            "r": signed.r, "s": signed.s}  # fmt: skip

    assert transaction_bytes(told) == bytes(signed.raw_transaction)


def hexes(nodes: list[str]) -> list[bytes]:
    return [decode_hex(node) for node in nodes]
