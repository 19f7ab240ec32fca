"""Lock: no line outside its mandate, its class attestation or the buyer's money, whoever asks (E3, E7)."""

from typing import Any

import pytest

from contracts.eip712 import Mandate
from contracts.jurisdictions import index_of, mask_of
from tests.contracts.chain import TestChain, address_of, refused, sign, sign_digest
from tests.contracts.world import (
    DAY,
    EUROPE,
    EXPOSURE_CAP,
    UNPROVEN_CAP,
    USD,
    WEEK,
    World,
    buyer_line,
    class_line,
    lock_line,
)

HIGH_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def test_E2_a_lock_moves_free_money_to_locked_and_commits_it_to_the_class(market: World) -> None:
    receipt_batch = market.lock([(0, 0, 500 * USD)])

    assert market.account("buyer:1")["locked"] == market.node(1)["committed"] == 500 * USD
    assert market.account("buyer:1")["free"] == 9_500 * USD
    assert market.call("escrow", "batch_info", 1) == (receipt_batch.locked_at, 1, 500 * USD)
    assert market.call("escrow", "batch_count") == 1


def test_E3_only_the_operator_locks(market: World) -> None:
    for name in ("governance", "pauser", "buyer:1", "stranger"):
        with refused("escrow: only operator may"):
            market.lock([(0, 0, USD)], sender=name)

    market.lock([(0, 0, USD)])


@pytest.mark.parametrize(
    ("where", "sentence"),
    [
        ({"site": index_of("US")}, "escrow: site outside mandate"),
        ({"parent": index_of("US")}, "escrow: owner outside mandate"),
        ({"operator": index_of("US")}, "escrow: operator outside mandate"),
        ({"keys": index_of("US")}, "escrow: keys outside mandate"),
        ({"tier": 0}, "escrow: tier below mandate"),
    ],
)
def test_E3_a_class_outside_the_mandate_is_refused(market: World, where: dict[str, int], sentence: str) -> None:
    market.attest_class(node_class=1, provider="provider:1", **where)

    with refused(sentence):
        market.lock([(0, 0, USD)])

    # the same class is fine under a mandate that allows it
    wide = mask_of(["DE", "US"])
    market.lock([(0, 0, USD)], mandates=[market.mandate("buyer:1", zone_mask=wide, parent_mask=wide, min_tier=0)])


def test_E3_the_last_jurisdiction_has_its_own_bit(market: World) -> None:
    last = index_of("ZW")
    market.attest_class(node_class=1, provider="provider:1", site=last, parent=last, operator=last, keys=last)

    with refused("escrow: site outside mandate"):
        market.lock([(0, 0, USD)])
    only = mask_of(["ZW"])
    market.lock([(0, 0, USD)], mandates=[market.mandate("buyer:1", zone_mask=only, parent_mask=only)])


def test_E3_every_line_is_checked_not_only_the_first(market: World) -> None:
    market.attest_class(node_class=2, provider="provider:2", site=index_of("US"))
    both = [(0, 0, USD), (0, 1, USD)]

    with refused("escrow: site outside mandate"):
        market.lock(both, classes=(1, 2))

    market.attest_class(node_class=2, provider="provider:2")
    market.lock(both, classes=(1, 2))
    assert market.node(2)["committed"] == USD


def test_E3_each_line_is_held_against_its_own_mandate(market: World) -> None:
    market.attest_class(node_class=2, provider="provider:2", site=index_of("US"))
    strict = market.mandate("buyer:1")
    wide = market.mandate("buyer:2", zone_mask=EUROPE | mask_of(["US"]))

    with refused("escrow: site outside mandate"):
        market.lock([(0, 1, USD), (1, 0, USD)], mandates=[strict, wide], classes=(1, 2))

    market.lock([(0, 0, USD), (1, 1, USD)], mandates=[strict, wide], classes=(1, 2))


def test_E3_the_attestation_must_reach_the_end_of_the_window(market: World) -> None:
    ends_at = market.call("escrow", "window_ends", 1)
    market.attest_class(node_class=1, provider="provider:1", expires=ends_at - 1)

    with refused("escrow: class attested too short"):
        market.lock([(0, 0, USD)])

    market.attest_class(node_class=1, provider="provider:1", expires=ends_at)
    market.lock([(0, 0, USD)])


def test_E3_an_unattested_class_is_refused(market: World) -> None:
    anywhere = market.mandate("buyer:1", zone_mask=2**256 - 1, parent_mask=2**256 - 1, min_tier=0)

    with refused("escrow: class attested too short"):
        market.lock([(0, 0, USD)], mandates=[anywhere], classes=(99,))

    market.lock([(0, 0, USD)], mandates=[anywhere], classes=(1,))


