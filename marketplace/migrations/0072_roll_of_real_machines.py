"""A real machine answers a roll call: its own signed word, what verifiers measured, and an answer that rests on both."""

from importlib import import_module

import django.db.models.deletion
from django.db import migrations, models

APPEND_ONLY = ("rollreply", "rollreport")
FUNCTIONS = """
CREATE OR REPLACE FUNCTION marketplace_roll_is_answered_in_its_span() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT 1 FROM marketplace_rollmember m JOIN marketplace_rollcall r ON r.id = m.roll_id
            LEFT JOIN marketplace_benchmark b ON b.id = NEW.benchmark_id AND b.node_class_id = m.node_class_id
        WHERE m.id = NEW.member_id AND NEW.machines <= m.machines
          AND (b.started_at >= r.opened_at AND b.finished_at <= r.closes_at
               OR NEW.benchmark_id IS NULL AND NEW.answered_at BETWEEN r.opened_at AND r.closes_at)
    ) THEN
        RAISE EXCEPTION 'roll_is_answered_in_its_span: another class, another time or more machines than called'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'roll_is_answered_in_its_span';
    END IF;
    IF NEW.benchmark_id IS NULL AND (
        NOT EXISTS (SELECT 1 FROM marketplace_rollreply p
                    WHERE p.member_id = NEW.member_id AND p.machines = NEW.machines)
        OR 2 > (SELECT count(*) FROM marketplace_rollreport p JOIN marketplace_rollmember m ON m.id = p.member_id
                    JOIN marketplace_nodeclass n ON n.id = m.node_class_id
                    JOIN marketplace_resourceclass c ON c.code = n.resource_class_id
                WHERE p.member_id = NEW.member_id AND p.ops::numeric * 10000 >= c.ops_per_sec::numeric * 8500)
    ) THEN
        RAISE EXCEPTION 'roll_answer_rests_on_two_verifiers: nobody measured it, or the machine did not sign'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'roll_answer_rests_on_two_verifiers';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_roll_is_heard_in_its_span() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    fresh jsonb := to_jsonb(NEW);
BEGIN
    IF NOT EXISTS (
        SELECT 1 FROM marketplace_rollmember m JOIN marketplace_rollcall r ON r.id = m.roll_id
        WHERE m.id = NEW.member_id AND NEW.received_at BETWEEN r.opened_at AND r.closes_at
          AND coalesce((fresh ->> 'machines')::int, 1) <= m.machines
          AND coalesce((fresh ->> 'measured_at')::timestamptz, r.opened_at) BETWEEN r.opened_at AND r.closes_at
    ) THEN
        RAISE EXCEPTION 'roll_is_heard_in_its_span: another time, or more machines than were called'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'roll_is_heard_in_its_span';
    END IF;
    RETURN NEW;
END $$;
"""
TRIGGERS = "".join(
    f"CREATE TRIGGER {name}_in_span BEFORE INSERT ON marketplace_{name} "
    "FOR EACH ROW EXECUTE FUNCTION marketplace_roll_is_heard_in_its_span();\n"
    f"CREATE TRIGGER {name}_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON marketplace_{name} "
    "FOR EACH STATEMENT EXECUTE FUNCTION marketplace_deny_change();\n"
    f"GRANT SELECT, INSERT ON marketplace_{name} TO grove_app;\n"
    for name in APPEND_ONLY
) + "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO grove_app;"
WALLS_OF_PROOF = import_module("marketplace.migrations.0043_walls_of_proof").FUNCTIONS
BEFORE = WALLS_OF_PROOF[WALLS_OF_PROOF.index("CREATE FUNCTION marketplace_roll_is_answered_in_its_span") :]
BEFORE = BEFORE[: BEFORE.index("END $$;") + len("END $$;")].replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")
# Before, a class answered by a benchmark and by nothing else.
FORGET_OTHER_ANSWERS = """
SET CONSTRAINTS ALL IMMEDIATE;
ALTER TABLE marketplace_rollanswer DISABLE TRIGGER USER;
DELETE FROM marketplace_rollanswer WHERE benchmark_id IS NULL;
ALTER TABLE marketplace_rollanswer ENABLE TRIGGER USER;
"""
UNDO = FORGET_OTHER_ANSWERS + BEFORE + "".join(
    f"REVOKE ALL ON marketplace_{name} FROM grove_app;\nDROP TRIGGER {name}_stays ON marketplace_{name};\n"
    f"DROP TRIGGER {name}_in_span ON marketplace_{name};\n"
    for name in APPEND_ONLY
) + "DROP FUNCTION marketplace_roll_is_heard_in_its_span;"


class Migration(migrations.Migration):

    dependencies = [
        ('marketplace', '0071_each_lease_by_itself'),
    ]

    operations = [
        migrations.AlterField(
            model_name='rollanswer',
            name='benchmark',
            field=models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='roll_answer', to='marketplace.benchmark'),
        ),
        migrations.CreateModel(
            name='RollReply',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('machines', models.PositiveIntegerField()),
                ('received_at', models.DateTimeField()),
                ('body', models.BinaryField(help_text='the statement, canonical JSON')),
                ('signature', models.BinaryField(help_text='Ed25519 by the machine key', max_length=64)),
                ('member', models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='reply', to='marketplace.rollmember')),
            ],
            options={
                'ordering': ['member'],
                'constraints': [models.CheckConstraint(condition=models.Q(('machines__gte', 1)), name='roll_reply_has_machines')],
            },
        ),
        migrations.CreateModel(
            name='RollReport',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('measured_at', models.DateTimeField()),
                ('ops', models.BigIntegerField(help_text='operations per second')),
                ('received_at', models.DateTimeField()),
                ('body', models.BinaryField(help_text='the statement, canonical JSON')),
                ('signature', models.BinaryField(help_text='Ed25519 by the witness key', max_length=64)),
                ('member', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='reports', to='marketplace.rollmember')),
                ('verifier', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='roll_reports', to='marketplace.party')),
            ],
            options={
                'ordering': ['member', 'id'],
                'constraints': [models.UniqueConstraint(fields=('member', 'verifier'), name='one_roll_report_per_verifier'), models.CheckConstraint(condition=models.Q(('ops__gte', 0)), name='roll_report_measured_something')],
            },
        ),
        migrations.RunSQL(FUNCTIONS + TRIGGERS, UNDO),
    ]
