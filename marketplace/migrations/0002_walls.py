"""Rules that no code path can go around: states follow their path, records stay, and awards are compliant."""

from django.db import migrations

# What is written once. A correction is a new row; a migration never rewrites these.
APPEND_ONLY = (
    "auditline", "windowtransition", "standingchange", "attestation", "clearing", "bundlefile", "pricerow", "award",
    "linereason", "mandate", "reading", "verdict", "settlementline",
)

FUNCTIONS = """
CREATE FUNCTION marketplace_deny_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME
        USING ERRCODE = 'check_violation', CONSTRAINT = TG_TABLE_NAME || '_is_append_only';
END $$;

CREATE FUNCTION marketplace_window_path() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' AND NEW.state <> 'COLLECTING' THEN
        RAISE EXCEPTION 'window_starts_by_collecting: % is no first state', NEW.state
            USING ERRCODE = 'check_violation', CONSTRAINT = 'window_starts_by_collecting';
    ELSIF TG_OP = 'UPDATE' AND NEW.state <> OLD.state AND (OLD.state, NEW.state) NOT IN (
        ('COLLECTING', 'BIDDING'), ('COLLECTING', 'FAILED'), ('BIDDING', 'CLEARING'), ('BIDDING', 'FAILED'),
        ('CLEARING', 'CLEARED'), ('CLEARING', 'FAILED'), ('CLEARED', 'DELIVERING'), ('DELIVERING', 'SETTLED')
    ) THEN
        RAISE EXCEPTION 'window_skips_no_state: % cannot follow %', NEW.state, OLD.state
            USING ERRCODE = 'check_violation', CONSTRAINT = 'window_skips_no_state';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_bid_in_time() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT state FROM marketplace_window WHERE id = NEW.window_id) <> 'BIDDING' THEN
        RAISE EXCEPTION 'bid_only_while_bidding: funded demand comes first'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'bid_only_while_bidding';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_demand_in_time() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND (
        NEW.window_id, NEW.party_id, NEW.kind, NEW.accepted_classes, NEW.quantity_units, NEW.start_slot, NEW.end_slot,
        NEW.price_limit_micros, NEW.zone_id, NEW.control_zone_id, NEW.tier_min, NEW.vantage_id, NEW.latency_ms_max,
        NEW.sla_id
    ) IS NOT DISTINCT FROM (
        OLD.window_id, OLD.party_id, OLD.kind, OLD.accepted_classes, OLD.quantity_units, OLD.start_slot, OLD.end_slot,
        OLD.price_limit_micros, OLD.zone_id, OLD.control_zone_id, OLD.tier_min, OLD.vantage_id, OLD.latency_ms_max,
        OLD.sla_id
    ) THEN
        RETURN NEW;
    END IF;
    IF (SELECT state FROM marketplace_window WHERE id = NEW.window_id) <> 'COLLECTING' THEN
        RAISE EXCEPTION 'demand_is_frozen_after_collecting: terms cannot change any more'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'demand_is_frozen_after_collecting';
    END IF;
    RETURN NEW;
END $$;

-- True when the country belongs to the zone on the day, or when there is no zone to belong to.
CREATE FUNCTION marketplace_in_zone(asked_zone text, asked_country text, on_day date) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT asked_zone IS NULL OR EXISTS (
        SELECT 1 FROM marketplace_zonemember m
        WHERE m.zone_id = asked_zone AND m.country = asked_country AND m.valid_from <= on_day
          AND (m.valid_until IS NULL OR m.valid_until > on_day))
$$;

-- The second refusal: whatever computed an award, a non-compliant pair cannot be written.
CREATE FUNCTION marketplace_award_complies() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    d marketplace_demand%ROWTYPE;
    b marketplace_bid%ROWTYPE;
    n marketplace_nodeclass%ROWTYPE;
    s marketplace_site%ROWTYPE;
    parent_country text;
    on_day date;
    broken text;
BEGIN
    SELECT * INTO d FROM marketplace_demand WHERE id = NEW.demand_id;
    SELECT * INTO b FROM marketplace_bid WHERE id = NEW.bid_id;
    SELECT * INTO n FROM marketplace_nodeclass WHERE id = b.node_class_id;
    SELECT * INTO s FROM marketplace_site WHERE id = n.site_id;
    SELECT p.parent_country INTO parent_country FROM marketplace_party p WHERE p.id = b.party_id;
    SELECT (w.starts_at AT TIME ZONE 'UTC')::date INTO on_day FROM marketplace_window w WHERE w.id = d.window_id;
    broken := CASE
        WHEN d.window_id <> b.window_id THEN 'award_stays_inside_one_window'
        WHEN d.hold_id IS NULL THEN 'award_needs_funded_demand'
        WHEN NOT n.resource_class_id = ANY (d.accepted_classes) THEN 'award_is_of_an_accepted_class'
        WHEN NOT marketplace_in_zone(d.zone_id, s.country, on_day) THEN 'award_keeps_residency'
        WHEN NOT (marketplace_in_zone(d.control_zone_id, parent_country, on_day)
                  AND marketplace_in_zone(d.control_zone_id, s.operator_country, on_day)
                  AND marketplace_in_zone(d.control_zone_id, s.keys_country, on_day)) THEN 'award_keeps_legal_control'
        WHEN n.tier < d.tier_min THEN 'award_keeps_the_tier'
        WHEN d.latency_ms_max IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM marketplace_sitelatency l WHERE l.site_id = s.id AND l.vantage_id = d.vantage_id
              AND l.rtt_ms_p95 <= d.latency_ms_max) THEN 'award_keeps_the_latency_bound'
        WHEN NEW.start_slot < greatest(d.start_slot, b.start_slot) OR NEW.end_slot > least(d.end_slot, b.end_slot)
            THEN 'award_lies_inside_both_lines'
        WHEN NEW.units > least(d.quantity_units, b.quantity_units) THEN 'award_is_no_larger_than_its_lines'
    END;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION '%: demand % cannot be served by bid %', broken, d.reference, b.reference
            USING ERRCODE = 'check_violation', CONSTRAINT = broken;
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_slash_is_armed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.outcome IN ('requested', 'disputed', 'vetoed', 'executed', 'lapsed') AND NOT (
        SELECT l.is_armed FROM marketplace_verdict v JOIN marketplace_lease l ON l.id = v.lease_id
        WHERE v.id = NEW.verdict_id
    ) THEN
        RAISE EXCEPTION 'slash_only_what_was_signed_while_proven: slashing is held back'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'slash_only_what_was_signed_while_proven';
    END IF;
    RETURN NEW;
END $$;
"""

