"""First leases are bound, a university's word may stand in for cash, and a clearing remembers who sold what."""

import django.db.models.deletion
from django.db import migrations, models

APPEND_ONLY = ("entryrule", "undertaking", "undertakingreview", "undertakingend")

FUNCTIONS = """
CREATE FUNCTION marketplace_first_lease() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.state <> 'refused' AND NOT EXISTS (
        SELECT 1 FROM marketplace_lease l JOIN marketplace_window w ON w.id = l.window_id
        WHERE l.node_class_id = NEW.node_class_id AND l.state <> 'refused' AND l.window_id <> NEW.window_id
          AND w.state IN ('DELIVERING', 'SETTLED'))
       AND NEW.fee_micros + (
        SELECT coalesce(sum(l.fee_micros), 0) FROM marketplace_lease l WHERE l.node_class_id = NEW.node_class_id
          AND l.window_id = NEW.window_id AND l.state <> 'refused' AND l.id <> NEW.id)
       > (SELECT r.first_lease_cap_micros FROM marketplace_entryrule r JOIN marketplace_nodeclass n ON n.tier = r.tier
          WHERE n.id = NEW.node_class_id ORDER BY r.id DESC LIMIT 1) THEN
        RAISE EXCEPTION 'first_lease_stays_below_its_cap: %', NEW.node_class_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'first_lease_stays_below_its_cap';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_curve_falls() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT 1 FROM marketplace_demandleg g JOIN marketplace_demand o ON o.id = g.demand_id
            JOIN marketplace_demand d ON d.id = NEW.demand_id
        WHERE g."order" = NEW."order" AND g.no < NEW.no AND g.role = 'step'
          AND o.price_limit_micros <= d.price_limit_micros) THEN
        RAISE EXCEPTION 'a_curve_falls_from_step_to_step: step %', NEW.no
            USING ERRCODE = 'check_violation', CONSTRAINT = 'a_curve_falls_from_step_to_step';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_undertaking_is_given() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    broken text;
BEGIN
    SELECT CASE
        WHEN p.kind <> 'university' OR s.party_id <> n.party_id THEN 'undertaking_is_a_universitys_own'
        WHEN NEW.sha256 <> sha256(NEW.body) THEN 'undertaking_hash_is_of_its_body'
        WHEN NEW.amount_micros > (SELECT r.undertaking_max_micros FROM marketplace_entryrule r
            WHERE r.tier = n.tier ORDER BY r.id DESC LIMIT 1) THEN 'undertaking_stays_within_its_rule'
    END INTO broken
    FROM marketplace_nodeclass n JOIN marketplace_party p ON p.id = n.party_id
        JOIN marketplace_seat s ON s.id = NEW.seat_id WHERE n.id = NEW.node_class_id;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION '%: %', broken, NEW.file_name USING ERRCODE = 'check_violation', CONSTRAINT = broken;
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_undertaking_is_reviewed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    broken text;
BEGIN
    SELECT CASE
        WHEN who.user_id = given.user_id OR who.party_id = given.party_id
            THEN 'undertaking_is_reviewed_by_a_second_person'
        WHEN p.kind <> 'foundation' OR who.role NOT IN ('operations', 'judge', 'admin')
            THEN 'undertaking_is_reviewed_by_who_may'
    END INTO broken
    FROM marketplace_undertaking u JOIN marketplace_seat given ON given.id = u.seat_id
        JOIN marketplace_seat who ON who.id = NEW.seat_id JOIN marketplace_party p ON p.id = who.party_id
    WHERE u.id = NEW.undertaking_id;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION '%: %', broken, NEW.undertaking_id USING ERRCODE = 'check_violation', CONSTRAINT = broken;
    END IF;
    RETURN NEW;
END $$;
"""
# The cap is where the stake curve ends (`pricing.entry`); what a word carries of it rises with what the tier asks for.
RULE = """
INSERT INTO marketplace_entryrule (tier, first_lease_cap_micros, undertaking_max_micros, person, reason, at)
    SELECT tier, 79999999992, most, 'foundation', 'the first rule: the end of the stake curve', now()
    FROM (VALUES (0, 5000000000), (1, 20000000000), (2, 40000000000), (3, 79999999992)) AS first(tier, most);
"""
TRIGGERS = RULE + """
CREATE TRIGGER first_lease_is_bound BEFORE INSERT ON marketplace_lease
    FOR EACH ROW EXECUTE FUNCTION marketplace_first_lease();
CREATE TRIGGER curve_falls BEFORE INSERT ON marketplace_demandleg
    FOR EACH ROW WHEN (NEW.role = 'step') EXECUTE FUNCTION marketplace_curve_falls();
CREATE TRIGGER undertaking_is_given BEFORE INSERT ON marketplace_undertaking
    FOR EACH ROW EXECUTE FUNCTION marketplace_undertaking_is_given();
CREATE TRIGGER undertaking_is_reviewed BEFORE INSERT ON marketplace_undertakingreview
    FOR EACH ROW EXECUTE FUNCTION marketplace_undertaking_is_reviewed();
""" + "".join(
    f"CREATE TRIGGER {name}_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON marketplace_{name} "
    "FOR EACH STATEMENT EXECUTE FUNCTION marketplace_deny_change();\n"
    f"GRANT SELECT, INSERT ON marketplace_{name} TO grove_app;\n"
    for name in APPEND_ONLY
) + "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO grove_app;\n"
UNDO = "".join(
    f"REVOKE ALL ON marketplace_{name} FROM grove_app;\nDROP TRIGGER {name}_stays ON marketplace_{name};\n"
    for name in APPEND_ONLY
) + """
DROP TRIGGER undertaking_is_reviewed ON marketplace_undertakingreview;
DROP TRIGGER undertaking_is_given ON marketplace_undertaking;
DROP TRIGGER curve_falls ON marketplace_demandleg;
DROP TRIGGER first_lease_is_bound ON marketplace_lease;
DROP FUNCTION marketplace_curve_falls, marketplace_undertaking_is_reviewed, marketplace_undertaking_is_given, marketplace_first_lease;
"""


