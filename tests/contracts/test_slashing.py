"""Slashing: only proven classes, only after the delay, within the caps, the buyer first (S1 to S8)."""

from dataclasses import replace

import pytest

from tests.contracts.chain import Reverted, address_of, refused, sign_all
from tests.contracts.world import DAY, DELAYS, EXPOSURE_CAP, STAKE, UNPROVEN_CAP, USD, WEEK, Batch, World

REQUESTED, DISPUTED, UPHELD, VETOED, EXECUTED, LAPSED = 1, 2, 3, 4, 5, 6
LEASE = 100 * USD
FRAUD = 9


@pytest.fixture
def lease(market: World) -> Batch:
    """Buyer 1 has 100 USD locked for the proven class 1."""
    return market.lock([(0, 0, LEASE)])


def slashed(market: World, batch: Batch, *, amount: int, **changes: int) -> tuple[int, int]:
    """Request and execute at once; return what the buyer and the pool got."""
    number = market.request_slash(batch, amount=amount, **changes)
    market.travel(DELAYS.veto)
    event = market.execute(number).one("SlashExecuted")
    return int(event.to_buyer), int(event.to_pool)


# ---- S2: proof ----


def test_S2_an_unproven_class_is_never_slashed(market: World) -> None:
    unproven = market.lock([(0, 0, UNPROVEN_CAP)], classes=(2,))
    proven = market.lock([(0, 0, LEASE)])

    with refused("stake: not proven at lock and breach"):
        market.request_slash(unproven)

    assert slashed(market, proven, amount=USD) == (USD, 0)
    assert market.stake_of(2)[0] == STAKE


def test_S2_a_lease_locked_before_the_proof_is_not_slashed(market: World) -> None:
    early = market.lock([(0, 0, UNPROVEN_CAP)], classes=(2,))
    market.prove(node_class=2, kind=2, epoch=2)
    with refused("stake: not proven at lock and breach"):
        market.request_slash(early)

    late = market.lock([(0, 0, USD)], classes=(2,))
    market.request_slash(late)


def test_S2_a_breach_at_expiry_counts_and_one_second_later_does_not(market: World) -> None:
    market.open_window(2, 200 * DAY)
    batch = market.lock([(0, 0, LEASE)], window=2)
    expires = market.call("stake", "class_info", 1) >> 88 & (2**40 - 1)
    market.travel_to(expires + DAY)
    assert market.call("stake", "state_of", 1) == 1

    with refused("stake: not proven at lock and breach"):
        market.request_slash(batch, breach_at=expires + 1)

    market.request_slash(batch, breach_at=expires)


def test_S2_a_breach_before_the_lock_is_not_slashed(market: World, lease: Batch) -> None:
    with refused("stake: not proven at lock and breach"):
        market.request_slash(lease, breach_at=lease.locked_at - 1)

    market.request_slash(lease, breach_at=lease.locked_at)


def test_S2_two_intervals_do_not_add_up(market: World) -> None:
    market.open_window(2, 200 * DAY)
    batch = market.lock([(0, 0, LEASE)], window=2)
    expires = market.call("stake", "class_info", 1) >> 88 & (2**40 - 1)
    market.travel_to(expires + 1)
    market.prove(node_class=1, kind=2, epoch=3)
    market.travel(DAY)

    with refused("stake: not proven at lock and breach"):
        market.request_slash(batch)

    market.attest_class(node_class=1, provider="provider:1", expires=market.now + 365 * DAY)
    anew = market.lock([(0, 0, USD)], window=2, mandates=[market.mandate("buyer:1", window=2, nonce=2)])
    market.request_slash(anew)


# ---- S7: what a verdict is bound to ----


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"kind": 0}, "stake: unknown kind of breach"),
        ({"kind": 4}, "stake: unknown kind of breach"),
        ({"kind": 8}, "stake: unknown kind of breach"),
        ({"kind": 10}, "stake: unknown kind of breach"),
        ({"amount": 0}, "stake: verdict takes nothing"),
        ({"node_class": 2}, "stake: line is of another class"),
        ({"line": 0, "batch": 2}, "escrow: no such batch"),
        ({"line": 1, "node_class": 1}, "escrow: no such line"),
    ],
)
def test_S7_a_verdict_that_does_not_fit_is_refused(
    market: World, lease: Batch, changes: dict[str, int], sentence: str
) -> None:
    with refused(sentence):
        market.request_slash(lease, replace(market.verdict(lease), **changes))

    for kind in (1, 2, 3, FRAUD):
        market.request_slash(lease, kind=kind)


