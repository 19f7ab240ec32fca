"""Walls: what the Foundation demands itself, or through what it owns, lets no capacity in."""

from importlib import import_module

from django.db import migrations

BEFORE = import_module("marketplace.migrations.0016_walls_of_demand_first").FUNCTIONS
COUNTED = BEFORE[BEFORE.index("CREATE FUNCTION marketplace_funded_demand") :]
COUNTED = COUNTED[: COUNTED.index("CREATE FUNCTION marketplace_funded_unit_hours")]
COUNTED = COUNTED.replace("CREATE", "CREATE OR REPLACE", 1)
WITHOUT_ITS_OWN = COUNTED.replace(
    "AND d.state IN", "AND d.party_id NOT IN (SELECT marketplace_foundation_parties())\n      AND d.state IN", 1
)
assert WITHOUT_ITS_OWN != COUNTED


class Migration(migrations.Migration):
    dependencies = [("marketplace", "0052_entry_to_proven")]
    operations = [migrations.RunSQL(WITHOUT_ITS_OWN, COUNTED)]
