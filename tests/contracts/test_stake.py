"""Stake, class attestations, benchmarks and proof intervals (S1, S6, S7)."""

from collections.abc import Callable

import pytest

from contracts.eip712 import ClassAttestation
from contracts.jurisdictions import LIST_HASH
from contracts.parameters import Delays, Panels, stake_arguments
from tests.contracts.chain import Chain, Reverted, TestChain, address_of, refused, sign_all, sign_digest
from tests.contracts.world import DAY, DELAYS, EXPOSURE_CAP, SPEC, STAKE, USD, World

REGISTERED, PROBATION, PROVEN = 0, 1, 2
ZERO = "0x" + "00" * 20


def test_S1_stake_is_bonded_by_anybody_to_an_attested_class(market: World) -> None:
    market.bond(node_class=1, amount=5 * USD, payer="stranger")

    assert market.stake_of(1)[0] == STAKE + 5 * USD
    assert market.tokens("stake") == 2 * STAKE + 5 * USD
    with refused("stake: class is not attested"):
        market.bond(node_class=9, amount=USD)
    with refused("stake: nothing arrived"):
        market.send("stranger", "stake", "stake", 1, 0)


def test_S1_more_tokens_than_a_field_holds_are_refused(market: World) -> None:
    market.bond(node_class=1, amount=2**64 - 1 - 2 * STAKE)

    with refused("stake: balance exceeds fields"):
        market.bond(node_class=1, amount=1)

    assert market.tokens("stake") == 2**64 - 1


def test_S6_stake_leaves_after_the_unbonding_time_and_only_to_its_provider(market: World) -> None:
    at = market.send("provider:1", "stake", "unstake_request", 1, 400 * USD).at
    release_at = at + DELAYS.unbonding
    assert market.stake_of(1) == (STAKE - 400 * USD, 400 * USD, release_at)
    market.travel_to(release_at - 1)
    with refused("stake: unbonding is not over"):
        market.send("provider:1", "stake", "unstake_withdraw", 1)
    market.travel_to(release_at)
    with refused("stake: only its provider may"):
        market.send("stranger", "stake", "unstake_withdraw", 1)

    market.send("provider:1", "stake", "unstake_withdraw", 1)

    assert market.tokens("provider:1") == 400 * USD
    assert market.stake_of(1) == (STAKE - 400 * USD, 0, 0)
    with refused("stake: nothing is unbonding"):
        market.send("provider:1", "stake", "unstake_withdraw", 1)


def test_S6_only_bonded_stake_of_ones_own_class_is_unbonded(market: World) -> None:
    with refused("stake: only its provider may"):
        market.send("provider:2", "stake", "unstake_request", 1, USD)
    for amount in (0, STAKE + 1):
        with refused("stake: not that much is bonded"):
            market.send("provider:1", "stake", "unstake_request", 1, amount)

    market.send("provider:1", "stake", "unstake_request", 1, STAKE)


def test_S6_a_second_request_restarts_the_clock_for_all(market: World) -> None:
    market.send("provider:1", "stake", "unstake_request", 1, 400 * USD)
    market.travel(10 * DAY)

    at = market.send("provider:1", "stake", "unstake_request", 1, 100 * USD).at

    assert market.stake_of(1) == (STAKE - 500 * USD, 500 * USD, at + DELAYS.unbonding)


def test_S6_withdrawal_never_waits_for_a_pause(market: World) -> None:
    market.send("pauser", "stake", "pause")
    market.send("provider:1", "stake", "unstake_request", 1, STAKE)
    market.travel(DELAYS.unbonding)

    market.send("provider:1", "stake", "unstake_withdraw", 1)

    assert market.tokens("provider:1") == STAKE


def test_unbonding_takes_the_exposure_away_until_it_is_attested_anew(market: World) -> None:
    market.send("provider:1", "stake", "unstake_request", 1, USD)
    with refused("escrow: exposure cap is exceeded"):
        market.lock([(0, 0, 1)])

    market.attest_class(node_class=1, provider="provider:1")
    market.lock([(0, 0, 1)])

    assert market.call("stake", "class_info", 1) >> 41 & 1 == 1
    market.travel(DELAYS.unbonding)
    market.send("provider:1", "stake", "unstake_withdraw", 1)
    assert market.call("stake", "class_info", 1) >> 41 & 1 == 0


