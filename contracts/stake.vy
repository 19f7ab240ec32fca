# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize codesize
"""
@title Stake: money a provider stands to lose, and only for a class it has proven
@license Apache-2.0
@notice Amounts are uint64 micro-units of a 6-decimal stablecoin. A class is a provider's node class: machines proven
        together. Its state is computed: 0 REGISTERED, 1 PROBATION, 2 PROVEN. Not audited.
@custom:invariants
    S1  token balance of this contract >= sum of bonded and unbonding; no stake falls without an executed request or
        the owner's withdrawal.
    S2  a class not proven when the lease was locked and at the breach is never slashed.
    S3  executed => requested at least the veto delay earlier, not vetoed, not under dispute, not lapsed.
    S4  at most 25 % of a class's stake per lease period and 50 % per 90 days, all of it only for proof fraud; never
        more than the stake; each evidence hash once.
    S5  a slash pays the harmed buyer first, up to the lease's amount, the rest to the pool; never the caller.
    S6  unbonding stake is slashable until it is withdrawn; withdrawal never waits for a pause.
    S7  attestations and verdicts are bound to spec, result, provider, class, time, nonce, chain and contract; short,
        unsorted or double quorums and the provider's own organisation are refused.
    S8  no slash while the panel has fewer organisations than the minimum of this deployment.
"""
from ethereum.ercs import IERC20
from interfaces import IEscrow
from interfaces import IStake
from modules import domain
from modules import governed
from modules import verdict as verdicts

implements: IStake
initializes: domain
initializes: governed
exports: (
    governed.governance,
    governed.governance_delay,
    governed.schedule,
    governed.cancel,
    governed.accept_governance,
)

struct Seat:
    holder: address
    organisation: uint8

struct Delays:
    veto: uint64
    lapse: uint64
    appeal: uint64
    unbonding: uint64
    probation: uint64
    validity_max: uint64
    breach_age_max: uint64

struct ClassAttestation:
    provider: address
    nodeClass: uint64
    site: uint8
    parent: uint8
    operator: uint8
    keys: uint8
    tier: uint8
    exposureCap: uint64
    expires: uint64
    nonce: uint64

struct BenchmarkAttestation:
    providerId: bytes32
    machineId: bytes32
    hwKeyHash: bytes32
    kind: uint8
    seed: bytes32
    challengeRoot: bytes32
    transcriptHash: bytes32
    paramsHash: bytes32
    opsPerSec: uint64
    memBytes: uint64
    memBytesPerSec: uint64
    rttMaxKm: uint32
    startedAt: uint64
    finishedAt: uint64
    validUntil: uint64
    epoch: uint32
    panelRoot: bytes32

struct Slash:
    node_class: uint64
    window: uint32
    kind: uint8
    state: uint8
    amount: uint64
    line_amount: uint64
    buyer: address
    evidence: bytes32
    requested_at: uint256
    disputed_at: uint256
    upheld_at: uint256
    votes: uint256

event Staked:
    node_class: indexed(uint64)
    amount: uint64

event UnstakeRequested:
    node_class: indexed(uint64)
    amount: uint64
    release_at: uint64

event Unstaked:
    node_class: indexed(uint64)
    amount: uint64

event ClassAttested:
    node_class: indexed(uint64)
    provider: indexed(address)
    word: uint256
    nonce: uint64

event Proven:
    node_class: indexed(uint64)
    kind: uint8
    epoch: uint32
    valid_until: uint64
    params_hash: bytes32
    transcript_hash: bytes32

event Suspended:
    node_class: indexed(uint64)

event Resumed:
    node_class: indexed(uint64)

event SlashRequested:
    id: indexed(uint256)
    node_class: indexed(uint64)
    buyer: address
    amount: uint64
    kind: uint8
    evidence: bytes32

event SlashDisputed:
    id: indexed(uint256)

event SlashUpheld:
    id: indexed(uint256)
    arbiter: indexed(address)
    votes: uint256

event SlashVetoed:
    id: indexed(uint256)

event SlashLapsed:
    id: indexed(uint256)

event SlashExecuted:
    id: indexed(uint256)
    node_class: indexed(uint64)
    buyer: indexed(address)
    to_buyer: uint64
    to_pool: uint64
    evidence: bytes32

event Paused: pass
event Unpaused: pass

_CLASS_TYPE: constant(bytes32) = keccak256(
    "ClassAttestation(address provider,uint64 nodeClass,uint8 site,uint8 parent,uint8 operator,uint8 keys,uint8 tier,uint64 exposureCap,uint64 expires,uint64 nonce)"
)
_BENCHMARK_TYPE: constant(bytes32) = keccak256(
    "BenchmarkAttestation(bytes32 providerId,bytes32 machineId,bytes32 hwKeyHash,uint8 kind,bytes32 seed,bytes32 challengeRoot,bytes32 transcriptHash,bytes32 paramsHash,uint64 opsPerSec,uint64 memBytes,uint64 memBytesPerSec,uint32 rttMaxKm,uint64 startedAt,uint64 finishedAt,uint64 validUntil,uint32 epoch,bytes32 panelRoot)"
)
_RESUMPTION_TYPE: constant(bytes32) = keccak256("Resumption(uint64 nodeClass,uint64 nonce,uint64 expires)")
_M64: constant(uint256) = 2**64 - 1
_M40: constant(uint256) = 2**40 - 1
_DAY: constant(uint256) = 86400
_JURISDICTIONS: constant(uint8) = 249
_TIER_MAX: constant(uint8) = 3
_SLASHES_KEPT: constant(uint256) = 16

