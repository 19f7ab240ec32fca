"""How often a wrong password is taken, and a link for another one asked for: guessing is slow, and nobody locks
somebody else out from one place.

Counted in the cache of the process, as requests of the API are: with several web processes each has a count of its own,
until `CACHES` names a shared one.
"""

from __future__ import annotations

from collections.abc import Iterator

from django.core.cache import cache

SPAN_SECONDS = 15 * 60
PAIR_MAX, ADDRESS_MAX, EMAIL_MAX = 10, 50, 100  # of one e-mail from one address, of one address, of one e-mail


def may_try(*, email: str, address: str, what: str = "sign-in") -> bool:
    """Whether another password is looked at; after too many wrong ones none is, not even the right one."""
    return all(cache.get(name, 0) < most for name, most in _counts(email, address, what))


def count_failure(*, email: str, address: str, what: str = "sign-in") -> None:
    """Count one wrong password, or one link asked for; the span begins with the first."""
    for name, _ in _counts(email, address, what):
        cache.add(name, 0, timeout=SPAN_SECONDS)
        try:
            cache.incr(name)
        except ValueError:  # evicted between the two calls
            cache.set(name, 1, timeout=SPAN_SECONDS)


def _counts(email: str, address: str, what: str) -> Iterator[tuple[str, int]]:
    for name, most in (
        (f"{email} {address}", PAIR_MAX), (f"address {address}", ADDRESS_MAX), (f"email {email}", EMAIL_MAX),
    ):  # fmt: skip
        yield f"{what}:{name.encode().hex()[:200]}", most
