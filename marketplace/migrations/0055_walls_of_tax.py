"""Walls: a tax rule that was approved stays, and an order's invoice carries the tax of the rule in force, to the micro."""

from importlib import import_module

from django.db import migrations

BEFORE = import_module("marketplace.migrations.0032_walls_of_invoices").FUNCTIONS
MAPPED = BEFORE[BEFORE.index("CREATE FUNCTION marketplace_invoice_line_is_mapped") :]
MAPPED = MAPPED[: MAPPED.index("CREATE FUNCTION marketplace_buyer_may_post")].replace("CREATE F", "CREATE OR REPLACE F")

FUNCTIONS = """
CREATE FUNCTION marketplace_tax_rule_path() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    broken text;
BEGIN
    broken := CASE
        WHEN TG_OP = 'INSERT' AND NEW.approved_at IS NOT NULL THEN 'tax_rule_starts_as_a_proposal'
        WHEN TG_OP = 'UPDATE' AND (OLD.approved_at IS NOT NULL
            OR (OLD.country, OLD.rate_ppm, OLD.words, OLD.valid_from, OLD.proposed_by, OLD.proposed_at)
            IS DISTINCT FROM (NEW.country, NEW.rate_ppm, NEW.words, NEW.valid_from, NEW.proposed_by, NEW.proposed_at))
            THEN 'tax_rule_stays_as_proposed'
    END;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION '%: of %', broken, NEW.country USING ERRCODE = 'check_violation', CONSTRAINT = broken;
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_tax_rule_in_force(of_country text, at timestamptz) RETURNS uuid LANGUAGE sql STABLE AS $$
    SELECT id FROM marketplace_taxrule WHERE country = of_country AND approved_at IS NOT NULL AND valid_from <= at
    ORDER BY valid_from DESC LIMIT 1
$$;

CREATE OR REPLACE FUNCTION marketplace_invoice_line_is_mapped() RETURNS trigger LANGUAGE plpgsql AS $$
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
        WHEN NEW.tax_rule_id IS NOT NULL AND (i.order_id IS NULL OR NEW.tax_rule_id IS DISTINCT FROM
            marketplace_tax_rule_in_force((SELECT country FROM marketplace_party WHERE id = i.party_id), i.issued_at))
            THEN 'tax_line_is_the_rule_in_force'
    END;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION '%: a line of %', broken, i.number USING ERRCODE = 'check_violation', CONSTRAINT = broken;
    END IF;
    RETURN NEW;
END $$;

CREATE OR REPLACE FUNCTION marketplace_invoice_adds_up() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    invoice uuid := CASE TG_TABLE_NAME WHEN 'marketplace_invoice' THEN (to_jsonb(NEW) ->> 'id')::uuid
                    ELSE (to_jsonb(NEW) ->> 'invoice_id')::uuid END;
    i marketplace_invoice%ROWTYPE;
    total numeric;
    net numeric;
    tax numeric;
    rule uuid;
    rate numeric;
    broken text;
BEGIN
    SELECT * INTO i FROM marketplace_invoice WHERE id = invoice;
    SELECT coalesce(sum(amount_micros), 0), coalesce(sum(amount_micros) FILTER (WHERE kind <> 'tax'), 0),
           sum(amount_micros) FILTER (WHERE kind = 'tax')
        INTO total, net, tax FROM marketplace_invoiceline WHERE invoice_id = invoice;
    rule := CASE WHEN i.order_id IS NOT NULL THEN marketplace_tax_rule_in_force(
        (SELECT country FROM marketplace_party WHERE id = i.party_id), i.issued_at) END;
    SELECT rate_ppm INTO rate FROM marketplace_taxrule WHERE id = rule;
    broken := CASE
        WHEN i.amount_micros <> total THEN 'invoice_is_the_sum_of_its_lines'
        WHEN rule IS NOT NULL AND tax IS DISTINCT FROM div(net * rate + 500000, 1000000)
            THEN 'tax_is_its_share_of_the_lines'
    END;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION '%: %', broken, i.number USING ERRCODE = 'check_violation', CONSTRAINT = broken;
    END IF;
    RETURN NULL;
END $$;
"""
TRIGGERS = """
CREATE TRIGGER tax_rule_path BEFORE INSERT OR UPDATE ON marketplace_taxrule
    FOR EACH ROW EXECUTE FUNCTION marketplace_tax_rule_path();
GRANT SELECT, INSERT ON marketplace_taxrule TO grove_app;
GRANT UPDATE (approved_by, approved_at) ON marketplace_taxrule TO grove_app;
"""
UNDO = """
REVOKE ALL ON marketplace_taxrule FROM grove_app;
DROP TRIGGER tax_rule_path ON marketplace_taxrule;
DROP FUNCTION marketplace_tax_rule_path, marketplace_tax_rule_in_force;
"""


class Migration(migrations.Migration):
    dependencies = [("marketplace", "0054_tax_on_invoices"), ("ledger", "0009_invoices_in_the_books")]
    operations = [migrations.RunSQL(FUNCTIONS + TRIGGERS, MAPPED + UNDO)]
