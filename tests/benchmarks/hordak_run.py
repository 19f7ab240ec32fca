"""The process of django-hordak: moves money one transaction at a time in a database of its own, and says how fast.

Knows nothing of the product: it runs among the packages of `hordak.lock`.
"""

from __future__ import annotations

import importlib
import random
import time
from typing import Any

import django
from django.conf import settings
from django.core.management import call_command

from tests.benchmarks import process

ACCOUNTS = 100  # its transfers lock none, so that more would change nothing
TRANSFERS = 200  # in one turn


def rates(turns: int) -> list[float]:
    """Transfers per second of each turn, as its documentation moves money: no balance is kept, no floor is judged."""
    models: Any = importlib.import_module("hordak.models")
    money: Any = importlib.import_module("moneyed").Money
    dice = random.Random(1)
    accounts = [
        models.Account.objects.create(name=f"wallet {place}", code=f"{place:03}", type="AS", currencies=["USD"])
        for place in range(ACCOUNTS)
    ]
    found = []
    for _ in range(turns):
        drawn = [(*dice.sample(accounts, 2), money(dice.randrange(1, 100), "USD")) for _ in range(TRANSFERS)]
        before = models.Leg.objects.count()
        began = time.perf_counter()
        for payer, payee, amount in drawn:
            payer.transfer_to(payee, amount)
        found.append(TRANSFERS / (time.perf_counter() - began))
        assert models.Leg.objects.count() == before + 2 * TRANSFERS
    return found


def main() -> None:
    """Make the tables of the package, then start the clock."""
    asked = process.request()
    settings.configure(
        DATABASES={"default": asked["database"]}, INSTALLED_APPS=["django.contrib.contenttypes", "mptt", "hordak"],
        USE_TZ=True, DEFAULT_CURRENCY="USD", CURRENCIES=["USD"], DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    )  # fmt: skip
    django.setup()
    call_command("migrate", interactive=False, verbosity=0)
    process.answer({"rates": rates(asked["turns"])})


if __name__ == "__main__":
    main()
