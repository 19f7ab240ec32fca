"""Sums and extremes over slots against plain loops, at any split into parts."""

import random

import numpy as np
import pytest

from pricing import ranges
from pricing.ranges import (
    Lines,
    RangeExtremes,
    chunks,
    cover,
    exact_product,
    join_lines,
    line_slots,
    range_sums,
    slot_by_slot,
    surplus,
)


def drawn(seed, count=30, pools=3, slots=9, price=40):
    rng = random.Random(seed)
    rows = []
    for n in range(rng.randrange(count)):
        start = rng.randrange(slots)
        rows.append((rng.randrange(pools), rng.randrange(1, price), rng.randrange(1, 9), start,
                     rng.randrange(start + 1, slots + 1), n))
    grid = np.array([[rng.randrange(price) for _ in range(slots)] for _ in range(pools)], dtype=np.int64)
    return Lines(*np.array(rows, dtype=np.int64).reshape(-1, 6).T), grid


def each(lines):
    return [tuple(int(column[n]) for column in vars(lines).values()) for n in range(len(lines))]


@pytest.fixture(params=[1, 7, 1 << 20], autouse=True)
def parts(request, monkeypatch):
    """Every answer is the same however few line-slots fit the memory."""
    monkeypatch.setattr(ranges, "CHUNK", request.param)


@pytest.mark.parametrize("seed", range(8))
def test_extremes_and_sums_over_ranges_are_those_of_their_slots(seed):
    lines, grid = drawn(seed)
    found = RangeExtremes(grid)

    at = lines.pool, lines.start, lines.end
    spans = [grid[pool, start:end] for pool, _, _, start, end, _ in each(lines)]
    assert found.least(*at).tolist() == [span.min() for span in spans]
    assert found.most(*at).tolist() == [span.max() for span in spans]
    assert range_sums(grid, *at).tolist() == [span.sum() for span in spans]


@pytest.mark.parametrize("seed", range(8))
def test_cover_adds_a_weight_in_every_slot_of_a_line(seed):
    lines, grid = drawn(seed)
    expected = np.zeros_like(grid)
    for pool, _, units, start, end, _ in each(lines):
        expected[pool, start:end] += units

    assert (cover(lines, lines.units, *grid.shape) == expected).all()


@pytest.mark.parametrize("seed", range(8))
def test_every_line_is_met_once_in_each_of_its_slots(seed):
    lines, _ = drawn(seed)
    expected = [(n, t) for n, (_, _, _, start, end, _) in enumerate(each(lines)) for t in range(start, end)]
    owner, slot = line_slots(lines.start, lines.end)

    assert list(zip(owner.tolist(), slot.tolist(), strict=True)) == expected
    parts = [(int(some[n]), int(t)) for some, owner, slot in slot_by_slot(lines, np.arange(len(lines)))
             for n, t in zip(owner, slot, strict=True)]
    assert parts == expected
    assert [n for part in chunks(lines.start, lines.end) for n in range(part.start, part.stop)] == list(
        range(len(lines)))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("sign", [1, -1])
def test_surplus_is_what_a_unit_gains_in_the_slots_where_it_gains(seed, sign):
    lines, grid = drawn(seed)

    assert surplus(lines, grid, sign).tolist() == [
        sum(max(0, sign * (price - int(p))) for p in grid[pool, start:end])
        for pool, price, _, start, end, _ in each(lines)]


def test_a_product_beyond_63_bits_is_exact():
    gain, units = np.array([744 * 10**9, 3], dtype=np.int64), np.array([1 << 20, 5], dtype=np.int64)

    assert exact_product(gain, units) == 744 * 10**9 * (1 << 20) + 15
    assert exact_product(np.full(9, 1 << 55), np.full(9, 1 << 20)) == 9 << 75
    assert exact_product(-gain, units) == -744 * 10**9 * (1 << 20) - 15


def test_lines_are_taken_and_joined_by_place():
    lines, _ = drawn(1)

    assert each(join_lines(lines.take(np.arange(3)), lines.take(np.arange(3, len(lines))))) == each(lines)
    assert each(lines.take(lines.units > 4)) == [row for row in each(lines) if row[2] > 4]
