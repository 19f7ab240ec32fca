"""Addresses of the buyer portal. Fragments have their own (`_progress`): a page never answers as half a page."""

from django.urls import path

from marketplace.portal import agreements, commitments, delivery, invoices, planning, spending, views

app_name = "portal"
urlpatterns = [
    path("", views.home, name="home"),
    path("_progress/", views.progress, name="progress"),
    path("workloads/", planning.workloads, name="workloads"),
    path("workloads/sample.csv", planning.workload_sample, name="workload_sample"),
    path("worth/", planning.needs, name="needs"),
    path("cost/", planning.cost, name="cost"),
    path("cost/<uuid:comparison_id>/", planning.comparison, name="comparison"),
    path("savings/", planning.measured_savings, name="savings"),
    path("windows/", views.window_list, name="windows"),
    path("windows/<uuid:window_id>/", views.window_page, name="window"),
    path("demands/", views.demand_list, name="demands"),
    path("demands/new/", views.demand_new, name="demand_new"),
    path("demands/<uuid:demand_id>/", views.demand_page, name="demand"),
    path("demands/<uuid:demand_id>/fund/", views.demand_fund, name="demand_fund"),
    path("demands/<uuid:demand_id>/worth/", planning.worth, name="worth"),
    path("demands/<uuid:demand_id>/withdraw/", views.demand_withdraw, name="demand_withdraw"),
    path("agreements/", agreements.agreements, name="agreements"),
    path("agreements/<uuid:pk>/", agreements.agreement_act, name="agreement_act"),
    path("pilots/", agreements.pilots, name="pilots"),
    path("pilots/<uuid:demand_id>/convert/", agreements.pilot_convert, name="pilot_convert"),
    path("approvals/", spending.approvals, name="approvals"),
    path("approvals/rules/", spending.rules, name="spending_rules"),
    path("approvals/<uuid:demand_id>/", spending.approve, name="approve"),
    path("commitments/", commitments.commitments, name="commitments"),
    path("commitments/<uuid:standing_id>/withdraw/", commitments.standing_withdraw, name="standing_withdraw"),
    path("leases/", views.lease_list, name="leases"),
    path("leases/<uuid:lease_id>/minutes/", delivery.minutes, name="lease_minutes"),
    path("cases/", delivery.cases, name="cases"),
    path("leases/<uuid:lease_id>/", views.lease_page, name="lease"),
    path("leases/<uuid:lease_id>/residency/", views.lease_residency, name="lease_residency"),
    path("escrow/", views.escrow, name="escrow"),
    path("prices/", invoices.prices, name="prices"),
    path("invoices/", invoices.invoice_list, name="invoices"),
    path("invoices/<uuid:invoice_id>/", invoices.invoice_page, name="invoice"),
    path("escrow/statement/", views.escrow_statement, name="escrow_statement"),
    path("escrow/deposit/", views.deposit, name="deposit"),
    path("escrow/card/", views.card_deposit, name="card_deposit"),
    path("escrow/card/<uuid:key>/", views.card_page, name="card"),
    path("escrow/card/<uuid:key>/_steps/", views.card_steps, name="card_steps"),
    path("escrow/card/<uuid:key>/return/", views.card_return, name="card_return"),
]
