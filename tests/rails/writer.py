"""A process that writes to the embedded chain and keeps its own journal of what was acknowledged."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount

from ledger.rails import abi
from ledger.rails.embedded import EmbeddedChain
from ledger.rails.store import PostgresStore

CHAIN_ID = 31338
MINTED = 10**12
AT = datetime(2027, 1, 4, 9, tzinfo=UTC)
SINK = "0x" + "99" * 20


def account(number: int) -> LocalAccount:
    """A key of the tests; worth nothing anywhere."""
    return Account.from_key(f"0x{number:064x}")


def signed(number: int, nonce: int, *, to: str | None, data: bytes, gas: int = 10_000_000) -> bytes:
    fields = {
        "chainId": CHAIN_ID, "nonce": nonce, "gas": gas, "maxFeePerGas": 0, "maxPriorityFeePerGas": 0, "value": 0,
        "data": data,
    }  # fmt: skip
    return bytes(account(number).sign_transaction(fields | ({"to": to} if to else {})).raw_transaction)


def token_code() -> bytes:
    return abi.encode_constructor("token", ["Test", "TST", account(1).address])


def transfer(number: int, nonce: int, token: str, amount: int = 1) -> bytes:
    return signed(number, nonce, to=token, data=abi.encode_call("token", "transfer", [SINK, amount]))


def write(connect_with: dict[str, Any], number: int, token: str, journal: str, count: int) -> None:
    """Send `count` transfers, one block each, and journal each hash only after it was acknowledged."""
    chain = EmbeddedChain(PostgresStore(connect_with), chain_id=CHAIN_ID)
    nonce = chain.state(chain.head()).get_nonce(bytes.fromhex(account(number).address[2:]))
    with open(journal, "a") as file:
        for step in range(count):
            (mined,) = chain.mine([transfer(number, nonce + step, token)], at=AT)
            assert mined.refusal is None, mined.refusal
            file.write(mined.tx_hash.hex() + "\n")
            file.flush()
            os.fsync(file.fileno())


def acknowledged(journals: Sequence[str]) -> list[bytes]:
    """Every whole line of the journals; a line cut short by a kill was not acknowledged."""
    texts = [Path(journal).read_text() for journal in journals if os.path.exists(journal)]
    return [bytes.fromhex(line) for text in texts for line in text.splitlines() if len(line) == 64]