def test_S7_a_verdict_has_its_time(market: World, lease: Batch) -> None:
    with refused("stake: breach is in the future"):
        market.request_slash(lease, breach_at=market.now + 1)
    with refused("stake: verdict has expired"):
        market.request_slash(lease, expires=market.now - 1)
    market.request_slash(lease, breach_at=market.now, expires=market.now)

    market.travel_to(lease.locked_at + DELAYS.breach_age_max)
    late = market.copy()
    late.travel(1)
    market.request_slash(lease, breach_at=lease.locked_at)
    with refused("stake: breach is too old"):
        late.request_slash(lease, breach_at=lease.locked_at)


def test_S4_each_evidence_and_each_nonce_works_once(market: World, lease: Batch) -> None:
    verdict = market.verdict(lease)
    market.request_slash(lease, verdict)

    with refused("stake: evidence was used"):
        market.request_slash(lease, verdict)
    with refused("stake: evidence was used"):
        market.request_slash(lease, evidence=verdict.evidence)
    with refused("stake: verdict nonce was used"):
        market.request_slash(lease, nonce=verdict.nonce)

    market.request_slash(lease)


def test_S7_a_verdict_needs_the_slash_panel(market: World, lease: Batch) -> None:
    with refused("stake: too few signatures"):
        market.request_slash(lease, signers=["slasher:1"])
    with refused("stake: signer has no seat"):
        market.request_slash(lease, signers=market.panel("verifier"))
    verdict = market.verdict(lease)
    one, two = sign_all(market.panel("slasher"), verdict, market.address("stake"))
    for unsorted in ([two, one], [two, two]):
        with refused("stake: signers not rising"):
            market.send("stranger", "stake", "request_slash", verdict.abi(), *lease.opening(), unsorted)
    foreign = sign_all(market.panel("slasher"), verdict, market.address("escrow"))
    with pytest.raises(Reverted, match="stake: sign"):
        market.send("stranger", "stake", "request_slash", verdict.abi(), *lease.opening(), foreign)

    market.request_slash(lease, verdict, signers=["slasher:2", "slasher:3"])


def test_S7_nobody_invents_a_harmed_buyer(market: World, lease: Batch) -> None:
    verdict = market.verdict(lease)
    signatures = sign_all(market.panel("slasher"), verdict, market.address("stake"))
    lines, _, classes = lease.opening()

    with refused("escrow: batch hash differs"):
        market.send(
            "stranger", "stake", "request_slash", verdict.abi(), lines, [address_of("stranger")], classes, signatures
        )

    market.request_slash(lease, verdict)
    assert market.call("stake", "slash_of", 1)["buyer"].lower() == address_of("buyer:1").lower()


def test_S8_slashing_is_off_while_the_panel_is_too_small(market: World, lease: Batch) -> None:
    number = market.request_slash(lease)
    market.enact("stake", 12, "slasher:3", 0)
    market.travel(DELAYS.veto)

    with refused("stake: slashing is off"):
        market.request_slash(lease)
    with refused("stake: slashing is off"):
        market.execute(number)

    market.enact("stake", 12, "slasher:4", 3)
    market.execute(number)
    market.request_slash(lease)


# ---- S3: clocks, veto, dispute, lapse, pause ----


def test_S3_a_slash_waits_for_the_veto_delay_and_lapses(market: World, lease: Batch) -> None:
    number = market.request_slash(lease)
    requested_at = market.call("stake", "slash_of", number)["requested_at"]
    late = market.copy()
    market.travel_to(requested_at + DELAYS.veto - 1)
    with refused("stake: veto delay is not over"):
        market.execute(number)

    last = market.copy()
    last.travel_to(requested_at + DELAYS.lapse)
    last.execute(number)
    late.travel_to(requested_at + DELAYS.lapse + 1)
    with refused("stake: request has lapsed"):
        late.execute(number)
    market.travel_to(requested_at + DELAYS.veto)
    market.execute(number)

    with refused("stake: request not executable"):
        market.execute(number)


def test_S3_a_vetoed_request_is_never_executed(market: World, lease: Batch) -> None:
    number = market.request_slash(lease)
    with refused("stake: only veto role may veto"):
        market.send("provider:1", "stake", "veto", number)

    market.send("veto", "stake", "veto", number)

    market.travel(DELAYS.veto)
    assert market.slash_state(number) == VETOED
    with refused("stake: request not executable"):
        market.execute(number)
    with refused("stake: request is closed"):
        market.send("veto", "stake", "veto", number)