# ---- class attestations ----


def test_S7_a_class_word_holds_what_was_attested(world: World) -> None:
    world.attest_class(
        node_class=7, provider="provider:1", site=1, parent=2, operator=3, keys=248, tier=3, expires=world.now + 9
    )

    word = world.call("stake", "class_info", 7)

    assert [word >> shift & 255 for shift in (0, 8, 16, 24, 32, 40)] == [1, 2, 3, 248, 3, 0]
    assert word >> 48 & (2**40 - 1) == world.now + 8
    assert word >> 88 & (2**40 - 1) == 0
    assert word >> 128 & (2**64 - 1) == EXPOSURE_CAP
    assert world.call("stake", "words", [7, 8]) == (word, 0)
    assert world.call("stake", "provider_of", 7).lower() == address_of("provider:1").lower()
    assert world.call("stake", "jurisdictions_hash") == LIST_HASH


def test_S7_a_class_keeps_its_provider_and_its_nonces_rise(market: World) -> None:
    with refused("stake: class of other provider"):
        market.attest_class(node_class=1, provider="provider:2")
    with refused("stake: attestation is outdated"):
        market.attest_class(node_class=1, provider="provider:1", nonce=1)
    with refused("stake: provider is missing"):
        market.send("stranger", "stake", "attest_class", (ZERO, 3, 0, 0, 0, 0, 0, 1, market.now + 9, 1), [])

    market.attest_class(node_class=1, provider="provider:1", nonce=9)
    assert market.call("stake", "class_nonce", 1) == 9


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"site": 249}, "stake: no such jurisdiction"),
        ({"parent": 249}, "stake: no such jurisdiction"),
        ({"operator": 249}, "stake: no such jurisdiction"),
        ({"keys": 249}, "stake: no such jurisdiction"),
        ({"tier": 4}, "stake: no such tier"),
        ({"expires": 2**40}, "stake: attestation has expired"),
    ],
)
def test_S7_an_attestation_beyond_the_lists_is_refused(world: World, changes: dict[str, int], sentence: str) -> None:
    with refused(sentence):
        world.attest_class(node_class=1, provider="provider:1", **changes)

    world.attest_class(node_class=1, provider="provider:1", site=248, parent=248, operator=248, keys=248, tier=3)


def test_S7_an_attestation_is_brought_before_it_expires(world: World) -> None:
    with refused("stake: attestation has expired"):
        world.attest_class(node_class=1, provider="provider:1", expires=world.now)

    world.attest_class(node_class=1, provider="provider:1", expires=world.now + 1)


def test_a_new_attestation_keeps_proof_and_suspension(market: World) -> None:
    market.send("pauser", "stake", "suspend", 1)

    market.attest_class(node_class=1, provider="provider:1")

    assert market.call("stake", "state_of", 1) == PROVEN
    with refused("escrow: class is suspended"):
        market.lock([(0, 0, 1)])


def test_only_the_pauser_suspends_and_only_the_panel_resumes(market: World) -> None:
    with refused("stake: only pauser may suspend"):
        market.send("operator", "stake", "suspend", 1)
    market.send("pauser", "stake", "suspend", 1)
    with refused("stake: resumption has expired"):
        market.resume(node_class=1, expires=market.now - 1)
    with refused("stake: attestation is outdated"):
        market.resume(node_class=1, nonce=1)
    with refused("stake: signer has no seat"):
        market.resume(node_class=1, signers=market.panel("verifier"))

    market.resume(node_class=1, expires=market.now)

    market.lock([(0, 0, 1)])


# ---- quorums ----

Bring = Callable[[World, list[str]], object]
PANELS = [
    pytest.param("compliance", lambda w, s: w.attest_class(node_class=1, provider="provider:1", signers=s), id="class"),
    pytest.param("verifier", lambda w, s: w.prove(node_class=1, kind=1, epoch=9, signers=s), id="benchmark"),
    pytest.param("compliance", lambda w, s: w.resume(node_class=1, signers=s), id="resumption"),
]


