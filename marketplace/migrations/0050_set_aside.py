"""The share of what is awarded that is meant for research."""

from django.db import migrations, models

APPEND_ONLY = ("setasiderule",)

TRIGGERS = "".join(
    f"CREATE TRIGGER {name}_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON marketplace_{name} "
    "FOR EACH STATEMENT EXECUTE FUNCTION marketplace_deny_change();\n"
    f"GRANT SELECT, INSERT ON marketplace_{name} TO grove_app;\n"
    for name in APPEND_ONLY
) + "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO grove_app;\n"
UNDO = "".join(f"DROP TRIGGER {name}_stays ON marketplace_{name};\n" for name in APPEND_ONLY)


class Migration(migrations.Migration):

    dependencies = [
        ('marketplace', '0049_pinned_data'),
    ]

    operations = [
        migrations.CreateModel(
            name='SetAsideRule',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('share_ppm', models.PositiveIntegerField()),
                ('person', models.CharField(max_length=120)),
                ('reason', models.CharField(max_length=300)),
                ('at', models.DateTimeField()),
            ],
            options={
                'ordering': ['-id'],
                'constraints': [models.CheckConstraint(condition=models.Q(('share_ppm__lte', 1000000)), name='set_aside_is_a_share'), models.CheckConstraint(condition=models.Q(models.Q(('person', ''), _negated=True), models.Q(('reason', ''), _negated=True)), name='set_aside_says_who_and_why')],
            },
        ),
        migrations.RunSQL(TRIGGERS, UNDO),
    ]
