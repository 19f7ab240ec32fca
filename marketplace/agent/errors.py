"""Every refusal of the agent, drawn as one tree: a sentence for people, `code` and `facts` for programs.

AgentError                  code                       when
 +- KeyRefused              key_refused                no key file can be read or made as asked
 |   +- KeyModesWrong       key_modes_wrong            the folder is not 0700 or the file not 0600, or not ours
 |   +- KeyMissing          key_missing                there is no machine key here
 |   +- KeyExists           key_exists                 a key stands here already; it is never overwritten
 |   +- PassphraseWrong     passphrase_wrong           the file asks for another passphrase, or for none
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


class ServerUnreachable(AgentError):
    code = "server_unreachable"
