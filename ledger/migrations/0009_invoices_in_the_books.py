"""The accounts of invoices behind purchase orders: open, put forward, tax, and paid at our bank."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('ledger', '0008_runtime_role'),
    ]

    operations = [
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
        migrations.AddConstraint(
            model_name='account',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('code__in', ['buyer.available', 'buyer.held', 'provider.payable', 'provider.holdback', 'provider.custody', 'stake.mirror', 'foundation.fees', 'foundation.capital', 'programme.incentive', 'programme.grant', 'market_maker', 'insurance.pool', 'foundation.advanced', 'tax.payable']), ('floor', 'credit')), models.Q(('code__in', ['buyer.receivable', 'invoice.receivable', 'bank.received', 'chain.escrow', 'chain.stake', 'chain.wallet']), ('floor', 'debit')), models.Q(('code__in', ['card.clearing', 'chain.clearing', 'suspense']), ('floor', 'none')), _connector='OR'), name='account_floor_follows_the_chart'),
        ),
        migrations.AddConstraint(
            model_name='account',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('code__in', ['buyer.available', 'buyer.held', 'buyer.receivable', 'provider.payable', 'provider.holdback', 'provider.custody', 'stake.mirror', 'invoice.receivable']), ('party__isnull', False)), models.Q(('code__in', ['foundation.fees', 'foundation.capital', 'programme.incentive', 'programme.grant', 'market_maker', 'insurance.pool', 'foundation.advanced', 'tax.payable', 'bank.received', 'card.clearing', 'chain.escrow', 'chain.stake', 'chain.wallet', 'chain.clearing', 'suspense']), ('party__isnull', True)), _connector='OR'), name='account_party_follows_the_chart'),
        ),
        migrations.AddConstraint(
            model_name='account',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('code__in', ['buyer.held', 'provider.payable', 'provider.holdback', 'provider.custody', 'stake.mirror', 'programme.incentive', 'programme.grant', 'invoice.receivable', 'chain.wallet']), ('scope__isnull', False)), models.Q(('code__in', ['buyer.available', 'buyer.receivable', 'foundation.fees', 'foundation.capital', 'market_maker', 'insurance.pool', 'foundation.advanced', 'tax.payable', 'bank.received', 'card.clearing', 'chain.escrow', 'chain.stake', 'chain.clearing', 'suspense']), ('scope__isnull', True)), _connector='OR'), name='account_scope_follows_the_chart'),
        ),
    ]
