"""The other half of the books' state machine: the function judges first, COPY again."""

import pytest

from tests.properties.test_books_machine import USUAL, BooksMachine, run_machine, run_rounds


class FunctionFirst(BooksMachine):
    """The same, with the function judging first."""

    copy_from = (USUAL, 1)


@pytest.mark.django_db
def test_the_books_answer_like_a_ledger_of_plain_python_when_the_function_judges_first():
    run_machine(FunctionFirst, 5_000)


@pytest.mark.nightly
@pytest.mark.django_db
def test_they_do_for_a_million_steps():
    run_rounds(FunctionFirst, 500_000)
