"""Seats that are invited, sessions that end at once, limits of a seat's own orders, and changes that wait for another person."""

import django.db.models.deletion
import django.db.models.functions.text
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('marketplace', '0077_one_address_one_person'),
    ]

    operations = [
        migrations.CreateModel(
            name='Invitation',
            fields=[
                ('id', models.UUIDField(primary_key=True, serialize=False)),
                ('email', models.EmailField(max_length=254)),
                ('role', models.CharField(choices=[('owner', 'owner'), ('purchaser', 'purchaser'), ('approver', 'approver'), ('finance', 'finance'), ('compliance', 'compliance'), ('counsel', 'counsel'), ('operator', 'operator'), ('market_maker', 'market maker'), ('operations', 'operations'), ('judge', 'judge'), ('auditor', 'auditor'), ('admin', 'admin')], max_length=20)),
                ('secret_sha256', models.BinaryField(max_length=32, unique=True)),
                ('invited_at', models.DateTimeField()),
                ('expires_at', models.DateTimeField()),
                ('accepted_at', models.DateTimeField(blank=True, null=True)),
                ('withdrawn_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'ordering': ['-invited_at'],
            },
        ),
        migrations.CreateModel(
            name='SpendingChange',
            fields=[
                ('id', models.UUIDField(primary_key=True, serialize=False)),
                ('kind', models.CharField(choices=[('rule', 'rule'), ('order_limit', 'order_limit')], max_length=12)),
                ('threshold_micros', models.BigIntegerField(blank=True, null=True)),
                ('approvals_needed', models.PositiveSmallIntegerField(blank=True, null=True)),
                ('needs_purchase_order', models.BooleanField(blank=True, null=True)),
                ('order_max_micros', models.BigIntegerField(blank=True, help_text='of a seat; null: no own limit', null=True)),
                ('proposed_at', models.DateTimeField()),
                ('decided_at', models.DateTimeField(blank=True, null=True)),
                ('is_let', models.BooleanField(blank=True, null=True)),
                ('reason', models.CharField(blank=True, default='', max_length=300)),
                ('withdrawn_at', models.DateTimeField(blank=True, help_text='a later word took its place', null=True)),
            ],
            options={
                'ordering': ['proposed_at', 'id'],
            },
        ),
        migrations.RemoveConstraint(
            model_name='seatlimit',
            name='seat_limit_is_not_negative',
        ),
        migrations.AddField(
            model_name='seatlimit',
            name='order_max_micros',
            field=models.BigIntegerField(blank=True, help_text='one demand that it posts may cost so much without an approval; null: any', null=True),
        ),
        migrations.AddField(
            model_name='seatlimit',
            name='order_set_by',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='marketplace.seat'),
        ),
        migrations.AddField(
            model_name='spendingrule',
            name='set_by',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='marketplace.seat'),
        ),
        migrations.AddField(
            model_name='user',
            name='sign_in_no',
            field=models.PositiveIntegerField(default=0, help_text='counts how often every session was ended at once'),
        ),
        migrations.AlterField(
            model_name='seatlimit',
            name='limit_micros',
            field=models.BigIntegerField(default=0, help_text='it approves up to'),
        ),
        migrations.AddField(
            model_name='invitation',
            name='invited_by',
            field=models.ForeignKey(blank=True, help_text="null: the operator", null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='marketplace.seat'),
        ),
        migrations.AddField(
            model_name='invitation',
            name='party',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='invitations', to='marketplace.party'),
        ),
        migrations.AddField(
            model_name='invitation',
            name='seat',
            field=models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='invitation', to='marketplace.seat'),
        ),
        migrations.AddField(
            model_name='spendingchange',
            name='decided_by',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='marketplace.seat'),
        ),
        migrations.AddField(
            model_name='spendingchange',
            name='party',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='spending_changes', to='marketplace.party'),
        ),
        migrations.AddField(
            model_name='spendingchange',
            name='proposed_by',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='marketplace.seat'),
        ),
        migrations.AddField(
            model_name='spendingchange',
            name='seat',
            field=models.ForeignKey(blank=True, help_text='whose limit it is', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='marketplace.seat'),
        ),
        migrations.AddField(
            model_name='seatlimit',
            name='order_let_by',
            field=models.ForeignKey(blank=True, help_text='the change that another person let, where this limit is higher than the one before', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='marketplace.spendingchange'),
        ),
        migrations.AddField(
            model_name='spendingrule',
            name='let_by',
            field=models.ForeignKey(blank=True, help_text='the change that another person let, where these terms ask less than those before', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='marketplace.spendingchange'),
        ),
        migrations.AddConstraint(
            model_name='seatlimit',
            constraint=models.CheckConstraint(condition=models.Q(('limit_micros__gte', 0), models.Q(('order_max_micros', None), ('order_max_micros__gte', 0), _connector='OR')), name='seat_limit_is_not_negative'),
        ),
        migrations.AddConstraint(
            model_name='seatlimit',
            constraint=models.CheckConstraint(condition=models.Q(('order_set_by', None), models.Q(('order_set_by', models.F('seat')), _negated=True), _connector='OR'), name='seat_sets_no_order_limit_of_its_own'),
        ),
        migrations.AddConstraint(
            model_name='invitation',
            constraint=models.CheckConstraint(condition=models.Q(('role__in', ('owner', 'purchaser', 'approver', 'finance', 'compliance', 'counsel', 'operator', 'market_maker', 'operations', 'judge', 'auditor', 'admin'))), name='invitation_role_is_known'),
        ),
        migrations.AddConstraint(
            model_name='invitation',
            constraint=models.CheckConstraint(condition=models.Q(('email', django.db.models.functions.text.Lower('email'))), name='invitation_email_is_in_small_letters'),
        ),
        migrations.AddConstraint(
            model_name='invitation',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('accepted_at', None), ('seat', None)), models.Q(('accepted_at__gte', models.F('invited_at')), ('accepted_at__lt', models.F('expires_at')), models.Q(('seat', None), _negated=True)), _connector='OR'), name='invitation_is_accepted_in_time_by_its_seat'),
        ),
        migrations.AddConstraint(
            model_name='invitation',
            constraint=models.CheckConstraint(condition=models.Q(('accepted_at', None), ('withdrawn_at', None), _connector='OR'), name='invitation_has_one_end'),
        ),
        migrations.AddConstraint(
            model_name='invitation',
            constraint=models.UniqueConstraint(condition=models.Q(('accepted_at', None), ('withdrawn_at', None)), fields=('party', 'email'), name='one_open_invitation_per_address'),
        ),
        migrations.AddConstraint(
            model_name='spendingchange',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('approvals_needed__gte', 1), ('kind', 'rule'), ('needs_purchase_order__isnull', False), ('order_max_micros', None), ('seat', None), ('threshold_micros__gte', 0)), models.Q(('approvals_needed', None), ('kind', 'order_limit'), ('needs_purchase_order', None), ('threshold_micros', None), models.Q(('seat', None), _negated=True)), _connector='OR'), name='spending_change_is_of_a_rule_or_of_a_seat'),
        ),
        migrations.AddConstraint(
            model_name='spendingchange',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('decided_at', None), ('decided_by', None), ('is_let', None)), models.Q(models.Q(('decided_by', None), _negated=True), models.Q(('decided_at', None), _negated=True), ('is_let__isnull', False), models.Q(('reason', ''), _negated=True), ('withdrawn_at', None)), _connector='OR'), name='spending_change_says_who_decided_and_why'),
        ),
        migrations.AddConstraint(
            model_name='spendingchange',
            constraint=models.CheckConstraint(condition=models.Q(('decided_by', None), models.Q(models.Q(('decided_by', models.F('proposed_by')), _negated=True), models.Q(('seat', None), models.Q(('decided_by', models.F('seat')), _negated=True), _connector='OR')), _connector='OR'), name='spending_change_is_let_by_another'),
        ),
        migrations.AddConstraint(
            model_name='spendingchange',
            constraint=models.UniqueConstraint(condition=models.Q(('decided_at', None), ('withdrawn_at', None)), fields=('party', 'kind', 'seat'), name='one_spending_change_waits_at_a_time', nulls_distinct=False),
        ),
    ]
