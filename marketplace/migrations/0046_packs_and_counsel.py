"""Each lease has its documentation pack, and counsel's sign-off stands where a buyer asks for it."""

import django.db.models.deletion
from django.db import migrations, models

APPEND_ONLY = ("leasepack", "counselsignoff")

FUNCTIONS = """
-- Whether what a demand asks for flags it as high-risk: its data class or its own rules name a control of kind pack.
CREATE FUNCTION marketplace_needs_pack(asked uuid) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT 1 FROM marketplace_demand d LEFT JOIN marketplace_dataclass k ON k.code = d.data_class_id
            JOIN marketplace_control c ON c.kind = 'pack'
                AND (c.code = ANY (d.required_controls) OR c.code = ANY (k.controls))
        WHERE d.id = asked)
$$;

CREATE FUNCTION marketplace_pack_is_whole() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.sha256 <> sha256(NEW.body) THEN
        RAISE EXCEPTION 'pack_hash_is_of_its_body: %', NEW.lease_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'pack_hash_is_of_its_body';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_high_risk_lease_has_its_pack() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state = 'locking' AND NEW.state NOT IN ('locking', 'refused') AND marketplace_needs_pack(NEW.demand_id)
       AND NOT EXISTS (SELECT 1 FROM marketplace_leasepack WHERE lease_id = NEW.id) THEN
        RAISE EXCEPTION 'high_risk_lease_has_its_pack: %', NEW.id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'high_risk_lease_has_its_pack';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_counsel_signs() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    broken text;
BEGIN
    SELECT CASE
        WHEN s.party_id <> d.party_id OR s.role <> 'counsel' THEN 'counsel_sign_off_is_by_counsel'
        WHEN EXISTS (SELECT 1 FROM marketplace_seat p WHERE p.id = d.posted_by_id AND p.user_id = s.user_id)
            THEN 'counsel_is_another_person'
        WHEN w.state <> 'COLLECTING' THEN 'counsel_signs_while_demand_is_collected'
    END INTO broken
    FROM marketplace_demand d JOIN marketplace_window w ON w.id = d.window_id
        JOIN marketplace_seat s ON s.id = NEW.seat_id
    WHERE d.id = NEW.demand_id;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION '%: %', broken, NEW.demand_id USING ERRCODE = 'check_violation', CONSTRAINT = broken;
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_award_has_counsel() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT 1 FROM marketplace_demand d JOIN marketplace_counselrule r ON r.party_id = d.party_id
            AND r.ended_at IS NULL AND (r.data_class_id IS NULL OR r.data_class_id = d.data_class_id)
        WHERE d.id = NEW.demand_id AND NOT EXISTS (
            SELECT 1 FROM marketplace_counselsignoff c WHERE c.demand_id = d.id AND c.is_approved)) THEN
        RAISE EXCEPTION 'award_has_counsels_sign_off: demand %', NEW.demand_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'award_has_counsels_sign_off';
    END IF;
    RETURN NEW;
END $$;
"""
TRIGGERS = """
CREATE TRIGGER pack_is_whole BEFORE INSERT ON marketplace_leasepack
    FOR EACH ROW EXECUTE FUNCTION marketplace_pack_is_whole();
CREATE TRIGGER high_risk_lease_has_its_pack BEFORE UPDATE OF state ON marketplace_lease
    FOR EACH ROW EXECUTE FUNCTION marketplace_high_risk_lease_has_its_pack();
CREATE TRIGGER counsel_signs BEFORE INSERT ON marketplace_counselsignoff
    FOR EACH ROW EXECUTE FUNCTION marketplace_counsel_signs();
CREATE TRIGGER award_has_counsel BEFORE INSERT ON marketplace_award
    FOR EACH ROW EXECUTE FUNCTION marketplace_award_has_counsel();
GRANT SELECT, INSERT ON marketplace_counselrule TO grove_app;
GRANT UPDATE (ended_at) ON marketplace_counselrule TO grove_app;
""" + "".join(
    f"CREATE TRIGGER {name}_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON marketplace_{name} "
    "FOR EACH STATEMENT EXECUTE FUNCTION marketplace_deny_change();\n"
    f"GRANT SELECT, INSERT ON marketplace_{name} TO grove_app;\n"
    for name in APPEND_ONLY
)
UNDO = "".join(f"DROP TRIGGER {name}_stays ON marketplace_{name};\n" for name in APPEND_ONLY) + """
DROP TRIGGER award_has_counsel ON marketplace_award;
DROP TRIGGER counsel_signs ON marketplace_counselsignoff;
DROP TRIGGER high_risk_lease_has_its_pack ON marketplace_lease;
DROP TRIGGER pack_is_whole ON marketplace_leasepack;
DROP FUNCTION marketplace_award_has_counsel, marketplace_counsel_signs, marketplace_high_risk_lease_has_its_pack,
    marketplace_pack_is_whole, marketplace_needs_pack;
"""


