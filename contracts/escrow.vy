# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize codesize
"""
@title Escrow: buyers' money, locked only within their mandates and paid only to the class it was locked for
@license Apache-2.0
@notice Amounts are uint64 micro-units of a 6-decimal stablecoin. No proxy, no upgrade, no function by which any key
        moves somebody else's money out. Not audited.
@custom:invariants
    E1   until wind_up: token balance of this contract >= free + committed + payable + holdback + fees + pool, and equal
         when nobody sends tokens unasked; afterwards each buyer's share of locked stands in for committed.
    E2   sum of locked over buyers == sum of committed over classes + claimed - covered, until wind_up.
    E3   no lock line outside its mandate: site, owner, operator, keys, tier, window, spend, expiry; nor outside its
         class attestation: end of the window, exposure cap, suspension.
    E4   settle takes epoch last + 1 only; a repeated or skipped epoch changes nothing. Each claim begins a generation of
         epochs, so that no settle signed before it pays for what was claimed.
    E5   per settle: debits == gross + covered, refunds == returned; per class line gross == payable + holdback + fee;
         a class is credited, by settle or by claim, out of its own committed money only.
    E6   free and payable balances are withdrawable in every state, paused or wound up.
    E7   a mandate or verdict is not replayable over nonce, window, chain or contract.
    E8   claims and refunds together never exceed what was locked and unsettled.
    E9   no packed field overflows into its neighbour.
    E10  what settle credits within one counted hour <= the limit.
"""
from ethereum.ercs import IERC20
from interfaces import IEscrow
from interfaces import IStake
from modules import domain
from modules import governed
from modules import verdict as verdicts

initializes: domain
initializes: governed
exports: (
    governed.governance,
    governed.governance_delay,
    governed.schedule,
    governed.cancel,
    governed.accept_governance,
)

interface IPermit:
    def permit(
        owner: address, spender: address, amount: uint256, deadline: uint256, v: uint8, r: bytes32, s: bytes32
    ): nonpayable

struct Mandate:
    buyer: address
    window: uint32
    maxSpend: uint64
    zoneMask: uint256
    minTier: uint8
    parentMask: uint256
    nonce: uint64
    expiry: uint64

struct SignedMandate:
    mandate: Mandate
    signature: domain.Signature

event Deposited:
    buyer: indexed(address)
    index: uint32
    amount: uint64

event Withdrawn:
    buyer: indexed(address)
    amount: uint64

event WindowOpened:
    window: indexed(uint32)
    ends_at: uint64

event Locked:
    batch: indexed(uint32)
    window: indexed(uint32)
    total: uint64
    lines_hash: bytes32  # the batch hash: commits to buyers, classes and lines

event Settled:
    epoch: indexed(uint64)
    debits: uint64
    refunds: uint64
    fees: uint64
    covered: uint64
    root: bytes32
    bundle_hash: bytes32

event PaidOut:
    node_class: indexed(uint64)
    payee: address
    amount: uint64

event HoldbackReleased:
    node_class: indexed(uint64)
    amount: uint64

event HoldbackForfeited:
    node_class: indexed(uint64)
    buyer: indexed(address)
    amount: uint64
    evidence: bytes32

event SlashCredited:
    buyer: indexed(address)
    to_buyer: uint64
    to_pool: uint64

event Claimed:
    node_class: indexed(uint64)
    gross: uint64
    fee: uint64
    held: uint64

event FeesWithdrawn:
    treasury: indexed(address)
    amount: uint64

event WoundUp:
    locked: uint64
    left: uint64  # what is returned of it: the rest was claimed

event Refunded:
    buyer: indexed(address)
    locked: uint64
    amount: uint64

event Paused: pass
event Unpaused: pass

_MANDATE_TYPE: constant(bytes32) = keccak256(
    "Mandate(address buyer,uint32 window,uint64 maxSpend,uint256 zoneMask,uint8 minTier,uint256 parentMask,uint64 nonce,uint64 expiry)"
)
_M64: constant(uint256) = 2**64 - 1
_M40: constant(uint256) = 2**40 - 1
_HELD: constant(uint256) = (2**64 - 1) << 64  # the holdback of a class line
_CARRIES: constant(uint256) = (1 << 128) | (1 << 192)  # set in a ^ b ^ (a + b) where a field ran into the next one
_BPS: constant(uint256) = 10_000
_FEE_BPS_MAX: constant(uint256) = 1_000
_HOUR: constant(uint256) = 3600
_METERED: constant(uint256) = 2**192 - 1  # the meter without its epoch
_GENERATION_AT: constant(uint256) = 224  # the upper half of the meter's epoch counts claims
_PROVEN: constant(uint8) = 2
# Positions of the fields in a class word of stake.vy
_SUSPENDED: constant(uint256) = 1 << 40
_EXPIRES_AT: constant(uint256) = 48
_PROVEN_UNTIL_AT: constant(uint256) = 88
_EXPOSURE_CAP_AT: constant(uint256) = 128

SET_OPERATOR: constant(uint8) = 1
SET_PAUSER: constant(uint8) = 2
SET_UNPROVEN_CAP: constant(uint8) = 3
SET_SETTLE_LIMIT: constant(uint8) = 4

