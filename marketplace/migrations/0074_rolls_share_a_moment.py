"""All classes of a roll are measured at one time: a report says when its chain began and ended."""

from importlib import import_module

from django.db import migrations, models

BEFORE = import_module("marketplace.migrations.0072_roll_of_real_machines").FUNCTIONS
BEFORE = BEFORE[: BEFORE.index("END $$;") + len("END $$;")]
FUNCTIONS = BEFORE.replace("    RETURN NEW;", """    IF NEW.benchmark_id IS NULL AND EXISTS (
        SELECT 1 FROM marketplace_rollmember mine
            JOIN marketplace_rollmember other ON other.roll_id = mine.roll_id AND other.id <> mine.id
        WHERE mine.id = NEW.member_id AND NOT EXISTS (
            SELECT 1 FROM marketplace_rollreport a, marketplace_rollreport b
            WHERE a.member_id = mine.id AND b.member_id = other.id AND a.ended_at IS NOT NULL AND b.ended_at IS NOT NULL
              AND (extract(epoch FROM least(a.ended_at, b.ended_at))
                   - extract(epoch FROM greatest(a.measured_at, b.measured_at))) * 10000
                  > 1500 * (extract(epoch FROM a.ended_at) - extract(epoch FROM a.measured_at)
                            + extract(epoch FROM b.ended_at) - extract(epoch FROM b.measured_at)))
    ) THEN
        RAISE EXCEPTION 'roll_answer_shares_a_moment_with_all: measured after another, one machine may be both'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'roll_answer_shares_a_moment_with_all';
    END IF;
    RETURN NEW;""")


class Migration(migrations.Migration):

    dependencies = [
        ('marketplace', '0073_benchmarks_are_attested'),
    ]

    operations = [
        migrations.AddField(
            model_name='rollreport',
            name='ended_at',
            field=models.DateTimeField(help_text='when its last root came; null: before it was told', null=True),
        ),
        migrations.AlterField(
            model_name='rollreport',
            name='measured_at',
            field=models.DateTimeField(help_text='when its chain began'),
        ),
        migrations.AddConstraint(
            model_name='rollreport',
            constraint=models.CheckConstraint(condition=models.Q(('ended_at__gte', models.F('measured_at')), ('ended_at', None), _connector='OR'), name='roll_report_ends_after_it_begins'),
        ),
        migrations.RunSQL(FUNCTIONS, BEFORE),
    ]