def test_S3_a_veto_is_possible_until_execution(market: World, lease: Batch) -> None:
    first, second = market.request_slash(lease), market.request_slash(lease)
    market.travel(DELAYS.veto)
    market.execute(first)

    market.send("veto", "stake", "veto", second)

    with refused("stake: request is closed"):
        market.send("veto", "stake", "veto", first)
    with refused("stake: request is closed"):
        market.send("veto", "stake", "veto", 99)


def test_S3_a_dispute_freezes_and_undecided_means_no_slash(market: World, lease: Batch) -> None:
    number = market.request_slash(lease)
    with refused("stake: only its provider may"):
        market.send("provider:2", "stake", "dispute", number)

    at = market.send("provider:1", "stake", "dispute", number).at

    market.travel(DELAYS.veto)
    assert market.slash_state(number) == DISPUTED
    with refused("stake: request not executable"):
        market.execute(number)
    with refused("stake: request not disputable"):
        market.send("provider:1", "stake", "dispute", number)
    market.travel_to(at + DELAYS.appeal)
    with refused("stake: request has not lapsed"):
        market.copy().send("stranger", "stake", "lapse", number)
    market.travel_to(at + DELAYS.appeal + 1)
    market.send("stranger", "stake", "lapse", number)
    assert market.slash_state(number) == LAPSED
    assert market.stake_of(1)[0] == STAKE


def test_S3_a_dispute_comes_before_the_veto_delay_ends(market: World, lease: Batch) -> None:
    number = market.request_slash(lease)
    requested_at = market.call("stake", "slash_of", number)["requested_at"]
    late = market.copy()
    market.travel_to(requested_at + DELAYS.veto - 1)
    late.travel_to(requested_at + DELAYS.veto)

    market.send("provider:1", "stake", "dispute", number)

    with refused("stake: too late to dispute"):
        late.send("provider:1", "stake", "dispute", number)


def test_S3_two_arbiters_uphold(market: World, lease: Batch) -> None:
    number = market.request_slash(lease)
    with refused("stake: request is not disputed"):
        market.send("arbiter:1", "stake", "uphold", number)
    market.send("provider:1", "stake", "dispute", number)
    with refused("stake: only arbiters may uphold"):
        market.send("stranger", "stake", "uphold", number)
    market.send("arbiter:1", "stake", "uphold", number)
    with refused("stake: arbiter upheld already"):
        market.send("arbiter:1", "stake", "uphold", number)
    assert market.slash_state(number) == DISPUTED

    market.send("arbiter:2", "stake", "uphold", number)

    assert market.slash_state(number) == UPHELD
    with refused("stake: veto delay is not over"):
        market.execute(number)
    market.travel(DELAYS.veto)
    market.execute(number)
    assert market.slash_state(number) == EXECUTED


def test_S3_arbiters_have_fourteen_days_and_an_upheld_request_fourteen_more(market: World, lease: Batch) -> None:
    number = market.request_slash(lease)
    at = market.send("provider:1", "stake", "dispute", number).at
    market.send("arbiter:1", "stake", "uphold", number)
    late = market.copy()
    market.travel_to(at + DELAYS.appeal)
    late.travel_to(at + DELAYS.appeal + 1)
    with refused("stake: too late to uphold"):
        late.send("arbiter:2", "stake", "uphold", number)

    market.send("arbiter:2", "stake", "uphold", number)

    too_late = market.copy()
    market.travel_to(at + DELAYS.appeal + DELAYS.lapse)
    too_late.travel_to(at + DELAYS.appeal + DELAYS.lapse + 1)
    with refused("stake: request has lapsed"):
        too_late.execute(number)
    market.execute(number)


def test_S3_an_upheld_request_can_still_be_vetoed(market: World, lease: Batch) -> None:
    number = market.request_slash(lease)
    market.send("provider:1", "stake", "dispute", number)
    for arbiter in ("arbiter:1", "arbiter:2"):
        market.send(arbiter, "stake", "uphold", number)

    market.send("veto", "stake", "veto", number)

    market.travel(DELAYS.veto)
    with refused("stake: request not executable"):
        market.execute(number)