# Panels of signers
VERIFIERS: constant(uint8) = 0
COMPLIANCE: constant(uint8) = 1
SLASHERS: constant(uint8) = 2

# Fields of a class word: site u8, parent u8, operator u8, keys u8, tier u8 from bit 0, then these
_SUSPENDED: constant(uint256) = 1 << 40
_UNBONDING: constant(uint256) = 1 << 41
_EXPIRES_AT: constant(uint256) = 48
_PROVEN_UNTIL_AT: constant(uint256) = 88
_EXPOSURE_CAP_AT: constant(uint256) = 128
_CHALLENGED_AT: constant(uint256) = 192

# Kinds of benchmark and of breach
_CHALLENGE: constant(uint8) = 1
_BASELINE: constant(uint8) = 2
_SEVERE: constant(uint8) = 3
_FRAUD: constant(uint8) = 9

# States of a slash
REQUESTED: constant(uint8) = 1
DISPUTED: constant(uint8) = 2
UPHELD: constant(uint8) = 3
VETOED: constant(uint8) = 4
EXECUTED: constant(uint8) = 5
LAPSED: constant(uint8) = 6

# Actions of governance
SET_PAUSER: constant(uint8) = 1
SET_VETO_ROLE: constant(uint8) = 2
SEAT_VERIFIER: constant(uint8) = 10
SEAT_COMPLIANCE: constant(uint8) = 11
SEAT_SLASHER: constant(uint8) = 12
QUORUM_VERIFIERS: constant(uint8) = 20
QUORUM_COMPLIANCE: constant(uint8) = 21
QUORUM_SLASHERS: constant(uint8) = 22
SET_PROVIDER_ORGANISATION: constant(uint8) = 30

token: public(immutable(address))
jurisdictions_hash: public(immutable(bytes32))
slashers_min: public(immutable(uint8))
arbiter_quorum: public(immutable(uint8))
_deployer: immutable(address)
delays: public(immutable(Delays))

escrow: public(address)
pauser: public(address)
veto_role: public(address)
paused: public(bool)

seat_of: public(HashMap[uint8, HashMap[address, uint8]])  # panel -> signer -> organisation, 0: no seat
seated: public(HashMap[uint8, HashMap[uint8, address]])  # panel -> organisation -> its one signer
seats: public(uint8[3])
quorum: public(uint8[3])
arbiter_bit: public(HashMap[address, uint256])
provider_organisation: public(HashMap[address, uint8])

provider_of: public(HashMap[uint64, address])
class_info: public(HashMap[uint64, uint256])
class_nonce: public(HashMap[uint64, uint64])
benchmark_epoch: public(HashMap[uint64, uint32])
hardware_class: public(HashMap[bytes32, uint64])
interval_count: public(HashMap[uint64, uint256])
_specs: HashMap[uint64, bytes32[4]]
_spans: HashMap[uint64, uint256[4]]  # armed at u64 | expires u64 << 64
_stake: HashMap[uint64, uint256]  # bonded u64 | unbonding u64 << 64 | release at u64 << 128 | open requests u64 << 192

slash_count: public(uint256)
_slashes: HashMap[uint256, Slash]
_evidence: HashMap[bytes32, bool]
_verdict_nonce: HashMap[uint64, HashMap[uint64, bool]]
_taken_in_period: HashMap[uint64, HashMap[uint32, uint256]]
_taken: HashMap[uint64, DynArray[uint256, _SLASHES_KEPT]]  # of the last 90 days: at u64 << 64 | amount u64


