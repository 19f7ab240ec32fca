"""Three-way reconciliation: only what agrees is billed, the rest is held until it is decided, and no order matters."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import transaction
from hypothesis import given, settings
from hypothesis import strategies as st

from marketplace import models as m
from marketplace.delivery.cases import decide_case, reconcile_window, votes
from marketplace.delivery.services import close_delivery
from marketplace.delivery.tallies import judge_probes, minutes_down, weigh
from marketplace.errors import BadInput, RoleForbidden, WrongStanding
from marketplace.governance.services import first_broken_line
from marketplace.parties.services import make_seat, register_party
from pricing.metering import FULL_WORD
from tests.journey import world
from tests.journey.refusals import refused, untouched
from tests.live import go_live

WORDS = st.integers(0, FULL_WORD)
CAUSES = st.dictionaries(st.sampled_from(["BUYER", "MAINT", "NETWORK", "PROVIDER"]), WORDS, max_size=2)


def weighed(provider: int | None, buyer: int | None, valid: list[int], failed: list[int], amount: int,
            causes: dict[str, int] | None = None, most: int = 10**15) -> m.SlotTally:  # fmt: skip
    row = m.SlotTally(slot=0, provider_up=provider, buyer_up=buyer, probe_valid=valid, probe_failed=failed, units=1,
                      amount_micros=amount, most_micros=min(amount, most))  # fmt: skip
    judge_probes(row)
    bad = row.down_word | row.unknown_word
    row.causes = {}
    for cause, word in (causes or {}).items():
        row.causes[cause] = word & bad
        bad &= ~word
    weigh(row)
    return row


@settings(max_examples=1500, deadline=None)
@given(st.none() | WORDS, st.none() | WORDS, st.lists(WORDS, min_size=3, max_size=3),
       st.lists(WORDS, min_size=3, max_size=3), st.integers(0, 10**13), CAUSES,
       st.integers(0, 10**13))  # fmt: skip
def test_billed_held_and_unpaid_are_the_fee_and_no_source_is_passed(
    provider: int | None, buyer: int | None, valid: list[int], failed: list[int], amount: int, causes: dict[str, int],
    most: int,
) -> None:  # fmt: skip
    row = weighed(provider, buyer, valid, failed, amount, causes, most)
    excused = sum(row.causes.get(name, 0) for name in ("BUYER", "MAINT"))
    agreed = row.billable_word & ~excused

    assert row.billed_micros + row.held_micros + row.unpaid_micros == amount
    assert min(row.billed_micros, row.held_micros, row.unpaid_micros) >= 0
    assert row.billed_micros + row.held_micros <= most  # what funding lets be paid at most
    assert row.billable_word & row.held_word == 0
    assert row.minutes_billable + row.minutes_held + row.minutes_unpaid == 60
    assert agreed & ~(provider or 0) == 0  # billed is at most what the provider says,
    assert agreed & row.down_word == 0  # what the probes say,
    assert buyer is None or agreed & ~buyer == 0  # and what the buyer says
    assert row.disputed_word & ~row.held_word == 0
    assert votes(row) & ~row.held_word == votes(row) & row.down_word == 0
    assert minutes_down(row) <= 60 - row.billable_word.bit_count() + excused.bit_count()
    if provider is None:
        assert row.billed_micros == 0


@settings(max_examples=500, deadline=None)
@given(WORDS, st.lists(WORDS, min_size=3, max_size=3), st.lists(WORDS, min_size=3, max_size=3))
def test_unknown_becomes_up_by_chain_and_counter_and_down_never_does(
    word: int, valid: list[int], failed: list[int]
) -> None:
    alone, both = weighed(word, None, valid, failed, 60), weighed(word, word, valid, failed, 60)

    assert both.down_word == alone.down_word
    assert both.unknown_word == alone.unknown_word & ~word
    assert both.billable_word == word & ~both.down_word
    assert alone.billable_word == word & alone.known_word & ~alone.down_word


# --- in the market ---------------------------------------------------------------------------------------------------


def tally(slot: int = 0) -> m.SlotTally:
    return m.SlotTally.objects.get(lease=world.lease("genome"), slot=slot)


def figures() -> list[tuple[object, ...]]:
    fields = [f.attname for f in m.SlotTally._meta.fields if f.attname not in ("id", "evidence_at", "rated_at")]
    return [tuple(map(str, row)) for row in m.SlotTally.objects.order_by("slot").values_list(*fields)]


@pytest.mark.stage("delivering")
@pytest.mark.parametrize("orders", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_whatever_order_and_however_often_statements_come_the_sums_are_the_same(orders: int) -> None:
    live, rng = go_live(counter=True), random.Random(5)
    acts: list[Callable[[], object]] = []
    now = live.after(0)
    for verifier in live.panel:
        for minute in range(12):
            up = (minute * 7 + len(verifier)) % 5 > 0
            given_ = [live.probe(minute, verifier, up=up)]
            given_ += [] if up else [live.probe(minute, verifier, up=minute % 2 == 0, attempt=2)]
            acts += [lambda each=each, v=verifier: live.send_probes(v, [each], now) for each in given_]
    reading, counter = live.reading(0, FULL_WORD >> 3), live.counter_reading(0, FULL_WORD >> 5)
    acts += [lambda: live.send_reading(reading, now=now), lambda: live.send_counter(counter, now=now)]
    seen = []
    for _ in range(orders):
        rng.shuffle(acts)
        with transaction.atomic():
            for act in acts + rng.sample(acts, 8):
                act()
            seen.append(figures())
            transaction.set_rollback(True)

    assert seen[0] != []
    assert seen == [seen[0]] * orders


@pytest.mark.stage("delivering")
def test_a_contradiction_opens_a_case_and_two_of_three_decide_it_after_72_hours() -> None:
    live = go_live(counter=True)
    window = world.window()
    live.probe_slot(0)
    live.send_reading(live.reading(0), now=live.after(0))
    live.send_counter(live.counter_reading(0, FULL_WORD & ~0b1111), now=live.after(0))  # the buyer denies 4 minutes

    assert reconcile_window(window=window, now=live.after(0)) == 1

    case = m.DeliveryCase.objects.get()
    assert (case.state, case.disputed_word, case.held_micros) == ("OPEN", 0b1111, tally().held_micros)
    assert tally().minutes_billable == 56
    assert tally().billed_micros + tally().held_micros == tally().amount_micros
    assert m.Notice.objects.filter(code="delivery_case").count() == 2
    with untouched():
        assert reconcile_window(window=window, now=live.after(0, hours=71)) == 0
    assert close_delivery(window=window, now=window.ends_at + timedelta(hours=25)) >= 0
    assert world.lease("genome").state == "delivering"  # it waits for its case

    assert reconcile_window(window=window, now=case.decide_by) == 1

    case.refresh_from_db()
    reading = m.Reading.objects.get(lease=live.lease, slot=0)
    assert (case.state, case.outcome, case.billed_word) == ("DECIDED", "two_of_three", 0b1111)  # machine and probes
    assert (reading.minutes_billable, reading.buyer_up) == (60, FULL_WORD & ~0b1111)
    assert first_broken_line() is None
    told = m.AuditLine.objects.filter(subject=str(case.pk)).order_by("pk")
    assert list(told.values_list("action", flat=True)) == ["open_delivery_case", "decide_delivery_case"]


@pytest.mark.stage("delivering")
def test_a_minute_that_only_the_machine_saw_is_unpaid_and_holds_nobody_up() -> None:
    live = go_live()
    live.probe_slot(0, void=0b1)
    live.send_reading(live.reading(0), now=live.after(0))
    assert tally().held_word == 0b1

    reconcile_window(window=world.window(), now=live.after(0))  # nobody is left who could say more

    reading = m.Reading.objects.get(lease=live.lease)
    assert (reading.minutes_billable, reading.minutes_unknown, reading.minutes_down) == (59, 1, 0)
    assert not m.DeliveryCase.objects.exists()


@pytest.mark.stage("delivering")
def test_a_minute_that_the_probes_call_down_is_not_billed_for_two_others_words() -> None:
    live = go_live(counter=True)
    live.probe_slot(0, down=0b11)
    live.send_reading(live.reading(0), now=live.after(0))
    live.send_counter(live.counter_reading(0), now=live.after(0))
    reconcile_window(window=world.window(), now=live.after(0))

    assert tally().held_word == 0b11
    reconcile_window(window=world.window(), now=live.after(0, hours=73))

    reading = m.Reading.objects.get(lease=live.lease)
    assert (reading.minutes_billable, reading.minutes_down) == (58, 2)


@pytest.mark.stage("delivering")
def test_a_judge_decides_a_case_and_nobody_else() -> None:
    live = go_live(counter=True)
    live.probe_slot(0)
    live.send_reading(live.reading(0), now=live.after(0))
    live.send_counter(live.counter_reading(0, 0), now=live.after(0))
    reconcile_window(window=world.window(), now=live.after(0))
    case, now = m.DeliveryCase.objects.get(), live.after(0, hours=1)
    house = register_party(slug="house", name="House", kind="foundation", country="CH", parent_country="CH", now=now)
    judge = make_seat(party=house, email="j@house.example", password="correct horse", role="judge", now=now)
    buyer = make_seat(party=live.lease.buyer, email="b@alder.example", password="correct horse", role="owner", now=now)

    with refused(RoleForbidden):
        decide_case(case_id=case.pk, seat=buyer, bills=False, reason="mine", now=now)
    with refused(BadInput, field="reason"):
        decide_case(case_id=case.pk, seat=judge, bills=False, reason=" ", now=now)
    decided = decide_case(case_id=case.pk, seat=judge, bills=False, reason="the buyer's log is whole", now=now)

    assert (decided.outcome, decided.billed_word) == ("people", 0)
    assert m.Reading.objects.get(lease=live.lease).minutes_billable == 0
    with refused(WrongStanding, outcome="people"):
        decide_case(case_id=case.pk, seat=judge, bills=True, reason="again", now=now)


@pytest.mark.stage("delivering")
def test_a_network_gap_of_six_hours_and_its_backfill_are_no_breach() -> None:
    """Nobody sees anything for six hours; then the machine's chain and the buyer's counter say it ran (M-044)."""
    live = go_live(counter=True)
    gap, end = range(2), live.after(7)  # of the six hours two are probed by voided reports, four by nobody
    for slot in gap:
        live.probe_slot(slot, void=FULL_WORD)
    assert tally(0).unknown_word == FULL_WORD
    assert "NETWORK" in tally(0).causes
    readings = [live.reading(slot) for slot in range(6)]
    live.send_reading(*readings, now=end)
    assert tally(0).held_word == FULL_WORD  # only one has seen it
    assert reconcile_window(window=world.window(), now=end) == 0

    live.send_counter(*[live.counter_reading(slot) for slot in range(6)], now=end)
    reconcile_window(window=world.window(), now=end + timedelta(hours=25))

    rows = list(m.Reading.objects.filter(lease=live.lease, slot__lt=6).order_by("slot"))
    assert len(rows) == 6
    assert {(row.minutes_down, row.minutes_unknown, row.minutes_billable) for row in rows} == {(0, 0, 60)}
    assert not m.DeliveryCase.objects.exists()


@pytest.mark.stage("delivering")
def test_backfill_turns_no_down_minute_up() -> None:
    live = go_live(counter=True)
    live.probe_slot(0, down=0b111)
    live.send_reading(live.reading(0), now=live.after(5))
    live.send_counter(live.counter_reading(0), now=live.after(5))

    assert (tally().down_word, minutes_down(tally())) == (0b111, 3)
    assert tally().billable_word == FULL_WORD & ~0b111


@pytest.mark.stage("delivering")
def test_a_machine_that_lies_low_is_down_and_unpaid_although_it_says_nothing() -> None:
    live = go_live()
    for verifier in live.panel:
        silent = [live.probe(0, verifier, echo="", port_ok=False, attempt=attempt) for attempt in (1, 2)]
        live.send_probes(verifier, silent, live.at(2))  # a retry may lie in the next minute

    reconcile_window(window=world.window(), now=live.after(0, hours=72))

    reading = m.Reading.objects.get(lease=live.lease)
    assert (reading.minutes_down, reading.minutes_unknown, reading.earned_micros) == (1, 59, 0)


