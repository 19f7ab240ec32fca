"""Windows that only fractions would serve, and one unit more for whoever was held down though it gains."""

from dataclasses import replace

import pytest

from pricing import exact
from pricing.bundle import public_bundle
from pricing.clearing import clear
from pricing.lines import Rules
from pricing.verify import verify_bundle
from tests.pricing import promises
from tests.pricing.drawn import by_seed, tied_book, tied_lines
from tests.pricing.lines import bid, book, demand

# Of the seeds below 20,000 those whose relaxation has a vertex with a part of a unit.
TIED = (
    503, 643, 773, 861, 878, 1123, 1130, 1291, 1411, 1678, 1767, 2066, 2131, 2142, 2246, 2597, 2805, 2926, 3095,
    3153, 3184, 3326, 3370, 3416, 3429, 3539, 3737, 3799, 3975, 4015, 4227, 4269, 4380, 4757, 4779, 5192, 5195,
    5719, 6157, 6263, 6761, 7131, 7228, 7617, 7685, 7797, 8016, 8534, 8992, 9107, 9232, 9300, 9469, 9830, 10000,
    10010, 10134, 10281, 10330, 10510, 10619, 10762, 11058, 11211, 11454, 11611, 11770, 11774, 12007, 12392, 12627,
    12673, 12861, 13024, 13122, 13224, 13306, 13483, 13486, 13719, 13732, 13824, 13902, 14018, 14195, 14572, 14648,
    14841, 15130, 15425, 15685, 15944, 16055, 16291, 16469, 16676, 16752, 16988, 17035, 17279, 17341, 17522, 17604,
    17661, 17964, 18018, 18046, 18709, 18776, 18799, 18811, 18954, 19103, 19136, 19365, 19612, 19635, 19821, 19858,
    19886,
)


@pytest.fixture
def no_search(monkeypatch):
    """As in a book that is too large for branch and bound."""
    monkeypatch.setattr(exact, "LINE_SLOTS_MAX", 0)


@pytest.mark.parametrize("seed", TIED[:16])
def test_a_small_book_of_tied_windows_is_cleared_to_its_best_whole_units(seed):
    promises.a_book_that_prices_can_ration_is_cleared_to_its_optimum(clear(tied_book(by_seed(seed))))


@pytest.mark.slow
@pytest.mark.parametrize("seed", TIED)
def test_every_promise_holds_for_every_book_of_tied_windows(seed):
    outcome = clear(tied_book(by_seed(seed)))

    for promise in promises.PROMISES:
        promise(outcome)


@pytest.mark.parametrize("seed", TIED[::6])
def test_where_a_book_is_too_large_to_search_no_unit_can_be_taken_from_a_line_worth_less(no_search, seed):
    promises.the_verifier_agrees(clear(tied_book(by_seed(seed))))


@pytest.mark.parametrize("seed", [503, 2131, 2805])
def test_without_the_exchanges_some_books_would_be_refused(no_search, monkeypatch, seed):
    one = tied_book(by_seed(seed))
    exchanged = clear(one)
    monkeypatch.setattr("pricing.wholes.exchanges", lambda *_: iter(()))

    robbed = clear(one)

    assert verify_bundle(public_bundle(exchanged, window="w")).ok
    assert verify_bundle(public_bundle(robbed, window="w")).failed() == ("exchanges",)
    assert exchanged.welfare_micros > robbed.welfare_micros


@pytest.mark.parametrize("seed", [503, 2131, 2805])
def test_exchanges_that_share_no_slot_are_made_at_once(no_search, seed):
    """Twelve such books side by side: one after the other they would take twelve times as many solves."""
    alone = clear(_side_by_side(seed, 1))
    together = clear(_side_by_side(seed, 12))

    assert together.welfare_micros == 12 * alone.welfare_micros > 0
    assert together.priced.whole.rounds <= 2 * alone.priced.whole.rounds
    promises.the_verifier_agrees(together)


def _side_by_side(seed, count):
    lines, slots = tied_lines(by_seed(seed))
    return book(*(
        replace(line, id=f"{line.id}-{n}", start_slot=line.start_slot + n * slots, end_slot=line.end_slot + n * slots)
        for n in range(count) for line in lines), slots=count * slots)


def test_what_the_budget_has_left_over_buys_one_unit_more_of_a_cheaper_line():
    """900 buys three parts of four of the dear unit; held at none, it leaves what pays for the cheap one."""
    outcome = clear(book(
        bid("b", 100, 5), demand("dear", 1_200, 1, is_foundation=True), demand("cheap", 300, 2, is_foundation=True),
        slots=1, rules=Rules(foundation_budget_micros=900)))

    assert [(award.demand_id, award.units) for award in outcome.awards] == [("cheap", 2)]
    promises.the_verifier_agrees(outcome)


def between_two_ticks():
    """Without some of its windows this book settles in whole units, at prices that only halves of a tick can be."""
    windows = ((700, 1, 1, 3, "A"), (700, 1, 0, 3, "A"), (600, 1, 1, 4, "AB"), (1_000, 2, 0, 3, "A"),
               (800, 1, 1, 3, "BC"), (1_100, 2, 1, 4, "A"), (600, 1, 2, 4, "AB"), (800, 2, 1, 4, "BC"),
               (800, 3, 0, 4, "ABC"), (1_100, 2, 2, 4, "AB"))
    asks = ((100, 0, "A"), (200, 1, "A"), (200, 2, "A"), (300, 3, "A"), (100, 1, "B"), (200, 2, "B"))
    return book(
        *(demand(f"d{n}", limit, units, (start, end), kind="window", accepted_classes=tuple(classes))
          for n, (limit, units, start, end, classes) in enumerate(windows)),
        *(bid(f"{known.lower()}{slot}", ask, 1, (slot, slot + 1), resource_class=known) for ask, slot, known in asks))


def test_prices_between_two_ticks_hold_the_windows_that_tie_them_and_fail_nothing(no_search, monkeypatch):
    """Seen before anything better is looked for: search and exchanges often come past such prices."""
    monkeypatch.setattr("pricing.wholes.exchanges", lambda *_: iter(()))

    promises.the_certificate_is_true(clear(between_two_ticks()))


def test_the_same_book_is_cleared_to_its_optimum():
    outcome = clear(between_two_ticks())

    promises.a_book_that_prices_can_ration_is_cleared_to_its_optimum(outcome)
    promises.the_verifier_agrees(outcome)
