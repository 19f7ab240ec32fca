"""The documentation pack of each lease: provider, data location, versions, certificates, record of processing, logs.

The first version is written with the lease, the last with its settlement, when the logs are whole. A lease whose data
is flagged as high-risk (its data class or its own rules ask for a control of kind "pack") is not locked without one;
what the pack would lack is then the reason of the refusal. The body is canonical JSON: the same bytes from the same
facts, so its SHA-256 on the audit trail is what anybody compares with. Evidence, not legal advice.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from ledger.ids import uuid7
from ledger.models import ChainContract
from marketplace.catalogue.models import Window, Zone
from marketplace.compliance.holdings import Span, live_evidence
from marketplace.compliance.models import Agreement, Control, Evidence, ZoneChange
from marketplace.demand.models import Demand
from marketplace.escrow.models import Lease
from marketplace.escrow.pack_models import LeasePack
from marketplace.governance.services import Deed, record_all
from marketplace.parties.models import Party
from marketplace.supply.models import Benchmark, Bid, NodeClass

FORMAT = "grove-lease-pack-1"
NOTE = "Evidence, not legal advice."


def canonical(document: dict[str, Any]) -> bytes:
    """The bytes of a pack: keys sorted, no space, UTF-8."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def flagged_controls() -> set[str]:
    """The controls that flag what asks for them as high-risk."""
    return set(Control.objects.filter(kind="pack").values_list("code", flat=True))


def asks_for_pack(demand: Demand, flags: Collection[str]) -> set[str]:
    """Which of the flagging controls a demand asks for, by its data class or by itself."""
    of_data = demand.data_class.controls if demand.data_class else []
    return {*demand.required_controls, *of_data} & set(flags)


def undocumented(pairs: Iterable[tuple[Demand, Bid]], window: Window) -> dict[tuple[Demand, Bid], str]:
    """Say of each flagged pair what its mandatory pack would lack through the window; pairs that lack nothing are out.

    Its technical documentation has to be in force, and its machines to have been measured.
    """
    flags = flagged_controls()
    asked = {pair: codes for pair in pairs if (codes := asks_for_pack(pair[0], flags))}
    if not asked:
        return {}
    shown = _evidence({bid.party_id for _, bid in asked}, Span(window.starts_at, window.ends_at))
    measured = set(Benchmark.objects.filter(node_class__in=[bid.node_class_id for _, bid in asked])
                   .values_list("node_class_id", flat=True))  # fmt: skip
    found = {}
    for (demand, bid), codes in asked.items():
        held = {row.control_id for row in shown[bid.party_id] if row.site_id in (None, bid.node_class.site_id)}
        lacks = sorted(codes - held) + ([] if bid.node_class_id in measured else ["a benchmark of its machines"])
        if lacks:
            found[demand, bid] = f"Its documentation pack is mandatory and lacks: {', '.join(lacks)}."[:200]
    return found


def write_packs(*, window: Window, now: datetime) -> int:
    """Write the first pack of every lease of a window that is not refused, each with its line on the trail."""
    rows = Lease.objects.filter(window=window, packs=None).exclude(state="refused")
    return make_packs(leases=whole(rows), stage="start", logs={}, now=now)


def whole(rows: Any) -> list[Lease]:
    """These leases with all that a pack says of them, in their order."""
    return list(rows.select_related(
        "window", "demand__data_class", "demand__zone", "demand__control_zone", "buyer__parent", "provider__parent",
        "node_class__site", "node_class__resource_class", "clearing", "mandate",
    ).order_by("pk"))  # fmt: skip


def make_packs(*, leases: list[Lease], stage: str, logs: dict[UUID, dict[str, Any]], now: datetime) -> int:
    """Write the next version of the pack of each of these leases; returns how many."""
    if not leases:
        return 0
    facts = _Facts(leases)
    versions: dict[UUID, int] = defaultdict(int)
    for lease_id, version in LeasePack.objects.filter(lease__in=leases).values_list("lease_id", "version"):
        versions[lease_id] = max(versions[lease_id], version)
    packs, deeds = [], []
    for lease in leases:
        version = versions[lease.pk] + 1
        body = canonical(facts.document(lease, version, stage, logs.get(lease.pk, {}), now))
        digest = hashlib.sha256(body).digest()
        packs.append(LeasePack(id=uuid7(now), lease=lease, version=version, stage=stage, body=body, sha256=digest,
                               made_at=now))  # fmt: skip
        deeds.append(Deed("market", "make_pack", str(lease.pk), f"documentation pack at its {stage}",
                          {"version": version, "sha256": digest.hex()}))  # fmt: skip
    LeasePack.objects.bulk_create(packs)
    record_all(deeds=deeds, now=now)
    return len(packs)


