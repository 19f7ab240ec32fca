"""Walls of trust: standings and slash cases walk their paths, each step has its reason, probation stays small."""

from importlib import import_module

from django.db import migrations

walls = import_module("marketplace.migrations.0002_walls")

APPEND_ONLY = ("forfeit",)

_OLD_ARMED = walls.FUNCTIONS[walls.FUNCTIONS.index("CREATE FUNCTION marketplace_slash_is_armed"):].replace(
    "CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"
)
_NEW_ARMED = _OLD_ARMED.replace("'disputed', 'vetoed'", "'disputed', 'upheld', 'vetoed'")

FUNCTIONS = """
CREATE FUNCTION marketplace_standing_path() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' AND NEW.state <> 'REGISTERED' THEN
        RAISE EXCEPTION 'standing_starts_registered: % is no first standing', NEW.state
            USING ERRCODE = 'check_violation', CONSTRAINT = 'standing_starts_registered';
    ELSIF TG_OP = 'UPDATE' AND NEW.state <> OLD.state AND (OLD.state, NEW.state) NOT IN (
        ('REGISTERED', 'PROBATION'), ('REGISTERED', 'SUSPENDED'), ('REGISTERED', 'UNBONDING'),
        ('PROBATION', 'PROVEN'), ('PROBATION', 'REGISTERED'), ('PROBATION', 'SUSPENDED'), ('PROBATION', 'UNBONDING'),
        ('PROVEN', 'PROBATION'), ('PROVEN', 'DEGRADED'), ('PROVEN', 'SUSPENDED'), ('PROVEN', 'UNBONDING'),
        ('DEGRADED', 'PROVEN'), ('DEGRADED', 'PROBATION'), ('DEGRADED', 'SUSPENDED'), ('DEGRADED', 'UNBONDING'),
        ('SUSPENDED', 'PROBATION'), ('SUSPENDED', 'UNBONDING')
    ) THEN
        RAISE EXCEPTION 'standing_skips_no_state: % cannot follow %', NEW.state, OLD.state
            USING ERRCODE = 'check_violation', CONSTRAINT = 'standing_skips_no_state';
    ELSIF TG_OP = 'UPDATE' AND NEW.state = 'UNBONDING' AND OLD.state <> 'UNBONDING' AND EXISTS (
        SELECT 1 FROM marketplace_lease WHERE node_class_id = NEW.node_class_id
           AND state IN ('locking', 'locked', 'delivering', 'delivered', 'judged')
    ) THEN
        RAISE EXCEPTION 'unbonding_class_has_no_open_lease: its leases come first'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'unbonding_class_has_no_open_lease';
    END IF;
    RETURN NEW;
END $$;

-- Looked at when the transaction ends: standing and its reason are two rows.
CREATE FUNCTION marketplace_standing_moves_with_its_reason() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT 1 FROM marketplace_standingchange WHERE node_class_id = NEW.node_class_id AND at = NEW.changed_at
           AND from_state = OLD.state AND to_state = NEW.state
    ) THEN
        RAISE EXCEPTION 'standing_moves_with_its_reason: nobody said why % became %', OLD.state, NEW.state
            USING ERRCODE = 'check_violation', CONSTRAINT = 'standing_moves_with_its_reason';
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION marketplace_standing_change_is_whole() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.actor = '' OR NEW.evidence IS NULL THEN
        RAISE EXCEPTION 'standing_change_names_actor_and_evidence: % to %', NEW.from_state, NEW.to_state
            USING ERRCODE = 'check_violation', CONSTRAINT = 'standing_change_names_actor_and_evidence';
    END IF;
    RETURN NEW;
END $$;

-- The second refusal of what probation may not sell: longer than a day, more than a tenth, to a tier above T1.
CREATE FUNCTION marketplace_probation_bids_little() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    capacity bigint;
BEGIN
    SELECT n.units INTO capacity FROM marketplace_nodeclass n JOIN marketplace_standing s ON s.node_class_id = n.id
        WHERE n.id = NEW.node_class_id AND s.state = 'PROBATION';
    IF NEW.end_slot - NEW.start_slot > 24 AND capacity IS NOT NULL THEN
        RAISE EXCEPTION 'probation_bid_lasts_a_day: % slots', NEW.end_slot - NEW.start_slot
            USING ERRCODE = 'check_violation', CONSTRAINT = 'probation_bid_lasts_a_day';
    ELSIF capacity IS NOT NULL AND NEW.quantity_units > greatest(1, capacity / 10) THEN
        RAISE EXCEPTION 'probation_bid_is_a_tenth: % of % units', NEW.quantity_units, capacity
            USING ERRCODE = 'check_violation', CONSTRAINT = 'probation_bid_is_a_tenth';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_award_on_probation() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    standing text;
    tier smallint;
BEGIN
    SELECT s.state INTO standing FROM marketplace_bid b JOIN marketplace_standing s ON s.node_class_id = b.node_class_id
        WHERE b.id = NEW.bid_id;
    SELECT tier_min INTO tier FROM marketplace_demand WHERE id = NEW.demand_id;
    IF standing = 'PROBATION' AND tier > 1 THEN
        RAISE EXCEPTION 'award_of_probation_is_low_tier: T% is not for a class on probation', tier
            USING ERRCODE = 'check_violation', CONSTRAINT = 'award_of_probation_is_low_tier';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_lease_is_armed_by_proof() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.is_armed AND (TG_OP = 'INSERT' AND NOT EXISTS (
        SELECT 1 FROM marketplace_standing WHERE node_class_id = NEW.node_class_id AND state = 'PROVEN'
    ) OR TG_OP = 'UPDATE' AND NOT OLD.is_armed) THEN
        RAISE EXCEPTION 'lease_is_armed_by_proof_alone: its class was not proven when it was signed'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'lease_is_armed_by_proof_alone';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_slash_case_path() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' AND NEW.outcome NOT IN ('credited', 'warned', 'held_back', 'requested') THEN
        RAISE EXCEPTION 'slash_case_starts_open: % is no first outcome', NEW.outcome
            USING ERRCODE = 'check_violation', CONSTRAINT = 'slash_case_starts_open';
    ELSIF TG_OP = 'UPDATE' AND NEW.outcome <> OLD.outcome AND (OLD.outcome, NEW.outcome) NOT IN (
        ('requested', 'disputed'), ('requested', 'executed'), ('requested', 'vetoed'), ('requested', 'lapsed'),
        ('requested', 'held_back'), ('disputed', 'upheld'), ('disputed', 'vetoed'), ('disputed', 'lapsed'),
        ('upheld', 'executed'), ('upheld', 'vetoed'), ('upheld', 'lapsed')
    ) THEN
        RAISE EXCEPTION 'slash_case_follows_its_path: % cannot follow %', NEW.outcome, OLD.outcome
            USING ERRCODE = 'check_violation', CONSTRAINT = 'slash_case_follows_its_path';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_forfeit_is_unproven() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT is_armed FROM marketplace_lease WHERE id = NEW.lease_id) THEN
        RAISE EXCEPTION 'forfeit_only_of_what_was_signed_unproven: its stake answers, not a holdback'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'forfeit_only_of_what_was_signed_unproven';
    END IF;
    RETURN NEW;
END $$;
"""