@deploy
def __init__(
    token_: address,
    governance: address,
    pauser: address,
    veto_role: address,
    arbiters: DynArray[address, 8],
    arbiter_quorum_: uint8,
    verifiers: DynArray[Seat, 16],
    compliance: DynArray[Seat, 16],
    slashers: DynArray[Seat, 16],
    quorums: uint8[3],
    slashers_min_: uint8,
    delays_: Delays,
    governance_delay: uint256,
    jurisdictions_hash_: bytes32,
):
    """
    @param token_ The same 6-decimal stablecoin as escrow's.
    @param governance May schedule the changes listed at enact.
    @param pauser Stops request_slash and execute_slash, and suspends classes.
    @param veto_role May end a request before it is executed.
    @param arbiters Judge disputes; none of them on the slash panel.
    @param arbiter_quorum_ How many of them must uphold.
    @param verifiers Panel that attests benchmarks: (signer, organisation number from 1).
    @param compliance Panel that attests class attributes.
    @param slashers Panel that signs verdicts.
    @param quorums Signatures needed of verifiers, compliance, slashers; at least 2 each.
    @param slashers_min Organisations the slash panel must have, else slashing is off: 9 in production.
    @param delays_ Seconds: veto, lapse, appeal, unbonding, probation, validity_max, breach_age_max.
    @param governance_delay Seconds a scheduled change waits.
    @param jurisdictions_hash_ sha256 of the jurisdiction list that the indices refer to.
    """
    domain.__init__(keccak256("GroveExchange"))
    governed.__init__(governance, governance_delay)
    assert token_ != empty(address), "stake: token is missing"
    # A request about the oldest admissible breach must still fit into the unbonding time.
    assert delays_.breach_age_max + delays_.veto < delays_.unbonding, "stake: unbonding is too short"
    assert delays_.veto < delays_.lapse, "stake: lapse before veto ends"
    token = token_
    jurisdictions_hash = jurisdictions_hash_
    slashers_min = slashers_min_
    arbiter_quorum = arbiter_quorum_
    delays = delays_
    _deployer = msg.sender
    self.pauser = pauser
    self.veto_role = veto_role
    for seat: Seat in verifiers:
        self._seat(VERIFIERS, seat.holder, seat.organisation)
    for seat: Seat in compliance:
        self._seat(COMPLIANCE, seat.holder, seat.organisation)
    for seat: Seat in slashers:
        self._seat(SLASHERS, seat.holder, seat.organisation)
    for panel: uint8 in range(3):
        self._set_quorum(panel, quorums[panel])
    bit: uint256 = 1
    for arbiter: address in arbiters:
        assert self.seat_of[SLASHERS][arbiter] == 0, "stake: arbiter sits on the panel"
        assert self.arbiter_bit[arbiter] == 0, "stake: an arbiter is named twice"
        self.arbiter_bit[arbiter] = bit
        bit *= 2
    assert arbiter_quorum_ > 0 and convert(arbiter_quorum_, uint256) <= len(arbiters), "stake: too few arbiters"


@external
def bind_escrow(escrow: address):
    """
    @notice Name the escrow contract, once, by the deployer: the two contracts need each other's address.
    @param escrow An escrow that was built for this stake contract.
    """
    assert msg.sender == _deployer, "stake: only deployer may bind"
    assert self.escrow == empty(address), "stake: escrow is bound already"
    assert staticcall IEscrow(escrow).stake() == self, "stake: escrow of other stake"
    self.escrow = escrow


# ---- stake ----

@external
@nonreentrant
def stake(node_class: uint64, amount: uint64):
    """
    @notice Bond tokens of the caller to a class; anybody may pay, only the provider gets them back.
    @param node_class An attested class.
    @param amount Micro-units, approved to this contract before; what arrives counts.
    """
    assert self.provider_of[node_class] != empty(address), "stake: class is not attested"
    before: uint256 = staticcall IERC20(token).balanceOf(self)
    assert extcall IERC20(token).transferFrom(
        msg.sender, self, convert(amount, uint256), default_return_value=True
    ), "stake: token transfer failed"
    after: uint256 = staticcall IERC20(token).balanceOf(self)
    got: uint256 = after - before
    assert got > 0, "stake: nothing arrived"
    # No stake, and no sum of stakes, is larger than the balance (S1): fields cannot overflow.
    assert after <= _M64, "stake: balance exceeds fields"
    self._stake[node_class] += got
    log Staked(node_class=node_class, amount=convert(got, uint64))


@external
@nonreentrant
def unstake_request(node_class: uint64, amount: uint64):
    """
    @notice Start the unbonding of a part of the stake; it stays slashable until withdrawn (S6). The exposure cap
            falls to zero until the compliance panel attests a new one for the smaller stake. A second request
            restarts the clock for the whole unbonding part. Never pausable.
    @param node_class A class of the caller.
    @param amount Micro-units of bonded stake.
    """
    taken: uint256 = convert(amount, uint256)
    word: uint256 = self._stake[node_class]
    assert msg.sender == self.provider_of[node_class], "stake: only its provider may"
    assert taken > 0 and taken <= word & _M64, "stake: not that much is bonded"
    unbonding: uint256 = ((word >> 64) & _M64) + taken
    release_at: uint256 = block.timestamp + convert(delays.unbonding, uint256)
    self._stake[node_class] = (
        ((word & _M64) - taken) | (unbonding << 64) | (release_at << 128) | ((word >> 192) << 192)
    )
    self.class_info[node_class] = (self.class_info[node_class] & ~(_M64 << _EXPOSURE_CAP_AT)) | _UNBONDING
    log UnstakeRequested(node_class=node_class, amount=amount, release_at=convert(release_at, uint64))


