"""The places that were joined in 0060 go; a demand over its threshold names an order that was asked for."""

import re
from importlib import import_module

from django.db import migrations, models

BEFORE = re.search(
    r"FUNCTION marketplace_demand_is_affordable.*?END \$\$;\n",
    import_module("marketplace.migrations.0014_walls_of_spending_and_capacity").FUNCTIONS, re.DOTALL,
)  # fmt: skip
assert BEFORE is not None
FUNCTIONS = f"CREATE OR REPLACE {BEFORE.group()}".replace(
    "NEW.purchase_order = ''", "NEW.funding_line_id IS NULL"
).replace(
    "(NEW.budget_id, NEW.pilot_id, NEW.tier_min) IS NOT DISTINCT FROM\n           (OLD.budget_id, OLD.pilot_id, OLD.tier_min)",
    "(NEW.budget_id, NEW.pilot_id, NEW.tier_min, NEW.funding_line_id)\n           IS NOT DISTINCT FROM (OLD.budget_id, OLD.pilot_id, OLD.tier_min, OLD.funding_line_id)",
).replace(
    "        WHEN p.party_id <> NEW.party_id OR",
    "        WHEN NEW.party_id <> (SELECT l.party_id FROM marketplace_fundingline l WHERE l.id = NEW.funding_line_id)\n"
    "            THEN 'demand_names_its_own_order'\n        WHEN p.party_id <> NEW.party_id OR",
)  # fmt: skip
WALLS_OF_NEEDS = """
CREATE TRIGGER need_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON marketplace_need
    FOR EACH STATEMENT EXECUTE FUNCTION marketplace_deny_change();
GRANT SELECT, INSERT ON marketplace_need TO grove_app;
"""


class Migration(migrations.Migration):
    dependencies = [("marketplace", "0027_joined_demand")]
    operations = [
        migrations.RunSQL(FUNCTIONS, f"CREATE OR REPLACE {BEFORE.group()}"),
        migrations.RemoveField(model_name="demand", name="purchase_order"),
        migrations.RemoveField(model_name="tier", name="controls"),
        migrations.RunSQL(migrations.RunSQL.noop, WALLS_OF_NEEDS),
        migrations.DeleteModel(name="Need"),
    ]
