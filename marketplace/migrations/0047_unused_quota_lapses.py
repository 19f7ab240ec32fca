"""Quota that nobody uses lapses after notice, and goes to whoever waits."""

from importlib import import_module

import django.db.models.deletion
from django.db import migrations, models

APPEND_ONLY = ("lapserule", "lapsenotice", "lapse")

FUNCTIONS = """
-- The windows that count against an admission, and the instant from which on they do.
CREATE FUNCTION marketplace_missed_windows(asked uuid) RETURNS TABLE (window_id uuid, since timestamptz)
LANGUAGE sql STABLE AS $$
    WITH about AS (
        SELECT a.id, a.month, a.node_class_id, n.resource_class_id, n.tier, s.country,
            greatest(a.decided_at, (
                SELECT max(o.bidding_closes_at) FROM marketplace_bid b JOIN marketplace_window o ON o.id = b.window_id
                WHERE b.node_class_id = a.node_class_id AND b.state <> 'withdrawn' AND o.kind = 'market'
                  AND marketplace_delivery_month(o.starts_at) = a.month)) AS since
        FROM marketplace_admission a JOIN marketplace_nodeclass n ON n.id = a.node_class_id
            JOIN marketplace_site s ON s.id = n.site_id
        WHERE a.id = asked AND a.state = 'ADMITTED')
    SELECT w.id, about.since FROM about JOIN marketplace_window w
        ON w.kind = 'market' AND w.state IN ('CLEARING', 'CLEARED', 'DELIVERING', 'SETTLED')
        AND w.bidding_closes_at > about.since AND marketplace_delivery_month(w.starts_at) = about.month
    WHERE EXISTS (
        SELECT 1 FROM marketplace_demand d
        WHERE d.window_id = w.id AND d.hold_id IS NOT NULL AND d.state IN ('funded', 'awarded', 'lost')
          AND about.resource_class_id = ANY (d.accepted_classes) AND d.tier_min <= about.tier
          AND marketplace_in_zone(d.zone_id, about.country, (w.starts_at AT TIME ZONE 'UTC')::date))
$$;

CREATE FUNCTION marketplace_lapse_is_due() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    asked_windows integer := (SELECT windows FROM marketplace_lapserule ORDER BY id DESC LIMIT 1);
    a marketplace_admission%ROWTYPE;
    told timestamptz;
    broken text;
BEGIN
    SELECT * INTO a FROM marketplace_admission WHERE id = NEW.admission_id FOR UPDATE;
    SELECT at INTO told FROM marketplace_lapsenotice WHERE id = NEW.notice_id AND admission_id = NEW.admission_id;
    broken := CASE
        WHEN a.state <> 'ADMITTED' OR a.unit_hours <> NEW.unit_hours_before THEN 'lapse_is_of_what_was_let_in'
        WHEN told IS NULL OR NOT EXISTS (
            SELECT 1 FROM marketplace_missed_windows(a.id) m JOIN marketplace_window w ON w.id = m.window_id
            WHERE w.bidding_closes_at > told AND told > m.since) THEN 'lapse_follows_its_notice'
        WHEN (SELECT count(*) FROM marketplace_missed_windows(a.id)) < asked_windows
            THEN 'lapse_comes_after_enough_windows'
        WHEN NEW.unit_hours_after < (
            SELECT coalesce(sum(b.quantity_units::numeric * (b.end_slot - b.start_slot)), 0)
            FROM marketplace_bid b JOIN marketplace_window o ON o.id = b.window_id
            WHERE b.node_class_id = a.node_class_id AND b.state IN ('opened', 'awarded') AND o.kind = 'market'
              AND o.state <> 'FAILED' AND marketplace_delivery_month(o.starts_at) = a.month)
            AND NEW.unit_hours_after < NEW.unit_hours_before THEN 'lapse_leaves_what_bids_stand_on'
    END;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION '%: %', broken, NEW.admission_id USING ERRCODE = 'check_violation', CONSTRAINT = broken;
    END IF;
    RETURN NEW;
END $$;
"""
BEFORE = import_module("marketplace.migrations.0016_walls_of_demand_first").FUNCTIONS
PATH = BEFORE[BEFORE.index("CREATE FUNCTION marketplace_admission_path") :]
PATH = PATH[: PATH.index("CREATE FUNCTION marketplace_bid_is_let_in")].replace("CREATE", "CREATE OR REPLACE", 1)
STANDS = "WHEN OLD.state <> 'WAITLIST' OR (OLD.node_class_id, OLD.month, OLD.zone)"
# What was let in changes by a lapse only, and then by exactly as much as the lapse says.
PATH_WITH_LAPSES = PATH.replace(STANDS, """WHEN OLD.state = 'ADMITTED' AND (OLD.node_class_id, OLD.month, OLD.zone, OLD.asked_at, OLD.decided_at)
            IS NOT DISTINCT FROM (NEW.node_class_id, NEW.month, NEW.zone, NEW.asked_at, NEW.decided_at) AND EXISTS (
            SELECT 1 FROM marketplace_lapse l WHERE l.admission_id = OLD.id AND l.unit_hours_before = OLD.unit_hours
              AND ((l.unit_hours_after = 0 AND NEW.state = 'LAPSED' AND NEW.unit_hours = OLD.unit_hours)
                   OR (l.unit_hours_after > 0 AND NEW.state = 'ADMITTED' AND NEW.unit_hours = l.unit_hours_after)))
            THEN NULL
        """ + STANDS).replace("IF broken IS NULL AND NEW.state = 'ADMITTED' THEN",
                              "IF broken IS NULL AND NEW.state = 'ADMITTED' AND OLD.state = 'WAITLIST' THEN")

