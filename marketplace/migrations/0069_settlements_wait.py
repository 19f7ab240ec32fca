"""A settlement that was refused for what only time heals is put off, and has not used up a try."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('marketplace', '0068_steps_are_amended'),
    ]

    operations = [
        migrations.AddField(
            model_name='settlement',
            name='put_off_until',
            field=models.DateTimeField(blank=True, help_text='refused for what only time heals', null=True),
        ),
        migrations.AddConstraint(
            model_name='settlement',
            constraint=models.CheckConstraint(condition=models.Q(('put_off_until', None), models.Q(('final_at', None), ('put_off_until__gte', models.F('made_at'))), _connector='OR'), name='settlement_is_put_off_before_it_is_final'),
        ),
    ]
