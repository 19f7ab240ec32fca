"""The roots of the books against those on chain: a history that was rewritten whole, epochs and all, shows here only.

Books that were changed together with their epochs and balances agree with themselves. The anchor contract never
rewrites a root, so it still holds the one of the transfers that were there when the epoch was closed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ledger.epochs import NO_ROOT
from ledger.models import ChainContract, Epoch, EpochAnchor
from ledger.rails.evm import chain
from ledger.reconcile import Finding
from ledger.services import USDC6_LEDGER

SHOWN = 3


def check_anchors() -> Finding:
    """Compare every epoch of the stablecoin's ledger with the root that the anchor contract keeps of it.

    Epochs that no transaction has made public yet are counted and are no fault.
    """
    here = chain()
    if not ChainContract.objects.filter(chain_id=here.chain_id, name="anchor").exists():
        return Finding("L8", True, "there is no anchor contract yet")
    last = here.call("anchor", "last_epoch")
    wrong = list(_wrong(last, lambda no: bytes(here.call("anchor", "root_of", no))))
    waiting = Epoch.objects.filter(ledger=USDC6_LEDGER, no__gt=last).count()
    agree = f"{last} epochs have on chain the root that the books give, {waiting} are not on chain yet"
    return Finding("L8", not wrong, "; ".join(wrong[:SHOWN]) or agree)


def _wrong(last: int, root_of: Callable[[int], bytes]) -> Iterator[str]:
    roots = {epoch.no: bytes(epoch.root) for epoch in Epoch.objects.filter(ledger=USDC6_LEDGER)}
    for no in range(1, last + 1):
        if roots.get(no, NO_ROOT) != root_of(no):
            yield f"epoch {no}: the chain keeps {_hex(root_of(no))}, the books give {_hex(roots.get(no))}"
    for no in EpochAnchor.objects.filter(ledger=USDC6_LEDGER, no__gt=last).order_by("no").values_list("no", flat=True):
        yield f"epoch {no} is said to be on chain, and is not"


def _hex(root: bytes | None) -> str:
    return f"0x{root.hex()}" if root else "none"