@pytest.mark.parametrize(("panel", "bring"), PANELS)
def test_S7_a_quorum_is_of_seated_distinct_signers(market: World, panel: str, bring: Bring) -> None:
    with refused("stake: too few signatures"):
        bring(market, [f"{panel}:1"])
    with refused("stake: signer has no seat"):
        bring(market, [f"{panel}:1", f"{panel}:9"])

    bring(market, [f"{panel}:2", f"{panel}:3"])


def attestation_of(market: World) -> ClassAttestation:
    return market.class_attestation(node_class=1, provider="provider:1")


def test_S7_signers_are_strictly_rising(market: World) -> None:
    attestation = attestation_of(market)
    one, two = sign_all(market.panel("compliance"), attestation, market.address("stake"))

    for unsorted in ([two, one], [one, one]):
        with refused("stake: signers not rising"):
            market.send("stranger", "stake", "attest_class", attestation.abi(), unsorted)

    market.send("stranger", "stake", "attest_class", attestation.abi(), [one, two])


def test_S7_a_signature_for_another_chain_or_contract_is_worthless(market: World) -> None:
    attestation = attestation_of(market)
    names = sorted(market.panel("compliance"), key=lambda name: int(address_of(name), 16))
    for digest in (
        attestation.digest(TestChain.chain_id + 1, market.address("stake")),
        attestation.digest(TestChain.chain_id, market.address("escrow")),
    ):
        foreign = [sign_digest(name, digest).abi() for name in names]
        with pytest.raises(Reverted, match="stake: sign"):
            market.send("stranger", "stake", "attest_class", attestation.abi(), foreign)

    home = [sign_digest(name, attestation.digest(TestChain.chain_id, market.address("stake"))).abi() for name in names]
    market.send("stranger", "stake", "attest_class", attestation.abi(), home)


def test_S7_the_providers_own_organisation_never_sits(market: World) -> None:
    market.enact("stake", 30, "provider:1", 2)

    with refused("stake: provider's own signs"):
        market.attest_class(node_class=1, provider="provider:1", signers=["compliance:1", "compliance:2"])
    market.attest_class(node_class=1, provider="provider:1", signers=["compliance:1", "compliance:3"])
    with refused("stake: provider's own signs"):
        market.attest_class(
            node_class=5, provider="compliance:3", signers=["compliance:1", "compliance:3"]
        )


def test_S7_a_signer_without_its_seat_no_longer_counts(market: World) -> None:
    market.enact("stake", 11, "compliance:2", 0)

    with refused("stake: signer has no seat"):
        market.attest_class(node_class=1, provider="provider:1")

    market.attest_class(node_class=1, provider="provider:1", signers=["compliance:1", "compliance:3"])


# ---- benchmarks ----


def test_the_state_follows_the_proofs_and_the_clock(world: World) -> None:
    world.attest_class(node_class=1, provider="provider:1")
    assert world.call("stake", "state_of", 1) == REGISTERED
    world.prove(node_class=1, kind=1, epoch=1)
    assert world.call("stake", "state_of", 1) == PROBATION
    world.travel(DELAYS.probation)
    valid_until = world.now + 50 * DAY
    world.prove(node_class=1, kind=2, epoch=2, valid_until=valid_until)
    assert world.call("stake", "state_of", 1) == PROVEN

    world.travel_to(valid_until)
    assert world.call("stake", "state_of", 1) == PROVEN
    world.travel_to(valid_until + 1)
    assert world.call("stake", "state_of", 1) == PROBATION


def test_a_baseline_waits_fourteen_days_after_the_first_challenge(world: World) -> None:
    world.attest_class(node_class=1, provider="provider:1")
    with refused("stake: baseline before challenge"):
        world.prove(node_class=1, kind=2, epoch=1)
    at = world.prove(node_class=1, kind=1, epoch=1).at
    world.travel(DAY)
    world.prove(node_class=1, kind=1, epoch=2)
    world.travel_to(at + DELAYS.probation - 1)
    with refused("stake: probation is not over"):
        world.prove(node_class=1, kind=2, epoch=3)

    world.travel_to(at + DELAYS.probation)
    proven = world.prove(node_class=1, kind=2, epoch=3).one("Proven")

    assert (proven.node_class, proven.kind, proven.epoch) == (1, 2, 3)


