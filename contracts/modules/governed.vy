# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Governed: a change is announced, waits, and is then made by the same words
@license Apache-2.0
@notice Shared by escrow, stake and anchor. A contract decides in its own `enact` what an action number does; no
        action of any contract moves a balance. Not audited.
"""

event Scheduled:
    action: indexed(uint8)
    subject: indexed(address)
    figure: uint256
    due_at: uint256

event Enacted:
    action: indexed(uint8)
    subject: indexed(address)
    figure: uint256

event Cancelled:
    action: indexed(uint8)
    subject: indexed(address)
    figure: uint256

HAND_OVER: constant(uint8) = 0  # action: subject becomes governance, by its own call
_STALE_AFTER: constant(uint256) = 14 * 86400

governance: public(address)
governance_delay: public(immutable(uint256))
_due_at: HashMap[bytes32, uint256]


@deploy
def __init__(governance: address, delay: uint256):
    """
    @param governance Who may schedule, cancel and enact changes.
    @param delay Seconds between schedule and enact.
    """
    assert governance != empty(address), "governed: governance is missing"
    self.governance = governance
    governance_delay = delay


@external
def schedule(action: uint8, subject: address, figure: uint256):
    """
    @notice Announce a change. It can be enacted after the delay and goes stale 14 days later.
    @param action What to change; the numbers are listed at the contract's `enact`.
    @param subject The address concerned, or zero.
    @param figure The number concerned, or zero.
    """
    assert msg.sender == self.governance, "governed: only governance may"
    due_at: uint256 = block.timestamp + governance_delay
    self._due_at[self._key(action, subject, figure)] = due_at
    log Scheduled(action=action, subject=subject, figure=figure, due_at=due_at)


@external
def cancel(action: uint8, subject: address, figure: uint256):
    """
    @notice Take back an announced change.
    @param action As scheduled.
    @param subject As scheduled.
    @param figure As scheduled.
    """
    assert msg.sender == self.governance, "governed: only governance may"
    self._clear(action, subject, figure)
    log Cancelled(action=action, subject=subject, figure=figure)


@external
def accept_governance():
    """
    @notice Second step of a hand-over: the scheduled successor takes the role with its own key.
    """
    self._use(HAND_OVER, msg.sender, 0)
    self.governance = msg.sender
    log Enacted(action=HAND_OVER, subject=msg.sender, figure=0)


@internal
def _take(action: uint8, subject: address, figure: uint256):
    # Called first by each contract's `enact`.
    assert msg.sender == self.governance, "governed: only governance may"
    self._use(action, subject, figure)
    log Enacted(action=action, subject=subject, figure=figure)


@internal
def _use(action: uint8, subject: address, figure: uint256):
    due_at: uint256 = self._clear(action, subject, figure)
    assert block.timestamp >= due_at, "governed: delay is not over"
    assert block.timestamp <= due_at + _STALE_AFTER, "governed: the change went stale"


@internal
def _clear(action: uint8, subject: address, figure: uint256) -> uint256:
    key: bytes32 = self._key(action, subject, figure)
    due_at: uint256 = self._due_at[key]
    assert due_at != 0, "governed: not scheduled"
    self._due_at[key] = 0
    return due_at


@internal
@pure
def _key(action: uint8, subject: address, figure: uint256) -> bytes32:
    return keccak256(abi_encode(action, subject, figure))
