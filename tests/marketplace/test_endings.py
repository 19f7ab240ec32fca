"""Who has to sign or show something anew is told in time: 60, 30 and 7 days before it ends, once each."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from marketplace import clock, cycle
from marketplace import models as m
from marketplace.compliance.agreements import end_agreement, propose_agreement, sign_agreement
from marketplace.compliance.evidence import review_evidence, submit_evidence
from marketplace.compliance.papers import Paper
from marketplace.demo.papers import reviewer_seat
from marketplace.oversight.endings import warn_of_endings
from marketplace.parties.services import make_seat
from tests.journey import world
from tests.journey.refusals import untouched

pytestmark = pytest.mark.stage("collecting")


def seat(slug: str) -> m.Seat:
    return make_seat(party=world.party(slug), email=f"o@{slug}.example", password=None, role="owner", now=clock.now())


def agreed(start: datetime, until: datetime, signers: tuple[str, ...] = ("alder", "granite")) -> m.Agreement:
    row = propose_agreement(seat=seat("alder"), other=world.party("granite"), control_code="baa", purposes=["research"],
                            paper=Paper("baa.pdf", b"%PDF", start, until), now=clock.now())  # fmt: skip
    for slug in signers:
        sign_agreement(agreement=row, seat=seat(slug), title="Director", now=clock.now())
    return row


def told(code: str) -> dict[str, list[str]]:
    """Code of a party -> what it was told, oldest first."""
    rows = m.Notice.objects.filter(code=code).order_by("at", "id").values_list("party__slug", "sentence")
    found: dict[str, list[str]] = {}
    for slug, sentence in rows:
        found.setdefault(slug, []).append(sentence)
    return found


def test_both_parties_of_an_agreement_are_told_at_each_step_and_once() -> None:
    now = clock.now()
    row = agreed(now, now + timedelta(days=90))
    with untouched():
        assert warn_of_endings(now=now + timedelta(days=29)) == 0

    for day, left in ((30, 60), (45, None), (60, 30), (83, 7), (89, None)):
        assert warn_of_endings(now=now + timedelta(days=day)) == (left is not None), day
        with untouched():
            assert warn_of_endings(now=now + timedelta(days=day)) == 0
    with untouched():
        assert warn_of_endings(now=now + timedelta(days=90)) == 0  # it has ended: that is another sentence's matter

    sentences = told("agreement_ending")
    assert set(sentences) == {"alder", "granite"}
    assert [sentence.partition(", in ")[2][:7] for sentence in sentences["alder"]] == ["60 days", "30 days", "7 days:"]
    assert f"{row.valid_until:%Y-%m-%d}" in sentences["granite"][0]
    assert ("warn of endings", warn_of_endings) in cycle.MARKET_STEPS  # every turn asks


@pytest.mark.parametrize("why", ["the next one is signed", "nobody signed", "one signed", "it was ended"])
def test_nobody_is_told_of_an_agreement_that_ends_nothing(why: str) -> None:
    now = clock.now()
    signers = {"nobody signed": (), "one signed": ("alder",)}.get(why, ("alder", "granite"))
    row = agreed(now, now + timedelta(days=50), signers)
    if why == "the next one is signed":
        agreed(row.valid_until, row.valid_until + timedelta(days=300))
    if why == "it was ended":
        end_agreement(agreement=row, seat=seat("alder"), reason="moved away", now=now)

    with untouched():
        assert warn_of_endings(now=now) == 0


def test_a_gap_before_the_next_agreement_is_told() -> None:
    now = clock.now()
    row = agreed(now, now + timedelta(days=50))
    agreed(row.valid_until + timedelta(days=1), row.valid_until + timedelta(days=300))

    assert warn_of_endings(now=now) == 1


def test_a_provider_is_told_which_of_its_documents_end_and_not_of_one_that_is_followed() -> None:
    ends_at = m.Evidence.objects.filter(party__slug="granite").latest("valid_until").valid_until
    others = set(m.Evidence.objects.exclude(party__slug="granite").values_list("party__slug", flat=True))
    now = ends_at - timedelta(days=60)
    with untouched():
        assert warn_of_endings(now=now - timedelta(days=1)) == 0
    controls = set(m.Evidence.objects.filter(party__slug="granite").values_list("control_id", flat=True))

    assert warn_of_endings(now=now) == 1 + len(others)  # each provider one sentence for all that ends on one day

    (sentence,) = told("evidence_ending")["granite"]
    assert "in 60 days" in sentence
    assert "iso-27001" in sentence or len(", ".join(controls)) > 150
    kept = submit_evidence(
        seat=make_seat(party=world.party("granite"), email="papers@granite.example", password=None, role="compliance",
                       now=clock.now()),
        control_code=sorted(controls)[0], issuer="An auditor", country="", now=clock.now(),
        paper=Paper("next.pdf", b"%PDF", clock.now(), ends_at + timedelta(days=300)),
    )  # fmt: skip
    review_evidence(evidence=kept, seat=reviewer_seat(clock.now()), is_accepted=True, reason="ok", now=clock.now())
    assert warn_of_endings(now=ends_at - timedelta(days=30)) == 1 + len(others)
    assert kept.control_id not in told("evidence_ending")["granite"][-1]
