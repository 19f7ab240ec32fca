"""Walls: the Foundation buys inside its limits only, and nobody buys from itself."""

from django.db import migrations

APPEND_ONLY = ("makerstop", "makerquote", "conflict", "suspectflow")

FUNCTIONS = """
-- Who stands behind a party in the end. It ends: no party is its own owner.
CREATE FUNCTION marketplace_owner_of(asked uuid) RETURNS uuid LANGUAGE sql STABLE AS $$
    WITH RECURSIVE above(id, parent_id) AS (
        SELECT p.id, p.parent_id FROM marketplace_party p WHERE p.id = asked
        UNION ALL
        SELECT p.id, p.parent_id FROM marketplace_party p JOIN above ON p.id = above.parent_id)
    SELECT id FROM above WHERE parent_id IS NULL
$$;

CREATE FUNCTION marketplace_award_has_two_owners() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF marketplace_owner_of((SELECT party_id FROM marketplace_demand WHERE id = NEW.demand_id)) =
       marketplace_owner_of((SELECT party_id FROM marketplace_bid WHERE id = NEW.bid_id)) THEN
        RAISE EXCEPTION 'award_is_between_two_owners: one owner stands on both sides'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'award_is_between_two_owners';
    END IF;
    RETURN NEW;
END $$;

-- The Foundation's own demand: whatever writes it, its money is committed inside limits that two people set, or not.
CREATE FUNCTION marketplace_maker_in_limits() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    l marketplace_makerlimits%ROWTYPE;
    reference bigint;
    hours bigint;
    open_hours numeric;
    open_micros numeric;
    lost numeric;
    broken text;
BEGIN
    IF NEW.state <> 'funded' OR (SELECT kind FROM marketplace_party WHERE id = NEW.party_id) <> 'foundation' THEN
        RETURN NEW;
    END IF;
    IF TG_OP = 'UPDATE' AND (OLD.state, OLD.accepted_classes, OLD.quantity_units, OLD.start_slot, OLD.end_slot,
                             OLD.price_limit_micros, OLD.party_id) IS NOT DISTINCT FROM
                            (NEW.state, NEW.accepted_classes, NEW.quantity_units, NEW.start_slot, NEW.end_slot,
                             NEW.price_limit_micros, NEW.party_id) THEN
        RETURN NEW;
    END IF;
    -- Two quotes at once would each see the other's room: one after the other.
    PERFORM pg_advisory_xact_lock(hashtext('marketplace_makerlimits'));
    SELECT * INTO l FROM marketplace_makerlimits WHERE ended_at IS NULL AND approved_at IS NOT NULL;
    hours := NEW.quantity_units * (NEW.end_slot - NEW.start_slot);
    SELECT coalesce(sum(d.quantity_units * (d.end_slot - d.start_slot)), 0),
           coalesce(sum(d.quantity_units::numeric * (d.end_slot - d.start_slot) * d.price_limit_micros), 0)
      INTO open_hours, open_micros
      FROM marketplace_demand d JOIN marketplace_party p ON p.id = d.party_id
      JOIN marketplace_window w ON w.id = d.window_id
     WHERE p.kind = 'foundation' AND d.state IN ('funded', 'awarded') AND w.state NOT IN ('SETTLED', 'FAILED')
       AND d.id <> NEW.id;
    SELECT coalesce(sum(s.earned_micros), 0) INTO lost
      FROM marketplace_settlementline s JOIN marketplace_settlement e ON e.id = s.settlement_id
      JOIN marketplace_lease r ON r.id = s.lease_id JOIN marketplace_party p ON p.id = r.buyer_id
     WHERE p.kind = 'foundation' AND e.made_at >= l.approved_at;
    lost := lost - (SELECT coalesce(sum(c.amount_micros), 0)
      FROM marketplace_credit c JOIN marketplace_verdict v ON v.id = c.verdict_id
      JOIN marketplace_lease r ON r.id = v.lease_id JOIN marketplace_party p ON p.id = r.buyer_id
     WHERE p.kind = 'foundation' AND c.source = 'holdback' AND c.posted_at >= l.approved_at);
    SELECT max(abs(NEW.price_limit_micros - c.reference_price_micros)
               - c.reference_price_micros::numeric * l.spread_max_ppm / 1000000) INTO reference
      FROM marketplace_resourceclass c WHERE c.code = ANY (NEW.accepted_classes);
    broken := CASE
        WHEN l.id IS NULL THEN 'maker_has_limits_of_two_people'
        WHEN EXISTS (SELECT 1 FROM marketplace_makerstop WHERE limits_id = l.id) THEN 'maker_stays_stopped'
        WHEN NOT NEW.accepted_classes::text[] <@ l.resource_classes::text[] THEN 'maker_keeps_its_products'
        WHEN reference > 0 THEN 'maker_keeps_its_spread'
        WHEN open_micros + hours::numeric * NEW.price_limit_micros > l.notional_max_micros
            THEN 'maker_keeps_its_notional'
        WHEN open_hours + hours > l.inventory_max_unit_hours THEN 'maker_keeps_its_inventory'
        WHEN lost >= l.loss_max_micros THEN 'maker_keeps_its_loss'
    END;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION '%: demand % of the Foundation', broken, NEW.reference
            USING ERRCODE = 'check_violation', CONSTRAINT = broken;
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_maker_limits_stay() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.id, NEW.resource_classes, NEW.notional_max_micros, NEW.inventory_max_unit_hours, NEW.loss_max_micros,
        NEW.spread_max_ppm, NEW.reason, NEW.proposed_by, NEW.proposed_at) IS DISTINCT FROM
       (OLD.id, OLD.resource_classes, OLD.notional_max_micros, OLD.inventory_max_unit_hours, OLD.loss_max_micros,
        OLD.spread_max_ppm, OLD.reason, OLD.proposed_by, OLD.proposed_at)
       OR (OLD.approved_at IS NOT NULL AND (NEW.approved_at, NEW.approved_by) IS DISTINCT FROM
                                           (OLD.approved_at, OLD.approved_by))
       OR (OLD.ended_at IS NOT NULL AND NEW.ended_at IS DISTINCT FROM OLD.ended_at) THEN
        RAISE EXCEPTION 'maker_limits_stay_as_proposed: other limits are a new proposal'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'maker_limits_stay_as_proposed';
    END IF;
    RETURN NEW;
END $$;
"""

