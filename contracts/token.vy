# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
"""
@title Token: a test stablecoin with 6 decimals and EIP-2612 permit
@license Apache-2.0
@notice For embedded and test chains only: whoever holds the minter key makes money. Never deployed where a real
        6-decimal stablecoin exists. Not audited.
@custom:invariants
    T1  the sum of all balances equals totalSupply.
    T2  a balance falls only by its owner's call, within an allowance its owner gave, or never.
    T3  a permit works once, for one spender, on one chain and one contract, before its deadline.
"""
from ethereum.ercs import IERC20
from modules import domain

implements: IERC20
initializes: domain

_PERMIT_TYPE: constant(bytes32) = keccak256(
    "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"
)

name: public(immutable(String[32]))
symbol: public(immutable(String[8]))
decimals: public(constant(uint8)) = 6
minter: public(immutable(address))
totalSupply: public(uint256)
balanceOf: public(HashMap[address, uint256])
allowance: public(HashMap[address, HashMap[address, uint256]])
nonces: public(HashMap[address, uint256])


@deploy
def __init__(name_: String[32], symbol_: String[8], minter_: address):
    """
    @param name_ Name of the token, and of its EIP-712 domain.
    @param symbol_ Ticker.
    @param minter_ The faucet: the only address that may mint.
    """
    domain.__init__(keccak256(name_))
    name = name_
    symbol = symbol_
    minter = minter_


@external
def transfer(to: address, amount: uint256) -> bool:
    """
    @notice Move the caller's tokens.
    @param to Who gets them; not the zero address.
    @param amount Micro-units, at most the caller's balance.
    """
    self._move(msg.sender, to, amount)
    return True


@external
def transferFrom(owner: address, to: address, amount: uint256) -> bool:
    """
    @notice Move an owner's tokens within the allowance it gave the caller; a maximal allowance never falls.
    @param owner Whose tokens move.
    @param to Who gets them; not the zero address.
    @param amount Micro-units, at most the allowance and the owner's balance.
    """
    allowed: uint256 = self.allowance[owner][msg.sender]
    assert allowed >= amount, "token: allowance is too small"
    if allowed != max_value(uint256):
        self._approve(owner, msg.sender, allowed - amount)
    self._move(owner, to, amount)
    return True


@external
def approve(spender: address, amount: uint256) -> bool:
    """
    @notice Let a spender move up to `amount` of the caller's tokens.
    @param spender Who may move them.
    @param amount Micro-units; replaces an earlier allowance.
    """
    self._approve(msg.sender, spender, amount)
    return True


@external
def permit(owner: address, spender: address, amount: uint256, deadline: uint256, v: uint8, r: bytes32, s: bytes32):
    """
    @notice Approve by the owner's signature instead of its transaction (EIP-2612).
    @param owner Who signed.
    @param spender Who may move the owner's tokens.
    @param amount Micro-units; replaces an earlier allowance.
    @param deadline Last moment to bring it (unix seconds).
    @param v Of the signature: 27 or 28.
    @param r Of the signature.
    @param s Of the signature; the lower of the two valid ones.
    """
    assert block.timestamp <= deadline, "token: permit has expired"
    nonce: uint256 = self.nonces[owner]
    digest: bytes32 = domain._digest(keccak256(abi_encode(_PERMIT_TYPE, owner, spender, amount, nonce, deadline)))
    assert domain._signer(digest, domain.Signature(v=v, r=r, s=s)) == owner, "token: permit is not the owner's"
    self.nonces[owner] = nonce + 1
    self._approve(owner, spender, amount)


@external
def mint(to: address, amount: uint256):
    """
    @notice Make tokens out of nothing; the faucet of a test chain.
    @param to Who gets them; not the zero address.
    @param amount Micro-units.
    """
    assert msg.sender == minter, "token: only the minter may mint"
    assert to != empty(address), "token: recipient is the zero address"
    self.totalSupply += amount
    self.balanceOf[to] += amount
    log IERC20.Transfer(sender=empty(address), receiver=to, value=amount)


@external
@view
def DOMAIN_SEPARATOR() -> bytes32:
    """
    @notice The EIP-712 domain separator that permits are signed for.
    """
    return domain._separator()


@internal
def _move(owner: address, to: address, amount: uint256):
    assert to != empty(address), "token: recipient is the zero address"
    # The owner's balance is read once. The recipient's is read after that was written, as it may be the same.
    balance: uint256 = self.balanceOf[owner]
    assert balance >= amount, "token: balance is too small"
    self.balanceOf[owner] = unsafe_sub(balance, amount)
    self.balanceOf[to] += amount
    log IERC20.Transfer(sender=owner, receiver=to, value=amount)


@internal
def _approve(owner: address, spender: address, amount: uint256):
    self.allowance[owner][spender] = amount
    log IERC20.Approval(owner=owner, spender=spender, value=amount)
