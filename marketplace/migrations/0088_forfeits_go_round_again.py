"""Credit and a share of the stake may be more than all the fees: the rest is forfeited in a second round."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("marketplace", "0087_all_machines_at_two_instants")]
    operations = [
        migrations.AddField(
            model_name="forfeit",
            name="round_no",
            field=models.PositiveSmallIntegerField(
                default=0, help_text="1: more was due than the fees of all its leases"
            ),
        ),
        migrations.RemoveConstraint(model_name="forfeit", name="a_case_forfeits_once_per_lease"),
        migrations.AddConstraint(
            model_name="forfeit",
            constraint=models.UniqueConstraint(
                fields=("case", "lease", "round_no"), name="a_case_forfeits_once_per_lease"
            ),
        ),
    ]
