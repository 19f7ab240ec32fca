"""Addresses of the buyer portal. Fragments have their own (`_progress`): a page never answers as half a page."""

from django.urls import path

from marketplace.portal import agreements, commitments, counsel, planning, reports, spending, views

app_name = "portal"
urlpatterns = [
    path("", views.home, name="home"),
    path("_progress/", views.progress, name="progress"),
    path("workloads/", planning.workloads, name="workloads"),
    path("workloads/sample.csv", planning.workload_sample, name="workload_sample"),
    path("cost/", planning.cost, name="cost"),
    path("cost/<uuid:comparison_id>/", planning.comparison, name="comparison"),
    path("savings/", planning.measured_savings, name="savings"),
    path("windows/", views.window_list, name="windows"),
    path("windows/<uuid:window_id>/", views.window_page, name="window"),
    path("demands/", views.demand_list, name="demands"),
    path("demands/new/", views.demand_new, name="demand_new"),
    path("demands/<uuid:demand_id>/", views.demand_page, name="demand"),
    path("demands/<uuid:demand_id>/fund/", views.demand_fund, name="demand_fund"),
    path("demands/<uuid:demand_id>/pin/", views.demand_pin, name="demand_pin"),
    path("demands/<uuid:demand_id>/worth/", planning.worth, name="worth"),
    path("demands/<uuid:demand_id>/withdraw/", views.demand_withdraw, name="demand_withdraw"),
    path("agreements/", agreements.agreements, name="agreements"),
    path("agreements/<uuid:pk>/", agreements.agreement_act, name="agreement_act"),
    path("counsel/", counsel.counsel, name="counsel"),
    path("counsel/<uuid:demand_id>/", counsel.counsel_sign, name="counsel_sign"),
    path("counsel/rules/<uuid:pk>/end/", counsel.counsel_rule_end, name="counsel_rule_end"),
    path("reports/", reports.reports, name="reports"),
    path("pilots/", agreements.pilots, name="pilots"),
    path("pilots/<uuid:demand_id>/convert/", agreements.pilot_convert, name="pilot_convert"),
    path("approvals/", spending.approvals, name="approvals"),
    path("approvals/rules/", spending.rules, name="spending_rules"),
    path("approvals/<uuid:demand_id>/", spending.approve, name="approve"),
    path("commitments/", commitments.commitments, name="commitments"),
    path("commitments/<uuid:standing_id>/withdraw/", commitments.standing_withdraw, name="standing_withdraw"),
    path("leases/", views.lease_list, name="leases"),
    path("leases/<uuid:lease_id>/", views.lease_page, name="lease"),
    path("leases/<uuid:lease_id>/pack/", views.lease_pack, name="lease_pack"),
    path("escrow/", views.escrow, name="escrow"),
    path("escrow/statement/", views.escrow_statement, name="escrow_statement"),
    path("escrow/deposit/", views.deposit, name="deposit"),
    path("escrow/card/", views.card_deposit, name="card_deposit"),
    path("escrow/card/<uuid:key>/", views.card_page, name="card"),
    path("escrow/card/<uuid:key>/_steps/", views.card_steps, name="card_steps"),
    path("escrow/card/<uuid:key>/return/", views.card_return, name="card_return"),
]
