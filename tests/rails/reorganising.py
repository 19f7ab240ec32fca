"""The embedded chain's EVM as a node whose last blocks can still be replaced: reorganisations in milliseconds."""

from __future__ import annotations

from typing import Any

from eth_account import Account
from web3 import Web3
from web3.types import RPCEndpoint, RPCResponse

from ledger.rails.base import Chain
from ledger.rails.jsonrpc import EmbeddedProvider
from ledger.rails.store import MemoryStore

FINALITY = 5  # blocks below the head


class ReorganisingNode(EmbeddedProvider):
    """Each transaction is a block of its own, and final when `FINALITY` blocks stand on it."""

    def __init__(self, chain: Chain) -> None:
        assert chain.embedded is not None
        super().__init__(chain.embedded)
        self.embedded, self.fillers = chain.embedded, 0
        self.filler = Account.from_key(b"\x07" * 32)
        self.first = chain.embedded.head().block_number  # what stands here already is final
        self.kept: dict[int, Any] = {}
        self._keep()

    def as_chain(self, chain_id: int) -> Chain:
        return Chain(Web3(self, middleware=[]), chain_id=chain_id)

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        answer = super().make_request(method, [hex(self.final) if each in ("finalized", "safe") else each
                                               for each in params])  # fmt: skip
        if method == "eth_sendRawTransaction":
            self._keep()
        return answer

    @property
    def head(self) -> int:
        return int(self.embedded.head().block_number)

    @property
    def final(self) -> int:
        return max(self.head - FINALITY, self.first)

    def mine(self, blocks: int) -> None:
        """Blocks in which nothing of ours happens."""
        for _ in range(blocks):
            self.fillers += 1
            signed = self.filler.sign_transaction({
                "chainId": self.embedded.chain_id, "to": self.filler.address, "value": 0, "gas": 100_000,
                "nonce": self.embedded.state(self.embedded.head()).get_nonce(bytes.fromhex(self.filler.address[2:])),
                "maxFeePerGas": 0, "maxPriorityFeePerGas": 0, "data": self.fillers.to_bytes(8, "big"),
            })  # fmt: skip
            (mined,) = self.embedded.mine([bytes(signed.raw_transaction)])
            assert mined.outcome is not None, mined.refusal
            self._keep()

    def reorganise(self, depth: int) -> int:
        """Replace the newest blocks by a longer branch without their transactions; return how many were replaced."""
        depth = min(depth, self.head - self.final)
        if depth:
            self._store().restore(self.kept[self.head - depth])
            self.mine(depth + 1)
        return depth

    def _keep(self) -> None:
        self.kept[self.head] = self._store().snapshot()
        self.kept = {number: saved for number, saved in self.kept.items() if self.final <= number <= self.head}

    def _store(self) -> MemoryStore:
        assert isinstance(self.embedded.store, MemoryStore)
        return self.embedded.store
