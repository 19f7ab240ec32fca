"""Addresses of the provider's dashboard."""

from django.urls import path

from marketplace.doors import provider_only
from marketplace.join_pages import join
from marketplace.key_pages import key_paths
from marketplace.onboarding import (
    breakeven,
    compliance,
    delivery,
    entry,
    imports,
    machines,
    members,
    places,
    views,
    waitlist,
)
from marketplace.seat_pages import seat_paths

app_name = "onboarding"
urlpatterns = [
    path("", views.home, name="home"),
    path("join/", join, {"door": "onboarding"}, name="join"),
    path("_progress/", views.progress, name="progress"),
    path("classes/", views.class_list, name="classes"),
    path("classes/<uuid:node_class_id>/", machines.class_page, name="class"),
    path("classes/<uuid:node_class_id>/code/", machines.code, name="class_code"),
    path("classes/<uuid:node_class_id>/unit-codes/", machines.unit_codes, name="class_unit_codes"),
    path("units/<uuid:prover_id>/retire/", machines.retire_unit, name="unit_retire"),
    path("units/<uuid:prover_id>/key/", machines.unit_key, name="unit_key"),
    path("classes/<uuid:node_class_id>/revoke-key/", machines.revoke, name="class_revoke_key"),
    path("enrolments/<uuid:enrolment_id>/", machines.decide, name="enrolment"),
    path("imports/", imports.imports, name="imports"),
    path("imports/weeks/<uuid:pk>/undo/", imports.week_undo, name="week_undo"),
    path("break-even/", breakeven.break_even_page, name="break_even"),
    path("evidence/", compliance.evidence, name="evidence"),
    path("evidence/<uuid:pk>/end/", compliance.evidence_end, name="evidence_end"),
    path("agreements/<uuid:pk>/sign/", compliance.agreement_sign, name="agreement_sign"),
    path("capacity/", compliance.capacity, name="capacity"),
    path("arming/", views.arming, name="arming"),
    path("cases/<uuid:case_id>/dispute/", views.case_dispute, name="case_dispute"),
    path("members/", members.members, name="members"),
    path("members/devices/<uuid:pk>/retire/", members.device_retire, name="device_retire"),
    path("places/", places.places, name="places"),
    path("places/<uuid:pk>/", places.site_page, name="place"),
    path("places/classes/<uuid:pk>/", places.class_page, name="place_class"),
    path("places/changes/<uuid:pk>/undo/", places.undo, name="place_undo"),
    path("undertakings/", entry.undertakings, name="undertakings"),
    path("undertakings/<uuid:pk>/end/", entry.undertaking_end, name="undertaking_end"),
    path("waitlist/", waitlist.waitlist, name="waitlist"),
    path("waitlist/<uuid:admission_id>/enter/", waitlist.enter, name="waitlist_enter"),
    path("waitlist/<uuid:admission_id>/leave/", waitlist.leave, name="waitlist_leave"),
    path("bids/", views.bid_list, name="bids"),
    path("bids/new/", views.bid_new, name="bid_new"),
    path("bids/<uuid:bid_id>/withdraw/", views.bid_withdraw, name="bid_withdraw"),
    path("bids/<uuid:bid_id>/receipt/", views.bid_receipt, name="bid_receipt"),
    *key_paths("onboarding", provider_only),
    *seat_paths("onboarding", provider_only),
    path("leases/", views.lease_list, name="leases"),
    path("leases/<uuid:lease_id>/pack/", views.lease_pack, name="lease_pack"),
    path("leases/<uuid:lease_id>/minutes/", delivery.minutes, name="lease_minutes"),
    path("cases/", delivery.cases, name="cases"),
    path("payouts/", views.payouts_page, name="payouts"),
    path("payouts/_account/", views.payouts_account, name="payouts_account"),
    path("payouts/bank/", views.payouts_to_bank, name="payouts_to_bank"),
    path("payouts/wallet/", views.payouts_to_wallet, name="payouts_to_wallet"),
    path("payouts/now/", views.payouts_now, name="payouts_now"),
    path("payouts/<uuid:payout_id>/proof/", views.payout_proof, name="payout_proof"),
    path("payouts/claims/", views.claims_file, name="claims_file"),
    path("statement/", views.statement, name="statement"),
    path("statement/file/", views.statement_file, name="statement_file"),
]
