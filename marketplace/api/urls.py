"""The API's addresses: version 1, its schema and its documentation."""

from __future__ import annotations

from django.urls import path, re_path

from marketplace.api import docs
from marketplace.api.v1 import admissions, catalogue, clearing, commitments, demand, escrow, planning, reports, supply
from marketplace.api.views import NoSuchAddress

urlpatterns = [
    path("openapi.yaml", docs.schema_file, name="openapi"),
    path("docs/", docs.Docs.as_view(), name="api-docs"),
    path("v1/windows", catalogue.WindowList.as_view()),
    path("v1/windows/<str:window>", catalogue.WindowDetail.as_view()),
    path("v1/workloads/placements", planning.WorkloadPlacements.as_view()),
    path("v1/demands", demand.DemandList.as_view()),
    path("v1/demands/<str:demand>", demand.DemandDetail.as_view()),
    path("v1/demands/<str:demand>/funding", demand.DemandFunding.as_view()),
    path("v1/demands/<str:demand>/approvals", demand.DemandApprovals.as_view()),
    path("v1/demands/<str:demand>/withdrawal", demand.DemandWithdrawal.as_view()),
    path("v1/bilateral-windows", commitments.BilateralList.as_view()),
    path("v1/standing-demands", commitments.StandingList.as_view()),
    path("v1/standing-demands/<str:standing>/price", commitments.StandingPrice.as_view()),
    path("v1/standing-demands/<str:standing>/withdrawal", commitments.StandingWithdrawal.as_view()),
    path("v1/funding-lines", commitments.FundingLineList.as_view()),
    path("v1/needs", commitments.NeedList.as_view()),
    path("v1/admissions", admissions.AdmissionList.as_view()),
    path("v1/admissions/<str:admission>/entry", admissions.AdmissionEntry.as_view()),
    path("v1/admissions/<str:admission>/withdrawal", admissions.AdmissionWithdrawal.as_view()),
    path("v1/bids", supply.BidList.as_view()),
    path("v1/bids/<str:bid>", supply.BidDetail.as_view()),
    path("v1/bids/<str:bid>/receipt", supply.BidReceipt.as_view()),
    path("v1/bids/<str:bid>/withdrawal", supply.BidWithdrawal.as_view()),
    path("v1/capacity", supply.CapacityList.as_view()),
    path("v1/awards", clearing.AwardList.as_view()),
    path("v1/awards/<str:award>", clearing.AwardDetail.as_view()),
    path("v1/leases", escrow.LeaseList.as_view()),
    path("v1/leases/<str:lease>", escrow.LeaseDetail.as_view()),
    path("v1/leases/<str:lease>/pack", escrow.LeasePackDetail.as_view()),
    path("v1/leases/<str:lease>/egress", escrow.LeaseEgress.as_view()),
    path("v1/balances", escrow.Balances.as_view()),
    path("v1/statement", escrow.StatementList.as_view()),
    path("v1/statement/file", escrow.StatementFile.as_view()),
    path("v1/certificates", clearing.CertificateList.as_view()),
    path("v1/certificates/<str:window>", clearing.CertificateDetail.as_view()),
    path("v1/certificates/<str:window>/files/<str:name>", clearing.CertificateFile.as_view()),
    path("v1/reports", reports.ReportList.as_view()),
    path("v1/market/report-outcomes", reports.Outcomes.as_view()),
    path("v1/market/prices", clearing.MarketPrices.as_view()),
    re_path(r"^v1(?:/.*)?$", NoSuchAddress.as_view()),  # a problem document, not a page, for what stands nowhere
]
