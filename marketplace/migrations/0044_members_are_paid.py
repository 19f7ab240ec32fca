"""The market pays a consortium's members: each part of a payment of escrow, sent on chain, instead of a note beside it."""

import django.db.models.deletion
from django.db import migrations, models

# What was noted of a payout before; no money ever followed from it.
NOTE = """
CREATE FUNCTION marketplace_payout_shares_sum() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT sum(amount_micros) FROM marketplace_payoutshare WHERE payout_id = NEW.payout_id) <>
       (SELECT amount_micros FROM marketplace_payout WHERE id = NEW.payout_id) THEN
        RAISE EXCEPTION 'payout_shares_make_the_payout: %', NEW.payout_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'payout_shares_make_the_payout';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER payout_shares_sum AFTER INSERT ON marketplace_payoutshare DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION marketplace_payout_shares_sum();
CREATE TRIGGER payoutshare_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON marketplace_payoutshare
    FOR EACH STATEMENT EXECUTE FUNCTION marketplace_deny_change();
GRANT SELECT, INSERT ON marketplace_payoutshare TO grove_app;
"""
NO_NOTE = """
DROP TRIGGER payoutshare_stays ON marketplace_payoutshare;
DROP TRIGGER payout_shares_sum ON marketplace_payoutshare;
DROP FUNCTION marketplace_payout_shares_sum;
"""

FUNCTIONS = """
-- The parts of one payment are all the members of one split, each its share to less than a micro, and make it exactly.
CREATE FUNCTION marketplace_member_shares_sum() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    broken text;
BEGIN
    SELECT CASE
        WHEN sum(s.amount_micros) <> NEW.paid_micros THEN 'member_shares_make_the_payment'
        WHEN count(DISTINCT (s.split_id, s.lead_id, s.node_class_id, s.paid_micros)) > 1
            THEN 'member_shares_are_of_one_payment'
        WHEN count(*) <> (SELECT count(*) FROM marketplace_splitshare WHERE split_id = NEW.split_id)
            OR bool_or(w.share_ppm IS NULL OR abs(s.amount_micros::numeric * 1000000 - s.paid_micros::numeric * w.share_ppm)
                       >= 1000000) THEN 'member_shares_follow_the_split'
    END INTO broken
    FROM marketplace_membershare s
        LEFT JOIN marketplace_splitshare w ON w.split_id = s.split_id AND w.member_id = s.member_id
    WHERE s.reference = NEW.reference;
    IF broken IS NULL AND NEW.lead_id <> (SELECT party_id FROM marketplace_revenuesplit WHERE id = NEW.split_id) THEN
        broken := 'member_shares_are_of_one_payment';
    END IF;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION '%: %', broken, NEW.id USING ERRCODE = 'check_violation', CONSTRAINT = broken;
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION marketplace_member_share_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.final_at IS NOT NULL OR NEW.attempt < OLD.attempt
       OR (NEW.id, NEW.reference, NEW.lead_id, NEW.node_class_id, NEW.split_id, NEW.member_id, NEW.paid_micros,
           NEW.amount_micros, NEW.made_at) IS DISTINCT FROM
          (OLD.id, OLD.reference, OLD.lead_id, OLD.node_class_id, OLD.split_id, OLD.member_id, OLD.paid_micros,
           OLD.amount_micros, OLD.made_at) THEN
        RAISE EXCEPTION 'member_share_stays_as_it_was_shared: %', OLD.id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'member_share_stays_as_it_was_shared';
    END IF;
    RETURN NEW;
END $$;
"""
TRIGGERS = """
CREATE CONSTRAINT TRIGGER member_shares_sum AFTER INSERT ON marketplace_membershare DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION marketplace_member_shares_sum();
CREATE TRIGGER member_share_stays BEFORE UPDATE ON marketplace_membershare
    FOR EACH ROW EXECUTE FUNCTION marketplace_member_share_stays();
CREATE TRIGGER membershare_stays BEFORE DELETE OR TRUNCATE ON marketplace_membershare
    FOR EACH STATEMENT EXECUTE FUNCTION marketplace_deny_change();
GRANT SELECT, INSERT, UPDATE (attempt, intent_key, final_at) ON marketplace_membershare TO grove_app;
"""
NO_WALLS = """
REVOKE ALL ON marketplace_membershare FROM grove_app;
DROP TRIGGER membershare_stays ON marketplace_membershare;
DROP TRIGGER member_share_stays ON marketplace_membershare;
DROP TRIGGER member_shares_sum ON marketplace_membershare;
DROP FUNCTION marketplace_member_share_stays, marketplace_member_shares_sum;
"""


class Migration(migrations.Migration):

    dependencies = [
        ('marketplace', '0043_walls_of_proof'),
    ]

    operations = [
        migrations.RunSQL(NO_NOTE, NOTE),
        migrations.DeleteModel(
            name='PayoutShare',
        ),
        migrations.CreateModel(
            name='MemberShare',
            fields=[
                ('id', models.UUIDField(primary_key=True, serialize=False)),
                ('reference', models.BinaryField(help_text='the chain event by which escrow paid', max_length=36)),
                ('paid_micros', models.BigIntegerField(help_text='what escrow paid, of which this is a part')),
                ('amount_micros', models.BigIntegerField()),
                ('attempt', models.PositiveSmallIntegerField(default=1)),
                ('intent_key', models.CharField(blank=True, default='', help_text='empty: nothing to send', max_length=160)),
                ('made_at', models.DateTimeField()),
                ('final_at', models.DateTimeField(blank=True, null=True)),
                ('lead', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='shares_paid_on', to='marketplace.party')),
                ('member', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='member_shares', to='marketplace.party')),
                ('node_class', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='member_shares', to='marketplace.nodeclass')),
                ('split', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='member_shares', to='marketplace.revenuesplit')),
            ],
            options={
                'ordering': ['-made_at', '-id'],
            },
        ),
        migrations.AddConstraint(
            model_name='membershare',
            constraint=models.UniqueConstraint(fields=('reference', 'member'), name='a_member_is_paid_once_of_a_payment'),
        ),
        migrations.AddConstraint(
            model_name='membershare',
            constraint=models.CheckConstraint(condition=models.Q(('amount_micros__gte', 0), ('amount_micros__lte', models.F('paid_micros'))), name='member_share_is_a_part_of_its_payment'),
        ),
        migrations.AddConstraint(
            model_name='membershare',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('final_at', None), _negated=True), models.Q(('intent_key', ''), _negated=True), _connector='OR'), name='member_share_is_sent_or_needs_no_sending'),
        ),
        migrations.RunSQL(FUNCTIONS + TRIGGERS, NO_WALLS),
    ]
