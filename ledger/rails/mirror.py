"""What the contracts say about money, all at one block: the right-hand side of the reconciliation."""

from __future__ import annotations

from uuid import UUID

from ledger.connect import wallet_of
from ledger.models import Account, ChainAddress, ChainClass, ChainMark
from ledger.posting import USDC6_LEDGER
from ledger.rails.base import Chain, Head
from ledger.rails.evm import chain
from ledger.rails.indexer import MARK
from ledger.words import ChainWords


def read_words() -> ChainWords:
    """Every word the books mirror, in micro-USD, at the block up to which the indexer has booked.

    Before the first index run that is the finalized head. Raises `ContractUnknown` if nothing is deployed.
    """
    here = chain()
    at = _block(here)
    escrow, stake = here.address("escrow"), here.address("stake")

    def read(contract: str, function: str, *arguments: object) -> tuple[int, ...]:
        found = here.call(contract, function, *arguments, block=at.number)
        return found if isinstance(found, tuple) else (found,)

    buyers: dict[UUID, tuple[int, int]] = {}
    for row in ChainAddress.objects.filter(role="buyer").order_by("address"):
        _, free, locked, _, _ = read("escrow", "account_of", row.address)
        free_before, locked_before = buyers.get(row.party, (0, 0))
        buyers[row.party] = (free_before + free, locked_before + locked)
    classes, stakes = {}, {}
    for class_id in ChainClass.objects.order_by("class_id").values_list("class_id", flat=True):
        committed, payable, holdback, _ = read("escrow", "class_of", class_id)
        bonded, unbonding, _ = read("stake", "stake_of", class_id)
        classes[class_id] = (committed, payable, holdback)
        stakes[class_id] = bonded + unbonding
    kept = {wallet_of(row.party): row.address for row in ChainAddress.objects.filter(role="provider")}
    in_use = Account.objects.filter(ledger_id=USDC6_LEDGER, code="chain.wallet", scope__in=kept, debits_posted__gt=0)
    wallets = {row.scope: read("token", "balanceOf", kept[row.scope])[0] for row in in_use if row.scope is not None}
    *_, fees, pool, _ = read("escrow", "totals")
    return ChainWords(
        block_number=at.number,
        block_hash=at.hash,
        escrow_balance=read("token", "balanceOf", escrow)[0],
        stake_balance=read("token", "balanceOf", stake)[0],
        buyers=buyers,
        classes=classes,
        stakes=stakes,
        fees=fees,
        pool=pool,
        wallets=wallets,
    )


def _block(here: Chain) -> Head:
    mark = ChainMark.objects.filter(name=MARK).first()
    block = here.block(mark.block_number) if mark is not None else None
    return block or here.finalized()
