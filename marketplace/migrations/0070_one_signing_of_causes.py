"""Judges sign every cause in one place: a force majeure is a judged cause of a class, and comes before the rating too."""

import django.db.models.deletion
from django.db import migrations, models

COPY = """
INSERT INTO marketplace_judgedcause (id, node_class_id, cause, starts_at, ends_at, person, evidence, signed_at)
SELECT id, node_class_id, 'FORCE_MAJEURE', starts_at, ends_at, person, evidence, signed_at
FROM marketplace_forcemajeure;
SET CONSTRAINTS ALL IMMEDIATE;
SET CONSTRAINTS ALL DEFERRED;
"""
COPY_BACK = """
INSERT INTO marketplace_forcemajeure (id, node_class_id, starts_at, ends_at, person, evidence, signed_at)
SELECT id, node_class_id, starts_at, ends_at, person, evidence, signed_at
FROM marketplace_judgedcause WHERE cause = 'FORCE_MAJEURE';
ALTER TABLE marketplace_judgedcause DISABLE TRIGGER judgedcause_stays;
DELETE FROM marketplace_judgedcause WHERE cause = 'FORCE_MAJEURE';
ALTER TABLE marketplace_judgedcause ENABLE TRIGGER judgedcause_stays;
SET CONSTRAINTS ALL IMMEDIATE;
SET CONSTRAINTS ALL DEFERRED;
"""
IN_TIME = """
CREATE OR REPLACE FUNCTION marketplace_judged_cause_in_time() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT 1 FROM marketplace_slottally t JOIN marketplace_lease l ON l.id = t.lease_id
            JOIN marketplace_window w ON w.id = l.window_id
        WHERE {about} AND t.rated_at IS NOT NULL
          AND w.starts_at + make_interval(hours => t.slot) < NEW.ends_at
          AND NEW.starts_at < w.starts_at + make_interval(hours => t.slot + 1)) THEN
        RAISE EXCEPTION 'judged_cause_comes_before_the_rating: %', coalesce(NEW.lease_id, NEW.node_class_id)
            USING ERRCODE = 'check_violation', CONSTRAINT = 'judged_cause_comes_before_the_rating';
    END IF;
    RETURN NEW;
END $$;
"""
FUNCTIONS = IN_TIME.format(about="(t.lease_id = NEW.lease_id OR l.node_class_id = NEW.node_class_id)")
OF_LEASES = IN_TIME.format(about="t.lease_id = NEW.lease_id").replace(
    "%', coalesce(NEW.lease_id, NEW.node_class_id)", "lease %', NEW.lease_id"
)
OLD_WALLS = """
CREATE TRIGGER forcemajeure_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON marketplace_forcemajeure
    FOR EACH STATEMENT EXECUTE FUNCTION marketplace_deny_change();
GRANT SELECT, INSERT ON marketplace_forcemajeure TO grove_app;
"""
DROP_WALLS = """
REVOKE ALL ON marketplace_forcemajeure FROM grove_app;
DROP TRIGGER forcemajeure_stays ON marketplace_forcemajeure;
"""
KNOWN = (
    models.Q(("cause__in", ("BUYER", "NETWORK")), ("node_class", None), models.Q(("lease", None), _negated=True))
    | models.Q(("cause__in", ("FORCE_MAJEURE",)), ("lease", None), models.Q(("node_class", None), _negated=True))
)


class Migration(migrations.Migration):

    dependencies = [("marketplace", "0069_settlements_wait")]

    operations = [
        migrations.RemoveConstraint(model_name="judgedcause", name="a_judge_signs_a_cause_once"),
        migrations.RemoveConstraint(model_name="judgedcause", name="judged_cause_is_known"),
        migrations.AlterField(
            model_name="judgedcause", name="lease",
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT,
                                    related_name="judged_causes", to="marketplace.lease"),
        ),
        migrations.AddField(
            model_name="judgedcause", name="node_class",
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT,
                                    related_name="judged_causes", to="marketplace.nodeclass"),
        ),
        migrations.AlterField(
            model_name="judgedcause", name="cause",
            field=models.CharField(
                choices=[("BUYER", "buyer"), ("NETWORK", "network"), ("FORCE_MAJEURE", "force_majeure")], max_length=16
            ),
        ),
        migrations.AddConstraint(
            model_name="judgedcause",
            constraint=models.UniqueConstraint(
                fields=("lease", "node_class", "cause", "starts_at", "ends_at", "person"), nulls_distinct=False,
                name="a_judge_signs_a_cause_once",
            ),
        ),
        migrations.AddConstraint(
            model_name="judgedcause",
            constraint=models.CheckConstraint(condition=KNOWN, name="judged_cause_is_known"),
        ),
        migrations.RunSQL(COPY, COPY_BACK),
        migrations.RunSQL(FUNCTIONS, OF_LEASES),
        migrations.RunSQL(DROP_WALLS, OLD_WALLS),
        migrations.DeleteModel(name="ForceMajeure"),
    ]  # fmt: skip
