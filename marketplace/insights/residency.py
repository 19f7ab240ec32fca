"""Evidence of residency for one lease (M-090, phase 4): where it ran, under whose control, and what shows it.

A document that stands alone: the rules as the lists stood on the day, the facts of site and owner, the accepted
evidence by its hash, every signed reading by its hash. Whoever reads it can judge it again with `findings_of`. It is
written for delivered leases with a rule about place only, and that it was taken goes on the audit trail with its hash.
Evidence, not legal advice.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import Any

from django.db import transaction

from marketplace.catalogue.models import Zone
from marketplace.catalogue.selectors import zone_countries
from marketplace.compliance.holdings import Span, counts_for, live_evidence
from marketplace.errors import NotEligible, NotYours
from marketplace.escrow.models import Lease
from marketplace.governance.services import record
from marketplace.parties.models import Party
from marketplace.supply.changes import as_of

FORMAT = "grove-residency-1"
EXPORT = "export_residency"  # the action under which the trail keeps it, and the gate of phase 4 counts it
DELIVERED = ("delivered", "judged", "settled")


@transaction.atomic
def export_residency(*, lease: Lease, party: Party, person: str, now: datetime) -> bytes:
    """Return the document as canonical JSON. Raises NotYours, or NotEligible (fact `rule`: delivered, residency)."""
    related = ("demand__zone", "demand__control_zone", "node_class__site", "provider", "window", "clearing")
    row = Lease.objects.filter(pk=lease.pk, buyer=party).select_related(*related).first()
    if row is None:
        raise NotYours("There is no such lease.")
    if row.state not in DELIVERED:
        raise NotEligible("Residency is shown of what was delivered.", rule="delivered", state=row.state)
    if row.demand.zone is None and row.demand.control_zone is None:
        raise NotEligible("This lease had no rule about place.", rule="residency")
    document = _document(row, now)
    body = json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
    record(
        actor=person, action=EXPORT, subject=row.pk, reason="evidence of residency", now=now,
        sha256=hashlib.sha256(body).hexdigest(), is_kept=all(kept for _, kept in findings_of(document)),
    )  # fmt: skip
    return body


def findings_of(document: dict[str, Any]) -> list[tuple[str, bool]]:
    """Judge a document by its own facts: each rule, and whether it was kept in every hour that was delivered."""
    rules, facts = document["rules"], document["facts"]
    found = [("something was delivered", facts["slots"] > 0 and len(facts["readings"]) == facts["slots"])]
    if rules["zone"]:
        found.append(("the site stands inside the zone", facts["site_country"] in rules["zone"]["members"]))
    if rules["control_zone"]:
        members = rules["control_zone"]["members"]
        found += [(f"{name} is inside the zone of control", facts[name] in members)
                  for name in ("parent_country", "operator_country", "keys_country")]  # fmt: skip
    return [*found, ("evidence of the site was accepted", bool(document["evidence"]))]


def _document(lease: Lease, now: datetime) -> dict[str, Any]:
    demand, on = lease.demand, lease.window.starts_at.date()
    site, was = lease.node_class.site, as_of(lease.node_class.site, lease.window.ends_at)
    readings = lease.readings.order_by("slot").values_list("slot", "report")
    return {
        "format": FORMAT, "note": "Evidence, not legal advice.", "made_at": now.isoformat(), "lease": str(lease.pk),
        "window": {"name": lease.window.name, "from": lease.window.slot_at(lease.start_slot).isoformat(),
                   "until": lease.window.slot_at(lease.until_slot).isoformat(),
                   "bundle_sha256": bytes(lease.clearing.bundle_hash).hex()},
        "rules": {"zone": _zone(demand.zone, on), "control_zone": _zone(demand.control_zone, on),
                  "tier_min": demand.tier_min, "data_class": demand.data_class_id},
        "facts": {
            "provider": lease.provider.slug, "site": site.code, "city": was["city"], "site_country": was["country"],
            "operator_country": was["operator_country"], "keys_country": was["keys_country"],
            "parent_country": lease.provider.ultimate_country, "tier": lease.node_class.tier,
            "slots": len(readings),
            "readings": [[slot, hashlib.sha256(bytes(report)).hexdigest()] for slot, report in readings],
        },
        "evidence": _evidence(lease),
    }  # fmt: skip


def _zone(zone: Zone | None, on: Any) -> dict[str, Any] | None:
    if zone is None:
        return None
    members = sorted(zone_countries(zone.code, on))
    return {"code": zone.code, "source": zone.source, "on": on.isoformat(), "members": members}


def _evidence(lease: Lease) -> list[dict[str, str]]:
    """Accepted documents of the site that held through the whole window."""
    rows = live_evidence(Span(lease.window.starts_at, lease.window.ends_at)).filter(party=lease.provider_id)
    return [
        {"control": row.control_id, "issuer": row.issuer, "sha256": bytes(row.sha256).hex(),
         "valid_from": row.valid_from.isoformat(), "valid_until": row.valid_until.isoformat()}
        for row in rows.order_by("control_id", "id") if row.site_id in (None, lease.node_class.site_id)
        and counts_for(lease.node_class.site, row.control_id, row.submitted_at, lease.window.ends_at)
    ]  # fmt: skip
