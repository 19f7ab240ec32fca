"""Coin for gas: what each sending key holds against what its calls may cost, and coin sent to one that is short.

Gas is free on the embedded chain, so nothing is looked at there. On a node a call whose key cannot pay for it at its
highest price waits with that reason; nobody has to guess it from what a node says to the bytes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime

from django.conf import settings
from django.db import transaction
from django.db.models import F

from ledger.ids import uuid7
from ledger.models import ChainAttempt, ChainIntent, KeyCoin
from ledger.rails.base import Chain
from ledger.rails.errors import KeyOutOfGasMoney
from ledger.rails.signer import signer
from ledger.rails.stuck import GWEI, TRANSFER_GAS

FUNDER = "funder"  # the key that other keys get coin from, in development
COIN, TRANSFER = "coin", "transfer"
OPEN = (ChainIntent.State.QUEUED, ChainIntent.State.SIGNED, ChainIntent.State.SENT)


class Purse:
    """What the keys can pay for in one batch, in order: behind the first call of a key that it cannot pay, all wait."""

    def __init__(self, here: Chain, fees: Mapping[str, int]) -> None:
        self.here, self.price_wei = here, fees.get("maxFeePerGas", 0)
        self.held_wei: dict[str, int] = {}
        self.needed_wei: dict[str, int] = defaultdict(int)

    def pay(self, row: ChainIntent, gas_limit: int) -> None:
        """Take a call at its highest price off what its key holds. Raises `KeyOutOfGasMoney`; nothing is taken then."""
        if self.here.embedded is not None:
            return
        if row.role not in self.held_wei:
            self.held_wei[row.role] = self.here.coin_wei(signer().address(row.role))
            self.needed_wei[row.role] = _under_way_wei(row.role)
        cost_wei = gas_limit * self.price_wei + row.value_gwei * GWEI
        self.needed_wei[row.role] += cost_wei
        held_wei, needed_wei = self.held_wei[row.role], self.needed_wei[row.role]
        if needed_wei > held_wei:
            raise KeyOutOfGasMoney(
                f"The key {row.role} holds {_coins(held_wei)} for gas, its calls may cost {_coins(needed_wei)}.",
                role=row.role, held_wei=held_wei, needed_wei=needed_wei,
            )  # fmt: skip


def _under_way_wei(role: str) -> int:
    """What the calls of a key that are signed and not final may take at most, also those that are in a block."""
    newest: dict[object, int] = {}
    for attempt in ChainAttempt.objects.filter(
        intent__role=role, intent__state__in=OPEN
    ).annotate(gas=F("intent__gas_limit"), coin=F("intent__value_gwei")).order_by("pk").defer("raw"):
        carries = attempt.coin if attempt.kind == ChainAttempt.Kind.CALL else 0
        newest[attempt.intent_id] = attempt.max_fee * (attempt.gas or 0) + carries * GWEI
    return sum(newest.values())


@transaction.atomic
def keep(purse: Purse, now: datetime) -> None:
    """Keep what was seen of each key, and ask for coin for those that are short, where a funding key may give it."""
    for role, held_wei in purse.held_wei.items():
        KeyCoin.objects.update_or_create(
            role=role,
            defaults={
                "address": signer().address(role), "held_gwei": held_wei // GWEI,
                "needed_gwei": -(-purse.needed_wei[role] // GWEI), "looked_at": now,
            },
        )  # fmt: skip
        if role != FUNDER and settings.CHAIN_TOP_UP_GWEI and purse.needed_wei[role] > held_wei:
            _top_up(role, max(int(settings.CHAIN_TOP_UP_GWEI), -(-(purse.needed_wei[role] - held_wei) // GWEI)), now)


def _top_up(role: str, gwei: int, now: datetime) -> None:
    """Ask for one transfer at a time, so that a short key is not filled twice while the first is under way."""
    before = ChainIntent.objects.filter(contract=COIN, key__startswith=f"gas:{role}:")
    if not before.filter(state__in=OPEN).exists():
        ChainIntent.objects.create(
            id=uuid7(now), key=f"gas:{role}:{before.count()}", role=FUNDER, contract=COIN, function=TRANSFER,
            to_address=signer().address(role), calldata=b"", value_gwei=gwei, gas_limit=TRANSFER_GAS, created_at=now,
        )  # fmt: skip


def _coins(wei: int) -> str:
    """An amount in whole coins, to the billionth, rounded down."""
    whole, rest = divmod(wei // GWEI, GWEI)
    return f"{whole}.{rest:09d}"
