"""What stands below, at and above a price in a cell against plain loops, at any size of blocks, spans and walks."""

import numpy as np
import pytest

from pricing import ladder
from pricing.ladder import Ladder, ladder_of, strictly_filled
from pricing.ranges import Lines
from tests.pricing.test_ranges import drawn, each


@pytest.fixture(params=[(1, 1, 0.2), (3, 4, 2), (1_000, 1 << 20, 2), (2, 1 << 20, 0.2)], autouse=True)
def cut(request, monkeypatch):
    """Every answer is the same however lines are cut into blocks, walks and spans."""
    for name, value in zip(("BLOCKS", "WALK", "SPAN_HOURS"), request.param, strict=True):
        monkeypatch.setattr(ladder, name, value)
    monkeypatch.setattr(ladder, "NEAR", 1)


def covering(lines, slots, cell):
    """(price, units) of the lines over a cell, by price."""
    pool, slot = divmod(cell, slots)
    return sorted((price, units) for p, price, units, start, end, _ in each(lines) if p == pool and start <= slot < end)


@pytest.mark.parametrize("seed", range(6))
def test_units_and_worth_before_a_price_are_those_of_the_cheaper_lines_there(seed):
    lines, grid = drawn(seed)
    cells, prices = np.arange(grid.size), grid.ravel()
    found = Ladder(lines, grid.shape)

    places = found.place(cells, prices)

    everybody = [covering(lines, grid.shape[1], c) for c in cells]
    cheaper = [[line for line in some if line[0] < price] for some, price in zip(everybody, prices, strict=True)]
    assert found.units(cells, places).tolist() == [sum(units for _, units in some) for some in cheaper]
    assert found.worth(cells, places).tolist() == [sum(price * units for price, units in some) for some in cheaper]
    assert found.all_units(cells).tolist() == [sum(units for _, units in some) for some in everybody]
    assert found.all_worth(cells).tolist() == [sum(price * units for price, units in some) for some in everybody]


@pytest.mark.parametrize("price", [-5, 0, 1 << 24, 1 << 50])
def test_a_price_beyond_all_lines_is_before_the_first_or_after_the_last(price):
    lines, grid = drawn(3)
    cells = np.arange(grid.size)
    found = Ladder(lines, grid.shape)

    units = found.units(cells, found.place(cells, np.full(grid.size, price)))

    assert units.tolist() == (found.all_units(cells).tolist() if price > 0 else [0] * grid.size)


@pytest.mark.parametrize("seed", range(6))
def test_lines_between_two_prices_come_in_the_order_of_cell_and_price(seed):
    lines, grid = drawn(seed)
    cells, low = np.arange(grid.size), grid.ravel()
    high = low + 9
    found = Ladder(lines, grid.shape)

    parts = found.between(cells, found.place(cells, low), found.place(cells, high))

    told = [row for part in parts for row in zip(*(column.tolist() for column in part), strict=True)]
    expected = [(c, price, units) for c in cells.tolist() for price, units in covering(lines, grid.shape[1], c)
                if low[c] <= price < high[c]]
    assert sorted(told) == expected
    assert [row[:2] for row in told] == [row[:2] for row in expected]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("way", [-1, 1])
def test_the_nearest_line_of_a_cell_is_found_however_many_others_stand_between(seed, way):
    lines, grid = drawn(seed)
    found = Ladder(lines, grid.shape)
    expected = {}
    for c in range(grid.size):
        prices = [price for price, _ in covering(lines, grid.shape[1], c)]
        there = [price for price in prices if (price < grid.ravel()[c]) == (way < 0)]
        if there:
            expected[c] = max(there) if way < 0 else min(there)
    cells = np.array(list(expected), dtype=np.int64)

    assert found.nearest(cells, found.place(cells, grid.ravel()[cells]), way).tolist() == list(expected.values())


@pytest.mark.parametrize("seed", range(6))
def test_blocks_hold_what_stands_between_their_own_ends(seed):
    lines, grid = drawn(seed)
    cells = np.arange(grid.size)
    found = Ladder(lines, grid.shape)
    low, high = found.place(cells, grid.ravel()), found.place(cells, grid.ravel() + 9)

    blocks = found.blocks(cells, low, high)

    assert (blocks.low <= low).all()
    assert (blocks.high >= high).all()
    for of_block, total in ((blocks.units, found.units), (blocks.worth, found.worth)):
        held = np.bincount(blocks.cell, of_block, grid.size)
        assert held.tolist() == (total(cells, blocks.high) - total(cells, blocks.low)).tolist()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("sign", [1, -1])
def test_lines_that_gain_are_full_and_those_at_the_price_are_counted_apart(seed, sign):
    lines, grid = drawn(seed)
    gaining, standing, worth = (np.zeros_like(grid) for _ in range(3))
    for pool, price, units, start, end, _ in each(lines):
        for t in range(start, end):
            gains = sign * (price - grid[pool, t]) > 0
            gaining[pool, t] += units * gains
            worth[pool, t] += units * price * gains
            standing[pool, t] += units * (price == grid[pool, t])

    found = strictly_filled(Ladder(lines, grid.shape), grid, sign)

    assert all((one == other).all() for one, other in zip(found, (gaining, standing, worth), strict=True))


def test_a_ladder_is_made_once_for_the_same_lines():
    lines, grid = drawn(2)
    same = Lines(*vars(lines).values())

    assert ladder_of(lines, grid.shape) is ladder_of(lines, grid.shape)
    assert ladder_of(same, grid.shape) is not ladder_of(lines, grid.shape)
    assert ladder_of(lines, (grid.shape[0] + 1, grid.shape[1])).shape != grid.shape
