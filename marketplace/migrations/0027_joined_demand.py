"""One model for what buyers say, one for their orders: rows are brought over here, and the old places go in 0061."""

import django.db.models.deletion
from django.db import migrations, models

SEGMENT_OF_KIND = {"public_buyer": "public_sector", "research_buyer": "research"}


def bring_over(apps, schema_editor):
    """Needs become statements about no demand; an order named by unfunded demand becomes one that waits."""
    _needs(apps.get_model("marketplace", "Need"), apps.get_model("marketplace", "DemandStatement"))
    _orders(apps.get_model("marketplace", "Demand"), apps.get_model("marketplace", "FundingLine"))
    schema_editor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # else the next migration meets pending events


def _needs(need, statement):
    versions = {}
    rows = []
    for row in need.objects.select_related("party").order_by("at", "id"):
        versions[row.party_id] = versions.get(row.party_id, 0) + 1
        rows.append(statement(
            id=row.pk, party_id=row.party_id, version=versions[row.party_id], pain=row.pain, incumbent=row.supplier,
            segment=SEGMENT_OF_KIND.get(row.party.kind, "enterprise"), stated_at=row.at,
            present_usd_per_year=(row.spend_micros * 12 + 500_000) // 1_000_000,  # micro-USD a month to USD a year
        ))  # fmt: skip
    statement.objects.bulk_create(rows)


def _orders(demand, line):
    """What a paid demand called its order stays on no row: another kind of money is behind it."""
    named = demand.objects.exclude(purchase_order="").filter(funding_kind="", state__in=("pending", "posted"))
    rows = {}
    for row in named.select_related("window").order_by("posted_at", "id"):
        rows.setdefault((row.party_id, row.purchase_order), []).append(row)
    for (party, number), same in rows.items():
        known = line.objects.filter(party_id=party, kind="purchase_order", number=number)
        order = known.first() or line.objects.create(
            id=same[0].pk, party_id=party, kind="purchase_order", number=number, asked_by="brought over",
            limit_micros=sum(r.quantity_units * (r.end_slot - r.start_slot) * r.price_limit_micros for r in same),
            valid_until=max(r.window.starts_at for r in same), asked_at=same[0].posted_at,
        )  # fmt: skip
        named.filter(party_id=party, purchase_order=number).update(funding_line=order)


def leave(apps, schema_editor):
    """Back: what was said about no demand is a need again, and an order that is only named is text again."""
    demand = apps.get_model("marketplace", "Demand")
    for row in demand.objects.filter(funding_kind="").exclude(funding_line=None).select_related("funding_line"):
        demand.objects.filter(pk=row.pk).update(purchase_order=row.funding_line.number[:40], funding_line=None)
    need, statement = apps.get_model("marketplace", "Need"), apps.get_model("marketplace", "DemandStatement")
    for row in statement.objects.exclude(party=None):
        need.objects.create(id=row.pk, party_id=row.party_id, pain=row.pain, supplier=row.incumbent, at=row.stated_at,
                            spend_micros=(row.present_usd_per_year or 0) * 1_000_000 // 12)  # fmt: skip
    table = "ALTER TABLE marketplace_demandstatement {} TRIGGER demandstatement_stays"
    schema_editor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    schema_editor.execute(table.format("DISABLE"))  # they stand as needs again, and here no longer
    statement.objects.exclude(party=None).delete()
    schema_editor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    schema_editor.execute(table.format("ENABLE"))
    schema_editor.execute("SET CONSTRAINTS ALL IMMEDIATE")


class Migration(migrations.Migration):
    dependencies = [("marketplace", "0026_appeals")]
    operations = [
        migrations.AddField(
            model_name="demandstatement",
            name="party",
            field=models.ForeignKey(
                blank=True, help_text="the buyer, where it is about no demand yet", null=True,
                on_delete=django.db.models.deletion.PROTECT, related_name="statements", to="marketplace.party",
            ),
        ),
        migrations.AlterField(
            model_name="demandstatement",
            name="demand",
            field=models.ForeignKey(
                blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name="statements",
                to="marketplace.demand",
            ),
        ),
        migrations.AlterField(
            model_name="demandstatement",
            name="incumbent",
            field=models.CharField(
                blank=True, default="", help_text="who supplies or quotes otherwise", max_length=120
            ),
        ),
        migrations.AlterField(
            model_name="demandstatement",
            name="pain",
            field=models.CharField(
                blank=True, default="", help_text="what is wrong with the present way", max_length=1000
            ),
        ),
        migrations.AlterField(
            model_name="demand",
            name="funding_line",
            field=models.ForeignKey(
                blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name="demands",
                to="marketplace.fundingline",
                help_text="the order or grant behind it; an order may be named before it funds",
            ),
        ),
        migrations.RemoveConstraint(model_name="demand", name="demand_has_a_line_when_one_backs_it"),
        migrations.AddConstraint(
            model_name="demand",
            constraint=models.CheckConstraint(
                name="demand_has_a_line_when_one_backs_it",
                condition=models.Q(funding_kind="") | models.Q(funding_line=None, funding_kind__in=("escrow", "card"))
                | (~models.Q(funding_line=None) & models.Q(funding_kind__in=("purchase_order", "grant"))),
            ),
        ),
        migrations.AddConstraint(
            model_name="demandstatement",
            constraint=models.UniqueConstraint(
                fields=("party", "version"), name="statement_of_a_buyer_is_numbered_once"
            ),
        ),
        migrations.AddConstraint(
            model_name="demandstatement",
            constraint=models.CheckConstraint(
                name="statement_is_of_a_demand_or_a_buyer",
                condition=models.Q(demand=None, party__isnull=False) | models.Q(demand__isnull=False, party=None),
            ),
        ),
        migrations.AddConstraint(
            model_name="demandstatement",
            constraint=models.CheckConstraint(
                name="statement_of_a_buyer_says_what_hurts",
                condition=models.Q(party=None) | (~models.Q(pain="") & models.Q(quote_micros=None, curves={})),
            ),
        ),
        migrations.RunPython(bring_over, leave),
    ]
