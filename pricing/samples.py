"""What may be said from a sample: its share with an interval, or how many are missing. Nothing from too few.

    share = sum_i saved_i / sum_i basis_i        the ratio of sums, so that large leases count as large

The interval is the percentile bootstrap over buyers: 2,000 resamples, 2.5 % left out at each end, drawn from a hash of
the sample. The middle half are the quartiles of the shares of single leases. All integers; shares in parts per million.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from pricing.errors import EstimateError

PPM = 1_000_000
RESAMPLES = 2_000
LOW_TAIL_PER_MILLE, HIGH_TAIL_PER_MILLE = 25, 975
METHOD = (
    "Sum of (counterfactual less paid) over the sum of counterfactuals, for what was delivered and before SLA credits; "
    "95 % percentile bootstrap over buyers, 2,000 resamples."
)


@dataclass(frozen=True)
class Claim:
    """A share that may be published, or only how much of it was measured."""

    n: int
    buyers: int
    n_min: int
    buyers_min: int
    share_ppm: int | None  # None: not enough data, and then nothing else is told
    low_ppm: int | None
    high_ppm: int | None
    quartiles_ppm: tuple[int, int, int] | None
    method: str = METHOD

    @property
    def is_published(self) -> bool:
        return self.share_ppm is not None


def published(rows: Iterable[tuple[str, int, int]], *, n_min: int, buyers_min: int) -> Claim:
    """Return the claim from rows of (buyer, saved, basis), refused below `n_min` rows or `buyers_min` buyers.

    A basis is at least 1; raises EstimateError otherwise.
    """
    found = sorted(rows)
    if any(basis < 1 for _, _, basis in found):
        raise EstimateError("A share needs a basis above zero.", field="basis")
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for buyer, saved, basis in found:
        sums[buyer][0] += saved
        sums[buyer][1] += basis
    if len(found) < n_min or len(sums) < buyers_min:
        return Claim(len(found), len(sums), n_min, buyers_min, None, None, None, None)
    each = [(saved, basis) for _, (saved, basis) in sorted(sums.items())]
    shares = sorted(saved * PPM // basis for _, saved, basis in found)
    quartiles = (shares[len(shares) // 4], shares[len(shares) // 2], shares[3 * len(shares) // 4])
    whole = sum(saved for saved, _ in each) * PPM // sum(basis for _, basis in each)
    return Claim(len(found), len(sums), n_min, buyers_min, whole, *ratio_interval(each), quartiles)


def ratio_interval(each: list[tuple[int, int]]) -> tuple[int, int]:
    """Return the 95 % percentile bootstrap of sum(first) / sum(second) over draws of whole rows, in ppm.

    Sums of draws are floats: their error is some 10^-13 of a share that is told to 10^-6.
    """
    seed = int.from_bytes(hashlib.sha256(repr(each).encode()).digest(), "big")
    words = np.random.PCG64(seed).random_raw(RESAMPLES * len(each))  # raw words: their stream is fixed
    drawn = (words % np.uint64(len(each))).astype(np.int64).reshape(RESAMPLES, len(each))
    above, below = (np.array(side, dtype=np.float64)[drawn].sum(axis=1) for side in zip(*each, strict=True))
    shares = np.sort(np.rint(above / below * PPM).astype(np.int64))
    low, high = (int(shares[RESAMPLES * tail // 1000]) for tail in (LOW_TAIL_PER_MILLE, HIGH_TAIL_PER_MILLE))
    return low, high
