"""A bid's terms are written when bidding is over, so that is when the rules about them look at it."""

from django.db import migrations

FUNCTIONS = """
CREATE OR REPLACE FUNCTION marketplace_probation_bids_little() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    capacity bigint;
BEGIN
    -- A class that came to probation after it had bid keeps its bid; clearing judges it as it stands then.
    SELECT n.units INTO capacity FROM marketplace_nodeclass n JOIN marketplace_standing s ON s.node_class_id = n.id
        WHERE n.id = NEW.node_class_id AND s.state = 'PROBATION' AND NOT EXISTS (
            SELECT 1 FROM marketplace_standingchange c WHERE c.node_class_id = n.id AND c.at > NEW.placed_at);
    IF NEW.end_slot - NEW.start_slot > 24 AND capacity IS NOT NULL THEN
        RAISE EXCEPTION 'probation_bid_lasts_a_day: % slots', NEW.end_slot - NEW.start_slot
            USING ERRCODE = 'check_violation', CONSTRAINT = 'probation_bid_lasts_a_day';
    ELSIF capacity IS NOT NULL AND NEW.quantity_units > greatest(1, capacity / 10) THEN
        RAISE EXCEPTION 'probation_bid_is_a_tenth: % of % units', NEW.quantity_units, capacity
            USING ERRCODE = 'check_violation', CONSTRAINT = 'probation_bid_is_a_tenth';
    END IF;
    RETURN NEW;
END $$;
"""
TRIGGER = """
DROP TRIGGER probation_bids_little ON marketplace_bid;
CREATE TRIGGER probation_bids_little BEFORE UPDATE OF quantity_units, start_slot, end_slot ON marketplace_bid
    FOR EACH ROW EXECUTE FUNCTION marketplace_probation_bids_little();
"""
UNDO = """
DROP TRIGGER probation_bids_little ON marketplace_bid;
CREATE TRIGGER probation_bids_little BEFORE INSERT ON marketplace_bid
    FOR EACH ROW EXECUTE FUNCTION marketplace_probation_bids_little();
"""


class Migration(migrations.Migration):
    dependencies = [("marketplace", "0022_proven_use")]
    operations = [migrations.RunSQL(FUNCTIONS + TRIGGER, UNDO)]