def test_E3_a_suspended_class_is_refused_until_it_is_resumed(market: World) -> None:
    market.send("pauser", "stake", "suspend", 1)

    with refused("escrow: class is suspended"):
        market.lock([(0, 0, USD)])

    market.resume(node_class=1)
    market.lock([(0, 0, USD)])


def test_E3_the_exposure_cap_counts_what_is_committed_already(market: World) -> None:
    market.lock([(0, 0, EXPOSURE_CAP - USD)])

    with refused("escrow: exposure cap is exceeded"):
        market.lock([(0, 0, USD + 1)])

    market.lock([(0, 0, USD)])
    assert market.node(1)["committed"] == EXPOSURE_CAP


def test_E3_an_unproven_class_has_a_small_cap_of_its_own(market: World) -> None:
    with refused("escrow: unproven cap is exceeded"):
        market.lock([(0, 0, UNPROVEN_CAP + 1)], classes=(2,))

    market.lock([(0, 0, UNPROVEN_CAP)], classes=(2,))
    market.prove(node_class=2, kind=2, epoch=2)
    market.lock([(0, 0, 1)], classes=(2,))


def test_E3_a_proven_class_falls_under_the_small_cap_when_its_proof_expires(market: World) -> None:
    market.open_window(2, 200 * DAY)
    proven_until = (market.call("stake", "class_info", 1) >> 88) & (2**40 - 1)
    late = market.copy()
    market.travel_to(proven_until)
    late.travel_to(proven_until + 1)

    market.lock([(0, 0, UNPROVEN_CAP + 1)], window=2)

    with refused("escrow: unproven cap is exceeded"):
        late.lock([(0, 0, UNPROVEN_CAP + 1)], window=2)


def test_E3_the_mandate_caps_the_spend_over_all_locks_under_its_nonce(market: World) -> None:
    mandate = market.mandate("buyer:1", max_spend=100 * USD)
    market.lock([(0, 0, 60 * USD)], mandates=[mandate])

    with refused("escrow: spend exceeds mandate"):
        market.lock([(0, 0, 40 * USD + 1)], mandates=[mandate])

    market.lock([(0, 0, 40 * USD)], mandates=[mandate])
    assert market.account("buyer:1")["spent"] == 100 * USD


def test_E3_the_lines_of_one_mandate_are_summed(market: World) -> None:
    mandate = market.mandate("buyer:1", max_spend=100 * USD)

    with refused("escrow: spend exceeds mandate"):
        market.lock([(0, 0, 60 * USD), (0, 1, 41 * USD)], mandates=[mandate], classes=(1, 2))

    market.lock([(0, 0, 60 * USD), (0, 1, 40 * USD)], mandates=[mandate], classes=(1, 2))


def test_E3_the_buyer_needs_the_money(market: World) -> None:
    market.send("buyer:1", "escrow", "withdraw", 9_900 * USD)

    with refused("escrow: free is too small"):
        market.lock([(0, 0, 100 * USD + 1)])

    market.lock([(0, 0, 100 * USD)])
    assert market.account("buyer:1")["free"] == 0


def test_E3_a_mandate_works_before_its_expiry(market: World) -> None:
    mandate = market.mandate("buyer:1", expiry=market.now + 100)
    late = market.copy()
    market.travel(99)
    late.travel(100)

    market.lock([(0, 0, USD)], mandates=[mandate])

    with refused("escrow: mandate has expired"):
        late.lock([(0, 0, USD)], mandates=[mandate])


def test_E7_a_mandate_is_for_one_window(market: World) -> None:
    market.open_window(2)
    mandate = market.mandate("buyer:1", window=2)

    with refused("escrow: mandate of other window"):
        market.lock([(0, 0, USD)], mandates=[mandate], window=1)

    market.lock([(0, 0, USD)], mandates=[mandate], window=2)


def test_E7_an_older_mandate_is_dead_once_a_newer_one_was_used(market: World) -> None:
    old, new = market.mandate("buyer:1", nonce=4), market.mandate("buyer:1", nonce=5, max_spend=USD)
    market.lock([(0, 0, USD)], mandates=[old])
    market.lock([(0, 0, USD)], mandates=[new])

    with refused("escrow: mandate is outdated"):
        market.lock([(0, 0, 1)], mandates=[old])
    with refused("escrow: spend exceeds mandate"):
        market.lock([(0, 0, 1)], mandates=[new])

    assert market.account("buyer:1")["nonce"] == 5
    market.lock([(0, 0, 1)], mandates=[market.mandate("buyer:1", nonce=6)])
    assert market.account("buyer:1")["spent"] == 1


