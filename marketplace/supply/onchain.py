"""What the contract must know of a node class: its attested place and tier, its proofs, its stake."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.db import transaction

from contracts.eip712 import BenchmarkAttestation, ClassAttestation, Signature, in_signing_order
from contracts.jurisdictions import index_of
from ledger.models import ChainAddress, ChainClass, ChainIntent
from ledger.rails import sender
from ledger.rails.evm import chain
from ledger.rails.signer import signer
from marketplace.compliance.holdings import Holdings, Span
from marketplace.governance.services import record
from marketplace.parties.models import Party
from marketplace.supply.models import Benchmark, NodeClass

EXPIRES_AT, EXPOSURE_CAP_AT = 48, 128  # bits of the packed word of a class; see contracts/stake.vy


@transaction.atomic
def ensure_address(*, party: Party) -> str:
    """The party's address on chain, kept by the custody signer; made once."""
    role = f"{'provider' if party.is_provider else 'buyer'}:{party.pk}"
    address = signer().address(role)
    if party.chain_address is None:
        Party.objects.filter(pk=party.pk).update(chain_address=address)
        party.chain_address = address
        ChainAddress.objects.get_or_create(address=address, defaults={"party": party.pk, "role": role.split(":")[0]})
    return address


@transaction.atomic
def attest_class(
    *, node_class: NodeClass, exposure_cap_micros: int, expires_at: datetime, nonce: int, about: str = "",
    now: datetime,
) -> ChainIntent:  # fmt: skip
    """Bring the compliance panel's attestation of place, control and tier to the contract.

    The tier is the one that the site's evidence holds now. When evidence ends, a further attestation lowers it there.
    """
    site, party = node_class.site, node_class.party
    tier = Holdings([party.pk], Span.instant(now)).tier_of(node_class)
    ensure_address(party=party)
    ChainClass.objects.get_or_create(
        class_id=node_class.chain_class, defaults={"provider": party.pk, "node_class": node_class.pk}
    )
    attestation = ClassAttestation(
        provider=ensure_address(party=party), node_class=node_class.chain_class, site=index_of(site.country),
        parent=index_of(party.ultimate_country), operator=index_of(site.operator_country),
        keys=index_of(site.keys_country), tier=tier, exposure_cap=exposure_cap_micros,
        expires=int(expires_at.timestamp()), nonce=nonce,
    )  # fmt: skip
    signatures = sign_by_panel(
        attestation, panel="compliance", needed=settings.COMPLIANCE_QUORUM.needed, contract="stake"
    )
    key = f"attest:{node_class.chain_class}:{nonce}" + (f":{about}" if about else "")
    if not ChainIntent.objects.filter(key=key).exists():
        record(
            actor="compliance", action="attest_class", subject=node_class.pk, reason="place, control and tier attested",
            now=now, country=site.country, tier=tier, exposure_cap_micros=exposure_cap_micros,
        )  # fmt: skip
    return sender.submit(
        key=key, role="custody", contract="stake", function="attest_class", args=[attestation.abi(), signatures],
        now=now,
    )  # fmt: skip


@transaction.atomic
def renew_attestation(
    *, node_class: NodeClass, about: str, more_micros: int = 0, now: datetime
) -> ChainIntent | None:
    """Bring the contract what is so now of a class that it knows, with its end as it stands; None for any other.

    Its exposure cap stays too, or moves by `more_micros`.

    Without it the contract would still take money for the place, control or tier of before a change. `about` names the
    change; the same change is brought once.
    """
    known = ChainIntent.objects.filter(key__startswith=f"attest:{node_class.chain_class}:")
    if not known.exists() or known.filter(key__endswith=f":{about}").exists():
        return None
    here = chain()
    word = int(here.call("stake", "class_info", node_class.chain_class))
    expires_at = datetime.fromtimestamp(word >> EXPIRES_AT & 2**40 - 1, UTC)
    if expires_at <= now:
        return None  # it takes no money for this class as it is
    asked = max(int(key.split(":")[2]) for key in known.values_list("key", flat=True))
    nonce = max(asked, int(here.call("stake", "class_nonce", node_class.chain_class))) + 1
    return attest_class(
        node_class=node_class, expires_at=expires_at, nonce=nonce,
        exposure_cap_micros=max(0, (word >> EXPOSURE_CAP_AT & 2**64 - 1) + more_micros), about=about, now=now,
    )  # fmt: skip


@transaction.atomic
def submit_proof(*, benchmark: Benchmark, now: datetime) -> ChainIntent:
    """Bring an attested benchmark to the contract; slashing is armed there, by the proof alone."""
    struct = attestation_of(benchmark)
    signed = {row.signer: Signature(row.v, bytes(row.r), bytes(row.s)) for row in benchmark.attestations.all()}
    return sender.submit(
        key=f"prove:{benchmark.node_class.chain_class}:{benchmark.epoch}", role="custody", contract="stake",
        function="prove", args=[struct.abi(), in_signing_order(signed)], now=now,
    )  # fmt: skip


@transaction.atomic
def deposit_stake(*, node_class: NodeClass, amount_micros: int, key: str, now: datetime) -> ChainIntent:
    """Put `amount_micros` of stake behind a node class; shows in the books after the next indexing."""
    stake = chain().address("stake")
    sender.submit(
        key=f"stake:{key}:mint", role="faucet", contract="token", function="mint",
        args=[signer().address("custody"), amount_micros], now=now,
    )  # fmt: skip
    sender.submit(
        key="custody:approve:stake", role="custody", contract="token", function="approve",
        args=[stake, 2**256 - 1], now=now,
    )  # fmt: skip
    return sender.submit(
        key=f"stake:{key}", role="custody", contract="stake", function="stake",
        args=[node_class.chain_class, amount_micros], now=now,
    )  # fmt: skip


def exposure_room_micros(*, node_class: NodeClass) -> int:
    """What the contract would still let be locked for a node class, by its attested exposure cap."""
    here = chain()
    word = int(here.call("stake", "class_info", node_class.chain_class))
    committed = int(here.call("escrow", "class_of", node_class.chain_class)[0])
    cap = word >> EXPOSURE_CAP_AT & 2**64 - 1
    if node_class.standing.state != "PROVEN":
        cap = min(cap, int(here.call("escrow", "unproven_cap")))
    return max(0, cap - committed)


def attestation_of(benchmark: Benchmark) -> BenchmarkAttestation:
    """The struct as the verifiers signed it."""
    message: dict[str, Any] = {
        name: bytes.fromhex(value[2:]) if isinstance(value, str) and value.startswith("0x") else value
        for name, value in benchmark.message.items()
    }
    return BenchmarkAttestation(**message)


def sign_by_panel(struct: Any, *, panel: str, needed: int, contract: str) -> tuple[tuple[int, bytes, bytes], ...]:
    """Signatures of the first `needed` seats of a panel under a typed struct, sorted as the contract wants them."""
    keys, domain = signer(), chain().domain(contract)
    roles = [f"{panel}:{number}" for number in range(1, needed + 1)]
    return in_signing_order({keys.address(role): keys.sign_typed(role, struct, **domain) for role in roles})