class Migration(migrations.Migration):

    dependencies = [
        ('marketplace', '0065_calendar_weeks'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='demandleg',
            name='leg_role_is_known',
        ),
        migrations.AlterField(
            model_name='demandleg',
            name='role',
            field=models.CharField(choices=[('spread', 'spread'), ('sensitive', 'sensitive'), ('insensitive', 'insensitive'), ('step', 'step')], max_length=12),
        ),
        migrations.AddConstraint(
            model_name='demandleg',
            constraint=models.CheckConstraint(condition=models.Q(('role__in', ('spread', 'sensitive', 'insensitive', 'step'))), name='leg_role_is_known'),
        ),
        migrations.CreateModel(
            name='Undertaking',
            fields=[
                ('id', models.UUIDField(primary_key=True, serialize=False)),
                ('amount_micros', models.BigIntegerField()),
                ('signatory', models.CharField(help_text='who signed it, in which office', max_length=120)),
                ('file_name', models.CharField(max_length=120)),
                ('sha256', models.BinaryField(max_length=32)),
                ('body', models.BinaryField()),
                ('valid_from', models.DateTimeField()),
                ('valid_until', models.DateTimeField()),
                ('submitted_at', models.DateTimeField()),
                ('node_class', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='undertakings', to='marketplace.nodeclass')),
                ('seat', models.ForeignKey(help_text='who handed it in', on_delete=django.db.models.deletion.PROTECT, related_name='+', to='marketplace.seat')),
            ],
            options={
                'ordering': ['-submitted_at', '-id'],
            },
        ),
        migrations.AddField(
            model_name='clearing',
            name='sellers',
            field=models.JSONField(default=list, help_text='per product: unit-hours by owner; never published'),
        ),
        migrations.AlterField(
            model_name='clearing',
            name='use',
            field=models.JSONField(default=list, help_text='per resource class, and in it per product: sold, offered and proven unit-hours'),
        ),
        migrations.CreateModel(
            name='EntryRule',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('tier', models.PositiveSmallIntegerField()),
                ('first_lease_cap_micros', models.BigIntegerField()),
                ('undertaking_max_micros', models.BigIntegerField()),
                ('person', models.CharField(max_length=120)),
                ('reason', models.CharField(max_length=300)),
                ('at', models.DateTimeField()),
            ],
            options={
                'ordering': ['tier', '-id'],
                'constraints': [models.CheckConstraint(condition=models.Q(('tier__lte', 3), ('first_lease_cap_micros__gte', 1), ('undertaking_max_micros__gte', 0), ('undertaking_max_micros__lte', models.F('first_lease_cap_micros'))), name='an_undertaking_is_at_most_the_first_lease'), models.CheckConstraint(condition=models.Q(models.Q(('person', ''), _negated=True), models.Q(('reason', ''), _negated=True)), name='entry_rule_says_who_and_why')],
            },
        ),
        migrations.CreateModel(
            name='UndertakingEnd',
            fields=[
                ('undertaking', models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, primary_key=True, related_name='end', serialize=False, to='marketplace.undertaking')),
                ('reason', models.CharField(max_length=300)),
                ('at', models.DateTimeField()),
                ('seat', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='marketplace.seat')),
            ],
        ),
        migrations.CreateModel(
            name='UndertakingReview',
            fields=[
                ('undertaking', models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, primary_key=True, related_name='review', serialize=False, to='marketplace.undertaking')),
                ('is_accepted', models.BooleanField()),
                ('reason', models.CharField(max_length=300)),
                ('at', models.DateTimeField()),
                ('seat', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='marketplace.seat')),
            ],
        ),
        migrations.AddConstraint(
            model_name='undertaking',
            constraint=models.CheckConstraint(condition=models.Q(('amount_micros__gte', 1), ('valid_until__gt', models.F('valid_from'))), name='undertaking_has_an_amount_and_time'),
        ),
        migrations.AddConstraint(
            model_name='undertakingend',
            constraint=models.CheckConstraint(condition=models.Q(('reason', ''), _negated=True), name='undertaking_end_has_a_reason'),
        ),
        migrations.AddConstraint(
            model_name='undertakingreview',
            constraint=models.CheckConstraint(condition=models.Q(('reason', ''), _negated=True), name='undertaking_review_has_a_reason'),
        ),
        migrations.RunSQL(FUNCTIONS + TRIGGERS, UNDO),
    ]
