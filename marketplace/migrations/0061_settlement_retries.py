"""Two people let a settlement be tried again that the contract has refused three times."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('marketplace', '0060_verdicts_on_targets'),
    ]

    operations = [
        migrations.AddField(
            model_name='settlement',
            name='retry_asked_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='settlement',
            name='retry_asked_by',
            field=models.CharField(blank=True, default='', max_length=120),
        ),
        migrations.AddField(
            model_name='settlement',
            name='retry_let_by',
            field=models.CharField(blank=True, default='', max_length=120),
        ),
        migrations.AddField(
            model_name='settlement',
            name='retry_reason',
            field=models.CharField(blank=True, default='', max_length=300),
        ),
        migrations.AddConstraint(
            model_name='settlement',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('retry_asked_at', None), ('retry_asked_by', ''), ('retry_reason', '')), models.Q(models.Q(('retry_asked_at', None), _negated=True), models.Q(('retry_asked_by', ''), _negated=True), models.Q(('retry_reason', ''), _negated=True)), _connector='OR'), name='settlement_retry_says_who_asked_and_why'),
        ),
        migrations.AddConstraint(
            model_name='settlement',
            constraint=models.CheckConstraint(condition=models.Q(('retry_let_by', ''), models.Q(models.Q(('retry_asked_by', ''), _negated=True), models.Q(('retry_let_by', models.F('retry_asked_by')), _negated=True)), _connector='OR'), name='settlement_retry_is_of_two_people'),
        ),
        migrations.AddConstraint(
            model_name='settlement',
            constraint=models.CheckConstraint(condition=models.Q(('retry_let_by', ''), models.Q(('refused_at', None), _negated=True), _connector='OR'), name='settlement_retry_is_of_a_refused_call'),
        ),
    ]
