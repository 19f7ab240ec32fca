# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Domain: what is signed for one contract on one chain, and by whom
@license Apache-2.0
@notice EIP-712 digests and strict signature recovery, shared by token, escrow and stake. Not audited.
@custom:invariants
    E7, S7  a digest binds the chain and the verifying contract; a malleable or void signature is refused.
"""

struct Signature:
    v: uint8
    r: bytes32
    s: bytes32

_DOMAIN_TYPE: constant(bytes32) = keccak256(
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
_VERSION: constant(bytes32) = keccak256("1")
# Half of the order of secp256k1: of the two valid s the lower one is accepted.
_S_MAX: constant(uint256) = 57896044618658097711785492504343953926418782139537452191302581570759080747168

_name_hash: immutable(bytes32)
_built_on: immutable(uint256)
_built: immutable(bytes32)


@deploy
def __init__(name_hash: bytes32):
    """
    @param name_hash keccak256 of the domain's name.
    """
    _name_hash = name_hash
    _built_on = chain.id
    _built = keccak256(abi_encode(_DOMAIN_TYPE, name_hash, _VERSION, chain.id, self))


@internal
@view
def _separator() -> bytes32:
    # A fork that changes its chain id must not accept what was signed for the other branch.
    if chain.id == _built_on:
        return _built
    return keccak256(abi_encode(_DOMAIN_TYPE, _name_hash, _VERSION, chain.id, self))


@internal
@view
def _digest(struct_hash: bytes32) -> bytes32:
    return keccak256(concat(x"1901", self._separator(), struct_hash))


@internal
@pure
def _signer(digest: bytes32, signature: Signature) -> address:
    assert signature.v == 27 or signature.v == 28, "domain: signature v is wrong"
    assert convert(signature.s, uint256) <= _S_MAX, "domain: signature has a high s"
    signer: address = ecrecover(digest, signature.v, signature.r, signature.s)
    assert signer != empty(address), "domain: signature is void"
    return signer
