"""A node reached over HTTP. Loaded with the first one that is opened: web3 is half of what a process needs to start."""

from __future__ import annotations

from typing import Any

from web3 import HTTPProvider, Web3
from web3.exceptions import Web3Exception
from web3.types import RPCEndpoint, RPCResponse

from ledger.rails.base import Chain
from ledger.rails.errors import ChainUnreachable, NodeNotReady, WrongChain

REQUEST_SECONDS_MAX = 20
# What a node says of the call itself. Any other error tells of the node: a block it lost in a reorganisation, a state
# it has pruned, a limit of requests. Nothing may be concluded from that about the call.
ABOUT_THE_CALL = ("revert", "out of gas", "gas required", "insufficient funds", "intrinsic gas", "invalid opcode")
SENDS = "eth_sendRawTransaction"  # here every error is an answer: the sender keeps it with the transaction


def open_node(url: str, chain_id: int) -> Chain:
    """A node reached by JSON-RPC over HTTP, after its chain id was compared."""
    w3 = Web3(NodeProvider(url))
    found = w3.eth.chain_id
    if found != chain_id:
        raise WrongChain(f"CHAIN_URL speaks for chain {found}, CHAIN_ID asks for {chain_id}.",
                         found=found, expected=chain_id)  # fmt: skip
    return Chain(w3, chain_id=chain_id)


class NodeProvider(HTTPProvider):
    """A node over HTTP. Silence, broken answers and time-outs all become `ChainUnreachable`, whatever was asked.

    Nothing is asked twice here: the sender and the indexer begin anew by themselves, and they look before they send.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url, request_kwargs={"timeout": REQUEST_SECONDS_MAX}, exception_retry_configuration=None)

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """Ask the node once. Raises `ChainUnreachable`, and `NodeNotReady` for an error that is about the node."""
        try:
            answer = super().make_request(method, params)
        except (OSError, Web3Exception, ValueError) as error:
            raise ChainUnreachable(f"No chain answers at CHAIN_URL: {error}", method=str(method)) from error
        if method != SENDS and "error" in answer and not _is_about_the_call(answer["error"]):
            raise NodeNotReady(f"The node cannot answer {method} now: {answer['error']}", method=str(method))
        return answer


def _is_about_the_call(error: Any) -> bool:
    said = str(error.get("message", "") if isinstance(error, dict) else error).lower()
    has_data = isinstance(error, dict) and isinstance(error.get("data"), str)  # the revert's own bytes
    return has_data or any(words in said for words in ABOUT_THE_CALL)
