"""Walls of spending and capacity: nobody approves alone, nothing carved out is sold, no device is sold twice."""

from django.db import migrations

APPEND_ONLY = (
    "demandapproval", "fundingtag", "calendarrule", "revenuesplit", "splitshare", "payoutshare", "winddown", "carveout",
)
CHANGING = ("spendingrule", "seatlimit", "budget", "pilot", "device", "subsite")
NEW_TABLES = (*APPEND_ONLY, *CHANGING, "fundingsource")

FUNCTIONS = """
CREATE FUNCTION marketplace_approval_is_by_another() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    broken text;
BEGIN
    SELECT CASE
        WHEN s.party_id <> d.party_id OR s.role NOT IN ('owner', 'approver') THEN 'approval_is_by_who_may'
        WHEN EXISTS (SELECT 1 FROM marketplace_seat p WHERE p.id = d.posted_by_id AND p.user_id = s.user_id)
            THEN 'approval_is_by_another_person'
        WHEN d.quantity_units * (d.end_slot - d.start_slot) * d.price_limit_micros > coalesce(l.limit_micros, 0)
            AND NEW.is_approved THEN 'approval_is_within_the_seats_limit'
    END INTO broken
    FROM marketplace_demand d JOIN marketplace_seat s ON s.id = NEW.seat_id
        LEFT JOIN marketplace_seatlimit l ON l.seat_id = s.id
    WHERE d.id = NEW.demand_id;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION '%: %', broken, NEW.demand_id USING ERRCODE = 'check_violation', CONSTRAINT = broken;
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_demand_is_affordable() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    hold bigint := NEW.quantity_units * (NEW.end_slot - NEW.start_slot) * NEW.price_limit_micros;
    r marketplace_spendingrule%ROWTYPE;
    p marketplace_pilot%ROWTYPE;
    u marketplace_budget%ROWTYPE;
    broken text;
BEGIN
    IF NEW.state NOT IN ('pending', 'posted', 'funded')
       OR (TG_OP = 'UPDATE' AND NEW.state = OLD.state AND hold = OLD.quantity_units * (OLD.end_slot - OLD.start_slot)
           * OLD.price_limit_micros AND (NEW.budget_id, NEW.pilot_id, NEW.tier_min) IS NOT DISTINCT FROM
           (OLD.budget_id, OLD.pilot_id, OLD.tier_min)) THEN
        RETURN NEW;
    END IF;
    SELECT * INTO r FROM marketplace_spendingrule WHERE party_id = NEW.party_id;
    SELECT * INTO p FROM marketplace_pilot WHERE id = NEW.pilot_id FOR UPDATE;
    SELECT * INTO u FROM marketplace_budget WHERE id = NEW.budget_id FOR UPDATE;
    broken := CASE
        WHEN hold > r.threshold_micros AND NEW.state <> 'pending' AND (
            SELECT count(*) FROM marketplace_demandapproval a WHERE a.demand_id = NEW.id AND a.is_approved
            ) < r.approvals_needed THEN 'demand_over_the_threshold_is_approved'
        WHEN hold > r.threshold_micros AND r.needs_purchase_order AND NEW.purchase_order = ''
            THEN 'demand_over_the_threshold_names_its_order'
        WHEN p.party_id <> NEW.party_id OR u.party_id <> NEW.party_id THEN 'demand_uses_its_own_budget_and_pilot'
        WHEN p.id IS NOT NULL AND NEW.tier_min > 1 THEN 'pilot_demand_is_of_light_data'
        WHEN p.ends_at < (SELECT w.starts_at + make_interval(hours => w.slots) FROM marketplace_window w
                          WHERE w.id = NEW.window_id) THEN 'pilot_demand_ends_in_time'
        WHEN p.cap_micros < hold + (SELECT coalesce(sum(d.quantity_units * (d.end_slot - d.start_slot)
                * d.price_limit_micros), 0) FROM marketplace_demand d WHERE d.pilot_id = p.id AND d.id <> NEW.id
                AND d.state IN ('pending', 'posted', 'funded', 'awarded')) THEN 'pilot_demand_keeps_its_cap'
        WHEN u.action = 'block' AND NEW.state = 'funded' AND u.limit_micros < hold + (
                SELECT coalesce(sum(d.quantity_units * (d.end_slot - d.start_slot) * d.price_limit_micros), 0)
                FROM marketplace_demand d WHERE d.budget_id = u.id AND d.id <> NEW.id
                AND d.state IN ('funded', 'awarded')) THEN 'demand_stays_within_its_budget'
    END;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION '%: %', broken, NEW.reference USING ERRCODE = 'check_violation', CONSTRAINT = broken;
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_carve_outs_do_not_overlap() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    broken text;
BEGIN
    PERFORM 1 FROM marketplace_nodeclass WHERE id = NEW.node_class_id FOR UPDATE;
    broken := CASE
        WHEN NEW.units > (SELECT units FROM marketplace_nodeclass WHERE id = NEW.node_class_id)
            THEN 'carve_out_is_no_larger_than_its_class'
        WHEN EXISTS (SELECT 1 FROM marketplace_carveout c WHERE c.node_class_id = NEW.node_class_id AND c.id <> NEW.id
                     AND c.from_at < NEW.until_at AND c.until_at > NEW.from_at) THEN 'carve_outs_do_not_overlap'
    END;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION '%: %', broken, NEW.purpose USING ERRCODE = 'check_violation', CONSTRAINT = broken;
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_split_is_whole() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT sum(share_ppm) FROM marketplace_splitshare WHERE split_id = NEW.split_id) <> 1000000 THEN
        RAISE EXCEPTION 'split_shares_make_a_whole: %', NEW.split_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'split_shares_make_a_whole';
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION marketplace_payout_shares_sum() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT sum(amount_micros) FROM marketplace_payoutshare WHERE payout_id = NEW.payout_id) <>
       (SELECT amount_micros FROM marketplace_payout WHERE id = NEW.payout_id) THEN
        RAISE EXCEPTION 'payout_shares_make_the_payout: %', NEW.payout_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'payout_shares_make_the_payout';
    END IF;
    RETURN NULL;
END $$;

-- Whether a calendar rule covers the hour that begins then.
CREATE FUNCTION marketplace_covers(r marketplace_calendarrule, hour_at timestamptz) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT r.from_at <= hour_at AND hour_at < r.until_at
        AND (r.weekdays >> (extract(isodow FROM hour_at AT TIME ZONE 'UTC')::int - 1)) & 1 = 1
        AND extract(hour FROM hour_at AT TIME ZONE 'UTC') >= r.from_hour
        AND extract(hour FROM hour_at AT TIME ZONE 'UTC') < r.until_hour
$$;

-- Units of a node class that may be sold in an hour: none while closed, else all but what is carved out or forbidden.
CREATE FUNCTION marketplace_sellable_units(asked uuid, hour_at timestamptz) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN EXISTS (SELECT 1 FROM marketplace_calendarrule r WHERE r.node_class_id = n.id AND r.kind = 'closed'
                     AND marketplace_covers(r, hour_at)) THEN 0
        WHEN EXISTS (SELECT 1 FROM marketplace_calendarrule r WHERE r.node_class_id = n.id AND r.kind = 'open')
             AND NOT EXISTS (SELECT 1 FROM marketplace_calendarrule r WHERE r.node_class_id = n.id
                             AND r.kind = 'open' AND marketplace_covers(r, hour_at)) THEN 0
        ELSE greatest(0, n.units - (
            SELECT coalesce(sum(c.units), 0) FROM marketplace_carveout c
            WHERE c.node_class_id = n.id AND c.from_at <= hour_at AND hour_at < c.until_at) - (
            SELECT coalesce(sum(t.units), 0) FROM marketplace_fundingtag t JOIN marketplace_fundingsource f
                ON f.code = t.source_id
            WHERE t.node_class_id = n.id AND f.policy = 'forbidden' AND t.from_at <= hour_at AND hour_at < t.until_at))
    END FROM marketplace_nodeclass n WHERE n.id = asked
$$;

CREATE FUNCTION marketplace_award_is_of_sellable_capacity() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    d marketplace_demand%ROWTYPE;
    b marketplace_bid%ROWTYPE;
    starts timestamptz;
    broken text;
BEGIN
    SELECT * INTO b FROM marketplace_bid WHERE id = NEW.bid_id;
    IF NOT EXISTS (SELECT 1 FROM marketplace_carveout WHERE node_class_id = b.node_class_id)
       AND NOT EXISTS (SELECT 1 FROM marketplace_fundingtag WHERE node_class_id = b.node_class_id)
       AND NOT EXISTS (SELECT 1 FROM marketplace_calendarrule WHERE node_class_id = b.node_class_id) THEN
        RETURN NEW;
    END IF;
    SELECT * INTO d FROM marketplace_demand WHERE id = NEW.demand_id;
    SELECT w.starts_at INTO starts FROM marketplace_window w WHERE w.id = d.window_id;
    SELECT CASE
        WHEN bool_or(marketplace_sellable_units(b.node_class_id, h.at) < NEW.units + (
            SELECT coalesce(sum(a.units), 0) FROM marketplace_award a JOIN marketplace_bid o ON o.id = a.bid_id
                JOIN marketplace_window w ON w.id = o.window_id
            WHERE o.node_class_id = b.node_class_id AND w.starts_at + make_interval(hours => a.start_slot) <= h.at
              AND h.at < w.starts_at + make_interval(hours => a.end_slot)))
            THEN 'award_leaves_what_is_not_for_sale'
        WHEN bool_or(EXISTS (
            SELECT 1 FROM marketplace_fundingtag t JOIN marketplace_fundingsource f ON f.code = t.source_id
            WHERE t.node_class_id = b.node_class_id AND f.policy = 'cost_recovery' AND t.from_at <= h.at
              AND h.at < t.until_at AND (NEW.slot_prices_micros->>h.place)::bigint < t.floor_micros))
            THEN 'award_pays_the_full_cost_of_funded_capacity'
        WHEN NOT d.accepts_interruptible AND bool_or(
            EXISTS (SELECT 1 FROM marketplace_calendarrule r WHERE r.node_class_id = b.node_class_id
                    AND r.kind = 'open' AND NOT r.is_firm AND marketplace_covers(r, h.at))
            AND NOT EXISTS (SELECT 1 FROM marketplace_calendarrule r WHERE r.node_class_id = b.node_class_id
                            AND r.kind = 'open' AND r.is_firm AND marketplace_covers(r, h.at)))
            THEN 'award_of_firm_demand_is_firm'
    END INTO broken
    FROM (SELECT starts + make_interval(hours => slot) AS at, slot - NEW.start_slot AS place
          FROM generate_series(NEW.start_slot, NEW.end_slot - 1) AS slot) h;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION '%: demand % by bid %', broken, d.reference, b.reference
            USING ERRCODE = 'check_violation', CONSTRAINT = broken;
    END IF;
    RETURN NEW;
END $$;
"""

