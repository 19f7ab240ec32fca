"""Our four contracts on the chain, deployed once.

An address follows from the deployer's address and nonce alone, so each contract has its place before it exists: that is
how escrow and stake learn each other's address, and how a deployment that died half way goes on. It looks first and
sends only what is missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from eth_utils.address import to_canonical_address, to_checksum_address
from eth_utils.crypto import keccak
from eth_utils.hexadecimal import encode_hex

from contracts.artifacts import NAMES, load
from contracts.eip712 import Permit
from contracts.jurisdictions import LIST_HASH
from ledger import faults
from ledger.models import ChainContract
from ledger.rails import abi
from ledger.rails.base import Chain, created_address
from ledger.rails.errors import DeploymentBroken
from ledger.rails.evm import chain
from ledger.rails.signer import signer

DAY = 86_400
DEPLOYER = "deployer"
DEPLOY_GAS = 12_000_000
TEST_CHAIN_IDS = (1337, 31337, 31338)  # ganache, anvil, the embedded chain: only there is money made out of nothing
RECEIPT_SECONDS_MAX = 180
TOKEN_SYMBOL = "GUSD"
# veto, lapse, appeal, unbonding, probation, longest validity, oldest breach: the periods of contracts/README.md.
DELAYS = (3 * DAY, 14 * DAY, 14 * DAY, 21 * DAY, 14 * DAY, 90 * DAY, 17 * DAY)
# Constructor arguments that are figures, not addresses. Those of the panels are settings.
FIGURES: dict[str, Any] = {
    "name": Permit.domain_name,
    "symbol": TOKEN_SYMBOL,
    "unproven_cap": 10_000_000_000,
    "settle_limit": 1_000_000_000_000,
    "claim_silence": 3 * DAY,
    "silence": 14 * DAY,
    "holdback_delay": 30 * DAY,
    "governance_delay": 2 * DAY,
    "arbiter_quorum": 1,
    "delays": DELAYS,
    "jurisdictions_hash": LIST_HASH,
}


@dataclass(frozen=True)
class Planned:
    """One contract of this deployment: its place, and the code to send there."""

    name: str
    nonce: int
    address: str
    code: bytes
    build_hash: str


def ensure_deployed(now: datetime) -> dict[str, str]:
    """The addresses of token, stake, escrow and anchor, deployed if they are missing; harmless when run again.

    Raises `DeploymentBroken` if a place is taken, a deployment failed, the recorded contracts come from another build,
    or their panels sign by other quorums than the settings say.
    """
    here = chain()
    plans = plan_deployment(here)
    _refuse_other_build(here, plans)
    recorded = set(ChainContract.objects.filter(chain_id=here.chain_id).values_list("name", flat=True))
    missing = [plan for plan in plans if plan.name not in recorded or not here.has_code(plan.address)]
    if missing:
        _send_missing(here, plans, now)
        faults.point("deploy.before_bind")
        _bind(here, {plan.name: plan.address for plan in plans}, now)
        faults.point("deploy.before_record")
        _record(here, plans)
    _refuse_other_quorums(here)
    return {name: here.address(name) for name in NAMES}


def create_address(sender: str, nonce: int) -> str:
    """The address of the contract that `sender` creates with that nonce, in checksum form."""
    return to_checksum_address(created_address(to_canonical_address(sender), nonce))


def plan_deployment(here: Chain) -> list[Planned]:
    """What stands where, in the order of the deployer's nonces. An existing stablecoin is taken, not deployed."""
    deployer = signer().address(DEPLOYER)
    existing = str(getattr(settings, "TOKEN_ADDRESS", "") or "")
    if not existing and here.chain_id not in TEST_CHAIN_IDS:
        raise DeploymentBroken(
            f"Chain {here.chain_id} is no test chain: name an existing 6-decimal stablecoin in TOKEN_ADDRESS.",
            chain_id=here.chain_id,
        )
    deployed = [name for name in NAMES if not (existing and name == "token")]
    addresses = {name: create_address(deployer, nonce) for nonce, name in enumerate(deployed)}
    if existing:
        addresses["token"] = to_checksum_address(existing)
    plans = []
    for nonce, name in enumerate(deployed):
        code = abi.encode_constructor(name, _arguments(name, addresses))
        plans.append(Planned(name, nonce, addresses[name], code, encode_hex(keccak(load(name).bytecode))))
    if existing:
        plans.append(Planned("token", -1, addresses["token"], b"", "existing"))
    return plans