@external
@nonreentrant
def unstake_withdraw(node_class: uint64):
    """
    @notice Take the unbonded stake out after the unbonding time, unless a slash request on the class is open.
            Never pausable.
    @param node_class A class of the caller.
    """
    word: uint256 = self._stake[node_class]
    amount: uint256 = (word >> 64) & _M64
    assert msg.sender == self.provider_of[node_class], "stake: only its provider may"
    assert amount > 0, "stake: nothing is unbonding"
    assert block.timestamp >= (word >> 128) & _M64, "stake: unbonding is not over"
    assert word >> 192 == 0, "stake: a slash request is open"
    self._stake[node_class] = word & _M64
    self.class_info[node_class] &= ~_UNBONDING
    log Unstaked(node_class=node_class, amount=convert(amount, uint64))
    assert extcall IERC20(token).transfer(
        msg.sender, amount, default_return_value=True
    ), "stake: token transfer failed"


# ---- attestations ----

@external
def attest_class(attestation: ClassAttestation, signatures: DynArray[domain.Signature, 9]):
    """
    @notice Register a class or renew what is vouched for about it. Anybody may bring the compliance panel's word.
    @param attestation Owner, places, tier, exposure cap and expiry of the class.
    @param signatures Of the compliance panel, strictly rising by signer.
    """
    node_class: uint64 = attestation.nodeClass
    known: address = self.provider_of[node_class]
    expires: uint256 = convert(attestation.expires, uint256)
    assert attestation.provider != empty(address), "stake: provider is missing"
    assert known == empty(address) or known == attestation.provider, "stake: class of other provider"
    assert attestation.nonce > self.class_nonce[node_class], "stake: attestation is outdated"
    assert expires > block.timestamp and expires <= _M40, "stake: attestation has expired"
    assert (
        max(max(attestation.site, attestation.parent), max(attestation.operator, attestation.keys)) < _JURISDICTIONS
    ), "stake: no such jurisdiction"
    assert attestation.tier <= _TIER_MAX, "stake: no such tier"
    digest: bytes32 = domain._digest(keccak256(abi_encode(_CLASS_TYPE, attestation)))
    self._check_quorum(COMPLIANCE, digest, attestation.provider, signatures)

    kept: uint256 = (_SUSPENDED | _UNBONDING | (_M40 << _PROVEN_UNTIL_AT) | (_M64 << _CHALLENGED_AT))
    word: uint256 = (
        (self.class_info[node_class] & kept)
        | convert(attestation.site, uint256)
        | (convert(attestation.parent, uint256) << 8)
        | (convert(attestation.operator, uint256) << 16)
        | (convert(attestation.keys, uint256) << 24)
        | (convert(attestation.tier, uint256) << 32)
        | (expires << _EXPIRES_AT)
        | (convert(attestation.exposureCap, uint256) << _EXPOSURE_CAP_AT)
    )
    self.provider_of[node_class] = attestation.provider
    self.class_nonce[node_class] = attestation.nonce
    self.class_info[node_class] = word
    log ClassAttested(
        node_class=node_class, provider=attestation.provider, word=word, nonce=attestation.nonce
    )


@external
def prove(attestation: BenchmarkAttestation, signatures: DynArray[domain.Signature, 9]):
    """
    @notice Record a benchmark: kind 1 (challenge) admits to PROBATION, kind 2 (baseline) makes PROVEN and opens or
            extends a proof interval. A baseline needs a challenge at least the probation time before. Anybody may
            bring the verifiers' word.
    @param attestation What was measured, for which spec, and until when it holds.
    @param signatures Of the verifier panel, strictly rising by signer.
    """
    assert convert(attestation.machineId, uint256) <= _M64, "stake: no such class"
    node_class: uint64 = convert(convert(attestation.machineId, uint256), uint64)
    provider: address = self.provider_of[node_class]
    word: uint256 = self.class_info[node_class]
    valid_until: uint256 = convert(attestation.validUntil, uint256)
    finished_at: uint256 = convert(attestation.finishedAt, uint256)
    challenged_at: uint256 = word >> _CHALLENGED_AT
    assert provider != empty(address), "stake: class is not attested"
    assert convert(attestation.providerId, uint256) == convert(provider, uint256), "stake: proof of other provider"
    assert attestation.kind == _CHALLENGE or attestation.kind == _BASELINE, "stake: unknown kind of benchmark"
    assert attestation.epoch > self.benchmark_epoch[node_class], "stake: benchmark is outdated"
    assert attestation.startedAt <= attestation.finishedAt, "stake: benchmark ends too early"
    assert finished_at <= block.timestamp, "stake: benchmark is not over"
    assert block.timestamp < valid_until, "stake: benchmark has expired"
    assert valid_until <= finished_at + convert(delays.validity_max, uint256), "stake: benchmark valid too long"
    if attestation.hwKeyHash != empty(bytes32):
        owner: uint64 = self.hardware_class[attestation.hwKeyHash]
        # Classes are numbered from 1 here, so that 0 can mean nobody.
        assert owner == 0 or owner == node_class, "stake: hardware of other class"
    if attestation.kind == _BASELINE:
        assert challenged_at != 0, "stake: baseline before challenge"
        assert block.timestamp >= challenged_at + convert(delays.probation, uint256), "stake: probation is not over"
    digest: bytes32 = domain._digest(keccak256(abi_encode(_BENCHMARK_TYPE, attestation)))
    self._check_quorum(VERIFIERS, digest, provider, signatures)

    self.benchmark_epoch[node_class] = attestation.epoch
    if attestation.hwKeyHash != empty(bytes32):
        self.hardware_class[attestation.hwKeyHash] = node_class
    if attestation.kind == _BASELINE:
        self._arm(node_class, attestation.paramsHash, valid_until)
        proven_until: uint256 = max((word >> _PROVEN_UNTIL_AT) & _M40, valid_until)
        self.class_info[node_class] = (word & ~(_M40 << _PROVEN_UNTIL_AT)) | (proven_until << _PROVEN_UNTIL_AT)
    elif challenged_at == 0:
        self.class_info[node_class] = word | (block.timestamp << _CHALLENGED_AT)
    log Proven(
        node_class=node_class,
        kind=attestation.kind,
        epoch=attestation.epoch,
        valid_until=attestation.validUntil,
        params_hash=attestation.paramsHash,
        transcript_hash=attestation.transcriptHash,
    )


