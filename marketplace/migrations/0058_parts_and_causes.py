"""Windows that are settled in parts are paid in parts; and judges sign whose doing bad minutes were, before the rating."""

import django.db.models.deletion
from django.db import migrations, models

APPEND_ONLY = ("judgedcause",)
FUNCTIONS = """
CREATE FUNCTION marketplace_judged_cause_in_time() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT 1 FROM marketplace_slottally t JOIN marketplace_lease l ON l.id = t.lease_id
            JOIN marketplace_window w ON w.id = l.window_id
        WHERE t.lease_id = NEW.lease_id AND t.rated_at IS NOT NULL
          AND w.starts_at + make_interval(hours => t.slot) < NEW.ends_at
          AND NEW.starts_at < w.starts_at + make_interval(hours => t.slot + 1)) THEN
        RAISE EXCEPTION 'judged_cause_comes_before_the_rating: lease %', NEW.lease_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'judged_cause_comes_before_the_rating';
    END IF;
    RETURN NEW;
END $$;
"""
TRIGGERS = """
CREATE TRIGGER judged_cause_in_time BEFORE INSERT ON marketplace_judgedcause
    FOR EACH ROW EXECUTE FUNCTION marketplace_judged_cause_in_time();
CREATE TRIGGER judgedcause_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON marketplace_judgedcause
    FOR EACH STATEMENT EXECUTE FUNCTION marketplace_deny_change();
GRANT SELECT, INSERT ON marketplace_judgedcause TO grove_app;
"""
UNDO = """
REVOKE ALL ON marketplace_judgedcause FROM grove_app;
DROP TRIGGER judgedcause_stays ON marketplace_judgedcause;
DROP TRIGGER judged_cause_in_time ON marketplace_judgedcause;
DROP FUNCTION marketplace_judged_cause_in_time;
"""


class Migration(migrations.Migration):

    dependencies = [
        ('marketplace', '0057_walls_of_backups'),
    ]

    operations = [
        migrations.CreateModel(
            name='JudgedCause',
            fields=[
                ('id', models.UUIDField(primary_key=True, serialize=False)),
                ('cause', models.CharField(choices=[('BUYER', 'buyer'), ('NETWORK', 'network')], max_length=8)),
                ('starts_at', models.DateTimeField()),
                ('ends_at', models.DateTimeField()),
                ('person', models.CharField(max_length=120)),
                ('evidence', models.CharField(max_length=300)),
                ('signed_at', models.DateTimeField()),
            ],
            options={
                'ordering': ['starts_at', 'person'],
            },
        ),
        migrations.RemoveConstraint(
            model_name='payout',
            name='one_payout_per_class_and_window',
        ),
        migrations.AddField(
            model_name='payout',
            name='part',
            field=models.PositiveSmallIntegerField(default=0, help_text='of a window that is settled in parts, from 0'),
        ),
        migrations.AddConstraint(
            model_name='payout',
            constraint=models.UniqueConstraint(fields=('node_class', 'window', 'part'), name='one_payout_per_class_window_and_part'),
        ),
        migrations.AddField(
            model_name='judgedcause',
            name='lease',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='judged_causes', to='marketplace.lease'),
        ),
        migrations.AddConstraint(
            model_name='judgedcause',
            constraint=models.UniqueConstraint(fields=('lease', 'cause', 'starts_at', 'ends_at', 'person'), name='a_judge_signs_a_cause_once'),
        ),
        migrations.AddConstraint(
            model_name='judgedcause',
            constraint=models.CheckConstraint(condition=models.Q(('cause__in', ('BUYER', 'NETWORK'))), name='judged_cause_is_known'),
        ),
        migrations.AddConstraint(
            model_name='judgedcause',
            constraint=models.CheckConstraint(condition=models.Q(('ends_at__gt', models.F('starts_at')), models.Q(('person', ''), _negated=True), models.Q(('evidence', ''), _negated=True)), name='judged_cause_has_person_and_evidence'),
        ),
        migrations.RunSQL(FUNCTIONS + TRIGGERS, UNDO),
    ]
