"""What each role of a seat may do, in one table; a service asks it with the seat that acts."""

from __future__ import annotations

from marketplace.errors import NotYours, RoleForbidden
from marketplace.parties.models import Party, Seat

BUYER_ACTS = {
    "owner": {"draft", "approve", "fund", "rules", "sign", "keys", "seats", "read"},
    "purchaser": {"draft", "read"},
    "approver": {"approve", "read"},
    "finance": {"fund", "read"},
    "compliance": {"read"},
    "counsel": {"counsel", "read"},
}
PROVIDER_ACTS = {
    "owner": {"operate", "evidence", "money", "sign", "keys", "seats", "read"},
    "operator": {"operate", "read"},
    "finance": {"money", "read"},
    "compliance": {"evidence", "sign", "read"},
}
FOUNDATION_ACTS = {
    "market_maker": {"quote", "propose_limits", "read"},
    "operations": {"operate", "review", "propose_limits", "limits", "freeze", "export", "read"},
    "judge": {"judge", "review", "propose_limits", "limits", "freeze", "read"},
    "auditor": {"read", "export"},
    "admin": {"seats", "review", "propose_limits", "limits", "read"},
}


def roles_of(party: Party) -> tuple[str, ...]:
    """The roles that a seat of the party may have; none where its kind has no seats that act."""
    return tuple(_table_of(party))


def may_roles(act: str, party: Party) -> list[str]:
    """The roles of the party whose seats may do `act`."""
    return [role for role, acts in _table_of(party).items() if act in acts]


def _table_of(party: Party) -> dict[str, set[str]]:
    if party.is_buyer:
        return BUYER_ACTS
    if party.is_provider:
        return PROVIDER_ACTS
    return FOUNDATION_ACTS if party.kind == "foundation" else {}


def acts_of(seat: Seat) -> set[str]:
    """What the seat may do in its own party."""
    return acts_of_role(seat.role, seat.party)


def acts_of_role(role: str, party: Party) -> set[str]:
    """What a seat of that role may do in the party."""
    return _table_of(party).get(role, set())


def require_seat(seat: Seat | None, party: Party, act: str, what: str) -> None:
    """Refuse a person without a seat in `party` or with a role that may not; a program acts by the party's key."""
    if seat is not None:
        if seat.party_id != party.pk:
            raise NotYours("There is no such seat.")
        require_act(seat, act, what)


def require_person(person: str, act: str, what: str) -> None:
    """Refuse a person of the Foundation, named by e-mail, whose role may not; who has no seat there acts by none."""
    seat = Seat.objects.select_related("party").filter(user__email=person, party__kind="foundation").first()
    if seat is not None:
        require_act(seat, act, what)


def require_act(seat: Seat, act: str, what: str) -> None:
    """Refuse with `role_forbidden` unless the seat's role may do `act`."""
    if act not in acts_of(seat):
        tables = BUYER_ACTS, PROVIDER_ACTS, FOUNDATION_ACTS
        roles = sorted({role for table in tables for role, acts in table.items() if act in acts})
        raise RoleForbidden(f"The role {seat.role.replace('_', ' ')} may not {what}.", role=seat.role, roles=roles)