@external
def suspend(node_class: uint64):
    """
    @notice Refuse new locks for a class; running leases, payouts and stake are not touched.
    @param node_class The class.
    """
    assert msg.sender == self.pauser, "stake: only pauser may suspend"
    self.class_info[node_class] |= _SUSPENDED
    log Suspended(node_class=node_class)


@external
def resume(node_class: uint64, nonce: uint64, expires: uint64, signatures: DynArray[domain.Signature, 9]):
    """
    @notice Allow locks for a suspended class again. Anybody may bring the compliance panel's word.
    @param node_class The class.
    @param nonce Above the class's last attestation or resumption.
    @param expires Last moment to bring it (unix seconds).
    @param signatures Of the compliance panel, strictly rising by signer.
    """
    assert block.timestamp <= convert(expires, uint256), "stake: resumption has expired"
    assert nonce > self.class_nonce[node_class], "stake: attestation is outdated"
    digest: bytes32 = domain._digest(keccak256(abi_encode(_RESUMPTION_TYPE, node_class, nonce, expires)))
    self._check_quorum(COMPLIANCE, digest, self.provider_of[node_class], signatures)
    self.class_nonce[node_class] = nonce
    self.class_info[node_class] &= ~_SUSPENDED
    log Resumed(node_class=node_class)


# ---- slashing ----

@external
@nonreentrant
def request_slash(
    verdict: verdicts.Verdict,
    lines: DynArray[uint256, 512],
    buyers: DynArray[address, 64],
    classes: DynArray[uint64, 64],
    signatures: DynArray[domain.Signature, 9],
) -> uint256:
    """
    @notice Bring the slash panel's verdict. Buyer, class, amount and lock time are taken from the lock batch, which
            is re-supplied and checked against its hash. Refused unless the class was proven at lock and breach (S2).
    @param verdict What was broken, when, and what it costs; signed for this contract.
    @param lines The lock batch's lines, as locked.
    @param buyers Buyer of each mandate of the batch, in order.
    @param classes The batch's classes, in order.
    @param signatures Of the slash panel, strictly rising by signer.
    @return Number of the request.
    """
    assert not self.paused, "stake: slashing is paused"
    line: IEscrow.Line = staticcall IEscrow(self.escrow).line_of(verdict.batch, verdict.line, buyers, classes, lines)
    node_class: uint64 = verdict.nodeClass
    breach_at: uint256 = convert(verdict.breachAt, uint256)
    assert block.timestamp <= convert(verdict.expires, uint256), "stake: verdict has expired"
    assert (verdict.kind >= 1 and verdict.kind <= _SEVERE) or verdict.kind == _FRAUD, "stake: unknown kind of breach"
    assert verdict.amount > 0, "stake: verdict takes nothing"
    assert breach_at <= block.timestamp, "stake: breach is in the future"
    assert block.timestamp <= breach_at + convert(delays.breach_age_max, uint256), "stake: breach is too old"
    assert not self._evidence[verdict.evidence], "stake: evidence was used"
    assert not self._verdict_nonce[node_class][verdict.nonce], "stake: verdict nonce was used"
    assert line.node_class == node_class, "stake: line is of another class"
    assert self._armed(node_class, line.locked_at, breach_at), "stake: not proven at lock and breach"
    digest: bytes32 = domain._digest(verdicts._hash(verdict))
    self._check_quorum(SLASHERS, digest, self.provider_of[node_class], signatures)

    self._evidence[verdict.evidence] = True
    self._verdict_nonce[node_class][verdict.nonce] = True
    self._stake[node_class] += 1 << 192
    self.slash_count += 1
    id: uint256 = self.slash_count
    self._slashes[id] = Slash(
        node_class=node_class,
        window=line.window,
        kind=verdict.kind,
        state=REQUESTED,
        amount=verdict.amount,
        line_amount=line.amount,
        buyer=line.buyer,
        evidence=verdict.evidence,
        requested_at=block.timestamp,
        disputed_at=0,
        upheld_at=0,
        votes=0,
    )
    log SlashRequested(
        id=id,
        node_class=node_class,
        buyer=line.buyer,
        amount=verdict.amount,
        kind=verdict.kind,
        evidence=verdict.evidence,
    )
    return id


