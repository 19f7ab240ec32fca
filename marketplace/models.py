"""Every table, in data-path order.

parties -> demand -> supply -> clearing -> escrow -> delivery -> sla -> payout -> slashing."""

# ruff: noqa: I001  the order of the imports is the order of the data path

from marketplace.governance.models import AuditLine, Flag, MarketClock
from marketplace.governance.phase_models import GateReview, Phase, PhaseCondition, PhaseEvidence, PhaseSignOff, Signal
from marketplace.notices.models import Notice, Progress
from marketplace.parties.models import ApiKey, Invitation, KeyUse, Party, PasswordLink, RememberedReply, Seat, User
from marketplace.catalogue.models import (
    ResourceClass,
    SlaPreset,
    Tier,
    Vantage,
    Window,
    WindowTransition,
    Zone,
    ZoneMember,
)
from marketplace.catalogue.gate_models import GateRule, Pair
from marketplace.demand.funding_models import FundingLine
from marketplace.demand.voucher_models import GrantProgramme, Voucher
from marketplace.compliance.models import (
    Agreement,
    AgreementEnd,
    AgreementSignature,
    Control,
    DataClass,
    Evidence,
    EvidenceEnd,
    EvidenceReview,
    Incident,
    IncidentStep,
    KindLimit,
    TierControl,
    TierZone,
    ZoneChange,
    ZoneReport,
)
from marketplace.spending.models import Budget, DemandApproval, Pilot, SeatLimit, SpendingChange, SpendingRule
from marketplace.demand.counsel_models import CounselRule, CounselSignOff
from marketplace.demand.models import Demand
from marketplace.demand.leg_models import DemandLeg
from marketplace.demand.stop_models import DemandStop
from marketplace.demand.pin_models import EgressPin
from marketplace.demand.standing_models import StandingDemand, StandingEntry
from marketplace.capacity.week_models import CalendarWeek
from marketplace.capacity.models import (
    CalendarRule,
    CarveOut,
    Device,
    FundingSource,
    FundingTag,
    RevenueSplit,
    SplitShare,
    SubSite,
)
from marketplace.supply.models import (
    Attestation,
    Benchmark,
    Bid,
    NodeClass,
    Site,
    SiteLatency,
    Standing,
    StandingChange,
)
from marketplace.supply.proof_models import BenchmarkVantage, RollAnswer, RollCall, RollMember, VerifierSeat
from marketplace.supply.challenge_models import (
    Challenge,
    ChallengeReport,
    ChallengeResult,
    ChallengeSeat,
    ChallengeTranscript,
)
from marketplace.supply.change_models import SupplyChange
from marketplace.supply.key_models import Enrolment, MachineKeyChange, UnitProver
from marketplace.supply.entry_models import EntryRule, Undertaking, UndertakingEnd, UndertakingReview
from marketplace.supply.seals import BidSeal, HolderKey, KeyHolder, WindowKey, WindowShare
from marketplace.supply.admission_models import Admission
from marketplace.supply.lapse_models import Lapse, LapseNotice, LapseRule
from marketplace.clearing.models import (
    Award,
    Backup,
    BundleFile,
    Clearing,
    ClearingAttempt,
    IndicativePrice,
    LineReason,
    PriceRow,
)
from marketplace.escrow.models import Lease, LockBatch, Mandate
from marketplace.escrow.backup_models import StepIn, StepInRun
from marketplace.escrow.pack_models import LeasePack
from marketplace.escrow.suspects import SuspectFlow
from marketplace.delivery.egress_models import EgressReading
from marketplace.delivery.models import Reading, ReportChain
from marketplace.delivery.evidence_models import (
    BuyerStop,
    CheckReport,
    DeliveryCase,
    HealthEvent,
    JudgedCause,
    LeaseHealth,
    MaintenanceNotice,
    ProbeDay,
    ProbeReport,
    Pulse,
    SlotReport,
    SlotTally,
    WitnessKey,
)
from marketplace.delivery.roll_models import RollReply, RollReport
from marketplace.sla.models import Credit, EarlyCredit, EvidenceDay, Recheck, TargetVerdict, Verdict
from marketplace.payout.invoice_models import Invoice, InvoiceLine, TaxRule
from marketplace.payout.models import MemberShare, Payout, Settlement, SettlementLine
from marketplace.slashing.models import Appeal, Forfeit, Opinion, SlashCase
from marketplace.maker.models import Conflict, MakerLimits, MakerQuote, MakerStop
from marketplace.oversight.models import WindDown
from marketplace.oversight.report_models import Report, ReportRule
from marketplace.insights.quote_models import ComparatorQuote, SetAsideRule
from marketplace.insights.models import Comparison, DemandStatement, LeaseDifference
from marketplace.demo.models import DemoRun

