"""A slot under three sources as a machine: whatever is said, in whatever order, its fee is split; nobody is passed."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from marketplace.delivery.cases import votes
from marketplace.delivery.evidence_models import SlotTally
from marketplace.delivery.tallies import divide_fee, judge_probes, minutes_down, weigh
from pricing.metering import FULL_WORD

WORDS = st.integers(0, FULL_WORD)
SEATS = st.integers(0, 2)


def made(said: dict[str, int], valid: list[int], failed: list[int], fee: int, most: int) -> SlotTally:
    """The tally of what was said, by the product's own functions."""
    row = SlotTally(
        slot=0, units=1, amount_micros=fee, most_micros=most, provider_up=said.get("provider"),
        buyer_up=said.get("buyer"), probe_valid=list(valid), probe_failed=list(failed),
    )  # fmt: skip
    judge_probes(row)
    row.causes = {"PROVIDER": row.down_word} if row.down_word else {}
    weigh(row)
    return row


class SlotMachine(RuleBasedStateMachine):
    """Statements arrive one by one; each source speaks once, and the same again changes nothing."""

    @initialize(fee=st.integers(1, 10**12), share=st.integers(0, 100))
    def begin(self, fee: int, share: int) -> None:
        self.fee, self.most = fee, fee * share // 100
        self.said: dict[str, int] = {}
        self.valid, self.failed = [0] * 3, [0] * 3
        self.story: list[tuple[str, int, int, bool]] = []
        self.rated: SlotTally | None = None

    def tell(self, what: tuple[str, int, int, bool]) -> None:
        self._take(what, self.said, self.valid, self.failed)
        self.story.append(what)

    @staticmethod
    def _take(
        what: tuple[str, int, int, bool], said: dict[str, int], valid: list[int], failed: list[int]
    ) -> None:  # fmt: skip
        who, place, word, is_down = what
        if who != "probe":
            said.setdefault(who, word)
        elif not valid[place] >> word & 1:
            valid[place] |= 1 << word
            failed[place] |= is_down << word

    @precondition(lambda self: self.rated is None)
    @rule(word=WORDS)
    def provider_speaks(self, word: int) -> None:
        self.tell(("provider", 0, word, False))

    @precondition(lambda self: self.rated is None)
    @rule(word=WORDS)
    def buyer_speaks(self, word: int) -> None:
        self.tell(("buyer", 0, word, False))

    @precondition(lambda self: self.rated is None)
    @rule(seat=SEATS, first=st.integers(0, 59), many=st.integers(1, 60), is_down=st.booleans())
    def a_verifier_reports_some_minutes(self, seat: int, first: int, many: int, is_down: bool) -> None:
        for minute in range(first, min(60, first + many)):
            self.tell(("probe", seat, minute, is_down))

    @precondition(lambda self: self.rated is None and self.story)
    @rule(data=st.data())
    def somebody_says_the_same_again(self, data: st.DataObject) -> None:
        before = self.tally()
        self.tell(data.draw(st.sampled_from(self.story)))
        assert self.figures(self.tally()) == self.figures(before)

    @precondition(lambda self: self.rated is None)
    @rule()
    def time_is_up(self) -> None:
        row = self.tally()
        billed, held = row.billable_word, row.held_word
        row.billable_word, row.held_word = billed | votes(row), 0
        divide_fee(row)
        assert row.billable_word & ~(billed | held) == 0  # only what was held is decided
        assert row.billable_word & row.down_word == 0
        self.rated = row

    @precondition(lambda self: self.rated is not None)
    @rule()
    def what_was_rated_stays(self) -> None:
        assert self.rated is not None
        before = self.figures(self.rated)
        divide_fee(self.rated)
        assert self.figures(self.rated) == before

    def tally(self) -> SlotTally:
        return made(self.said, self.valid, self.failed, self.fee, self.most)

    @staticmethod
    def figures(row: SlotTally) -> tuple[object, ...]:
        return tuple(getattr(row, field.attname) for field in SlotTally._meta.fields if field.attname != "evidence_at")

    @invariant()
    def the_fee_is_split_and_no_source_is_passed(self) -> None:
        row = self.rated or self.tally()
        assert row.billed_micros + row.held_micros + row.unpaid_micros == self.fee
        assert 0 <= row.billed_micros <= self.most
        assert min(row.held_micros, row.unpaid_micros) >= 0
        assert row.minutes_billable + minutes_down(row) <= 60
        if self.rated is None:
            assert row.billable_word & ~self.said.get("provider", 0) == 0
            assert row.billable_word & ~self.said.get("buyer", FULL_WORD) == 0
            assert row.billable_word & row.down_word == 0
        else:
            assert row.held_micros == 0

    @invariant()
    def the_order_leaves_no_trace(self) -> None:
        said: dict[str, int] = {}
        valid, failed = [0] * 3, [0] * 3
        once: dict[tuple[str, int, int], tuple[str, int, int, bool]] = {}
        for each in self.story:
            once.setdefault(self._key(each), each)
        for key in sorted(once, reverse=True):
            self._take(once[key], said, valid, failed)
        assert self.figures(made(said, valid, failed, self.fee, self.most)) == self.figures(self.tally())

    @staticmethod
    def _key(what: tuple[str, int, int, bool]) -> tuple[str, int, int]:
        who, place, word, _ = what
        return who, place, word if who == "probe" else 0


SlotMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=8, deadline=None)
TestSlotMachine = SlotMachine.TestCase
