"""The chain's part of the books can be rebuilt from the first block, and any difference is named."""

from __future__ import annotations

import pytest
from django.db import connection, transaction

from ledger.models import ChainEvent, Transfer
from ledger.rails.base import Chain
from ledger.rails.rebuild import rebuild
from tests.rails.conftest import Clock
from tests.rails.test_story import PROVIDER, Market

USD = 1_000_000


@pytest.fixture
def market(rails: Chain, clock: Clock) -> Market:
    market = Market(rails, clock)
    market.fund()
    market.attest()
    market.prove(1, epoch=1)
    market.stake()
    market.turn()
    clock.forward(days=15)
    market.prove(2, epoch=2)
    market.turn()
    market.lock()
    market.turn()
    clock.forward(hours=2)
    market.settle()
    market.turn()
    assert PROVIDER
    return market


def broken(market: Market) -> set[str]:
    return {found.invariant for found in rebuild(now=market.clock.now) if not found.ok}


def altered(statement: str) -> None:
    """Change what no code of ours can change."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(statement)
        assert cursor.rowcount == 1


def test_a_rebuild_from_the_first_block_equals_the_books_and_changes_nothing(market: Market) -> None:
    before = list(Transfer.objects.order_by("seq").values_list("seq", "id", "amount"))
    assert broken(market) == set()
    assert list(Transfer.objects.order_by("seq").values_list("seq", "id", "amount")) == before


def test_a_transfer_that_is_missing_is_found(market: Market) -> None:
    altered("DELETE FROM ledger_transfer WHERE code = (SELECT code FROM ledger_transfer WHERE seq = 1) AND seq = 1")
    assert "rebuild.nothing_was_missing_in_the_books" in broken(market)


def test_a_transfer_with_another_amount_is_found(market: Market) -> None:
    altered("UPDATE ledger_transfer SET amount = amount + 1 WHERE seq = 1")
    assert "rebuild.every_event_can_be_booked_again" in broken(market)


def test_a_transfer_that_names_no_event_of_the_chain_is_found(market: Market) -> None:
    altered("UPDATE ledger_transfer SET reference = decode(repeat('ab', 36), 'hex') WHERE seq = 1")
    assert "rebuild.every_transfer_of_the_chain_has_its_event" in broken(market)


def test_an_event_that_was_changed_here_is_found(market: Market) -> None:
    event = ChainEvent.objects.get(name="Deposited")
    event.args["amount"] = 1_001 * USD
    event.save()
    assert broken(market) == {"rebuild.every_event_is_kept_as_the_chain_tells_it"}