def test_E7_several_mandates_of_one_buyer_need_rising_nonces(market: World) -> None:
    first, second = market.mandate("buyer:1", nonce=1), market.mandate("buyer:1", nonce=2, min_tier=2)

    with refused("escrow: mandate is outdated"):
        market.lock([(0, 0, USD), (1, 0, USD)], mandates=[second, first])

    market.lock([(0, 0, USD), (1, 0, 2 * USD)], mandates=[first, second])
    account = market.account("buyer:1")
    assert (account["locked"], account["spent"], account["nonce"]) == (3 * USD, 2 * USD, 2)


def test_E7_a_mandate_signed_by_somebody_else_is_refused(market: World) -> None:
    with refused("escrow: mandate not by its buyer"):
        market.lock([(0, 0, USD)], mandates=[market.mandate("buyer:1", signer="operator")])

    market.lock([(0, 0, USD)], mandates=[market.mandate("buyer:1")])


@pytest.mark.parametrize("field", range(8))
def test_E7_every_field_of_a_mandate_is_signed(market: World, field: int) -> None:
    market.open_window(2)
    body, signature = market.mandate("buyer:1")
    changed: dict[int, Any] = {0: address_of("buyer:2"), 1: 2}
    forged = (*body[:field], changed.get(field) or body[field] + 1, *body[field + 1 :])

    with refused("escrow: mandate not by its buyer"):
        market.lock([(0, 0, USD)], mandates=[(forged, signature)], window=forged[1])

    market.lock([(0, 0, USD)], mandates=[(body, signature)])


def test_E7_a_mandate_for_another_contract_or_chain_is_refused(market: World) -> None:
    body, _ = market.mandate("buyer:1")
    mandate = Mandate(*body)
    elsewhere = sign("buyer:1", mandate, market.address("stake")).abi()
    other_chain = sign_digest("buyer:1", mandate.digest(TestChain.chain_id + 1, market.address("escrow"))).abi()

    for signature in (elsewhere, other_chain):
        with refused("escrow: mandate not by its buyer"):
            market.lock([(0, 0, USD)], mandates=[(body, signature)])

    market.lock([(0, 0, USD)], mandates=[market.mandate("buyer:1")])


