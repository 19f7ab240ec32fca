"""The version of the rules that verdicts follow, and the hash of what they rest on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

# since .2 a verifier that stands alone in a slot is void in it; since .3 performance re-checks count; since .4 typed
# targets are judged, and a slot's echo times are part of its evidence
RULE_VERSION = "sla-2026-11.4"


def hash_of(evidence: Sequence[Any]) -> bytes:
    """SHA-256 of evidence in its canonical JSON."""
    return hashlib.sha256(json.dumps(evidence, separators=(",", ":"), sort_keys=True).encode()).digest()
