"""A machine key changes only with its line, a line follows the key in use, and a revoked key lifts no standing."""

from django.db import migrations

APPEND_ONLY = ("machinekeychange", "keyuse")

FUNCTIONS = """
CREATE FUNCTION marketplace_key_change_follows() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    held bytea;
BEGIN
    SELECT machine_key INTO held FROM marketplace_nodeclass WHERE id = NEW.node_class_id FOR UPDATE;
    IF NOT (CASE NEW.kind
        WHEN 'rotated' THEN held IS NOT NULL AND held = NEW.previous
        WHEN 'revoked' THEN held IS NOT NULL AND held = NEW.public_key
        ELSE held IS NULL OR held = NEW.public_key
    END) THEN
        RAISE EXCEPTION 'machine_key_change_follows_the_key_in_use: % of class %', NEW.kind, NEW.node_class_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'machine_key_change_follows_the_key_in_use';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_machine_key_on_record() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    c marketplace_machinekeychange%ROWTYPE;
BEGIN
    SELECT * INTO c FROM marketplace_machinekeychange WHERE node_class_id = NEW.id ORDER BY id DESC LIMIT 1;
    IF NOT (CASE
        WHEN NEW.machine_key IS NULL THEN c.kind IS NOT DISTINCT FROM 'revoked'
        ELSE c.kind IS DISTINCT FROM 'revoked' AND c.public_key IS NOT DISTINCT FROM NEW.machine_key
    END) THEN
        RAISE EXCEPTION 'machine_key_changes_on_record: class % without its line', NEW.id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'machine_key_changes_on_record';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_revoked_key_lifts_nothing() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT kind FROM marketplace_machinekeychange WHERE node_class_id = NEW.node_class_id
        ORDER BY id DESC LIMIT 1) = 'revoked' THEN
        RAISE EXCEPTION 'a_revoked_key_lifts_no_standing: class % to %', NEW.node_class_id, NEW.state
            USING ERRCODE = 'check_violation', CONSTRAINT = 'a_revoked_key_lifts_no_standing';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_enrolment_once() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.decided_at IS NOT NULL OR (OLD.public_key IS NOT NULL AND OLD.public_key <> NEW.public_key) THEN
        RAISE EXCEPTION 'an_enrolment_is_claimed_and_decided_once: %', OLD.id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'an_enrolment_is_claimed_and_decided_once';
    END IF;
    RETURN NEW;
END $$;
"""
TRIGGERS = """
INSERT INTO marketplace_machinekeychange (node_class_id, kind, public_key, actor, reason, at)
    SELECT n.id, 'enrolled', n.machine_key, p.slug, 'in use before changes were kept', n.enrolled_at
    FROM marketplace_nodeclass n JOIN marketplace_party p ON p.id = n.party_id
    WHERE n.machine_key IS NOT NULL;
CREATE TRIGGER machine_key_change_follows BEFORE INSERT ON marketplace_machinekeychange
    FOR EACH ROW EXECUTE FUNCTION marketplace_key_change_follows();
CREATE TRIGGER machine_key_on_record BEFORE UPDATE OF machine_key ON marketplace_nodeclass
    FOR EACH ROW WHEN (OLD.machine_key IS DISTINCT FROM NEW.machine_key)
    EXECUTE FUNCTION marketplace_machine_key_on_record();
CREATE TRIGGER revoked_key_lifts_nothing BEFORE UPDATE OF state ON marketplace_standing
    FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state AND NEW.state IN ('PROBATION', 'PROVEN'))
    EXECUTE FUNCTION marketplace_revoked_key_lifts_nothing();
CREATE TRIGGER enrolment_once BEFORE UPDATE ON marketplace_enrolment
    FOR EACH ROW EXECUTE FUNCTION marketplace_enrolment_once();
GRANT SELECT, INSERT, UPDATE ON marketplace_enrolment TO grove_app;
""" + "".join(
    f"CREATE TRIGGER {name}_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON marketplace_{name} "
    "FOR EACH STATEMENT EXECUTE FUNCTION marketplace_deny_change();\n"
    f"GRANT SELECT, INSERT ON marketplace_{name} TO grove_app;\n"
    for name in APPEND_ONLY
) + "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO grove_app;\n"
UNDO = (
    "".join(
        f"REVOKE ALL ON marketplace_{name} FROM grove_app;\nDROP TRIGGER {name}_stays ON marketplace_{name};\n"
        for name in APPEND_ONLY
    )
    + "REVOKE ALL ON marketplace_enrolment FROM grove_app;\n"
    "DROP TRIGGER enrolment_once ON marketplace_enrolment;\n"
    "DROP TRIGGER revoked_key_lifts_nothing ON marketplace_standing;\n"
    "DROP TRIGGER machine_key_on_record ON marketplace_nodeclass;\n"
    "DROP TRIGGER machine_key_change_follows ON marketplace_machinekeychange;\n"
    "DROP FUNCTION marketplace_enrolment_once;\nDROP FUNCTION marketplace_revoked_key_lifts_nothing;\n"
    "DROP FUNCTION marketplace_machine_key_on_record;\nDROP FUNCTION marketplace_key_change_follows;\n"
)


class Migration(migrations.Migration):
    dependencies = [("marketplace", "0040_machine_keys_and_caps")]
    operations = [migrations.RunSQL(FUNCTIONS + TRIGGERS, UNDO)]