token: public(immutable(address))
stake: public(immutable(address))
treasury: public(immutable(address))
fee_bps: public(immutable(uint16))
claim_silence: public(immutable(uint256))
silence: public(immutable(uint256))
holdback_delay: public(immutable(uint256))

operator: public(address)
pauser: public(address)
paused: public(bool)
claim_root: public(bytes32)  # of what each class was owed in total at the last settle
unproven_cap: public(uint64)
settle_limit: public(uint64)

buyer_count: public(uint32)
index_of: public(HashMap[address, uint32])
_held_since: HashMap[uint256, uint256]  # when the delay of release_holdback starts
_buyers: uint256  # free u64 | locked u64 << 64 | fees u64 << 128 | pool u64 << 192
_classes: uint256  # committed u64 | payable u64 << 64 | holdback u64 << 128 | claimed and not covered u64 << 192
_wound: uint256  # of locked money at wind_up: what is left u64 | all u64 << 64; 0 before
_meter: uint256  # hour started u64 | credited in it u64 << 64 | last sign of life u64 << 128 | last epoch u64 << 192
window_ends: public(HashMap[uint32, uint64])
batch_count: public(uint32)
batch_hash: public(HashMap[uint32, bytes32])
_batch: HashMap[uint32, uint256]  # locked at u64 | window u32 << 64 | total u64 << 96
_evidence: HashMap[bytes32, bool]
_verdict_nonce: HashMap[uint64, HashMap[uint64, bool]]
# Arrays by number, not mappings: a place in an array needs no hash. Last, because they leave whole ranges of slots.
_account: uint256[2**32]  # free u64 | locked u64 << 64 | spent u64 << 128 | nonce u64 << 192
_class: uint256[2**64 - 1]  # committed u64 | payable u64 << 64 | holdback u64 << 128 | credited u64 << 192


@deploy
def __init__(
    token_: address,
    stake_: address,
    operator: address,
    pauser: address,
    governance: address,
    treasury_: address,
    fee_bps_: uint16,
    unproven_cap: uint64,
    settle_limit: uint64,
    claim_silence_: uint256,
    silence_: uint256,
    holdback_delay_: uint256,
    governance_delay: uint256,
):
    """
    @param token_ A 6-decimal stablecoin.
    @param stake_ The stake contract, which knows the classes.
    @param operator The settle key: opens windows, locks, settles.
    @param pauser Stops lock, nothing else.
    @param governance May schedule the changes listed at enact.
    @param treasury_ Where platform fees may be withdrawn to, for ever.
    @param fee_bps_ Platform fee on a provider's gross, in basis points, at most 1000, for ever.
    @param unproven_cap Most that may be committed to an unproven class (micro-units).
    @param settle_limit Most that settle may credit in one hour (micro-units).
    @param claim_silence_ Seconds without settle, while money is locked, after which classes may claim.
    @param silence_ Seconds without settle, while money is locked, after which anybody may wind up.
    @param holdback_delay_ Seconds after the last window or settlement until an unproven class's holdback is released.
    @param governance_delay Seconds a scheduled change waits.
    """
    domain.__init__(keccak256("GroveExchange"))
    governed.__init__(governance, governance_delay)
    assert token_ != empty(address) and stake_ != empty(address), "escrow: a contract is missing"
    assert treasury_ != empty(address), "escrow: treasury is missing"
    assert convert(fee_bps_, uint256) <= _FEE_BPS_MAX, "escrow: fee is above its maximum"
    token = token_
    stake = stake_
    treasury = treasury_
    fee_bps = fee_bps_
    # Claims come first: nothing can be claimed once all was given back.
    assert claim_silence_ < silence_, "escrow: claims after wind-up"
    claim_silence = claim_silence_
    silence = silence_
    holdback_delay = holdback_delay_
    self.operator = operator
    self.pauser = pauser
    self.unproven_cap = unproven_cap
    self.settle_limit = settle_limit


# ---- buyers' money ----

@external
@nonreentrant
def deposit(buyer: address, amount: uint64):
    """
    @notice Pull tokens from the caller and credit the buyer with what arrived; anybody may pay for anybody.
    @param buyer Whose free balance rises; gets an account index at its first deposit.
    @param amount Tokens to pull (micro-units), approved to this contract before.
    """
    self._deposit(buyer, amount)


@external
@nonreentrant
def deposit_with_permit(buyer: address, amount: uint64, deadline: uint256, signature: domain.Signature):
    """
    @notice Deposit the caller's tokens with its EIP-2612 signature instead of an earlier approval.
    @param buyer Whose free balance rises.
    @param amount Tokens to pull and to permit (micro-units).
    @param deadline Until when the permit holds (unix seconds).
    @param signature The caller's permit for exactly `amount`.
    """
    # A permit that somebody else brought first has done its work: the allowance decides, not this call.
    ok: bool = raw_call(
        token,
        abi_encode(
            msg.sender,
            self,
            convert(amount, uint256),
            deadline,
            signature.v,
            signature.r,
            signature.s,
            method_id=method_id("permit(address,address,uint256,uint256,uint8,bytes32,bytes32)"),
        ),
        revert_on_failure=False,
    )
    self._deposit(buyer, amount)


