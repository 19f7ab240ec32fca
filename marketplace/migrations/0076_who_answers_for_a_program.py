"""Whoever issued a program's key, or let a demand stand, answers for what it posts, and does not approve it."""

import django.db.models.deletion
from django.db import migrations, models

# Keys of before: the audit trail says who issued them.
ISSUERS = """
UPDATE marketplace_apikey k SET issued_by_id = s.id
FROM marketplace_auditline a JOIN marketplace_user u ON u.email = a.actor JOIN marketplace_seat s ON s.user_id = u.id
WHERE a.action = 'issue_api_key' AND a.subject = k.prefix AND s.party_id = k.party_id
"""


class Migration(migrations.Migration):
    dependencies = [("marketplace", "0075_renewals_at_the_price_paid")]

    operations = [
        migrations.AddField(
            model_name="apikey",
            name="issued_by",
            field=models.ForeignKey(
                blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name="issued_keys",
                to="marketplace.seat",
                help_text="approves nothing that the key posted; null: the operator's command",
            ),
        ),
        migrations.AddField(
            model_name="standingdemand",
            name="made_by",
            field=models.ForeignKey(
                blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+",
                to="marketplace.seat", help_text="counts as whoever posted its entries; null: nobody did",
            ),
        ),
        migrations.AlterField(
            model_name="demand",
            name="posted_by",
            field=models.ForeignKey(
                blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+",
                to="marketplace.seat", help_text="of a program: who issued its key; none: nobody did",
            ),
        ),
        migrations.RunSQL(ISSUERS, migrations.RunSQL.noop),
    ]  # fmt: skip
