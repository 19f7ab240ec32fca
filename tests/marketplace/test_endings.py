"""Who has to sign or show something anew is told in time: 60, 30 and 7 days before it ends, once each."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from ledger.ids import uuid7
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
from tests.owner import behind_the_triggers

pytestmark = pytest.mark.stage("collecting")


def seat(slug: str) -> m.Seat:
    return make_seat(party=world.party(slug), email=f"o@{slug}.example", password=None, role="owner", now=clock.now())


def agreed(
    start: datetime, until: datetime, signers: tuple[str, ...] = ("alder", "granite"), other: str = "granite",
    purposes: tuple[str, ...] = ("research",),
) -> m.Agreement:  # fmt: skip
    row = propose_agreement(seat=seat("alder"), other=world.party(other), control_code="baa", purposes=purposes,
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


@pytest.mark.parametrize("first", ["ended", "over", "in force"])
def test_of_two_agreements_only_the_one_that_is_in_force_is_told(first: str) -> None:
    """The other was ended, is over, or has not begun; a gap lies between the two."""
    start = clock.now()
    spans = {"ended": ((0, 50), (0, 40)), "over": ((0, 10), (11, 50)), "in force": ((0, 5), (6, 20))}[first]
    row = agreed(*(start + timedelta(days=day) for day in spans[0]))
    if first == "ended":
        end_agreement(agreement=row, seat=seat("alder"), reason="written anew", now=start)
    agreed(*(start + timedelta(days=day) for day in spans[1]))

    assert warn_of_endings(now=start + timedelta(days=20 if first == "over" else 0)) == 1
    (sentence,) = told("agreement_ending")["granite"]
    assert {"ended": "in 40 days", "over": "in 30 days", "in force": "in 5 days"}[first] in sentence


def test_an_agreement_that_is_followed_for_one_of_its_purposes_alone_ends_for_the_other() -> None:
    now = clock.now()
    row = agreed(now, now + timedelta(days=50), purposes=("research", "training"))
    after = agreed(row.valid_until, row.valid_until + timedelta(days=300))
    assert warn_of_endings(now=now) == 1
    end_agreement(agreement=after, seat=seat("alder"), reason="written anew for both", now=now)
    agreed(row.valid_until, row.valid_until + timedelta(days=300), purposes=("training", "research"))
    with untouched():
        assert warn_of_endings(now=now + timedelta(days=20)) == 0


def test_each_agreement_of_a_buyer_is_told_for_itself() -> None:
    now = clock.now()
    agreed(now, now + timedelta(days=50))
    assert warn_of_endings(now=now) == 1
    agreed(now, now + timedelta(days=50), ("alder", "harbour"), "harbour")
    assert warn_of_endings(now=now) == 1
    counts = {slug: len(sentences) for slug, sentences in told("agreement_ending").items()}
    assert counts == {"alder": 2, "granite": 1, "harbour": 1}


def papers(slug: str) -> Any:
    return m.Evidence.objects.filter(party__slug=slug)


def end_at(slug: str, at: datetime, **which: Any) -> None:
    with behind_the_triggers():
        papers(slug).filter(**which).update(valid_until=at)


def test_papers_of_each_provider_and_of_each_day_are_told_for_themselves() -> None:
    now = clock.now()
    with behind_the_triggers():
        m.Evidence.objects.update(valid_until=now + timedelta(days=900))
    shown = [set(papers(slug).values_list("control_id", flat=True)) for slug in ("granite", "harbour")]
    one, two = sorted(shown[0] & shown[1])[:2]
    end_at("granite", now + timedelta(days=60), control_id=one)
    assert warn_of_endings(now=now) == 1
    end_at("granite", now + timedelta(days=65), control_id=two)
    assert warn_of_endings(now=now + timedelta(days=5)) == 1  # the same step of another day
    end_at("harbour", now + timedelta(days=60), control_id=one)
    assert warn_of_endings(now=now + timedelta(days=5)) == 1  # the same day of another provider, whose papers go on

    assert [f": {control}." in sentence for control, sentence in zip((one, two), told("evidence_ending")["granite"],
                                                                     strict=True)] == [True, True]  # fmt: skip
    assert f": {one}." in told("evidence_ending")["harbour"][0]


def test_papers_of_one_site_are_followed_by_those_of_that_site_or_of_the_whole_party() -> None:
    now, row = clock.now(), papers("granite").order_by("pk")[0]
    here = world.node_class("granite").site
    with behind_the_triggers():
        m.Evidence.objects.update(valid_until=now + timedelta(days=900))
        papers("granite").filter(control=row.control).exclude(pk=row.pk).delete()
    elsewhere = m.Site.objects.exclude(pk=here.pk).order_by("pk")[0]

    def next_at(site: m.Site | None) -> None:
        with behind_the_triggers():
            papers("granite").filter(pk=row.pk).update(site=here, valid_until=now + timedelta(days=50))
            follower, review = m.Evidence.objects.get(pk=row.pk), m.Evidence.objects.get(pk=row.pk).review
            follower.pk = follower.id = uuid7(now)
            follower.site, follower.valid_from, follower.valid_until = site, now, now + timedelta(days=500)
            follower.save(force_insert=True)
            review.pk, review.evidence = follower.pk, follower
            review.save(force_insert=True)

    next_at(elsewhere)
    assert warn_of_endings(now=now) == 1
    next_at(None)
    with untouched():
        assert warn_of_endings(now=now + timedelta(days=20)) == 0  # the step of 30 days would be told