@external
@nonreentrant
def withdraw(amount: uint64):
    """
    @notice Pay out the caller's free balance, in part or whole. Never pausable (E6).
    @param amount Micro-units, at most the caller's free balance.
    """
    index: uint256 = convert(self.index_of[msg.sender], uint256)
    taken: uint256 = convert(amount, uint256)
    account: uint256 = self._account[index]
    assert taken > 0, "escrow: nothing to withdraw"
    assert account & _M64 >= taken, "escrow: free is too small"
    self._account[index] = account - taken
    self._buyers -= taken
    log Withdrawn(buyer=msg.sender, amount=amount)
    self._pay(msg.sender, taken)


# ---- the operator's turn ----

@external
def open_window(window: uint32, ends_at: uint64):
    """
    @notice Fix once when a window ends: class attestations must reach that far.
    @param window The window's number.
    @param ends_at End of its last slot (unix seconds).
    """
    self._only_operator()
    self._need(self.window_ends[window] == 0, "escrow: window is open already")
    end: uint256 = convert(ends_at, uint256)
    self._need(block.timestamp < end and end <= _M40, "escrow: window ends in the past")
    self.window_ends[window] = ends_at
    log WindowOpened(window=window, ends_at=ends_at)


@external
@nonreentrant
def lock(
    window: uint32,
    mandates: DynArray[SignedMandate, 64],
    classes: DynArray[uint64, 64],
    lines: DynArray[uint256, 512],
):
    """
    @notice Lock buyers' money for awarded leases, whole or not at all; each line must be inside its mandate (E3).
    @param window An open window.
    @param mandates Signed by the buyers; several of one buyer with rising nonces are allowed.
    @param classes Node classes that the lines point to.
    @param lines mandate position u16 << 80 | class position u16 << 64 | amount u64, strictly rising by positions.
    """
    self._only_operator()
    assert not self.paused, "escrow: lock is paused"
    self._not_wound_up()
    ends_at: uint256 = convert(self.window_ends[window], uint256)
    assert block.timestamp < ends_at, "escrow: window is not open"
    words: DynArray[uint256, 64] = staticcall IStake(stake).words(classes)

    # What each class needs its mandate to allow: one bit for owner, operator and keys each.
    needs: uint256[64] = empty(uint256[64])
    for i: uint256 in range(len(classes), bound=64):
        word: uint256 = words[i]
        needs[i] = (1 << ((word >> 8) & 255)) | (1 << ((word >> 16) & 255)) | (1 << ((word >> 24) & 255))

    # Lines: each class must be where its mandate allows; amounts are summed per mandate and per class. At most 512
    # amounts of 64 bits are summed, so these additions cannot overflow.
    spends: uint256[64] = empty(uint256[64])
    loads: uint256[64] = empty(uint256[64])
    total: uint256 = 0
    next_place: uint256 = 0
    current: uint256 = max_value(uint256)
    zone: uint256 = 0
    banned: uint256 = 0
    tier: uint256 = 0
    for line: uint256 in lines:
        place: uint256 = line >> 64
        assert place >= next_place, "escrow: lines not rising"
        next_place = unsafe_add(place, 1)
        position: uint256 = place >> 16
        if position != current:
            assert position < len(mandates), "escrow: line beyond mandates"
            current = position
            zone = mandates[position].mandate.zoneMask
            banned = ~mandates[position].mandate.parentMask
            tier = convert(mandates[position].mandate.minTier, uint256)
        at: uint256 = place & 65535
        assert at < len(words), "escrow: line beyond classes"
        word: uint256 = words[at]
        assert (zone >> (word & 255)) & 1 == 1, "escrow: site outside mandate"
        if needs[at] & banned != 0:
            self._refuse_control(word, ~banned)
        assert (word >> 32) & 255 >= tier, "escrow: tier below mandate"
        amount: uint256 = line & _M64
        spends[position] = unsafe_add(spends[position], amount)
        loads[at] = unsafe_add(loads[at], amount)
        total = unsafe_add(total, amount)

    # Mandates: signed, current, within their spend and the buyer's free balance.
    buyers: DynArray[address, 64] = []
    for i: uint256 in range(len(mandates), bound=64):
        mandate: Mandate = mandates[i].mandate
        spend: uint256 = spends[i]
        assert mandate.window == window, "escrow: mandate of other window"
        assert block.timestamp < convert(mandate.expiry, uint256), "escrow: mandate has expired"
        digest: bytes32 = domain._digest(keccak256(abi_encode(_MANDATE_TYPE, mandate)))
        assert domain._signer(digest, mandates[i].signature) == mandate.buyer, "escrow: mandate not by its buyer"
        index: uint256 = convert(self.index_of[mandate.buyer], uint256)
        account: uint256 = self._account[index]
        nonce: uint256 = convert(mandate.nonce, uint256)
        spent: uint256 = (account >> 128) & _M64
        if nonce != account >> 192:
            assert nonce > account >> 192, "escrow: mandate is outdated"
            spent = 0
        spent = unsafe_add(spent, spend)
        assert spent <= convert(mandate.maxSpend, uint256), "escrow: spend exceeds mandate"
        assert spend <= account & _M64, "escrow: free is too small"
        locked: uint256 = unsafe_add((account >> 64) & _M64, spend)
        self._fits(locked)
        free: uint256 = unsafe_sub(account & _M64, spend)
        self._account[index] = free | (locked << 64) | (spent << 128) | (nonce << 192)
        buyers.append(mandate.buyer)

    # Classes: attested to the window's end, not suspended, within their exposure.
    unproven_cap: uint256 = convert(self.unproven_cap, uint256)
    for i: uint256 in range(len(classes), bound=64):
        word: uint256 = words[i]
        assert word & _SUSPENDED == 0, "escrow: class is suspended"
        assert (word >> _EXPIRES_AT) & _M40 >= ends_at, "escrow: class attested too short"
        cap: uint256 = (word >> _EXPOSURE_CAP_AT) & _M64
        if (word >> _PROVEN_UNTIL_AT) & _M40 < block.timestamp:
            assert (self._class[classes[i]] & _M64) + loads[i] <= unproven_cap, "escrow: unproven cap is exceeded"
            self._hold_since(convert(classes[i], uint256), ends_at)
        standing: uint256 = self._class[classes[i]]
        assert (standing & _M64) + loads[i] <= cap, "escrow: exposure cap is exceeded"
        self._class[classes[i]] = standing + loads[i]

    if (self._buyers >> 64) & _M64 == 0:
        self._see_life()  # from the first locked money on the operator owes a settle
    self._buyers = self._buyers - total + (total << 64)
    self._classes += total
    batch: uint32 = self.batch_count + 1
    lines_hash: bytes32 = keccak256(abi_encode(self.batch_hash[batch - 1], window, buyers, classes, lines))
    self.batch_count = batch
    self.batch_hash[batch] = lines_hash
    self._batch[batch] = block.timestamp | (convert(window, uint256) << 64) | (total << 96)
    log Locked(batch=batch, window=window, total=convert(total, uint64), lines_hash=lines_hash)


