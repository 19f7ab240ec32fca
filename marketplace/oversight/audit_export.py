"""The audit trail as a file that an outsider checks alone; see `governance/offline.py`.

A trail that says when a sealed bid came would say that there is one, and one that stops there would too. So an export
ends where the oldest window that still takes bids began to: what it holds is whole, whether or not anybody has bid.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Min

from marketplace.catalogue.models import Window
from marketplace.governance.models import AuditLine
from marketplace.governance.offline import FORMAT, GENESIS
from marketplace.governance.services import record
from marketplace.parties.models import Seat
from marketplace.parties.roles import require_act

CHUNK = 2_000


@transaction.atomic
def export_audit(*, seat: Seat, now: datetime) -> bytes:
    """The trail as lines of JSON under a header with its length and last hash. That it was taken goes on the trail."""
    require_act(seat, "export", "export the audit trail")
    taking_bids = Window.objects.filter(state="BIDDING").values("name")
    began = AuditLine.objects.filter(action="move_window", subject__in=taking_bids, facts__to_state="BIDDING")
    end = began.aggregate(first=Min("no"))["first"]
    rows = AuditLine.objects.order_by("no")
    lines = [_line(row) for row in (rows.filter(no__lte=end) if end else rows).iterator(chunk_size=CHUNK)]
    head = lines[-1]["hash"] if lines else GENESIS
    header = {"format": FORMAT, "lines": len(lines), "head": head, "exported_at": now.isoformat()}
    record(actor=seat.user.email, action="export_audit", subject="audit trail", reason="export", now=now,
           lines=len(lines), head=head)  # fmt: skip
    return b"".join(json.dumps(row, ensure_ascii=False, sort_keys=True).encode() + b"\n" for row in (header, *lines))


def _line(row: AuditLine) -> dict[str, Any]:
    return {
        "no": row.no, "at": row.at.isoformat(), "actor": row.actor, "action": row.action, "subject": row.subject,
        "reason": row.reason, "facts": row.facts, "prev_hash": bytes(row.prev_hash).hex(),
        "hash": bytes(row.hash).hex(),
    }  # fmt: skip
