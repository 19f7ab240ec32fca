"""Every figure that PROVEN is entered by is kept by the database: days, checks, challenges, roll call, no fault since.

Until now it asked for checks and a baseline alone, and only when the transaction ended.
"""

from importlib import import_module

from django.db import migrations

proof = import_module("marketplace.migrations.0043_walls_of_proof")
_FUNCTION = "CREATE FUNCTION marketplace_proven_after_probation"
_AFTER = proof.FUNCTIONS.index("CREATE FUNCTION marketplace_slash_is_asked_for_in_time")
_OLD = proof.FUNCTIONS[proof.FUNCTIONS.index(_FUNCTION) : _AFTER].replace(
    "CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"
)

# The figures stand in marketplace/supply/standing.py and pricing/transcript.py too; this is the wall behind them.
FUNCTIONS = """
CREATE FUNCTION marketplace_reaches_its_class(b marketplace_benchmark) RETURNS boolean LANGUAGE sql STABLE AS $$
    -- A memory figure of 0 was not measured by the suite that ran, so it is neither for nor against a class.
    SELECT b.ops_per_sec::numeric * 10000 >= c.ops_per_sec::numeric * 8500
       AND (b.mem_bytes = 0 OR b.mem_bytes::numeric * 10000 >= c.mem_bytes::numeric * 9000)
       AND (b.mem_bytes_per_sec = 0 OR b.mem_bytes_per_sec::numeric * 10000 >= c.mem_bytes_per_sec::numeric * 8000)
    FROM marketplace_nodeclass n JOIN marketplace_resourceclass c ON c.code = n.resource_class_id
    WHERE n.id = b.node_class_id
$$;

CREATE OR REPLACE FUNCTION marketplace_proven_after_probation() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    broken text;
BEGIN
    IF NEW.checks_passed + NEW.checks_failed < 313 OR NEW.checks_failed > 2 OR NOT EXISTS (
        SELECT 1 FROM marketplace_benchmark b WHERE b.node_class_id = NEW.node_class_id AND b.kind = 2
           AND b.valid_until = NEW.proven_until AND b.finished_at = NEW.proven_at AND marketplace_reaches_its_class(b)
    ) THEN
        broken := 'proven_has_its_checks_and_baseline';
    ELSIF NOT EXISTS (
        -- Whoever writes an earlier start into the row would shorten the fortnight: it is the end of a challenge.
        SELECT 1 FROM marketplace_benchmark WHERE node_class_id = NEW.node_class_id AND finished_at = NEW.challenged_at
    ) OR NEW.proven_at < NEW.challenged_at + interval '14 days' THEN
        broken := 'proven_after_fourteen_days';
    ELSIF (
        SELECT count(DISTINCT (b.finished_at AT TIME ZONE 'UTC')::date) FROM marketplace_benchmark b
        WHERE b.node_class_id = NEW.node_class_id AND b.finished_at >= NEW.challenged_at
          AND b.valid_until > NEW.changed_at AND marketplace_reaches_its_class(b)
    ) < 3 THEN
        broken := 'proven_by_challenges_on_three_days';
    ELSIF NOT EXISTS (
        SELECT 1 FROM marketplace_rollmember m JOIN marketplace_rollcall r ON r.id = m.roll_id
        WHERE m.node_class_id = NEW.node_class_id AND r.opened_at >= NEW.challenged_at AND NOT EXISTS (
            SELECT 1 FROM marketplace_rollmember o LEFT JOIN marketplace_rollanswer a ON a.member_id = o.id
            WHERE o.roll_id = r.id AND coalesce(a.machines, 0) <> o.machines)
    ) THEN
        broken := 'proven_by_a_roll_that_all_answered';
    ELSIF EXISTS (
        SELECT 1 FROM marketplace_standingchange WHERE node_class_id = NEW.node_class_id
           AND to_state IN ('REGISTERED', 'SUSPENDED') AND at >= NEW.challenged_at
    ) THEN
        broken := 'proven_without_a_fault_since_its_challenge';
    END IF;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION '%: % checks, % failed, challenged at %, baseline of %', broken,
            NEW.checks_passed + NEW.checks_failed, NEW.checks_failed, NEW.challenged_at, NEW.proven_at
            USING ERRCODE = 'check_violation', CONSTRAINT = broken;
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION marketplace_proof_lasts_as_its_baseline() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT 1 FROM marketplace_benchmark b WHERE b.node_class_id = NEW.node_class_id AND b.kind = 2
           AND b.valid_until = NEW.proven_until AND (OLD.state <> 'DEGRADED' OR b.finished_at > OLD.changed_at)
    ) THEN
        RAISE EXCEPTION 'proof_lasts_as_long_as_its_baseline: no baseline is valid until %', NEW.proven_until
            USING ERRCODE = 'check_violation', CONSTRAINT = 'proof_lasts_as_long_as_its_baseline';
    END IF;
    RETURN NULL;
END $$;
"""
# Looked at in the statement itself: all that a proof rests on is older than it.
TRIGGERS = """
DROP TRIGGER proven_has_its_checks_and_baseline ON marketplace_standing;
CREATE TRIGGER proven_after_probation AFTER UPDATE OF state ON marketplace_standing
    FOR EACH ROW WHEN (NEW.state = 'PROVEN' AND OLD.state = 'PROBATION')
    EXECUTE FUNCTION marketplace_proven_after_probation();
CREATE TRIGGER proof_lasts_as_its_baseline AFTER UPDATE OF state, proven_until ON marketplace_standing
    FOR EACH ROW WHEN (NEW.state = 'PROVEN' AND (
        OLD.state = 'DEGRADED' OR OLD.state = 'PROVEN' AND NEW.proven_until IS DISTINCT FROM OLD.proven_until))
    EXECUTE FUNCTION marketplace_proof_lasts_as_its_baseline();
"""
UNDO = (
    """
DROP TRIGGER proof_lasts_as_its_baseline ON marketplace_standing;
DROP TRIGGER proven_after_probation ON marketplace_standing;
"""
    + _OLD
    + """
CREATE CONSTRAINT TRIGGER proven_has_its_checks_and_baseline AFTER UPDATE OF state ON marketplace_standing
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.state = 'PROVEN' AND OLD.state = 'PROBATION')
    EXECUTE FUNCTION marketplace_proven_after_probation();
DROP FUNCTION marketplace_proof_lasts_as_its_baseline, marketplace_reaches_its_class;
"""
)


class Migration(migrations.Migration):
    dependencies = [("marketplace", "0051_remade_settlements")]
    operations = [migrations.RunSQL(FUNCTIONS + TRIGGERS, UNDO)]