def test_a_pause_stops_slashing_and_its_clocks_run_on(market: World, lease: Batch) -> None:
    number = market.request_slash(lease)
    market.send("pauser", "stake", "pause")
    market.travel(DELAYS.veto)
    with refused("stake: slashing is paused"):
        market.execute(number)
    with refused("stake: slashing is paused"):
        market.request_slash(lease)
    for function in ("pause", "unpause"):
        with refused("stake: only pauser may pause"):
            market.send("operator", "stake", function)
    resumed = market.copy()

    resumed.send("pauser", "stake", "unpause")
    resumed.execute(number)
    market.travel(DELAYS.lapse)
    market.send("stranger", "stake", "lapse", number)
    assert market.slash_state(number) == LAPSED


def test_S6_stake_is_not_withdrawn_while_a_request_is_open(market: World, lease: Batch) -> None:
    market.send("provider:1", "stake", "unstake_request", 1, STAKE)
    market.travel(DELAYS.breach_age_max)
    number = market.request_slash(lease, breach_at=market.now)
    market.travel(DELAYS.unbonding - DELAYS.breach_age_max)
    with refused("stake: a slash request is open"):
        market.send("provider:1", "stake", "unstake_withdraw", 1)
    assert market.call("stake", "open_requests", 1) == 1

    event = market.execute(number).one("SlashExecuted")
    market.send("provider:1", "stake", "unstake_withdraw", 1)

    assert market.tokens("provider:1") == STAKE - event.to_buyer - event.to_pool
    assert market.stake_of(1) == (0, 0, 0)


def test_S6_a_closed_request_frees_the_stake(market: World, lease: Batch) -> None:
    market.send("provider:1", "stake", "unstake_request", 1, STAKE)
    market.travel(DELAYS.breach_age_max)
    number = market.request_slash(lease, breach_at=market.now)
    market.travel(DELAYS.lapse + 1)

    market.send("stranger", "stake", "lapse", number)
    market.send("provider:1", "stake", "unstake_withdraw", 1)

    assert market.tokens("provider:1") == STAKE
    with refused("stake: request is closed"):
        market.send("stranger", "stake", "lapse", number)


def test_S6_bonded_stake_is_taken_before_unbonding_stake(market: World, lease: Batch) -> None:
    market.send("provider:1", "stake", "unstake_request", 1, STAKE - 50 * USD)

    slashed(market, lease, amount=80 * USD)

    bonded, unbonding, _ = market.stake_of(1)
    assert (bonded, unbonding) == (0, STAKE - 80 * USD)


# ---- S4 and S5: how much, and to whom ----


def test_S5_the_buyer_comes_first_and_the_caller_gets_nothing(market: World, lease: Batch) -> None:
    free = market.account("buyer:1")["free"]

    assert slashed(market, lease, amount=LEASE + 30 * USD) == (LEASE, 30 * USD)

    assert market.account("buyer:1")["free"] == free + LEASE
    assert market.totals()["pool"] == 30 * USD
    assert market.tokens("stranger") == 0
    assert market.stake_of(1)[0] == STAKE - LEASE - 30 * USD
    assert market.tokens("stake") == 2 * STAKE - LEASE - 30 * USD


def test_S5_a_small_slash_is_all_the_buyers(market: World, lease: Batch) -> None:
    assert slashed(market, lease, amount=LEASE) == (LEASE, 0)
    assert market.totals()["pool"] == 0


