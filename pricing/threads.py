"""Two pieces of work at once: numpy and the solver let go of the interpreter while they count.

Neither piece sees the other, so the results are those of one after the other.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

One = TypeVar("One")
Other = TypeVar("Other")


def both(one: Callable[[], One], other: Callable[[], Other]) -> tuple[One, Other]:
    with ThreadPoolExecutor(max_workers=1) as pool:
        later = pool.submit(other)
        return one(), later.result()
