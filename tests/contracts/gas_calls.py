"""One call of every external function of the four contracts, each in a copy of the same market, and what it costs.

The market: class 1 is PROVEN with 300 USD locked by buyer 1, class 2 is in PROBATION with 60 USD locked by buyer 2; a
part of both is settled (payable, held back, fees). Gas is exact, so a change of one unit is a change of the bytecode.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from contracts.artifacts import NAMES, load
from contracts.eip712 import Permit
from contracts.parameters import CLAIM_SILENCE, SILENCE, Panels, escrow_arguments, stake_arguments
from tests.contracts.chain import Receipt, address_of, sign, sign_all, sign_digest
from tests.contracts.world import DELAYS, SPEC, STAKE, USD, WEEK, Batch, World, buyer_line, class_line

Call = Callable[[World, Batch], Receipt]
LATER = 2_000_000_000


@cache
def start() -> tuple[World, Batch]:
    """The market described above, and its lock batch (line 0 is of class 1, line 1 of class 2)."""
    world = World.market()
    batch = world.lock(
        [(0, 0, 300 * USD), (1, 1, 60 * USD)],
        mandates=[world.mandate("buyer:1"), world.mandate("buyer:2")],
        classes=(1, 2),
    )
    world.settle(
        [buyer_line(1, 100 * USD), buyer_line(2, 40 * USD)],
        [class_line(1, 100 * USD), class_line(2, 40 * USD, 30 * USD)],
    )
    return world, batch


def measured() -> dict[str, int]:
    """Gas of each function, its transaction included, by `contract.function`; in the order of the names."""
    gas = {}
    for name in sorted(wanted()):
        world, batch = start()
        call = CALLS[name] if name in CALLS else view_of(name)
        gas[name] = call(world.copy(), batch).gas
    return gas


def wanted() -> set[str]:
    """Every external function of the ABIs."""
    return {f"{name}.{entry['name']}" for name in NAMES for entry in load(name).abi if entry["type"] == "function"}


def view_of(name: str) -> Call:
    """A view sent as a transaction, with plain arguments of the right types."""
    contract, function = name.split(".")
    entry = next(each for each in load(contract).abi if each.get("name") == function and each["type"] == "function")
    if entry["stateMutability"] not in ("view", "pure"):
        raise KeyError(f"{name} changes the state and has no call in CALLS.")
    plain = {"address": address_of("buyer:1"), "bytes32": SPEC}
    arguments = [plain.get(each["type"], 1) for each in entry["inputs"]]
    return lambda world, _: world.send("stranger", contract, function, *arguments)


def sent(sender: str, contract: str, function: str, *arguments: Any) -> Call:
    """A call that needs nothing before it."""
    return lambda world, _: world.send(sender, contract, function, *arguments)


def scheduled(contract: str, function: str, sender: str = "governance") -> Call:
    """Enact, cancel or accept what was scheduled."""

    def call(world: World, _: Batch) -> Receipt:
        action = 0 if function == "accept_governance" else 1
        world.send("governance", contract, "schedule", action, address_of("successor"), 0)
        world.travel(world.call(contract, "governance_delay"))
        arguments = () if function == "accept_governance" else (action, address_of("successor"), 0)
        return world.send(sender, contract, function, *arguments)

    return call


def governing(contract: str) -> dict[str, Call]:
    """The four functions that every governed contract has."""
    return {
        f"{contract}.schedule": sent("governance", contract, "schedule", 1, address_of("successor"), 0),
        f"{contract}.cancel": scheduled(contract, "cancel"),
        f"{contract}.enact": scheduled(contract, "enact"),
        f"{contract}.accept_governance": scheduled(contract, "accept_governance", "successor"),
    }


def permit_of(world: World, spender: str) -> tuple[Permit, tuple[int, bytes, bytes]]:
    """Buyer 1 permits the spender 5 USD, which it has."""
    world.send("faucet", "token", "mint", address_of("buyer:1"), 5 * USD)
    permit = Permit(address_of("buyer:1"), spender, 5 * USD, 0, LATER)
    return permit, sign("buyer:1", permit, world.address("token")).abi()


def call_permit(world: World, _: Batch) -> Receipt:
    permit, signature = permit_of(world, address_of("stranger"))
    return world.send("stranger", "token", "permit", permit.owner, permit.spender, 5 * USD, LATER, *signature)


def call_transfer_from(world: World, _: Batch) -> Receipt:
    world.send("faucet", "token", "mint", address_of("buyer:1"), 5 * USD)
    world.send("buyer:1", "token", "approve", address_of("stranger"), 4 * USD)
    return world.send("stranger", "token", "transferFrom", address_of("buyer:1"), address_of("buyer:2"), USD)


def call_transfer(world: World, _: Batch) -> Receipt:
    world.send("faucet", "token", "mint", address_of("buyer:1"), 5 * USD)
    return world.send("buyer:1", "token", "transfer", address_of("buyer:2"), USD)


def call_bind_escrow(world: World, _: Batch) -> Receipt:
    stake = world.chain.deploy("deployer", "stake", *another_stake(world))
    escrow = world.chain.deploy("deployer", "escrow", *built_for(world, stake))
    return world.send("deployer", "stake", "bind_escrow", escrow)


def another_stake(world: World) -> tuple[object, ...]:
    """Arguments of a stake contract with the smallest panels."""
    seats = [(address_of(f"slasher:{number}"), number) for number in (1, 2)]
    roles = {name: address_of(name) for name in ("governance", "pauser")}
    return stake_arguments(
        token=world.address("token"), veto_role=address_of("veto"),
        arbiters=[address_of("arbiter:1"), address_of("arbiter:2")], panels=Panels(seats, seats, seats, (2, 2, 2), 2),
        **roles,
    )  # fmt: skip


def built_for(world: World, stake: str) -> tuple[object, ...]:
    """Arguments of an escrow for that stake contract."""
    roles = {name: address_of(name) for name in ("operator", "pauser", "governance", "treasury")}
    return escrow_arguments(token=world.address("token"), stake=stake, fee_bps=500, unproven_cap=USD, **roles)


def call_credit_slash(world: World, _: Batch) -> Receipt:
    # An escrow that takes the stranger for its stake contract: no other key may call this function.
    world.chain.deploy("deployer", "escrow", *built_for(world, address_of("stranger")))
    world.deposit("buyer:1", USD)
    world.mint("stranger", 5 * USD, "escrow")
    return world.send("stranger", "escrow", "credit_slash", address_of("buyer:1"), 3 * USD, 2 * USD)


def call_deposit(world: World, _: Batch) -> Receipt:
    return world.deposit("buyer:1", USD)


def call_deposit_with_permit(world: World, _: Batch) -> Receipt:
    permit, signature = permit_of(world, world.address("escrow"))
    return world.send("buyer:1", "escrow", "deposit_with_permit", permit.owner, 5 * USD, LATER, signature)


def call_lock(world: World, _: Batch) -> Receipt:
    mandates = [world.mandate("buyer:1", nonce=2)]
    return world.send("operator", "escrow", "lock", 1, mandates, [1], [USD])


def call_settle(world: World, _: Batch) -> Receipt:
    return world.settle([buyer_line(1, USD, USD)], [class_line(1, USD, 0, USD)], root=b"q" * 32)


def call_claim(world: World, _: Batch) -> Receipt:
    tree = world.tree({1: 150 * USD, 2: 50 * USD})
    world.settle([], [], root=tree.root)
    world.travel(CLAIM_SILENCE)
    return world.claim(tree, 1)


def call_forfeit(world: World, batch: Batch) -> Receipt:
    return world.forfeit(batch, line=1, amount=5 * USD)


def call_release(world: World, _: Batch) -> Receipt:
    world.prove(node_class=2, kind=2, epoch=2)
    return world.send("stranger", "escrow", "release_holdback", 2)


def wound(world: World) -> Receipt:
    world.travel(SILENCE)
    return world.send("stranger", "escrow", "wind_up")


def call_refund(world: World, _: Batch) -> Receipt:
    wound(world)
    return world.send("stranger", "escrow", "refund", address_of("buyer:1"))


def call_bond(world: World, _: Batch) -> Receipt:
    return world.bond(node_class=1, amount=USD)


def call_unstake_withdraw(world: World, _: Batch) -> Receipt:
    world.send("provider:1", "stake", "unstake_request", 1, STAKE)
    world.travel(DELAYS.unbonding)
    return world.send("provider:1", "stake", "unstake_withdraw", 1)


def call_attest_class(world: World, _: Batch) -> Receipt:
    return world.attest_class(node_class=1, provider="provider:1")


def call_prove(world: World, _: Batch) -> Receipt:
    return world.prove(node_class=1, kind=2, epoch=3)


def call_resume(world: World, _: Batch) -> Receipt:
    world.send("pauser", "stake", "suspend", 1)
    return world.resume(node_class=1)


def call_request_slash(world: World, batch: Batch) -> Receipt:
    verdict = world.verdict(batch)
    signatures = sign_all(world.panel("slasher"), verdict, world.address("stake"))
    return world.send("stranger", "stake", "request_slash", verdict.abi(), *batch.opening(), signatures)


def on_a_request(sender: str, function: str, *, is_disputed: bool = False, seconds: int = 0) -> Call:
    """A call on an open slash request, so many seconds later."""

    def call(world: World, batch: Batch) -> Receipt:
        number = world.request_slash(batch, amount=20 * USD)
        if is_disputed:
            world.send("provider:1", "stake", "dispute", number)
        world.travel(seconds)
        return world.send(sender, "stake", function, number)

    return call


def call_check_verdict(world: World, batch: Batch) -> Receipt:
    digest = b"d" * 32
    signed = {int(address_of(name), 16): sign_digest(name, digest).abi() for name in world.panel("slasher")}
    return world.send("stranger", "stake", "check_verdict", digest, 1, [signed[key] for key in sorted(signed)])


def call_line_of(world: World, batch: Batch) -> Receipt:
    lines, buyers, classes = batch.opening()
    return world.send("stranger", "escrow", "line_of", batch.number, 1, buyers, classes, lines)


CALLS: dict[str, Call] = {
    **governing("escrow"), **governing("stake"), **governing("anchor"),
    "token.transfer": call_transfer,
    "token.transferFrom": call_transfer_from,
    "token.approve": sent("buyer:1", "token", "approve", address_of("stranger"), USD),
    "token.permit": call_permit,
    "token.mint": sent("faucet", "token", "mint", address_of("buyer:1"), USD),
    "anchor.post": sent("anchor", "anchor", "post", 1, b"1" * 32, bytes(32), 10, b"t" * 32),
    "anchor.bundle": sent("anchor", "anchor", "bundle", 1, b"1" * 32),
    "escrow.deposit": call_deposit,
    "escrow.deposit_with_permit": call_deposit_with_permit,
    "escrow.withdraw": sent("buyer:1", "escrow", "withdraw", USD),
    "escrow.open_window": sent("operator", "escrow", "open_window", 2, LATER),
    "escrow.lock": call_lock,
    "escrow.settle": call_settle,
    "escrow.withdraw_for": sent("stranger", "escrow", "withdraw_for", 1),
    "escrow.release_holdback": call_release,
    "escrow.forfeit_holdback": call_forfeit,
    "escrow.credit_slash": call_credit_slash,
    "escrow.withdraw_fees": sent("stranger", "escrow", "withdraw_fees"),
    "escrow.claim": call_claim,
    "escrow.wind_up": lambda world, _: wound(world),
    "escrow.refund": call_refund,
    "escrow.pause": sent("pauser", "escrow", "pause"),
    "escrow.unpause": sent("pauser", "escrow", "unpause"),
    "escrow.line_of": call_line_of,
    "stake.bind_escrow": call_bind_escrow,
    "stake.stake": call_bond,
    "stake.unstake_request": sent("provider:1", "stake", "unstake_request", 1, USD),
    "stake.unstake_withdraw": call_unstake_withdraw,
    "stake.attest_class": call_attest_class,
    "stake.prove": call_prove,
    "stake.suspend": sent("pauser", "stake", "suspend", 1),
    "stake.resume": call_resume,
    "stake.request_slash": call_request_slash,
    "stake.dispute": on_a_request("provider:1", "dispute"),
    "stake.uphold": on_a_request("arbiter:1", "uphold", is_disputed=True),
    "stake.veto": on_a_request("veto", "veto"),
    "stake.lapse": on_a_request("stranger", "lapse", seconds=DELAYS.lapse + 1),
    "stake.execute_slash": on_a_request("stranger", "execute_slash", seconds=DELAYS.veto),
    "stake.pause": sent("pauser", "stake", "pause"),
    "stake.unpause": sent("pauser", "stake", "unpause"),
    "stake.words": sent("stranger", "stake", "words", [1, 2]),
    "stake.armed": sent("stranger", "stake", "armed", 1, LATER, LATER + WEEK),
    "stake.check_verdict": call_check_verdict,
}  # fmt: skip
