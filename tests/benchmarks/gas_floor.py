"""What the EVM charges in any case: the floors that the gas figures are held against, from its price list (Prague).

Each floor counts what no layout of one word per balance avoids: the transaction, the bytes that carry information, each
slot read once and written once, one hash per slot, one recovery per signature. No instruction in between is counted.
"""

from __future__ import annotations

from typing import Final

TRANSACTION: Final = 21_000
BYTE: Final = 16  # of calldata, not zero (EIP-2028)
WORD: Final = 32 * BYTE
COLD_READ: Final = 2_100  # EIP-2929
REWRITE: Final = 2_900  # of a slot that was read and was not zero
FRESH: Final = 22_100  # a slot that was zero, cold
COLD_ACCOUNT: Final = 2_600
RECOVERY: Final = 3_000  # the ecrecover precompile
SLOT_HASH: Final = 30 + 6 * 2  # keccak of two words: where a mapping's slot stands

# A settled balance: its word of calldata, its slot read and written.
LINE: Final = WORD + COLD_READ + REWRITE + SLOT_HASH
LINE_SHOWN: Final = (
    f"line = {WORD} (32 bytes of calldata) + {COLD_READ} (cold read) + {REWRITE} (rewrite) + {SLOT_HASH} (hash of the"
    f" slot) = {LINE}"
)

# A mandate: 20 bytes of buyer, 4 window, 8 spend, 32 + 32 masks, 1 tier, 8 nonce, 5 expiry, 65 signature; the hash of
# its nine words, the digest of 66 bytes, a recovery, the buyer's index read, its account read and written.
MANDATE_BYTES: Final = 20 + 4 + 8 + 32 + 32 + 1 + 8 + 5 + 65
MANDATE: Final = (
    MANDATE_BYTES * BYTE + (30 + 6 * 9) + (30 + 6 * 3) + RECOVERY
    + COLD_READ + SLOT_HASH + COLD_READ + REWRITE + SLOT_HASH
)  # fmt: skip
# A class: 8 bytes, its word of the stake contract read, its committed money read and written.
CLASS: Final = 8 * BYTE + COLD_READ + SLOT_HASH + COLD_READ + REWRITE + SLOT_HASH
# A lease: two positions and an amount, and its word of the batch's hash.
LEASE: Final = (2 + 2 + 8) * BYTE + 6
# A call: the stake contract, two fresh slots and the last hash of the batch chain.
LOCK_CALL: Final = TRANSACTION + COLD_ACCOUNT + 2 * FRESH + COLD_READ
LOCK_SHOWN: Final = (
    f"lock = {LOCK_CALL} a call (with two fresh slots) + {MANDATE} a mandate ({MANDATE_BYTES} bytes, signature"
    f" recovered) + {CLASS} a class + {LEASE} a lease"
)


def settle_floor(payees: int, buyers: int, calls: int = 1) -> int:
    """Least gas of settling so many balances in so many calls."""
    return calls * TRANSACTION + (payees + buyers) * LINE


def lock_floor(leases: int, payees: int, buyers: int, calls: int = 1) -> int:
    """Least gas of locking so many leases under one mandate a buyer."""
    return calls * LOCK_CALL + buyers * MANDATE + payees * CLASS + leases * LEASE
