"""Every table, in data-path order.

parties -> demand -> supply -> clearing -> escrow -> delivery -> sla -> payout -> slashing."""

# ruff: noqa: I001  the order of the imports is the order of the data path

from marketplace.governance.models import AuditLine, Flag, MarketClock
from marketplace.governance.phase_models import (
    GateReview, Phase, PhaseCondition, PhaseEvidence, PhaseSignOff, Signal,
)
from marketplace.notices.models import Notice, Progress
from marketplace.parties.models import ApiKey, Party, RememberedReply, Seat, User
from marketplace.catalogue.models import (
    ResourceClass, SlaPreset, Tier, Vantage, Window, WindowTransition, Zone, ZoneMember,
)
from marketplace.catalogue.gate_models import GateRule, Pair
from marketplace.demand.funding_models import FundingLine
from marketplace.demand.models import Demand
from marketplace.demand.need_models import Need
from marketplace.demand.standing_models import StandingDemand, StandingEntry
from marketplace.supply.models import (
    Attestation, Benchmark, Bid, NodeClass, Site, SiteLatency, Standing, StandingChange,
)
from marketplace.supply.admission_models import Admission
from marketplace.clearing.models import (
    Award, Backup, BundleFile, Clearing, ClearingAttempt, IndicativePrice, LineReason, PriceRow,
)
from marketplace.escrow.models import Lease, LockBatch, Mandate
from marketplace.delivery.models import Reading, ReportChain
from marketplace.sla.models import Credit, Verdict
from marketplace.payout.models import Payout, Settlement, SettlementLine
from marketplace.slashing.models import SlashCase
from marketplace.demo.models import DemoRun

__all__ = [
    "Admission", "ApiKey", "Attestation", "AuditLine", "Award", "Backup", "Benchmark", "Bid", "BundleFile",
    "Clearing", "ClearingAttempt", "Credit", "Demand", "DemoRun", "Flag", "FundingLine", "GateReview", "GateRule",
    "IndicativePrice", "Lease", "LineReason", "LockBatch", "Mandate", "MarketClock", "Need", "NodeClass", "Notice",
    "Pair", "Party", "Payout", "Phase", "PhaseCondition", "PhaseEvidence", "PhaseSignOff", "PriceRow", "Progress",
    "Reading", "RememberedReply", "ReportChain", "ResourceClass", "Seat", "Settlement", "SettlementLine", "Signal",
    "Site", "SiteLatency", "SlaPreset", "SlashCase", "Standing", "StandingChange", "StandingDemand",
    "StandingEntry", "Tier", "User", "Vantage", "Verdict", "Window", "WindowTransition", "Zone", "ZoneMember",
]  # fmt: skip