def _arguments(name: str, addresses: Mapping[str, str]) -> list[Any]:
    """The constructor's arguments, found by their names in the ABI."""
    keys = signer()
    roles = {role: keys.address(role) for role in ("operator", "pauser", "governance")}
    known: dict[str, Any] = {
        **FIGURES, **addresses, **roles, "minter": keys.address("faucet"), "poster": keys.address("anchor"),
        "treasury": keys.address("governance"), "veto_role": keys.address("veto"),
        "arbiters": [keys.address("arbiter")], "fee_bps": int(settings.PLATFORM_FEE_BPS),
        "verifiers": _panel("verifier", settings.ATTEST_QUORUM.seats), "quorums": quorums_wanted(),
        "compliance": _panel("compliance", settings.COMPLIANCE_QUORUM.seats),
        "slashers": _panel("slasher", settings.SLASH_QUORUM.seats),
        "slashers_min": settings.SLASH_QUORUM.seats,
    }  # fmt: skip
    wanted = [argument for argument, _ in load(name).constructor_inputs()]
    unknown = [argument for argument in wanted if argument.strip("_") not in known]
    if unknown:
        raise DeploymentBroken(f"The constructor of {name} asks for {', '.join(unknown)}.", contract=name)
    return [known[argument.strip("_")] for argument in wanted]


def _panel(kind: str, seats: int) -> list[tuple[str, int]]:
    """Seats of a panel: a key and the number of the organisation that holds it."""
    return [(signer().address(f"{kind}:{number}"), number) for number in range(1, seats + 1)]


def quorums_wanted() -> tuple[int, int, int]:
    """How many verifiers, compliance officers and slashers sign, by the settings."""
    return settings.ATTEST_QUORUM.needed, settings.COMPLIANCE_QUORUM.needed, settings.SLASH_QUORUM.needed


def _refuse_other_quorums(here: Chain) -> None:
    """Whoever signs by one figure and is checked by another is reverted, or checked by less than is promised."""
    wanted = quorums_wanted()
    found = tuple(int(here.call("stake", "quorum", panel)) for panel in range(len(wanted)))
    if found != wanted:
        raise DeploymentBroken(
            f"The contract asks for {found} signatures of verifiers, compliance and slashers, the settings for "
            f"{wanted}: change ATTEST_QUORUM, COMPLIANCE_QUORUM and SLASH_QUORUM, or the contract by its governance.",
            on_chain=found, wanted=wanted,
        )  # fmt: skip


def _refuse_other_build(here: Chain, plans: Sequence[Planned]) -> None:
    rows = {row.name: row for row in ChainContract.objects.filter(chain_id=here.chain_id)}
    for plan in plans:
        row = rows.get(plan.name)
        if row is not None and (row.abi_hash, row.address) != (plan.build_hash, plan.address):
            raise DeploymentBroken(
                f"The recorded contract {plan.name} comes from another build or key: a new version is a new address.",
                contract=plan.name, address=row.address,
            )  # fmt: skip


def _send_missing(here: Chain, plans: Sequence[Planned], now: datetime) -> None:
    deployer = signer().address(DEPLOYER)
    next_nonce = here.next_nonce(deployer)
    raws = [_signed(here, nonce=plan.nonce, data=plan.code) for plan in plans if plan.nonce >= next_nonce]
    faults.point("deploy.before_send")
    _broadcast(here, raws, now)
    for plan in plans:
        _wait(here, lambda plan=plan: here.has_code(plan.address), plan.name)  # type: ignore[misc]


def _bind(here: Chain, addresses: Mapping[str, str], now: datetime) -> None:
    """Tell the stake contract its escrow, once: the one argument that a constructor could not yet check."""

    def is_bound() -> bool:
        return bool(here.call_at("stake", addresses["stake"], "escrow") == addresses["escrow"])

    if not is_bound():
        data = abi.encode_call("stake", "bind_escrow", [addresses["escrow"]])
        nonce = here.next_nonce(signer().address(DEPLOYER))
        _broadcast(here, [_signed(here, nonce=nonce, data=data, to=addresses["stake"])], now)
        _wait(here, is_bound, "stake.bind_escrow")


def _broadcast(here: Chain, raws: Sequence[bytes], now: datetime) -> None:
    for sent in here.broadcast(raws, now=now):
        if sent.refusal is not None:
            raise DeploymentBroken(f"The chain refused a deployment: {sent.refusal}", tx_hash=sent.tx_hash)


def _wait(here: Chain, is_done: Callable[[], bool], what: str) -> None:
    waited_seconds = 0
    while not is_done():
        if here.embedded is not None or waited_seconds >= RECEIPT_SECONDS_MAX:
            raise DeploymentBroken(f"{what} is not in its place: the deployment failed or is stuck.", what=what)
        time.sleep(1)
        waited_seconds += 1


def _signed(here: Chain, *, nonce: int, data: bytes, to: str | None = None) -> bytes:
    fields = {"chainId": here.chain_id, "nonce": nonce, "gas": DEPLOY_GAS, "value": 0, "data": data, **here.fees()}
    return signer().sign_transaction(DEPLOYER, fields | ({"to": to} if to else {})).raw


def _record(here: Chain, plans: Sequence[Planned]) -> None:
    head = here.head()
    ChainContract.objects.bulk_create(
        [
            ChainContract(name=plan.name, address=plan.address, chain_id=here.chain_id, abi_hash=plan.build_hash,
                          deployed_block=head.number)
            for plan in plans
        ],
        update_conflicts=True, unique_fields=["name"], update_fields=["address", "chain_id", "abi_hash"],
    )  # fmt: skip