@external
@nonreentrant
def settle(
    epoch: uint64,
    buyer_lines: DynArray[uint256, 64],
    class_lines: DynArray[uint256, 512],
    covered: uint64,
    root: bytes32,
    bundle_hash: bytes32,
):
    """
    @notice Net one epoch: take delivered money from the buyers' locks, credit it to the classes it was locked for,
            return the rest. Empty lists are a sign of life.
    @param epoch The last settled epoch plus one: claims made since ever << 32 | place, from 1.
    @param buyer_lines index u32 << 128 | debit u64 << 64 | refund u64, strictly rising by index.
    @param class_lines class u64 << 192 | gross u64 << 128 | holdback u64 << 64 | returned u64, strictly rising.
    @param covered Part of the debits that pays for what classes have claimed meanwhile (micro-units).
    @param root Root of what each class is owed in total, gross and since ever: what claim is proven against. It stands
           in for the last one also when no line is settled.
    @param bundle_hash Hash of the evidence behind the lines.
    """
    self._only_operator()
    self._not_wound_up()
    assert convert(epoch, uint256) == (self._meter >> 192) + 1, "escrow: epoch is not the next"

    # Sums of at most 512 fields of 64 bits do not overflow 256, and a word is changed only after its fields were
    # compared: arithmetic without the compiler's checks is about 100 gas per lease cheaper here.
    debits: uint256 = 0
    refunds: uint256 = 0
    above: uint256 = 0
    for line: uint256 in buyer_lines:
        index: uint256 = line >> 128
        assert index > above, "escrow: buyer lines not rising"
        above = index
        refund: uint256 = line & _M64
        account: uint256 = self._account[index]
        taken: uint256 = unsafe_add((line >> 64) & _M64, refund)
        assert taken <= (account >> 64) & _M64, "escrow: locked is too small"
        self._fits(unsafe_add(account & _M64, refund))
        self._account[index] = unsafe_sub(unsafe_add(account, refund), taken << 64)
        debits = unsafe_add(debits, taken)
        refunds = unsafe_add(refunds, refund)
    debits = unsafe_sub(debits, refunds)

    # Each line takes no more than is committed to its class and lines name different classes, so their fields sum up to
    # no more than all committed money: one addition of whole words sums all three. A difference that fell below zero
    # and a sum beyond its field both show above bit 63, so one comparison stands for five; which one it was is asked
    # only then. An addition that ran into the next field shows in a ^ b ^ (a + b).
    sums: uint256 = 0
    paid_sum: uint256 = 0
    bps: uint256 = convert(fee_bps, uint256)
    next_class: uint256 = 0
    for line: uint256 in class_lines:
        node_class: uint256 = line >> 192
        gross: uint256 = (line >> 128) & _M64
        paid: uint256 = unsafe_sub(unsafe_sub(gross, (line >> 64) & _M64), unsafe_div(unsafe_mul(gross, bps), _BPS))
        standing: uint256 = self._class[node_class]
        # The line shifted by a field has gross and holdback where they belong; what was paid takes returned's place.
        added: uint256 = unsafe_sub(unsafe_add(line, paid), line & _M64) << 64
        raised: uint256 = unsafe_sub(unsafe_sub(unsafe_add(standing, added), gross), line & _M64)
        if (
            unsafe_sub(node_class, next_class)
            | paid
            | unsafe_sub(unsafe_sub(standing & _M64, gross), line & _M64)
            | unsafe_add(standing >> 192, gross)
            | ((standing ^ added ^ raised) & _CARRIES)
        ) > _M64:
            self._refuse_class_line(line, next_class, paid, standing)
        self._class[node_class] = raised
        next_class = unsafe_add(node_class, 1)
        sums = unsafe_add(sums, line)
        paid_sum = unsafe_add(paid_sum, paid)
        if line & _HELD != 0:
            self._hold_since(node_class, block.timestamp)
    gross_sum: uint256 = (sums >> 128) & _M64
    held_sum: uint256 = (sums >> 64) & _M64
    returned_sum: uint256 = sums & _M64
    fee_sum: uint256 = unsafe_sub(unsafe_sub(gross_sum, held_sum), paid_sum)
    uncovered: uint256 = self._classes >> 192
    paid_back: uint256 = convert(covered, uint256)
    assert paid_back <= uncovered, "escrow: covers more than claimed"
    assert debits == gross_sum + paid_back, "escrow: debits not as gross"
    assert refunds == returned_sum, "escrow: refunds not as returned"

    self._count_hour(convert(epoch, uint256), gross_sum)
    self._buyers = self._buyers + refunds - ((debits + refunds) << 64) + (fee_sum << 128)
    self._classes = (
        self._classes
        - gross_sum
        - returned_sum
        + (paid_sum << 64)
        + (held_sum << 128)
        - (paid_back << 192)
    )
    self.claim_root = root
    log Settled(
        epoch=epoch,
        debits=convert(debits, uint64),
        refunds=convert(refunds, uint64),
        fees=convert(fee_sum, uint64),
        covered=covered,
        root=root,
        bundle_hash=bundle_hash,
    )


