"""A consortium's members are paid by the market itself, to the last micro, in the books and on chain (M-023)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from ledger.connect import wallet_of
from ledger.ids import uuid7
from ledger.models import BankAccount, ChainEvent, ChainIntent, Ledger, Outbox
from ledger.rails import sender
from ledger.rails.evm import chain
from ledger.rails.rebuild import rebuild
from ledger.rails.signer import signer
from ledger.reconcile import check_books
from ledger.selectors import balance
from marketplace import clock, cycle, invariants
from marketplace import models as m
from marketplace.capacity.services import parts_of, set_revenue_split
from marketplace.errors import BadInput
from marketplace.parties.services import make_seat
from marketplace.payout.members import confirm_shares, wrong_shares
from marketplace.supply.onchain import ensure_address
from tests.journey import world
from tests.journey.refusals import refused
from tests.owner import behind_the_triggers

LEAD, PPM = "harbour", {"basalt": 333_333, "fjord": 333_333, "harbour": 333_334}


def seat() -> m.Seat:
    return make_seat(party=world.party(LEAD), email="owner@harbour.example", password=None, role="owner",
                     now=clock.now())  # fmt: skip


def share(shares: dict[str, int] = PPM) -> m.RevenueSplit:
    now = clock.now()
    return set_revenue_split(seat=seat(), shares_ppm={world.party(slug): part for slug, part in shares.items()},
                             from_at=now, now=now)  # fmt: skip


def on_chain(slug: str) -> int:
    """Tokens in the wallet that the market keeps for a provider."""
    return int(chain().call("token", "balanceOf", ensure_address(party=world.party(slug))))


def in_custody(slug: str) -> int:
    return balance(code="provider.custody", party=world.party(slug).pk).minor


def paid_by_escrow() -> int:
    """What escrow paid to the consortium since its split holds."""
    number = world.node_class(LEAD).chain_class
    events = ChainEvent.objects.filter(contract="escrow", name="PaidOut", args__node_class=number)
    return int(events.latest("block_number").args["amount"])


@pytest.fixture
def paid(own_world: Callable[[str], str]) -> dict[str, int]:
    """The main window settled and paid under a split; returns what each wallet held before."""
    own_world("judged")
    before = {slug: on_chain(slug) for slug in PPM}
    share()
    cycle.advance_until_quiet(now=clock.now())
    return before


def test_each_member_is_paid_its_part_to_the_last_micro_in_books_and_on_chain(paid: dict[str, int]) -> None:
    total = paid_by_escrow()
    parts = {row.member.slug: row for row in m.MemberShare.objects.select_related("member")}

    assert sum(row.amount_micros for row in parts.values()) == total
    assert {slug: on_chain(slug) - paid[slug] for slug in PPM} == {
        slug: row.amount_micros for slug, row in parts.items()
    }
    for slug, ppm in PPM.items():
        assert abs(parts[slug].amount_micros * 10**6 - total * ppm) < 10**6
        assert parts[slug].final_at is not None
        assert (in_custody(slug), balance(code="chain.wallet", scope=wallet_of(world.party(slug).pk)).minor) == (0, 0)
    assert balance(code="chain.clearing").minor == 0

    assert cycle.reconcile(now=clock.now()) == []
    assert [each for each in check_books(now=clock.now()) if not each.ok] == []
    assert [each for each in rebuild(now=clock.now()) if not each.ok] == []
    assert [each for each in invariants.check_everything(now=clock.now()) if not each.ok] == []


def test_the_turn_again_pays_nobody_twice(paid: dict[str, int]) -> None:
    after = {slug: on_chain(slug) for slug in PPM}

    assert confirm_shares(now=clock.now()) == 0
    cycle.advance_until_quiet(now=clock.now())

    assert {slug: on_chain(slug) for slug in PPM} == after
    assert m.MemberShare.objects.count() == 3


def test_coins_that_did_not_move_are_sent_again_and_meanwhile_belong_to_the_leader(
    own_world: Callable[[str], str],
) -> None:
    own_world("judged")
    before = {slug: on_chain(slug) for slug in PPM}
    share()
    now = clock.now()
    # The wallet is emptied before the parts leave it: both transfers revert.
    while not m.MemberShare.objects.exists():
        _one_round(now)
    held = on_chain(LEAD)
    thief = sender.submit(key="thief", role=f"provider:{world.party(LEAD).pk}", contract="token", function="transfer",
                          args=[signer().address("custody"), held], now=now)  # fmt: skip
    first = ChainIntent.objects.filter(key__startswith="member-share:").earliest("created_at")
    ChainIntent.objects.filter(pk=thief.pk).update(created_at=first.created_at.replace(microsecond=0))
    sender.pump(now=now)
    assert ChainIntent.objects.filter(key__startswith="member-share:", state="reverted").count() == 2
    assert [each.figure for each in cycle.reconcile(now=now)] == []  # on their way: no wallet has them in the books

    assert confirm_shares(now=now) == 2
    assert set(m.MemberShare.objects.exclude(member__slug=LEAD).values_list("attempt", "final_at")) == {(2, None)}
    assert in_custody("fjord") == 0
    assert [each for each in check_books() if not each.ok] == []

    # It fails again: the third attempt waits, and the fourth twice as long.
    for attempt, minutes in ((2, 10), (3, 20)):
        sender.pump(now=now)
        assert confirm_shares(now=now + timedelta(minutes=minutes, seconds=-1)) == 0
        assert set(_attempts()) == {attempt}
        now += timedelta(minutes=minutes)
        assert confirm_shares(now=now) == 2
        assert set(_attempts()) == {attempt + 1}
    assert [each for each in check_books() if not each.ok] == []
    first = ChainIntent.objects.filter(key__startswith="member-share:", state="queued").earliest("created_at")

    sender.submit(key="back", role="faucet", contract="token", function="mint",
                  args=[ensure_address(party=world.party(LEAD)), held], now=now)  # fmt: skip
    back = ChainIntent.objects.get(key="back")
    ChainIntent.objects.filter(pk=back.pk).update(created_at=first.created_at.replace(microsecond=1))
    cycle.advance_until_quiet(now=now)

    parts = dict(m.MemberShare.objects.values_list("member__slug", "amount_micros"))
    assert {slug: on_chain(slug) - before[slug] for slug in PPM} == parts
    assert list(wrong_shares()) == []
    assert cycle.reconcile(now=now) == []


def _attempts() -> list[int]:
    return list(m.MemberShare.objects.exclude(member__slug=LEAD).values_list("attempt", flat=True))


def _one_round(now: object) -> None:
    """One step of the turn at a time, so that the test stands between the booking and the sending."""
    from ledger.rails import indexer
    from marketplace.payout.services import confirm_settlements, pay_window, settle_window

    settle_window(window=world.window(), now=clock.now())
    sender.pump(now=clock.now())
    indexer.index(now=clock.now())
    confirm_settlements(window=world.window(), now=clock.now())
    pay_window(window=world.window(), now=clock.now())
    sender.pump(now=clock.now())
    indexer.index(now=clock.now())


def test_a_member_that_chose_its_bank_is_paid_on_to_it(own_world: Callable[[str], str]) -> None:
    own_world("judged")
    fjord, now = world.party("fjord"), clock.now()
    BankAccount.objects.create(
        id=uuid7(now), party=fjord.pk, country="FR", wallet=ensure_address(party=fjord), return_url="https://x.example",
        is_chosen=True, state="open", processor_id="acct_1", created_at=now,
    )  # fmt: skip
    share()

    cycle.advance_until_quiet(now=clock.now())

    part = m.MemberShare.objects.get(member=fjord)
    assert in_custody("fjord") == part.amount_micros  # its dollars wait for the account; the coins are its own
    assert balance(code="chain.wallet", scope=wallet_of(fjord.pk)).minor == part.amount_micros
    jobs = Outbox.objects.filter(kind="connect.pay", payload__provider=str(fjord.pk))
    assert jobs.count() == 1
    assert in_custody("basalt") == 0
    assert cycle.reconcile(now=now) == []


def test_coins_that_left_a_wallet_behind_the_books_stop_payouts(own_world: Callable[[str], str]) -> None:
    test_a_member_that_chose_its_bank_is_paid_on_to_it(own_world)
    sender.submit(key="theft", role=f"provider:{world.party('fjord').pk}", contract="token", function="transfer",
                  args=[signer().address("custody"), 1], now=clock.now())  # fmt: skip
    cycle.run_chain(now=clock.now())

    assert [each.figure for each in cycle.reconcile(now=clock.now())] == ["wallet"]
    assert Ledger.objects.get(pk=1).halted


def test_what_was_paid_before_the_split_is_nobody_elses(own_world: Callable[[str], str]) -> None:
    own_world("paid")
    share()
    cycle.advance_until_quiet(now=clock.now())

    assert not m.MemberShare.objects.exists()
    assert [each for each in rebuild(now=clock.now()) if not each.ok] == []


def test_a_part_that_was_tampered_with_is_found(paid: dict[str, int]) -> None:
    row = m.MemberShare.objects.get(member__slug="fjord")
    with behind_the_triggers():
        m.MemberShare.objects.filter(pk=row.pk).update(amount_micros=row.amount_micros - 1)

    sentences = [each.sentence for each in wrong_shares()]

    assert any("the parts make" in each for each in sentences)
    assert any("fjord was not sent" in each for each in sentences)
    assert any("fjord's part is not in the books" in each for each in sentences)


@pytest.mark.stage("closed")
def test_escrow_that_pays_a_wallet_of_its_own_cannot_be_shared() -> None:
    party = seat().party
    m.Party.objects.filter(pk=party.pk).update(chain_address="0x" + "ab" * 20)

    with refused(BadInput, field="shares_ppm"):
        share()
    m.Party.objects.filter(pk=party.pk).update(chain_address=party.chain_address)
    split = share()
    assert sum(parts_of(split, 1_000_001).values()) == 1_000_001
