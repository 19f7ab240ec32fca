"""The mutants themselves: each still fits its source, and at least 95 % of them are killed."""

from __future__ import annotations

import re

import pytest

from tests.contracts.mutants.catalogue import EXPLAINED, MUTANTS, SUITES, Mutant
from tests.contracts.mutants.hunt import BROKEN, KILLED, SURVIVED, TESTS, Verdict, hunt, mutated, table


def test_every_mutant_has_its_own_name_and_fits_its_source_exactly_once() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 25
    assert all(mutated(mutant) for mutant in MUTANTS)
    assert EXPLAINED.keys() <= {mutant.name for mutant in MUTANTS}
    with pytest.raises(ValueError, match="fits 0 times"):
        mutated(Mutant("none", "escrow", "escrow.vy", "assert 1 == 2, nowhere", "", ""))


def test_every_mutant_names_tests_that_exist() -> None:
    for mutant in MUTANTS:
        text = "".join((TESTS / f"{name}.py").read_text(encoding="utf-8") for name in SUITES[mutant.contract])
        missing = [word for word in re.split(" and | or ", mutant.first) if word not in text]
        assert missing == [], mutant.name


def test_a_survivor_must_be_explained_and_a_mutant_that_breaks_proves_nothing() -> None:
    killed = [Verdict(f"k{number}", KILLED, "test") for number in range(19)]

    rows, is_fine = table([*killed, Verdict("s", SURVIVED, "not explained")])
    assert (rows[0], is_fine) == ("20 mutants: 19 killed, 1 survived, 0 broken; 95.0% killed", False)
    assert table([*killed, Verdict("b", BROKEN, "SyntaxException")])[1] is False
    assert table(killed)[1] is True
    assert table([*killed[:9], Verdict("s", SURVIVED, "")])[1] is False


@pytest.mark.nightly
def test_at_least_95_percent_are_killed_and_every_survivor_is_explained() -> None:
    rows, is_fine = table(hunt(MUTANTS, tell=print))

    print("\n".join(rows))
    assert is_fine, rows
