"""One step of a price curve may change, and its price stays between those of its neighbours whoever changes it."""

from django.db import migrations

FUNCTIONS = """
CREATE FUNCTION marketplace_curve_keeps_falling() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT 1 FROM marketplace_demandleg g JOIN marketplace_demandleg o ON o."order" = g."order" AND o.no <> g.no
            JOIN marketplace_demand d ON d.id = o.demand_id
        WHERE g.demand_id = NEW.id AND g.role = 'step' AND o.role = 'step'
          AND (CASE WHEN o.no < g.no THEN d.price_limit_micros <= NEW.price_limit_micros
                    ELSE d.price_limit_micros >= NEW.price_limit_micros END)) THEN
        RAISE EXCEPTION 'a_step_stays_between_its_neighbours: %', NEW.reference
            USING ERRCODE = 'check_violation', CONSTRAINT = 'a_step_stays_between_its_neighbours';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER curve_keeps_falling BEFORE UPDATE OF price_limit_micros ON marketplace_demand
    FOR EACH ROW WHEN (NEW.price_limit_micros <> OLD.price_limit_micros)
    EXECUTE FUNCTION marketplace_curve_keeps_falling();
"""
UNDO = """
DROP TRIGGER curve_keeps_falling ON marketplace_demand;
DROP FUNCTION marketplace_curve_keeps_falling;
"""


class Migration(migrations.Migration):
    dependencies = [("marketplace", "0067_one_top_owner")]
    operations = [migrations.RunSQL(FUNCTIONS, UNDO)]
