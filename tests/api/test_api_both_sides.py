"""M-049: what was metered, rated and credited of a lease is one text, whichever side reads it."""

from __future__ import annotations

import pytest

from tests.api.conftest import caller


def lease_between(market):
    lease = next(row for row in market.leases if row.buyer_id == market.buyers[0].pk and row.verdict.is_breach)
    return lease, f"lea_{lease.pk.hex}"


@pytest.mark.parametrize("what", ["/evidence", "/health"])
def test_buyer_and_provider_read_the_same_lines_to_the_byte(market, buyer, other_buyer, what):
    lease, name = lease_between(market)
    seller = caller(lease.provider)

    theirs, ours = seller.get(f"/leases/{name}{what}"), buyer.get(f"/leases/{name}{what}")

    assert (ours.status_code, theirs.status_code) == (200, 200)
    assert theirs.content == ours.content
    assert len(ours.content) > 100
    assert other_buyer.get(f"/leases/{name}{what}").status_code == 404