# ---- providers' money ----

@external
@nonreentrant
def withdraw_for(node_class: uint64):
    """
    @notice Pay a class's payable money to its provider. Anybody may call; never pausable (E6).
    @param node_class The class whose payable money is paid out, whole.
    """
    standing: uint256 = self._class[node_class]
    amount: uint256 = (standing >> 64) & _M64
    payee: address = staticcall IStake(stake).provider_of(node_class)
    assert amount > 0, "escrow: nothing is payable"
    self._class[node_class] = standing - (amount << 64)
    self._classes -= amount << 64
    log PaidOut(node_class=node_class, payee=payee, amount=convert(amount, uint64))
    self._pay(payee, amount)


@external
@nonreentrant
def release_holdback(node_class: uint64):
    """
    @notice Make a class's holdback payable: once it is PROVEN, or when the delay after its last window and last
            settlement has passed. Anybody may call.
    @param node_class The class.
    """
    standing: uint256 = self._class[node_class]
    amount: uint256 = (standing >> 128) & _M64
    self._need(amount > 0, "escrow: nothing is held back")
    if block.timestamp < self._held_since[convert(node_class, uint256)] + holdback_delay:
        self._need(staticcall IStake(stake).state_of(node_class) == _PROVEN, "escrow: holdback is not due yet")
    self._fits(((standing >> 64) & _M64) + amount)
    self._class[node_class] = standing - (amount << 128) + (amount << 64)
    self._classes = self._classes - (amount << 128) + (amount << 64)
    log HoldbackReleased(node_class=node_class, amount=convert(amount, uint64))


@external
@nonreentrant
def forfeit_holdback(
    verdict: verdicts.Verdict,
    lines: DynArray[uint256, 512],
    buyers: DynArray[address, 64],
    classes: DynArray[uint64, 64],
    signatures: DynArray[domain.Signature, 9],
):
    """
    @notice Give holdback to the buyer that a breach by an unproven class harmed (where stake cannot be slashed).
            Anybody may bring the slash panel's verdict, signed for this contract.
    @param verdict What was broken; amount at most the lease line's and at most the holdback.
    @param lines The lock batch's lines, as locked.
    @param buyers Buyer of each mandate of the batch, in order.
    @param classes The batch's classes, in order.
    @param signatures Of the slash panel, strictly rising by signer.
    """
    line: IEscrow.Line = self._line(verdict.batch, verdict.line, buyers, classes, lines)
    amount: uint256 = convert(verdict.amount, uint256)
    breach_at: uint256 = convert(verdict.breachAt, uint256)
    self._need(block.timestamp <= convert(verdict.expires, uint256), "escrow: verdict has expired")
    self._need(not self._evidence[verdict.evidence], "escrow: evidence was used")
    self._need(not self._verdict_nonce[verdict.nodeClass][verdict.nonce], "escrow: verdict nonce was used")
    self._need(line.node_class == verdict.nodeClass, "escrow: line is of another class")
    self._need(line.locked_at <= breach_at and breach_at <= block.timestamp, "escrow: breach outside lease")
    self._need(amount > 0 and verdict.amount <= line.amount, "escrow: verdict exceeds lease")
    standing: uint256 = self._class[verdict.nodeClass]
    self._need(amount <= (standing >> 128) & _M64, "escrow: holdback is too small")
    is_armed: bool = staticcall IStake(stake).armed(verdict.nodeClass, line.locked_at, breach_at)
    self._need(not is_armed, "escrow: proven, slash the stake")
    digest: bytes32 = domain._digest(verdicts._hash(verdict))
    assert staticcall IStake(stake).check_verdict(digest, verdict.nodeClass, signatures)

    self._evidence[verdict.evidence] = True
    self._verdict_nonce[verdict.nodeClass][verdict.nonce] = True
    self._class[verdict.nodeClass] = standing - (amount << 128)
    self._classes -= amount << 128
    self._credit(line.buyer, amount)
    log HoldbackForfeited(
        node_class=verdict.nodeClass, buyer=line.buyer, amount=verdict.amount, evidence=verdict.evidence
    )


