"""What is said of a demand is said before prices are known, and no saving stands without what it is measured against."""

from django.db import migrations

APPEND_ONLY = ("demandstatement", "leasedifference", "comparison")

FUNCTIONS = """
CREATE FUNCTION marketplace_statement_in_time() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT w.state FROM marketplace_demand d JOIN marketplace_window w ON w.id = d.window_id
        WHERE d.id = NEW.demand_id) <> 'COLLECTING' THEN
        RAISE EXCEPTION 'statement_only_while_collecting: a counterfactual named later would know the price'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'statement_only_while_collecting';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_difference_is_measured() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    s marketplace_demandstatement%ROWTYPE;
    broken text;
BEGIN
    SELECT * INTO s FROM marketplace_demandstatement WHERE id = NEW.statement_id;
    broken := CASE
        WHEN s.quote_micros IS NULL THEN 'difference_needs_a_counterfactual'
        WHEN s.demand_id <> (SELECT demand_id FROM marketplace_lease WHERE id = NEW.lease_id)
            THEN 'difference_is_of_its_own_demand'
        WHEN NOT EXISTS (SELECT 1 FROM marketplace_settlementline WHERE lease_id = NEW.lease_id)
            THEN 'difference_is_of_a_settled_lease'
        WHEN NEW.quoted_micros <> NEW.delivered_unit_minutes * s.quote_micros / 60
            THEN 'difference_counts_what_was_delivered'
    END;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION '%: lease %', broken, NEW.lease_id
            USING ERRCODE = 'check_violation', CONSTRAINT = broken;
    END IF;
    RETURN NEW;
END $$;
"""
TRIGGERS = """
CREATE TRIGGER statement_in_time BEFORE INSERT ON marketplace_demandstatement
    FOR EACH ROW EXECUTE FUNCTION marketplace_statement_in_time();
CREATE TRIGGER difference_is_measured BEFORE INSERT ON marketplace_leasedifference
    FOR EACH ROW EXECUTE FUNCTION marketplace_difference_is_measured();
""" + "".join(
    f"CREATE TRIGGER {name}_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON marketplace_{name} "
    "FOR EACH STATEMENT EXECUTE FUNCTION marketplace_deny_change();\n"
    f"GRANT SELECT, INSERT ON marketplace_{name} TO grove_app;\n"
    for name in APPEND_ONLY
)
UNDO = (
    "".join(
        f"REVOKE ALL ON marketplace_{name} FROM grove_app;\nDROP TRIGGER {name}_stays ON marketplace_{name};\n"
        for name in APPEND_ONLY
    )
    + "DROP TRIGGER difference_is_measured ON marketplace_leasedifference;\n"
    "DROP TRIGGER statement_in_time ON marketplace_demandstatement;\n"
    "DROP FUNCTION marketplace_difference_is_measured;\nDROP FUNCTION marketplace_statement_in_time;\n"
)


class Migration(migrations.Migration):
    dependencies = [("marketplace", "0024_what_demand_is_worth")]
    operations = [migrations.RunSQL(FUNCTIONS + TRIGGERS, UNDO)]
