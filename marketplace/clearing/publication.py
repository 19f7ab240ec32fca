"""What is written when a clearing is published: all of it in one transaction, none of it ever changed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.db import connection, transaction

from ledger.ids import uuid7
from ledger.rails import sender
from ledger.services import void_hold
from marketplace.catalogue.models import Window
from marketplace.catalogue.services import move_window
from marketplace.clearing.books import Lines
from marketplace.clearing.models import (
    PARTS,
    Award,
    Backup,
    BundleFile,
    Clearing,
    ClearingAttempt,
    LineReason,
    PriceRow,
)
from marketplace.clearing.shares import ONE_PPM, Product, product_of, sellers_of, use_of
from marketplace.demand.models import Demand
from marketplace.governance.services import record
from marketplace.notices.services import tell_parties
from marketplace.parties.models import Party
from marketplace.supply.models import Bid
from pricing.allocation import Cap
from pricing.backups import find_backups
from pricing.bundle import bundle_hash
from pricing.clearing import RULE_VERSION, Outcome
from pricing.components import compliance_premium

HHI_SCALE = 10_000  # a single seller
TOP = 3  # shares of the largest one, two and three parents
CAP_WORDS = {"cap_bound": "the cap on one parent bound.", "cap_not_applicable": "too few parents for a cap."}


@transaction.atomic
def publish(*, window: Window, outcome: Outcome, files: dict[str, bytes], lines: Lines, now: datetime) -> Clearing:
    """Write prices, awards, backups, reasons and the bundle of a window in CLEARING, and move it to CLEARED."""
    locked = Window.objects.select_for_update().get(pk=window.pk)
    if locked.state != "CLEARING":  # a twin was faster
        return Clearing.objects.get(window=locked)
    book = outcome.book
    clearing = Clearing.objects.create(
        id=uuid7(now), window=locked, rule_version=str(RULE_VERSION), bundle_hash=bundle_hash(files),
        welfare_micros=outcome.welfare_micros, bound_micros=outcome.bound_micros, gap_micros=outcome.gap_micros,
        demand_lines=len(book.demands), bid_lines=len(book.bids), cleared_at=now, **_market_power(outcome),
        **_premium(outcome), use=list(use_of(locked, outcome)),
        sellers=sellers_of(outcome, lines),
    )  # fmt: skip
    BundleFile.objects.bulk_create(BundleFile(clearing=clearing, name=n, body=b) for n, b in sorted(files.items()))
    _write_awards(clearing, outcome, lines, now)
    _write_prices(clearing, outcome)
    _write_reasons(clearing, outcome, lines)
    _mark_lines(clearing, lines, now)
    _alert_bound_caps(clearing, now)
    ClearingAttempt.objects.filter(window=locked, outcome="running").update(outcome="published", ended_at=now)
    sender.submit(
        key=f"bundle:{locked.number}", role="anchor", contract="anchor", function="bundle",
        args=[locked.number, bundle_hash(files)], now=now,
    )  # fmt: skip
    move_window(
        window=locked, to_state="CLEARED", reason="certificate confirmed by the verifier", now=now,
        welfare_micros=outcome.welfare_micros, gap_micros=outcome.gap_micros, bundle=bundle_hash(files).hex(),
    )  # fmt: skip
    return clearing


# -- who sells how much, and what compliance costs ---------------------------------------------------------------------
def _market_power(outcome: Outcome) -> dict[str, Any]:
    """Caps, the products that can have none, sigma, and how concentrated each traded product came out."""
    allocation, parents = outcome.allocation, outcome.book.parents
    return {
        "caps": [
            {"product": list(cap.product), "parent": parents[cap.parent], "units_max": cap.units_max,
             "rho_micros": cap.rho_micros, "is_held": cap.is_held}
            for cap in allocation.caps
        ],
        "caps_not_applicable": [list(product) for product in allocation.caps_not_applicable],
        "sigma_numerator": allocation.sigma[0], "sigma_denominator": allocation.sigma[1],
        "concentration": list(_concentration(outcome)),
    }  # fmt: skip


def _is_at(cap: Cap, unit_hours: int) -> bool:
    return unit_hours >= cap.units_max or (cap.is_held and cap.rho_micros > 0)


def _concentration(outcome: Outcome) -> Iterator[dict[str, Any]]:
    """Per traded product: unit-hours, parents, HHI (10,000 is one seller), the largest shares, and the cap if any."""
    book, columns = outcome.book, outcome.award_columns
    sold: dict[Product, Counter[int]] = defaultdict(Counter)
    for bid, start, end, units in zip(
        columns.bid.tolist(), columns.start.tolist(), columns.end.tolist(), columns.units.tolist(), strict=True
    ):
        sold[product_of(outcome, bid)][int(book.bids.parent[bid])] += units * (end - start)
    not_applicable = set(outcome.allocation.caps_not_applicable)
    caps = {product: [cap for cap in outcome.allocation.caps if cap.product == product] for product in sold}
    for product, by_parent in sorted(sold.items()):
        total, largest = sum(by_parent.values()), sorted(by_parent.values(), reverse=True)
        yield {
            "product": list(product), "unit_hours": total, "parents": len(by_parent),
            "hhi": sum(hours * hours for hours in by_parent.values()) * HHI_SCALE // (total * total),
            "top_share_ppm": max(by_parent.values()) * ONE_PPM // total,
            "top_shares_ppm": [sum(largest[: k + 1]) * ONE_PPM // total for k in range(TOP)],
            "cap_unit_hours": caps[product][0].units_max if caps[product] else None,
            "capped_parents": sum(_is_at(cap, by_parent[cap.parent]) for cap in caps[product]),
            "is_cap_applicable": product not in not_applicable,
        }  # fmt: skip


def _premium(outcome: Outcome) -> dict[str, int]:
    found = compliance_premium(outcome.book, outcome.eligibility, outcome.allocation, outcome.award_columns)
    if found is None:
        return {}
    return {
        "premium_ppm": found.premium_ppm, "premium_low_ppm": found.low_ppm, "premium_high_ppm": found.high_ppm,
        "premium_unit_hours": found.unit_hours,
    }  # fmt: skip


def _alert_bound_caps(clearing: Clearing, now: datetime) -> None:
    """Tell the Foundation and the trail of each product whose cap bound, or that has too few parents for one."""
    told = [
        (row, "cap_bound" if row["capped_parents"] else "cap_not_applicable")
        for row in clearing.concentration if row["capped_parents"] or not row["is_cap_applicable"]
    ]  # fmt: skip
    foundation = list(Party.objects.filter(kind="foundation").values_list("pk", flat=True))
    for row, code in told:
        name = "/".join(str(part) for part in row["product"])
        sentence = f"{clearing.window.name}, {name}: {CAP_WORDS[code]} HHI {row['hhi']}, largest share " \
                   f"{row['top_share_ppm'] / 10_000:.1f} %."  # fmt: skip
        tell_parties(parties=foundation, about=f"window:{clearing.window.number}:{name}", code=code,
                     sentence=sentence, now=now)  # fmt: skip
        record(actor="market", action=code, subject=clearing.window.name, reason=sentence, now=now,
               product=row["product"], hhi=row["hhi"], top_shares_ppm=row["top_shares_ppm"])  # fmt: skip


# -- awards, prices, reasons -------------------------------------------------------------------------------------------
def _write_awards(clearing: Clearing, outcome: Outcome, lines: Lines, now: datetime) -> None:
    columns, signature_of_bid = outcome.award_columns, outcome.eligibility.signature_of_bid
    rows = []
    for place, line in enumerate(outcome.awards):
        cell = signature_of_bid[columns.bid[place]], slice(line.start_slot, line.end_slot)
        rows.append(Award(
            id=uuid7(now), clearing=clearing, demand=lines.demands[line.demand_id], bid=lines.bids[line.bid_id],
            start_slot=line.start_slot, end_slot=line.end_slot, units=line.units, amount_micros=line.amount_micros,
            slot_prices_micros=outcome.allocation.lam_micros[cell].tolist(),
            **{name: line.units * int(getattr(outcome.components, name)[cell].sum()) for name in PARTS},
        ))  # fmt: skip
    Award.objects.bulk_create(rows, batch_size=1000)
    with connection.cursor() as cursor:  # whole lines are judged when all awards stand, and that is now
        cursor.execute("SET CONSTRAINTS award_keeps_wholes IMMEDIATE")
    found = find_backups(outcome.book, outcome.eligibility, outcome.allocation, columns)
    ids = outcome.book.bids.ids
    Backup.objects.bulk_create(
        (
            Backup(award=award, bid=lines.bids[ids[bid]], strike_price_micros=strike)
            for award, bid, strike in zip(rows, found.bid.tolist(), found.strike_micros.tolist(), strict=True)
            if bid >= 0
        ),
        batch_size=1000,
    )


def _write_prices(clearing: Clearing, outcome: Outcome) -> None:
    def shown(values: Any, row: int) -> list[int | None]:
        traded = outcome.is_traded[row].tolist()
        return [value if flag else None for value, flag in zip(values[row].tolist(), traded, strict=True)]

    PriceRow.objects.bulk_create(
        PriceRow(
            clearing=clearing, signature=signature.name, resource_class=signature.attributes.resource_class,
            country=signature.attributes.country, tier=signature.attributes.tier,
            home_zone=outcome.book.home_zone(signature.attributes),
            slot_prices_micros=shown(outcome.allocation.lam_micros, row),
            slot_parts_micros={name: shown(getattr(outcome.components, name), row) for name in PARTS},
        )
        for row, signature in sorted(enumerate(outcome.eligibility.signatures), key=lambda pair: pair[1].name)
    )  # fmt: skip


def _write_reasons(clearing: Clearing, outcome: Outcome, lines: Lines) -> None:
    rows = [
        LineReason(
            clearing=clearing, side=line.side, code=line.code, detail=_told(line.detail, lines),
            demand=lines.demands[line.line_id] if line.side == "demand" else None,
            bid=lines.bids[line.line_id] if line.side == "bid" else None,
            unfilled_unit_hours=line.unfilled_unit_hours,
        )
        for line in outcome.reasons
    ]  # fmt: skip
    turned_away = {"unfunded": "not_funded", "refused": "not_funded", "withdrawn": "withdrawn"}
    rows += [
        LineReason(
            clearing=clearing, side="demand", code=turned_away[row.state], demand=row,
            unfilled_unit_hours=row.unit_hours,
        )
        for row in Demand.objects.filter(window=clearing.window, state__in=turned_away)
    ]  # fmt: skip
    rows += [
        LineReason(
            clearing=clearing, side="bid", code="withdrawn", bid=row,
            unfilled_unit_hours=row.unit_hours,
        )
        for row in Bid.objects.filter(window=clearing.window, state="withdrawn")
    ]  # fmt: skip
    left_out = Bid.objects.filter(window=clearing.window, state="opened")
    rows += [
        LineReason(
            clearing=clearing, side="bid", code="not_eligible", bid=row,
            detail={"rule": "frozen" if row.pk in lines.frozen else "quality"},
            unfilled_unit_hours=row.unit_hours,
        )
        for row in left_out.exclude(pk__in=[bid.pk for bid in lines.bids.values()])
    ]  # fmt: skip
    LineReason.objects.bulk_create(rows, batch_size=1000)


def _told(detail: dict[str, int | str], lines: Lines) -> dict[str, int | str]:
    """The detail in the party's own words: the alternative that won is one of its own demands."""
    winner = detail.get("winner")
    return {**detail, "winner": lines.demands[str(winner)].reference} if winner is not None else dict(detail)


def _mark_lines(clearing: Clearing, lines: Lines, now: datetime) -> None:
    """Say who won; release the holds of those who won nothing, in this same transaction."""
    won_demands = set(Award.objects.filter(clearing=clearing).values_list("demand_id", flat=True))
    won_bids = set(Award.objects.filter(clearing=clearing).values_list("bid_id", flat=True))
    lost = [row for row in lines.demands.values() if row.pk not in won_demands]
    for row in lost:
        void_hold(id=row.hold_id, now=now)
    Demand.objects.filter(pk__in=won_demands).update(state="awarded")
    Demand.objects.filter(pk__in=[row.pk for row in lost]).update(state="lost")
    Bid.objects.filter(pk__in=won_bids).update(state="awarded")
    Bid.objects.filter(window=clearing.window, state="opened").update(state="lost")
    record(
        actor="market", action="publish_clearing", subject=clearing.window.name, reason="awards and reasons written",
        now=now, awarded=len(won_demands), lost=len(lost), bids_awarded=len(won_bids),
    )  # fmt: skip
