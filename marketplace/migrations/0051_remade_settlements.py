"""A settle call that the chain refused is made again: its lines may go, and its epoch may be taken once more."""

from django.db import migrations, models

FUNCTIONS = """
CREATE FUNCTION marketplace_settlement_line_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT 1 FROM marketplace_settlement s JOIN ledger_chainintent i ON i.key = s.intent_key
        WHERE s.id = OLD.settlement_id AND s.final_at IS NULL AND s.refused_at IS NULL AND i.state = 'reverted'
    ) THEN
        RAISE EXCEPTION 'settlement_line_goes_with_a_refused_call: settlement %', OLD.settlement_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'settlement_line_goes_with_a_refused_call';
    END IF;
    RETURN OLD;
END $$;

DROP TRIGGER settlementline_stays ON marketplace_settlementline;
CREATE TRIGGER settlementline_stays BEFORE UPDATE OR TRUNCATE ON marketplace_settlementline
    FOR EACH STATEMENT EXECUTE FUNCTION marketplace_deny_change();
CREATE TRIGGER settlement_line_goes_with_a_refused_call BEFORE DELETE ON marketplace_settlementline
    FOR EACH ROW EXECUTE FUNCTION marketplace_settlement_line_stays();
GRANT DELETE ON marketplace_settlementline TO grove_app;
"""
UNDO = """
REVOKE DELETE ON marketplace_settlementline FROM grove_app;
DROP TRIGGER settlement_line_goes_with_a_refused_call ON marketplace_settlementline;
DROP TRIGGER settlementline_stays ON marketplace_settlementline;
CREATE TRIGGER settlementline_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON marketplace_settlementline
    FOR EACH STATEMENT EXECUTE FUNCTION marketplace_deny_change();
DROP FUNCTION marketplace_settlement_line_stays();
"""


class Migration(migrations.Migration):
    dependencies = [("marketplace", "0050_set_aside"), ("ledger", "0008_runtime_role")]
    operations = [
        migrations.AddField(
            model_name="settlement", name="refused_at", field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="settlement", name="refusal",
            field=models.CharField(default="", help_text="the contract's own sentence", max_length=200),
        ),
        migrations.AlterField(model_name="settlement", name="epoch", field=models.BigIntegerField()),
        migrations.AddConstraint(
            model_name="settlement",
            constraint=models.UniqueConstraint(
                condition=models.Q(("refused_at", None)), fields=("epoch",), name="one_settlement_per_epoch",
            ),
        ),
        migrations.AddConstraint(
            model_name="settlement",
            constraint=models.CheckConstraint(
                condition=models.Q(("refused_at", None), ("final_at", None), _connector="OR"),
                name="settlement_is_final_or_refused",
            ),
        ),
        migrations.RunSQL(FUNCTIONS, UNDO),
    ]