@external
def dispute(id: uint256):
    """
    @notice Freeze a request within the veto delay; without the arbiters it then lapses.
    @param id A request on a class of the caller.
    """
    assert msg.sender == self.provider_of[self._slashes[id].node_class], "stake: only its provider may"
    assert self._slashes[id].state == REQUESTED, "stake: request not disputable"
    assert block.timestamp < self._slashes[id].requested_at + convert(
        delays.veto, uint256
    ), "stake: too late to dispute"
    self._slashes[id].state = DISPUTED
    self._slashes[id].disputed_at = block.timestamp
    log SlashDisputed(id=id)


@external
def uphold(id: uint256):
    """
    @notice An arbiter's word that a disputed request stands; with the quorum it can be executed.
    @param id A disputed request, within the appeal time.
    """
    bit: uint256 = self.arbiter_bit[msg.sender]
    assert bit != 0, "stake: only arbiters may uphold"
    assert self._slashes[id].state == DISPUTED, "stake: request is not disputed"
    assert block.timestamp <= self._slashes[id].disputed_at + convert(
        delays.appeal, uint256
    ), "stake: too late to uphold"
    assert self._slashes[id].votes & bit == 0, "stake: arbiter upheld already"
    votes: uint256 = self._slashes[id].votes | bit
    self._slashes[id].votes = votes
    if self._count_bits(votes) >= convert(arbiter_quorum, uint256):
        self._slashes[id].state = UPHELD
        self._slashes[id].upheld_at = block.timestamp
    log SlashUpheld(id=id, arbiter=msg.sender, votes=votes)


@external
def veto(id: uint256):
    """
    @notice End a request for good, at any time before it is executed.
    @param id A request that is not closed.
    """
    assert msg.sender == self.veto_role, "stake: only veto role may veto"
    self._close(id, VETOED)
    log SlashVetoed(id=id)


@external
def lapse(id: uint256):
    """
    @notice Close a request whose time has run out, so that stake is free again. Anybody may call.
    @param id A request that was neither executed nor vetoed in time.
    """
    assert block.timestamp > self._deadline(id), "stake: request has not lapsed"
    self._close(id, LAPSED)
    log SlashLapsed(id=id)


@external
@nonreentrant
def execute_slash(id: uint256):
    """
    @notice Take the stake: to the harmed buyer up to the lease's amount, the rest to the insurance pool; nothing to
            the caller. Cut down to the caps (S4). Anybody may call, after the veto delay and before the lapse.
    @param id A request that is not disputed, or was upheld.
    """
    slash: Slash = self._slashes[id]
    assert not self.paused, "stake: slashing is paused"
    assert self.seats[SLASHERS] >= slashers_min, "stake: slashing is off"
    assert slash.state == REQUESTED or slash.state == UPHELD, "stake: request not executable"
    assert block.timestamp >= slash.requested_at + convert(delays.veto, uint256), "stake: veto delay is not over"
    assert block.timestamp <= self._deadline(id), "stake: request has lapsed"
    amount: uint256 = min(convert(slash.amount, uint256), self._room(slash.node_class, slash.window, slash.kind))
    assert amount > 0, "stake: cap is used up"
    to_buyer: uint256 = min(amount, convert(slash.line_amount, uint256))
    to_pool: uint256 = amount - to_buyer

    self._close(id, EXECUTED)
    word: uint256 = self._stake[slash.node_class]
    from_bonded: uint256 = min(amount, word & _M64)
    self._stake[slash.node_class] = word - from_bonded - ((amount - from_bonded) << 64)
    self._remember(slash.node_class, slash.window, amount)
    if slash.kind == _FRAUD:
        # A false proof proves nothing from now on, and the class must pass everything anew.
        info: uint256 = self.class_info[slash.node_class]
        self.class_info[slash.node_class] = (info & ~(_M40 << _PROVEN_UNTIL_AT) & (2**192 - 1)) | _SUSPENDED
    log SlashExecuted(
        id=id,
        node_class=slash.node_class,
        buyer=slash.buyer,
        to_buyer=convert(to_buyer, uint64),
        to_pool=convert(to_pool, uint64),
        evidence=slash.evidence,
    )
    assert extcall IERC20(token).approve(self.escrow, amount, default_return_value=True), "stake: approval failed"
    extcall IEscrow(self.escrow).credit_slash(slash.buyer, convert(to_buyer, uint64), convert(to_pool, uint64))


# ---- brakes and changes ----

