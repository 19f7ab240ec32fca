"""Everything the rails refuse: a branch of the books' tree (`ledger.errors`), whose `ClockMissing` is used here too.

LedgerError > RailsError                  code                     when
  +- ChainUnreachable       chain_unreachable        no node answers at CHAIN_URL
  |   +- NodeNotReady       node_not_ready           the node answers without the state it was asked about: ask again
  +- WrongChain             wrong_chain              the node speaks for another chain id than CHAIN_ID
  +- ContractUnknown        contract_unknown         no such contract is recorded as deployed
  +- FunctionUnknown        function_unknown         the contract has no such function for that many arguments
  +- CallReverted           call_reverted            a contract refused a call; the sentence is the contract's own
  +- DeploymentBroken       deployment_broken        the address a contract should have is taken or failed
  +- InsideTransaction      inside_transaction       the sender was started inside an open database transaction
  +- SenderBusy             sender_busy              another sender of this database did not finish in time
  +- IntentReused           intent_reused            same intent key, another call
  +- CancelTooLate          cancel_too_late          the transaction to be cancelled has ended, or there is none
  +- SignerRefused          signer_refused           the key service gave no signature, or one for something else
  +- KeyLimitReached        key_limit_reached        a key would sign more within an hour than it may
  +- KeyOutOfGasMoney       key_out_of_gas_money     the account of a key cannot pay for the gas of a call
  +- LogsMissing            logs_missing             the node's logs, receipts and headers do not fit together
  +- LogUnknown             log_unknown              a finalized log that the books cannot explain
  +- ChainRewound           chain_rewound            a block already booked is no longer on the chain
  +- KeyfileUnsafe          keyfile_unsafe           keyfile or passphrase readable by others, or a link
  +- KeyfileBroken          keyfile_broken           keyfile cannot be decrypted with this passphrase
  +- RoleUnknown            role_unknown             no key is derived for such a role
  +- ProcessorUnreachable   processor_unreachable    the card processor gave no answer, or nobody knows which
  +- ProcessorRefused       processor_refused        the card processor will not do this
  +- SignatureInvalid       signature_invalid        a webhook that the card processor did not sign, or long ago
  +- NotSettledYet          not_settled_yet          what shall be booked is not final outside yet
  +- PaymentUnknown         payment_unknown          money at the card processor that no intent of ours explains
  +- CardCapReached         card_cap_reached         the party's card money at risk would pass its cap
"""

from __future__ import annotations

from ledger.errors import LedgerError


class RailsError(LedgerError):
    """A refusal of the rails: one sentence, a stable `code`, and the facts to act on."""

    code = "rails_error"


class ChainUnreachable(RailsError):
    code = "chain_unreachable"


class NodeNotReady(ChainUnreachable):
    code = "node_not_ready"


class WrongChain(RailsError):
    code = "wrong_chain"


class ContractUnknown(RailsError):
    code = "contract_unknown"


class FunctionUnknown(RailsError):
    code = "function_unknown"


class CallReverted(RailsError):
    code = "call_reverted"


class DeploymentBroken(RailsError):
    code = "deployment_broken"


class InsideTransaction(RailsError):
    code = "inside_transaction"


class SenderBusy(RailsError):
    code = "sender_busy"


class IntentReused(RailsError):
    code = "intent_reused"


class CancelTooLate(RailsError):
    code = "cancel_too_late"


class SignerRefused(RailsError):
    code = "signer_refused"


class KeyLimitReached(RailsError):
    code = "key_limit_reached"


class KeyOutOfGasMoney(RailsError):
    code = "key_out_of_gas_money"


class LogsMissing(RailsError):
    code = "logs_missing"


class LogUnknown(RailsError):
    code = "log_unknown"


class ChainRewound(RailsError):
    code = "chain_rewound"


class KeyfileUnsafe(RailsError):
    code = "keyfile_unsafe"


class KeyfileBroken(RailsError):
    code = "keyfile_broken"


class RoleUnknown(RailsError):
    code = "role_unknown"


class ProcessorUnreachable(RailsError):
    code = "processor_unreachable"


class ProcessorRefused(RailsError):
    code = "processor_refused"


class SignatureInvalid(RailsError):
    code = "signature_invalid"


class NotSettledYet(RailsError):
    code = "not_settled_yet"


class PaymentUnknown(RailsError):
    code = "payment_unknown"


class CardCapReached(RailsError):
    code = "card_cap_reached"