TRIGGERS = """
CREATE TRIGGER approval_is_by_another BEFORE INSERT ON marketplace_demandapproval
    FOR EACH ROW EXECUTE FUNCTION marketplace_approval_is_by_another();
CREATE TRIGGER demand_is_affordable BEFORE INSERT OR UPDATE ON marketplace_demand
    FOR EACH ROW EXECUTE FUNCTION marketplace_demand_is_affordable();
CREATE TRIGGER carve_outs_do_not_overlap BEFORE INSERT ON marketplace_carveout
    FOR EACH ROW EXECUTE FUNCTION marketplace_carve_outs_do_not_overlap();
CREATE CONSTRAINT TRIGGER split_is_whole AFTER INSERT ON marketplace_splitshare DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION marketplace_split_is_whole();
CREATE CONSTRAINT TRIGGER payout_shares_sum AFTER INSERT ON marketplace_payoutshare DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION marketplace_payout_shares_sum();
CREATE TRIGGER award_is_of_sellable_capacity BEFORE INSERT ON marketplace_award
    FOR EACH ROW EXECUTE FUNCTION marketplace_award_is_of_sellable_capacity();
""" + "".join(
    f"CREATE TRIGGER {name}_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON marketplace_{name} "
    "FOR EACH STATEMENT EXECUTE FUNCTION marketplace_deny_change();\n"
    for name in APPEND_ONLY
)

