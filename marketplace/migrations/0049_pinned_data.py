"""Pinned data, and the meter of what leaves."""

import django.db.models.deletion
from django.db import migrations, models

APPEND_ONLY = ("egresspin", "egressreading")

FUNCTIONS = """
CREATE FUNCTION marketplace_pin_in_time() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT w.state FROM marketplace_demand d JOIN marketplace_window w ON w.id = d.window_id
        WHERE d.id = NEW.demand_id) <> 'COLLECTING' THEN
        RAISE EXCEPTION 'pin_is_set_while_demand_is_collected: %', NEW.demand_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'pin_is_set_while_demand_is_collected';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_egress_in_its_lease() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM marketplace_lease WHERE id = NEW.lease_id
                   AND NEW.slot >= start_slot AND NEW.slot < end_slot) THEN
        RAISE EXCEPTION 'egress_reading_lies_in_its_lease: slot %', NEW.slot
            USING ERRCODE = 'check_violation', CONSTRAINT = 'egress_reading_lies_in_its_lease';
    END IF;
    RETURN NEW;
END $$;
"""
TRIGGERS = """
CREATE TRIGGER pin_in_time BEFORE INSERT ON marketplace_egresspin
    FOR EACH ROW EXECUTE FUNCTION marketplace_pin_in_time();
CREATE TRIGGER egress_in_its_lease BEFORE INSERT ON marketplace_egressreading
    FOR EACH ROW EXECUTE FUNCTION marketplace_egress_in_its_lease();
""" + "".join(
    f"CREATE TRIGGER {name}_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON marketplace_{name} "
    "FOR EACH STATEMENT EXECUTE FUNCTION marketplace_deny_change();\n"
    f"GRANT SELECT, INSERT ON marketplace_{name} TO grove_app;\n"
    for name in APPEND_ONLY
) + "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO grove_app;\n"
UNDO = "".join(f"DROP TRIGGER {name}_stays ON marketplace_{name};\n" for name in APPEND_ONLY) + """
DROP TRIGGER egress_in_its_lease ON marketplace_egressreading;
DROP TRIGGER pin_in_time ON marketplace_egresspin;
DROP FUNCTION marketplace_egress_in_its_lease, marketplace_pin_in_time;
"""


class Migration(migrations.Migration):

    dependencies = [
        ('marketplace', '0048_reports_and_quotes'),
    ]

    operations = [
        migrations.CreateModel(
            name='EgressPin',
            fields=[
                ('demand', models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, primary_key=True, related_name='pin', serialize=False, to='marketplace.demand')),
                ('at', models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name='EgressReading',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('slot', models.IntegerField()),
                ('egress_bytes', models.BigIntegerField()),
                ('report', models.BinaryField(help_text='as signed: canonical JSON')),
                ('signature', models.BinaryField(help_text='Ed25519 by the machine key', max_length=64)),
                ('taken_at', models.DateTimeField()),
            ],
            options={
                'ordering': ['lease', 'slot'],
            },
        ),
        migrations.RemoveConstraint(
            model_name='winddown',
            name='wind_down_cause_is_known',
        ),
        migrations.AlterField(
            model_name='winddown',
            name='cause',
            field=models.CharField(choices=[('agreement', 'agreement'), ('tier', 'tier'), ('legal_control', 'legal control'), ('egress', 'egress')], max_length=16),
        ),
        migrations.AddConstraint(
            model_name='winddown',
            constraint=models.CheckConstraint(condition=models.Q(('cause__in', ('agreement', 'tier', 'legal_control', 'egress'))), name='wind_down_cause_is_known'),
        ),
        migrations.AddField(
            model_name='egresspin',
            name='seat',
            field=models.ForeignKey(help_text='empty: by a key', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='marketplace.seat'),
        ),
        migrations.AddField(
            model_name='egressreading',
            name='lease',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='egress_readings', to='marketplace.lease'),
        ),
        migrations.AddConstraint(
            model_name='egressreading',
            constraint=models.UniqueConstraint(fields=('lease', 'slot'), name='one_egress_reading_per_lease_and_slot'),
        ),
        migrations.AddConstraint(
            model_name='egressreading',
            constraint=models.CheckConstraint(condition=models.Q(('egress_bytes__gte', 0)), name='egress_is_not_negative'),
        ),
        migrations.RunSQL(FUNCTIONS + TRIGGERS, UNDO),
    ]
