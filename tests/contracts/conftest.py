"""Worlds for the contract tests: built once per session, copied for each test.

With GROVE_TEST_CHAIN=anvil the same tests run on anvil: every `Chain` they make is one there.
"""

import os

import pytest

from tests.contracts import chain

if os.environ.get("GROVE_TEST_CHAIN") == "anvil":
    from tests.contracts.anvil_chain import AnvilChain

    chain.Chain = AnvilChain  # type: ignore[misc]  # before the tests import it by name

from tests.contracts.world import World


@pytest.fixture(scope="session")
def deployed_once() -> World:
    return World.deployed()


@pytest.fixture(scope="session")
def market_once() -> World:
    return World.market()


@pytest.fixture
def world(deployed_once: World) -> World:
    """The four contracts, freshly deployed: no class, no money."""
    return deployed_once.copy()


@pytest.fixture
def market(market_once: World) -> World:
    """Class 1 PROVEN, class 2 in PROBATION, buyers 1 and 2 funded, window 1 open."""
    return market_once.copy()
