"""Documents for a demo: each provider shows the controls of its tier, and a second person of the Foundation accepts.

The documents are invented and say so.
"""

from __future__ import annotations

from datetime import datetime

from marketplace.compliance.catalogue import LEGAL_CONTROLS, TIERS
from marketplace.compliance.evidence import review_evidence, submit_evidence
from marketplace.compliance.models import Evidence
from marketplace.compliance.papers import Paper
from marketplace.parties.models import Party, Seat
from marketplace.parties.services import make_seat, register_party
from marketplace.supply.models import Site

REVIEWER = "reviewer@grove.example"


def show_controls(*, site: Site, tier: int, valid_until: datetime, now: datetime) -> int:
    """Hand in and accept what `tier` and the three countries of control ask for; returns how many documents are new."""
    party = site.party
    seat = make_seat(party=party, email=f"papers@{party.slug}.example", password=None, role="compliance", now=now)
    asked = {code: "" for level in range(tier + 1) for code in TIERS[level]}
    countries = (party.ultimate_country, site.operator_country, site.keys_country)
    asked |= dict(zip(LEGAL_CONTROLS, countries, strict=True))
    standing = set(Evidence.objects.filter(party=party).values_list("control_id", flat=True))
    reviewer, missing = reviewer_seat(now), sorted(set(asked) - standing)
    for code in missing:
        paper = Paper(f"{code}.txt", f"{party.name} shows {code}. Invented for a demo.".encode(), now, valid_until)
        evidence = submit_evidence(seat=seat, control_code=code, paper=paper, issuer="Demo issuer",
                                   country=asked[code], now=now)  # fmt: skip
        review_evidence(evidence=evidence, seat=reviewer, is_accepted=True, reason="looked at for the demo", now=now)
    return len(missing)


def reviewer_seat(now: datetime) -> Seat:
    """A person of the Foundation who reviews evidence and cannot sign in by a password."""
    foundation = Party.objects.filter(slug="foundation").first() or register_party(
        slug="foundation", name="Grove Foundation", kind="foundation", country="CH", parent_country="CH", now=now
    )
    return make_seat(party=foundation, email=REVIEWER, password=None, role="operations", now=now)
