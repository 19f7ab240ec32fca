"""Every refusal of the agent, drawn as one tree: a sentence for people, `code` and `facts` for programs.

AgentError                  code                       when
 +- KeyRefused              key_refused                no key file can be read or made as asked
 |   +- KeyModesWrong       key_modes_wrong            the folder is not 0700 or the file not 0600, or not ours
 |   +- KeyMissing          key_missing                there is no machine key here
 |   +- KeyExists           key_exists                 a key stands here already; it is never overwritten
 |   +- PassphraseWrong     passphrase_wrong           the file asks for another passphrase, or for none
 |   +- NotEnrolled         not_enrolled               this machine knows no market yet
 +- HomeBusy                home_busy                  another agent works in this folder
 +- SpoolBroken             spool_broken               the file of unsent readings is not as the meter left it
 +- ClockWrong              clock_wrong                this machine's clock is too far off the market's
 +- ProbeRefused            probe_refused              a probe or its answer has another form, or another key signed it
 +- UsageWrong              usage_wrong                words of the command line that do not go together
 +- StrategyWrong           strategy_wrong             a bid or strategy file with mistakes, each with line and field
 +- NothingToBid            nothing_to_bid             no open window, hour or unit is left for this strategy
 +- StatementForged         statement_forged           an enrolment statement that its own key did not sign
 +- ReadingRefused          reading_refused            a signed reading is not taken
 |   +- ReadingMalformed    reading_malformed          not the canonical bytes of a report
 |   +- ReadingForged       reading_forged             not signed by the machine's key
 |   +- ReadingReplayed     reading_replayed           a sequence number that was taken before
 |   +- ReadingOutOfSequence reading_out_of_sequence   a gap, or another report before it
 +- BackendMissing          backend_missing            the library or device of a backend is not here
 +- BackendInexact          backend_inexact            a backend rounds: its proofs would be refused
 +- PanelFailed             panel_failed               too few verifiers accepted the proof
 +- OutOfTurn               out_of_turn                a step of a session in the wrong order
 +- AttestationUntrue       attestation_untrue         a verifier is asked to sign what it did not see
 +- ServerRefused           server_refused             the other side answered with a problem; its code is in the facts
 +- CertificateWrong        certificate_wrong          a prover shows a certificate that its machine did not sign
 +- ServerUnreachable       server_unreachable         nothing answered
"""


class AgentError(Exception):
    """A refusal of the agent; `str(error)` is one sentence, `error.facts` holds what a caller needs to act."""

    code: str = "agent_error"

    def __init__(self, sentence: str, **facts: object) -> None:
        super().__init__(sentence)
        self.facts: dict[str, object] = facts


class KeyRefused(AgentError):
    code = "key_refused"


class KeyModesWrong(KeyRefused):
    code = "key_modes_wrong"


class KeyMissing(KeyRefused):
    code = "key_missing"


class KeyExists(KeyRefused):
    code = "key_exists"


class PassphraseWrong(KeyRefused):
    code = "passphrase_wrong"


class UsageWrong(AgentError):
    code = "usage_wrong"


class StrategyWrong(AgentError):
    code = "strategy_wrong"


class NothingToBid(AgentError):
    code = "nothing_to_bid"


class NotEnrolled(KeyRefused):
    code = "not_enrolled"


class HomeBusy(AgentError):
    code = "home_busy"


class SpoolBroken(AgentError):
    code = "spool_broken"


class ClockWrong(AgentError):
    code = "clock_wrong"


class ProbeRefused(AgentError):
    code = "probe_refused"


class StatementForged(AgentError):
    code = "statement_forged"


class ReadingRefused(AgentError):
    code = "reading_refused"


class ReadingMalformed(ReadingRefused):
    code = "reading_malformed"


class ReadingForged(ReadingRefused):
    code = "reading_forged"


class ReadingReplayed(ReadingRefused):
    code = "reading_replayed"


class ReadingOutOfSequence(ReadingRefused):
    code = "reading_out_of_sequence"


class BackendMissing(AgentError):
    code = "backend_missing"


class BackendInexact(AgentError):
    code = "backend_inexact"


class PanelFailed(AgentError):
    code = "panel_failed"


class OutOfTurn(AgentError):
    code = "out_of_turn"


class AttestationUntrue(AgentError):
    code = "attestation_untrue"


class ServerRefused(AgentError):
    code = "server_refused"


class CertificateWrong(AgentError):
    code = "certificate_wrong"


class ServerUnreachable(AgentError):
    code = "server_unreachable"
