"""Legs of an order belong together, and no owner of providers serves two legs of an order that is spread."""

from django.db import migrations

APPEND_ONLY = ("demandleg",)

FUNCTIONS = """
CREATE FUNCTION marketplace_last_owner(party uuid) RETURNS uuid LANGUAGE sql STABLE AS $$
    WITH RECURSIVE above (id, parent_id) AS (
        SELECT p.id, p.parent_id FROM marketplace_party p WHERE p.id = party
        UNION ALL
        SELECT p.id, p.parent_id FROM above JOIN marketplace_party p ON p.id = above.parent_id)
    SELECT id FROM above WHERE parent_id IS NULL
$$;

CREATE FUNCTION marketplace_leg_belongs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT 1 FROM marketplace_demandleg g JOIN marketplace_demand o ON o.id = g.demand_id
            JOIN marketplace_demand d ON d.id = NEW.demand_id
        WHERE g."order" = NEW."order" AND g.demand_id <> NEW.demand_id
          AND ((o.party_id, o.window_id) IS DISTINCT FROM (d.party_id, d.window_id) OR g."of" <> NEW."of")) THEN
        RAISE EXCEPTION 'legs_of_an_order_are_one_buyers: leg % of %', NEW.no, NEW."order"
            USING ERRCODE = 'check_violation', CONSTRAINT = 'legs_of_an_order_are_one_buyers';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_award_keeps_the_cap() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT 1 FROM marketplace_demandleg mine
            JOIN marketplace_demandleg other ON other."order" = mine."order" AND other.demand_id <> mine.demand_id
            JOIN marketplace_award a ON a.demand_id = other.demand_id
            JOIN marketplace_bid o ON o.id = a.bid_id JOIN marketplace_bid b ON b.id = NEW.bid_id
        WHERE mine.demand_id = NEW.demand_id AND mine.role = 'spread'
          AND marketplace_last_owner(o.party_id) = marketplace_last_owner(b.party_id)) THEN
        RAISE EXCEPTION 'award_keeps_the_cap_on_one_provider: demand %', NEW.demand_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'award_keeps_the_cap_on_one_provider';
    END IF;
    RETURN NEW;
END $$;
"""
TRIGGERS = """
CREATE TRIGGER leg_belongs BEFORE INSERT ON marketplace_demandleg
    FOR EACH ROW EXECUTE FUNCTION marketplace_leg_belongs();
CREATE TRIGGER award_keeps_the_cap BEFORE INSERT ON marketplace_award
    FOR EACH ROW EXECUTE FUNCTION marketplace_award_keeps_the_cap();
CREATE TRIGGER demandleg_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON marketplace_demandleg
    FOR EACH STATEMENT EXECUTE FUNCTION marketplace_deny_change();
GRANT SELECT, INSERT ON marketplace_demandleg TO grove_app;
"""
UNDO = """
REVOKE ALL ON marketplace_demandleg FROM grove_app;
DROP TRIGGER demandleg_stays ON marketplace_demandleg;
DROP TRIGGER award_keeps_the_cap ON marketplace_award;
DROP TRIGGER leg_belongs ON marketplace_demandleg;
DROP FUNCTION marketplace_award_keeps_the_cap, marketplace_leg_belongs, marketplace_last_owner;
"""


class Migration(migrations.Migration):
    dependencies = [("marketplace", "0033_legs_of_an_order")]
    operations = [migrations.RunSQL(FUNCTIONS + TRIGGERS, UNDO)]
