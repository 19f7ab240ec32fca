# What the live market knows of running leases: statements as they came, health, tallies and cases.

import django.db.models.deletion
import django.db.models.expressions
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('marketplace', '0035_clauses_of_a_lease'),
    ]

    operations = [
        migrations.AddField(
            model_name='reading',
            name='buyer_up',
            field=models.BigIntegerField(blank=True, help_text="minutes the buyer's counter-reading calls up", null=True),
        ),
        migrations.AddField(
            model_name='reading',
            name='causes',
            field=models.JSONField(default=dict, help_text="cause: word of bad minutes; empty when all are the provider's"),
        ),
        migrations.AlterField(
            model_name='reading',
            name='minutes_down',
            field=models.PositiveSmallIntegerField(help_text="by the provider's doing"),
        ),
        migrations.CreateModel(
            name='LeaseHealth',
            fields=[
                ('lease', models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, primary_key=True, related_name='health', serialize=False, to='marketplace.lease')),
                ('state', models.CharField(choices=[('HEALTHY', 'HEALTHY'), ('SUSPECT', 'SUSPECT'), ('FAILED', 'FAILED')], default='HEALTHY', max_length=8)),
                ('since', models.DateTimeField()),
                ('good_minutes', models.PositiveSmallIntegerField(default=0)),
                ('heartbeat_at', models.DateTimeField(blank=True, null=True)),
                ('round_minute_at', models.DateTimeField(blank=True, help_text='minute of the last round of probes', null=True)),
                ('base_state', models.CharField(choices=[('HEALTHY', 'HEALTHY'), ('SUSPECT', 'SUSPECT'), ('FAILED', 'FAILED')], default='HEALTHY', max_length=8)),
                ('base_since', models.DateTimeField()),
                ('base_good_minutes', models.PositiveSmallIntegerField(default=0)),
            ],
            options={
                'constraints': [models.CheckConstraint(condition=models.Q(('state__in', ('HEALTHY', 'SUSPECT', 'FAILED')), ('base_state__in', ('HEALTHY', 'SUSPECT', 'FAILED'))), name='health_state_is_known')],
            },
        ),
        migrations.CreateModel(
            name='ProbeDay',
            fields=[
                ('day', models.DateField(primary_key=True, serialize=False)),
                ('commitment', models.BinaryField(help_text='SHA-256 over day and secret', max_length=32)),
                ('locked', models.BinaryField(help_text="the secret under the market's key, with the version of that key before it")),
                ('organisations', models.JSONField(help_text='verifiers that may be drawn on this day')),
                ('committed_at', models.DateTimeField()),
                ('revealed', models.BinaryField(blank=True, max_length=32, null=True)),
                ('revealed_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'ordering': ['-day'],
                'constraints': [models.CheckConstraint(condition=models.Q(models.Q(('revealed', None), ('revealed_at', None)), models.Q(models.Q(('revealed', None), _negated=True), models.Q(('revealed_at', None), _negated=True)), _connector='OR'), name='revealed_day_secret_has_its_time')],
            },
        ),
        migrations.CreateModel(
            name='Pulse',
            fields=[
                ('node_class', models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, primary_key=True, related_name='pulse', serialize=False, to='marketplace.nodeclass')),
                ('sequence', models.BigIntegerField()),
                ('sent_at', models.DateTimeField()),
                ('received_at', models.DateTimeField()),
                ('devices', models.JSONField(help_text="lease: devices of that lease that answer, by the machine's own word")),
                ('probe_address', models.CharField(max_length=200)),
                ('workload_address', models.CharField(max_length=200)),
                ('body', models.BinaryField(help_text='as signed')),
                ('signature', models.BinaryField(max_length=64)),
            ],
            options={
                'constraints': [models.CheckConstraint(condition=models.Q(('sequence__gte', 1)), name='pulse_sequence_starts_at_one')],
            },
        ),
        migrations.CreateModel(
            name='BuyerStop',
            fields=[
                ('id', models.UUIDField(primary_key=True, serialize=False)),
                ('starts_at', models.DateTimeField()),
                ('ends_at', models.DateTimeField()),
                ('reason', models.CharField(choices=[('stopped', 'stopped'), ('over_quota', 'over_quota'), ('unfunded', 'unfunded')], max_length=12)),
                ('recorded_at', models.DateTimeField()),
                ('lease', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='buyer_stops', to='marketplace.lease')),
            ],
            options={
                'ordering': ['starts_at'],
                'constraints': [models.CheckConstraint(condition=models.Q(('ends_at__gt', models.F('starts_at')), ('reason__in', ('stopped', 'over_quota', 'unfunded'))), name='buyer_stop_runs_forward_and_says_why')],
            },
        ),
        migrations.CreateModel(
            name='DeliveryCase',
            fields=[
                ('id', models.UUIDField(primary_key=True, serialize=False)),
                ('slot', models.IntegerField()),
                ('disputed_word', models.BigIntegerField(help_text='minutes in dispute when it was opened')),
                ('held_micros', models.BigIntegerField(help_text='held when it was opened')),
                ('opened_at', models.DateTimeField()),
                ('decide_by', models.DateTimeField(help_text='72 h after the last new evidence two of three sources decide')),
                ('state', models.CharField(choices=[('OPEN', 'OPEN'), ('DECIDED', 'DECIDED')], default='OPEN', max_length=8)),
                ('outcome', models.CharField(blank=True, default='', max_length=12)),
                ('billed_word', models.BigIntegerField(blank=True, help_text='held minutes that are billed after all', null=True)),
                ('decided_by', models.CharField(blank=True, default='', max_length=120)),
                ('reason', models.CharField(blank=True, default='', max_length=300)),
                ('decided_at', models.DateTimeField(blank=True, null=True)),
                ('lease', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='delivery_cases', to='marketplace.lease')),
            ],
            options={
                'ordering': ['-opened_at', 'id'],
                'constraints': [models.UniqueConstraint(fields=('lease', 'slot'), name='one_case_per_lease_and_slot'), models.CheckConstraint(condition=models.Q(models.Q(('decided_at', None), ('outcome', ''), ('state', 'OPEN')), models.Q(('outcome__in', ('agreed', 'two_of_three', 'people')), ('state', 'DECIDED'), models.Q(('decided_at', None), _negated=True), models.Q(('billed_word', None), _negated=True), models.Q(('decided_by', ''), _negated=True), models.Q(('reason', ''), _negated=True)), _connector='OR'), name='decided_case_says_how_who_and_why')],
            },
        ),
        migrations.CreateModel(
            name='ForceMajeure',
            fields=[
                ('id', models.UUIDField(primary_key=True, serialize=False)),
                ('starts_at', models.DateTimeField()),
                ('ends_at', models.DateTimeField()),
                ('person', models.CharField(max_length=120)),
                ('evidence', models.CharField(max_length=300)),
                ('signed_at', models.DateTimeField()),
                ('node_class', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='force_majeure', to='marketplace.nodeclass')),
            ],
            options={
                'ordering': ['starts_at', 'person'],
                'constraints': [models.UniqueConstraint(fields=('node_class', 'starts_at', 'ends_at', 'person'), name='a_person_signs_an_outage_once'), models.CheckConstraint(condition=models.Q(('ends_at__gt', models.F('starts_at')), models.Q(('person', ''), _negated=True), models.Q(('evidence', ''), _negated=True)), name='force_majeure_has_person_and_evidence')],
            },
        ),
        migrations.CreateModel(
            name='HealthEvent',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('from_state', models.CharField(max_length=8)),
                ('to_state', models.CharField(max_length=8)),
                ('reason', models.CharField(max_length=200)),
                ('at', models.DateTimeField()),
                ('lease', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='health_events', to='marketplace.lease')),
            ],
            options={
                'ordering': ['id'],
                'constraints': [models.CheckConstraint(condition=models.Q(models.Q(('reason', ''), _negated=True), models.Q(('from_state', models.F('to_state')), _negated=True)), name='health_event_is_a_change_with_a_reason')],
            },
        ),
        migrations.CreateModel(
            name='MaintenanceNotice',
            fields=[
                ('id', models.UUIDField(primary_key=True, serialize=False)),
                ('starts_at', models.DateTimeField()),
                ('ends_at', models.DateTimeField()),
                ('reason', models.CharField(max_length=200)),
                ('announced_at', models.DateTimeField()),
                ('node_class', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='maintenance_notices', to='marketplace.nodeclass')),
            ],
            options={
                'ordering': ['starts_at'],
                'constraints': [models.CheckConstraint(condition=models.Q(('ends_at__gt', models.F('starts_at')), models.Q(('reason', ''), _negated=True)), name='maintenance_runs_forward_and_says_why')],
            },
        ),
        migrations.CreateModel(
            name='ProbeReport',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('slot', models.IntegerField()),
                ('minute_at', models.DateTimeField()),
                ('attempt', models.PositiveSmallIntegerField(help_text='1 at the secret second, 2 its retry, 3 for a suspicion')),
                ('anchors_ok', models.BooleanField()),
                ('is_valid', models.BooleanField(help_text='its anchors and its clock were good')),
                ('echo_ok', models.BooleanField(help_text="the machine's own key answered the nonce")),
                ('port_ok', models.BooleanField()),
                ('devices', models.IntegerField()),
                ('has_failed', models.BooleanField(help_text='no echo, no workload, or fewer devices than were leased')),
                ('body', models.BinaryField(help_text='as signed')),
                ('signature', models.BinaryField(max_length=64)),
                ('received_at', models.DateTimeField()),
                ('lease', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='probe_reports', to='marketplace.lease')),
                ('verifier', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='probe_reports', to='marketplace.party')),
            ],
            options={
                'ordering': ['minute_at', 'id'],
                'constraints': [models.UniqueConstraint(fields=('lease', 'minute_at', 'verifier', 'attempt'), name='one_probe_per_verifier_minute_and_attempt'), models.CheckConstraint(condition=models.Q(('attempt__in', (1, 2, 3))), name='probe_attempt_is_one_of_three')],
            },
        ),
        migrations.CreateModel(
            name='SlotReport',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('slot', models.IntegerField()),
                ('source', models.CharField(choices=[('provider', 'provider'), ('buyer', 'buyer')], max_length=8)),
                ('sequence', models.BigIntegerField()),
                ('up_word', models.BigIntegerField(help_text='bit m: minute m was up, says this source')),
                ('body', models.BinaryField(help_text='as signed')),
                ('signature', models.BinaryField(max_length=64)),
                ('received_at', models.DateTimeField()),
                ('lease', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='slot_reports', to='marketplace.lease')),
            ],
            options={
                'ordering': ['lease', 'slot', 'source'],
                'constraints': [models.UniqueConstraint(fields=('lease', 'slot', 'source'), name='one_slot_report_per_source'), models.CheckConstraint(condition=models.Q(('source__in', ('provider', 'buyer'))), name='slot_report_source_is_known'), models.CheckConstraint(condition=models.Q(('up_word__gte', 0), ('up_word__lte', 1152921504606846975)), name='slot_report_has_sixty_minutes')],
            },
        ),
        migrations.CreateModel(
            name='SlotTally',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('slot', models.IntegerField()),
                ('units', models.BigIntegerField()),
                ('amount_micros', models.BigIntegerField(help_text='fee of this slot when fully delivered')),
                ('provider_up', models.BigIntegerField(blank=True, help_text='null until its reading came', null=True)),
                ('buyer_up', models.BigIntegerField(blank=True, help_text='null without a counter-reading', null=True)),
                ('probe_valid', models.JSONField(help_text='one word per seat of the panel: minutes with a valid report')),
                ('probe_failed', models.JSONField(help_text='one word per seat of the panel: minutes whose report failed')),
                ('is_complete', models.BooleanField(default=False, help_text='every seat has reported every minute')),
                ('down_word', models.BigIntegerField(default=0, help_text='minutes that the probes call down')),
                ('known_word', models.BigIntegerField(default=0, help_text='minutes of which the probes know enough')),
                ('unknown_word', models.BigIntegerField(help_text='other minutes, unless provider and buyer both call them up')),
                ('causes', models.JSONField(default=dict, help_text='cause: word of bad minutes that are its doing')),
                ('billable_word', models.BigIntegerField(default=0)),
                ('held_word', models.BigIntegerField(default=0, help_text='the sources disagree, or only one of them saw it')),
                ('disputed_word', models.BigIntegerField(default=0, help_text='of the held ones: two sources contradict one another')),
                ('minutes_billable', models.PositiveSmallIntegerField(default=0)),
                ('minutes_held', models.PositiveSmallIntegerField(default=0)),
                ('minutes_unpaid', models.PositiveSmallIntegerField(default=60)),
                ('billed_micros', models.BigIntegerField(default=0)),
                ('held_micros', models.BigIntegerField(default=0)),
                ('unpaid_micros', models.BigIntegerField()),
                ('evidence_at', models.DateTimeField(help_text='when the last statement came')),
                ('rated_at', models.DateTimeField(blank=True, null=True)),
                ('lease', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='tallies', to='marketplace.lease')),
            ],
            options={
                'ordering': ['lease', 'slot'],
                'constraints': [models.UniqueConstraint(fields=('lease', 'slot'), name='one_tally_per_lease_and_slot'), models.CheckConstraint(condition=models.Q(('amount_micros', django.db.models.expressions.CombinedExpression(django.db.models.expressions.CombinedExpression(models.F('billed_micros'), '+', models.F('held_micros')), '+', models.F('unpaid_micros'))), ('billed_micros__gte', 0), ('held_micros__gte', 0), ('unpaid_micros__gte', 0)), name='tally_money_is_billed_held_or_unpaid'), models.CheckConstraint(condition=models.Q(('minutes_billable', django.db.models.expressions.CombinedExpression(django.db.models.expressions.CombinedExpression(models.Value(60), '-', models.F('minutes_held')), '-', models.F('minutes_unpaid')))), name='tally_minutes_fill_the_hour'), models.CheckConstraint(condition=models.Q(('rated_at', None), ('held_micros', 0), _connector='OR'), name='rated_tally_holds_nothing')],
            },
        ),
        migrations.CreateModel(
            name='WitnessKey',
            fields=[
                ('id', models.UUIDField(primary_key=True, serialize=False)),
                ('public_key', models.BinaryField(max_length=32, unique=True)),
                ('enrolled_at', models.DateTimeField()),
                ('revoked_at', models.DateTimeField(blank=True, null=True)),
                ('party', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='witness_keys', to='marketplace.party')),
            ],
            options={
                'ordering': ['enrolled_at'],
                'constraints': [models.UniqueConstraint(condition=models.Q(('revoked_at', None)), fields=('party',), name='a_party_has_one_witness_key')],
            },
        ),
    ]
