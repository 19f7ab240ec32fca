"""When a seat stopped approving, who made a link for whose password, and what a seat approves as a change that waits."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('marketplace', '0083_statements_in_a_total_order'),
    ]

    operations = [
        migrations.CreateModel(
            name='PasswordLink',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('made_at', models.DateTimeField()),
            ],
            options={
                'ordering': ['made_at', 'id'],
            },
        ),
        migrations.RemoveConstraint(
            model_name='spendingchange',
            name='spending_change_is_of_a_rule_or_of_a_seat',
        ),
        migrations.AddField(
            model_name='seat',
            name='approved_until',
            field=models.DateTimeField(blank=True, help_text='when another role took its approving away; null: it approves, or never did', null=True),
        ),
        migrations.AddField(
            model_name='seatlimit',
            name='limit_let_by',
            field=models.ForeignKey(blank=True, help_text='the change that another person let, where it approves more than before', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='marketplace.spendingchange'),
        ),
        migrations.AddField(
            model_name='seatlimit',
            name='limit_set_by',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='marketplace.seat'),
        ),
        migrations.AddField(
            model_name='seatlimit',
            name='set_at',
            field=models.DateTimeField(blank=True, help_text='when either limit was set last', null=True),
        ),
        migrations.AddField(
            model_name='spendingchange',
            name='limit_micros',
            field=models.BigIntegerField(blank=True, help_text='a seat approves up to', null=True),
        ),
        migrations.AddField(
            model_name='spendingrule',
            name='set_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='user',
            name='switched_off_at',
            field=models.DateTimeField(blank=True, help_text='null while the person may sign in', null=True),
        ),
        # Whoever was off already counts as switched off today: nobody is forgotten by an upgrade.
        migrations.RunSQL(
            "UPDATE marketplace_user SET switched_off_at = now() WHERE NOT is_active;", migrations.RunSQL.noop
        ),
        migrations.AlterField(
            model_name='spendingchange',
            name='kind',
            field=models.CharField(choices=[('rule', 'rule'), ('order_limit', 'order_limit'), ('limit', 'limit')], max_length=12),
        ),
        migrations.AddConstraint(
            model_name='seat',
            constraint=models.CheckConstraint(condition=models.Q(('approved_until', None), models.Q(('role__in', ('owner', 'approver')), _negated=True), _connector='OR'), name='seat_that_approves_has_not_stopped'),
        ),
        migrations.AddConstraint(
            model_name='spendingchange',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('approvals_needed__gte', 1), ('kind', 'rule'), ('limit_micros', None), ('needs_purchase_order__isnull', False), ('order_max_micros', None), ('seat', None), ('threshold_micros__gte', 0)), models.Q(('approvals_needed', None), ('needs_purchase_order', None), ('threshold_micros', None), models.Q(('seat', None), _negated=True), models.Q(models.Q(('kind', 'order_limit'), ('limit_micros', None)), models.Q(('kind', 'limit'), ('limit_micros__gte', 0), ('order_max_micros', None)), _connector='OR')), _connector='OR'), name='spending_change_is_of_a_rule_or_of_a_seat'),
        ),
        migrations.AddConstraint(
            model_name='user',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('is_active', True), ('switched_off_at', None)), models.Q(('is_active', False), ('switched_off_at__isnull', False)), _connector='OR'), name='user_that_is_off_says_since_when'),
        ),
        migrations.AddField(
            model_name='passwordlink',
            name='made_by',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='marketplace.seat'),
        ),
        migrations.AddField(
            model_name='passwordlink',
            name='seat',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='password_links', to='marketplace.seat'),
        ),
        migrations.AddConstraint(
            model_name='passwordlink',
            constraint=models.CheckConstraint(condition=models.Q(('seat', models.F('made_by')), _negated=True), name='password_link_is_made_by_another'),
        ),
    ]
