"""The test stablecoin: transfers, allowances, mint, EIP-2612 permits."""

from dataclasses import replace

from contracts.eip712 import Permit
from tests.contracts.chain import TestChain, address_of, refused, sign
from tests.contracts.world import USD, World

ZERO = "0x" + "00" * 20


def test_T1_only_the_faucet_makes_tokens_and_the_supply_counts_them(world: World) -> None:
    world.send("faucet", "token", "mint", address_of("buyer:1"), 5 * USD)

    with refused("token: only the minter may mint"):
        world.send("buyer:1", "token", "mint", address_of("buyer:1"), 1)
    with refused("token: recipient is the zero address"):
        world.send("faucet", "token", "mint", ZERO, 1)
    assert world.call("token", "totalSupply") == world.tokens("buyer:1") == 5 * USD


def test_T2_a_transfer_moves_what_the_owner_has_and_no_more(world: World) -> None:
    world.send("faucet", "token", "mint", address_of("buyer:1"), 5)

    world.send("buyer:1", "token", "transfer", address_of("buyer:2"), 5)

    assert (world.tokens("buyer:1"), world.tokens("buyer:2")) == (0, 5)
    with refused("token: balance is too small"):
        world.send("buyer:1", "token", "transfer", address_of("buyer:2"), 1)
    with refused("token: recipient is the zero address"):
        world.send("buyer:2", "token", "transfer", ZERO, 1)


def test_T2_an_allowance_is_used_up(world: World) -> None:
    world.send("faucet", "token", "mint", address_of("buyer:1"), 10)
    world.send("buyer:1", "token", "approve", address_of("stranger"), 6)

    world.send("stranger", "token", "transferFrom", address_of("buyer:1"), address_of("buyer:2"), 4)

    assert world.call("token", "allowance", address_of("buyer:1"), address_of("stranger")) == 2
    with refused("token: allowance is too small"):
        world.send("stranger", "token", "transferFrom", address_of("buyer:1"), address_of("buyer:2"), 3)


def test_T2_a_maximal_allowance_never_falls(world: World) -> None:
    world.send("faucet", "token", "mint", address_of("buyer:1"), 10)
    world.send("buyer:1", "token", "approve", address_of("stranger"), 2**256 - 1)

    world.send("stranger", "token", "transferFrom", address_of("buyer:1"), address_of("buyer:2"), 4)

    assert world.call("token", "allowance", address_of("buyer:1"), address_of("stranger")) == 2**256 - 1


def permit_of(world: World, **changes: object) -> Permit:
    permit = Permit(
        owner=address_of("buyer:1"), spender=address_of("stranger"), value=7, nonce=0, deadline=world.now + 100
    )
    return replace(permit, **changes)  # type: ignore[arg-type]


def bring(world: World, permit: Permit, signer: str = "buyer:1") -> None:
    signature = sign(signer, permit, world.address("token"))
    body = (permit.owner, permit.spender, permit.value, permit.deadline)
    world.send("stranger", "token", "permit", *body, *signature.abi())


def test_T3_a_permit_works_once(world: World) -> None:
    permit = permit_of(world)

    bring(world, permit)

    assert world.call("token", "allowance", address_of("buyer:1"), address_of("stranger")) == 7
    assert world.call("token", "nonces", address_of("buyer:1")) == 1
    with refused("token: permit is not the owner's"):
        bring(world, permit)


def test_T3_only_the_owner_signs_its_permit(world: World) -> None:
    with refused("token: permit is not the owner's"):
        bring(world, permit_of(world), signer="buyer:2")

    bring(world, permit_of(world))


def test_T3_a_permit_ends_at_its_deadline(world: World) -> None:
    permit = permit_of(world)
    late = world.copy()
    world.travel_to(permit.deadline)
    late.travel_to(permit.deadline + 1)

    bring(world, permit)

    with refused("token: permit has expired"):
        bring(late, permit)


def test_T3_the_domain_is_the_chain_and_the_contract(world: World) -> None:
    permit = permit_of(world)
    typed = permit.typed(TestChain.chain_id, world.address("token"))

    assert typed["domain"]["name"] == world.call("token", "name")
    with refused("token: permit is not the owner's"):
        signature = sign("buyer:1", permit, world.address("escrow"))
        world.send(
            "stranger", "token", "permit", permit.owner, permit.spender, 7, permit.deadline, *signature.abi()
        )
