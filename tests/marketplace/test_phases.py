"""The gate matrix: phase x condition x sign-off x signal. Time opens nothing, nothing is skipped, one opens on two."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import DatabaseError, IntegrityError, transaction

from ledger.ids import uuid7
from marketplace import clock
from marketplace import models as m
from marketplace.catalogue.services import open_window
from marketplace.clearing.services import clear_window, judge_gate
from marketplace.demand.services import fund_demand, post_demand, terms_of, withdraw_demand
from marketplace.errors import BadInput, GateNotReady, MarketError, NotEligible, PhaseClosed, SamePerson, StateSkipped
from marketplace.escrow.services import lock_window
from marketplace.escrow.standing import enter_windows, stand
from marketplace.governance.phases import (
    Count,
    Counts,
    current_phase,
    gate_board,
    keep_evidence,
    open_phase,
    sign_phase,
)
from marketplace.governance.services import set_flag
from marketplace.governance.signals import close_signal, hold_review, raise_signal
from marketplace.insights.gates import phase_counts
from marketplace.insights.words import why_it_failed
from marketplace.parties.seats import accept_invitation, invite
from marketplace.parties.services import make_seat, register_party
from marketplace.slashing.services import request_slash
from marketplace.supply.bilateral import open_bilateral, require_let_in
from tests.journey import world
from tests.journey.refusals import refused
from tests.owner import behind_the_triggers

pytestmark = pytest.mark.stage("collecting")

NEEDED = {
    2: {"funded_enterprises": 3, "needs_recorded": 3, "price_curves": 1},
    3: {"proven_universities": 5},
    4: {"university_leases": 1, "enterprise_leases": 1, "credits_posted": 1, "residency_exports": 1},
}
ANN, BEN = "ann@grove.example", "ben@grove.example"


@pytest.fixture(autouse=True)
def _in_phase_one(_in_its_stage: None) -> None:
    """The small world stands in phase 3; these tests begin where a market begins."""
    with behind_the_triggers():
        m.Phase.objects.filter(no__gt=1).update(is_open=False, opened_at=None, evidence_hash=None)
        m.PhaseSignOff.objects.all().delete()
        m.PhaseEvidence.objects.all().delete()
        m.Flag.objects.filter(opens_in_phase__gt=1).update(is_on=False)


def seats() -> None:
    foundation = register_party(slug="foundation", name="Foundation", kind="foundation", country="CH",
                                parent_country="CH", now=clock.now())  # fmt: skip
    for email, role in ((ANN, "operations"), (BEN, "judge"), ("mia@grove.example", "market_maker"),
                        ("ada@grove.example", "auditor")):  # fmt: skip
        make_seat(party=foundation, email=email, password="correct horse battery", role=role, now=clock.now())


def met(no: int, **less: int) -> Counts:
    """Counts that just meet a phase, but for what `less` takes away."""
    return {code: Count(needed - less.get(code, 0), "test") for code, needed in NEEDED[no].items()}


def sign(no: int, counts: Counts, *people: str) -> None:
    for person in people:
        evidence = keep_evidence(no=no, counts=counts, now=clock.now())
        sign_phase(no=no, evidence_hash=bytes(evidence.hash), counts=counts, person=person, now=clock.now())


def open_all_until(no: int) -> None:
    for phase in range(2, no + 1):
        sign(phase, met(phase), ANN, BEN)
        open_phase(no=phase, counts=met(phase), person=ANN, now=clock.now())


def incident(freezes: int | None = None) -> m.Signal:
    return raise_signal(kind="security_incident", title="A break-in at a peer", owner=ANN, freezes=freezes,
                        evidence_link="https://example.org/incident", now=clock.now())  # fmt: skip


# phase; what is open before; the condition that misses one; who signs; frozen: what comes of opening it.
MATRIX: list[tuple[int, int, str, tuple[str, ...], bool, str]] = []
for _no, _needed in NEEDED.items():
    MATRIX += [(_no, _no - 1, "", (ANN, BEN), False, "opens"), (_no, _no - 1, "", (ANN, BEN), True, "signal")]
    MATRIX += [(_no, _no - 1, "", people, False, "sign_offs") for people in ((), (ANN,), (ANN, ANN))]
    MATRIX += [(_no, _no - 1, code, people, False, "conditions") for code in _needed for people in ((), (ANN, BEN))]
    MATRIX += [(_no, before, "", (ANN, BEN), False, "skipped") for before in range(1, _no - 1)]


@pytest.mark.parametrize(("no", "before", "missing", "people", "frozen", "outcome"), MATRIX)
def test_the_gate_matrix(
    no: int, before: int, missing: str, people: tuple[str, ...], frozen: bool, outcome: str
) -> None:
    seats()
    open_all_until(before)
    counts = met(no, **({missing: 1} if missing else {}))
    if not missing and outcome != "skipped":
        sign(no, counts, *people)
    if frozen:
        incident(freezes=no)

    if outcome == "opens":
        assert open_phase(no=no, counts=counts, person=ANN, now=clock.now()).is_open
    elif outcome == "skipped":
        with refused(StateSkipped, phase=no, open_phase=before):
            open_phase(no=no, counts=counts, person=ANN, now=clock.now())
    else:
        if outcome in ("conditions", "signal"):
            evidence = keep_evidence(no=no, counts=counts, now=clock.now())
            with refused(GateNotReady, rule=outcome):  # nor is it signed
                sign_phase(no=no, evidence_hash=bytes(evidence.hash), counts=counts, person=BEN, now=clock.now())
        with pytest.raises(GateNotReady) as refusal:
            open_phase(no=no, counts=counts, person=ANN, now=clock.now())
        assert refusal.value.facts["rule"] == outcome
    assert current_phase() == (no if outcome == "opens" else before)


@pytest.mark.parametrize(("no", "before"), [(2, 1), (3, 1), (3, 2), (4, 1), (4, 2), (4, 3)])
@pytest.mark.parametrize("signed", [0, 1, 2])
def test_the_database_opens_a_phase_in_order_on_evidence_and_two_signatures(no: int, before: int, signed: int) -> None:
    """The same matrix by SQL alone: evidence and signatures are written without a service."""
    seats()
    open_all_until(before)
    figures = {code: {"have": needed, "needed": needed, "where": ""} for code, needed in NEEDED[no].items()}
    evidence = m.PhaseEvidence.objects.create(phase_id=no, hash=b"h" * 32, figures=figures, is_complete=True,
                                              at=clock.now())  # fmt: skip
    for person in (ANN, BEN)[:signed]:
        m.PhaseSignOff.objects.create(evidence=evidence, person=person, at=clock.now())
    reason = "phase_skips_no_phase" if before < no - 1 else ("phase_needs_two_sign_offs" if signed < 2 else "")

    assert written_as_open(no, b"h" * 32) == reason


def written_as_open(no: int, digest: bytes | None) -> str:
    """Open a phase by the ORM; the name of the refusal, or nothing."""
    try:
        with transaction.atomic():
            m.Phase.objects.filter(no=no).update(is_open=True, opened_at=clock.now(), evidence_hash=digest)
    except IntegrityError as refusal:
        return str(refusal.__cause__.diag.constraint_name)  # type: ignore[union-attr]
    return ""


def test_the_database_wants_the_latest_complete_evidence_and_no_open_signal() -> None:
    seats()
    sign(2, met(2), ANN, BEN)
    digest = bytes(m.PhaseEvidence.objects.filter(phase=2).first().hash)
    keep_evidence(no=2, counts=met(2, needs_recorded=1), now=clock.now())
    assert written_as_open(2, digest) == "phase_opens_on_complete_evidence"
    again = keep_evidence(no=2, counts=met(2), now=clock.now())  # the same figures later are signed anew
    assert written_as_open(2, bytes(again.hash)) == "phase_needs_two_sign_offs"
    sign(2, met(2), ANN, BEN)
    signal = raise_signal(kind="agents_late", title="Agents are late", owner=ANN, freezes=2,
                          evidence_link="https://example.org/late", now=clock.now())  # fmt: skip
    assert written_as_open(2, bytes(again.hash)) == "frozen_phase_stays_closed"
    close_signal(signal_id=signal.pk, person=BEN, reason="they came", now=clock.now())

    assert written_as_open(2, bytes(again.hash)) == ""


def test_a_changed_figure_voids_both_signatures() -> None:
    seats()
    sign(2, met(2), ANN, BEN)
    more: Counts = dict(met(2)) | {"funded_enterprises": Count(4, "test")}

    with refused(GateNotReady, rule="sign_offs", signed_by=[]):
        open_phase(no=2, counts=more, person=ANN, now=clock.now())


def test_whoever_signs_has_seen_the_figures_as_they_are() -> None:
    seats()
    old = bytes(keep_evidence(no=2, counts=met(2), now=clock.now()).hash)
    more = dict(met(2)) | {"funded_enterprises": Count(9, "test")}

    with refused(GateNotReady, rule="evidence"):
        sign_phase(no=2, evidence_hash=old, counts=more, person=ANN, now=clock.now())


@pytest.mark.parametrize("person", ["mia@grove.example", "ada@grove.example", "buyer@else.example", ""])
def test_a_market_maker_an_auditor_and_a_stranger_sign_nothing(person: str) -> None:
    seats()
    keep_evidence(no=2, counts=met(2), now=clock.now())
    with refused(NotEligible, rule="seat", person=person):
        sign(2, met(2), person)
    evidence = keep_evidence(no=2, counts=met(2), now=clock.now())
    with pytest.raises(IntegrityError, match="sign_off_is_by_a_foundation_seat"), transaction.atomic():
        m.PhaseSignOff.objects.create(evidence=evidence, person=person, at=clock.now())

    sign(2, met(2), ANN)


def test_whom_a_signer_let_in_does_not_sign_beside_it() -> None:
    seats()
    ann = m.Seat.objects.get(user__email=ANN)
    m.Seat.objects.filter(pk=ann.pk).update(role="admin")
    _, secret = invite(party=ann.party, by=m.Seat.objects.get(pk=ann.pk), email="cai@grove.example", role="judge",
                       now=clock.now())  # fmt: skip
    accept_invitation(secret=secret, name="Cai Neu", password="a long enough password", now=clock.now())
    sign(2, met(2), ANN)

    with refused(SamePerson, other=ANN):
        sign(2, met(2), "cai@grove.example")

    sign(2, met(2), BEN)
    assert open_phase(no=2, counts=met(2), person=ANN, now=clock.now()).is_open


def test_a_security_incident_blocks_phase_4_until_another_person_closes_it() -> None:
    seats()
    open_all_until(3)
    sign(4, met(4), ANN, BEN)
    signal = incident()
    assert signal.freezes_id == 4
    with refused(GateNotReady, rule="signal", signals=["A break-in at a peer"]):
        open_phase(no=4, counts=met(4), person=ANN, now=clock.now())
    with refused(SamePerson, person=ANN):
        close_signal(signal_id=signal.pk, person=ANN, reason="over", now=clock.now())

    close_signal(signal_id=signal.pk, person=BEN, reason="The cause was found and mended.", now=clock.now())

    assert open_phase(no=4, counts=met(4), person=ANN, now=clock.now()).is_open


def test_prosumers_register_in_phase_4_and_not_before() -> None:
    seats()
    for no in (1, 2, 3):
        open_all_until(no) if no == 1 else open_next(no)
        with refused(PhaseClosed, flag="prosumer_parties", opens_in_phase=4) as refusal:
            prosumer()
        assert refusal.value.code == "phase_closed"
        with pytest.raises(IntegrityError, match="flag_is_on_only_in_its_phase"), transaction.atomic():
            set_flag(name="prosumer_parties", is_on=True, opens_in_phase=4, actor=ANN, reason="now", now=clock.now())
    open_next(4)

    assert prosumer().kind == "prosumer"


def open_next(no: int) -> None:
    sign(no, met(no), ANN, BEN)
    open_phase(no=no, counts=met(no), person=ANN, now=clock.now())


def prosumer() -> m.Party:
    return register_party(slug="tower", name="Tower PC", kind="prosumer", country="DE", parent_country="DE",
                          now=clock.now())  # fmt: skip


def test_the_counts_come_from_live_rows() -> None:
    counts = phase_counts()

    assert {code: counts[code].have for code in ("funded_enterprises", "proven_universities", "needs_recorded")} == {
        "funded_enterprises": 3, "proven_universities": 4, "needs_recorded": 0}  # fmt: skip
    board = {gate.phase.no: gate.missing for gate in gate_board(counts)}
    assert board[3] == {"proven_universities": 1}
    assert set(counts) == {code for needed in NEEDED.values() for code in needed}


def test_a_company_of_the_foundation_counts_for_no_phase() -> None:
    register_party(slug="the-foundation", name="F", kind="foundation", country="DE", parent_country="DE",
                   now=clock.now())  # fmt: skip
    before = phase_counts()["funded_enterprises"].have
    m.Party.objects.filter(slug="alder").update(parent=m.Party.objects.get(slug="the-foundation"))

    assert (before, phase_counts()["funded_enterprises"].have) == (3, 2)


@pytest.mark.parametrize(("changes", "field"), [
    ({"kind": "rumour"}, "kind"), ({"title": ""}, "title"), ({"title": "x" * 201}, "title"), ({"owner": " "}, "owner"),
    ({"evidence_link": "see the wiki"}, "evidence_link"), ({"evidence_link": "javascript:alert(1)"}, "evidence_link"),
    ({"freezes": 9}, "freezes"), ({"kind": "residency_law", "freezes": 2}, "freezes"),
])  # fmt: skip
def test_a_bad_signal_is_refused_beside_its_field(changes: dict, field: str) -> None:
    terms = {"kind": "agents_late", "title": "Late", "owner": ANN, "evidence_link": "https://example.org/a"}
    with pytest.raises(MarketError) as refusal:
        raise_signal(**terms | changes, now=clock.now())

    assert isinstance(refusal.value, BadInput)
    assert refusal.value.facts["field"] == field
    assert raise_signal(**terms, now=clock.now()).direction == "lowers"


def test_the_quarterly_review_lists_every_open_signal() -> None:
    seats()
    first, second = incident(), incident(freezes=3)
    close_signal(signal_id=first.pk, person=BEN, reason="mended", now=clock.now())

    review = hold_review(person=ANN, verdict="We stay in phase 1.", counts=phase_counts(), now=clock.now())

    assert [row["id"] for row in review.facts["signals"]] == [str(second.pk)]
    assert [row["phase"] for row in review.facts["gates"]] == [1, 2, 3, 4]
    with pytest.raises(MarketError, match="was held"):
        hold_review(person=BEN, verdict="Again.", counts=phase_counts(), now=clock.now())


def test_the_market_of_these_tests_stands_in_phase_one() -> None:
    assert current_phase() == 1
    assert world.window().state == "COLLECTING"


# -- what the phases switch on: effect x phase, refused by service and by database ------------------------------------
def post_one() -> m.Demand:
    return post_demand(
        party=world.party("elm"), window=world.window(), reference="one", kind="divisible", accepted_classes=["H100"],
        quantity_units=1, start_slot=0, end_slot=1, price_limit_micros=1_000_000, sla_code="99.0", now=clock.now(),
    )  # fmt: skip


def fund() -> None:
    demand = world.demand("climate")
    withdraw_demand(demand=demand, party=demand.party, now=clock.now())
    again = post_demand(party=demand.party, window=demand.window, reference="again", now=clock.now(),
                        **terms_of(demand))  # fmt: skip
    fund_demand(demand=again, party=again.party, now=clock.now())


def let_stand() -> None:
    stand(party=world.party("elm"), reference="lasts", price_limit_micros=1_000_000, renewal_cap_ppm=0,
          starts_at=world.day(40), ends_at=world.day(90), kind="divisible", accepted_classes=["H100"],
          quantity_units=1, sla_code="99.0", now=clock.now())  # fmt: skip


def pair_up() -> None:
    open_bilateral(buyer=world.party("elm"), provider_slug="harbour", name="Two", slots=24, starts_at=world.day(40),
                   now=clock.now())  # fmt: skip


def begin_bidding() -> None:
    """The gate is judged; a window that fails because of its phase says so, which is its refusal."""
    window = world.window()
    now = clock.move_to(window.demand_closes_at)
    m.Window.objects.filter(pk=window.pk).update(gate_unit_hours=1, gate_parties=1)
    if judge_gate(window=window, now=now) == "FAILED":
        raise PhaseClosed(window.transitions.get(to_state="FAILED").facts["code"], flag="market_bids")


def written_again(model: Any, **changes: Any) -> Any:
    def write() -> None:
        first = model.objects.exclude(**{"window__kind": "bilateral"}).first()
        for name, fact in {"pk": uuid7(clock.now()), **changes}.items():
            setattr(first, name, fact)
        first.save(force_insert=True)

    return write


def in_bidding() -> None:
    m.Window.objects.filter(name=world.MAIN).update(state="BIDDING")


def prosumer_row() -> None:
    first = world.party("harbour")
    first.pk, first.slug, first.kind, first.chain_address = uuid7(clock.now()), "tower", "prosumer", None
    first.save(force_insert=True)


def funded_row() -> None:
    demand = post_one()
    m.Demand.objects.filter(pk=demand.pk).update(state="funded", hold_id=demand.pk, funded_at=clock.now(),
                                                 funding_kind="escrow")  # fmt: skip


def standing_row() -> None:
    m.StandingDemand.objects.create(
        id=uuid7(clock.now()), party=world.party("elm"), reference="r", terms={}, price_limit_micros=100,
        renewal_cap_ppm=0, funding_kind="escrow", starts_at=world.day(1), ends_at=world.day(2), made_at=clock.now(),
    )  # fmt: skip


def pair_row() -> None:
    window = open_window(
        name="Two rows", slots=1, starts_at=world.day(60), demand_closes_at=world.day(57),
        no_cancel_from=world.day(58), bidding_closes_at=world.day(59), gate_unit_hours=1, gate_parties=1,
        kind="bilateral", concentration_ppm=None, now=clock.now(),
    )  # fmt: skip
    m.Pair.objects.create(window=window, buyer=world.party("elm"), provider=world.party("harbour"))


def slash_row() -> None:
    """The warning of the early window once more, asked for as a slash."""
    case = m.SlashCase.objects.get(outcome="warned")
    case.pk, case.outcome, case.intent_key = uuid7(clock.now()), "requested", "again"
    case.save(force_insert=True)


# effect: the phase it opens in, the act by service, the write by database, and the name of the wall
EFFECTS: dict[str, tuple[int, Any, Any, str]] = {
    "demand_funding": (1, fund, funded_row, "funding_waits_for_its_phase"),
    "bilateral_windows": (1, pair_up, pair_row, "bilateral_window_waits_for_its_phase"),
    "standing_demand": (2, let_stand, standing_row, "standing_demand_waits_for_its_phase"),
    "market_bids": (3, begin_bidding, in_bidding, "bidding_waits_for_its_phase"),
    "public_market": (3, lambda: clear_now(), written_again(m.Clearing), "clearing_waits_for_its_phase"),
    "escrow_locks": (3, lambda: lock_now(), written_again(m.Lease), "lock_waits_for_its_phase"),
    "slashing": (3, lambda: slash_now(), slash_row, "slash_waits_for_its_phase"),
    "prosumer_parties": (4, lambda: prosumer(), prosumer_row, "prosumer_waits_for_its_phase"),
}


def clear_now() -> None:
    in_state("CLEARING")
    clear_window(window=world.window(), now=clock.now())


def lock_now() -> None:
    """The early window as it was before its money was locked."""
    with behind_the_triggers() as cursor:
        m.Window.objects.filter(name=world.EARLY).update(state="CLEARED")
        cursor.execute("DELETE FROM marketplace_lease")
    lock_window(window=world.window(world.EARLY), now=clock.now())


def slash_now() -> None:
    lease = m.Lease.objects.filter(is_armed=True, verdict__is_breach=True).select_related("verdict").first()
    assert lease is not None
    request_slash(verdict=lease.verdict, amount_micros=1, kind=1, now=clock.now())


def in_state(state: str) -> None:
    with behind_the_triggers():
        m.Window.objects.filter(name=world.MAIN).update(state=state)


def test_every_flag_has_its_phase_and_is_tried_here() -> None:
    assert dict(m.Flag.objects.values_list("name", "opens_in_phase")) == {
        name: no for name, (no, *_) in EFFECTS.items()
    }  # fmt: skip


class _Undone(Exception):
    """What was tried is taken back."""


def refusal_of(act: Any) -> str:
    """The name under which an act is refused by its phase; nothing when its phase lets it through. Changes nothing."""
    try:
        with transaction.atomic():
            act()
            raise _Undone
    except PhaseClosed as refusal:
        return str(refusal.facts.get("flag"))
    except IntegrityError as refusal:
        name = str(refusal.__cause__.diag.constraint_name)  # type: ignore[union-attr]
        return name if name.endswith("_waits_for_its_phase") else ""
    except (_Undone, MarketError, DatabaseError):  # whatever else refuses it, its phase did not
        return ""


@pytest.mark.parametrize("effect", EFFECTS)
def test_an_effect_is_refused_before_its_phase_by_service_and_by_database(effect: str) -> None:
    opens_in, by_service, by_database, wall = EFFECTS[effect]
    seats()
    for phase in (1, 2, 3, 4):
        if phase > 1:
            open_next(phase)
        for act, name in ((by_service, effect), (by_database, wall)):
            assert refusal_of(act) == ("" if phase >= opens_in else name), phase


@pytest.mark.parametrize("effect", EFFECTS)
def test_a_phase_that_is_half_open_switches_nothing_on(effect: str) -> None:
    """Everything but one thing is there for the phase of the effect, whichever it is: nothing of it is on."""
    no, by_service, by_database, wall = EFFECTS[effect]
    if no == 1:  # the market begins there; its flags are switched by hand alone
        m.Flag.objects.filter(name=effect).update(is_on=False)
        assert (refusal_of(by_service), refusal_of(by_database)) == (effect, wall)
        return
    seats()
    open_all_until(no - 1)
    for missing, people, frozen in (*((code, (), False) for code in NEEDED[no]), ("", (ANN,), False),
                                    ("", (ANN, BEN), True)):  # fmt: skip
        before = transaction.savepoint()
        counts = met(no, **({missing: 1} if missing else {}))
        sign(no, counts, *people)
        if frozen:
            incident(freezes=no)
        with pytest.raises(GateNotReady):
            open_phase(no=no, counts=counts, person=ANN, now=clock.now())
        assert (refusal_of(by_service), refusal_of(by_database)) == (effect, wall)
        transaction.savepoint_rollback(before)


def test_a_bid_waits_for_its_phase_in_a_market_window_and_not_between_two() -> None:
    in_state("BIDDING")
    bid = m.Bid.objects.filter(window__name=world.EARLY).first()
    assert bid is not None
    with pytest.raises(PhaseClosed):
        require_let_in(node_class=bid.node_class, window=world.window(), unit_hours=1)
    assert refusal_of(written_again(m.Bid, window=world.window(), reference="new")) == "bid_waits_for_its_phase"
    pair_up()
    two = world.window("Two")
    require_let_in(node_class=world.node_class("harbour"), window=two, unit_hours=1)
    assert refusal_of(written_again(m.Bid, window=two, reference="new")) == ""


def test_an_effect_is_switched_off_by_hand_in_an_open_phase() -> None:
    seats()
    open_all_until(3)
    assert refusal_of(let_stand) == ""
    set_flag(name="standing_demand", is_on=False, opens_in_phase=2, actor=ANN, reason="a fault", now=clock.now())

    assert (refusal_of(let_stand), enter_windows(now=clock.now())) == ("standing_demand", 0)


def test_a_market_window_before_its_phase_fails_and_lets_its_money_go() -> None:
    with pytest.raises(PhaseClosed, match="phase_closed"):
        begin_bidding()

    assert not m.Demand.objects.filter(window=world.window(), state="funded").exists()
    assert "later phase" in why_it_failed(world.window())