class Migration(migrations.Migration):

    dependencies = [
        ('marketplace', '0045_what_the_foundation_owns'),
    ]

    operations = [
        migrations.CreateModel(
            name='CounselRule',
            fields=[
                ('id', models.UUIDField(primary_key=True, serialize=False)),
                ('from_at', models.DateTimeField()),
                ('ended_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'ordering': ['party', 'from_at'],
            },
        ),
        migrations.CreateModel(
            name='CounselSignOff',
            fields=[
                ('demand', models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, primary_key=True, related_name='counsel', serialize=False, to='marketplace.demand')),
                ('is_approved', models.BooleanField()),
                ('reason', models.CharField(max_length=300)),
                ('opinion_sha256', models.BinaryField(max_length=32, null=True)),
                ('at', models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name='LeasePack',
            fields=[
                ('id', models.UUIDField(primary_key=True, serialize=False)),
                ('version', models.PositiveSmallIntegerField()),
                ('stage', models.CharField(choices=[('start', 'start'), ('end', 'end')], max_length=5)),
                ('body', models.BinaryField(help_text='canonical JSON')),
                ('sha256', models.BinaryField(max_length=32)),
                ('made_at', models.DateTimeField()),
            ],
            options={
                'ordering': ['lease', 'version'],
            },
        ),
        migrations.RemoveConstraint(
            model_name='seat',
            name='seat_role_is_known',
        ),
        migrations.AlterField(
            model_name='seat',
            name='role',
            field=models.CharField(choices=[('owner', 'owner'), ('purchaser', 'purchaser'), ('approver', 'approver'), ('finance', 'finance'), ('compliance', 'compliance'), ('counsel', 'counsel'), ('operator', 'operator'), ('market_maker', 'market maker'), ('operations', 'operations'), ('judge', 'judge'), ('auditor', 'auditor'), ('admin', 'admin')], max_length=20),
        ),
        migrations.AddConstraint(
            model_name='seat',
            constraint=models.CheckConstraint(condition=models.Q(('role__in', ('owner', 'purchaser', 'approver', 'finance', 'compliance', 'counsel', 'operator', 'market_maker', 'operations', 'judge', 'auditor', 'admin'))), name='seat_role_is_known'),
        ),
        migrations.AddField(
            model_name='counselrule',
            name='data_class',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='marketplace.dataclass'),
        ),
        migrations.AddField(
            model_name='counselrule',
            name='party',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='counsel_rules', to='marketplace.party'),
        ),
        migrations.AddField(
            model_name='counselrule',
            name='seat',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='marketplace.seat'),
        ),
        migrations.AddField(
            model_name='counselsignoff',
            name='seat',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='marketplace.seat'),
        ),
        migrations.AddField(
            model_name='leasepack',
            name='lease',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='packs', to='marketplace.lease'),
        ),
        migrations.AddConstraint(
            model_name='counselrule',
            constraint=models.UniqueConstraint(condition=models.Q(('ended_at', None)), fields=('party', 'data_class'), name='one_counsel_rule_in_force_per_data_class', nulls_distinct=False),
        ),
        migrations.AddConstraint(
            model_name='counselrule',
            constraint=models.CheckConstraint(condition=models.Q(('ended_at', None), ('ended_at__gte', models.F('from_at')), _connector='OR'), name='counsel_rule_ends_after_it_begins'),
        ),
        migrations.AddConstraint(
            model_name='counselsignoff',
            constraint=models.CheckConstraint(condition=models.Q(('reason', ''), _negated=True), name='counsel_says_why'),
        ),
        migrations.AddConstraint(
            model_name='leasepack',
            constraint=models.UniqueConstraint(fields=('lease', 'version'), name='pack_is_numbered_once'),
        ),
        migrations.AddConstraint(
            model_name='leasepack',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('stage', 'start'), ('version', 1)), models.Q(('stage', 'end'), ('version__gte', 2)), _connector='OR'), name='pack_of_the_start_is_the_first'),
        ),
        migrations.RunSQL(FUNCTIONS + TRIGGERS, UNDO),
    ]
