"""Reports with a deposit, decided by two people; quotes of others with source and date."""

import django.db.models.deletion
from django.db import migrations, models

APPEND_ONLY = ("reportrule", "comparatorquote")

FUNCTIONS = """
CREATE FUNCTION marketplace_report_follows_its_path() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    rule marketplace_reportrule%ROWTYPE;
    broken text;
BEGIN
    IF TG_OP = 'INSERT' THEN
        SELECT * INTO rule FROM marketplace_reportrule ORDER BY id DESC LIMIT 1;
        broken := CASE
            WHEN NEW.state <> 'open' THEN 'report_starts_open'
            WHEN (NEW.deposit_micros, NEW.reward_micros) IS DISTINCT FROM (rule.deposit_micros, rule.reward_micros)
                THEN 'report_costs_and_earns_what_the_rule_says'
            WHEN NOT EXISTS (SELECT 1 FROM ledger_transfer t WHERE t.ledger = 1 AND t.id = NEW.hold_id
                             AND t.kind = 'pending' AND t.amount = NEW.deposit_micros) THEN 'report_holds_its_deposit'
        END;
    ELSE
        broken := CASE
            WHEN (OLD.id, OLD.reporter_id, OLD.about_id, OLD.kind, OLD.text, OLD.evidence, OLD.deposit_micros,
                  OLD.reward_micros, OLD.hold_id, OLD.made_at) IS DISTINCT FROM
                 (NEW.id, NEW.reporter_id, NEW.about_id, NEW.kind, NEW.text, NEW.evidence, NEW.deposit_micros,
                  NEW.reward_micros, NEW.hold_id, NEW.made_at) THEN 'report_stays_as_it_was_made'
            WHEN NOT (OLD.state = NEW.state OR (OLD.state, NEW.state) IN (
                ('open', 'triaged'), ('open', 'rejected'), ('triaged', 'upheld'), ('triaged', 'rejected')))
                THEN 'report_skips_no_state'
            WHEN OLD.state IN ('upheld', 'rejected') AND (OLD.decided_by, OLD.decided_at, OLD.reason, OLD.outcome)
                IS DISTINCT FROM (NEW.decided_by, NEW.decided_at, NEW.reason, NEW.outcome) THEN 'decided_report_stays'
            WHEN OLD.state <> 'upheld' AND NEW.state = 'upheld' AND NOT EXISTS (
                SELECT 1 FROM ledger_transfer t WHERE t.ledger = 1 AND t.pending_id = NEW.hold_id
                  AND t.kind IN ('void', 'expire')) THEN 'upheld_report_gives_its_deposit_back'
        END;
    END IF;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION '%: %', broken, NEW.id USING ERRCODE = 'check_violation', CONSTRAINT = broken;
    END IF;
    RETURN NEW;
END $$;
"""
RULE = """
INSERT INTO marketplace_reportrule (deposit_micros, reward_micros, person, reason, at)
    VALUES (50000000, 100000000, 'foundation', 'the first rule: fifty dollars held, a hundred for what is upheld', now());
"""
TRIGGERS = """
CREATE TRIGGER report_follows_its_path BEFORE INSERT OR UPDATE ON marketplace_report
    FOR EACH ROW EXECUTE FUNCTION marketplace_report_follows_its_path();
CREATE TRIGGER report_stays BEFORE DELETE OR TRUNCATE ON marketplace_report
    FOR EACH STATEMENT EXECUTE FUNCTION marketplace_deny_change();
GRANT SELECT, INSERT ON marketplace_report TO grove_app;
GRANT UPDATE (state, triaged_by, triaged_at, decided_by, decided_at, reason, outcome, intent_key, attempt, settled_at)
    ON marketplace_report TO grove_app;
""" + RULE + "".join(
    f"CREATE TRIGGER {name}_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON marketplace_{name} "
    "FOR EACH STATEMENT EXECUTE FUNCTION marketplace_deny_change();\n"
    f"GRANT SELECT, INSERT ON marketplace_{name} TO grove_app;\n"
    for name in APPEND_ONLY
) + "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO grove_app;\n"
UNDO = "".join(f"DROP TRIGGER {name}_stays ON marketplace_{name};\n" for name in APPEND_ONLY) + """
REVOKE ALL ON marketplace_report FROM grove_app;
DROP TRIGGER report_stays ON marketplace_report;
DROP TRIGGER report_follows_its_path ON marketplace_report;
DROP FUNCTION marketplace_report_follows_its_path;
"""


