"""What was reported stays as it came; a secret is shown when its day is over and is the one that was committed to."""

from django.db import migrations

APPEND_ONLY = ("healthevent", "probereport", "slotreport", "maintenancenotice", "buyerstop", "forcemajeure")

FUNCTIONS = """
CREATE FUNCTION marketplace_day_secret_is_kept() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    broken text;
BEGIN
    broken := CASE
        WHEN (NEW.day, NEW.commitment, NEW.locked, NEW.organisations, NEW.committed_at)
            IS DISTINCT FROM (OLD.day, OLD.commitment, OLD.locked, OLD.organisations, OLD.committed_at)
            OR OLD.revealed IS NOT NULL
            THEN 'committed_day_stays'
        WHEN NEW.revealed_at < (NEW.day + 1)::timestamp AT TIME ZONE 'UTC'
            THEN 'day_secret_waits_for_the_end_of_its_day'
        WHEN NEW.commitment <> sha256(convert_to('grove probe day 1' || NEW.day::text, 'UTF8') || NEW.revealed)
            THEN 'day_secret_is_the_one_committed'
    END;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION '%: day %', broken, NEW.day USING ERRCODE = 'check_violation', CONSTRAINT = broken;
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_rated_slot_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.rated_at IS NOT NULL THEN
        RAISE EXCEPTION 'rated_tally_stays: slot % of lease %', OLD.slot, OLD.lease_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'rated_tally_stays';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_decided_case_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state = 'DECIDED' THEN
        RAISE EXCEPTION 'decided_case_stays: case %', OLD.id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'decided_case_stays';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_evidence_in_time() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM marketplace_slottally
               WHERE lease_id = NEW.lease_id AND slot = NEW.slot AND rated_at IS NOT NULL) THEN
        RAISE EXCEPTION 'evidence_comes_before_the_rating: slot % of lease %', NEW.slot, NEW.lease_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'evidence_comes_before_the_rating';
    END IF;
    RETURN NEW;
END $$;
"""
TRIGGERS = """
CREATE TRIGGER day_secret_is_kept BEFORE UPDATE ON marketplace_probeday
    FOR EACH ROW EXECUTE FUNCTION marketplace_day_secret_is_kept();
CREATE TRIGGER rated_slot_stays BEFORE UPDATE ON marketplace_slottally
    FOR EACH ROW EXECUTE FUNCTION marketplace_rated_slot_stays();
CREATE TRIGGER decided_case_stays BEFORE UPDATE ON marketplace_deliverycase
    FOR EACH ROW EXECUTE FUNCTION marketplace_decided_case_stays();
CREATE TRIGGER probe_in_time BEFORE INSERT ON marketplace_probereport
    FOR EACH ROW EXECUTE FUNCTION marketplace_evidence_in_time();
CREATE TRIGGER slot_report_in_time BEFORE INSERT ON marketplace_slotreport
    FOR EACH ROW EXECUTE FUNCTION marketplace_evidence_in_time();
""" + "".join(
    f"CREATE TRIGGER {name}_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON marketplace_{name} "
    "FOR EACH STATEMENT EXECUTE FUNCTION marketplace_deny_change();\n"
    f"GRANT SELECT, INSERT ON marketplace_{name} TO grove_app;\n"
    for name in APPEND_ONLY
)
GRANTS = """
GRANT SELECT, INSERT ON marketplace_witnesskey, marketplace_probeday, marketplace_pulse, marketplace_leasehealth,
    marketplace_slottally, marketplace_deliverycase TO grove_app;
GRANT UPDATE (revoked_at) ON marketplace_witnesskey TO grove_app;
GRANT UPDATE (revealed, revealed_at) ON marketplace_probeday TO grove_app;
GRANT UPDATE ON marketplace_pulse, marketplace_leasehealth, marketplace_slottally, marketplace_deliverycase
    TO grove_app;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO grove_app;
"""
UNDO = (
    "REVOKE ALL ON marketplace_witnesskey, marketplace_probeday, marketplace_pulse, marketplace_leasehealth,\n"
    "    marketplace_slottally, marketplace_deliverycase FROM grove_app;\n"
    + "".join(
        f"REVOKE ALL ON marketplace_{name} FROM grove_app;\nDROP TRIGGER {name}_stays ON marketplace_{name};\n"
        for name in APPEND_ONLY
    )
    + """
DROP TRIGGER slot_report_in_time ON marketplace_slotreport;
DROP TRIGGER probe_in_time ON marketplace_probereport;
DROP TRIGGER decided_case_stays ON marketplace_deliverycase;
DROP TRIGGER rated_slot_stays ON marketplace_slottally;
DROP TRIGGER day_secret_is_kept ON marketplace_probeday;
DROP FUNCTION marketplace_evidence_in_time, marketplace_decided_case_stays, marketplace_rated_slot_stays,
    marketplace_day_secret_is_kept;
"""
)


class Migration(migrations.Migration):
    dependencies = [("marketplace", "0036_live_delivery")]
    operations = [migrations.RunSQL(FUNCTIONS + TRIGGERS + GRANTS, UNDO)]
