"""Grant vouchers: of two people, within their programme, redeemed once and in time, and never paid to an own provider."""

import django.db.models.deletion
from django.db import migrations, models

FUNCTIONS = """
CREATE FUNCTION marketplace_programme_path() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.approved_at IS NOT NULL OR (OLD.code, OLD.budget_micros, OLD.voucher_max_micros, OLD.party_max_micros,
       OLD.proposed_by) IS DISTINCT FROM (NEW.code, NEW.budget_micros, NEW.voucher_max_micros, NEW.party_max_micros,
       NEW.proposed_by) THEN
        RAISE EXCEPTION 'programme_stays_as_it_was_proposed: %', OLD.code
            USING ERRCODE = 'check_violation', CONSTRAINT = 'programme_stays_as_it_was_proposed';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_voucher_path() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    g marketplace_grantprogramme%ROWTYPE;
    is_new boolean := TG_OP = 'INSERT';
    broken text;
BEGIN
    SELECT * INTO g FROM marketplace_grantprogramme WHERE id = NEW.programme_id FOR UPDATE;
    broken := CASE
        WHEN is_new AND NEW.state <> 'PROPOSED' THEN 'voucher_starts_proposed'
        WHEN is_new AND (g.approved_at IS NULL OR NEW.amount_micros > g.voucher_max_micros
            OR NEW.amount_micros + (SELECT coalesce(sum(v.amount_micros - v.returned_micros), 0)
                FROM marketplace_voucher v WHERE v.programme_id = g.id AND v.state <> 'WITHDRAWN') > g.budget_micros)
            THEN 'voucher_stays_within_its_programme'
        WHEN is_new THEN NULL
        WHEN NEW.state <> OLD.state AND NOT (OLD.state || ' ' || NEW.state = ANY (ARRAY[
            'PROPOSED ISSUED', 'PROPOSED WITHDRAWN', 'ISSUED REDEEMED', 'ISSUED WITHDRAWN', 'REDEEMED CLOSING',
            'CLOSING CLOSED'])) THEN 'voucher_skips_no_state'
        WHEN (OLD.programme_id, OLD.for_party_id, OLD.amount_micros, OLD.valid_until, OLD.proposed_by)
            IS DISTINCT FROM (NEW.programme_id, NEW.for_party_id, NEW.amount_micros, NEW.valid_until, NEW.proposed_by)
            OR (OLD.state <> 'PROPOSED' AND (OLD.code_sha256, OLD.approved_by) IS DISTINCT FROM
                (NEW.code_sha256, NEW.approved_by))
            OR (OLD.party_id IS NOT NULL AND (OLD.party_id, OLD.line_id) IS DISTINCT FROM (NEW.party_id, NEW.line_id))
            THEN 'voucher_stays_as_it_was_issued'
        WHEN OLD.state = 'ISSUED' AND NEW.state = 'REDEEMED' AND (NEW.redeemed_at >= NEW.valid_until
            OR (NEW.for_party_id IS NOT NULL AND NEW.for_party_id <> NEW.party_id)
            OR NOT EXISTS (SELECT 1 FROM marketplace_fundingline l WHERE l.id = NEW.line_id
                AND l.party_id = NEW.party_id AND l.kind = 'grant' AND l.limit_micros = NEW.amount_micros
                AND l.valid_until = NEW.valid_until)) THEN 'voucher_is_redeemed_in_time_by_whom_it_is_for'
        WHEN OLD.state = 'ISSUED' AND NEW.state = 'REDEEMED' AND NEW.amount_micros + (
            SELECT coalesce(sum(v.amount_micros), 0) FROM marketplace_voucher v
            WHERE v.programme_id = g.id AND v.party_id = NEW.party_id AND v.id <> NEW.id) > g.party_max_micros
            THEN 'voucher_leaves_its_buyer_within_its_most'
    END;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION '%: voucher %', broken, NEW.id USING ERRCODE = 'check_violation', CONSTRAINT = broken;
    END IF;
    RETURN NEW;
END $$;
"""
TRIGGERS = """
CREATE TRIGGER programme_path BEFORE UPDATE ON marketplace_grantprogramme
    FOR EACH ROW EXECUTE FUNCTION marketplace_programme_path();
CREATE TRIGGER voucher_path BEFORE INSERT OR UPDATE ON marketplace_voucher
    FOR EACH ROW EXECUTE FUNCTION marketplace_voucher_path();
GRANT SELECT, INSERT, UPDATE ON marketplace_grantprogramme, marketplace_voucher TO grove_app;
"""
UNDO = """
REVOKE ALL ON marketplace_grantprogramme, marketplace_voucher FROM grove_app;
DROP TRIGGER voucher_path ON marketplace_voucher;
DROP TRIGGER programme_path ON marketplace_grantprogramme;
DROP FUNCTION marketplace_voucher_path, marketplace_programme_path;
"""