class Migration(migrations.Migration):

    dependencies = [
        ('marketplace', '0047_unused_quota_lapses'),
    ]

    operations = [
        migrations.CreateModel(
            name='ReportRule',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('deposit_micros', models.BigIntegerField()),
                ('reward_micros', models.BigIntegerField()),
                ('person', models.CharField(max_length=120)),
                ('reason', models.CharField(max_length=300)),
                ('at', models.DateTimeField()),
            ],
            options={
                'ordering': ['-id'],
                'constraints': [models.CheckConstraint(condition=models.Q(('deposit_micros__gte', 1), ('reward_micros__gte', 0)), name='report_rule_asks_a_deposit'), models.CheckConstraint(condition=models.Q(models.Q(('person', ''), _negated=True), models.Q(('reason', ''), _negated=True)), name='report_rule_says_who_and_why')],
            },
        ),
        migrations.CreateModel(
            name='ComparatorQuote',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('provider', models.CharField(max_length=80)),
                ('place', models.CharField(help_text='region or edge zone, as its provider names it', max_length=80)),
                ('country', models.CharField(max_length=2)),
                ('is_edge', models.BooleanField(help_text='an edge zone of a cloud')),
                ('price_micros', models.BigIntegerField()),
                ('source', models.CharField(help_text='where it is published', max_length=300)),
                ('quoted_on', models.DateField(help_text='the day on which the source said so')),
                ('entered_on', models.DateField()),
                ('person', models.CharField(max_length=120)),
                ('resource_class', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='comparator_quotes', to='marketplace.resourceclass')),
            ],
            options={
                'ordering': ['resource_class', 'price_micros', 'id'],
                'constraints': [models.CheckConstraint(condition=models.Q(models.Q(('source', ''), _negated=True), models.Q(('provider', ''), _negated=True), models.Q(('person', ''), _negated=True)), name='comparator_quote_has_its_source'), models.CheckConstraint(condition=models.Q(('quoted_on__lte', models.F('entered_on'))), name='comparator_quote_lies_behind_us'), models.CheckConstraint(condition=models.Q(('price_micros__gte', 1), ('country__regex', '^[A-Z]{2}$')), name='comparator_quote_is_a_price'), models.UniqueConstraint(fields=('resource_class', 'provider', 'place', 'quoted_on', 'price_micros'), name='comparator_quote_is_entered_once')],
            },
        ),
        migrations.CreateModel(
            name='Report',
            fields=[
                ('id', models.UUIDField(primary_key=True, serialize=False)),
                ('kind', models.CharField(choices=[('fake_hardware', 'fake hardware'), ('residency', 'residency'), ('collusion', 'collusion'), ('self_dealing', 'self dealing'), ('data_misuse', 'data misuse'), ('other', 'other')], max_length=16)),
                ('text', models.CharField(max_length=2000)),
                ('file_name', models.CharField(blank=True, default='', max_length=120)),
                ('evidence', models.BinaryField(blank=True, default=b'')),
                ('evidence_sha256', models.BinaryField(max_length=32, null=True)),
                ('deposit_micros', models.BigIntegerField()),
                ('reward_micros', models.BigIntegerField(help_text='fixed when the report was made; paid when it is upheld')),
                ('hold_id', models.UUIDField(unique=True)),
                ('state', models.CharField(choices=[('open', 'open'), ('triaged', 'triaged'), ('upheld', 'upheld'), ('rejected', 'rejected')], default='open', max_length=8)),
                ('made_at', models.DateTimeField()),
                ('triaged_by', models.CharField(blank=True, default='', max_length=120)),
                ('triaged_at', models.DateTimeField(blank=True, null=True)),
                ('decided_by', models.CharField(blank=True, default='', max_length=120)),
                ('decided_at', models.DateTimeField(blank=True, null=True)),
                ('reason', models.CharField(blank=True, default='', help_text='for the two parties and the trail', max_length=300)),
                ('outcome', models.CharField(blank=True, default='', help_text='for everybody; it names nobody', max_length=300)),
                ('intent_key', models.CharField(blank=True, default='', help_text='of what moves its money on chain', max_length=120)),
                ('attempt', models.PositiveSmallIntegerField(default=1)),
                ('settled_at', models.DateTimeField(blank=True, help_text='when the reward or the lost deposit had moved', null=True)),
                ('about', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='reports_about', to='marketplace.party')),
                ('reporter', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='reports_made', to='marketplace.party')),
            ],
            options={
                'ordering': ['made_at', 'id'],
                'constraints': [models.CheckConstraint(condition=models.Q(('kind__in', ('fake_hardware', 'residency', 'collusion', 'self_dealing', 'data_misuse', 'other'))), name='report_kind_is_known'), models.CheckConstraint(condition=models.Q(('reporter', models.F('about')), _negated=True), name='report_is_about_somebody_else'), models.CheckConstraint(condition=models.Q(('deposit_micros__gte', 1), ('reward_micros__gte', 0)), name='report_has_its_deposit'), models.CheckConstraint(condition=models.Q(models.Q(('decided_by', ''), ('state', 'open'), ('triaged_by', '')), models.Q(('decided_by', ''), ('state', 'triaged'), models.Q(('triaged_by', ''), _negated=True)), models.Q(('state__in', ('upheld', 'rejected')), models.Q(('decided_by', ''), _negated=True), models.Q(('decided_at', None), _negated=True), models.Q(('reason', ''), _negated=True), models.Q(('outcome', ''), _negated=True)), _connector='OR'), name='report_state_says_who_decided'), models.CheckConstraint(condition=models.Q(models.Q(('state', 'upheld'), _negated=True), models.Q(models.Q(('triaged_by', ''), _negated=True), models.Q(('triaged_by', models.F('decided_by')), _negated=True)), _connector='OR'), name='report_is_upheld_by_two_people')],
            },
        ),
        migrations.RunSQL(FUNCTIONS + TRIGGERS, UNDO),
    ]