@external
@nonreentrant
def credit_slash(buyer: address, to_buyer: uint64, to_pool: uint64):
    """
    @notice Take slashed stake: the buyer's part to its free balance, the rest to the insurance pool.
    @param buyer The harmed buyer.
    @param to_buyer Micro-units for the buyer.
    @param to_pool Micro-units for the pool.
    """
    assert msg.sender == stake, "escrow: only stake may credit"
    total: uint256 = convert(to_buyer, uint256) + convert(to_pool, uint256)
    assert self._pull(total) == total, "escrow: slash did not arrive"
    self._credit(buyer, convert(to_buyer, uint256))
    self._fits((self._buyers >> 192) + convert(to_pool, uint256))
    self._buyers += convert(to_pool, uint256) << 192
    log SlashCredited(buyer=buyer, to_buyer=to_buyer, to_pool=to_pool)


@external
@nonreentrant
def withdraw_fees():
    """
    @notice Pay the platform fees to the treasury. Anybody may call.
    """
    amount: uint256 = (self._buyers >> 128) & _M64
    self._need(amount > 0, "escrow: no fees to withdraw")
    self._buyers -= amount << 128
    log FeesWithdrawn(treasury=treasury, amount=convert(amount, uint64))
    self._pay(treasury, amount)


# ---- when the operator falls silent ----

@external
@nonreentrant
def claim(node_class: uint64, cumulative: uint64, index: uint256, n: uint256, proof: DynArray[bytes32, 32]):
    """
    @notice Credit a class with what the operator's last root says it is owed beyond what was credited, when the
            operator has not settled for the claim silence while money is locked. Out of the class's own committed
            money, less the fee; held back as long as the class is not PROVEN. Anybody may call; never pausable.
            withdraw_for then pays it out.
    @param node_class The class.
    @param cumulative Gross owed to the class since ever, as in the root (micro-units).
    @param index Place of the class's leaf in the tree, from 0.
    @param n Leaves of the tree.
    @param proof Sisters of the leaf from below; a level at which it has none is left out.
    """
    self._not_wound_up()
    self._silent_for(claim_silence)
    # Positional tree as the books' epochs: a node without a sister goes up as it is. The first byte tells a leaf from
    # a node, so that no path from something else than a leaf can end in the root.
    node: bytes32 = keccak256(
        concat(
            x"0001",
            convert(chain.id, bytes32),
            convert(self, bytes20),
            convert(node_class, bytes8),
            convert(cumulative, bytes8),
        )
    )
    place: uint256 = index
    width: uint256 = n
    used: uint256 = 0
    for level: uint256 in range(64):
        if width <= 1:
            break
        if place ^ 1 < width:
            sister: bytes32 = proof[used]
            used = unsafe_add(used, 1)
            if place & 1 == 1:
                node = keccak256(concat(x"01", sister, node))
            else:
                node = keccak256(concat(x"01", node, sister))
        place >>= 1
        width = unsafe_add(width, 1) >> 1
    self._need(node == self.claim_root and used == len(proof), "escrow: proof does not fit")

    standing: uint256 = self._class[node_class]
    owed: uint256 = convert(cumulative, uint256)
    self._need(owed > standing >> 192, "escrow: nothing to claim")
    gross: uint256 = min(owed - (standing >> 192), standing & _M64)
    self._need(gross > 0, "escrow: nothing is committed")
    fee: uint256 = gross * convert(fee_bps, uint256) // _BPS
    paid: uint256 = gross - fee
    held: uint256 = 0
    if staticcall IStake(stake).state_of(node_class) != _PROVEN:
        held = paid
        paid = 0
        self._hold_since(convert(node_class, uint256), block.timestamp)
    # Credited stays below what is owed; no other field can hold more than the balance of tokens (E1, E9).
    added: uint256 = (paid << 64) + (held << 128) + (gross << 192) - gross
    self._class[node_class] = standing + added
    self._buyers += fee << 128
    self._classes += added
    # A settle that is signed already knows nothing of this and would pay the class once more: its epoch is over now.
    meter: uint256 = self._meter
    self._meter = (meter & _METERED) | (unsafe_add(meter >> _GENERATION_AT, 1) << _GENERATION_AT)
    log Claimed(
        node_class=node_class, gross=convert(gross, uint64), fee=convert(fee, uint64), held=convert(held, uint64)
    )