class Migration(migrations.Migration):

    dependencies = [
        ('marketplace', '0063_egress_costs'),
    ]

    operations = [
        migrations.CreateModel(
            name='GrantProgramme',
            fields=[
                ('id', models.UUIDField(primary_key=True, serialize=False)),
                ('code', models.CharField(max_length=40, unique=True)),
                ('name', models.CharField(max_length=120)),
                ('funder', models.CharField(max_length=120)),
                ('budget_micros', models.BigIntegerField()),
                ('voucher_max_micros', models.BigIntegerField(help_text='the most of one voucher')),
                ('party_max_micros', models.BigIntegerField(help_text='the most that one buyer may redeem')),
                ('proposed_by', models.CharField(max_length=120)),
                ('proposed_at', models.DateTimeField()),
                ('approved_by', models.CharField(blank=True, default='', max_length=120)),
                ('approved_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'ordering': ['code'],
                'constraints': [models.CheckConstraint(condition=models.Q(('voucher_max_micros__gte', 1), ('voucher_max_micros__lte', models.F('party_max_micros')), ('party_max_micros__lte', models.F('budget_micros'))), name='programme_limits_nest'), models.CheckConstraint(condition=models.Q(models.Q(('approved_at', None), ('approved_by', '')), models.Q(models.Q(('approved_at', None), _negated=True), models.Q(('approved_by', ''), _negated=True), models.Q(('approved_by', models.F('proposed_by')), _negated=True)), _connector='OR'), name='programme_is_approved_by_another')],
            },
        ),
        migrations.CreateModel(
            name='Voucher',
            fields=[
                ('id', models.UUIDField(primary_key=True, serialize=False)),
                ('amount_micros', models.BigIntegerField()),
                ('valid_until', models.DateTimeField(help_text='what is not spent by then goes back to the programme')),
                ('state', models.CharField(choices=[('PROPOSED', 'PROPOSED'), ('ISSUED', 'ISSUED'), ('REDEEMED', 'REDEEMED'), ('CLOSING', 'CLOSING'), ('CLOSED', 'CLOSED'), ('WITHDRAWN', 'WITHDRAWN')], default='PROPOSED', max_length=10)),
                ('proposed_by', models.CharField(max_length=120)),
                ('proposed_at', models.DateTimeField()),
                ('approved_by', models.CharField(blank=True, default='', max_length=120)),
                ('approved_at', models.DateTimeField(blank=True, null=True)),
                ('code_sha256', models.BinaryField(max_length=32, null=True, unique=True)),
                ('redeemed_at', models.DateTimeField(blank=True, null=True)),
                ('returned_micros', models.BigIntegerField(default=0, help_text='what was not spent, back at the programme')),
                ('attempt', models.PositiveSmallIntegerField(default=0, help_text='of taking it out of escrow')),
                ('closed_at', models.DateTimeField(blank=True, null=True)),
                ('for_party', models.ForeignKey(blank=True, help_text='who alone may redeem it', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='marketplace.party')),
                ('line', models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='voucher', to='marketplace.fundingline')),
                ('party', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='vouchers', to='marketplace.party')),
                ('programme', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='vouchers', to='marketplace.grantprogramme')),
            ],
            options={
                'ordering': ['-proposed_at', '-id'],
                'constraints': [models.CheckConstraint(condition=models.Q(('state__in', ('PROPOSED', 'ISSUED', 'REDEEMED', 'CLOSING', 'CLOSED', 'WITHDRAWN'))), name='voucher_state_is_known'), models.CheckConstraint(condition=models.Q(('amount_micros__gte', 1), ('returned_micros__gte', 0), ('returned_micros__lte', models.F('amount_micros'))), name='voucher_has_an_amount'), models.CheckConstraint(condition=models.Q(('state__in', ('PROPOSED', 'WITHDRAWN')), models.Q(models.Q(('approved_by', ''), _negated=True), models.Q(('approved_by', models.F('proposed_by')), _negated=True), models.Q(('code_sha256', None), _negated=True), models.Q(('approved_at', None), _negated=True)), _connector='OR'), name='voucher_is_issued_by_another'), models.CheckConstraint(condition=models.Q(models.Q(models.Q(('state__in', ('REDEEMED', 'CLOSING', 'CLOSED')), _negated=True), ('line', None), ('party', None), ('redeemed_at', None)), models.Q(('state__in', ('REDEEMED', 'CLOSING', 'CLOSED')), models.Q(('party', None), _negated=True), models.Q(('line', None), _negated=True), models.Q(('redeemed_at', None), _negated=True)), _connector='OR'), name='redeemed_voucher_has_its_buyer_and_line'), models.CheckConstraint(condition=models.Q(models.Q(('closed_at__isnull', False), ('state__in', ('CLOSED', 'WITHDRAWN'))), models.Q(models.Q(('state__in', ('CLOSED', 'WITHDRAWN')), _negated=True), ('closed_at', None)), _connector='OR'), name='closed_voucher_says_when')],
            },
        ),
        migrations.RunSQL(FUNCTIONS + TRIGGERS, UNDO),
    ]