__all__ = [
    "Admission", "Agreement", "AgreementEnd", "AgreementSignature", "ApiKey", "Appeal", "Attestation", "AuditLine",
    "Award", "Backup", "Benchmark", "BenchmarkVantage", "Bid", "BidSeal", "Budget", "BundleFile", "BuyerStop",
    "CalendarRule", "CalendarWeek", "CarveOut", "Challenge", "ChallengeReport", "ChallengeResult", "ChallengeSeat",
    "ChallengeTranscript", "CheckReport", "Clearing", "ClearingAttempt", "ComparatorQuote",
    "Comparison", "Conflict", "Control", "CounselRule", "CounselSignOff", "Credit", "DataClass", "DeliveryCase",
    "Demand", "DemandApproval", "DemandLeg", "DemandStatement", "DemandStop", "DemoRun", "Device", "EarlyCredit",
    "EgressPin", "EgressReading", "Enrolment", "EntryRule", "Evidence", "EvidenceDay", "EvidenceEnd", "EvidenceReview",
    "Flag", "Forfeit", "FundingLine", "FundingSource", "FundingTag", "GateReview", "GateRule", "GrantProgramme",
    "HealthEvent", "HolderKey", "Incident", "IncidentStep", "IndicativePrice", "Invitation", "Invoice", "InvoiceLine",
    "JudgedCause",
    "KeyHolder", "KeyUse", "KindLimit", "Lapse", "LapseNotice", "LapseRule", "Lease", "LeaseDifference", "LeaseHealth",
    "LeasePack", "LineReason", "LockBatch", "MachineKeyChange", "MaintenanceNotice", "MakerLimits", "MakerQuote",
    "MakerStop", "Mandate", "MarketClock", "MemberShare", "NodeClass", "Notice", "Opinion", "Pair", "Party",
    "PasswordLink", "Payout",
    "Phase", "PhaseCondition", "PhaseEvidence", "PhaseSignOff", "Pilot", "PriceRow", "ProbeDay", "ProbeReport",
    "Progress", "Pulse", "Reading", "Recheck", "RememberedReply", "Report", "ReportChain", "ReportRule",
    "ResourceClass", "RevenueSplit", "RollAnswer", "RollCall", "RollMember", "RollReply", "RollReport", "Seat",
    "SeatLimit", "SetAsideRule", "Settlement", "SettlementLine", "Signal", "Site", "SiteLatency", "SlaPreset",
    "SlashCase", "SlotReport", "SlotTally", "SpendingChange", "SpendingRule", "SplitShare", "Standing",
    "StandingChange",
    "StandingDemand", "StandingEntry", "StepIn", "StepInRun", "SubSite", "SupplyChange", "SuspectFlow", "TargetVerdict",
    "TaxRule", "Tier", "TierControl", "TierZone", "Undertaking", "UndertakingEnd", "UndertakingReview", "UnitProver",
    "User",
    "Vantage", "Verdict", "VerifierSeat", "Voucher", "WindDown", "Window", "WindowKey", "WindowShare",
    "WindowTransition", "WitnessKey", "Zone", "ZoneChange", "ZoneMember", "ZoneReport",
]  # fmt: skip
