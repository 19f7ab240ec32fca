"""Buyers' and providers' money: deposits, withdrawals, fees, pause."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from contracts import compile as compiler
from contracts.artifacts import Artifact, load
from contracts.eip712 import Permit
from contracts.parameters import token_arguments
from tests.contracts.chain import address_of, refused, sign
from tests.contracts.gas_calls import another_stake, built_for
from tests.contracts.world import USD, World, buyer_line, class_line, fee_of

ZERO = "0x" + "00" * 20
FAUCET = address_of("faucet")


def test_a_deposit_opens_an_account_with_an_index(world: World) -> None:
    first = world.deposit("buyer:1", 3 * USD).one("Deposited")
    world.deposit("buyer:2", 1 * USD)
    again = world.deposit("buyer:1", 2 * USD).one("Deposited")

    assert (first.index, again.index, world.account("buyer:2")["index"]) == (1, 1, 2)
    assert world.account("buyer:1")["free"] == 5 * USD
    assert world.tokens("escrow") == 6 * USD


def test_anybody_may_deposit_for_a_buyer(world: World) -> None:
    world.mint("stranger", USD, "escrow")

    world.send("stranger", "escrow", "deposit", address_of("buyer:1"), USD)

    assert world.account("buyer:1")["free"] == USD
    with refused("escrow: buyer is missing"):
        world.send("stranger", "escrow", "deposit", ZERO, USD)
    with refused("escrow: nothing arrived"):
        world.send("stranger", "escrow", "deposit", address_of("buyer:1"), 0)
    with refused("token: allowance is too small"):
        world.send("stranger", "escrow", "deposit", address_of("buyer:1"), USD)


def test_a_permit_saves_the_approval(world: World) -> None:
    world.send("faucet", "token", "mint", address_of("buyer:1"), USD)
    permit = Permit(address_of("buyer:1"), world.address("escrow"), USD, 0, world.now + 60)
    signature = sign("buyer:1", permit, world.address("token")).abi()
    foreign = sign("buyer:2", permit, world.address("token")).abi()

    with refused("token: allowance is too small"):
        world.send(
            "buyer:1", "escrow", "deposit_with_permit", address_of("buyer:1"), USD, permit.deadline, foreign
        )
    world.send("buyer:1", "escrow", "deposit_with_permit", address_of("buyer:1"), USD, permit.deadline, signature)

    assert world.account("buyer:1")["free"] == USD


def test_a_permit_that_somebody_else_brought_first_does_not_stop_the_deposit(world: World) -> None:
    world.send("faucet", "token", "mint", address_of("buyer:1"), USD)
    permit = Permit(address_of("buyer:1"), world.address("escrow"), USD, 0, world.now + 60)
    signature = sign("buyer:1", permit, world.address("token")).abi()
    world.send(
        "stranger", "token", "permit", permit.owner, permit.spender, USD, permit.deadline, *signature
    )

    world.send("buyer:1", "escrow", "deposit_with_permit", address_of("buyer:1"), USD, permit.deadline, signature)

    assert world.account("buyer:1")["free"] == USD


def test_E6_free_money_is_withdrawn_and_nothing_more(market: World) -> None:
    free = market.account("buyer:1")["free"]

    market.send("buyer:1", "escrow", "withdraw", free - 1)

    assert market.tokens("buyer:1") == free - 1
    with refused("escrow: free is too small"):
        market.send("buyer:1", "escrow", "withdraw", 2)
    with refused("escrow: nothing to withdraw"):
        market.send("buyer:1", "escrow", "withdraw", 0)
    with refused("escrow: free is too small"):
        market.send("stranger", "escrow", "withdraw", 1)


def test_E6_locked_money_is_not_withdrawn(market: World) -> None:
    market.lock([(0, 0, 500 * USD)])

    with refused("escrow: free is too small"):
        market.send("buyer:1", "escrow", "withdraw", 9_501 * USD)

    market.send("buyer:1", "escrow", "withdraw", 9_500 * USD)


def test_E6_a_pause_stops_lock_and_nothing_else(market: World) -> None:
    market.lock([(0, 0, 500 * USD)])
    market.send("pauser", "escrow", "pause")

    with refused("escrow: lock is paused"):
        market.lock([(0, 0, 500 * USD)])
    market.settle([buyer_line(1, 500 * USD)], [class_line(1, 500 * USD)])
    market.send("stranger", "escrow", "withdraw_for", 1)
    market.send("buyer:1", "escrow", "withdraw", 1)
    market.deposit("buyer:1", 1)

    market.send("pauser", "escrow", "unpause")
    market.lock([(0, 0, 500 * USD)])


def test_only_the_pauser_pauses(market: World) -> None:
    for function in ("pause", "unpause"):
        with refused("escrow: only pauser may pause"):
            market.send("operator", "escrow", function)
        market.send("pauser", "escrow", function)


def test_E6_payable_money_goes_to_the_provider_whoever_calls(market: World) -> None:
    market.lock([(0, 0, 500 * USD)])
    market.settle([buyer_line(1, 500 * USD)], [class_line(1, 500 * USD)])

    paid = market.send("stranger", "escrow", "withdraw_for", 1).one("PaidOut")

    assert paid.amount == market.tokens("provider:1") == 500 * USD - fee_of(500 * USD)
    assert paid.payee.lower() == address_of("provider:1").lower()
    with refused("escrow: nothing is payable"):
        market.send("stranger", "escrow", "withdraw_for", 1)


def test_fees_go_to_the_treasury_whoever_calls(market: World) -> None:
    with refused("escrow: no fees to withdraw"):
        market.send("stranger", "escrow", "withdraw_fees")
    market.lock([(0, 0, 500 * USD)])
    market.settle([buyer_line(1, 500 * USD)], [class_line(1, 500 * USD)])
    assert market.totals()["fees"] == fee_of(500 * USD)

    market.send("stranger", "escrow", "withdraw_fees")

    assert market.tokens("treasury") == fee_of(500 * USD)
    assert market.totals()["fees"] == 0


def test_E1_tokens_sent_unasked_belong_to_nobody(market: World) -> None:
    market.send("faucet", "token", "mint", market.address("escrow"), 5)

    totals = market.totals()

    assert market.tokens("escrow") == totals["free"] + 5
    market.deposit("buyer:1", 1)
    assert market.totals()["free"] == totals["free"] + 1


def test_E1_S1_of_a_fee_taking_token_what_arrived_is_credited(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.chain.deploy_build("deployer", fee_taking_token(tmp_path, monkeypatch), *token_arguments(minter=FAUCET))
    stake = world.chain.deploy("deployer", "stake", *another_stake(world))
    world.chain.deploy("deployer", "escrow", *built_for(world, stake))
    world.attest_class(node_class=1, provider="provider:1", signers=world.panel("slasher"))

    world.deposit("buyer:1", 100 * USD)
    world.bond(node_class=1, amount=100 * USD)

    assert world.account("buyer:1")["free"] == world.tokens("escrow") == 99 * USD
    assert world.stake_of(1)[0] == world.tokens("stake") == 99 * USD


def fee_taking_token(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Artifact:
    """Our token, but a hundredth of each transfer is lost on the way."""
    sources = folder / "contracts"
    shutil.copytree(compiler.SOURCES, sources, ignore=shutil.ignore_patterns("*.py", "build", "__pycache__"))
    text = (sources / "token.vy").read_text(encoding="utf-8")
    whole = "self.balanceOf[to] += amount\n    log IERC20.Transfer(sender=owner"
    assert text.count(whole) == 1
    (sources / "token.vy").write_text(text.replace("+= amount\n    log IERC20.Transfer(sender=owner",
                                                   "+= amount - amount // 100\n    log IERC20.Transfer(sender=owner"))
    monkeypatch.setattr(compiler, "SOURCES", sources)
    built = json.loads(compiler.compiled("token"))
    return replace(load("token"), bytecode=bytes.fromhex(built["bytecode"].removeprefix("0x")))


def test_E9_more_tokens_than_a_field_holds_are_refused(world: World) -> None:
    world.deposit("buyer:1", 2**64 - 2)
    world.deposit("buyer:2", 1)

    with refused("escrow: balance exceeds fields"):
        world.deposit("buyer:2", 1)

    assert world.totals()["free"] == 2**64 - 1
    world.send("buyer:1", "escrow", "withdraw", 2**64 - 2)
    assert world.account("buyer:1")["free"] == 0


def test_only_stake_credits_a_slash(market: World) -> None:
    market.mint("stranger", USD, "escrow")

    with refused("escrow: only stake may credit"):
        market.send("stranger", "escrow", "credit_slash", address_of("buyer:1"), USD, 0)
