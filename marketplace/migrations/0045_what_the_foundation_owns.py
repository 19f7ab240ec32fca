"""Walls: what the Foundation owns, through however many companies, counts as the Foundation."""

from importlib import import_module

from django.db import migrations

BEFORE = import_module("marketplace.migrations.0021_walls_of_the_foundation").FUNCTIONS
LIMITS = BEFORE[BEFORE.index("CREATE FUNCTION marketplace_maker_in_limits") :]
LIMITS = LIMITS[: LIMITS.index("CREATE FUNCTION marketplace_maker_limits_stay")].replace("CREATE", "CREATE OR REPLACE", 1)
OF_ALL = LIMITS.replace(
    "(SELECT kind FROM marketplace_party WHERE id = NEW.party_id) <> 'foundation'",
    "NEW.party_id NOT IN (SELECT marketplace_foundation_parties())",
).replace("p.kind = 'foundation'", "p.id IN (SELECT marketplace_foundation_parties())")

FUNCTIONS = """
-- The Foundation and every party below it.
CREATE FUNCTION marketplace_foundation_parties() RETURNS SETOF uuid LANGUAGE sql STABLE AS $$
    WITH RECURSIVE below(id) AS (
        SELECT p.id FROM marketplace_party p WHERE p.kind = 'foundation'
        UNION
        SELECT p.id FROM marketplace_party p JOIN below ON p.parent_id = below.id)
    SELECT id FROM below
$$;

CREATE FUNCTION marketplace_bid_is_not_of_the_foundation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.party_id IN (SELECT marketplace_foundation_parties()) THEN
        RAISE EXCEPTION 'bid_is_not_of_the_foundation: it runs the sealed bidding and takes no part in it'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'bid_is_not_of_the_foundation';
    END IF;
    RETURN NEW;
END $$;
"""
TRIGGERS = """
CREATE TRIGGER a_bid_is_not_of_the_foundation BEFORE INSERT ON marketplace_bid
    FOR EACH ROW EXECUTE FUNCTION marketplace_bid_is_not_of_the_foundation();
"""
UNDO = """
DROP TRIGGER a_bid_is_not_of_the_foundation ON marketplace_bid;
DROP FUNCTION marketplace_bid_is_not_of_the_foundation;
DROP FUNCTION marketplace_foundation_parties;
"""


class Migration(migrations.Migration):
    dependencies = [("marketplace", "0044_members_are_paid")]
    operations = [migrations.RunSQL(FUNCTIONS + TRIGGERS + OF_ALL, LIMITS + UNDO)]
