"""Walls of proof: no verifier over its own owner's machines, no hardware twice, no answer outside the roll's span."""

from django.db import migrations

APPEND_ONLY = ("benchmarkvantage", "rollcall", "rollmember", "rollanswer")

FUNCTIONS = """
CREATE FUNCTION marketplace_verifier_is_of_another_owner() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        WITH RECURSIVE above(id, parent_id, side) AS (
            SELECT p.id, p.parent_id, 'verifier' FROM marketplace_verifierseat s
                JOIN marketplace_party p ON p.id = s.party_id WHERE s.address = NEW.signer
            UNION ALL
            SELECT p.id, p.parent_id, 'provider' FROM marketplace_benchmark b
                JOIN marketplace_nodeclass n ON n.id = b.node_class_id
                JOIN marketplace_party p ON p.id = n.party_id WHERE b.id = NEW.benchmark_id
            UNION ALL
            SELECT p.id, p.parent_id, above.side FROM marketplace_party p JOIN above ON p.id = above.parent_id)
        SELECT 1 FROM above v JOIN above o ON v.id = o.id
            WHERE v.side = 'verifier' AND o.side = 'provider' AND v.parent_id IS NULL
    ) THEN
        RAISE EXCEPTION 'verifier_is_of_another_owner: % sits over machines of its own', NEW.signer
            USING ERRCODE = 'check_violation', CONSTRAINT = 'verifier_is_of_another_owner';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_hardware_proves_one_class() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- Two classes that bring the same hardware at the same moment would each see no other.
    PERFORM pg_advisory_xact_lock(hashtext('benchmark hardware ' || encode(NEW.hw_key_hash, 'hex')));
    IF EXISTS (
        SELECT 1 FROM marketplace_benchmark WHERE hw_key_hash = NEW.hw_key_hash AND node_class_id <> NEW.node_class_id
    ) THEN
        RAISE EXCEPTION 'hardware_proves_one_class: it proves another node class'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'hardware_proves_one_class';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_roll_is_answered_in_its_span() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT 1 FROM marketplace_rollmember m JOIN marketplace_rollcall r ON r.id = m.roll_id
            JOIN marketplace_benchmark b ON b.id = NEW.benchmark_id AND b.node_class_id = m.node_class_id
        WHERE m.id = NEW.member_id AND NEW.machines <= m.machines
          AND b.started_at >= r.opened_at AND b.finished_at <= r.closes_at
    ) THEN
        RAISE EXCEPTION 'roll_is_answered_in_its_span: another class, another time or more machines than called'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'roll_is_answered_in_its_span';
    END IF;
    RETURN NEW;
END $$;

-- Looked at when the transaction ends: whoever is PROVEN by probation has its checks and its baseline.
CREATE FUNCTION marketplace_proven_after_probation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.checks_passed + NEW.checks_failed < 313 OR NEW.checks_failed > 2 OR NOT EXISTS (
        SELECT 1 FROM marketplace_benchmark b WHERE b.node_class_id = NEW.node_class_id AND b.kind = 2
           AND b.valid_until = NEW.proven_until
    ) THEN
        RAISE EXCEPTION 'proven_has_its_checks_and_baseline: % checks, % failed', NEW.checks_passed + NEW.checks_failed,
            NEW.checks_failed USING ERRCODE = 'check_violation', CONSTRAINT = 'proven_has_its_checks_and_baseline';
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION marketplace_slash_is_asked_for_in_time() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.outcome = 'requested' AND EXISTS (
        SELECT 1 FROM marketplace_verdict WHERE id = NEW.verdict_id AND breach_at < NEW.opened_at - interval '17 days'
    ) THEN
        RAISE EXCEPTION 'slash_is_asked_for_in_time: the breach is older'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'slash_is_asked_for_in_time';
    END IF;
    RETURN NEW;
END $$;
"""
TRIGGERS = """
CREATE TRIGGER verifier_is_of_another_owner BEFORE INSERT OR UPDATE ON marketplace_attestation
    FOR EACH ROW EXECUTE FUNCTION marketplace_verifier_is_of_another_owner();
CREATE TRIGGER hardware_proves_one_class BEFORE INSERT OR UPDATE OF hw_key_hash, node_class_id ON marketplace_benchmark
    FOR EACH ROW WHEN (NEW.hw_key_hash IS NOT NULL) EXECUTE FUNCTION marketplace_hardware_proves_one_class();
CREATE TRIGGER roll_is_answered_in_its_span BEFORE INSERT ON marketplace_rollanswer
    FOR EACH ROW EXECUTE FUNCTION marketplace_roll_is_answered_in_its_span();
CREATE CONSTRAINT TRIGGER proven_has_its_checks_and_baseline AFTER UPDATE OF state ON marketplace_standing
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.state = 'PROVEN' AND OLD.state = 'PROBATION')
    EXECUTE FUNCTION marketplace_proven_after_probation();
CREATE TRIGGER slash_is_asked_for_in_time BEFORE INSERT ON marketplace_slashcase
    FOR EACH ROW EXECUTE FUNCTION marketplace_slash_is_asked_for_in_time();
""" + "".join(
    f"CREATE TRIGGER {name}_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON marketplace_{name} "
    "FOR EACH STATEMENT EXECUTE FUNCTION marketplace_deny_change();\n"
    for name in APPEND_ONLY
)
GRANTS = "".join(f"GRANT SELECT, INSERT ON marketplace_{name} TO grove_app;\n" for name in APPEND_ONLY) + """
GRANT SELECT, INSERT, UPDATE ON marketplace_verifierseat TO grove_app;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO grove_app;
"""
UNDO = (
    "".join(f"DROP TRIGGER {name}_stays ON marketplace_{name};\n" for name in APPEND_ONLY)
    + """
DROP TRIGGER slash_is_asked_for_in_time ON marketplace_slashcase;
DROP TRIGGER proven_has_its_checks_and_baseline ON marketplace_standing;
DROP TRIGGER roll_is_answered_in_its_span ON marketplace_rollanswer;
DROP TRIGGER hardware_proves_one_class ON marketplace_benchmark;
DROP TRIGGER verifier_is_of_another_owner ON marketplace_attestation;
DROP FUNCTION marketplace_slash_is_asked_for_in_time, marketplace_proven_after_probation,
    marketplace_roll_is_answered_in_its_span, marketplace_hardware_proves_one_class,
    marketplace_verifier_is_of_another_owner;
"""
    + "".join(f"REVOKE ALL ON marketplace_{name} FROM grove_app;\n" for name in (*APPEND_ONLY, "verifierseat"))
)


class Migration(migrations.Migration):
    dependencies = [("marketplace", "0042_proofs_in_full")]
    operations = [migrations.RunSQL(FUNCTIONS + TRIGGERS + GRANTS, UNDO)]
