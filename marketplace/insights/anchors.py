"""What the anchor contract keeps, as its final events say; nothing here asks the chain."""

from __future__ import annotations

from collections.abc import Iterable

from ledger.models import ChainEvent


def anchored_hashes(numbers: Iterable[int]) -> dict[int, str]:
    """Return the bundle hash (hex) that a final event of the anchor contract names, by window number."""
    events = ChainEvent.objects.filter(final=True, contract="anchor", name="Bundled", args__window__in=list(numbers))
    return {int(e.args["window"]): str(e.args["bundle_hash"]).removeprefix("0x").lower() for e in events}
