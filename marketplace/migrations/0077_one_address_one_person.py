"""One person is not two by a capital letter: addresses are written in small letters, those of before too."""

import django.db.models.functions.text
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('auth', '0012_alter_user_first_name_max_length'),
        ('marketplace', '0076_who_answers_for_a_program'),
    ]

    operations = [
        migrations.RunSQL(
            "UPDATE marketplace_user SET email = lower(email), username = lower(username) WHERE email <> lower(email)",
            migrations.RunSQL.noop,
        ),
        migrations.AddConstraint(
            model_name='user',
            constraint=models.CheckConstraint(condition=models.Q(('email', django.db.models.functions.text.Lower('email'))), name='user_email_is_in_small_letters'),
        ),
    ]
