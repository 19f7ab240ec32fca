from django.db import migrations, models


GRANT = """
grant select, insert, update on ledger_bankaccount to grove_app;
grant select on ledger_bankaccount to grove_read;
"""
REVOKE = "revoke all on ledger_bankaccount from grove_app, grove_read;"


class Migration(migrations.Migration):

    dependencies = [
        ('ledger', '0005_roles'),
    ]

    operations = [
        migrations.CreateModel(
            name='BankAccount',
            fields=[
                ('id', models.UUIDField(primary_key=True, serialize=False)),
                ('party', models.UUIDField()),
                ('country', models.TextField()),
                ('wallet', models.TextField()),
                ('is_chosen', models.BooleanField(default=True)),
                ('state', models.TextField(choices=[('queued', 'Queued'), ('open', 'Open'), ('ready', 'Ready'), ('disabled', 'Disabled'), ('refused', 'Refused')], default='queued')),
                ('attempt', models.IntegerField(default=0)),
                ('broken_since', models.DateTimeField(null=True)),
                ('processor_id', models.TextField(null=True)),
                ('missing', models.JSONField(default=list)),
                ('reason', models.TextField(blank=True, default='')),
                ('return_url', models.TextField()),
                ('links_asked', models.IntegerField(default=0)),
                ('link_url', models.TextField(blank=True, default='')),
                ('link_expires_at', models.DateTimeField(null=True)),
                ('created_at', models.DateTimeField()),
                ('read_at', models.DateTimeField(null=True)),
            ],
        ),
        migrations.RemoveConstraint(
            model_name='account',
            name='account_floor_follows_the_chart',
        ),
        migrations.RemoveConstraint(
            model_name='account',
            name='account_party_follows_the_chart',
        ),
        migrations.RemoveConstraint(
            model_name='account',
            name='account_scope_follows_the_chart',
        ),
        migrations.RemoveConstraint(
            model_name='cardintent',
            name='card_intent_kind_is_known',
        ),
        migrations.RemoveConstraint(
            model_name='cardintent',
            name='only_a_card_deposit_stands_alone',
        ),
        migrations.RemoveConstraint(
            model_name='cardintent',
            name='card_intent_under_way_is_known_there',
        ),
        migrations.AddField(
            model_name='cardintent',
            name='attempt',
            field=models.IntegerField(default=0),
        ),
        migrations.AddField(
            model_name='cardintent',
            name='broken_since',
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name='cardintent',
            name='reversed_cents',
            field=models.BigIntegerField(default=0),
        ),
        migrations.AddField(
            model_name='cardintent',
            name='scope',
            field=models.UUIDField(null=True),
        ),
        migrations.AlterField(
            model_name='cardintent',
            name='kind',
            field=models.TextField(choices=[('deposit', 'Deposit'), ('refund', 'Refund'), ('exchange', 'Exchange'), ('takeover', 'Takeover'), ('payout', 'Payout')]),
        ),
        migrations.AddConstraint(
            model_name='account',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('code__in', ['buyer.available', 'buyer.held', 'provider.payable', 'provider.holdback', 'provider.custody', 'stake.mirror', 'foundation.fees', 'foundation.capital', 'programme.incentive', 'programme.grant', 'market_maker', 'insurance.pool']), ('floor', 'credit')), models.Q(('code__in', ['buyer.receivable', 'chain.escrow', 'chain.stake', 'chain.wallet']), ('floor', 'debit')), models.Q(('code__in', ['card.clearing', 'chain.clearing', 'suspense']), ('floor', 'none')), _connector='OR'), name='account_floor_follows_the_chart'),
        ),
        migrations.AddConstraint(
            model_name='account',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('code__in', ['buyer.available', 'buyer.held', 'buyer.receivable', 'provider.payable', 'provider.holdback', 'provider.custody', 'stake.mirror']), ('party__isnull', False)), models.Q(('code__in', ['foundation.fees', 'foundation.capital', 'programme.incentive', 'programme.grant', 'market_maker', 'insurance.pool', 'card.clearing', 'chain.escrow', 'chain.stake', 'chain.wallet', 'chain.clearing', 'suspense']), ('party__isnull', True)), _connector='OR'), name='account_party_follows_the_chart'),
        ),
        migrations.AddConstraint(
            model_name='account',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('code__in', ['buyer.held', 'provider.payable', 'provider.holdback', 'provider.custody', 'stake.mirror', 'programme.incentive', 'programme.grant', 'chain.wallet']), ('scope__isnull', False)), models.Q(('code__in', ['buyer.available', 'buyer.receivable', 'foundation.fees', 'foundation.capital', 'market_maker', 'insurance.pool', 'card.clearing', 'chain.escrow', 'chain.stake', 'chain.clearing', 'suspense']), ('scope__isnull', True)), _connector='OR'), name='account_scope_follows_the_chart'),
        ),
        migrations.AddConstraint(
            model_name='cardintent',
            constraint=models.CheckConstraint(condition=models.Q(('kind__in', ['deposit', 'refund', 'exchange', 'takeover', 'payout'])), name='card_intent_kind_is_known'),
        ),
        migrations.AddConstraint(
            model_name='cardintent',
            constraint=models.CheckConstraint(condition=models.Q(('reversed_cents__gte', 0), ('reversed_cents__lte', models.F('cents'))), name='card_intent_reverses_no_more_than_it_moved'),
        ),
        migrations.AddConstraint(
            model_name='cardintent',
            constraint=models.CheckConstraint(condition=models.Q(('attempt__gte', 0)), name='card_intent_attempts_count_up'),
        ),
        migrations.AddConstraint(
            model_name='cardintent',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('kind', 'deposit'), ('parent__isnull', True), ('scope__isnull', True)), models.Q(('kind__in', ['refund', 'exchange']), ('parent__isnull', False), ('scope__isnull', True)), models.Q(('kind__in', ['takeover', 'payout']), ('parent__isnull', True), ('scope__isnull', False)), _connector='OR'), name='card_intent_stands_where_its_kind_says'),
        ),
        migrations.AddConstraint(
            model_name='cardintent',
            constraint=models.CheckConstraint(condition=models.Q(('state__in', ['queued', 'failed']), ('kind__in', ['exchange', 'takeover']), ('processor_id__isnull', False), _connector='OR'), name='card_intent_under_way_is_known_there'),
        ),
        migrations.AddConstraint(
            model_name='bankaccount',
            constraint=models.UniqueConstraint(fields=('party',), name='bank_account_is_one_per_party'),
        ),
        migrations.AddConstraint(
            model_name='bankaccount',
            constraint=models.UniqueConstraint(fields=('processor_id',), name='bank_account_object_belongs_to_one_party'),
        ),
        migrations.AddConstraint(
            model_name='bankaccount',
            constraint=models.CheckConstraint(condition=models.Q(('state__in', ['queued', 'open', 'ready', 'disabled', 'refused'])), name='bank_account_state_is_known'),
        ),
        migrations.AddConstraint(
            model_name='bankaccount',
            constraint=models.CheckConstraint(condition=models.Q(('state__in', ['queued', 'refused']), ('processor_id__isnull', False), _connector='OR'), name='bank_account_in_use_is_known_there'),
        ),
        migrations.AddConstraint(
            model_name='bankaccount',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('state__in', ['disabled', 'refused']), _negated=True), models.Q(('reason', ''), _negated=True), _connector='OR'), name='bank_account_that_cannot_be_paid_says_why'),
        ),
        migrations.AddConstraint(
            model_name='bankaccount',
            constraint=models.CheckConstraint(condition=models.Q(('attempt__gte', 0), ('links_asked__gte', 0)), name='bank_account_counters_are_never_negative'),
        ),
        migrations.RunSQL(GRANT, REVOKE),
    ]
