"""Escrow: deposits, mandates, the lock on chain, and the leases that follow from awards."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Max

from contracts.eip712 import Mandate as MandateStruct
from contracts.jurisdictions import EVERY_COUNTRY_MASK, mask_of
from ledger.faults import point
from ledger.ids import uuid7
from ledger.models import ChainEvent, ChainIntent
from ledger.rails import sender
from ledger.rails.errors import IntentReused
from ledger.rails.evm import chain
from ledger.rails.signer import signer
from ledger.selectors import balance
from ledger.services import post_hold_posting, void_hold
from marketplace.catalogue.limits import require_whole
from marketplace.catalogue.models import Window, Zone
from marketplace.catalogue.services import move_window, zone_countries
from marketplace.clearing.models import Award
from marketplace.demand.funding import origin_of
from marketplace.demand.models import Demand
from marketplace.errors import BadInput, PhaseClosed, ReferenceReused, WindowClosed
from marketplace.escrow.backup_models import StepIn, StepInRun
from marketplace.escrow.models import Lease, LockBatch, Mandate
from marketplace.escrow.packs import undocumented, write_packs
from marketplace.governance.services import record, require_flag
from marketplace.parties.models import Party, Seat
from marketplace.parties.roles import require_seat
from marketplace.supply.entry import entry_rule, is_first_lease
from marketplace.supply.models import Bid
from marketplace.supply.onchain import ensure_address, exposure_room_micros
from pricing.penalties import stake_micros

CALL_MANDATES_MAX = CALL_CLASSES_MAX = 64
CALL_LINES_MAX = 512
PAUSED = "escrow: lock is paused"  # the contract's words
FIRST_LEASE = "The first lease of a node class costs less than that."
TOO_EXPOSED = "The node class has reached the exposure its stake carries."
DEPOSIT_MAX_MICROS = 10**13  # ten million dollars at once,
PARTY_MAX_MICROS = 10**14  # and a hundred in all: no number of deposits may bring the books to the end of 64 bits

Rules = tuple[UUID, str | None, str | None, int]  # buyer, zone, control zone, least tier: what one mandate binds


@dataclass(slots=True)
class _Call:
    """One lock call in the making: mandates in order, and the sums of their lines by node class."""

    mandates: list[Mandate] = field(default_factory=list)
    lines: dict[tuple[int, int], int] = field(default_factory=dict)  # (mandate position, node class) -> micro-USD
    classes: set[int] = field(default_factory=set)


@transaction.atomic
def deposit_funds(
    *, party: Party, amount_micros: int, key: str, seat: Seat | None = None, now: datetime
) -> ChainIntent:
    """Deposit test dollars into escrow for a buyer, by the custody signer; `key` makes it one act.

    The money is available once the chain has it and the indexer has seen it.
    """
    require_seat(seat, party, "fund", "deposit money")
    if not settings.DEMO:
        raise PhaseClosed("Test dollars exist only in a demo; deposit your own stablecoin into the escrow contract.")
    if not (party.is_buyer or party.kind == "foundation"):
        raise BadInput("Only buyers deposit into escrow.", field="party")
    if not 1 <= require_whole(amount_micros, field="amount_micros") <= DEPOSIT_MAX_MICROS:
        raise BadInput(
            "Deposit more than nothing and at most ten million dollars at once.", field="amount_micros",
            most_micros=DEPOSIT_MAX_MICROS,
        )  # fmt: skip
    address, escrow = ensure_address(party=party), chain().address("escrow")
    intent_key = f"deposit:{party.slug}:{key}"
    is_new = not ChainIntent.objects.filter(key=intent_key).exists()
    if is_new:
        _require_room(party, amount_micros)
    try:
        sender.submit(
            key=f"{intent_key}:mint", role="faucet", contract="token", function="mint",
            args=[signer().address("custody"), amount_micros], now=now,
        )  # fmt: skip
    except IntentReused as error:
        raise ReferenceReused("This key names another deposit of yours.", field="key") from error
    sender.submit(
        key="custody:approve:escrow", role="custody", contract="token", function="approve",
        args=[escrow, 2**256 - 1], now=now,
    )  # fmt: skip
    intent = sender.submit(
        key=intent_key, role="custody", contract="escrow", function="deposit", args=[address, amount_micros], now=now
    )
    if is_new:
        record(actor=party.slug, action="deposit", subject=party.slug, reason="deposit", now=now,
               amount_micros=amount_micros)  # fmt: skip
    return intent


def _require_room(party: Party, amount_micros: int) -> None:
    """Refuse a deposit that would bring a party beyond its most, counting what is still on its way at its most."""
    Party.objects.select_for_update().get(pk=party.pk)  # two deposits at once are counted one after the other
    on_its_way = ChainIntent.objects.filter(
        key__startswith=f"deposit:{party.slug}:", function="deposit", state__in=("queued", "signed", "sent")
    ).count()
    owned = sum(balance(code=code, party=party.pk).minor for code in ("buyer.available", "buyer.held"))
    if owned + on_its_way * DEPOSIT_MAX_MICROS + amount_micros > PARTY_MAX_MICROS:
        raise BadInput(
            "That would be more than one party may keep here.", field="amount_micros", most_micros=PARTY_MAX_MICROS,
            owned_micros=owned,
        )  # fmt: skip


@transaction.atomic
def lock_window(*, window: Window, now: datetime) -> int:
    """Make leases from the awards of a CLEARED window and ask the chain to lock their money.

    Everything is written in one transaction: leases, mandates, lock calls, and the holds that are posted in the books
    when each lock is final. Again returns 0. The contract checks every line against its mandate once more.
    """
    locked = Window.objects.select_for_update().get(pk=window.pk)
    if locked.state != "CLEARED" or locked.leases.exists():
        return 0
    awards = list(
        Award.objects.filter(clearing__window=locked)
        .select_related("demand__party", "demand__sla", "demand__data_class", "bid__party", "bid__node_class__standing")
        .order_by("demand__accepted_rank", "bid__accepted_rank", "start_slot")
    )
    if not awards:
        return 0
    if locked.kind == "market":
        require_flag(name="escrow_locks", what="Locking of money from market windows")
    sender.submit(
        key=f"window:{locked.number}", role="operator", contract="escrow", function="open_window",
        args=[locked.number, int(locked.ends_at.timestamp())], now=now,
    )  # fmt: skip
    pairs: dict[tuple[Demand, Bid], list[Award]] = defaultdict(list)
    for award in awards:
        pairs[award.demand, award.bid].append(award)
    mandates = _sign_mandates(locked, {demand for demand, _ in pairs}, now)
    refused = {**undocumented(pairs, locked)}
    refused |= dict.fromkeys(_beyond_first_lease(pairs), FIRST_LEASE)
    refused |= dict.fromkeys(_beyond_exposure({p: a for p, a in pairs.items() if p not in refused}), TOO_EXPOSED)
    _refuse_pairs(locked, {pair: (pairs.pop(pair), why) for pair, why in refused.items()}, mandates,
                  {demand for demand, _ in pairs}, now)  # fmt: skip
    calls = _plan_calls(pairs, mandates) if pairs else []
    for ordinal, call in enumerate(calls):
        _submit_call(locked, ordinal, call, pairs, mandates, now)
    write_packs(window=locked, now=now)
    point("escrow.lock.before_commit")
    record(
        actor="market", action="lock_window", subject=locked.name, reason="leases made from awards", now=now,
        leases=len(pairs), calls=len(calls), total_micros=sum(a.amount_micros for a in awards),
    )  # fmt: skip
    return len(pairs)


@transaction.atomic
def confirm_locks(*, window: Window, now: datetime) -> int:
    """Start delivery once every lock call of the window has ended; returns how many leases are locked.

    A call that the contract reverted locks nothing: its leases are refused with the contract's own sentence, and their
    holds are released. One that met a pause is made again when the pause is over, until the window starts.
    """
    locked = Window.objects.select_for_update().get(pk=window.pk)
    if locked.state != "CLEARED":
        return 0
    batches = list(locked.lock_batches.all())
    if now < locked.starts_at and (paused := paused_locks(batches)):
        return _lock_again(paused, now)
    intents = {row.key: row for row in ChainIntent.objects.filter(key__in=[b.intent_key for b in batches])}
    if not locked.leases.exists() and locked.clearing.awards.exists():
        return 0
    if any(intents[batch.intent_key].state not in ("final", "reverted") for batch in batches):
        return 0
    for batch in batches:
        intent = intents[batch.intent_key]
        if intent.state == "reverted":
            _release_batch(batch, intent.revert_reason, now)
            continue
        batch.chain_no, batch.locked_at = chain_batch_no(intent), now
        batch.save(update_fields=["chain_no", "locked_at"])
    count = Lease.objects.filter(window=locked, state="locking").update(state="locked")
    move_window(window=locked, to_state="DELIVERING", reason="money locked on chain", now=now, leases=count)
    return count


def paused_locks(batches: Iterable[LockBatch]) -> list[tuple[LockBatch, ChainIntent]]:
    """Return those of these lock calls that the contract refused because locking was paused."""
    by_key = {batch.intent_key: batch for batch in batches}
    refused = ChainIntent.objects.filter(key__in=by_key, state="reverted", revert_reason__contains=PAUSED)
    return [(by_key[intent.key], intent) for intent in refused.order_by("created_at", "id")]


def _lock_again(paused: Sequence[tuple[LockBatch, ChainIntent]], now: datetime) -> int:
    """Make the same lock calls again, unless locking is paused still; returns how many."""
    if chain().call("escrow", "paused"):
        return 0
    for batch, intent in paused:
        again = ChainIntent.objects.filter(key__startswith=f"lock:{batch.window.number}:{batch.ordinal}:").count() + 1
        batch.intent_key = f"lock:{batch.window.number}:{batch.ordinal}:{again}"
        sender.again(intent, key=batch.intent_key, now=now)
        batch.save(update_fields=["intent_key"])
        record(actor="market", action="lock_again", subject=batch.intent_key, reason="locking is not paused any more",
               now=now, total_micros=batch.total_micros)  # fmt: skip
    return len(paused)


def _release_batch(batch: LockBatch, sentence: str, now: datetime) -> None:
    leases = list(batch.leases.select_related("demand"))
    for demand in {lease.demand for lease in leases}:
        void_hold(id=demand.hold_id, now=now)
    batch.leases.update(state="refused", refusal=sentence[:200])
    record(
        actor="chain", action="lock_reverted", subject=batch.intent_key, reason=sentence, now=now, leases=len(leases)
    )


def _beyond_first_lease(pairs: dict[tuple[Demand, Bid], list[Award]]) -> list[tuple[Demand, Bid]]:
    """Pairs of classes without a lease before that cost more than a first lease may: the price cleared above the ask.

    Earlier demands of one class come first; what they leave of the cap is for the later ones.
    """
    left: dict[UUID, int | None] = {}
    beyond = []
    for (demand, bid), awards in pairs.items():
        node_class = bid.node_class
        if node_class.pk not in left:
            is_first = is_first_lease(node_class)
            left[node_class.pk] = entry_rule(node_class.tier).first_lease_cap_micros if is_first else None
        room, amount = left[node_class.pk], sum(award.amount_micros for award in awards)
        if room is None:
            continue
        if amount > room:
            beyond.append((demand, bid))
        else:
            left[node_class.pk] = room - amount
    return beyond


def _beyond_exposure(pairs: dict[tuple[Demand, Bid], list[Award]]) -> list[tuple[Demand, Bid]]:
    """Pairs that would pass the exposure cap of their node class; later demands give way to earlier ones.

    The contract refuses a whole call for one line too many, so what cannot fit is taken out before.
    """
    room: dict[UUID, int] = {}
    beyond = []
    for (demand, bid), awards in pairs.items():
        node_class = bid.node_class
        if node_class.pk not in room:
            room[node_class.pk] = exposure_room_micros(node_class=node_class)
        amount = sum(award.amount_micros for award in awards)
        if amount > room[node_class.pk]:
            beyond.append((demand, bid))
        else:
            room[node_class.pk] -= amount
    return beyond


def _refuse_pairs(
    window: Window, refused: dict[tuple[Demand, Bid], tuple[list[Award], str]], mandates: dict[Rules, Mandate],
    served: set[Demand], now: datetime,
) -> None:  # fmt: skip
    """Write the leases that cannot be locked, each with its reason, and release holds that nothing else needs."""
    Lease.objects.bulk_create(
        lease_of(window, demand, bid, awards, mandates[_rules(demand)], None, None, now, refusal=why)
        for (demand, bid), (awards, why) in refused.items()
    )
    for demand in {demand for demand, _ in refused} - served:
        void_hold(id=demand.hold_id, now=now)
    for why, leases in sorted(Counter(why for _, why in refused.values()).items()):
        record(actor="market", action="refuse_leases", subject=window.name, reason=why, now=now, leases=leases)


def chain_batch_no(intent: ChainIntent) -> int:
    """The number that the contract gave a final lock call, from its `Locked` event."""
    event = ChainEvent.objects.get(tx_hash=intent.tx_hash, name="Locked", final=True)
    return int(event.args["batch"])


def _sign_mandates(window: Window, demands: Iterable[Demand], now: datetime) -> dict[Rules, Mandate]:
    """One mandate per buyer and set of rules, signed by the custody key of that buyer."""
    groups: dict[Rules, list[Demand]] = defaultdict(list)
    for demand in sorted(demands, key=lambda row: row.accepted_rank):
        groups[_rules(demand)].append(demand)
    nonces: dict[UUID, int] = {}
    signed = {}
    for rules, members in groups.items():
        party = members[0].party
        if party.pk not in nonces:
            nonces[party.pk] = Mandate.objects.filter(party=party).aggregate(top=Max("nonce"))["top"] or 0
        nonces[party.pk] += 1
        spend = sum(demand.hold_micros for demand in members)
        signed[rules] = _sign_mandate(window, party, rules, spend, nonces[party.pk], now)
    return signed


def next_mandate(*, window: Window, demand: Demand, spend_micros: int, now: datetime) -> Mandate:
    """Return a further mandate under the rules of one demand, for exactly `spend_micros`."""
    top = Mandate.objects.filter(party=demand.party_id).aggregate(top=Max("nonce"))["top"] or 0
    return _sign_mandate(window, demand.party, _rules(demand), spend_micros, top + 1, now)


def _sign_mandate(
    window: Window, party: Party, rules: Rules, spend_micros: int, nonce: int,
    now: datetime,
) -> Mandate:  # fmt: skip
    _, zone, control_zone, tier_min = rules
    expires_at = window.ends_at + timedelta(days=1)
    struct = MandateStruct(
        buyer=ensure_address(party=party), window=window.number, max_spend=spend_micros,
        zone_mask=_mask(zone, window), min_tier=tier_min, parent_mask=_mask(control_zone, window), nonce=nonce,
        expiry=int(expires_at.timestamp()),
    )  # fmt: skip
    signature = signer().sign_typed(f"buyer:{party.pk}", struct, **chain().domain("escrow"))
    return Mandate.objects.create(
        id=uuid7(now), window=window, party=party, zone_id=zone, control_zone_id=control_zone, tier_min=tier_min,
        nonce=nonce, max_spend_micros=struct.max_spend, expires_at=expires_at,
        signed={
            **{name: str(part) for name, part in vars(struct).items()},
            "v": signature.v, "r": signature.r.hex(), "s": signature.s.hex(),
        },
    )  # fmt: skip


def mandate_call(mandate: Mandate) -> tuple[object, object]:
    """The signed mandate as the contract takes it: (struct tuple, signature tuple)."""
    kept = mandate.signed
    struct = MandateStruct(
        buyer=kept["buyer"], window=int(kept["window"]), max_spend=int(kept["max_spend"]),
        zone_mask=int(kept["zone_mask"]), min_tier=int(kept["min_tier"]), parent_mask=int(kept["parent_mask"]),
        nonce=int(kept["nonce"]), expiry=int(kept["expiry"]),
    )  # fmt: skip
    return struct.abi(), (kept["v"], bytes.fromhex(kept["r"]), bytes.fromhex(kept["s"]))


def _rules(demand: Demand) -> Rules:
    return (demand.party_id, demand.zone_id, demand.control_zone_id, demand.tier_min)


def _mask(zone_code: str | None, window: Window) -> int:
    if zone_code is None:
        return EVERY_COUNTRY_MASK
    return mask_of(zone_countries(zone=Zone.objects.get(pk=zone_code), on=window.starts_at.date()))


def _plan_calls(
    pairs: dict[tuple[Demand, Bid], list[Award]],
    mandates: dict[Rules, Mandate],
) -> list[_Call]:
    """Fill calls with whole mandates up to the contract's bounds, so that one hold is posted by one lock."""
    sums: dict[Mandate, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for (demand, bid), awards in pairs.items():
        sums[mandates[_rules(demand)]][bid.node_class.chain_class] += sum(a.amount_micros for a in awards)
    calls = [_Call()]
    for mandate in (each for each in mandates.values() if each in sums):
        by_class = sums[mandate]
        if len(by_class) > CALL_CLASSES_MAX:
            raise WindowClosed(
                "One mandate was awarded more node classes than one call holds.", mandate=str(mandate.pk)
            )
        call = calls[-1]
        if (
            len(call.mandates) == CALL_MANDATES_MAX
            or len(call.classes | set(by_class)) > CALL_CLASSES_MAX
            or len(call.lines) + len(by_class) > CALL_LINES_MAX
        ):
            call = _Call()
            calls.append(call)
        position = len(call.mandates)
        call.mandates.append(mandate)
        call.classes |= set(by_class)
        call.lines |= {(position, node_class): amount for node_class, amount in by_class.items()}
    return calls


def _submit_call(
    window: Window, ordinal: int, call: _Call, pairs: dict[tuple[Demand, Bid], list[Award]],
    mandates: dict[Rules, Mandate], now: datetime,
) -> None:  # fmt: skip
    classes = sorted(call.classes)
    ordered = sorted((position, classes.index(number), amount) for (position, number), amount in call.lines.items())
    words = [position << 80 | class_at << 64 | amount for position, class_at, amount in ordered]
    batch = LockBatch.objects.create(
        id=uuid7(now), window=window, ordinal=ordinal, intent_key=f"lock:{window.number}:{ordinal}",
        buyers=[mandate.signed["buyer"] for mandate in call.mandates], classes=classes,
        lines=[str(word) for word in words], total_micros=sum(call.lines.values()),
    )  # fmt: skip
    line_no = {(position, classes[class_at]): n for n, (position, class_at, _) in enumerate(ordered)}
    at = {mandate.pk: position for position, mandate in enumerate(call.mandates)}
    awarded_micros: dict[Demand, int] = defaultdict(int)
    leases = []
    for (demand, bid), awards in pairs.items():
        mandate = mandates[_rules(demand)]
        if mandate.pk not in at:
            continue
        line = line_no[at[mandate.pk], bid.node_class.chain_class]
        leases.append(lease_of(window, demand, bid, awards, mandate, batch, line, now))
        awarded_micros[demand] += leases[-1].fee_micros
    Lease.objects.bulk_create(leases)
    sender.submit(
        key=batch.intent_key, role="operator", contract="escrow", function="lock",
        args=[window.number, [mandate_call(m) for m in call.mandates], classes, words],
        plan=[
            post_hold_posting(
                hold_id=demand.hold_id, party=demand.party_id, window=window.pk, amount=amount, origin=origin_of(demand)
            )
            for demand, amount in awarded_micros.items()
        ],
        now=now,
    )  # fmt: skip


def lease_of(
    window: Window, demand: Demand, bid: Bid, awards: Sequence[Award | StepInRun], mandate: Mandate,
    batch: LockBatch | None, line: int | None, now: datetime, *, refusal: str = "", step_in: StepIn | None = None,
) -> Lease:  # fmt: skip
    """Return the lease that these runs of slots make, not yet written; `step_in` for a backup's."""
    standing = bid.node_class.standing
    hours = len({slot for award in awards for slot in range(award.start_slot, award.end_slot)})
    unit_hours = sum(award.units * (award.end_slot - award.start_slot) for award in awards)
    fee = sum(award.amount_micros for award in awards)
    return Lease(
        id=uuid7(now), window=window, clearing=awards[0].clearing, demand=demand, bid=bid, step_in=step_in,
        buyer=demand.party,
        provider=bid.party, node_class=bid.node_class, mandate=mandate, lock_batch=batch, lock_line=line,
        start_slot=min(a.start_slot for a in awards), end_slot=max(a.end_slot for a in awards),
        unit_hours=unit_hours, fee_micros=fee, sla_bps=demand.sla.availability_bps,
        sla_targets=demand.sla_targets,
        is_armed=standing.state == "PROVEN", made_at=now, state="refused" if refusal else "locking", refusal=refusal,
        # price x units of a lease is its fee by the hour: the stake follows what is really at risk
        stake_micros=stake_micros(
            price_micros=fee // hours, units=1, hours=hours, good_hours=standing.good_hours,
            bad_hours=standing.bad_hours,
        ),
    )  # fmt: skip
