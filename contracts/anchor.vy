# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Anchor: roots of the books and hashes of clearing bundles, written once
@license Apache-2.0
@notice Lets anybody check later that the books and the published clearings were not rewritten. Not audited.
@custom:invariants
    A1  anchors are consecutive, each names its predecessor's root, and none is ever rewritten.
"""
from modules import governed

initializes: governed
exports: (
    governed.governance,
    governed.governance_delay,
    governed.schedule,
    governed.cancel,
    governed.accept_governance,
)

event Posted:
    epoch: indexed(uint64)
    root: bytes32
    prev_root: bytes32
    n: uint64
    totals_hash: bytes32

event Bundled:
    window: indexed(uint32)
    bundle_hash: bytes32

SET_POSTER: constant(uint8) = 1

poster: public(address)
last_epoch: public(uint64)
root_of: public(HashMap[uint64, bytes32])
bundle_of: public(HashMap[uint32, bytes32])


@deploy
def __init__(poster: address, governance: address, governance_delay: uint256):
    """
    @param poster The anchor key.
    @param governance Who may replace the anchor key.
    @param governance_delay Seconds such a change waits.
    """
    governed.__init__(governance, governance_delay)
    self.poster = poster


@external
def post(epoch: uint64, root: bytes32, prev_root: bytes32, n: uint64, totals_hash: bytes32):
    """
    @notice Anchor the root of one closed epoch of the books.
    @param epoch The last anchored epoch plus one; the first is 1.
    @param root Merkle root of the epoch's transfers; not zero.
    @param prev_root The root anchored before; zero for the first.
    @param n How many transfers the epoch holds.
    @param totals_hash Hash of the trial balance at the epoch's end.
    """
    assert msg.sender == self.poster, "anchor: only the anchor key may post"
    assert epoch == self.last_epoch + 1, "anchor: epoch does not follow the last one"
    assert prev_root == self.root_of[self.last_epoch], "anchor: previous root does not match"
    assert root != empty(bytes32), "anchor: root is empty"
    self.last_epoch = epoch
    self.root_of[epoch] = root
    log Posted(epoch=epoch, root=root, prev_root=prev_root, n=n, totals_hash=totals_hash)


@external
def bundle(window: uint32, bundle_hash: bytes32):
    """
    @notice Anchor the hash of a window's public clearing bundle, once.
    @param window The window's number.
    @param bundle_hash sha256 of the bundle's manifest; not zero.
    """
    assert msg.sender == self.poster, "anchor: only the anchor key may post"
    assert bundle_hash != empty(bytes32), "anchor: bundle hash is empty"
    assert self.bundle_of[window] == empty(bytes32), "anchor: window has its bundle already"
    self.bundle_of[window] = bundle_hash
    log Bundled(window=window, bundle_hash=bundle_hash)


@external
def enact(action: uint8, subject: address, figure: uint256):
    """
    @notice Make a scheduled change: 1 replaces the anchor key by `subject`.
    @param action What to change.
    @param subject The address concerned, as scheduled.
    @param figure The number concerned, as scheduled.
    """
    governed._take(action, subject, figure)
    assert action == SET_POSTER, "anchor: no such action"
    self.poster = subject