TRIGGERS = """
CREATE TRIGGER award_between_owners BEFORE INSERT ON marketplace_award
    FOR EACH ROW EXECUTE FUNCTION marketplace_award_has_two_owners();
CREATE TRIGGER maker_in_limits BEFORE INSERT OR UPDATE ON marketplace_demand
    FOR EACH ROW EXECUTE FUNCTION marketplace_maker_in_limits();
CREATE TRIGGER maker_limits_stay BEFORE UPDATE ON marketplace_makerlimits
    FOR EACH ROW EXECUTE FUNCTION marketplace_maker_limits_stay();
""" + "".join(
    f"CREATE TRIGGER {name}_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON marketplace_{name} "
    "FOR EACH STATEMENT EXECUTE FUNCTION marketplace_deny_change();\n"
    for name in APPEND_ONLY
)

GRANTS = """
GRANT SELECT, INSERT ON marketplace_makerlimits, marketplace_makerstop, marketplace_makerquote, marketplace_conflict,
    marketplace_suspectflow TO grove_app;
GRANT UPDATE (approved_by, approved_at, ended_at) ON marketplace_makerlimits TO grove_app;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO grove_app;
"""

UNDO = (
    "".join(f"DROP TRIGGER {name}_stays ON marketplace_{name};\n" for name in APPEND_ONLY)
    + """
DROP TRIGGER maker_limits_stay ON marketplace_makerlimits;
DROP TRIGGER maker_in_limits ON marketplace_demand;
DROP TRIGGER award_between_owners ON marketplace_award;
DROP FUNCTION marketplace_maker_limits_stay, marketplace_maker_in_limits, marketplace_award_has_two_owners,
    marketplace_owner_of;
"""
)


class Migration(migrations.Migration):
    dependencies = [("marketplace", "0020_market_maker")]
    operations = [migrations.RunSQL(FUNCTIONS + TRIGGERS + GRANTS, UNDO)]
