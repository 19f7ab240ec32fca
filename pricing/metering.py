"""What happened in a minute, and which minutes are billable.

    a report  = one verifier's probe of one machine in one minute; void when its anchors or its clock failed
    DOWN      = at least 2 valid reports, and at least 2/3 of the valid ones failed
    UNKNOWN   = fewer than 2 valid reports; it leaves numerator and denominator of every availability
    UP        = otherwise

A slot (one hour) is a word of 60 bits in an int64, bit m for minute m, so that tens of thousands of slots are judged
by a handful of numpy operations. All words of one call have one shape or broadcast to one.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from pricing.errors import MeteringError

UP, DOWN, UNKNOWN = np.int8(0), np.int8(1), np.int8(2)
REPORTS_MIN = 2
VERIFIERS_MAX = 64  # of one minute; counts are bytes
SLOT_MINUTES = 60
ALONE_MINUTES_MAX = 6  # of a slot, in which a verifier may be the only one who says so
FULL_WORD = (1 << SLOT_MINUTES) - 1

Bools: TypeAlias = npt.NDArray[np.bool_]
Int8s: TypeAlias = npt.NDArray[np.int8]
Counts: TypeAlias = npt.NDArray[np.uint8]
Words: TypeAlias = npt.NDArray[np.int64]
_SHIFTS = np.arange(SLOT_MINUTES, dtype=np.int64)


def judge_minutes(valid: Bools, failed: Bools) -> Int8s:
    """The verdict of each minute, int8 of UP, DOWN, UNKNOWN.

    `valid` and `failed` are bool [verifiers, ...minutes], for instance [3, slots, 60]; the answer has the shape
    without the first axis. What a void report says about failure is not read. Raises MeteringError
    (`metering_shape`) when the shapes differ.
    """
    if valid.shape != failed.shape or valid.ndim < 2 or valid.shape[0] > VERIFIERS_MAX:
        raise MeteringError("Validity and failure of reports have one shape, [verifiers, minutes].", shape=valid.shape)
    return _verdicts(*_tally(valid, failed))


def _tally(valid: Bools, failed: Bools) -> tuple[Counts, Counts]:
    """Valid reports and valid failures of each minute."""
    return valid.sum(axis=0, dtype=np.uint8), (valid & failed).sum(axis=0, dtype=np.uint8)


def _verdicts(reports: Counts, failures: Counts) -> Int8s:
    is_known = reports >= REPORTS_MIN
    verdicts = (is_known & (3 * failures >= 2 * reports)).astype(np.int8)  # DOWN is 1, UP is 0
    verdicts[~is_known] = UNKNOWN
    return verdicts


def judge_slots(valid: Bools, failed: Bools) -> Int8s:
    """The verdict of each minute of whole slots, without the reports of whoever stands alone; int8 [...slots, 60].

    A verifier that is the only one against at least two others in more than 6 minutes of a slot looks at something
    else than the machine, or lies: all its reports of that slot are void. One liar among three then decides nothing,
    not even together with a lost probe. Raises MeteringError unless the last axis has 60 minutes.
    """
    if valid.ndim < 3 or valid.shape[-1] != SLOT_MINUTES or valid.shape != failed.shape:
        raise MeteringError("Reports of slots have the shape [verifiers, slots, 60].", shape=valid.shape)
    verdicts = judge_minutes(valid, failed)
    reports, failures = _tally(valid, failed)
    lonely = (reports > REPORTS_MIN) & ((failures == 1) | (failures + 1 == reports))
    # Only slots with so many split minutes can have an outlier; they are few, so this costs nothing elsewhere.
    suspect = np.count_nonzero(lonely, axis=-1) > ALONE_MINUTES_MAX
    if suspect.any():
        heard, said_down = valid[:, suspect], failed[:, suspect]
        is_alone = lonely[suspect] & heard & (said_down == (failures[suspect] == 1))
        is_outlier = np.count_nonzero(is_alone, axis=-1, keepdims=True) > ALONE_MINUTES_MAX
        verdicts[suspect] = judge_minutes(heard & ~is_outlier, said_down)
    return verdicts


def pack(minutes: npt.ArrayLike) -> Words:
    """Words of bool [..., 60]: minute m becomes bit m of an int64. Raises MeteringError for another last axis."""
    bits = np.asarray(minutes, dtype=np.bool_)
    if bits.ndim == 0 or bits.shape[-1] != SLOT_MINUTES:
        raise MeteringError("A slot has 60 minutes.", shape=bits.shape)
    words: Words = np.bitwise_or.reduce(bits.astype(np.int64) << _SHIFTS, axis=-1)
    return words


def unpack(words: npt.ArrayLike) -> Bools:
    """The minutes of words, bool [..., 60]. Raises MeteringError for a word with a bit beyond minute 59."""
    checked = as_words(words)
    minutes: Bools = (checked[..., np.newaxis] >> _SHIFTS & 1).astype(np.bool_)
    return minutes


def as_words(words: npt.ArrayLike) -> Words:
    """The words as int64. Raises MeteringError for a word with a bit beyond minute 59, or no integers."""
    given = np.asarray(words)
    if not np.issubdtype(given.dtype, np.integer) or (given.size and (given.min() < 0 or given.max() > FULL_WORD)):
        raise MeteringError("A word has bits for minutes 0 to 59 only.", dtype=str(given.dtype))
    return given.astype(np.int64)


def count_minutes(words: npt.ArrayLike) -> Words:
    """Minutes set in each word, int64 of the same shape."""
    return np.bitwise_count(as_words(words)).astype(np.int64)


@dataclass(frozen=True)
class Reconciled:
    """The minutes of each slot, split by what its sources say; the three words are disjoint and fill the slot."""

    billable: Words  # int64 words: every source says up
    held: Words  # int64 words: the sources disagree, or nobody but the provider saw the minute
    unpaid: Words  # int64 words: every source that saw the minute says down
    disagreed_minutes: Words  # int64 counts: minutes in which two sources contradict one another

    @property
    def billable_minutes(self) -> Words:
        """Minutes to bill in each slot."""
        return count_minutes(self.billable)


def reconcile(
    *,
    provider_up: npt.ArrayLike,
    probes_up: npt.ArrayLike,
    probes_known: npt.ArrayLike,
    buyer_up: npt.ArrayLike | None = None,
) -> Reconciled:
    """Bill the minimum of what provider, probes and (if given) buyer report, minute by minute.

    All arguments are words. `probes_known` marks the minutes whose verdict is not UNKNOWN. In an unknown minute the
    buyer's counter-reading is the only other witness: without it a minute the provider calls up is held, not billed.
    """
    provider, known = as_words(provider_up), as_words(probes_known)
    probes = as_words(probes_up) & known
    buyer = None if buyer_up is None else as_words(buyer_up)
    said_up = provider | probes | (0 if buyer is None else buyer)
    if buyer is None:
        billable = provider & probes
        disagreed = (provider ^ probes) & known
    else:
        billable = provider & buyer & (probes | (FULL_WORD & ~known))
        disagreed = (provider ^ buyer) | ((provider ^ probes) & known)
    shape = np.broadcast_shapes(billable.shape, said_up.shape)
    return Reconciled(
        billable=np.broadcast_to(billable, shape),
        held=said_up & ~billable,
        unpaid=FULL_WORD & ~said_up,
        disagreed_minutes=count_minutes(disagreed),
    )


@dataclass(frozen=True)
class SlotCounts:
    """Minutes of each slot by verdict."""

    up: Words  # int64 counts
    down: Words
    unknown: Words


def count_verdicts(verdicts: Int8s) -> SlotCounts:
    """Count the verdicts of int8 [..., 60] (or any other span) along the last axis."""

    up, down, unknown = (np.count_nonzero(verdicts == verdict, axis=-1) for verdict in (UP, DOWN, UNKNOWN))
    return SlotCounts(up=np.asarray(up), down=np.asarray(down), unknown=np.asarray(unknown))
