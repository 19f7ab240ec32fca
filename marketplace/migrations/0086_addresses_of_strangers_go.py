"""Addresses that asked for a link to another password leave the outbox: most of them are nobody's here."""

from django.db import migrations

# What waited for its letter goes too: the person asks once more.
FORGET = "DELETE FROM ledger_outbox WHERE kind = 'parties.mail_reset' AND payload ? 'email';"


class Migration(migrations.Migration):
    dependencies = [("marketplace", "0085_walls_of_two_people"), ("ledger", "0012_cheap_half_first")]
    operations = [migrations.RunSQL(FORGET, migrations.RunSQL.noop)]