RULE = """
INSERT INTO marketplace_lapserule (windows, person, reason, at)
    VALUES (3, 'foundation', 'the first rule: a notice after the second window, gone after the third', now());
"""
TRIGGERS = """
CREATE TRIGGER lapse_is_due BEFORE INSERT ON marketplace_lapse
    FOR EACH ROW EXECUTE FUNCTION marketplace_lapse_is_due();
""" + RULE + "".join(
    f"CREATE TRIGGER {name}_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON marketplace_{name} "
    "FOR EACH STATEMENT EXECUTE FUNCTION marketplace_deny_change();\n"
    f"GRANT SELECT, INSERT ON marketplace_{name} TO grove_app;\n"
    for name in APPEND_ONLY
) + "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO grove_app;\n"
UNDO = "".join(f"DROP TRIGGER {name}_stays ON marketplace_{name};\n" for name in APPEND_ONLY) + """
DROP TRIGGER lapse_is_due ON marketplace_lapse;
DROP FUNCTION marketplace_lapse_is_due, marketplace_missed_windows;
"""


class Migration(migrations.Migration):

    dependencies = [
        ('marketplace', '0046_packs_and_counsel'),
    ]

    operations = [
        migrations.CreateModel(
            name='Lapse',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('unit_hours_before', models.BigIntegerField()),
                ('unit_hours_after', models.BigIntegerField()),
                ('windows', models.JSONField(help_text='the windows without a bid, by name')),
                ('at', models.DateTimeField()),
            ],
            options={
                'ordering': ['admission', 'at'],
            },
        ),
        migrations.CreateModel(
            name='LapseNotice',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('missed', models.PositiveSmallIntegerField(help_text='windows without a bid so far')),
                ('at', models.DateTimeField()),
            ],
            options={
                'ordering': ['admission', 'at'],
            },
        ),
        migrations.CreateModel(
            name='LapseRule',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('windows', models.PositiveSmallIntegerField(help_text='with funded demand for the class, and no bid of it')),
                ('person', models.CharField(max_length=120)),
                ('reason', models.CharField(max_length=300)),
                ('at', models.DateTimeField()),
            ],
            options={
                'ordering': ['-id'],
            },
        ),
        migrations.RemoveConstraint(
            model_name='admission',
            name='admission_state_is_known',
        ),
        migrations.AlterField(
            model_name='admission',
            name='state',
            field=models.CharField(choices=[('WAITLIST', 'WAITLIST'), ('ADMITTED', 'ADMITTED'), ('WITHDRAWN', 'WITHDRAWN'), ('LAPSED', 'LAPSED')], default='WAITLIST', max_length=10),
        ),
        migrations.AddConstraint(
            model_name='admission',
            constraint=models.CheckConstraint(condition=models.Q(('state__in', ('WAITLIST', 'ADMITTED', 'WITHDRAWN', 'LAPSED'))), name='admission_state_is_known'),
        ),
        migrations.AddField(
            model_name='lapse',
            name='admission',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='lapses', to='marketplace.admission'),
        ),
        migrations.AddField(
            model_name='lapsenotice',
            name='admission',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='lapse_notices', to='marketplace.admission'),
        ),
        migrations.AddField(
            model_name='lapse',
            name='notice',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='lapses', to='marketplace.lapsenotice'),
        ),
        migrations.AddConstraint(
            model_name='lapserule',
            constraint=models.CheckConstraint(condition=models.Q(('windows__gte', 2)), name='lapse_rule_leaves_time_for_a_notice'),
        ),
        migrations.AddConstraint(
            model_name='lapserule',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('person', ''), _negated=True), models.Q(('reason', ''), _negated=True)), name='lapse_rule_says_who_and_why'),
        ),
        migrations.AddConstraint(
            model_name='lapsenotice',
            constraint=models.CheckConstraint(condition=models.Q(('missed__gte', 1)), name='lapse_notice_follows_a_missed_window'),
        ),
        migrations.AddConstraint(
            model_name='lapse',
            constraint=models.CheckConstraint(condition=models.Q(('unit_hours_after__gte', 0), ('unit_hours_after__lt', models.F('unit_hours_before'))), name='lapse_takes_something_away'),
        ),
        migrations.RunSQL(FUNCTIONS + PATH_WITH_LAPSES + TRIGGERS, PATH + UNDO),
    ]
