"""One machine under two names cannot be at work under both at once, at its class's rate."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.errors import MalformedProof
from pricing.overlap import ROLL_MS, all_together, are_two, sized_in_time
from pricing.presets import PILOT
from pricing.transcript import OPS_SHARE_BPS


def test_what_is_done_one_after_the_other_may_be_one_machines() -> None:
    assert not are_two((0, 1000), (1000, 2000))
    assert not are_two((0, 1000), (5000, 6000))
    assert not are_two((0, 1000), (700, 1700))
    assert are_two((0, 1000), (699, 1699))
    assert are_two((0, 1000), (0, 1000))
    assert not are_two((0, 1000), (0, 0))
    with pytest.raises(MalformedProof):
        are_two((1, 0), (0, 1))
    with pytest.raises(MalformedProof):
        are_two((0, 1), (1, 0))


@given(
    work=st.tuples(st.integers(1, 10**6), st.integers(1, 10**6)),
    start=st.integers(0, 10**6), share=st.integers(0, 10_000), gap=st.integers(0, 10**5),
)  # fmt: skip
def test_no_schedule_of_one_machine_passes_for_two(
    work: tuple[int, int], start: int, share: int, gap: int
) -> None:
    """A machine of one operation a millisecond does both works, split as it likes, each at 85 % of the rate asked."""
    first, second = work
    # The second begins while the first runs; until the first ends it gets `share` of the machine.
    alone = min(start, first)
    rest = first - alone
    end_first = alone + (rest * 10_000 // max(1, 10_000 - share) + 1 if rest else 0)
    done = min(second, (end_first - alone) * share // 10_000)
    spans = (0, end_first), (alone, end_first + second - done + gap)
    passes = [w * 10_000 >= OPS_SHARE_BPS * (to - at) for w, (at, to) in zip(work, spans, strict=True)]
    if all(passes) and spans[1][1] - spans[0][0] >= first + second:
        assert not are_two(*spans)


SPANS = st.tuples(st.integers(0, 3_000), st.integers(0, 2_000)).map(lambda drawn: (drawn[0], sum(drawn)))


@given(st.lists(SPANS, min_size=2, max_size=6))
def test_all_are_together_when_any_two_are_two(spans: list[tuple[int, int]]) -> None:
    assert all_together(spans) == all(are_two(*pair) for pair in combinations(spans, 2))


def test_one_alone_is_one_and_a_span_that_ends_before_it_begins_is_refused() -> None:
    assert all_together([(5, 5)])
    assert all_together([])
    with pytest.raises(MalformedProof):
        all_together([(0, 1), (1, 0)])


@pytest.mark.parametrize("rate", [20 * 10**9, 125 * 10**9, 10**12, 10**13, 4 * 10**14])
def test_every_machine_is_asked_for_about_the_same_time(rate: int) -> None:
    preset = sized_in_time(PILOT.operations * 10**9 // rate)

    assert ROLL_MS / 2 <= 1000 * preset.operations / rate <= ROLL_MS
    assert (preset.blocks, preset.rows_opened >= 256) == (1, True)


def test_the_slowest_machine_takes_the_smallest_chain_and_no_time_is_refused() -> None:
    assert sized_in_time(10**12).operations == 2 * 2048**3
    with pytest.raises(MalformedProof):
        sized_in_time(0)
