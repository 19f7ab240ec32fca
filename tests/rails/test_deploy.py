"""Deployment: four contracts at places known beforehand, however often it is tried."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from contracts.artifacts import NAMES
from contracts.jurisdictions import LIST_HASH
from ledger import faults
from ledger.faults import FaultInjected
from ledger.models import ChainContract
from ledger.rails import deploy
from ledger.rails.base import Chain
from ledger.rails.errors import DeploymentBroken
from ledger.rails.signer import signer
from marketplace.environment import Quorum
from tests.rails.conftest import START


def test_the_contracts_know_each_other_and_their_keys(rails: Chain) -> None:
    addresses = deploy.ensure_deployed(START)

    assert sorted(addresses) == sorted(NAMES)
    assert rails.call("escrow", "token") == rails.call("stake", "token") == addresses["token"]
    assert rails.call("escrow", "stake") == addresses["stake"]
    assert rails.call("stake", "escrow") == addresses["escrow"]
    assert rails.call("escrow", "operator") == signer().address("operator")
    assert rails.call("anchor", "poster") == signer().address("anchor")
    assert rails.call("escrow", "fee_bps") == 250
    assert rails.call("stake", "jurisdictions_hash") == LIST_HASH


def test_deploying_again_sends_nothing(rails: Chain) -> None:
    head = rails.head()
    first = deploy.ensure_deployed(START)

    assert deploy.ensure_deployed(START + timedelta(days=1)) == first
    assert rails.head() == head


def test_a_new_database_finds_the_contracts_on_the_chain(rails: Chain) -> None:
    first, head = deploy.ensure_deployed(START), rails.head()
    ChainContract.objects.all().delete()

    assert deploy.ensure_deployed(START) == first
    assert rails.head() == head


@pytest.mark.parametrize("point", ["deploy.before_send", "deploy.before_bind", "deploy.before_record"])
def test_a_deployment_that_died_goes_on(shared_chain: Chain, point: str) -> None:
    with faults.armed(point), pytest.raises(FaultInjected):
        deploy.ensure_deployed(START)

    addresses = deploy.ensure_deployed(START)

    assert shared_chain.call("stake", "escrow") == addresses["escrow"]
    assert shared_chain.next_nonce(signer().address("deployer")) == 5


def test_contracts_of_another_build_are_not_taken_for_ours(rails: Chain) -> None:
    ChainContract.objects.filter(name="escrow").update(abi_hash="0x00")

    with pytest.raises(DeploymentBroken, match="another build"):
        deploy.ensure_deployed(START)


@pytest.mark.parametrize(("attest", "compliance", "slash"), [
    (Quorum(2, 3), Quorum(2, 3), Quorum(2, 3)), (Quorum(5, 7), Quorum(3, 5), Quorum(7, 9))])  # fmt: skip
def test_the_contract_is_deployed_with_the_quorums_of_the_settings(
    shared_chain: Chain, settings: Any, attest: Quorum, compliance: Quorum, slash: Quorum
) -> None:
    settings.ATTEST_QUORUM, settings.COMPLIANCE_QUORUM, settings.SLASH_QUORUM = attest, compliance, slash

    deploy.ensure_deployed(START)

    asked = [shared_chain.call("stake", "quorum", panel) for panel in range(3)]
    assert asked == [attest.needed, compliance.needed, slash.needed]
    assert [shared_chain.call("stake", "seats", panel) for panel in range(3)] == [
        attest.seats, compliance.seats, slash.seats]  # fmt: skip
    assert shared_chain.call("stake", "slashers_min") == slash.seats


@pytest.mark.parametrize("name", ["ATTEST_QUORUM", "COMPLIANCE_QUORUM", "SLASH_QUORUM"])
def test_other_quorums_than_the_contract_was_given_are_refused(rails: Chain, settings: Any, name: str) -> None:
    setattr(settings, name, Quorum(5, 7))

    with pytest.raises(DeploymentBroken, match=name):
        deploy.ensure_deployed(START)


def test_no_test_money_is_made_on_a_public_chain(rails: Chain, settings: Any) -> None:
    public = Chain(rails.w3, chain_id=1)

    with pytest.raises(DeploymentBroken, match="TOKEN_ADDRESS"):
        deploy.plan_deployment(public)

    settings.TOKEN_ADDRESS = "0x" + "aa" * 20
    assert [plan.name for plan in deploy.plan_deployment(public) if plan.code] == ["stake", "escrow", "anchor"]
