"""Coin for gas: a transfer from the funding key to another key of ours, and what each key was seen to hold."""

from django.db import migrations, models

GRANT = """
grant select, insert, update, delete on ledger_keycoin to grove_app;
grant select on ledger_keycoin to grove_read;
"""
REVOKE = "revoke all on ledger_keycoin from grove_app, grove_read;"


class Migration(migrations.Migration):

    dependencies = [
        ('ledger', '0010_runs_that_cannot_lean'),
    ]

    operations = [
        migrations.AddField(
            model_name='chainintent',
            name='value_gwei',
            field=models.BigIntegerField(default=0),
        ),
        migrations.AddConstraint(
            model_name='chainintent',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('value_gwei', 0), models.Q(('contract', 'coin'), _negated=True)), models.Q(('calldata', b''), ('contract', 'coin'), ('role', 'funder'), ('value_gwei__gte', 1)), _connector='OR'), name='chain_intent_carries_coin_to_a_key_only'),
        ),
        migrations.CreateModel(
            name='KeyCoin',
            fields=[
                ('role', models.TextField(primary_key=True, serialize=False)),
                ('address', models.TextField()),
                ('held_gwei', models.BigIntegerField()),
                ('needed_gwei', models.BigIntegerField()),
                ('looked_at', models.DateTimeField()),
            ],
            options={
                'constraints': [models.CheckConstraint(condition=models.Q(('held_gwei__gte', 0), ('needed_gwei__gte', 0)), name='key_coin_is_never_negative')],
            },
        ),
        migrations.RunSQL(GRANT, REVOKE),
    ]
