"""The keys of the demo's simulated machines: derived from this installation's secret and never written down."""

from __future__ import annotations

import hmac

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.conf import settings

from marketplace.agent.keys import MachineKey


def machine_key(code: str) -> MachineKey:
    """The Ed25519 key of a simulated machine."""
    seed = hmac.digest(settings.SECRET_KEY.encode(), f"demo machine {code}".encode(), "sha256")
    return MachineKey(Ed25519PrivateKey.from_private_bytes(seed))
