"""Money is a whole number of one asset, and a division loses nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import AmountOutOfRange, UnlikeAssets
from ledger.money import INT64_MAX, USD2, USDC6, Asset, Money, Rounding, muldiv

whole = st.integers(min_value=0, max_value=INT64_MAX)


def test_money_of_one_asset_adds_and_compares():
    assert Money(40, USDC6) + Money(2, USDC6) == Money(42, USDC6)
    assert Money(40, USDC6) - Money(42, USDC6) == Money(-2, USDC6)
    assert -Money(5, USDC6) == Money(-5, USDC6)
    assert Money(1, USDC6) < Money(2, USDC6) <= Money(2, USDC6)
    assert Money(3, USDC6) > Money(2, USDC6) >= Money(2, USDC6)
    assert not Money(0, USDC6)


def test_unlike_assets_do_not_mix():
    for mix in (lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a < b, lambda a, b: a >= b):
        with pytest.raises(UnlikeAssets) as refusal:
            mix(Money(1, USDC6), Money(1, USD2))
        assert refusal.value.facts == {"left": "USDC6", "right": "USD2"}
        assert isinstance(refusal.value, TypeError)


@pytest.mark.parametrize("minor", [1.5, "1", True, None])
def test_money_is_made_of_whole_numbers_only(minor):
    with pytest.raises(TypeError):
        Money(minor, USDC6)


def test_money_does_not_mix_with_plain_numbers():
    with pytest.raises(TypeError):
        Money(1, USDC6) + 1  # type: ignore[operator]
    with pytest.raises(TypeError):
        Money(1, "USDC6")  # type: ignore[arg-type]


def test_a_sum_beyond_64_bits_is_an_error_and_never_a_wrap():
    assert Money(INT64_MAX - 1, USDC6) + Money(1, USDC6) == Money(INT64_MAX, USDC6)

    with pytest.raises(AmountOutOfRange):
        Money(INT64_MAX, USDC6) + Money(1, USDC6)


def test_money_is_shown_in_units_of_its_asset():
    assert str(Money(1_500_000, USDC6)) == "1.500000 USDC6"
    assert str(Money(-7, USD2)) == "-0.07 USD2"
    assert str(Money(7, Asset("POINT", 0))) == "7 POINT"


def test_an_asset_has_at_most_six_decimals():
    Asset("SIX", 6)
    with pytest.raises(AmountOutOfRange):
        Asset("SEVEN", 7)


@pytest.mark.parametrize(
    ("rounding", "expected"), [(Rounding.DOWN, [2, 3, -3]), (Rounding.UP, [3, 4, -2]), (Rounding.HALF_EVEN, [2, 4, -2])]
)
def test_a_division_is_rounded_as_named(rounding, expected):
    assert [muldiv(a, 1, 2, rounding) for a in (5, 7, -5)] == expected


def test_a_product_may_be_wider_than_its_result():
    assert muldiv(INT64_MAX, INT64_MAX, INT64_MAX, Rounding.DOWN) == INT64_MAX
    assert Money(1_000_003, USDC6).times(250, 10_000, Rounding.DOWN) == Money(25_000, USDC6)

    with pytest.raises(AmountOutOfRange):
        muldiv(INT64_MAX, 2, 1, Rounding.DOWN)
    with pytest.raises(ValueError, match="positive"):
        muldiv(1, 1, 0, Rounding.DOWN)
    with pytest.raises(TypeError):
        muldiv(1.0, 1, 1, Rounding.DOWN)


@given(a=whole, b=whole, c=st.integers(min_value=1, max_value=INT64_MAX))
def test_rounding_up_and_down_enclose_the_true_quotient(a, b, c):
    if a * b // c >= INT64_MAX:
        return
    down, up = muldiv(a, b, c, Rounding.DOWN), muldiv(a, b, c, Rounding.UP)

    assert down * c <= a * b <= up * c
    assert up - down == (a * b % c != 0)


@given(minor=whole, weights=st.lists(whole, min_size=1, max_size=12).filter(any))
def test_a_split_loses_nothing_and_weight_zero_gets_nothing(minor, weights):
    parts = [part.minor for part in Money(minor, USDC6).split(weights)]

    assert sum(parts) == minor
    assert all(part == 0 for part, weight in zip(parts, weights, strict=True) if weight == 0)
    whole_weight = sum(weights)
    assert all(abs(p * whole_weight - minor * w) < whole_weight for p, w in zip(parts, weights, strict=True))


def test_a_tie_in_a_split_goes_to_the_earlier_part():
    assert [part.minor for part in Money(10, USDC6).split([1, 1, 1])] == [4, 3, 3]
    assert [part.minor for part in Money(11, USDC6).split([1, 1, 1])] == [4, 4, 3]


@pytest.mark.parametrize("weights", [[], [0, 0], [1, -1], [1.0]])
def test_a_split_needs_weights_that_say_something(weights):
    with pytest.raises(ValueError, match="weights"):
        Money(10, USDC6).split(weights)


def test_a_debt_is_not_split():
    with pytest.raises(ValueError, match="zero or more"):
        Money(-1, USDC6).split([1])