def test_E7_a_forked_chain_takes_nothing_that_was_signed_for_the_old_one(
    market: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = market.mandate("buyer:1")
    monkeypatch.setattr(TestChain, "chain_id", TestChain.chain_id + 1)

    with refused("escrow: mandate not by its buyer"):
        market.lock([(0, 0, USD)], mandates=[before])

    market.lock([(0, 0, USD)], mandates=[market.mandate("buyer:1")])


def test_E7_malleable_and_void_signatures_are_refused(market: World) -> None:
    body, (v, r, s) = market.mandate("buyer:1")
    high = (HIGH_ORDER - int.from_bytes(s, "big")).to_bytes(32, "big")

    with refused("domain: signature has a high s"):
        market.lock([(0, 0, USD)], mandates=[(body, (55 - v, r, high))])
    with refused("domain: signature v is wrong"):
        market.lock([(0, 0, USD)], mandates=[(body, (v - 27, r, s))])
    with refused("domain: signature is void"):
        market.lock([(0, 0, USD)], mandates=[(body, (v, bytes(32), s))])

    market.lock([(0, 0, USD)], mandates=[(body, (v, r, s))])


def test_E7_the_zero_address_signs_nothing(market: World) -> None:
    body, (v, _, s) = market.mandate("buyer:1", signer="operator")
    nobody = ("0x" + "00" * 20, *body[1:])

    with refused("domain: signature is void"):
        market.lock([(0, 0, USD)], mandates=[(nobody, (v, bytes(32), s))])


def test_lines_rise_strictly_and_point_at_something(market: World) -> None:
    for lines in ([(0, 0, USD), (0, 0, USD)], [(0, 1, USD), (0, 0, USD)]):
        with refused("escrow: lines not rising"):
            market.lock(lines, classes=(1, 2))
    with refused("escrow: line beyond mandates"):
        market.lock([(1, 0, USD)])
    with refused("escrow: line beyond classes"):
        market.lock([(0, 1, USD)])

    market.lock([(0, 0, USD), (0, 1, USD)], classes=(1, 2))


def test_a_lock_needs_an_open_window(market: World) -> None:
    ends_at = market.call("escrow", "window_ends", 1)
    with refused("escrow: window is not open"):
        market.lock([(0, 0, USD)], window=9)
    late = market.copy()
    market.travel_to(ends_at - 1)
    late.travel_to(ends_at)

    market.lock([(0, 0, USD)])

    with refused("escrow: window is not open"):
        late.lock([(0, 0, USD)])


def test_a_window_is_opened_once_by_the_operator_and_ends_in_the_future(market: World) -> None:
    with refused("escrow: only operator may"):
        market.send("stranger", "escrow", "open_window", 2, market.now + WEEK)
    with refused("escrow: window ends in the past"):
        market.send("operator", "escrow", "open_window", 2, market.now)
    market.send("operator", "escrow", "open_window", 2, market.now + 1)

    with refused("escrow: window is open already"):
        market.send("operator", "escrow", "open_window", 2, market.now + WEEK)


def test_each_batch_commits_to_the_one_before(market: World) -> None:
    first = market.lock([(0, 0, USD)])
    second = market.lock([(0, 0, USD)])

    hashes = [market.call("escrow", "batch_hash", number) for number in (first.number, second.number)]

    assert (first.number, second.number) == (1, 2)
    assert hashes[0] != hashes[1]


def test_a_line_is_opened_with_the_batch_as_it_was_locked(market: World) -> None:
    both = [market.mandate("buyer:1"), market.mandate("buyer:2")]
    batch = market.lock([(0, 0, USD), (1, 1, 2 * USD)], mandates=both, classes=(1, 2))
    buyers, classes = list(batch.buyers), list(batch.classes)

    line = market.call("escrow", "line_of", 1, 1, buyers, classes, list(batch.lines))

    assert line["buyer"].lower() == address_of("buyer:2").lower()
    assert (line["node_class"], line["amount"], line["window"], line["locked_at"]) == (2, 2 * USD, 1, batch.locked_at)


def test_a_batch_that_was_not_locked_is_not_opened(market: World) -> None:
    batch = market.lock([(0, 0, USD)])
    lines, buyers, classes = batch.opening()
    forgeries = [
        ([lock_line(0, 0, 2 * USD)], buyers, classes),
        (lines, [address_of("stranger")], classes),
        (lines, buyers, [2]),
    ]

    for forged in forgeries:
        with refused("escrow: batch hash differs"):
            market.call("escrow", "line_of", 1, 0, forged[1], forged[2], forged[0])
    with refused("escrow: no such batch"):
        market.call("escrow", "line_of", 2, 0, buyers, classes, lines)
    with refused("escrow: no such line"):
        market.call("escrow", "line_of", 1, 1, buyers, classes, lines)


def test_E9_a_full_account_locks_and_settles_without_touching_its_neighbours(world: World) -> None:
    world.attest_class(node_class=1, provider="provider:1", exposure_cap=2**64 - 1)
    world.prove(node_class=1, kind=1, epoch=1)
    world.travel(14 * DAY)
    world.prove(node_class=1, kind=2, epoch=2)
    world.open_window(1)
    world.enact("escrow", 4, "nobody", 2**64 - 1)
    everything = 2**64 - 1
    world.deposit("buyer:1", everything)
    most = world.mandate("buyer:1", max_spend=everything, nonce=2**64 - 1)

    world.lock([(0, 0, everything)], mandates=[most])
    account = world.account("buyer:1")
    assert (account["free"], account["locked"], account["spent"], account["nonce"]) == (0, *(3 * [everything]))
    world.settle([buyer_line(1, everything)], [class_line(1, everything)])

    assert world.account("buyer:1")["locked"] == 0
    assert world.node(1)["payable"] + world.totals()["fees"] == everything


def test_E9_what_a_class_was_credited_since_ever_never_wraps_into_nothing(world: World) -> None:
    world.attest_class(node_class=1, provider="provider:1", exposure_cap=2**64 - 1)
    world.enact("escrow", 3, "nobody", 2**64 - 1)
    world.enact("escrow", 4, "nobody", 2**64 - 1)
    world.open_window(1)
    everything = 2**64 - 1
    world.deposit("buyer:1", everything)
    world.lock([(0, 0, everything)], mandates=[world.mandate("buyer:1", max_spend=everything)])
    world.settle([buyer_line(1, everything)], [class_line(1, everything)])
    world.send("stranger", "escrow", "withdraw_for", 1)
    world.deposit("buyer:2", USD)
    world.lock([(0, 0, USD)], mandates=[world.mandate("buyer:2")])
    world.travel(3_600)

    with refused("escrow: field overflows"):
        world.settle([buyer_line(2, 1)], [class_line(1, 1)])

    world.settle([buyer_line(2, 0, USD)], [class_line(1, 0, 0, USD)])
    assert world.node(1) == {"committed": 0, "payable": 0, "holdback": 0, "credited": everything}
