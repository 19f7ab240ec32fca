"""Documents as they come in: named, bounded, hashed, with a span of time that makes sense."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

from marketplace.catalogue.limits import require_name
from marketplace.errors import BadInput, ExpiredEvidence

BODY_MAX_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Paper:
    """A file as it was handed in, and from when until when it holds."""

    file_name: str
    body: bytes
    valid_from: datetime
    valid_until: datetime

    def columns(self) -> dict[str, object]:
        """The columns that evidence and agreements keep of it."""
        return {
            "file_name": self.file_name, "body": self.body, "sha256": hashlib.sha256(self.body).digest(),
            "valid_from": self.valid_from, "valid_until": self.valid_until,
        }  # fmt: skip


def require_paper(paper: Paper, *, now: datetime) -> Paper:
    """A readable file of 1 byte to 4 MiB whose span has not run out; raises BadInput or ExpiredEvidence."""
    require_name(paper.file_name, field="file_name", longest=120)
    if not 1 <= len(paper.body) <= BODY_MAX_BYTES:
        raise BadInput("A document is 1 byte to 4 MiB.", field="file")
    if paper.valid_until <= paper.valid_from:
        raise ExpiredEvidence("A document ends after it begins.", field="valid_until")
    if paper.valid_until <= now:
        raise ExpiredEvidence(
            "This document has run out.", field="valid_until", valid_until=paper.valid_until.isoformat()
        )
    return paper
