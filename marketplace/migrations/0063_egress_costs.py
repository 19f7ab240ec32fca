"""An hour in which more left than its pin lets returns its money; the credit rests on the machine's own report."""

from django.db import migrations, models

FUNCTIONS = """
CREATE FUNCTION marketplace_egress_credit_rests() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT 1 FROM marketplace_egressreading r JOIN marketplace_lease l ON l.id = r.lease_id
            JOIN marketplace_egresspin p ON p.demand_id = l.demand_id
        WHERE l.id = NEW.lease_id AND r.slot = NEW.period AND r.egress_bytes > p.limit_bytes) THEN
        RAISE EXCEPTION 'egress_credit_rests_on_its_meter: hour % of %', NEW.period, NEW.lease_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'egress_credit_rests_on_its_meter';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_egress_before_verdict() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM marketplace_verdict v WHERE v.lease_id = NEW.lease_id) THEN
        RAISE EXCEPTION 'egress_is_told_before_its_verdict: %', NEW.lease_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'egress_is_told_before_its_verdict';
    END IF;
    RETURN NEW;
END $$;
"""
TRIGGERS = """
CREATE TRIGGER egress_credit_rests BEFORE INSERT ON marketplace_earlycredit
    FOR EACH ROW WHEN (NEW.kind = 'egress') EXECUTE FUNCTION marketplace_egress_credit_rests();
CREATE TRIGGER egress_told_before_verdict BEFORE INSERT ON marketplace_egressreading
    FOR EACH ROW EXECUTE FUNCTION marketplace_egress_before_verdict();
"""
UNDO = """
DROP TRIGGER egress_told_before_verdict ON marketplace_egressreading;
DROP TRIGGER egress_credit_rests ON marketplace_earlycredit;
DROP FUNCTION marketplace_egress_before_verdict, marketplace_egress_credit_rests;
"""


class Migration(migrations.Migration):

    dependencies = [
        ('marketplace', '0062_sites_and_classes_change'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='earlycredit',
            name='early_credit_is_of_a_known_step',
        ),
        migrations.AddField(
            model_name='credit',
            name='egress_micros',
            field=models.BigIntegerField(default=0, help_text='of the amount, hours in which pinned data left'),
        ),
        migrations.AddField(
            model_name='egresspin',
            name='limit_bytes',
            field=models.BigIntegerField(default=0, help_text='that may leave in an hour; 0: none'),
        ),
        migrations.AlterField(
            model_name='earlycredit',
            name='kind',
            field=models.CharField(choices=[('availability', 'availability'), ('performance', 'performance'), ('target', 'target'), ('egress', 'egress')], default='availability', max_length=12),
        ),
        migrations.AlterField(
            model_name='earlycredit',
            name='period',
            field=models.PositiveSmallIntegerField(default=0, help_text="0 for availability; a re-check's interval; counts targets; an hour of egress"),
        ),
        migrations.AddConstraint(
            model_name='credit',
            constraint=models.CheckConstraint(condition=models.Q(('egress_micros__gte', 0), ('egress_micros__lte', models.F('amount_micros') - models.F('performance_micros') - models.F('targets_micros'))), name='egress_is_part_of_its_credit'),
        ),
        migrations.AddConstraint(
            model_name='earlycredit',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('kind', 'availability'), ('step_bps__in', (1000, 2500, 10000))), models.Q(('kind__in', ('performance', 'egress')), ('step_bps', 0)), models.Q(('kind', 'target'), ('step_bps__in', (500, 1000))), _connector='OR'), name='early_credit_is_of_a_known_step'),
        ),
        migrations.AddConstraint(
            model_name='egresspin',
            constraint=models.CheckConstraint(condition=models.Q(('limit_bytes__gte', 0)), name='egress_limit_is_not_negative'),
        ),
        migrations.RunSQL(FUNCTIONS + TRIGGERS, UNDO),
    ]
