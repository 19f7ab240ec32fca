"""Who may attest a benchmark: seated verifiers, as many as the quorum asks, none of the provider's own owner."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from django.conf import settings
from django.db import transaction

from marketplace.catalogue.limits import require_name
from marketplace.environment import Quorum
from marketplace.errors import BadInput, ProofRefused, ReferenceReused
from marketplace.governance.services import record
from marketplace.parties.models import Party
from marketplace.parties.owners import last_owners
from marketplace.supply.models import NodeClass
from marketplace.supply.proof_models import VerifierSeat


def attest_quorum() -> Quorum:
    """How many verifiers of how many have to sign a benchmark: the setting ATTEST_QUORUM."""
    return settings.ATTEST_QUORUM


@transaction.atomic
def seat_verifier(*, party: Party, address: str, vantage: str, is_demo: bool = False, now: datetime) -> VerifierSeat:
    """Give a verifier organisation its seat, or return the one that stands on the same terms.

    Raises BadInput, or ReferenceReused where the address or the organisation has another seat.
    """
    require_name(vantage, field="vantage", longest=40)
    if party.kind != "verifier":
        raise BadInput("Only a verifier organisation has a verifier's seat.", field="party")
    if len(address) != 42 or not address.startswith("0x"):
        raise BadInput("An address is 0x and forty hex digits.", field="address")
    standing = VerifierSeat.objects.filter(address=address).first()
    if standing and (standing.party_id, standing.vantage) == (party.pk, vantage):
        return standing
    if standing or VerifierSeat.objects.filter(party=party, retired_at=None).exists():
        raise ReferenceReused("This organisation or this address has another seat.", field="address")
    seat = VerifierSeat.objects.create(address=address, party=party, vantage=vantage, is_demo=is_demo, seated_at=now)
    record(actor="foundation", action="seat_verifier", subject=address, reason=party.slug, now=now, vantage=vantage,
           is_demo=is_demo)  # fmt: skip
    return seat


def panel_for(node_class: NodeClass) -> list[VerifierSeat]:
    """The seats that may sit over a node class: all but those of its own ultimate owner.

    Raises ProofRefused when they are fewer than the quorum asks for.
    """
    seats = list(VerifierSeat.objects.filter(retired_at=None).select_related("party"))
    owners = last_owners([node_class.party_id, *(seat.party_id for seat in seats)])
    free = [seat for seat in seats if owners[seat.party_id] != owners[node_class.party_id]]
    needed = attest_quorum().needed
    if len(free) < needed:
        raise ProofRefused("Too few independent verifiers are seated.", needed=needed, got=len(free))
    return free


def require_panel(*, node_class: NodeClass, signers: Collection[str], now: datetime) -> None:
    """Refuse signers that are too few, of the provider's own owner, retired, or (outside a demo) not seated.

    Raises ProofRefused.
    """
    needed = attest_quorum().needed
    if len(signers) < needed:
        raise ProofRefused("A benchmark needs its quorum of verifiers.", needed=needed, got=len(signers))
    seats = {seat.address: seat for seat in VerifierSeat.objects.filter(address__in=signers)}
    missing = sorted(set(signers) - set(seats))
    if missing and not settings.DEMO:
        raise ProofRefused("Only seated verifiers attest.", unseated=missing)
    retired = [seat.address for seat in seats.values() if seat.retired_at and seat.retired_at <= now]
    if retired:
        raise ProofRefused("A retired verifier attests nothing.", retired=retired)
    owners = last_owners([node_class.party_id, *(seat.party_id for seat in seats.values())])
    own = [seat.address for seat in seats.values() if owners[seat.party_id] == owners[node_class.party_id]]
    if own:
        raise ProofRefused("A verifier of the provider's own owner never sits on its panel.", own=own)


def is_demo_panel() -> bool:
    """Whether any seated verifier is of the demo's own: pages then say that the panel is not independent."""
    return settings.DEMO or VerifierSeat.objects.filter(is_demo=True, retired_at=None).exists()
