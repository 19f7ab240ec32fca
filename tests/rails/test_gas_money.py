"""A key that cannot pay for its calls waits, says what is missing, and gets coin from the funding key."""

from __future__ import annotations

from typing import Any

import pytest

from ledger.models import ChainIntent, KeyCoin
from ledger.rails import evm, sender
from ledger.rails.signer import signer
from tests.rails.anvil import RICH_WEI, Anvil
from tests.rails.conftest import START

SINK = "0x" + "99" * 20
GWEI = 10**9


def mint(key: str, amount: int = 1) -> ChainIntent:
    return sender.submit(key=key, role="faucet", contract="token", function="mint", args=[SINK, amount], now=START)


def settle(node: Anvil) -> None:
    for _ in range(4):
        sender.pump(now=START)
        node.finalize()


def state_of(row: ChainIntent) -> str:
    row.refresh_from_db()
    return str(row.state)


@pytest.fixture
def poor(anvil: Anvil) -> Anvil:
    """The faucet's key holds five gwei, the funding key plenty."""
    anvil.rpc("anvil_setBalance", signer().address("faucet"), hex(5 * GWEI))
    anvil.rpc("anvil_setBalance", signer().address("funder"), RICH_WEI)
    return anvil


def test_a_short_key_waits_with_both_figures_and_sends_once_somebody_paid_in(poor: Anvil) -> None:
    first, second = mint("first", 1), mint("second", 2)
    other = sender.submit(key="other", role="operator", contract="escrow", function="open_window",
                          args=[1, int(START.timestamp()) + 10**6], now=START)  # fmt: skip
    settle(poor)

    assert (state_of(first), state_of(second), state_of(other)) == ("queued", "queued", "final")
    assert first.trouble.startswith("The key faucet holds 0.000000005 for gas, its calls may cost 0.00")
    seen = KeyCoin.objects.get(role="faucet")
    assert (seen.held_gwei, seen.is_short, seen.address) == (5, True, signer().address("faucet"))
    assert not KeyCoin.objects.get(role="operator").is_short
    assert not ChainIntent.objects.filter(contract="coin").exists(), "nobody allowed it"

    poor.rpc("anvil_setBalance", signer().address("faucet"), RICH_WEI)
    settle(poor)
    assert (state_of(first), state_of(second), first.trouble) == ("final", "final", "")
    assert not KeyCoin.objects.get(role="faucet").is_short
    assert evm.chain().call("token", "balanceOf", SINK) == 3


def test_the_funding_key_gives_what_is_missing_once(poor: Anvil, settings: Any) -> None:
    settings.CHAIN_TOP_UP_GWEI = 10**8
    rows = [mint(f"call {number}") for number in range(3)]
    for _ in range(3):  # while the transfer is under way nothing more is asked for
        sender.pump(now=START)
    assert ChainIntent.objects.filter(contract="coin").count() == 1
    settle(poor)

    gift = ChainIntent.objects.get(contract="coin")
    assert (gift.state, gift.role, gift.value_gwei, gift.key) == ("final", "funder", 10**8, "gas:faucet:0")
    assert [state_of(row) for row in rows] == ["final"] * 3
    assert evm.chain().call("token", "balanceOf", SINK) == 3
    assert evm.chain().coin_wei(signer().address("faucet")) < 10**8 * GWEI, "its gas was paid out of that"


def test_a_funding_key_that_is_short_itself_waits_and_asks_nobody(poor: Anvil, settings: Any) -> None:
    settings.CHAIN_TOP_UP_GWEI = 10**8
    poor.rpc("anvil_setBalance", signer().address("funder"), hex(GWEI))
    row = mint("call")
    settle(poor)
    gift = ChainIntent.objects.get(contract="coin")
    assert (state_of(row), gift.state) == ("queued", "queued")
    assert gift.trouble.startswith("The key funder holds 0.000000001 for gas")
