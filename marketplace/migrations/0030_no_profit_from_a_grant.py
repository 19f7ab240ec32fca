"""What a clearing price pays above the ceiling of cost recovery is not earned; it goes back to the buyer (M-024)."""

from django.db import migrations, models
from django.db.models import F, Q

FUNCTIONS = """
CREATE FUNCTION marketplace_reading_keeps_the_ceiling() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    most bigint;
BEGIN
    SELECT min(t.ceiling_micros) INTO most
    FROM marketplace_fundingtag t JOIN marketplace_fundingsource f ON f.code = t.source_id
        JOIN marketplace_lease l ON l.node_class_id = t.node_class_id JOIN marketplace_window w ON w.id = l.window_id
    WHERE l.id = NEW.lease_id AND f.policy = 'cost_recovery' AND t.made_at <= l.made_at
      AND t.from_at <= w.starts_at + make_interval(hours => NEW.slot)
      AND w.starts_at + make_interval(hours => NEW.slot) < t.until_at;
    IF NEW.earned_micros > NEW.units::numeric * most * NEW.minutes_billable / 60 THEN
        RAISE EXCEPTION 'reading_earns_no_more_than_the_ceiling: slot % of lease %', NEW.slot, NEW.lease_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'reading_earns_no_more_than_the_ceiling';
    END IF;
    RETURN NEW;
END $$;
"""
TRIGGERS = """
CREATE TRIGGER reading_keeps_the_ceiling BEFORE INSERT ON marketplace_reading
    FOR EACH ROW EXECUTE FUNCTION marketplace_reading_keeps_the_ceiling();
"""
UNDO = """
DROP TRIGGER reading_keeps_the_ceiling ON marketplace_reading;
DROP FUNCTION marketplace_reading_keeps_the_ceiling;
"""


class Migration(migrations.Migration):
    dependencies = [("marketplace", "0029_phase_effects")]
    operations = [
        migrations.AddField(
            model_name="reading",
            name="above_ceiling_micros",
            field=models.BigIntegerField(
                default=0,
                help_text="of its minutes at the clearing price, what funding under cost recovery forbids to earn",
            ),
        ),
        migrations.RemoveConstraint(model_name="reading", name="reading_earns_at_most_its_fee"),
        migrations.AddConstraint(
            model_name="reading",
            constraint=models.CheckConstraint(
                name="reading_earns_at_most_its_fee",
                condition=Q(earned_micros__gte=0, above_ceiling_micros__gte=0)
                & Q(earned_micros__lte=F("amount_micros") - F("above_ceiling_micros")),
            ),
        ),
        migrations.AddField(
            model_name="verdict",
            name="above_ceiling_micros",
            field=models.BigIntegerField(
                default=0, help_text="of what is unpaid: delivered, but above the ceiling of cost recovery"
            ),
        ),
        migrations.AlterField(
            model_name="verdict",
            name="unpaid_micros",
            field=models.BigIntegerField(help_text="the rest of the fee; it goes back to the buyer"),
        ),
        migrations.AddConstraint(
            model_name="verdict",
            constraint=models.CheckConstraint(
                name="verdict_returns_what_lies_above_the_ceiling",
                condition=Q(above_ceiling_micros__gte=0) & Q(above_ceiling_micros__lte=F("unpaid_micros")),
            ),
        ),
        migrations.RunSQL(FUNCTIONS + TRIGGERS, UNDO),
    ]