@external
@nonreentrant
def wind_up():
    """
    @notice Close lock, settle and claim for good when money is locked and the operator has not settled for the
            silence. Anybody may call.
    """
    self._not_wound_up()
    self._silent_for(silence)
    locked: uint256 = (self._buyers >> 64) & _M64
    left: uint256 = locked - (self._classes >> 192)
    self._wound = left | (locked << 64)
    log WoundUp(locked=convert(locked, uint64), left=convert(left, uint64))


@external
@nonreentrant
def refund(buyer: address):
    """
    @notice After wind_up, return a buyer's share of what was locked and not claimed to its free balance: pro rata,
            rounded down. Anybody may call.
    @param buyer The buyer.
    """
    self._need(self._wound != 0, "escrow: not wound up")
    index: uint256 = convert(self.index_of[buyer], uint256)
    account: uint256 = self._account[index]
    locked: uint256 = (account >> 64) & _M64
    self._need(locked > 0, "escrow: buyer has nothing locked")
    amount: uint256 = locked * (self._wound & _M64) // (self._wound >> 64)
    self._fits((account & _M64) + amount)
    self._account[index] = account - (locked << 64) + amount
    self._buyers = self._buyers - (locked << 64) + amount
    log Refunded(buyer=buyer, locked=convert(locked, uint64), amount=convert(amount, uint64))


# ---- brakes and changes ----

@external
def pause():
    """
    @notice Stop lock. Settlement, withdrawals and refunds go on.
    """
    self._pause(True)
    log Paused()


@external
def unpause():
    """
    @notice Allow lock again.
    """
    self._pause(False)
    log Unpaused()


@external
def enact(action: uint8, subject: address, figure: uint256):
    """
    @notice Make a scheduled change: 1 operator = subject, 2 pauser = subject, 3 unproven cap = figure,
            4 hourly settle limit = figure.
    @param action What to change.
    @param subject The address concerned, as scheduled.
    @param figure The number concerned, as scheduled.
    """
    governed._take(action, subject, figure)
    self._need(action >= SET_OPERATOR and action <= SET_SETTLE_LIMIT, "escrow: no such action")
    if action == SET_OPERATOR:
        self.operator = subject
    elif action == SET_PAUSER:
        self.pauser = subject
    elif action == SET_UNPROVEN_CAP:
        self.unproven_cap = convert(figure, uint64)
    else:
        self.settle_limit = convert(figure, uint64)


# ---- views ----

@external
@view
def account_of(buyer: address) -> (uint32, uint64, uint64, uint64, uint64):
    """
    @notice (index, free, locked, spent under the current nonce, nonce) of a buyer; index 0 means no account.
    @param buyer The buyer.
    """
    index: uint32 = self.index_of[buyer]
    account: uint256 = self._account[convert(index, uint256)]
    return (
        index,
        self._field(account, 0),
        self._field(account, 64),
        self._field(account, 128),
        self._field(account, 192),
    )


@external
@view
def class_of(node_class: uint64) -> (uint64, uint64, uint64, uint64):
    """
    @notice (committed, payable, holdback, gross credited since ever) of a class.
    @param node_class The class.
    """
    standing: uint256 = self._class[node_class]
    return (
        self._field(standing, 0), self._field(standing, 64), self._field(standing, 128), self._field(standing, 192)
    )


@external
@view
def totals() -> (uint64, uint64, uint64, uint64, uint64, uint64, uint64, uint64):
    """
    @notice (free, locked, committed, payable, holdback, fees, pool, claimed and not covered) over everybody: the
            terms of E1 and E2.
    """
    return (
        self._field(self._buyers, 0),
        self._field(self._buyers, 64),
        self._field(self._classes, 0),
        self._field(self._classes, 64),
        self._field(self._classes, 128),
        self._field(self._buyers, 128),
        self._field(self._buyers, 192),
        self._field(self._classes, 192),
    )


@external
@view
def wound_up() -> bool:
    """
    @notice Whether lock, settle and claim are closed for good.
    """
    return self._wound != 0


@external
@view
def last_epoch() -> uint64:
    """
    @notice What the next epoch follows: the last settled one, or, after a claim, claims made << 32; 0 before the first.
    """
    return self._field(self._meter, 192)


@external
@view
def last_seen_at() -> uint64:
    """
    @notice When the operator last settled, or money was first locked after none was (unix seconds).
    """
    return self._field(self._meter, 128)


@external
@view
def held_since(node_class: uint64) -> uint256:
    """
    @notice From when the holdback delay of a class counts (unix seconds).
    @param node_class The class.
    """
    return self._held_since[convert(node_class, uint256)]


@external
@view
def batch_info(batch: uint32) -> (uint64, uint32, uint64):
    """
    @notice (locked_at, window, total) of a lock batch; all 0 if there is none.
    @param batch Number of the lock batch, from 1.
    """
    word: uint256 = self._batch[batch]
    return (self._field(word, 0), convert((word >> 64) & (2**32 - 1), uint32), self._field(word, 96))


@external
@view
def line_of(
    batch: uint32,
    line: uint16,
    buyers: DynArray[address, 64],
    classes: DynArray[uint64, 64],
    lines: DynArray[uint256, 512],
) -> IEscrow.Line:
    """
    @notice What a line of a lock batch says, checked against the batch's hash.
    @param batch Number of the lock batch, from 1.
    @param line Position in its lines, from 0.
    @param buyers Buyer of each mandate of the batch, in order.
    @param classes The batch's classes, in order.
    @param lines The batch's lines, as locked.
    @return Buyer, class, amount, window and time of the lock.
    """
    return self._line(batch, line, buyers, classes, lines)


