"""Evidence of verdicts: its root is made public each day, and anybody can check a receipt against it.

    leaf = evidence hash of a verdict     node = keccak(0x01 || left || right), by position; an odd node is promoted
    root of a UTC day = over its verdicts by id, then those on typed targets by id; kept by the anchor contract under
    2^31 + days since 1970

The anchor contract keeps clearing bundles under the windows' numbers; the days of evidence stand beyond them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Max
from eth_hash.auto import keccak

from ledger.epochs import merkle_root
from ledger.rails import sender
from ledger.rails.evm import chain
from marketplace.delivery.evidence_models import ProbeReport, SlotReport
from marketplace.delivery.models import Reading
from marketplace.governance.services import record
from marketplace.sla.models import EvidenceDay, TargetVerdict, Verdict
from marketplace.sla.performance import checks_of
from marketplace.sla.rules import hash_of
from marketplace.sla.services import evidence_body

ANCHOR_FROM = 2**31
FIRST_DAY = date(1970, 1, 1)
JUDGED: tuple[type[Verdict] | type[TargetVerdict], ...] = (Verdict, TargetVerdict)


def anchor_number(day: date) -> int:
    """The number under which the anchor contract keeps a day's root."""
    return ANCHOR_FROM + (day - FIRST_DAY).days


@transaction.atomic
def seal_evidence(*, now: datetime) -> int:
    """Ask the chain to keep the root of each day that is over and has verdicts; returns how many days."""
    today = now.astimezone(UTC).date()
    last = EvidenceDay.objects.aggregate(last=Max("day"))["last"]
    span = {"judged_at__lt": datetime(today.year, today.month, today.day, tzinfo=UTC)}
    if last:
        after = last + timedelta(days=1)
        span["judged_at__gte"] = datetime(after.year, after.month, after.day, tzinfo=UTC)
    judged = {
        at for model in JUDGED for at in model._default_manager.filter(**span).values_list("judged_at", flat=True)
    }
    days = sorted({at.astimezone(UTC).date() for at in judged})
    for day in days:
        leaves = leaves_of(day)
        root, number = merkle_root(leaves), anchor_number(day)
        sealed = EvidenceDay.objects.create(
            day=day, root=root, verdicts=len(leaves), anchor_number=number, intent_key=f"evidence:{day}", made_at=now
        )
        sender.submit(key=sealed.intent_key, role="anchor", contract="anchor", function="bundle",
                      args=[number, root], now=now)  # fmt: skip
        record(actor="market", action="seal_evidence", subject=day.isoformat(), reason="the day is over", now=now,
               root=root.hex(), verdicts=len(leaves))  # fmt: skip
    return len(days)


def leaves_of(day: date) -> list[bytes]:
    """The evidence hashes of a day's verdicts on leases and on their targets, each by id."""
    return [digest for _, digest in _leaves(day)]


def _leaves(day: date) -> list[tuple[UUID, bytes]]:
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    span = {"judged_at__gte": start, "judged_at__lt": start + timedelta(days=1)}
    return [
        (key, bytes(digest))
        for model in JUDGED
        for key, digest in model._default_manager.filter(**span).order_by("id").values_list("pk", "evidence_hash")
    ]


def receipt_of(verdict: Verdict) -> dict[str, Any]:
    """What anybody needs to check a verdict against the chain: its evidence, the hash, and the path to a root.

    Before its day is sealed there is no path yet: `day` is null.
    """
    rows = list(Reading.objects.filter(lease=verdict.lease).order_by("slot"))
    return _receipt(verdict, evidence_body(verdict.lease, rows, checks_of(verdict.lease)))


def receipt_of_target(verdict: TargetVerdict) -> dict[str, Any]:
    """The same of a verdict on one typed target."""
    return _receipt(verdict, verdict.evidence)


def _receipt(verdict: Verdict | TargetVerdict, evidence: Sequence[Any]) -> dict[str, Any]:
    day = verdict.judged_at.astimezone(UTC).date()
    sealed = EvidenceDay.objects.filter(pk=day).first()
    receipt: dict[str, Any] = {
        "evidence": evidence, "evidence_hash": bytes(verdict.evidence_hash).hex(),
        "rule_version": verdict.rule_version, "day": None,
    }  # fmt: skip
    if sealed is not None:
        place = [key for key, _ in _leaves(day)].index(verdict.pk)
        receipt["day"] = {
            "day": day.isoformat(), "anchor_number": sealed.anchor_number, "root": bytes(sealed.root).hex(),
            "path": [[side, sister.hex()] for side, sister in _path(leaves_of(day), place)],
            "anchor_contract": chain().address("anchor"),
        }  # fmt: skip
    return receipt


def statements_of(verdict: Verdict, slot: int) -> list[dict[str, str]]:
    """Every signed statement about one slot of a verdict's lease, as it came: body, signature, and who signed."""
    where = {"lease": verdict.lease, "slot": slot}
    probes = ProbeReport.objects.filter(**where).select_related("verifier")
    signed = [(each.verifier.slug, each) for each in probes]
    signed += [(each.source, each) for each in SlotReport.objects.filter(**where)]
    return [
        {"by": by, "body": bytes(each.body).decode(), "signature": bytes(each.signature).hex()} for by, each in signed
    ]


def check_receipt(receipt: Mapping[str, Any], *, root: bytes | None = None) -> list[str]:
    """What is wrong with a receipt; nothing when its words give its hash and its path leads to the root.

    `root` is the one that the anchor contract keeps; without it the one that the receipt names is taken.
    """
    digest = bytes.fromhex(receipt["evidence_hash"])
    wrong = [] if hash_of(receipt["evidence"]) == digest else ["the evidence gives another hash"]
    day = receipt["day"]
    if day is None:
        return [*wrong, "its day is not sealed yet"]
    here = digest
    for side, sister in day["path"]:
        other = bytes.fromhex(sister)
        here = keccak(b"\x01" + (other + here if side == "left" else here + other))
    kept = bytes.fromhex(day["root"]) if root is None else root
    return wrong if here == kept else [*wrong, "the path leads to another root"]


def check_statements(statements: Sequence[Mapping[str, str]], statements_hash: str) -> bool:
    """Whether these statements are all that a slot's hash covers."""
    leaves = sorted(
        hashlib.sha256(bytes.fromhex(each["signature"]) + each["body"].encode()).digest() for each in statements
    )
    return hashlib.sha256(b"".join(leaves)).hexdigest() == statements_hash


def _path(leaves: Sequence[bytes], place: int) -> list[tuple[str, bytes]]:
    level, sisters = list(leaves), []
    while len(level) > 1:
        sister = place ^ 1
        if sister < len(level):
            sisters.append(("left" if sister < place else "right", level[sister]))
        pairs = [keccak(b"\x01" + level[n] + level[n + 1]) for n in range(0, len(level) - 1, 2)]
        level, place = [*pairs, level[-1]] if len(level) % 2 else pairs, place // 2
    return sisters
