# What funding under cost recovery lets be paid for a slot at most stands beside its fee.

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('marketplace', '0038_checks_of_running_leases'),
    ]

    operations = [
        migrations.AddField(
            model_name='slottally',
            name='most_micros',
            field=models.BigIntegerField(default=0, help_text='what funding lets be paid for it at most'),
        ),
    ]