# ---- internals ----

@internal
def _pause(on: bool):
    assert msg.sender == self.pauser, "escrow: only pauser may pause"
    self.paused = on


@internal
def _deposit(buyer: address, amount: uint64):
    assert buyer != empty(address), "escrow: buyer is missing"
    got: uint256 = self._pull(convert(amount, uint256))
    assert got > 0, "escrow: nothing arrived"
    if self.index_of[buyer] == 0:
        self.buyer_count += 1
        self.index_of[buyer] = self.buyer_count
    self._credit(buyer, got)
    log Deposited(buyer=buyer, index=self.index_of[buyer], amount=convert(got, uint64))


@internal
def _pull(amount: uint256) -> uint256:
    # What arrived counts, not what was asked for: a fee-taking token cannot break E1.
    before: uint256 = staticcall IERC20(token).balanceOf(self)
    assert extcall IERC20(token).transferFrom(
        msg.sender, self, amount, default_return_value=True
    ), "escrow: token transfer failed"
    after: uint256 = staticcall IERC20(token).balanceOf(self)
    # By E1 no field, and no sum of fields, can be larger than the balance (E9).
    assert after <= _M64, "escrow: balance exceeds fields"
    return after - before


@internal
def _pay(to: address, amount: uint256):
    assert extcall IERC20(token).transfer(to, amount, default_return_value=True), "escrow: token transfer failed"


@internal
def _credit(buyer: address, amount: uint256):
    index: uint256 = convert(self.index_of[buyer], uint256)
    account: uint256 = self._account[index]
    self._fits((account & _M64) + amount)
    self._account[index] = account + amount
    self._buyers += amount


@internal
@pure
def _need(holds: bool, sentence: String[40]):
    # One place that words a refusal: each `assert` with a sentence is 60 bytes longer, and code is at its limit.
    assert holds, sentence


@internal
@pure
def _fits(amount: uint256):
    assert amount <= _M64, "escrow: field overflows"


@internal
@pure
def _field(word: uint256, low_bit: uint256) -> uint64:
    return convert((word >> low_bit) & _M64, uint64)


@internal
@view
def _only_operator():
    assert msg.sender == self.operator, "escrow: only operator may"


@internal
@view
def _not_wound_up():
    assert self._wound == 0, "escrow: wound up"


@internal
@view
def _silent_for(span: uint256):
    self._need((self._buyers >> 64) & _M64 > 0, "escrow: nothing is locked")
    self._need(block.timestamp >= ((self._meter >> 128) & _M64) + span, "escrow: operator is not silent")


@internal
@pure
def _refuse_class_line(line: uint256, next_class: uint256, paid: uint256, standing: uint256):
    assert line >> 192 >= next_class, "escrow: class lines not rising"
    assert paid <= _M64, "escrow: holdback exceeds gross"
    assert ((line >> 128) & _M64) + (line & _M64) <= standing & _M64, "escrow: committed is too small"
    raise "escrow: field overflows"


@internal
def _hold_since(node_class: uint256, at: uint256):
    if at > self._held_since[node_class]:
        self._held_since[node_class] = at


@internal
@pure
def _refuse_control(word: uint256, control: uint256):
    assert (control >> ((word >> 8) & 255)) & 1 == 1, "escrow: owner outside mandate"
    assert (control >> ((word >> 16) & 255)) & 1 == 1, "escrow: operator outside mandate"
    raise "escrow: keys outside mandate"


@internal
def _see_life():
    meter: uint256 = self._meter
    self._meter = (meter & ~(_M64 << 128)) | (block.timestamp << 128)


@internal
def _count_hour(epoch: uint256, credited: uint256):
    meter: uint256 = self._meter
    started_at: uint256 = meter & _M64
    sum: uint256 = credited
    if block.timestamp < started_at + _HOUR:
        sum += (meter >> 64) & _M64
    else:
        started_at = block.timestamp
    assert sum <= convert(self.settle_limit, uint256), "escrow: hourly limit exceeded"
    self._meter = started_at | (sum << 64) | (block.timestamp << 128) | (epoch << 192)


@internal
@view
def _line(
    batch: uint32,
    line: uint16,
    buyers: DynArray[address, 64],
    classes: DynArray[uint64, 64],
    lines: DynArray[uint256, 512],
) -> IEscrow.Line:
    info: uint256 = self._batch[batch]
    self._need(info != 0, "escrow: no such batch")
    window: uint32 = convert((info >> 64) & (2**32 - 1), uint32)
    self._need(self.batch_hash[batch] == keccak256(
        abi_encode(self.batch_hash[batch - 1], window, buyers, classes, lines)
    ), "escrow: batch hash differs")
    self._need(convert(line, uint256) < len(lines), "escrow: no such line")
    word: uint256 = lines[line]
    return IEscrow.Line(
        buyer=buyers[word >> 80],
        node_class=classes[(word >> 64) & 65535],
        amount=convert(word & _M64, uint64),
        window=window,
        locked_at=info & _M64,
    )
