# Performance re-checks of running leases, their credits, and the days of evidence.

import django.db.models.deletion
from django.db import migrations, models


APPEND_ONLY = ("checkreport", "recheck", "evidenceday")
KEEP = "".join(
    f"grant select, insert on marketplace_{table} to grove_app;\n"
    f"CREATE TRIGGER {table}_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON marketplace_{table} "
    "FOR EACH STATEMENT EXECUTE FUNCTION marketplace_deny_change();\n"
    for table in APPEND_ONLY
) + "grant usage on all sequences in schema public to grove_app;"
LET_GO = "".join(
    f"DROP TRIGGER {table}_stays ON marketplace_{table};\nrevoke all on marketplace_{table} from grove_app;\n"
    for table in APPEND_ONLY
)


class Migration(migrations.Migration):

    dependencies = [
        ('marketplace', '0037_walls_of_delivery'),
    ]

    operations = [
        migrations.CreateModel(
            name='CheckReport',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('interval', models.PositiveIntegerField(help_text="0, 1, 2 ... from the lease's first slot")),
                ('first_ops', models.BigIntegerField(help_text='operations per second')),
                ('second_ops', models.BigIntegerField(blank=True, help_text='a second try, if the first was too low', null=True)),
                ('body', models.BinaryField(help_text='as signed')),
                ('signature', models.BinaryField(max_length=64)),
                ('received_at', models.DateTimeField()),
            ],
            options={
                'ordering': ['lease', 'interval', 'id'],
            },
        ),
        migrations.CreateModel(
            name='EvidenceDay',
            fields=[
                ('day', models.DateField(primary_key=True, serialize=False)),
                ('root', models.BinaryField(help_text="Merkle root over the verdicts' evidence hashes by id", max_length=32)),
                ('verdicts', models.PositiveIntegerField()),
                ('anchor_number', models.BigIntegerField(help_text='under which the anchor contract keeps it', unique=True)),
                ('intent_key', models.CharField(max_length=120, unique=True)),
                ('made_at', models.DateTimeField()),
            ],
            options={
                'ordering': ['-day'],
            },
        ),
        migrations.CreateModel(
            name='Recheck',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('interval', models.PositiveIntegerField(help_text="0, 1, 2 ... from the lease's first slot, six hours each")),
                ('proven_ops', models.BigIntegerField(help_text='the attested score it is compared with')),
                ('first_ops', models.BigIntegerField(help_text='median of the verifiers')),
                ('second_ops', models.BigIntegerField(blank=True, null=True)),
                ('reports', models.PositiveSmallIntegerField(help_text='verifiers that measured')),
                ('has_failed', models.BooleanField(help_text='both tries under 90 % of the proven score')),
                ('interval_fee_micros', models.BigIntegerField()),
                ('shortfall_micros', models.BigIntegerField(help_text="what is missing, of the interval's fee")),
                ('evidence_hash', models.BinaryField(max_length=32)),
                ('made_at', models.DateTimeField()),
            ],
            options={
                'ordering': ['lease', 'interval'],
            },
        ),
        migrations.RemoveConstraint(
            model_name='earlycredit',
            name='a_step_is_credited_once',
        ),
        migrations.RemoveConstraint(
            model_name='earlycredit',
            name='early_credit_is_of_a_known_step',
        ),
        migrations.AddField(
            model_name='credit',
            name='performance_micros',
            field=models.BigIntegerField(default=0, help_text='of the amount, shortfalls of failed re-checks'),
        ),
        migrations.AddField(
            model_name='earlycredit',
            name='kind',
            field=models.CharField(choices=[('availability', 'availability'), ('performance', 'performance')], default='availability', max_length=12),
        ),
        migrations.AddField(
            model_name='reading',
            name='statements_hash',
            field=models.BinaryField(blank=True, help_text='SHA-256 over every statement about this slot; live leases only', max_length=32, null=True),
        ),
        migrations.AddField(
            model_name='verdict',
            name='checks',
            field=models.PositiveIntegerField(default=0, help_text='performance re-checks of the period'),
        ),
        migrations.AddField(
            model_name='verdict',
            name='checks_allowed',
            field=models.PositiveIntegerField(default=0, help_text='a breach needs more failed checks than this'),
        ),
        migrations.AddField(
            model_name='verdict',
            name='checks_failed',
            field=models.PositiveIntegerField(default=0),
        ),
        migrations.AlterField(
            model_name='earlycredit',
            name='period',
            field=models.PositiveSmallIntegerField(default=0, help_text='0 for availability; the interval of a re-check'),
        ),
        migrations.AddConstraint(
            model_name='credit',
            constraint=models.CheckConstraint(condition=models.Q(('performance_micros__gte', 0), ('performance_micros__lte', models.F('amount_micros'))), name='performance_is_part_of_its_credit'),
        ),
        migrations.AddConstraint(
            model_name='earlycredit',
            constraint=models.UniqueConstraint(fields=('lease', 'kind', 'period', 'step_bps'), name='a_step_is_credited_once'),
        ),
        migrations.AddConstraint(
            model_name='earlycredit',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('kind', 'availability'), ('step_bps__in', (1000, 2500, 10000))), models.Q(('kind', 'performance'), ('step_bps', 0)), _connector='OR'), name='early_credit_is_of_a_known_step'),
        ),
        migrations.AddConstraint(
            model_name='verdict',
            constraint=models.CheckConstraint(condition=models.Q(('checks_failed__lte', models.F('checks'))), name='verdict_fails_checks_that_were_made'),
        ),
        migrations.AddField(
            model_name='checkreport',
            name='lease',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='check_reports', to='marketplace.lease'),
        ),
        migrations.AddField(
            model_name='checkreport',
            name='verifier',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='check_reports', to='marketplace.party'),
        ),
        migrations.AddConstraint(
            model_name='evidenceday',
            constraint=models.CheckConstraint(condition=models.Q(('verdicts__gte', 1)), name='evidence_day_has_verdicts'),
        ),
        migrations.AddField(
            model_name='recheck',
            name='lease',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='rechecks', to='marketplace.lease'),
        ),
        migrations.AddConstraint(
            model_name='checkreport',
            constraint=models.UniqueConstraint(fields=('lease', 'interval', 'verifier'), name='one_check_per_verifier_and_interval'),
        ),
        migrations.AddConstraint(
            model_name='checkreport',
            constraint=models.CheckConstraint(condition=models.Q(('first_ops__gte', 0), models.Q(('second_ops', None), ('second_ops__gte', 0), _connector='OR')), name='check_measured_something'),
        ),
        migrations.AddConstraint(
            model_name='recheck',
            constraint=models.UniqueConstraint(fields=('lease', 'interval'), name='an_interval_is_checked_once'),
        ),
        migrations.AddConstraint(
            model_name='recheck',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('has_failed', False), ('shortfall_micros', 0)), models.Q(('has_failed', True), ('shortfall_micros__gte', 0), ('shortfall_micros__lte', models.F('interval_fee_micros'))), _connector='OR'), name='only_a_failed_check_falls_short'),
        ),
        migrations.RunSQL(KEEP, LET_GO),
    ]