TRIGGERS = """
CREATE TRIGGER standing_path BEFORE INSERT OR UPDATE ON marketplace_standing
    FOR EACH ROW EXECUTE FUNCTION marketplace_standing_path();
CREATE CONSTRAINT TRIGGER standing_moves_with_its_reason AFTER UPDATE OF state ON marketplace_standing
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.state <> OLD.state)
    EXECUTE FUNCTION marketplace_standing_moves_with_its_reason();
CREATE TRIGGER standing_change_is_whole BEFORE INSERT ON marketplace_standingchange
    FOR EACH ROW EXECUTE FUNCTION marketplace_standing_change_is_whole();
CREATE TRIGGER probation_bids_little BEFORE INSERT ON marketplace_bid
    FOR EACH ROW EXECUTE FUNCTION marketplace_probation_bids_little();
CREATE TRIGGER award_on_probation BEFORE INSERT ON marketplace_award
    FOR EACH ROW EXECUTE FUNCTION marketplace_award_on_probation();
CREATE TRIGGER lease_is_armed_by_proof BEFORE INSERT OR UPDATE OF is_armed ON marketplace_lease
    FOR EACH ROW EXECUTE FUNCTION marketplace_lease_is_armed_by_proof();
CREATE TRIGGER slash_case_path BEFORE INSERT OR UPDATE ON marketplace_slashcase
    FOR EACH ROW EXECUTE FUNCTION marketplace_slash_case_path();
CREATE TRIGGER forfeit_is_unproven BEFORE INSERT ON marketplace_forfeit
    FOR EACH ROW EXECUTE FUNCTION marketplace_forfeit_is_unproven();
""" + "".join(
    f"CREATE TRIGGER {name}_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON marketplace_{name} "
    "FOR EACH STATEMENT EXECUTE FUNCTION marketplace_deny_change();\n"
    for name in APPEND_ONLY
)
GRANTS = """
GRANT SELECT, INSERT ON marketplace_forfeit TO grove_app;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO grove_app;
"""

UNDO = (
    "".join(f"DROP TRIGGER {name}_stays ON marketplace_{name};\n" for name in APPEND_ONLY)
    + """
DROP TRIGGER forfeit_is_unproven ON marketplace_forfeit;
DROP TRIGGER slash_case_path ON marketplace_slashcase;
DROP TRIGGER lease_is_armed_by_proof ON marketplace_lease;
DROP TRIGGER award_on_probation ON marketplace_award;
DROP TRIGGER probation_bids_little ON marketplace_bid;
DROP TRIGGER standing_change_is_whole ON marketplace_standingchange;
DROP TRIGGER standing_moves_with_its_reason ON marketplace_standing;
DROP TRIGGER standing_path ON marketplace_standing;
DROP FUNCTION marketplace_forfeit_is_unproven, marketplace_slash_case_path, marketplace_lease_is_armed_by_proof,
    marketplace_award_on_probation, marketplace_probation_bids_little, marketplace_standing_change_is_whole,
    marketplace_standing_moves_with_its_reason, marketplace_standing_path;
REVOKE ALL ON marketplace_forfeit FROM grove_app;
"""
    + _OLD_ARMED
)


class Migration(migrations.Migration):
    dependencies = [("marketplace", "0008_trust_rows")]
    operations = [migrations.RunSQL(_NEW_ARMED + FUNCTIONS + TRIGGERS + GRANTS, UNDO)]
