"""The one Django app of the market: every stage's tables live in it, in one migration history."""

from __future__ import annotations

from django.apps import AppConfig


class MarketplaceConfig(AppConfig):
    """Tables of all stages, re-exported by `marketplace.models`."""

    name = "marketplace"
    label = "marketplace"
    verbose_name = "Grove Exchange"

    def ready(self) -> None:
        """Give the ledger our clock and our consortia, bind tasks to our Celery app, register the go-live list."""
        from ledger.rails.connect import share_by
        from ledger.tasks import use_clock
        from marketplace import celery, checks, clock  # noqa: F401
        from marketplace.payout.members import share_payment

        use_clock(clock.now)
        share_by(share_payment)
