"""The mutants: each is one mistake that somebody could make in a contract, as a replacement that fits exactly once.

`first` says which tests are tried first (an expression of pytest's -k); when these pass, the whole suite of the
contract is run. A mutant is killed when a test fails.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Mutant:
    """One planted mistake. `contract` is the one that is compiled with it, `source` the file it stands in."""

    name: str
    contract: str
    source: str
    old: str
    new: str
    first: str


def _of(contract: str, source: str, *rows: tuple[str, str, str, str]) -> tuple[Mutant, ...]:
    return tuple(Mutant(name, contract, source, old, new, first) for name, first, old, new in rows)


LOCK: Final = _of(
    "escrow", "escrow.vy",
    ("anybody operates", "only_the_operator",
     "assert msg.sender == self.operator,", "assert self.operator != empty(address),"),
    ("zone ignored", "class_outside_the_mandate",
     "assert (zone >> (word & 255)) & 1 == 1,", "assert zone != 0,"),
    ("parent mask ignored", "class_outside_the_mandate",
     "needs[i] = (1 << ((word >> 8) & 255)) | ", "needs[i] = "),
    ("operator's place ignored", "class_outside_the_mandate",
     "| (1 << ((word >> 16) & 255)) |", "|"),
    ("keys' place ignored", "class_outside_the_mandate",
     " | (1 << ((word >> 24) & 255))\n", "\n"),
    ("tier one too low accepted", "class_outside_the_mandate",
     "assert (word >> 32) & 255 >= tier,", "assert ((word >> 32) & 255) + 1 >= tier,"),
    ("mandate's expiry ignored", "before_its_expiry",
     "assert block.timestamp < convert(mandate.expiry, uint256),", "assert 0 < convert(mandate.expiry, uint256),"),
    ("mandate's expiry off by one", "before_its_expiry",
     "assert block.timestamp < convert(mandate.expiry, uint256),",
     "assert block.timestamp <= convert(mandate.expiry, uint256),"),
    ("mandate of any window", "for_one_window",
     "assert mandate.window == window,", "assert mandate.window != 0,"),
    ("mandate signed by anybody", "signed_by_somebody_else",
     "mandates[i].signature) == mandate.buyer,", "mandates[i].signature) != empty(address),"),
    ("older nonce accepted", "older_mandate_is_dead",
     "assert nonce > account >> 192,", "assert nonce != account >> 192,"),
    ("spend of earlier locks forgotten", "caps_the_spend",
     "assert spent <= convert(mandate.maxSpend, uint256),", "assert spend <= convert(mandate.maxSpend, uint256),"),
    ("more locked than is free", "needs_the_money",
     'assert spend <= account & _M64, "escrow: free', 'assert spend <= _M64, "escrow: free'),
    ("attestation may end before the window", "end_of_the_window",
     "assert (word >> _EXPIRES_AT) & _M40 >= ends_at,", "assert (word >> _EXPIRES_AT) & _M40 >= block.timestamp,"),
    ("suspension ignored", "suspended_class",
     "assert word & _SUSPENDED == 0,", "assert word != 0,"),
    ("exposure of earlier locks forgotten", "exposure_cap",
     "assert (standing & _M64) + loads[i] <= cap,", "assert loads[i] <= cap,"),
    ("unproven cap ignored", "small_cap",
     "+ loads[i] <= unproven_cap,", "+ loads[i] <= cap,"),
    ("the same line twice", "lines_rise",
     "assert place >= next_place,", "assert place + 1 >= next_place,"),
    ("lock despite the pause", "pause_stops_lock",
     "assert not self.paused,", "assert self.pauser != empty(address),"),
)  # fmt: skip

SETTLE: Final = _of(
    "escrow", "escrow.vy",
    ("epoch skip allowed", "strictly_consecutive",
     "== (self._meter >> 192) + 1,", ">= (self._meter >> 192) + 1,"),
    ("epoch repeat allowed", "strictly_consecutive",
     "assert convert(epoch, uint256) == (self._meter >> 192) + 1,",
     "assert convert(epoch, uint256) - (self._meter >> 192) <= 1,"),
    ("refund beyond the lock", "not_debited_beyond",
     'assert taken <= (account >> 64) & _M64, "escrow: locked',
     'assert unsafe_sub(taken, refund) <= (account >> 64) & _M64, "escrow: locked'),
    ("refund not subtracted from locked", "pays_the_class",
     "unsafe_sub(unsafe_add(account, refund), taken << 64)",
     "unsafe_sub(unsafe_add(account, refund), unsafe_sub(taken, refund) << 64)"),
    ("debits above gross", "debits_must_equal",
     "assert debits == gross_sum + paid_back,", "assert debits >= gross_sum + paid_back,"),
    ("refunds above returned", "debits_must_equal",
     "assert refunds == returned_sum,", "assert refunds >= returned_sum,"),
    ("covered not subtracted", "next_settle_debits",
     "        - (paid_back << 192)\n", ""),
    ("class paid what was not committed to it", "reaches_only",
     "| unsafe_sub(unsafe_sub(standing & _M64, gross), line & _M64)", "| unsafe_sub(standing & _M64, gross)"),
    ("holdback leaves no room for the fee", "room_for_the_fee",
     "            | paid\n", "            | unsafe_sub(gross, (line >> 64) & _M64)\n"),
    ("one class twice in a settlement", "netted",
     "            unsafe_sub(node_class, next_class)\n",
     "            unsafe_sub(unsafe_add(node_class, 1), next_class)\n"),
    ("hourly limit counts one call", "in_an_hour",
     "assert sum <= convert(self.settle_limit, uint256),", "assert credited <= convert(self.settle_limit, uint256),"),
    ("hour off by one", "in_an_hour",
     "if block.timestamp < started_at + _HOUR:", "if block.timestamp <= started_at + _HOUR:"),
    ("fee cap dropped", "escrow_that_could_not_keep",
     "assert convert(fee_bps_, uint256) <= _FEE_BPS_MAX,", "assert convert(fee_bps_, uint256) <= _BPS,"),
    ("fields overflow", "never_runs",
     'assert amount <= _M64, "escrow: field overflows"', 'assert amount <= amount, "escrow: field overflows"'),
    ("credited runs out of its field", "never_wraps",
     "            | unsafe_add(standing >> 192, gross)\n", ""),
    ("a class's fields run into each other", "never_runs",
     "            | ((standing ^ added ^ raised) & _CARRIES)\n", ""),
    ("payable runs into holdback", "never_runs",
     "_CARRIES: constant(uint256) = (1 << 128) | (1 << 192)", "_CARRIES: constant(uint256) = 1 << 192"),
    ("holdback runs into credited", "never_runs",
     "_CARRIES: constant(uint256) = (1 << 128) | (1 << 192)", "_CARRIES: constant(uint256) = 1 << 128"),
    ("returned money paid to the class", "pays_the_class",
     "unsafe_sub(unsafe_add(line, paid), line & _M64) << 64", "unsafe_add(line, paid) << 64"),
    ("fee not taken", "pays_the_class",
     "unsafe_sub(unsafe_sub(gross_sum, held_sum), paid_sum)", "0"),
)  # fmt: skip

MONEY: Final = _of(
    "escrow", "escrow.vy",
    ("pause stops withdrawals", "pause_stops_lock",
     'assert taken > 0, "escrow: nothing', 'assert taken > 0 and not self.paused, "escrow: nothing'),
    ("payout to the caller", "whoever_calls",
     "self._pay(payee, amount)", "self._pay(msg.sender, amount)"),
    ("fees to the caller", "whoever_calls",
     "self._pay(treasury, amount)", "self._pay(msg.sender, amount)"),
    ("deposit credits what was asked for", "fee_taking",
     "return after - before", "return amount"),
    ("more tokens than a field holds", "more_tokens",
     "assert after <= _M64,", "assert after >= before,"),
    ("anybody credits a slash", "only_stake_credits",
     "assert msg.sender == stake,", "assert stake != empty(address),"),
    ("holdback released on probation", "released_on_proof",
     'state_of(node_class) == _PROVEN, "escrow: holdback', 'state_of(node_class) >= 1, "escrow: holdback'),
    ("verdict above the lease", "forfeiture_is_bound",
     "self._need(amount > 0 and verdict.amount <= line.amount,", "self._need(amount > 0,"),
    ("holdback of a proven class forfeited", "slashed_not_forfeited",
     "self._need(not is_armed,", "self._need(breach_at > 0,"),
    ("evidence works twice on holdback", "pays_the_harmed_buyer",
     "self._evidence[verdict.evidence] = True", "self._evidence[verdict.evidence] = False"),
    ("claim paid twice", "works_once",
     'owed > standing >> 192, "escrow: nothing to claim")\n    gross: uint256 = min(owed - (standing >> 192),',
     'owed > 0, "escrow: nothing to claim")\n    gross: uint256 = min(owed,'),
    ("claim leaves signed settles alive", "signed_before_a_claim",
     "unsafe_add(meter >> _GENERATION_AT, 1)", "unsafe_add(meter >> _GENERATION_AT, 0)"),
    ("claim above what is committed", "never_takes_more",
     "min(owed - (standing >> 192), standing & _M64)", "owed - (standing >> 192)"),
    ("claim without silence", "to_the_second",
     "self._silent_for(claim_silence)", "self._silent_for(0)"),
    ("claim not counted as uncovered", "claims_what_the_last_root",
     "    self._classes += added\n", "    self._classes += added - (gross << 192)\n"),
    ("longer proof accepted", "leaf_is_bound",
     " and used == len(proof)", ""),
    ("wind-up returns what was claimed", "pro_rata",
     "left: uint256 = locked - (self._classes >> 192)", "left: uint256 = locked"),
    ("refund twice", "comes_back",
     "self._account[index] = account - (locked << 64) + amount", "self._account[index] = account + amount"),
)  # fmt: skip

STAKE: Final = _of(
    "stake", "stake.vy",
    ("no probation", "fourteen_days_after",
     "assert block.timestamp >= challenged_at + convert(delays.probation, uint256),",
     "assert block.timestamp >= challenged_at,"),
    ("stale class attestation accepted", "nonces_rise",
     "assert attestation.nonce > self.class_nonce[node_class],",
     "assert attestation.nonce >= self.class_nonce[node_class],"),
    ("stale benchmark accepted", "benchmark_is_bound",
     "assert attestation.epoch > self.benchmark_epoch[node_class],",
     "assert attestation.epoch >= self.benchmark_epoch[node_class],"),
    ("benchmark valid too long", "benchmark_is_bound",
     "assert valid_until <= finished_at + convert(delays.validity_max, uint256),",
     "assert valid_until <= block.timestamp + convert(delays.validity_max, uint256),"),
    ("hardware of two classes", "one_device",
     "assert owner == 0 or owner == node_class,", "assert owner == 0 or node_class != 0,"),
    ("another spec extends the proof", "another_spec",
     "if self._specs[node_class][newest] == spec and block", "if block"),
    ("quorum off by one", "quorum_is_of_seated",
     "assert len(signatures) >= convert(self.quorum[panel], uint256),",
     "assert len(signatures) + 1 >= convert(self.quorum[panel], uint256),"),
    ("one signer counted twice", "strictly_rising",
     "assert convert(signer, uint256) > below,", "assert convert(signer, uint256) >= below,"),
    ("signer without a seat", "quorum_is_of_seated",
     "assert organisation != 0,", "assert signer != empty(address),"),
    ("own organisation signs", "own_organisation",
     "assert organisation != own and signer != provider,", "assert signer != provider,"),
    ("provider itself signs", "own_organisation",
     "assert organisation != own and signer != provider,", "assert organisation != own,"),
    ("lease from before the proof", "before_the_proof",
     "armed_at != 0 and armed_at <= locked_at and locked_at", "armed_at != 0 and locked_at"),
    ("breach from before the lease", "breach_before_the_lock",
     "and locked_at <= breach_at and", "and"),
    ("breach after the proof", "breach_at_expiry",
     " and breach_at <= span >> 64:", ":"),
    ("stake credits what was asked for", "fee_taking",
     "got: uint256 = after - before", "got: uint256 = convert(amount, uint256)"),
    ("exposure kept while unbonding", "takes_the_exposure",
     "(self.class_info[node_class] & ~(_M64 << _EXPOSURE_CAP_AT)) | _UNBONDING",
     "self.class_info[node_class] | _UNBONDING"),
)  # fmt: skip

SLASH: Final = _of(
    "stake", "stake.vy",
    ("evidence works twice", "evidence",
     "self._evidence[verdict.evidence] = True", "self._evidence[verdict.evidence] = False"),
    ("verdict nonce skipped", "each_nonce",
     "self._verdict_nonce[node_class][verdict.nonce] = True", "self._verdict_nonce[node_class][verdict.nonce] = False"),
    ("old breach", "verdict_has_its_time",
     "assert block.timestamp <= breach_at + convert(delays.breach_age_max, uint256),",
     "assert block.timestamp <= breach_at + convert(delays.unbonding, uint256),"),
    ("request despite the pause", "request and paused",
     'assert not self.paused, "stake: slashing is paused"\n    line:', "line:"),
    ("execution despite the pause", "execute and paused",
     'assert not self.paused, "stake: slashing is paused"\n    assert self.seats', "assert self.seats"),
    ("no veto delay", "waits_for_the_veto_delay",
     "assert block.timestamp >= slash.requested_at + convert(delays.veto, uint256),",
     "assert block.timestamp >= slash.requested_at,"),
    ("dispute freezes nothing", "execute and disputed",
     "assert slash.state == REQUESTED or slash.state == UPHELD,",
     "assert slash.state >= REQUESTED and slash.state <= UPHELD,"),
    ("request never lapses", "and_lapses",
     'assert block.timestamp <= self._deadline(id), "stake: request has lapsed"',
     'assert block.timestamp > 0, "stake: request has lapsed"'),
    ("no cap of a period", "quarter_at_most",
     "return min(period_cap - in_period, quarter_cap - in_90_days)", "return quarter_cap - in_90_days"),
    ("no cap of ninety days", "half_at_most",
     "return min(period_cap - in_period, quarter_cap - in_90_days)", "return period_cap - in_period"),
    ("slashes beyond the sixteenth forgotten", "than_are_remembered",
     "sum += kept.pop() & _M64", "forgotten: uint256 = kept.pop()"),
    ("pool before buyer", "buyer_comes_first",
     "to_buyer: uint256 = min(amount, convert(slash.line_amount, uint256))",
     "to_buyer: uint256 = amount - min(amount, convert(slash.line_amount, uint256))"),
    ("caller paid", "buyer_comes_first",
     "credit_slash(slash.buyer,", "credit_slash(msg.sender,"),
    ("unbonding not slashable", "execute and unbonding",
     "stake: uint256 = (word & _M64) + ((word >> 64) & _M64)", "stake: uint256 = word & _M64"),
    ("withdrawal under an open request", "while_a_request_is_open",
     'assert word >> 192 == 0, "stake: a slash', 'assert amount > 0, "stake: a slash'),
    ("pause holds stake", "never_waits_for_a_pause",
     'assert amount > 0, "stake: nothing is unbonding"',
     'assert amount > 0 and not self.paused, "stake: nothing is unbonding"'),
    ("one arbiter upholds", "two_arbiters",
     "if self._count_bits(votes) >= convert(arbiter_quorum, uint256):", "if self._count_bits(votes) >= 1:"),
    ("an arbiter upholds twice", "two_arbiters",
     "assert self._slashes[id].votes & bit == 0,", "assert bit != 0,"),
    ("dispute one second late", "before_the_veto_delay_ends",
     "assert block.timestamp < self._slashes[id].requested_at",
     "assert block.timestamp <= self._slashes[id].requested_at"),
    ("fraud leaves the proof", "only_fraud",
     "if slash.kind == _FRAUD:\n        # A", "if slash.kind == 0:\n        # A"),
    ("slash with too small a panel", "panel_is_too_small",
     'assert self.seats[SLASHERS] >= slashers_min, "stake: slashing is off"\n    assert slash', "assert slash"),
)  # fmt: skip

SHARED: Final = (
    *_of(
        "escrow", "modules/domain.vy",
        ("low-s check dropped", "malleable",
         "assert convert(signature.s, uint256) <= _S_MAX,", "assert convert(signature.s, uint256) != 0,"),
        ("zero address signs", "zero_address or malleable",
         "assert signer != empty(address),", "assert signature.v != 0,"),
        ("domain of a chain that forked away", "forked_chain",
         "if chain.id == _built_on:", "if _built_on != 0:"),
    ),
    *_of(
        "escrow", "modules/governed.vy",
        ("change without delay", "waits_for_its_delay",
         "assert block.timestamp >= due_at,", "assert block.timestamp >= due_at - governance_delay,"),
        ("change made twice", "only_once",
         "self._due_at[key] = 0\n", "self._due_at[key] = due_at\n"),
    ),
    *_of(
        "anchor", "anchor.vy",
        ("anchor skips an epoch", "follow_each_other",
         "assert epoch == self.last_epoch + 1,", "assert epoch > self.last_epoch,"),
        ("anchor names no predecessor", "follow_each_other",
         "assert prev_root == self.root_of[self.last_epoch],", "assert epoch != 0,"),
        ("bundle rewritten", "written_once",
         "assert self.bundle_of[window] == empty(bytes32),", "assert bundle_hash != empty(bytes32),"),
    ),
)  # fmt: skip

MUTANTS: Final = LOCK + SETTLE + MONEY + STAKE + SLASH + SHARED

# Which tests speak of which contract; the builds themselves are compared elsewhere (test_artifacts.py).
SUITES: Final = {
    "escrow": (
        "test_lock", "test_settle", "test_claim", "test_escrow_money", "test_fields", "test_governance",
        "test_slashing", "test_stake",
    ),
    "stake": (
        "test_stake", "test_slashing", "test_slash_matrix", "test_governance", "test_settle", "test_escrow_money",
    ),
    "anchor": ("test_anchor", "test_governance"),
}  # fmt: skip

# Survivors that are no gap, one by one: name -> why no test can tell it from the contract. There is none.
EXPLAINED: Final[dict[str, str]] = {}