@external
def pause():
    """
    @notice Stop request_slash and execute_slash. Clocks run on, and stake can be withdrawn.
    """
    assert msg.sender == self.pauser, "stake: only pauser may pause"
    self.paused = True
    log Paused()


@external
def unpause():
    """
    @notice Allow slashing again.
    """
    assert msg.sender == self.pauser, "stake: only pauser may pause"
    self.paused = False
    log Unpaused()


@external
def enact(action: uint8, subject: address, figure: uint256):
    """
    @notice Make a scheduled change: 1 pauser, 2 veto role = subject; 10, 11, 12 seat subject as the signer of
            organisation `figure` among verifiers, compliance, slashers (figure 0 takes its seat away); 20, 21, 22
            their quorum = figure; 30 the organisation of provider `subject` = figure.
    @param action What to change.
    @param subject The address concerned, as scheduled.
    @param figure The number concerned, as scheduled.
    """
    governed._take(action, subject, figure)
    number: uint8 = convert(figure, uint8)
    if action == SET_PAUSER:
        self.pauser = subject
    elif action == SET_VETO_ROLE:
        self.veto_role = subject
    elif action >= SEAT_VERIFIER and action <= SEAT_SLASHER:
        self._seat(action - SEAT_VERIFIER, subject, number)
    elif action >= QUORUM_VERIFIERS and action <= QUORUM_SLASHERS:
        self._set_quorum(action - QUORUM_VERIFIERS, number)
    else:
        assert action == SET_PROVIDER_ORGANISATION, "stake: no such action"
        self.provider_organisation[subject] = number


# ---- views ----

@external
@view
def words(classes: DynArray[uint64, 64]) -> DynArray[uint256, 64]:
    """
    @notice The class words that lock reads; layout as `class_info`.
    @param classes Node classes; unknown ones have the word 0.
    """
    found: DynArray[uint256, 64] = []
    for node_class: uint64 in classes:
        found.append(self.class_info[node_class])
    return found


@external
@view
def state_of(node_class: uint64) -> uint8:
    """
    @notice 0 REGISTERED, 1 PROBATION, 2 PROVEN; computed from the clock.
    @param node_class The class.
    """
    word: uint256 = self.class_info[node_class]
    if (word >> _PROVEN_UNTIL_AT) & _M40 >= block.timestamp:
        return 2
    if word >> _CHALLENGED_AT != 0:
        return 1
    return 0


@external
@view
def stake_of(node_class: uint64) -> (uint64, uint64, uint64):
    """
    @notice (bonded, unbonding, release_at) of a class.
    @param node_class The class.
    """
    word: uint256 = self._stake[node_class]
    return (
        convert(word & _M64, uint64), convert((word >> 64) & _M64, uint64), convert((word >> 128) & _M64, uint64)
    )


@external
@view
def open_requests(node_class: uint64) -> uint256:
    """
    @notice How many slash requests keep the class's stake from being withdrawn.
    @param node_class The class.
    """
    return self._stake[node_class] >> 192


@external
@view
def intervals_of(node_class: uint64) -> (bytes32[4], uint256[4], uint256[4]):
    """
    @notice (spec, armed at, expires) of the last four proof intervals, in no order; armed at 0 means none.
    @param node_class The class.
    """
    armed_at: uint256[4] = empty(uint256[4])
    expires: uint256[4] = empty(uint256[4])
    for i: uint256 in range(4):
        armed_at[i] = self._spans[node_class][i] & _M64
        expires[i] = self._spans[node_class][i] >> 64
    return (self._specs[node_class], armed_at, expires)


@external
@view
def armed(node_class: uint64, locked_at: uint256, breach_at: uint256) -> bool:
    """
    @notice Whether one proof interval covers the lock and the breach: whether this lease is slashable.
    @param node_class The class.
    @param locked_at When the lease was locked (unix seconds).
    @param breach_at When it was broken (unix seconds).
    """
    return self._armed(node_class, locked_at, breach_at)


@external
@view
def slash_of(id: uint256) -> Slash:
    """
    @notice A slash request; state 1 requested, 2 disputed, 3 upheld, 4 vetoed, 5 executed, 6 lapsed, 0 none.
    @param id Number of the request, from 1.
    """
    return self._slashes[id]


@external
@view
def check_verdict(digest: bytes32, node_class: uint64, signatures: DynArray[domain.Signature, 9]) -> bool:
    """
    @notice Revert unless the slash panel signed the digest; escrow asks before it forfeits holdback.
    @param digest EIP-712 digest, of the caller's domain.
    @param node_class The class judged: its provider's own signature does not count.
    @param signatures Of the slash panel, strictly rising by signer.
    """
    self._check_quorum(SLASHERS, digest, self.provider_of[node_class], signatures)
    return True


# ---- internals ----