class _Facts:
    """What the packs of some leases say, read once for all of them."""

    def __init__(self, leases: list[Lease]) -> None:
        self._flags = flagged_controls()
        # A lease's evidence is what holds at its first hour; that it still holds is watched while it runs.
        starts = {lease.window.starts_at for lease in leases}
        providers = {lease.provider_id for lease in leases}
        self._evidence = {at: _evidence(providers, Span.instant(at)) for at in starts}
        self._contracts = dict(ChainContract.objects.values_list("name", "address"))
        benchmarks = Benchmark.objects.filter(node_class__in={lease.node_class_id for lease in leases})
        self._benchmarks: dict[UUID, list[Benchmark]] = defaultdict(list)
        for row in benchmarks.defer("transcript", "message").order_by("epoch"):
            self._benchmarks[row.node_class_id].append(row)
        self._agreements = list(Agreement.objects.filter(
            buyer__in={lease.buyer_id for lease in leases}, provider__in=providers, end=None
        ).defer("body").order_by("proposed_at", "pk"))  # fmt: skip
        self._zone_versions: dict[str, int] = {}
        for change in ZoneChange.objects.order_by("version").values("zone_id", "version"):
            self._zone_versions[change["zone_id"]] = change["version"]

    def document(
        self, lease: Lease, version: int, stage: str, logs: dict[str, Any], now: datetime
    ) -> dict[str, Any]:
        window, node_class = lease.window, lease.node_class
        evidence = [
            _certificate(row) for row in self._evidence[window.starts_at][lease.provider_id]
            if row.site_id in (None, node_class.site_id)
        ]  # fmt: skip
        return {
            "format": FORMAT, "note": NOTE, "version": version, "stage": stage, "made_at": _iso(now),
            "lease": {
                "id": str(lease.pk), "reference": lease.demand.reference, "window": window.name,
                "from": _iso(window.slot_at(lease.start_slot)), "until": _iso(window.slot_at(lease.end_slot)),
                "unit_hours": lease.unit_hours, "fee_micros": str(lease.fee_micros), "sla_bps": lease.sla_bps,
                "pack_is_mandatory": bool(asks_for_pack(lease.demand, self._flags)),
            },
            "provider": _party(lease.provider) | {"kind": lease.provider.kind},
            "data_location": _place(lease, node_class, self._zone_versions),
            "versions": self._versions(lease, node_class),
            "certificates": evidence,
            "processing_record": self._processing(lease, evidence),
            "logs": logs,
        }  # fmt: skip

    def _versions(self, lease: Lease, node_class: NodeClass) -> dict[str, Any]:
        benchmark = next((row for row in reversed(self._benchmarks[node_class.pk])), None)
        return {
            "contracts": self._contracts, "clearing_bundle": bytes(lease.clearing.bundle_hash).hex(),
            "resource_class": node_class.resource_class_id, "claimed_name": node_class.claimed_name,
            "node_class_on_chain": node_class.chain_class,
            "benchmark": None if benchmark is None else {
                "epoch": benchmark.epoch, "kind": benchmark.get_kind_display(),
                "transcript": bytes(benchmark.transcript_hash).hex(), "parameters": bytes(benchmark.params_hash).hex(),
                "finished": _iso(benchmark.finished_at), "is_simulated": benchmark.is_simulated,
            },
        }  # fmt: skip

    def _processing(self, lease: Lease, evidence: list[dict[str, Any]]) -> dict[str, Any]:
        """The record of processing (M-063): who for whom, what, why, where, until when, under which measures."""
        demand, data = lease.demand, lease.demand.data_class
        papers = [row for row in self._agreements if (row.buyer_id, row.provider_id) == (lease.buyer_id,
                                                                                        lease.provider_id)]  # fmt: skip
        return {
            "controller": _party(lease.buyer), "processor": _party(lease.provider),
            "categories_of_data": data.name if data else "none named by the buyer",
            "data_class": data.pk if data else None, "rule_of_the_class": data.source if data else None,
            "purpose": demand.purpose or "compute under this lease",
            "place": lease.node_class.site.country,
            "transfers": {
                "allowed_countries_of": demand.zone_id or (data.zone_id if data else None) or "no rule",
                "under_control_of": demand.control_zone_id or "no rule",
                "to_other_countries": "none: the machines stand at one site",
            },
            "kept_until": _iso(lease.window.slot_at(lease.until_slot)),
            "agreements": [
                {"control": row.control_id, "sha256": bytes(row.sha256).hex(), "purposes": list(row.purposes),
                 "valid_until": _iso(row.valid_until)} for row in papers
            ],
            "measures": {"tier_min": demand.tier_min, "controls": sorted({row["control"] for row in evidence})},
        }  # fmt: skip


def _evidence(providers: Collection[UUID], span: Span) -> dict[UUID, list[Evidence]]:
    found: dict[UUID, list[Evidence]] = defaultdict(list)
    rows = live_evidence(span).filter(party__in=providers).defer("body")
    for row in rows.order_by("control_id", "submitted_at", "pk"):
        found[row.party_id].append(row)
    return found


def _certificate(row: Evidence) -> dict[str, Any]:
    return {
        "control": row.control_id, "issuer": row.issuer, "file": row.file_name, "sha256": bytes(row.sha256).hex(),
        "country": row.country, "scope": "this site" if row.site_id else "all sites",
        "valid_from": _iso(row.valid_from), "valid_until": _iso(row.valid_until),
    }  # fmt: skip


def _party(party: Party) -> dict[str, Any]:
    return {"id": party.slug, "name": party.name, "country": party.country, "controlled_from": party.ultimate_country}


def _place(lease: Lease, node_class: NodeClass, versions: dict[str, int]) -> dict[str, Any]:
    site, demand = node_class.site, lease.demand

    def rule(zone: Zone | None) -> dict[str, Any] | None:
        return None if zone is None else {"zone": zone.pk, "list_version": versions.get(zone.pk, 1),
                                          "source": zone.source}  # fmt: skip

    return {
        "site": site.code, "city": site.city, "country": site.country, "operated_from": site.operator_country,
        "keys_in": site.keys_country, "residency_rule": rule(demand.zone), "control_rule": rule(demand.control_zone),
    }  # fmt: skip


def _iso(at: datetime) -> str:
    return at.isoformat()


# -- reads -------------------------------------------------------------------------------------------------------------
def packs_of(lease: Lease) -> list[LeasePack]:
    """Every version of a lease's pack, the newest first."""
    return list(lease.packs.order_by("-version"))


def read_pack(pack: LeasePack) -> dict[str, Any]:
    """A pack as its document."""
    document: dict[str, Any] = json.loads(bytes(pack.body))
    return document
