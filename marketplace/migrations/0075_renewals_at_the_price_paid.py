"""A renewal is capped by what its last lease really cost, however its price came about."""

from django.db import migrations

FUNCTIONS = """
-- What the last lease of a standing demand cost per unit-hour in the mean, rounded down; null before the first.
CREATE FUNCTION marketplace_last_paid(asked uuid) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT sum(l.fee_micros)::bigint / sum(l.unit_hours)::bigint
    FROM marketplace_standingentry e JOIN marketplace_window w ON w.id = e.window_id
        JOIN marketplace_lease l ON l.demand_id = e.demand_id AND l.step_in_id IS NULL AND l.state <> 'refused'
    WHERE e.standing_id = asked
    GROUP BY e.id, w.starts_at HAVING sum(l.unit_hours) > 0
    ORDER BY w.starts_at DESC LIMIT 1
$$;

CREATE FUNCTION marketplace_renewal_knows_its_price() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.paid_micros IS DISTINCT FROM marketplace_last_paid(NEW.standing_id) THEN
        RAISE EXCEPTION 'renewal_is_capped_by_what_was_paid: the last lease cost another price'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'renewal_is_capped_by_what_was_paid';
    END IF;
    RETURN NEW;
END $$;

-- Its demand may change while its window collects, and keeps the cap.
CREATE FUNCTION marketplace_renewal_keeps_its_cap() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM marketplace_standingentry e WHERE e.demand_id = NEW.id
               AND NEW.price_limit_micros > e.paid_micros + e.paid_micros * e.cap_ppm / 1000000) THEN
        RAISE EXCEPTION 'renewed_demand_stays_under_its_cap: %', NEW.reference
            USING ERRCODE = 'check_violation', CONSTRAINT = 'renewed_demand_stays_under_its_cap';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER renewal_knows_its_price BEFORE INSERT ON marketplace_standingentry
    FOR EACH ROW EXECUTE FUNCTION marketplace_renewal_knows_its_price();
CREATE TRIGGER renewal_keeps_its_cap BEFORE UPDATE OF price_limit_micros ON marketplace_demand
    FOR EACH ROW WHEN (NEW.price_limit_micros > OLD.price_limit_micros)
    EXECUTE FUNCTION marketplace_renewal_keeps_its_cap();
"""
UNDO = """
DROP TRIGGER renewal_keeps_its_cap ON marketplace_demand;
DROP TRIGGER renewal_knows_its_price ON marketplace_standingentry;
DROP FUNCTION marketplace_renewal_keeps_its_cap, marketplace_renewal_knows_its_price, marketplace_last_paid;
"""


class Migration(migrations.Migration):
    dependencies = [("marketplace", "0074_rolls_share_a_moment")]
    operations = [migrations.RunSQL(FUNCTIONS, UNDO)]
