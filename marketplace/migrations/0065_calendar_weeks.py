"""A week that was adopted from an export: its rules open so many units, and none once it was undone."""

from importlib import import_module

import django.db.models.deletion
from django.db import migrations, models

BEFORE = import_module("marketplace.migrations.0014_walls_of_spending_and_capacity").FUNCTIONS
COVERS = BEFORE[BEFORE.index("CREATE FUNCTION marketplace_covers") :]
COVERS = COVERS[: COVERS.index("$$;") + 3].replace("CREATE", "CREATE OR REPLACE", 1)
SELLABLE = BEFORE[BEFORE.index("CREATE FUNCTION marketplace_sellable_units") :]
SELLABLE = SELLABLE[: SELLABLE.index("$$;") + 3].replace("CREATE", "CREATE OR REPLACE", 1)

FUNCTIONS = """
-- Whether a rule still holds: it stands alone, or its week was not undone.
CREATE FUNCTION marketplace_rule_holds(r marketplace_calendarrule) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT NOT EXISTS (SELECT 1 FROM marketplace_calendarweek w WHERE w.id = r.week_id AND w.undone_at IS NOT NULL)
$$;

CREATE FUNCTION marketplace_calendar_week_path() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.undone_at IS NOT NULL OR (OLD.node_class_id, OLD.spans, OLD.from_at, OLD.until_at, OLD.seat_id)
       IS DISTINCT FROM (NEW.node_class_id, NEW.spans, NEW.from_at, NEW.until_at, NEW.seat_id) THEN
        RAISE EXCEPTION 'calendar_week_is_only_undone: %', OLD.id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'calendar_week_is_only_undone';
    END IF;
    RETURN NEW;
END $$;

CREATE OR REPLACE FUNCTION marketplace_sellable_units(asked uuid, hour_at timestamptz) RETURNS bigint
LANGUAGE sql STABLE AS $$
    WITH rules AS (
        SELECT r.kind, coalesce(r.units, n.units) AS units, marketplace_covers(r, hour_at) AS covers
        FROM marketplace_calendarrule r JOIN marketplace_nodeclass n ON n.id = r.node_class_id
        WHERE r.node_class_id = asked AND marketplace_rule_holds(r))
    SELECT CASE
        WHEN EXISTS (SELECT 1 FROM rules WHERE kind = 'closed' AND covers) THEN 0
        WHEN EXISTS (SELECT 1 FROM rules WHERE kind = 'open')
             AND NOT EXISTS (SELECT 1 FROM rules WHERE kind = 'open' AND covers) THEN 0
        ELSE greatest(0, least(
            coalesce((SELECT max(units) FROM rules WHERE kind = 'open' AND covers), n.units), n.units - (
            SELECT coalesce(sum(c.units), 0) FROM marketplace_carveout c
            WHERE c.node_class_id = n.id AND c.from_at <= hour_at AND hour_at < c.until_at) - (
            SELECT coalesce(sum(t.units), 0) FROM marketplace_fundingtag t JOIN marketplace_fundingsource f
                ON f.code = t.source_id
            WHERE t.node_class_id = n.id AND f.policy = 'forbidden' AND t.from_at <= hour_at
              AND hour_at < t.until_at)))
    END FROM marketplace_nodeclass n WHERE n.id = asked
$$;
"""
# What decides whether an award of firm demand is firm looks at rules that hold, and at no other.
COVERS_WHAT_HOLDS = COVERS.replace("$$;", " AND marketplace_rule_holds(r)\n$$;")
TRIGGERS = """
CREATE TRIGGER calendar_week_path BEFORE UPDATE ON marketplace_calendarweek
    FOR EACH ROW EXECUTE FUNCTION marketplace_calendar_week_path();
GRANT SELECT, INSERT, UPDATE ON marketplace_calendarweek TO grove_app;
"""
UNDO = """
REVOKE ALL ON marketplace_calendarweek FROM grove_app;
DROP TRIGGER calendar_week_path ON marketplace_calendarweek;
""" + COVERS + SELLABLE + """
DROP FUNCTION marketplace_rule_holds(marketplace_calendarrule), marketplace_calendar_week_path();
"""


class Migration(migrations.Migration):

    dependencies = [
        ('marketplace', '0064_grant_vouchers'),
    ]

    operations = [
        migrations.AddField(
            model_name='calendarrule',
            name='units',
            field=models.PositiveIntegerField(blank=True, help_text='that an open rule opens; empty: all', null=True),
        ),
        migrations.CreateModel(
            name='CalendarWeek',
            fields=[
                ('id', models.UUIDField(primary_key=True, serialize=False)),
                ('source', models.CharField(help_text='the format and resource it was proposed from', max_length=120)),
                ('spans', models.JSONField(help_text='start hour, end hour from Monday 00:00 UTC, units')),
                ('from_at', models.DateTimeField()),
                ('until_at', models.DateTimeField()),
                ('made_at', models.DateTimeField()),
                ('undone_at', models.DateTimeField(blank=True, null=True)),
                ('node_class', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='calendar_weeks', to='marketplace.nodeclass')),
                ('seat', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='marketplace.seat')),
            ],
            options={
                'ordering': ['-made_at', '-id'],
            },
        ),
        migrations.AddField(
            model_name='calendarrule',
            name='week',
            field=models.ForeignKey(blank=True, help_text='the week it is part of; without it the rule stands alone', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='rules', to='marketplace.calendarweek'),
        ),
        migrations.AddConstraint(
            model_name='calendarrule',
            constraint=models.CheckConstraint(condition=models.Q(('units', None), models.Q(('kind', 'open'), ('units__gte', 1)), _connector='OR'), name='calendar_units_are_of_open_hours'),
        ),
        migrations.AddConstraint(
            model_name='calendarweek',
            constraint=models.CheckConstraint(condition=models.Q(('until_at__gt', models.F('from_at'))), name='calendar_week_has_time'),
        ),
        migrations.AddConstraint(
            model_name='calendarweek',
            constraint=models.UniqueConstraint(condition=models.Q(('undone_at', None)), fields=('node_class',), name='one_calendar_week_of_a_class'),
        ),
        migrations.RunSQL(FUNCTIONS + COVERS_WHAT_HOLDS + TRIGGERS, UNDO),
    ]
