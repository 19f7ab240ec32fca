"""The tree that classes claim from: what the operator owes each of them in total, and the proof of one leaf.

leaf = keccak(0x00 || 0x01 || chain id || escrow || class || gross owed since ever); node = keccak(0x01 || left ||
right), by position; an odd node goes up as it is, never doubled. `escrow.vy` checks the same; the books' epochs have
the same form with other leaves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from eth_utils.address import to_canonical_address
from eth_utils.crypto import keccak

NOTHING_OWED: Final = bytes(32)  # the root of no leaves: nothing is proven by it
AMOUNT_MAX: Final = 2**64 - 1


@dataclass(frozen=True)
class ClaimProof:
    """The arguments of `escrow.claim`; `cumulative` is gross micro-USD, `sisters` come from below."""

    node_class: int
    cumulative: int
    index: int
    leaves: int
    sisters: tuple[bytes, ...]

    def abi(self) -> tuple[Any, ...]:
        """Return the arguments in ABI order."""
        return (self.node_class, self.cumulative, self.index, self.leaves, list(self.sisters))


@dataclass(frozen=True)
class ClaimTree:
    """Gross micro-USD owed to each class since ever, for one escrow contract on one chain."""

    chain_id: int
    contract: str
    owed: Mapping[int, int]

    @property
    def root(self) -> bytes:
        """Return what `escrow.settle` takes as its root."""
        return self._levels[-1][0] if self.owed else NOTHING_OWED

    def proof(self, node_class: int) -> ClaimProof:
        """Return the proof of what one class is owed. Raises KeyError if the tree has no leaf for it."""
        place = index = self._classes.index(node_class) if node_class in self.owed else self._missing(node_class)
        sisters = []
        for level in self._levels[:-1]:
            if place ^ 1 < len(level):
                sisters.append(level[place ^ 1])
            place //= 2
        return ClaimProof(node_class, self.owed[node_class], index, len(self._classes), tuple(sisters))

    def leaf(self, node_class: int) -> bytes:
        """Return the leaf of one class."""
        cumulative = self.owed[node_class]
        if not 0 <= cumulative <= AMOUNT_MAX:
            raise ValueError(f"class {node_class}: {cumulative} is no amount of 64 bits")
        return keccak(
            b"\x00\x01"
            + self.chain_id.to_bytes(32, "big")
            + to_canonical_address(self.contract)
            + node_class.to_bytes(8, "big")
            + cumulative.to_bytes(8, "big")
        )

    def _missing(self, node_class: int) -> int:
        raise KeyError(f"class {node_class} is owed nothing by this root")

    @cached_property
    def _classes(self) -> list[int]:
        return sorted(self.owed)

    @cached_property
    def _levels(self) -> list[list[bytes]]:
        levels = [[self.leaf(node_class) for node_class in self._classes]]
        while len(levels[-1]) > 1:
            level = levels[-1]
            pairs = [keccak(b"\x01" + level[at] + level[at + 1]) for at in range(0, len(level) - 1, 2)]
            levels.append([*pairs, level[-1]] if len(level) % 2 else pairs)
        return levels
