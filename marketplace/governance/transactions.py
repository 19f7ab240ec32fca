"""A person stops a transaction that does not come through; what was asked stands in the audit trail."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from ledger.models import ChainIntent
from ledger.rails.stuck import ask_cancel
from marketplace.governance.services import record


@transaction.atomic
def cancel_transaction(*, key: str, person: str, now: datetime) -> ChainIntent:
    """Ask that a transaction shall not take effect, and write who did. Raises `CancelTooLate`; then nothing is written.

    The market sees it end as reverted: holds are released and steps come again, as after any revert.
    """
    intent = ask_cancel(key=key, person=person, now=now)
    record(
        actor=person, action="cancel_transaction", subject=key, reason=f"{intent.contract}.{intent.function}", now=now,
        state=intent.state, nonce=intent.nonce, tx_hash=intent.tx_hash,
    )  # fmt: skip
    return intent
