"""E9, guard by guard: where two amounts share a word, the largest sum that fits is accepted and one more is refused.

No call reaches most of these bounds: what a class was credited since ever fills up before its payable money does, and
the balance of tokens before any buyer's account. So the words are planted in the contract's storage, as a token that
lost its holders' money, or a mistake in another function, might leave them. `settle` and `claim` are then real calls.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

import pytest

from contracts import compile as compiler
from tests.contracts.chain import address_of, refused
from tests.contracts.gas_calls import built_for
from tests.contracts.world import DAY, WEEK, World, buyer_line, class_line, fee_of

FULL = 2**64 - 1
OVERFLOW = "escrow: field overflows"


@cache
def slots() -> dict[str, int]:
    """Where the compiler puts each word of escrow."""
    bundle: Any = import_module("vyper.compiler.input_bundle").FilesystemInputBundle([compiler.SOURCES])
    layout = import_module("vyper.compiler").compile_from_file_input(
        bundle.load_file("escrow.vy"), input_bundle=bundle, output_formats=["layout"]
    )["layout"]["storage_layout"]
    return {name: int(entry["slot"]) for name, entry in layout.items() if "slot" in entry}


def word(*fields: int) -> int:
    return sum(amount << 64 * place for place, amount in enumerate(fields))


def plant_class(world: World, committed: int, payable: int = 0, holdback: int = 0, credited: int = 0) -> None:
    """Class 1, and the totals of all classes as if it were the only one."""
    world.chain.plant("escrow", slots()["_class"] + 1, word(committed, payable, holdback, credited))
    world.chain.plant("escrow", slots()["_classes"], word(committed, payable, holdback))


def plant_account(world: World, buyer: int, free: int, locked: int, *, all_free: int, all_locked: int) -> None:
    nonce = world.account(f"buyer:{buyer}")["nonce"]
    world.chain.plant("escrow", slots()["_account"] + buyer, word(free, locked, 0, nonce))
    world.chain.plant("escrow", slots()["_buyers"], word(all_free, all_locked))


@pytest.fixture
def locked(world: World) -> World:
    """100 micro-USD of buyer 1 are locked for class 1, which may take any amount."""
    world.attest_class(node_class=1, provider="provider:1", exposure_cap=FULL)
    world.attest_class(node_class=2, provider="provider:2", exposure_cap=FULL)
    for action in (3, 4):  # the cap of unproven classes, the hourly limit
        world.enact("escrow", action, "nobody", FULL)
    world.open_window(1)
    for number in (1, 2):
        world.deposit(f"buyer:{number}", 200)
    world.lock([(0, 0, 100)])
    return world


def test_E9_the_planted_words_are_what_the_contract_reads(locked: World) -> None:
    assert locked.node(1) == {"committed": 100, "payable": 0, "holdback": 0, "credited": 0}

    plant_class(locked, 1, 2, 3, 4)
    plant_account(locked, 2, 5, 6, all_free=7, all_locked=8)

    assert locked.node(1) == {"committed": 1, "payable": 2, "holdback": 3, "credited": 4}
    account, totals = locked.account("buyer:2"), locked.totals()
    assert (account["free"], account["locked"], totals["free"], totals["locked"]) == (5, 6, 7, 8)


@pytest.mark.parametrize("gross", [1, 20, 100])
def test_E9_payable_money_never_runs_into_holdback(locked: World, gross: int) -> None:
    paid = gross - fee_of(gross)
    plant_class(locked, 100, payable=FULL - paid + 1, holdback=7)
    with refused(OVERFLOW):
        locked.settle([buyer_line(1, gross)], [class_line(1, gross)])
    assert locked.node(1) == {"committed": 100, "payable": FULL - paid + 1, "holdback": 7, "credited": 0}

    plant_class(locked, 100, payable=FULL - paid, holdback=7)
    locked.settle([buyer_line(1, gross)], [class_line(1, gross)])

    assert locked.node(1) == {"committed": 100 - gross, "payable": FULL, "holdback": 7, "credited": gross}


@pytest.mark.parametrize("held", [1, 20, 95])
def test_E9_holdback_never_runs_into_what_was_credited(locked: World, held: int) -> None:
    fee = fee_of(100)
    plant_class(locked, 100, payable=7, holdback=FULL - held + 1)
    with refused(OVERFLOW):
        locked.settle([buyer_line(1, 100)], [class_line(1, 100, held)])
    assert locked.node(1) == {"committed": 100, "payable": 7, "holdback": FULL - held + 1, "credited": 0}

    plant_class(locked, 100, payable=7, holdback=FULL - held)
    locked.settle([buyer_line(1, 100)], [class_line(1, 100, held)])

    assert locked.node(1) == {"committed": 0, "payable": 107 - fee - held, "holdback": FULL, "credited": 100}


def test_E9_payable_and_holdback_may_be_full_together(locked: World) -> None:
    fee = fee_of(100)
    plant_class(locked, 100, payable=FULL - 100 + fee + 40, holdback=FULL - 40)

    locked.settle([buyer_line(1, 100)], [class_line(1, 100, 40)])

    assert locked.node(1) == {"committed": 0, "payable": FULL, "holdback": FULL, "credited": 100}


def test_E9_what_was_credited_never_runs_out_of_its_field(locked: World) -> None:
    plant_class(locked, 100, credited=FULL - 99)
    with refused(OVERFLOW):
        locked.settle([buyer_line(1, 100)], [class_line(1, 100)])

    plant_class(locked, 100, credited=FULL - 100)
    locked.settle([buyer_line(1, 100)], [class_line(1, 100)])

    assert locked.node(1)["credited"] == FULL


def test_E9_a_released_holdback_never_runs_into_its_old_place(locked: World) -> None:
    locked.travel(WEEK + 60 * DAY)
    plant_class(locked, 100, payable=FULL - 4, holdback=5)
    with refused(OVERFLOW):
        locked.send("stranger", "escrow", "release_holdback", 1)

    plant_class(locked, 100, payable=FULL - 5, holdback=5)
    locked.send("stranger", "escrow", "release_holdback", 1)

    assert locked.node(1) == {"committed": 100, "payable": FULL, "holdback": 0, "credited": 0}


def test_E9_a_refund_never_runs_from_free_into_locked_money(locked: World) -> None:
    plant_account(locked, 1, free=FULL - 4, locked=100, all_free=FULL - 4, all_locked=100)
    with refused(OVERFLOW):
        locked.settle([buyer_line(1, 0, 5)], [class_line(1, 0, 0, 5)])

    plant_account(locked, 1, free=FULL - 5, locked=100, all_free=FULL - 5, all_locked=100)
    locked.settle([buyer_line(1, 0, 5)], [class_line(1, 0, 0, 5)])

    account = locked.account("buyer:1")
    assert (account["free"], account["locked"]) == (FULL, 95)


def test_E9_a_deposit_never_runs_from_free_into_locked_money(locked: World) -> None:
    plant_account(locked, 1, free=FULL - 4, locked=100, all_free=FULL - 4, all_locked=100)
    with refused(OVERFLOW):
        locked.deposit("buyer:1", 5)

    locked.deposit("buyer:1", 4)

    account = locked.account("buyer:1")
    assert (account["free"], account["locked"]) == (FULL, 100)


def test_E9_locked_money_never_runs_into_what_a_mandate_has_spent(locked: World) -> None:
    plant_account(locked, 2, free=5, locked=FULL - 4, all_free=5, all_locked=FULL - 4)
    with refused(OVERFLOW):
        locked.lock([(0, 0, 5)], mandates=[locked.mandate("buyer:2")], classes=(2,))

    locked.lock([(0, 0, 4)], mandates=[locked.mandate("buyer:2")], classes=(2,))

    account = locked.account("buyer:2")
    assert (account["free"], account["locked"], account["spent"]) == (1, FULL, 4)


def test_E9_money_given_back_after_the_wind_up_never_runs_out_of_free(locked: World) -> None:
    locked.travel(14 * DAY)
    locked.send("stranger", "escrow", "wind_up")
    plant_account(locked, 1, free=FULL - 99, locked=100, all_free=FULL - 99, all_locked=100)
    with refused(OVERFLOW):
        locked.send("stranger", "escrow", "refund", address_of("buyer:1"))

    plant_account(locked, 1, free=FULL - 100, locked=100, all_free=FULL - 100, all_locked=100)
    locked.send("stranger", "escrow", "refund", address_of("buyer:1"))

    account = locked.account("buyer:1")
    assert (account["free"], account["locked"]) == (FULL, 0)


def test_E9_the_insurance_pool_never_runs_out_of_its_field(world: World) -> None:
    world.chain.deploy("deployer", "escrow", *built_for(world, address_of("stranger")))  # who then credits slashes
    world.deposit("buyer:1", 1)
    world.mint("stranger", 20, "escrow")
    world.chain.plant("escrow", slots()["_buyers"], word(1, 0, 0, FULL - 5))

    with refused(OVERFLOW):
        world.send("stranger", "escrow", "credit_slash", address_of("buyer:1"), 3, 6)
    world.send("stranger", "escrow", "credit_slash", address_of("buyer:1"), 3, 5)

    assert (world.totals()["free"], world.totals()["pool"]) == (4, FULL)
