"""Which countries there are: ISO 3166-1 alpha-2, as the contracts' own list has them."""

from __future__ import annotations

from contracts.jurisdictions import INDEX_BY_COUNTRY
from marketplace.errors import BadInput


def require_country(code: object, field: str) -> None:
    """Refuse a code that no country has: residency is judged by it, and no mandate could name it."""
    if not isinstance(code, str) or code not in INDEX_BY_COUNTRY:
        raise BadInput("A country is two capital letters of ISO 3166, such as DE; there is none of this code.",
                       field=field)  # fmt: skip
