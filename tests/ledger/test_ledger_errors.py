"""The tree at the top of `ledger/errors.py` is the tree in the code."""

from __future__ import annotations

import re

from ledger import errors


def every_refusal() -> dict[str, str]:
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    found = [one for one in classes if issubclass(one, errors.LedgerError)]
    return {refusal.__name__: refusal.code for refusal in found if refusal is not errors.LedgerError}


def test_the_tree_names_every_refusal_and_its_code():
    drawn = dict(re.findall(r"^ \+- (\w+) +(\w+)", errors.__doc__ or "", re.MULTILINE))

    assert drawn == every_refusal()
    assert len(set(drawn.values())) == len(drawn)


def test_a_refusal_is_a_sentence_a_code_and_facts():
    refusal = errors.IdReused("This id stands for another.", id="1")

    assert (str(refusal), refusal.code, refusal.facts) == ("This id stands for another.", "id_reused", {"id": "1"})
