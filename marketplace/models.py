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
from marketplace.supply.seals import BidSeal, HolderKey, KeyHolder, WindowKey, WindowShare
from marketplace.clearing.models import (
    Award, Backup, BundleFile, Clearing, ClearingAttempt, IndicativePrice, LineReason, PriceRow,
)
from marketplace.escrow.models import Lease, LockBatch, Mandate
from marketplace.escrow.suspects import SuspectFlow
from marketplace.delivery.models import Reading, ReportChain
from marketplace.sla.models import Credit, Verdict
from marketplace.payout.models import Payout, Settlement, SettlementLine
from marketplace.slashing.models import SlashCase
from marketplace.maker.models import Conflict, MakerLimits, MakerQuote, MakerStop
from marketplace.demo.models import DemoRun

__all__ = [
    "ApiKey", "Attestation", "AuditLine", "Award", "Backup", "Benchmark", "Bid", "BidSeal", "BundleFile", "Clearing",
    "ClearingAttempt", "Conflict", "Credit", "Demand", "DemoRun", "Flag", "HolderKey", "IndicativePrice", "KeyHolder",
    "Lease", "LineReason", "LockBatch", "MakerLimits", "MakerQuote", "MakerStop", "Mandate", "MarketClock",
    "NodeClass", "Notice", "Party", "Payout", "PriceRow", "Progress", "Reading", "RememberedReply", "ReportChain",
    "ResourceClass", "Seat", "Settlement", "SettlementLine", "Site", "SiteLatency", "SlaPreset", "SlashCase",
    "Standing", "StandingChange", "SuspectFlow", "Tier", "User", "Vantage", "Verdict", "Window", "WindowKey",
    "WindowShare", "WindowTransition", "Zone", "ZoneMember",
]  # fmt: skip
