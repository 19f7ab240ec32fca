"""Whole amounts of one asset: no float, no Decimal, nothing lost in a division."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from ledger.errors import AmountOutOfRange, UnlikeAssets

INT64_MIN = -(2**63)
INT64_MAX = 2**63 - 1


class Rounding(Enum):
    """Where the part goes that a division leaves over."""

    DOWN = "down"  # towards minus infinity
    UP = "up"  # towards plus infinity
    HALF_EVEN = "half_even"  # to the nearest; a tie goes to the even neighbour


@dataclass(frozen=True, slots=True)
class Asset:
    """One kind of money. `scale` is the number of decimals of its minor unit, 0 to 6."""

    code: str
    scale: int

    def __post_init__(self) -> None:
        if not 0 <= self.scale <= 6:
            raise AmountOutOfRange("An asset has 0 to 6 decimals.", code=self.code, scale=self.scale)


USDC6 = Asset("USDC6", 6)  # micro-USD, as the stablecoin on chain counts
USD2 = Asset("USD2", 2)  # cents at the card processor
GRANT = Asset("GRANT", 6)  # allocation credits; never payable out
PLAY = Asset("PLAY", 6)  # the API's sandbox; never on chain
ASSETS = {asset.code: asset for asset in (USDC6, USD2, GRANT, PLAY)}


def require_int64(value: object, *, what: str) -> int:
    """Return `value` if it is a whole number that fits 64 bits; AmountOutOfRange otherwise, TypeError for a non-int."""
    if type(value) is not int:  # bool is an int to isinstance, and never an amount
        raise TypeError(f"{what} must be an int, not {type(value).__name__}")
    if not INT64_MIN <= value <= INT64_MAX:
        raise AmountOutOfRange(f"{what} does not fit 64 bits.", what=what, value=str(value))
    return value


def muldiv(a: int, b: int, c: int, rounding: Rounding) -> int:
    """Return a * b / c in whole numbers, rounded as named. Only the result must fit 64 bits."""
    for value in (a, b, c):
        if type(value) is not int:
            raise TypeError(f"muldiv takes ints, not {type(value).__name__}")
    if c <= 0:
        raise ValueError("muldiv divides by a positive number only")
    quotient, rest = divmod(a * b, c)
    round_up = (rounding is Rounding.UP and rest > 0) or (
        rounding is Rounding.HALF_EVEN and (2 * rest > c or (2 * rest == c and quotient % 2 == 1))
    )
    return require_int64(quotient + round_up, what="muldiv")


@dataclass(frozen=True, slots=True)
class Money:
    """`minor` units of one asset. Adding or comparing two assets raises UnlikeAssets (a TypeError)."""

    minor: int
    asset: Asset

    def __post_init__(self) -> None:
        require_int64(self.minor, what="Money")
        if not isinstance(self.asset, Asset):
            raise TypeError(f"Money is of an Asset, not {type(self.asset).__name__}")

    def _same(self, other: Money) -> int:
        if not isinstance(other, Money):
            raise TypeError(f"Money meets {type(other).__name__}")
        if other.asset != self.asset:
            raise UnlikeAssets("Two assets do not mix.", left=self.asset.code, right=other.asset.code)
        return other.minor

    def __add__(self, other: Money) -> Money:
        return Money(self.minor + self._same(other), self.asset)

    def __sub__(self, other: Money) -> Money:
        return Money(self.minor - self._same(other), self.asset)

    def __neg__(self) -> Money:
        return Money(-self.minor, self.asset)

    def __lt__(self, other: Money) -> bool:
        return self.minor < self._same(other)

    def __le__(self, other: Money) -> bool:
        return self.minor <= self._same(other)

    def __gt__(self, other: Money) -> bool:
        return self.minor > self._same(other)

    def __ge__(self, other: Money) -> bool:
        return self.minor >= self._same(other)

    def __bool__(self) -> bool:
        return self.minor != 0

    def __str__(self) -> str:
        sign, whole = ("-" if self.minor < 0 else ""), abs(self.minor)
        if self.asset.scale == 0:
            return f"{sign}{whole} {self.asset.code}"
        units, rest = divmod(whole, 10**self.asset.scale)
        return f"{sign}{units}.{rest:0{self.asset.scale}d} {self.asset.code}"

    def times(self, numerator: int, denominator: int, rounding: Rounding) -> Money:
        """Return this amount times numerator / denominator, rounded as named."""
        return Money(muldiv(self.minor, numerator, denominator, rounding), self.asset)

    def split(self, weights: Sequence[int]) -> list[Money]:
        """Divide this amount by `weights` so that the parts sum to it exactly.

        Largest remainder; ties go to the earlier position; weight zero gets zero. The amount must not be negative.
        ValueError when no weight is positive or one is negative.
        """
        if self.minor < 0:
            raise ValueError("only an amount of zero or more can be split")
        if any(type(weight) is not int or weight < 0 for weight in weights) or not any(weights):
            raise ValueError("weights are whole numbers of zero or more, at least one of them positive")
        total = sum(weights)
        parts = [self.minor * weight // total for weight in weights]
        remainders = [self.minor * weight % total for weight in weights]
        by_remainder = sorted(range(len(weights)), key=lambda position: (-remainders[position], position))
        for position in by_remainder[: self.minor - sum(parts)]:
            parts[position] += 1
        return [Money(part, self.asset) for part in parts]
