"""The last version of each lease's documentation pack: with its logs, once the lease is settled; and the check of all.

The logs are named by digest: how many readings, the chain of their signed reports, the verdict and what followed. The
readings themselves are in the lease's own record.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction

from marketplace.catalogue.models import Window
from marketplace.delivery.models import Reading
from marketplace.escrow.models import Lease
from marketplace.escrow.pack_models import LeasePack
from marketplace.escrow.packs import make_packs, whole
from marketplace.governance.models import AuditLine
from marketplace.oversight.models import WindDown


@transaction.atomic
def complete_packs(*, window: Window, now: datetime) -> int:
    """Write the last version of the pack of every settled lease of a window; again writes nothing."""
    locked = Window.objects.select_for_update().get(pk=window.pk)
    rows = Lease.objects.filter(window=locked, state="settled").exclude(packs__stage="end")
    leases = whole(rows.select_related("verdict__credit"))
    return make_packs(leases=leases, stage="end", logs=_logs(leases), now=now)


def _logs(leases: list[Lease]) -> dict[UUID, dict[str, Any]]:
    readings: dict[UUID, list[tuple[int, bytes, int]]] = defaultdict(list)
    rows = Reading.objects.filter(lease__in=leases).order_by("lease", "slot")
    for lease_id, slot, report, signature, earned in rows.values_list(
        "lease_id", "slot", "report", "signature", "earned_micros"
    ).iterator(chunk_size=2_000):
        line = hashlib.sha256(slot.to_bytes(4, "big") + bytes(report) + bytes(signature)).digest()
        readings[lease_id].append((slot, line, earned))
    downs: dict[UUID, list[dict[str, Any]]] = defaultdict(list)
    for down in WindDown.objects.filter(lease__in=leases).order_by("pk"):
        downs[down.lease_id].append({"cause": down.cause, "sentence": down.sentence, "at": down.at.isoformat()})
    return {lease.pk: _log(lease, readings[lease.pk], downs[lease.pk]) for lease in leases}


def _log(lease: Lease, readings: list[tuple[int, bytes, int]], downs: list[dict[str, Any]]) -> dict[str, Any]:
    verdict = lease.verdict
    credit = getattr(verdict, "credit", None)
    return {
        "readings": len(readings), "first_hour": readings[0][0] if readings else None,
        "last_hour": readings[-1][0] if readings else None,
        "digest": hashlib.sha256(b"".join(line for _, line, _ in readings)).hexdigest(),
        "earned_micros": str(sum(earned for *_, earned in readings)),
        "verdict": {
            "rules": verdict.rule_version, "evidence": bytes(verdict.evidence_hash).hex(),
            "availability_ppm": verdict.availability_ppm, "is_breach": verdict.is_breach,
            "credit_micros": str(credit.amount_micros if credit else 0),
        },
        "wind_downs": downs,
    }  # fmt: skip


def wrong_packs() -> Iterator[str]:
    """Yield what does not fit: a pack whose body is not its hash, or whose hash is not on the trail."""
    told = {
        (subject, facts["version"]): facts["sha256"]
        for subject, facts in AuditLine.objects.filter(action="make_pack").values_list("subject", "facts")
    }
    for pack in LeasePack.objects.order_by("pk").iterator(chunk_size=500):
        digest = hashlib.sha256(bytes(pack.body)).hexdigest()
        if digest != bytes(pack.sha256).hex():
            yield f"version {pack.version} of {pack.lease_id} is not what its hash says"
        elif told.get((str(pack.lease_id), pack.version)) != digest:
            yield f"version {pack.version} of {pack.lease_id} is not the one on the trail"
