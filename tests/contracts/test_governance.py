"""A change is announced, waits for its delay, and is then made by the same words; no action moves a balance."""

import pytest

from tests.contracts.chain import address_of, refused
from tests.contracts.world import DAY, USD, World

DELAY = 2 * DAY


def test_a_change_waits_for_its_delay_to_the_second(world: World) -> None:
    at = world.send("governance", "escrow", "schedule", 1, address_of("successor"), 0).at
    world.travel_to(at + DELAY - 1)

    with refused("governed: delay is not over"):
        world.send("governance", "escrow", "enact", 1, address_of("successor"), 0)

    world.travel_to(at + DELAY)
    world.send("governance", "escrow", "enact", 1, address_of("successor"), 0)
    assert world.call("escrow", "operator").lower() == address_of("successor").lower()


def test_a_change_goes_stale_after_fourteen_days(world: World) -> None:
    at = world.send("governance", "escrow", "schedule", 1, address_of("successor"), 0).at
    late = world.copy()
    world.travel_to(at + DELAY + 14 * DAY)
    late.travel_to(at + DELAY + 14 * DAY + 1)

    world.send("governance", "escrow", "enact", 1, address_of("successor"), 0)

    with refused("governed: the change went stale"):
        late.send("governance", "escrow", "enact", 1, address_of("successor"), 0)


def test_only_what_was_announced_is_made_and_only_once(world: World) -> None:
    world.send("governance", "escrow", "schedule", 3, address_of("nobody"), 5)
    world.travel(DELAY)

    with refused("governed: not scheduled"):
        world.send("governance", "escrow", "enact", 3, address_of("nobody"), 6)
    world.send("governance", "escrow", "enact", 3, address_of("nobody"), 5)
    with refused("governed: not scheduled"):
        world.send("governance", "escrow", "enact", 3, address_of("nobody"), 5)
    assert world.call("escrow", "unproven_cap") == 5


def test_a_cancelled_change_is_not_made(world: World) -> None:
    world.send("governance", "escrow", "schedule", 1, address_of("successor"), 0)
    world.send("governance", "escrow", "cancel", 1, address_of("successor"), 0)
    world.travel(DELAY)

    with refused("governed: not scheduled"):
        world.send("governance", "escrow", "enact", 1, address_of("successor"), 0)


@pytest.mark.parametrize("contract", ["escrow", "stake", "anchor"])
@pytest.mark.parametrize("function", ["schedule", "cancel", "enact"])
def test_only_governance_governs(world: World, contract: str, function: str) -> None:
    with refused("governed: only governance may"):
        world.send("operator", contract, function, 1, address_of("operator"), 0)

    world.send("governance", contract, "schedule", 1, address_of("operator"), 0)


@pytest.mark.parametrize("contract", ["escrow", "stake", "anchor"])
def test_governance_is_handed_over_in_two_steps(world: World, contract: str) -> None:
    world.send("governance", contract, "schedule", 0, address_of("successor"), 0)
    with refused("governed: delay is not over"):
        world.send("successor", contract, "accept_governance")
    world.travel(DELAY)
    with refused("governed: not scheduled"):
        world.send("stranger", contract, "accept_governance")

    world.send("successor", contract, "accept_governance")

    assert world.call(contract, "governance").lower() == address_of("successor").lower()
    with refused("governed: only governance may"):
        world.send("governance", contract, "schedule", 1, address_of("operator"), 0)


def test_escrow_changes_its_roles_and_limits(world: World) -> None:
    world.enact("escrow", 2, "successor")
    world.enact("escrow", 4, "nobody", 7 * USD)

    assert world.call("escrow", "pauser").lower() == address_of("successor").lower()
    assert world.call("escrow", "settle_limit") == 7 * USD
    with refused("escrow: no such action"):
        world.enact("escrow", 5, "successor")


def test_stake_changes_its_roles(world: World) -> None:
    world.enact("stake", 1, "successor")
    world.enact("stake", 2, "stranger")

    assert world.call("stake", "pauser").lower() == address_of("successor").lower()
    assert world.call("stake", "veto_role").lower() == address_of("stranger").lower()
    with refused("stake: no such action"):
        world.enact("stake", 31, "successor")


def test_S7_a_seat_is_given_moved_and_taken(world: World) -> None:
    world.enact("stake", 10, "newcomer", 4)
    assert world.call("stake", "seats", 0) == 4
    with refused("stake: organisation is seated"):
        world.enact("stake", 10, "stranger", 4)

    world.enact("stake", 10, "newcomer", 5)
    world.enact("stake", 10, "stranger", 4)
    world.enact("stake", 10, "newcomer", 0)

    assert world.call("stake", "seats", 0) == 4
    assert world.call("stake", "seat_of", 0, address_of("newcomer")) == 0
    assert world.call("stake", "seated", 0, 4).lower() == address_of("stranger").lower()


def test_S7_a_quorum_is_never_one_and_never_above_nine(world: World) -> None:
    with refused("stake: quorum is not 2 to 9"):
        world.enact("stake", 20, "nobody", 1)
    with refused("stake: quorum is not 2 to 9"):
        world.enact("stake", 20, "nobody", 10)

    for action, panel in ((20, 0), (21, 1), (22, 2)):
        world.enact("stake", action, "nobody", 3)
        assert world.call("stake", "quorum", panel) == 3


def test_S7_an_arbiter_never_sits_on_the_slash_panel(world: World) -> None:
    with refused("stake: arbiter sits on the panel"):
        world.enact("stake", 12, "arbiter:1", 9)

    world.enact("stake", 12, "newcomer", 9)
    assert world.call("stake", "seats", 2) == 4
