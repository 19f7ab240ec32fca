"""What classes could claim on chain if the Foundation fell silent: the root that each settlement publishes, and proofs.

A root owes each class, gross and since ever, what was settled plus what is judged and not settled yet. While all goes
well a class is credited by `settle` and has nothing to claim; after three days of silence it claims the difference out
of money locked for it, and the next settlement covers that instead of paying it again.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from django.db.models import F, Sum

from contracts.claims import ClaimProof, ClaimTree
from ledger.models import ChainEvent
from ledger.rails.evm import chain
from marketplace.errors import NotYours
from marketplace.escrow.models import Lease
from marketplace.parties.models import Party
from marketplace.payout.models import Settlement, SettlementLine
from marketplace.sla.models import Credit
from marketplace.supply.models import NodeClass

GENERATION_AT = 32  # bits of an epoch: above them the claims made since ever, below the place among the epochs


def owed_by_class() -> dict[int, int]:
    """Return gross micro-USD owed to each class since ever, by its number on chain: settled, or judged and not yet."""
    owed = Counter(_sums(SettlementLine.objects.all(), "earned_micros", "lease__node_class__chain_class"))
    judged = Lease.objects.filter(state="judged", settlement_line=None)
    owed.update(_sums(judged, "verdict__earned_micros", "node_class__chain_class"))
    credits = Credit.objects.filter(source="escrow", verdict__lease__in=judged)
    owed.subtract(_sums(credits, "amount_micros", "verdict__lease__node_class__chain_class"))
    return {number: micros for number, micros in sorted(owed.items()) if micros > 0}


def tree_of(owed: dict[int, int]) -> ClaimTree:
    """Return the tree over these debts for this installation's escrow contract."""
    return ClaimTree(chain_id=chain().chain_id, contract=chain().address("escrow"), owed=owed)


def generation() -> int:
    """Return how many claims have become final: the contract counts them in the upper half of its epoch."""
    return ChainEvent.objects.filter(contract="escrow", name="Claimed", final=True).count()


def generation_on_chain() -> int:
    """Return how many claims the newest block knows of, final or not."""
    return int(chain().call("escrow", "last_epoch")) >> GENERATION_AT


def uncovered_by_class() -> dict[int, int]:
    """Return gross micro-USD that each class has claimed and no settlement has covered, by its number on chain."""
    claimed: Counter[int] = Counter()
    for event in ChainEvent.objects.filter(contract="escrow", name="Claimed", final=True):
        claimed[event.args["node_class"]] += int(event.args["gross"])
    claimed.subtract(_sums(SettlementLine.objects.all(), "covered_micros", "lease__node_class__chain_class"))
    return {number: micros for number, micros in claimed.items() if micros > 0}


def published() -> Settlement | None:
    """Return the settlement whose root stands on chain, or None before the first."""
    root = bytes(chain().call("escrow", "claim_root"))
    return Settlement.objects.filter(root=root).order_by("-epoch", "-id").first()


def proofs_of(party: Party) -> dict[str, Any]:
    """Return a provider's proofs from the root that stands on chain, as a document it can keep and use without us.

    Raises `NotYours` before a root is published.
    """
    settlement = published()
    if settlement is None:
        raise NotYours("No settlement has published a root yet.")
    tree = tree_of({int(number): micros for number, micros in settlement.owed.items()})
    numbers = NodeClass.objects.filter(party=party).order_by("chain_class").values_list("chain_class", flat=True)
    return {
        "chain_id": tree.chain_id, "escrow": tree.contract, "epoch": settlement.epoch,
        "root": "0x" + tree.root.hex(), "function": "claim(uint64,uint64,uint256,uint256,bytes32[])",
        "claims": [_document(tree.proof(number)) for number in numbers if number in tree.owed],
    }  # fmt: skip


def _document(proof: ClaimProof) -> dict[str, Any]:
    return {
        "node_class": proof.node_class, "cumulative_micros": proof.cumulative, "index": proof.index,
        "leaves": proof.leaves, "proof": ["0x" + sister.hex() for sister in proof.sisters],
    }  # fmt: skip


def _sums(rows: Any, amount: str, number: str) -> dict[int, int]:
    return dict(rows.values(no=F(number)).annotate(micros=Sum(amount)).values_list("no", "micros"))