@internal
def _seat(panel: uint8, holder: address, organisation: uint8):
    assert holder != empty(address), "stake: signer is missing"
    held: uint8 = self.seat_of[panel][holder]
    if held != 0:
        self.seated[panel][held] = empty(address)
        self.seats[panel] -= 1
    if organisation != 0:
        assert self.seated[panel][organisation] == empty(address), "stake: organisation is seated"
        assert panel != SLASHERS or self.arbiter_bit[holder] == 0, "stake: arbiter sits on the panel"
        self.seated[panel][organisation] = holder
        self.seats[panel] += 1
    self.seat_of[panel][holder] = organisation


@internal
def _set_quorum(panel: uint8, number: uint8):
    # Two at least: one signer alone is no panel. Nine at most: that many signatures fit into a call.
    assert number >= 2 and number <= 9, "stake: quorum is not 2 to 9"
    self.quorum[panel] = number


@internal
@view
def _check_quorum(panel: uint8, digest: bytes32, provider: address, signatures: DynArray[domain.Signature, 9]):
    if panel == SLASHERS:
        assert self.seats[SLASHERS] >= slashers_min, "stake: slashing is off"
    assert len(signatures) >= convert(self.quorum[panel], uint256), "stake: too few signatures"
    own: uint8 = self.provider_organisation[provider]
    below: uint256 = 0
    for signature: domain.Signature in signatures:
        signer: address = domain._signer(digest, signature)
        organisation: uint8 = self.seat_of[panel][signer]
        assert convert(signer, uint256) > below, "stake: signers not rising"
        below = convert(signer, uint256)
        assert organisation != 0, "stake: signer has no seat"
        # Each organisation has one seat, so distinct signers are distinct organisations.
        assert organisation != own and signer != provider, "stake: provider's own signs"


@internal
def _arm(node_class: uint64, spec: bytes32, expires: uint256):
    count: uint256 = self.interval_count[node_class]
    if count != 0:
        newest: uint256 = (count - 1) % 4
        span: uint256 = self._spans[node_class][newest]
        if self._specs[node_class][newest] == spec and block.timestamp <= span >> 64:
            self._spans[node_class][newest] = (span & _M64) | (max(span >> 64, expires) << 64)
            return
    self._specs[node_class][count % 4] = spec
    self._spans[node_class][count % 4] = block.timestamp | (expires << 64)
    self.interval_count[node_class] = count + 1


@internal
@view
def _armed(node_class: uint64, locked_at: uint256, breach_at: uint256) -> bool:
    for i: uint256 in range(4):
        span: uint256 = self._spans[node_class][i]
        armed_at: uint256 = span & _M64
        if armed_at != 0 and armed_at <= locked_at and locked_at <= breach_at and breach_at <= span >> 64:
            return True
    return False


@internal
@view
def _deadline(id: uint256) -> uint256:
    # Last moment at which a request can move on: be executed, or while disputed be upheld.
    state: uint8 = self._slashes[id].state
    if state == DISPUTED:
        return self._slashes[id].disputed_at + convert(delays.appeal, uint256)
    if state == UPHELD:
        return self._slashes[id].upheld_at + convert(delays.lapse, uint256)
    return self._slashes[id].requested_at + convert(delays.lapse, uint256)


@internal
def _close(id: uint256, state: uint8):
    assert self._slashes[id].state >= REQUESTED and self._slashes[id].state <= UPHELD, "stake: request is closed"
    self._slashes[id].state = state
    self._stake[self._slashes[id].node_class] -= 1 << 192


@internal
@view
def _room(node_class: uint64, window: uint32, kind: uint8) -> uint256:
    word: uint256 = self._stake[node_class]
    stake: uint256 = (word & _M64) + ((word >> 64) & _M64)
    if kind == _FRAUD:
        return stake
    in_period: uint256 = self._taken_in_period[node_class][window]
    in_90_days: uint256 = 0
    for entry: uint256 in self._taken[node_class]:
        if (entry >> 64) + 90 * _DAY > block.timestamp:
            in_90_days += entry & _M64
    # Shares are of the stake before what was taken in the same span.
    period_cap: uint256 = (stake + in_period) // 4
    quarter_cap: uint256 = (stake + in_90_days) // 2
    if period_cap <= in_period or quarter_cap <= in_90_days:
        return 0
    return min(period_cap - in_period, quarter_cap - in_90_days)


@internal
def _remember(node_class: uint64, window: uint32, amount: uint256):
    self._taken_in_period[node_class][window] += amount
    kept: DynArray[uint256, _SLASHES_KEPT] = []
    for entry: uint256 in self._taken[node_class]:
        if (entry >> 64) + 90 * _DAY > block.timestamp:
            kept.append(entry)
    sum: uint256 = amount
    if len(kept) == _SLASHES_KEPT:
        # No room: the newest two count as one of today, so the cap can only become stricter.
        sum += kept.pop() & _M64
    kept.append((block.timestamp << 64) | sum)
    self._taken[node_class] = kept


@internal
@pure
def _count_bits(votes: uint256) -> uint256:
    count: uint256 = 0
    for i: uint256 in range(8):
        count += (votes >> i) & 1
    return count
