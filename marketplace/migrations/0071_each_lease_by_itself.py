"""What follows from a lease goes with its own settlement, not its window's: its invoice, last pack and slash case."""

from django.db import migrations

FUNCTIONS = """
CREATE FUNCTION marketplace_follows_its_settlement() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    fresh jsonb := to_jsonb(NEW);
    broken text;
BEGIN
    broken := CASE
        WHEN TG_TABLE_NAME = 'marketplace_slashcase' AND NOT EXISTS (
            SELECT 1 FROM marketplace_verdict v JOIN marketplace_lease l ON l.id = v.lease_id
            WHERE v.id = (fresh ->> 'verdict_id')::uuid AND l.state = 'settled')
            THEN 'slash_case_follows_its_settlement'
        WHEN TG_TABLE_NAME = 'marketplace_leasepack' AND fresh ->> 'stage' = 'end' AND NOT EXISTS (
            SELECT 1 FROM marketplace_lease WHERE id = (fresh ->> 'lease_id')::uuid AND state = 'settled')
            THEN 'last_pack_follows_its_settlement'
        WHEN fresh ->> 'award_id' IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM marketplace_award a JOIN marketplace_lease l
                ON l.demand_id = a.demand_id AND l.bid_id = a.bid_id AND l.step_in_id IS NULL
            WHERE a.id = (fresh ->> 'award_id')::uuid AND l.state = 'settled')
            THEN 'invoice_charges_what_is_settled'
        WHEN fresh ->> 'backup_run_id' IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM marketplace_stepinrun r JOIN marketplace_lease l ON l.step_in_id = r.step_in_id
            WHERE r.id = (fresh ->> 'backup_run_id')::uuid AND l.bid_id = r.bid_id AND l.state = 'settled')
            THEN 'invoice_charges_what_is_settled'
    END;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION '%: its lease is not settled', broken
            USING ERRCODE = 'check_violation', CONSTRAINT = broken;
    END IF;
    RETURN NEW;
END $$;
"""
TRIGGERS = "".join(
    f"CREATE TRIGGER {name}_follows_settlement BEFORE INSERT ON marketplace_{name} "
    "FOR EACH ROW EXECUTE FUNCTION marketplace_follows_its_settlement();\n"
    for name in ("slashcase", "leasepack", "invoiceline")
)
UNDO = "".join(
    f"DROP TRIGGER {name}_follows_settlement ON marketplace_{name};\n"
    for name in ("slashcase", "leasepack", "invoiceline")
) + "DROP FUNCTION marketplace_follows_its_settlement;"


class Migration(migrations.Migration):

    dependencies = [("marketplace", "0070_one_signing_of_causes")]

    operations = [migrations.RunSQL(FUNCTIONS + TRIGGERS, UNDO)]
