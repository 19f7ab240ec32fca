"""The contract tests' chain without its blocks: each call is one message on a running state, for long random runs.

Real bytecode in the same EVM; what is left out is what no contract of ours can see: signatures of transactions, fees,
tries, headers. That makes a step several times cheaper. A refused call leaves the state as it was, as on a chain.
"""

from __future__ import annotations

from typing import Any

from eth.vm.message import Message
from eth_abi import decode, encode
from eth_utils import to_canonical_address

from tests.contracts.chain import GAS_LIMIT, Chain, Receipt, Reverted, _function, _sentence, address_of


class QuickChain(Chain):
    """Begins where another chain stands, which stays as it is."""

    def __init__(self, begin: Chain) -> None:
        super().__init__(dict(begin._store), dict(begin.addresses))
        self.now = begin.now
        self._state = self._chain.get_vm(self._header()).state
        self._context = self._state.transaction_context_class(gas_price=0, origin=bytes(20))

    def copy(self) -> Chain:
        raise NotImplementedError("a quick chain is begun from another chain, and thrown away")

    def word(self, contract: str, slot: int) -> int:
        """What a storage slot holds."""
        return int(self._state.get_storage(to_canonical_address(self.addresses[contract]), slot))

    def send(self, sender: str, contract: str, function: str, *args: Any) -> Receipt:
        """Run one call at `now`; raises Reverted. The next one is a second later, also after a refusal."""
        _, _, outputs, _ = _function(contract, function)
        at, self.now = self.now, self.now + 1
        computation = self._run(sender, contract, function, args, at)
        returned = decode(outputs, computation.output) if outputs else ()
        events = tuple(self._read_logs(computation))
        return Receipt(returned[0] if len(returned) == 1 else returned, events, computation.get_gas_used(), at)

    def call(self, contract: str, function: str, *args: Any, sender: str = "nobody") -> Any:
        """Ask a view at the timestamp `now`; structs come back as dicts, several values as a tuple."""
        _, _, outputs, entries = _function(contract, function)
        found = decode(outputs, self._run(sender, contract, function, args, self.now).output)
        values = tuple(
            dict(zip((each["name"] for each in entry["components"]), value, strict=True))
            if entry["type"] == "tuple"
            else value
            for entry, value in zip(entries, found, strict=True)
        )
        return values[0] if len(values) == 1 else values

    def _run(self, sender: str, contract: str, function: str, args: tuple[Any, ...], at: int) -> Any:
        selector, inputs, _, _ = _function(contract, function)
        to = to_canonical_address(self.addresses[contract])
        message = Message(
            gas=GAS_LIMIT // 2, to=to, sender=to_canonical_address(address_of(sender)), value=0,
            data=selector + encode(inputs, args), code=self._state.get_code(to),
        )  # fmt: skip
        self._state.execution_context._timestamp = at
        computation = self._state.computation_class.apply_message(self._state, message, self._context)
        if computation.is_error:
            raise Reverted(_sentence(computation.output))
        return computation
