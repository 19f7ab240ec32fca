"""Several transactions for one nonce, cancels, and what is known of blocks that are not final yet."""

from django.db import migrations, models

# An attempt keeps the nonce of its intent: a second nonce for one intent is refused by the database.
ONE_NONCE = """
alter table ledger_chainintent add constraint chain_intent_and_its_nonce unique (id, nonce);
alter table ledger_chainattempt add constraint chain_attempt_keeps_the_nonce_of_its_intent
    foreign key (intent_id, nonce) references ledger_chainintent (id, nonce);
"""
ANY_NONCE = """
alter table ledger_chainattempt drop constraint chain_attempt_keeps_the_nonce_of_its_intent;
alter table ledger_chainintent drop constraint chain_intent_and_its_nonce;
"""
GRANT = """
grant select, insert, update, delete on ledger_chainblock, ledger_keyuse to grove_app;
grant select on ledger_chainblock, ledger_keyuse to grove_read;
grant usage on sequence ledger_keyuse_id_seq to grove_app;
"""
REVOKE = "revoke all on ledger_chainblock, ledger_keyuse from grove_app, grove_read;"


class Migration(migrations.Migration):

    dependencies = [
        ('ledger', '0006_connect'),
    ]

    operations = [
        migrations.CreateModel(
            name='ChainBlock',
            fields=[
                ('number', models.BigIntegerField(primary_key=True, serialize=False)),
                ('block_hash', models.TextField()),
                ('parent_hash', models.TextField()),
            ],
        ),
        migrations.CreateModel(
            name='KeyUse',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('role', models.TextField()),
                ('at', models.DateTimeField()),
            ],
            options={
                'indexes': [models.Index(fields=['role', 'at'], name='key_use_by_role')],
            },
        ),
        migrations.AddField(
            model_name='chainattempt',
            name='kind',
            field=models.TextField(choices=[('call', 'Call'), ('cancel', 'Cancel')], default='call'),
        ),
        migrations.AddField(
            model_name='chainattempt',
            name='max_fee',
            field=models.BigIntegerField(default=0),
        ),
        migrations.AddField(
            model_name='chainattempt',
            name='refusal',
            field=models.TextField(blank=True, default=''),
        ),
        migrations.AddField(
            model_name='chainattempt',
            name='tip',
            field=models.BigIntegerField(default=0),
        ),
        migrations.AddField(
            model_name='chainevent',
            name='final',
            field=models.BooleanField(default=True),
        ),
        migrations.AddField(
            model_name='chainintent',
            name='cancel_asked_at',
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name='chainintent',
            name='cancel_asked_by',
            field=models.TextField(blank=True, default=''),
        ),
        migrations.AddField(
            model_name='chainintent',
            name='trouble',
            field=models.TextField(blank=True, default=''),
        ),
        migrations.AddField(
            model_name='chainintent',
            name='trouble_at',
            field=models.DateTimeField(null=True),
        ),
        migrations.AddConstraint(
            model_name='chainattempt',
            constraint=models.CheckConstraint(condition=models.Q(('kind__in', ['call', 'cancel'])), name='chain_attempt_kind_is_known'),
        ),
        migrations.AddConstraint(
            model_name='chainattempt',
            constraint=models.CheckConstraint(condition=models.Q(('tip__gte', 0), ('tip__lte', models.F('max_fee'))), name='chain_attempt_tip_lies_within_its_fee'),
        ),
        migrations.AddConstraint(
            model_name='chainevent',
            constraint=models.CheckConstraint(condition=models.Q(('booked', False), ('final', True), _connector='OR'), name='chain_event_is_booked_when_it_is_final'),
        ),
        migrations.AddConstraint(
            model_name='chainintent',
            constraint=models.UniqueConstraint(condition=models.Q(('nonce__isnull', False)), fields=('role', 'nonce'), name='chain_nonce_belongs_to_one_intent'),
        ),
        migrations.AddConstraint(
            model_name='chainintent',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('cancel_asked_at__isnull', True), ('cancel_asked_by', '')), models.Q(('cancel_asked_at__isnull', False), models.Q(('cancel_asked_by', ''), _negated=True)), _connector='OR'), name='chain_cancel_names_its_person'),
        ),
        migrations.RunSQL(ONE_NONCE, ANY_NONCE),
        migrations.RunSQL(GRANT, REVOKE),
    ]
