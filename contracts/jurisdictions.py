"""Jurisdictions as bit positions: what a mandate's masks and a class attestation's indices mean.

`jurisdictions.json` maps each ISO 3166-1 alpha-2 code to its index (0..248, alphabetical). The list is fixed per
deployment: `LIST_HASH` is an immutable of `stake.vy`, so a mask signed today can never come to mean other countries.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_FILE = Path(__file__).with_name("jurisdictions.json")
INDEX_BY_COUNTRY: Final[dict[str, int]] = json.loads(_FILE.read_text(encoding="ascii"))
COUNTRY_BY_INDEX: Final[dict[int, str]] = {index: country for country, index in INDEX_BY_COUNTRY.items()}
EVERY_COUNTRY_MASK: Final[int] = (1 << len(INDEX_BY_COUNTRY)) - 1
# sha256 of the compact, key-sorted JSON: independent of how the file is laid out
LIST_HASH: Final[bytes] = hashlib.sha256(
    json.dumps(INDEX_BY_COUNTRY, sort_keys=True, separators=(",", ":")).encode("ascii")
).digest()


def index_of(country: str) -> int:
    """Return the index (0..248) of an ISO 3166-1 alpha-2 code; raises ValueError for any other string."""
    try:
        return INDEX_BY_COUNTRY[country]
    except KeyError:
        raise ValueError(f"no such jurisdiction: {country!r} is not an ISO 3166-1 alpha-2 code") from None


def mask_of(countries: Iterable[str]) -> int:
    """Return the 256-bit mask with one bit per country, as `Mandate.zone_mask` and `parent_mask` want it."""
    mask = 0
    for country in countries:
        mask |= 1 << index_of(country)
    return mask


def countries_of(mask: int) -> tuple[str, ...]:
    """Return the countries of a mask, alphabetically; raises ValueError if a bit means no country."""
    if mask & ~EVERY_COUNTRY_MASK or mask < 0:
        raise ValueError(f"mask {mask:#x} has a bit beyond the last jurisdiction")
    return tuple(country for country, index in INDEX_BY_COUNTRY.items() if mask >> index & 1)
