# What became of typed targets, what they credit, and the echo times that latency is judged by.

import django.db.models.deletion
import django.db.models.expressions
from django.db import migrations, models


APPEND_ONLY = ("targetverdict",)
KEEP = "".join(
    f"grant select, insert on marketplace_{table} to grove_app;\n"
    f"CREATE TRIGGER {table}_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON marketplace_{table} "
    "FOR EACH STATEMENT EXECUTE FUNCTION marketplace_deny_change();\n"
    for table in APPEND_ONLY
)
LET_GO = "".join(
    f"DROP TRIGGER {table}_stays ON marketplace_{table};\nrevoke all on marketplace_{table} from grove_app;\n"
    for table in APPEND_ONLY
)


class Migration(migrations.Migration):

    dependencies = [
        ('marketplace', '0059_sla_targets'),
    ]

    operations = [
        migrations.CreateModel(
            name='TargetVerdict',
            fields=[
                ('id', models.UUIDField(primary_key=True, serialize=False)),
                ('target', models.CharField(help_text='its name on the menu', max_length=40)),
                ('bound', models.PositiveIntegerField(help_text='as promised, in the unit that the name ends with')),
                ('outcome', models.CharField(choices=[('kept', 'kept'), ('broken', 'broken'), ('unknown', 'unknown')], max_length=8)),
                ('event_minute', models.PositiveIntegerField(default=0, help_text='of the lease, in which the event began')),
                ('last_minute', models.PositiveIntegerField(default=0, help_text='of the lease, to which it was seen to last')),
                ('measured', models.BigIntegerField(help_text='in the unit of the bound; null: nothing was measured', null=True)),
                ('missed', models.PositiveIntegerField(help_text='minutes or checks that missed the bound; bad minutes of an event')),
                ('known', models.PositiveIntegerField(help_text='minutes or checks of which enough is known')),
                ('allowed', models.PositiveIntegerField(help_text='a share is broken by more than this')),
                ('credit_bps', models.PositiveIntegerField(default=0, help_text="of the period's fee")),
                ('credit_micros', models.BigIntegerField(default=0)),
                ('evidence', models.JSONField(help_text='what it rests on; its canonical JSON is hashed')),
                ('evidence_hash', models.BinaryField(max_length=32)),
                ('rule_version', models.CharField(max_length=20)),
                ('broken_at', models.DateTimeField(blank=True, help_text='end of the slot in which it became certain', null=True)),
                ('judged_at', models.DateTimeField()),
            ],
            options={
                'ordering': ['lease', 'target', 'event_minute'],
            },
        ),
        migrations.RemoveConstraint(
            model_name='earlycredit',
            name='early_credit_is_of_a_known_step',
        ),
        migrations.AddField(
            model_name='credit',
            name='targets_micros',
            field=models.BigIntegerField(default=0, help_text='of the amount, for broken targets'),
        ),
        migrations.AddField(
            model_name='probereport',
            name='echo_ms',
            field=models.PositiveIntegerField(help_text='from asking to the echo; null: none, or not measured', null=True),
        ),
        migrations.AddField(
            model_name='reading',
            name='echo_ms',
            field=models.JSONField(default=list, help_text='median echo time of each minute, null where nobody knows; empty where none is known'),
        ),
        migrations.AddField(
            model_name='slottally',
            name='echo_ms',
            field=models.JSONField(default=list, help_text='median echo time of each minute, null where nobody knows'),
        ),
        migrations.AlterField(
            model_name='earlycredit',
            name='kind',
            field=models.CharField(choices=[('availability', 'availability'), ('performance', 'performance'), ('target', 'target')], default='availability', max_length=12),
        ),
        migrations.AlterField(
            model_name='earlycredit',
            name='period',
            field=models.PositiveSmallIntegerField(default=0, help_text='0 for availability; the interval of a re-check; counts targets'),
        ),
        migrations.AddConstraint(
            model_name='credit',
            constraint=models.CheckConstraint(condition=models.Q(('targets_micros__gte', 0), ('targets_micros__lte', django.db.models.expressions.CombinedExpression(models.F('amount_micros'), '-', models.F('performance_micros')))), name='targets_are_part_of_their_credit'),
        ),
        migrations.AddField(
            model_name='targetverdict',
            name='lease',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='target_verdicts', to='marketplace.lease'),
        ),
        migrations.AddField(
            model_name='earlycredit',
            name='target_verdict',
            field=models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='early_credit', to='marketplace.targetverdict'),
        ),
        migrations.AddConstraint(
            model_name='earlycredit',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('kind', 'availability'), ('step_bps__in', (1000, 2500, 10000))), models.Q(('kind', 'performance'), ('step_bps', 0)), models.Q(('kind', 'target'), ('step_bps__in', (500, 1000))), _connector='OR'), name='early_credit_is_of_a_known_step'),
        ),
        migrations.AddConstraint(
            model_name='earlycredit',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('kind', 'target'), models.Q(('target_verdict', None), _negated=True)), models.Q(models.Q(('kind', 'target'), _negated=True), ('target_verdict', None)), _connector='OR'), name='credit_of_a_target_names_its_verdict'),
        ),
        migrations.AddConstraint(
            model_name='targetverdict',
            constraint=models.UniqueConstraint(fields=('lease', 'target', 'event_minute'), name='an_event_is_judged_once'),
        ),
        migrations.AddConstraint(
            model_name='targetverdict',
            constraint=models.CheckConstraint(condition=models.Q(('outcome__in', ('kept', 'broken', 'unknown'))), name='target_outcome_is_known'),
        ),
        migrations.AddConstraint(
            model_name='targetverdict',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('credit_bps__gte', 1), ('credit_micros__gte', 1), ('outcome', 'broken'), models.Q(('broken_at', None), _negated=True)), models.Q(models.Q(('outcome', 'broken'), _negated=True), ('broken_at', None), ('credit_bps', 0), ('credit_micros', 0)), _connector='OR'), name='only_a_broken_target_is_credited'),
        ),
        migrations.AddConstraint(
            model_name='targetverdict',
            constraint=models.CheckConstraint(condition=models.Q(('missed__lte', models.F('known')), ('known__gte', 0)), name='target_misses_what_is_known'),
        ),
        migrations.AddConstraint(
            model_name='targetverdict',
            constraint=models.CheckConstraint(condition=models.Q(('last_minute__gte', models.F('event_minute'))), name='target_event_runs_forward'),
        ),
        migrations.RunSQL(KEEP, LET_GO),
    ]