def test_S4_a_lease_period_takes_a_quarter_at_most(market: World, lease: Batch) -> None:
    assert slashed(market, lease, amount=STAKE) == (LEASE, STAKE // 4 - LEASE)

    number = market.request_slash(lease)
    market.travel(DELAYS.veto)
    with refused("stake: cap is used up"):
        market.execute(number)

    market.open_window(2)
    other = market.lock([(0, 0, USD)], window=2)
    assert sum(slashed(market, other, amount=USD)) == USD


def test_S4_two_slashes_of_a_period_share_the_quarter(market: World, lease: Batch) -> None:
    first = sum(slashed(market, lease, amount=STAKE // 4 - 1))
    second = sum(slashed(market, lease, amount=USD))

    assert (first, second) == (STAKE // 4 - 1, 1)


def test_S4_ninety_days_take_a_half_at_most(market: World) -> None:
    taken, at = 0, 0
    for window in (2, 3, 4):
        market.open_window(window)
        batch = market.lock([(0, 0, USD)], window=window, mandates=[market.mandate("buyer:1", window=window)])
        number = market.request_slash(batch, amount=STAKE)
        market.travel(DELAYS.veto)
        if window == 4:
            break
        at = at or market.now
        taken += sum(slashed_now(market, number))
    # the second quarter is of what was left
    assert taken == STAKE // 4 + (STAKE - STAKE // 4) // 4

    event = market.execute(number).one("SlashExecuted")
    assert taken + event.to_buyer + event.to_pool == STAKE // 2
    assert market.stake_of(1)[0] == STAKE // 2


def slashed_now(market: World, number: int) -> tuple[int, int]:
    event = market.execute(number).one("SlashExecuted")
    return int(event.to_buyer), int(event.to_pool)


def test_S4_after_ninety_days_there_is_room_again(market: World) -> None:
    market.travel(30 * DAY)
    market.prove(node_class=1, kind=2, epoch=3)
    market.open_window(2, 120 * DAY)
    market.open_window(3, 120 * DAY)
    market.open_window(4, 120 * DAY)
    batches = []
    for window in (2, 3, 4):
        batches.append(market.lock([(0, 0, USD)], window=window, mandates=[market.mandate("buyer:1", window=window)]))
    fraudless = market.request_slash(batches[0], amount=STAKE), market.request_slash(batches[1], amount=STAKE)
    market.travel(DELAYS.veto)
    at = market.execute(fraudless[0]).at
    market.execute(fraudless[1])
    third = market.request_slash(batches[2], amount=STAKE)
    market.travel(DELAYS.veto)
    left = STAKE // 2 - STAKE // 4 - (STAKE - STAKE // 4) // 4
    assert sum(slashed_now(market, third)) == left

    market.travel_to(at + 80 * DAY)
    fourth = market.request_slash(batches[2], amount=STAKE, breach_at=market.now)
    before, after = market.copy(), market.copy()
    # the first slash leaves the ninety days exactly ninety days after it
    before.travel_to(at + 90 * DAY - 1)
    after.travel_to(at + 90 * DAY)
    with refused("stake: cap is used up"):
        before.execute(fourth)
    assert sum(slashed_now(after, fourth)) > 0


def test_S4_only_fraud_takes_it_all_and_proves_nothing_any_more(market: World, lease: Batch) -> None:
    market.send("provider:1", "stake", "unstake_request", 1, 300 * USD)

    assert slashed(market, lease, amount=2 * STAKE, kind=FRAUD) == (LEASE, STAKE - LEASE)

    assert market.stake_of(1)[:2] == (0, 0)
    assert market.call("stake", "state_of", 1) == 0
    market.attest_class(node_class=1, provider="provider:1")
    with refused("escrow: class is suspended"):
        market.lock([(0, 0, 1)])
    market.travel(DELAYS.probation)
    with refused("stake: baseline before challenge"):
        market.prove(node_class=1, kind=2, epoch=8)


def test_S4_nothing_left_is_nothing_taken(market: World, lease: Batch) -> None:
    first = market.request_slash(lease, amount=STAKE, kind=FRAUD)
    second = market.request_slash(lease, amount=STAKE, kind=FRAUD)
    market.travel(DELAYS.veto)
    market.execute(first)

    with refused("stake: cap is used up"):
        market.execute(second)

    assert market.stake_of(1)[0] == 0


def test_S4_more_slashes_than_are_remembered_still_count(market: World) -> None:
    batch = market.lock([(0, 0, EXPOSURE_CAP // 2)])
    numbers = [market.request_slash(batch, amount=STAKE // 80) for _ in range(18)]
    market.travel(DELAYS.veto)
    for number in numbers:
        market.execute(number)
    first, others = 18 * STAKE // 80, []
    for window in (2, 3):
        market.open_window(window)
        other = market.lock([(0, 0, USD)], window=window, mandates=[market.mandate("buyer:2", window=window)])
        others.append(sum(slashed(market, other, amount=STAKE)))

    assert others[0] == (STAKE - first) // 4
    assert others[1] == STAKE // 2 - first - others[0], "all of them count towards the half of ninety days"
    assert market.stake_of(1)[0] == STAKE // 2


def test_a_slash_is_credited_even_after_wind_up(market: World, lease: Batch) -> None:
    number = market.request_slash(lease)
    market.travel(2 * WEEK - DAY // 2)
    market.travel_to(market.call("escrow", "last_seen_at") + 14 * DAY)
    market.send("stranger", "escrow", "wind_up")
    market.travel_to(market.call("stake", "slash_of", number)["requested_at"] + DELAYS.lapse)

    market.execute(number)

    market.send("stranger", "escrow", "refund", address_of("buyer:1"))
    assert market.account("buyer:1")["free"] == 10_000 * USD + 10 * USD
