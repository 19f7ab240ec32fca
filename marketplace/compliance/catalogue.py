"""The rows that a market starts with: controls, what each tier asks for, data classes, limits of provider kinds.

More of each is a further row, added by `add_control` and its neighbours: none needs code. Sources are named as they are
published; a row is evidence for our rule, not legal advice.
"""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from marketplace.catalogue.models import Tier, Zone
from marketplace.compliance.models import Control, DataClass, KindLimit, TierControl
from marketplace.governance.services import record

# code, name, kind, what the evidence has to show, source
CONTROLS = (
    ("identity-checked", "Identity checked", "control", "register extract and who may sign", "house rule"),
    ("tenant-isolation", "Tenant isolation", "control", "how tenants are kept apart", "ISO/IEC 27001 A.8"),
    ("encryption-at-rest", "Encryption at rest", "control", "configuration of storage", "ISO/IEC 27001 A.8"),
    ("iso-27001", "ISO 27001 certificate", "control", "certificate with scope and end", "ISO/IEC 27001:2022"),
    ("access-log-12-months", "Access log kept 12 months", "control", "retention and a sample", "house rule"),
    ("processor-terms", "Terms of data processing", "control", "terms that meet Article 28",
     "Regulation (EU) 2016/679"),
    ("buyer-held-keys", "Keys held by the buyer", "control", "how keys are brought and revoked", "house rule"),
    ("single-tenant", "Single-tenant machines", "control", "allocation of whole machines", "house rule"),
    ("staff-vetted", "Staff vetted", "control", "vetting procedure and its date", "ISO/IEC 27001 A.6"),
    ("ultimate-parent", "Seat of the ultimate parent", "legal_control", "ownership up to the top", "house rule"),
    ("staff-location", "Location of operating staff", "legal_control", "where those with access work", "house rule"),
    ("key-custody", "Custody of keys", "legal_control", "under whose law keys are kept", "house rule"),
    ("baa", "Business associate agreement", "agreement", "signed by both parties", "45 CFR 164.504(e)"),
    ("dpa", "Data processing agreement", "agreement", "signed by both parties", "Regulation (EU) 2016/679 Art. 28"),
    ("ai-act-pack", "Technical documentation for high-risk AI", "pack", "logs, versions, data location, provider",
     "Regulation (EU) 2024/1689 Annex IV"),
    ("pci-scope", "Inside PCI DSS scope", "attribute", "attestation of compliance", "PCI DSS v4.0"),
    ("export-control", "Export-controlled work admitted", "attribute", "classification and who has access",
     "15 CFR 730-774"),
    ("attested-hardware", "Remote attestation verified", "attribute", "a verifier's signed report", "house rule"),
)  # fmt: skip
TIERS = {
    0: ("identity-checked",),
    1: ("tenant-isolation", "encryption-at-rest"),
    2: ("iso-27001", "processor-terms", "access-log-12-months"),
    3: ("buyer-held-keys", "single-tenant", "staff-vetted"),
}
LEGAL_CONTROLS = ("ultimate-parent", "staff-location", "key-custody")
# code, name, least tier, further controls, agreement, zone, is refused, source
DATA_CLASSES = (
    ("public", "Public", 0, (), None, None, False, "house rule"),
    ("internal", "Internal", 1, (), None, None, False, "house rule"),
    ("personal-eu", "Personal data of people in the EU", 1, (), "dpa", "ADEQUATE", False,
     "Regulation (EU) 2016/679 Art. 28, 44, 45"),
    ("financial", "Financial records", 2, (), None, None, False, "house rule"),
    ("payment-card", "Payment-card data", 2, ("pci-scope",), None, None, False, "PCI DSS v4.0"),
    ("regulated-health", "Regulated health data", 2, (), "baa", None, False, "45 CFR 164.502(e)"),
    ("export-controlled", "Export-controlled", 3, ("export-control",), None, None, False, "15 CFR 730-774"),
    ("restricted", "Restricted by its owner", 3, (), None, None, False, "house rule"),
    ("high-risk-ai", "High-risk AI system", 1, ("ai-act-pack",), None, None, False, "Regulation (EU) 2024/1689"),
    ("classified", "Classified by a state", 3, (), None, None, True, "refused by default"),
)  # fmt: skip
KIND_LIMITS = (
    ("university", 3, "an institution that can be audited"),
    ("enterprise", 3, "an institution that can be audited"),
    ("prosumer", 0, "a home is no place for other people's data"),
)
PURPOSES = ("treatment", "payment", "operations", "research", "analytics", "model-training")


@transaction.atomic
def ensure_catalogue(*, now: datetime) -> int:
    """Add what is missing of the first rows; returns how many rows are new. Tiers and zones must stand before."""
    before = Control.objects.count() + TierControl.objects.count() + DataClass.objects.count()
    Control.objects.bulk_create(
        (Control(code=code, name=name, kind=kind, asks=asks, source=source)
         for code, name, kind, asks, source in CONTROLS), ignore_conflicts=True,
    )  # fmt: skip
    levels = set(Tier.objects.values_list("level", flat=True))
    TierControl.objects.bulk_create(
        (TierControl(tier_id=level, control_id=code) for level, codes in TIERS.items() if level in levels
         for code in codes), ignore_conflicts=True,
    )  # fmt: skip
    zones = set(Zone.objects.values_list("code", flat=True))
    DataClass.objects.bulk_create(
        (DataClass(code=code, name=name, tier_min=tier_min, controls=list(controls), agreement_id=agreement,
                   zone_id=zone, is_refused=is_refused, source=source)
         for code, name, tier_min, controls, agreement, zone, is_refused, source in DATA_CLASSES
         if zone is None or zone in zones), ignore_conflicts=True,
    )  # fmt: skip
    KindLimit.objects.bulk_create(
        (KindLimit(kind=kind, tier_max=tier_max, reason=reason) for kind, tier_max, reason in KIND_LIMITS),
        ignore_conflicts=True,
    )
    added = Control.objects.count() + TierControl.objects.count() + DataClass.objects.count() - before
    if added:
        record(actor="foundation", action="fill_compliance_catalogue", subject="controls", now=now, rows=added,
               reason="first rows of controls, tiers and data classes")  # fmt: skip
    return added
