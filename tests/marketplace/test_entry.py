"""First leases are bound; a university's undertaking stands in for cash once a second person accepted it (M-016)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from marketplace import clock
from marketplace import models as m
from marketplace.compliance.papers import Paper
from marketplace.demo.papers import reviewer_seat
from marketplace.errors import (
    BadInput,
    ExpiredEvidence,
    NotEligible,
    NotYours,
    RoleForbidden,
    TierNotForKind,
)
from marketplace.parties.services import make_seat
from marketplace.supply.bids import place_bid
from marketplace.supply.entry import (
    end_undertaking,
    entry_rule,
    give_undertaking,
    is_first_lease,
    review_undertaking,
    set_entry_rule,
    tell_undertakings,
    undertaken_micros,
)
from pricing.entry import first_lease_cap_micros
from tests.journey import world
from tests.journey.refusals import refused, untouched
from tests.owner import unseen

USD = world.USD


def seat(role: str = "owner", slug: str = "basalt") -> m.Seat:
    return make_seat(party=world.party(slug), email=f"{role}@{slug}.example", password=None, role=role, now=clock.now())


def give(amount: int = 4_000 * USD, **changes: Any) -> m.Undertaking:
    now = clock.now()
    terms = {"seat": seat(), "node_class": world.node_class("basalt"), "amount_micros": amount, "now": now,
             "signatory": "Rector of Basalt",
             "paper": Paper("u.pdf", b"we answer", now, now + timedelta(days=90))}  # fmt: skip
    return give_undertaking(**terms | changes)


def bound(micros: int, tier: int = 1) -> m.EntryRule:
    return set_entry_rule(tier=tier, first_lease_cap_micros=micros, undertaking_max_micros=micros,
                          seat=reviewer_seat(clock.now()), reason="a careful start", now=clock.now())  # fmt: skip


@pytest.mark.stage("bidding")
def test_a_first_lease_is_worth_at_most_its_cap_and_later_ones_are_not_asked() -> None:
    basalt, granite = world.node_class("basalt"), world.node_class("granite")
    assert (is_first_lease(basalt), is_first_lease(granite)) == (True, False)
    terms = {"window": world.window(), "quantity_units": 1, "start_slot": 26, "end_slot": 30, "sla_code": "99.0",
             "price_ask_micros": USD, "now": clock.now()}  # fmt: skip
    bound(4 * USD)
    place_bid(party=basalt.party, node_class=basalt, reference="at the cap", **terms)
    bound(4 * USD - 1)

    with refused(NotEligible, rule="first_lease", most_micros=4 * USD - 1):
        place_bid(party=basalt.party, node_class=basalt, reference="above it", **terms)
    assert place_bid(party=granite.party, node_class=granite, reference="known", **terms).state == "sealed"


@pytest.mark.stage("founded")
def test_the_rule_nests_within_the_stake_curve_and_is_set_by_who_may() -> None:
    assert entry_rule(0).first_lease_cap_micros == first_lease_cap_micros()
    shares = [entry_rule(tier).undertaking_max_micros for tier in range(4)]
    assert shares == sorted(shares)
    terms = {"tier": 1, "first_lease_cap_micros": 100, "undertaking_max_micros": 50, "reason": "r", "now": clock.now(),
             "seat": reviewer_seat(clock.now())}  # fmt: skip
    for field, value in (("tier", 4), ("first_lease_cap_micros", first_lease_cap_micros() + 1),
                         ("first_lease_cap_micros", 0), ("undertaking_max_micros", 101), ("reason", "")):  # fmt: skip
        with refused(BadInput, field=field):
            set_entry_rule(**terms | {field: value})
    finance = seat("finance")
    with refused(RoleForbidden):
        set_entry_rule(**terms | {"seat": finance})


@pytest.mark.stage("founded")
def test_an_undertaking_counts_once_a_second_person_accepted_it_and_the_contract_is_told_both_times() -> None:
    unseen(m.Party.objects.filter(slug="basalt"), kind="university")
    basalt, row = world.node_class("basalt"), give()
    now = clock.now()
    assert undertaken_micros(basalt, now) == 0
    with untouched():
        assert tell_undertakings(now=now) == 0
    with refused(RoleForbidden):
        review_undertaking(undertaking=row, seat=seat(), is_accepted=True, reason="ours", now=now)

    reviewer = reviewer_seat(now)
    review = review_undertaking(undertaking=row, seat=reviewer, is_accepted=True, reason="read and called", now=now)

    assert review_undertaking(undertaking=row, seat=reviewer, is_accepted=True, reason="again", now=now) == review
    with refused(BadInput, field="is_accepted"):
        review_undertaking(undertaking=row, seat=reviewer, is_accepted=False, reason="no", now=now)
    assert undertaken_micros(basalt, now) == 4_000 * USD
    told = m.AuditLine.objects.filter(action="attest_class", subject=str(basalt.pk)).order_by("no")
    assert (tell_undertakings(now=now), tell_undertakings(now=now)) == (1, 0)
    caps = [line.facts["exposure_cap_micros"] for line in told]
    assert caps[-1] == caps[-2] + 4_000 * USD

    end_undertaking(undertaking=row, seat=seat(), reason="the rector left", now=now)
    assert undertaken_micros(basalt, now) == 0
    assert tell_undertakings(now=now) == 1


@pytest.mark.stage("founded")
def test_only_a_university_answers_by_its_word_within_the_rule() -> None:
    seat(), seat("operator")
    unseen(m.Party.objects.filter(slug="basalt"), kind="enterprise")
    with refused(TierNotForKind):
        give()
    unseen(m.Party.objects.filter(slug="basalt"), kind="university")
    now = clock.now()
    for amount in (0, entry_rule(1).undertaking_max_micros + 1):
        with refused(BadInput, field="amount_micros"):
            give(amount)
    with refused(RoleForbidden):
        give(seat=seat("operator"))
    with refused(NotYours):
        give(node_class=world.node_class("harbour"))
    with refused(ExpiredEvidence):
        give(paper=Paper("u.pdf", b"x", now - timedelta(days=9), now - timedelta(days=1)))
    first, second = give(), give(entry_rule(1).undertaking_max_micros)
    for row in (first, second):
        review_undertaking(undertaking=row, seat=reviewer_seat(now), is_accepted=True, reason="read", now=now)
    assert undertaken_micros(world.node_class("basalt"), clock.now()) == entry_rule(1).undertaking_max_micros
