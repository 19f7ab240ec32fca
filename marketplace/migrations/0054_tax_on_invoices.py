import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('marketplace', '0053_own_demand_opens_no_admission'),
    ]

    operations = [
        migrations.CreateModel(
            name='TaxRule',
            fields=[
                ('id', models.UUIDField(primary_key=True, serialize=False)),
                ('country', models.CharField(max_length=2)),
                ('rate_ppm', models.IntegerField(help_text='parts per million of the net amount')),
                ('words', models.CharField(help_text='as the invoice says it', max_length=120)),
                ('valid_from', models.DateTimeField()),
                ('proposed_by', models.CharField(max_length=120)),
                ('proposed_at', models.DateTimeField()),
                ('approved_by', models.CharField(blank=True, default='', max_length=120)),
                ('approved_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'ordering': ['country', '-valid_from'],
            },
        ),
        migrations.RemoveConstraint(
            model_name='invoiceline',
            name='invoice_line_maps_to_an_award_or_a_verdict',
        ),
        migrations.AlterField(
            model_name='invoice',
            name='amount_micros',
            field=models.BigIntegerField(help_text='to pay: every line, tax among them'),
        ),
        migrations.AlterField(
            model_name='invoiceline',
            name='kind',
            field=models.CharField(choices=[('capacity', 'capacity'), ('not_earned', 'not earned'), ('credit', 'credit'), ('tax', 'tax')], max_length=10),
        ),
        migrations.AddConstraint(
            model_name='taxrule',
            constraint=models.CheckConstraint(condition=models.Q(('rate_ppm__gte', 0), ('rate_ppm__lte', 1000000)), name='tax_rate_is_a_share'),
        ),
        migrations.AddConstraint(
            model_name='taxrule',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('approved_at', None), ('approved_by', '')), models.Q(models.Q(('approved_at', None), _negated=True), models.Q(('approved_by', ''), _negated=True)), _connector='OR'), name='tax_rule_says_who_approved_it'),
        ),
        migrations.AddConstraint(
            model_name='taxrule',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('approved_by', models.F('proposed_by')), _negated=True), ('approved_by', ''), _connector='OR'), name='tax_rule_is_of_two_people'),
        ),
        migrations.AddConstraint(
            model_name='taxrule',
            constraint=models.CheckConstraint(condition=models.Q(('approved_at', None), ('approved_at__lte', models.F('valid_from')), _connector='OR'), name='tax_rule_is_approved_before_it_begins'),
        ),
        migrations.AddConstraint(
            model_name='taxrule',
            constraint=models.UniqueConstraint(condition=models.Q(('approved_at__isnull', False)), fields=('country', 'valid_from'), name='one_tax_rule_begins_at_a_time'),
        ),
        migrations.AddField(
            model_name='invoiceline',
            name='tax_rule',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='invoice_lines', to='marketplace.taxrule'),
        ),
        migrations.AddConstraint(
            model_name='invoiceline',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('amount_micros__gte', 0), ('award__isnull', False), ('kind', 'capacity'), ('tax_rule', None), ('verdict', None)), models.Q(('amount_micros__lt', 0), ('award', None), ('kind__in', ('not_earned', 'credit')), ('tax_rule', None), ('verdict__isnull', False)), models.Q(('amount_micros__gte', 0), ('award', None), ('kind', 'tax'), ('tax_rule__isnull', False), ('verdict', None)), _connector='OR'), name='invoice_line_maps_to_an_award_or_a_verdict'),
        ),
        migrations.AddConstraint(
            model_name='invoiceline',
            constraint=models.UniqueConstraint(condition=models.Q(('kind', 'tax')), fields=('invoice',), name='one_tax_line_per_invoice'),
        ),
    ]
