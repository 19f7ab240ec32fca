"""Nobody owns itself through others: the cap on concentration asks who stands at the top, so there has to be a top."""

from django.db import migrations

FUNCTION = """
CREATE FUNCTION marketplace_party_has_an_owner_at_the_top() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- Two halves of a circle, written at the same time, would each see none: one change of owners at a time.
    PERFORM pg_advisory_xact_lock(hashtext('marketplace_party.parent_id'));
    IF EXISTS (
        WITH RECURSIVE above(id) AS (
            SELECT NEW.parent_id
            UNION
            SELECT p.parent_id FROM marketplace_party p JOIN above ON p.id = above.id WHERE p.parent_id IS NOT NULL)
        SELECT 1 FROM above WHERE id = NEW.id) THEN
        RAISE EXCEPTION 'party_is_not_its_own_owner: % stands above itself', NEW.slug
            USING ERRCODE = 'check_violation', CONSTRAINT = 'party_is_not_its_own_owner';
    END IF;
    RETURN NULL;
END $$;
"""
TRIGGER = """
CREATE TRIGGER party_is_not_its_own_owner AFTER INSERT OR UPDATE OF parent_id ON marketplace_party
    FOR EACH ROW WHEN (NEW.parent_id IS NOT NULL AND NEW.parent_id <> NEW.id)
    EXECUTE FUNCTION marketplace_party_has_an_owner_at_the_top();
"""
UNDO = """
DROP TRIGGER party_is_not_its_own_owner ON marketplace_party;
DROP FUNCTION marketplace_party_has_an_owner_at_the_top;
"""


class Migration(migrations.Migration):
    dependencies = [("marketplace", "0006_claim_roots")]
    operations = [migrations.RunSQL(FUNCTION + TRIGGER, UNDO)]
