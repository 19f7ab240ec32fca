# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Verdict: what the slash panel signs, shared by stake (slash) and escrow (holdback)
@license Apache-2.0
"""

struct Verdict:
    evidence: bytes32
    nodeClass: uint64
    batch: uint32
    line: uint16
    amount: uint64
    kind: uint8
    breachAt: uint64
    nonce: uint64
    expires: uint64

_TYPE: constant(bytes32) = keccak256(
    "Verdict(bytes32 evidence,uint64 nodeClass,uint32 batch,uint16 line,uint64 amount,uint8 kind,uint64 breachAt,uint64 nonce,uint64 expires)"
)


@internal
@pure
def _hash(verdict: Verdict) -> bytes32:
    return keccak256(abi_encode(_TYPE, verdict))