GRANTS = (
    f"GRANT SELECT, INSERT ON {', '.join(f'marketplace_{name}' for name in NEW_TABLES)} TO grove_app;\n"
    f"GRANT UPDATE ON {', '.join(f'marketplace_{name}' for name in CHANGING)} TO grove_app;\n"
    "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO grove_app;\n"
)

UNDO = (
    f"REVOKE ALL ON {', '.join(f'marketplace_{name}' for name in NEW_TABLES)} FROM grove_app;\n"
    + "".join(f"DROP TRIGGER {name}_stays ON marketplace_{name};\n" for name in APPEND_ONLY)
    + """
DROP TRIGGER award_is_of_sellable_capacity ON marketplace_award;
DROP TRIGGER payout_shares_sum ON marketplace_payoutshare;
DROP TRIGGER split_is_whole ON marketplace_splitshare;
DROP TRIGGER carve_outs_do_not_overlap ON marketplace_carveout;
DROP TRIGGER demand_is_affordable ON marketplace_demand;
DROP TRIGGER approval_is_by_another ON marketplace_demandapproval;
DROP FUNCTION marketplace_award_is_of_sellable_capacity, marketplace_sellable_units,
    marketplace_covers(marketplace_calendarrule, timestamptz), marketplace_payout_shares_sum,
    marketplace_split_is_whole, marketplace_carve_outs_do_not_overlap, marketplace_demand_is_affordable,
    marketplace_approval_is_by_another;
"""
)


class Migration(migrations.Migration):
    dependencies = [("marketplace", "0013_spending_and_capacity")]
    operations = [migrations.RunSQL(FUNCTIONS + TRIGGERS + GRANTS, UNDO)]