TRIGGERS = """
CREATE TRIGGER window_path BEFORE INSERT OR UPDATE ON marketplace_window
    FOR EACH ROW EXECUTE FUNCTION marketplace_window_path();
CREATE TRIGGER bid_in_time BEFORE INSERT ON marketplace_bid
    FOR EACH ROW EXECUTE FUNCTION marketplace_bid_in_time();
CREATE TRIGGER demand_in_time BEFORE INSERT OR UPDATE ON marketplace_demand
    FOR EACH ROW EXECUTE FUNCTION marketplace_demand_in_time();
CREATE TRIGGER award_complies BEFORE INSERT ON marketplace_award
    FOR EACH ROW EXECUTE FUNCTION marketplace_award_complies();
CREATE TRIGGER slash_is_armed BEFORE INSERT OR UPDATE ON marketplace_slashcase
    FOR EACH ROW EXECUTE FUNCTION marketplace_slash_is_armed();
""" + "".join(
    f"CREATE TRIGGER {name}_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON marketplace_{name} "
    "FOR EACH STATEMENT EXECUTE FUNCTION marketplace_deny_change();\n"
    for name in APPEND_ONLY
)

UNDO = (
    "".join(f"DROP TRIGGER {name}_stays ON marketplace_{name};\n" for name in APPEND_ONLY)
    + """
DROP TRIGGER slash_is_armed ON marketplace_slashcase;
DROP TRIGGER award_complies ON marketplace_award;
DROP TRIGGER demand_in_time ON marketplace_demand;
DROP TRIGGER bid_in_time ON marketplace_bid;
DROP TRIGGER window_path ON marketplace_window;
DROP FUNCTION marketplace_slash_is_armed, marketplace_award_complies, marketplace_in_zone, marketplace_demand_in_time,
    marketplace_bid_in_time, marketplace_window_path, marketplace_deny_change;
"""
)


class Migration(migrations.Migration):
    dependencies = [("marketplace", "0001_initial")]
    operations = [migrations.RunSQL(FUNCTIONS + TRIGGERS, UNDO)]
