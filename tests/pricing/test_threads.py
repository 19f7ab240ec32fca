"""Two pieces of work at once answer as one after the other."""

import pytest

from pricing.threads import both


def test_both_answer_in_their_order():
    assert both(lambda: "one", lambda: 2) == ("one", 2)


@pytest.mark.parametrize("place", [0, 1])
def test_what_goes_wrong_in_either_is_raised(place):
    work = [lambda: 1, lambda: 2]
    work[place] = lambda: 1 // 0

    with pytest.raises(ZeroDivisionError):
        both(*work)
