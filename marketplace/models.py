"""Every table, in data-path order.

parties -> demand -> supply -> clearing -> escrow -> delivery -> sla -> payout -> slashing."""

# ruff: noqa: I001  the order of the imports is the order of the data path

from marketplace.governance.models import AuditLine, Flag, MarketClock
from marketplace.notices.models import Notice, Progress
from marketplace.parties.models import ApiKey, Party, RememberedReply, Seat, User
from marketplace.catalogue.models import (
    ResourceClass, SlaPreset, Tier, Vantage, Window, WindowTransition, Zone, ZoneMember,
)
from marketplace.demand.models import Demand
from marketplace.supply.models import (
    Attestation, Benchmark, Bid, NodeClass, Site, SiteLatency, Standing, StandingChange,
)
from marketplace.clearing.models import (
    Award, Backup, BundleFile, Clearing, ClearingAttempt, IndicativePrice, LineReason, PriceRow,
)
from marketplace.escrow.models import Lease, LockBatch, Mandate
from marketplace.delivery.models import Reading, ReportChain
from marketplace.sla.models import Credit, EarlyCredit, Verdict
from marketplace.payout.models import Payout, Settlement, SettlementLine
from marketplace.slashing.models import Appeal, Forfeit, Opinion, SlashCase
from marketplace.demo.models import DemoRun

__all__ = [
    "ApiKey", "Appeal", "Attestation", "AuditLine", "Award", "Backup", "Benchmark", "Bid", "BundleFile", "Clearing",
    "ClearingAttempt", "Credit", "Demand", "DemoRun", "EarlyCredit", "Flag", "Forfeit", "IndicativePrice", "Lease",
    "LineReason", "LockBatch", "Mandate", "MarketClock", "NodeClass", "Notice", "Opinion", "Party", "Payout",
    "PriceRow", "Progress", "Reading", "RememberedReply", "ReportChain", "ResourceClass", "Seat", "Settlement",
    "SettlementLine", "Site", "SiteLatency", "SlaPreset", "SlashCase", "Standing", "StandingChange", "Tier", "User",
    "Vantage", "Verdict", "Window", "WindowTransition", "Zone", "ZoneMember",
]  # fmt: skip
