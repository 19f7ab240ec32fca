"""All machines of a roll are at work at one instant, before two verifiers: pairs alone let two stand for three."""

from importlib import import_module

from django.db import migrations, models

BEFORE = import_module("marketplace.migrations.0082_walls_of_unit_provers").FUNCTIONS
SEEN_AT = BEFORE.index("CREATE FUNCTION marketplace_seen_at_work")
SEEN_AND_ANSWERED = BEFORE[SEEN_AT : BEFORE.index("CREATE FUNCTION marketplace_key_is_one_machines")]
DROP_SEEN = "DROP FUNCTION marketplace_seen_at_work;\n"

FUNCTIONS = """
-- Every machine that was seen at work at its class's rate: at which instant of the roll, by whom and when.
CREATE FUNCTION marketplace_seen_at_work(asked uuid) RETURNS TABLE (
    member_id bigint, prover uuid, instant smallint, verifier uuid, from_s numeric, until_s numeric
) LANGUAGE sql STABLE AS $$
    SELECT p.member_id, coalesce(p.prover_id, m.node_class_id), p.instant, p.verifier_id,
           extract(epoch FROM p.measured_at), extract(epoch FROM p.ended_at)
    FROM marketplace_rollmember m JOIN marketplace_rollreport p ON p.member_id = m.id
        JOIN marketplace_nodeclass n ON n.id = m.node_class_id
        JOIN marketplace_resourceclass c ON c.code = n.resource_class_id
    WHERE m.roll_id = asked AND p.ended_at IS NOT NULL AND p.ops::numeric * 10000 >= c.ops_per_sec::numeric * 8500
$$;

-- At how many instants of a roll all its machines were at work together, before verifiers that saw no other instant.
-- Any two share enough where the first to be done, less 15 % of its span, is later than the last to begin and 15 %.
CREATE FUNCTION marketplace_whole_instants(asked uuid) RETURNS bigint LANGUAGE sql STABLE AS $$
    WITH seen AS MATERIALIZED (SELECT * FROM marketplace_seen_at_work(asked) WHERE instant IS NOT NULL),
        twice AS (SELECT verifier FROM seen GROUP BY verifier HAVING count(DISTINCT instant) > 1),
        called AS (
            SELECT sum(least(m.machines, 1 + (
                SELECT count(*) FROM marketplace_unitprover u
                WHERE u.node_class_id = m.node_class_id AND u.enrolled_at <= r.opened_at
                  AND (u.retired_at IS NULL OR u.retired_at > r.opened_at)))) AS machines
            FROM marketplace_rollmember m JOIN marketplace_rollcall r ON r.id = m.roll_id WHERE m.roll_id = asked)
    SELECT count(*) FROM (
        SELECT s.instant FROM seen s CROSS JOIN called
        WHERE s.verifier NOT IN (SELECT verifier FROM twice)
        GROUP BY s.instant, called.machines
        HAVING count(DISTINCT s.prover) = called.machines AND (called.machines = 1 OR (
            min(s.until_s - 0.15 * (s.until_s - s.from_s)) > max(s.from_s + 0.15 * (s.until_s - s.from_s))
            AND 0.85 * min(s.until_s - s.from_s) > 0.15 * max(s.until_s - s.from_s)))
    ) whole
$$;

CREATE OR REPLACE FUNCTION marketplace_roll_is_answered_in_its_span() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    mine marketplace_rollmember%ROWTYPE;
BEGIN
    SELECT * INTO mine FROM marketplace_rollmember WHERE id = NEW.member_id;
    IF NEW.machines > mine.machines OR NOT EXISTS (
        SELECT 1 FROM marketplace_rollcall r
        WHERE r.id = mine.roll_id AND NEW.answered_at BETWEEN r.opened_at AND r.closes_at
    ) THEN
        RAISE EXCEPTION 'roll_is_answered_in_its_span: another class, another time or more machines than called'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'roll_is_answered_in_its_span';
    END IF;
    -- Each machine that is counted signed for itself, and two verifiers saw it at work.
    IF NEW.machines > (
        SELECT count(*) FROM marketplace_rollreply y JOIN (
            SELECT prover FROM marketplace_seen_at_work(mine.roll_id) WHERE member_id = mine.id
            GROUP BY prover HAVING count(*) >= 2) s ON s.prover = coalesce(y.prover_id, mine.node_class_id)
        WHERE y.member_id = mine.id
    ) THEN
        RAISE EXCEPTION 'roll_answer_rests_on_two_verifiers: nobody measured it, or a machine did not sign'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'roll_answer_rests_on_two_verifiers';
    END IF;
    -- And at two instants every machine of the roll was at work with each other.
    IF marketplace_whole_instants(mine.roll_id) < 2 THEN
        RAISE EXCEPTION 'roll_answer_shares_a_moment_with_all: one was missing, or one machine may be two'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'roll_answer_shares_a_moment_with_all';
    END IF;
    RETURN NEW;
END $$;
"""
UNDO = "DROP FUNCTION marketplace_whole_instants;\n" + DROP_SEEN + SEEN_AND_ANSWERED


class Migration(migrations.Migration):
    dependencies = [("marketplace", "0086_addresses_of_strangers_go")]
    operations = [
        migrations.AddField(
            model_name="rollreport",
            name="instant",
            field=models.PositiveSmallIntegerField(
                help_text="of the roll, at which this verifier was to measure; null: before all were of one instant",
                null=True,
            ),
        ),
        migrations.RunSQL(DROP_SEEN + FUNCTIONS, UNDO),
    ]