def test_S7_a_benchmark_is_bound_to_class_provider_epoch_and_time(market: World) -> None:
    def refuse(sentence: str, **changes: object) -> None:
        with refused(sentence):
            market.prove(node_class=1, kind=1, epoch=changes.pop("epoch", 9), **changes)  # type: ignore[arg-type]

    refuse("stake: benchmark is outdated", epoch=2)
    refuse("stake: proof of other provider", provider_id=b"\x01" * 32)
    refuse("stake: no such class", machine_id=b"\x01" + bytes(31))
    refuse("stake: class is not attested", machine_id=(99).to_bytes(32, "big"))
    refuse("stake: benchmark ends too early", started_at=market.now, finished_at=market.now - 1)
    refuse("stake: benchmark is not over", finished_at=market.now + 1)
    refuse("stake: benchmark has expired", valid_until=market.now)
    refuse("stake: benchmark valid too long", valid_until=market.now - 60 + DELAYS.validity_max + 1)
    for kind in (0, 3):
        with refused("stake: unknown kind of benchmark"):
            market.prove(node_class=1, kind=kind, epoch=9)

    market.prove(node_class=1, kind=1, epoch=3, finished_at=market.now, valid_until=market.now + 1)


def test_S7_one_device_serves_one_class(market: World) -> None:
    market.prove(node_class=1, kind=1, epoch=3, hw_key_hash=b"h" * 32)

    with refused("stake: hardware of other class"):
        market.prove(node_class=2, kind=1, epoch=3, hw_key_hash=b"h" * 32)

    market.prove(node_class=1, kind=1, epoch=4, hw_key_hash=b"h" * 32)
    market.prove(node_class=2, kind=1, epoch=3)
    assert market.call("stake", "hardware_class", b"h" * 32) == 1


def intervals(world: World) -> list[tuple[bytes, int, int]]:
    specs, armed_at, expires = world.call("stake", "intervals_of", 1)
    found = [each for each in zip(specs, armed_at, expires, strict=True) if each[1]]
    return sorted(found, key=lambda each: each[1])


def test_a_renewal_of_the_same_spec_extends_the_interval(market: World) -> None:
    ((spec, armed_at, expires),) = intervals(market)
    market.travel_to(expires)

    market.prove(node_class=1, kind=2, epoch=3)

    assert intervals(market) == [(spec, armed_at, expires - 60 + DELAYS.validity_max)]
    assert market.call("stake", "interval_count", 1) == 1


def test_a_gap_or_another_spec_opens_a_new_interval(market: World) -> None:
    ((_, _, expires),) = intervals(market)
    market.travel_to(expires + 1)
    at = market.prove(node_class=1, kind=2, epoch=3).at
    assert intervals(market)[1][:2] == (SPEC, at)

    at = market.prove(node_class=1, kind=2, epoch=4, params_hash=b"z" * 32).at

    assert intervals(market)[2][:2] == (b"z" * 32, at)


def test_a_shorter_renewal_never_shortens_an_interval(market: World) -> None:
    before = intervals(market)

    market.prove(node_class=1, kind=2, epoch=3, valid_until=market.now + DAY)

    assert intervals(market) == before
    assert market.call("stake", "class_info", 1) >> 88 & (2**40 - 1) == before[0][2]


def test_the_last_four_intervals_are_kept(market: World) -> None:
    for epoch in range(3, 7):
        market.prove(node_class=1, kind=2, epoch=epoch, params_hash=bytes([epoch]) * 32)

    assert [spec for spec, _, _ in intervals(market)] == [bytes([epoch]) * 32 for epoch in range(3, 7)]


def test_S2_a_lease_is_armed_by_one_interval_over_lock_and_breach(market: World) -> None:
    ((_, armed_at, expires),) = intervals(market)

    def armed(locked_at: int, breach_at: int) -> bool:
        return bool(market.call("stake", "armed", 1, locked_at, breach_at))

    assert armed(armed_at, armed_at)
    assert armed(armed_at, expires)
    assert not armed(armed_at - 1, expires)
    assert not armed(armed_at, expires + 1)
    assert not armed(armed_at + 1, armed_at)
    assert not market.call("stake", "armed", 2, armed_at, armed_at)


