"""What an invoice may charge, and that a buyer in default posts and funds no new demand, kept by the database."""

from django.db import migrations

APPEND_ONLY = ("invoiceline",)

FUNCTIONS = """
CREATE FUNCTION marketplace_invoice_line_is_mapped() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    i marketplace_invoice%ROWTYPE;
    broken text;
BEGIN
    SELECT * INTO i FROM marketplace_invoice WHERE id = NEW.invoice_id;
    broken := CASE
        WHEN NEW.award_id IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM marketplace_award a JOIN marketplace_demand d ON d.id = a.demand_id
            WHERE a.id = NEW.award_id AND a.amount_micros = NEW.amount_micros AND d.party_id = i.party_id
              AND d.window_id = i.window_id) THEN 'invoice_line_is_an_award_of_its_buyer'
        WHEN NEW.verdict_id IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM marketplace_verdict v JOIN marketplace_lease l ON l.id = v.lease_id
                JOIN marketplace_settlementline s ON s.lease_id = l.id
            WHERE v.id = NEW.verdict_id AND l.buyer_id = i.party_id AND l.window_id = i.window_id
              AND -NEW.amount_micros = CASE NEW.kind WHEN 'credit' THEN s.credit_micros ELSE s.returned_micros END)
            THEN 'invoice_line_takes_off_what_was_settled'
    END;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION '%: a line of %', broken, i.number USING ERRCODE = 'check_violation', CONSTRAINT = broken;
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_invoice_adds_up() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    invoice uuid := CASE TG_TABLE_NAME WHEN 'marketplace_invoice' THEN (to_jsonb(NEW) ->> 'id')::uuid
                    ELSE (to_jsonb(NEW) ->> 'invoice_id')::uuid END;
BEGIN
    IF (SELECT amount_micros FROM marketplace_invoice WHERE id = invoice) <> (
        SELECT coalesce(sum(amount_micros), 0) FROM marketplace_invoiceline WHERE invoice_id = invoice) THEN
        RAISE EXCEPTION 'invoice_is_the_sum_of_its_lines: %', invoice
            USING ERRCODE = 'check_violation', CONSTRAINT = 'invoice_is_the_sum_of_its_lines';
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION marketplace_buyer_may_post() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM marketplace_demandstop WHERE party_id = NEW.party_id AND lifted_at IS NULL) THEN
        RAISE EXCEPTION 'buyer_in_default_has_no_new_demand: %', NEW.reference
            USING ERRCODE = 'check_violation', CONSTRAINT = 'buyer_in_default_has_no_new_demand';
    END IF;
    RETURN NEW;
END $$;
"""
TRIGGERS = """
CREATE TRIGGER invoice_line_is_mapped BEFORE INSERT ON marketplace_invoiceline
    FOR EACH ROW EXECUTE FUNCTION marketplace_invoice_line_is_mapped();
CREATE CONSTRAINT TRIGGER invoice_adds_up AFTER INSERT OR UPDATE ON marketplace_invoice DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION marketplace_invoice_adds_up();
CREATE CONSTRAINT TRIGGER invoice_lines_add_up AFTER INSERT ON marketplace_invoiceline DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION marketplace_invoice_adds_up();
CREATE TRIGGER buyer_may_post BEFORE INSERT ON marketplace_demand
    FOR EACH ROW EXECUTE FUNCTION marketplace_buyer_may_post();
CREATE TRIGGER buyer_may_fund BEFORE UPDATE OF state ON marketplace_demand
    FOR EACH ROW WHEN (NEW.state = 'funded' AND OLD.state <> 'funded') EXECUTE FUNCTION marketplace_buyer_may_post();
CREATE TRIGGER invoiceline_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON marketplace_invoiceline
    FOR EACH STATEMENT EXECUTE FUNCTION marketplace_deny_change();
GRANT SELECT, INSERT ON marketplace_invoice, marketplace_invoiceline, marketplace_demandstop TO grove_app;
GRANT UPDATE (dunned, paid_at, paid_reference) ON marketplace_invoice TO grove_app;
GRANT UPDATE (lifted_at, lifted_by) ON marketplace_demandstop TO grove_app;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO grove_app;
"""
UNDO = """
REVOKE ALL ON marketplace_invoice, marketplace_invoiceline, marketplace_demandstop FROM grove_app;
DROP TRIGGER invoiceline_stays ON marketplace_invoiceline;
DROP TRIGGER buyer_may_fund ON marketplace_demand;
DROP TRIGGER buyer_may_post ON marketplace_demand;
DROP TRIGGER invoice_lines_add_up ON marketplace_invoiceline;
DROP TRIGGER invoice_adds_up ON marketplace_invoice;
DROP TRIGGER invoice_line_is_mapped ON marketplace_invoiceline;
DROP FUNCTION marketplace_buyer_may_post, marketplace_invoice_adds_up, marketplace_invoice_line_is_mapped;
"""


class Migration(migrations.Migration):
    dependencies = [("marketplace", "0031_invoices")]
    operations = [migrations.RunSQL(FUNCTIONS + TRIGGERS, UNDO)]
