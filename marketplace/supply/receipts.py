"""What a bidder keeps of its sealed bid, and what the trail keeps of whoever reads it once it is open.

A receipt holds the bid's commitment, the hash of the line by which it stands on the audit trail, and the sealed text in
clear, which only the bidder has. With the exported trail and `governance/offline.py` anybody it shows it to can check
that this bid, with these terms, was there in time. It does not hold the line's number: before close that would count
what others did between two bids.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from django.db import transaction

from marketplace.catalogue.models import Window
from marketplace.errors import NotYours, SealBroken, SealUnreadable
from marketplace.governance.models import AuditLine
from marketplace.governance.offline import RECEIPT_FORMAT
from marketplace.governance.services import record
from marketplace.parties.models import Party
from marketplace.supply.models import Bid
from marketplace.supply.sealing import own_text


def receipt_of(*, bid: Bid, party: Party) -> dict[str, Any]:
    """Return the receipt of a party's own bid. `text` is empty where the key of its own copy is lost.

    Raises NotYours for a bid of somebody else, and for one that was placed before there were seals.
    """
    seal = getattr(bid, "seal", None)
    line = AuditLine.objects.filter(action="place_bid", subject=str(bid.pk)).first()
    if bid.party_id != party.pk or seal is None or line is None:
        raise NotYours("There is no such bid.")
    try:
        text = own_text(bid, seal).decode()
    except (SealUnreadable, SealBroken):
        text = ""
    return {
        "format": RECEIPT_FORMAT, "bid": str(bid.pk), "reference": bid.reference, "window": str(bid.window_id),
        "window_name": bid.window.name, "placed_at": line.at.isoformat(), "commitment": bytes(seal.commitment).hex(),
        "line_hash": bytes(line.hash).hex(), "text": text,
    }  # fmt: skip


@transaction.atomic
def note_viewing(*, person: str, window: Window, bids: Iterable[Bid], now: datetime) -> None:
    """Leave a line of who saw which opened bids of a window; the same person and bids on the same day (UTC) are one."""
    seen = sorted(str(bid.pk) for bid in bids)
    digest = hashlib.sha256("".join(seen).encode()).hexdigest()
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    told = AuditLine.objects.filter(subject=window.name, action="view_opened_bids", actor=person, at__gte=today)
    if seen and not told.filter(facts__digest=digest).exists():
        record(actor=person, action="view_opened_bids", subject=window.name, reason="read in the console", now=now,
               bids=len(seen), digest=digest, ids=seen)  # fmt: skip
