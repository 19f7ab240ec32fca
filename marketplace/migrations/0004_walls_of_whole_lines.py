"""Walls for lines that a price alone cannot ration: whole, from a minimum on, in one site, one of several."""

from importlib import import_module

from django.db import migrations

walls = import_module("marketplace.migrations.0002_walls")

APPEND_ONLY = ("backup", "notice")

_FROZEN = "d.minimum_units, d.is_one_site, d.choice"
_OLD = walls.FUNCTIONS[walls.FUNCTIONS.index("CREATE FUNCTION marketplace_demand_in_time"):]
_OLD = _OLD[: _OLD.index("END $$;") + len("END $$;")].replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")
_NEW = _OLD
for row in ("NEW", "OLD"):
    _NEW = _NEW.replace(f"{row}.sla_id\n", f"{row}.sla_id, {_FROZEN.replace('d.', f'{row}.')}\n")

FUNCTIONS = """
-- Looked at when all awards of a clearing stand: a single row says nothing about a whole.
CREATE FUNCTION marketplace_award_keeps_wholes() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    d marketplace_demand%ROWTYPE;
    b marketplace_bid%ROWTYPE;
    bought bigint;
    sold bigint;
    broken text;
BEGIN
    SELECT * INTO d FROM marketplace_demand WHERE id = NEW.demand_id;
    SELECT * INTO b FROM marketplace_bid WHERE id = NEW.bid_id;
    IF d.kind = 'divisible' AND b.minimum_units = 0 THEN
        RETURN NULL;
    END IF;
    SELECT sum(units * (end_slot - start_slot)) INTO bought FROM marketplace_award WHERE demand_id = d.id;
    SELECT sum(units * (end_slot - start_slot)) INTO sold FROM marketplace_award WHERE bid_id = b.id;
    broken := CASE
        WHEN d.kind = 'block' AND bought <> d.quantity_units * (d.end_slot - d.start_slot)
            THEN 'award_takes_the_whole_block'
        WHEN bought < d.minimum_units * (d.end_slot - d.start_slot) THEN 'award_keeps_the_demands_minimum'
        WHEN sold < b.minimum_units * (b.end_slot - b.start_slot) THEN 'award_keeps_the_bids_minimum'
        WHEN d.is_one_site AND EXISTS (
            SELECT 1 FROM marketplace_award a JOIN marketplace_bid o ON o.id = a.bid_id
                JOIN marketplace_nodeclass n ON n.id = o.node_class_id
            WHERE a.demand_id = d.id AND n.site_id <> (
                SELECT site_id FROM marketplace_nodeclass WHERE id = b.node_class_id)) THEN 'award_stays_in_one_site'
        WHEN d.choice <> '' AND EXISTS (
            SELECT 1 FROM marketplace_award a JOIN marketplace_demand o ON o.id = a.demand_id
            WHERE o.window_id = d.window_id AND o.party_id = d.party_id AND o.choice = d.choice AND o.id <> d.id)
            THEN 'award_is_of_one_alternative'
    END;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION '%: demand % served by bid %', broken, d.reference, b.reference
            USING ERRCODE = 'check_violation', CONSTRAINT = broken;
    END IF;
    RETURN NULL;
END $$;
"""

TRIGGERS = """
CREATE CONSTRAINT TRIGGER award_keeps_wholes AFTER INSERT ON marketplace_award DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION marketplace_award_keeps_wholes();
""" + "".join(
    f"CREATE TRIGGER {name}_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON marketplace_{name} "
    "FOR EACH STATEMENT EXECUTE FUNCTION marketplace_deny_change();\n"
    for name in APPEND_ONLY
)

UNDO = (
    "".join(f"DROP TRIGGER {name}_stays ON marketplace_{name};\n" for name in APPEND_ONLY)
    + "DROP TRIGGER award_keeps_wholes ON marketplace_award;\nDROP FUNCTION marketplace_award_keeps_wholes;\n"
    + _OLD
)


class Migration(migrations.Migration):
    dependencies = [("marketplace", "0003_whole_lines_and_rules")]
    operations = [migrations.RunSQL(_NEW + FUNCTIONS + TRIGGERS, UNDO)]