# ---- deployment ----


def test_escrow_is_bound_once_by_the_deployer(world: World) -> None:
    chain = Chain()
    token = chain.deploy("deployer", "token", "T", "T", address_of("faucet"))
    stake = chain.deploy("deployer", "stake", *arguments(token))
    other = chain.deploy("deployer", "stake", *arguments(token))
    roles = [address_of(name) for name in ("operator", "pauser", "governance", "treasury")]
    rightful = chain.deploy("deployer", "escrow", token, other, *roles, 0, 0, 0, 0, 1, 0, 0)
    foreign = chain.deploy("deployer", "escrow", token, stake, *roles, 0, 0, 0, 0, 1, 0, 0)

    with refused("stake: only deployer may bind"):
        chain.send("stranger", "stake", "bind_escrow", rightful)
    with refused("stake: escrow of other stake"):
        chain.send("deployer", "stake", "bind_escrow", foreign)
    chain.send("deployer", "stake", "bind_escrow", rightful)
    with refused("stake: escrow is bound already"):
        chain.send("deployer", "stake", "bind_escrow", rightful)


def arguments(stablecoin: str, **changes: object) -> tuple[object, ...]:
    seats = [(address_of(f"slasher:{number}"), number) for number in (1, 2)]
    given: dict[str, object] = {
        "token": stablecoin,
        "governance": address_of("governance"),
        "pauser": address_of("pauser"),
        "veto_role": address_of("veto"),
        "arbiters": [address_of("arbiter:1"), address_of("arbiter:2")],
        "panels": Panels(seats, seats, seats, (2, 2, 2), 2),
    }
    return stake_arguments(**{**given, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"token": ZERO}, "stake: token is missing"),
        ({"governance": ZERO}, "governed: governance is missing"),
        ({"delays": Delays(unbonding=20 * DAY)}, "stake: unbonding is too short"),
        ({"delays": Delays(lapse=3 * DAY)}, "stake: lapse before veto ends"),
        ({"arbiters": []}, "stake: too few arbiters"),
        ({"arbiter_quorum": 0}, "stake: too few arbiters"),
        ({"arbiters": [address_of("slasher:1")]}, "stake: arbiter sits on the panel"),
        ({"arbiters": 2 * [address_of("arbiter:1")]}, "stake: an arbiter is named twice"),
        ({"panels": Panels([], [], [], (1, 2, 2), 2)}, "stake: quorum is not 2 to 9"),
        ({"panels": Panels([(ZERO, 1)], [], [], (2, 2, 2), 2)}, "stake: signer is missing"),
        (
            {"panels": Panels([(address_of("a"), 1), (address_of("b"), 1)], [], [], (2, 2, 2), 2)},
            "stake: organisation is seated",
        ),
    ],
)
def test_a_stake_that_could_not_keep_its_promises_is_not_built(
    world: World, changes: dict[str, object], sentence: str
) -> None:
    token = world.address("token")

    with refused(sentence):
        world.chain.deploy("deployer", "stake", *arguments(token, **changes))

    world.chain.deploy("deployer", "stake", *arguments(token))


@pytest.mark.parametrize(
    ("position", "bad", "sentence"),
    [
        (0, ZERO, "escrow: a contract is missing"),
        (1, ZERO, "escrow: a contract is missing"),
        (5, ZERO, "escrow: treasury is missing"),
        (6, 1_001, "escrow: fee is above its maximum"),
        (9, 1, "escrow: claims after wind-up"),
    ],
)
def test_an_escrow_that_could_not_keep_its_promises_is_not_built(
    world: World, position: int, bad: object, sentence: str
) -> None:
    roles = [address_of(name) for name in ("operator", "pauser", "governance", "treasury")]
    good: list[object] = [world.address("token"), world.address("stake"), *roles, 1_000, 0, 0, 0, 1, 0, 0]

    with refused(sentence):
        world.chain.deploy("deployer", "escrow", *[*good[:position], bad, *good[position + 1 :]])

    world.chain.deploy("deployer", "escrow", *good)
