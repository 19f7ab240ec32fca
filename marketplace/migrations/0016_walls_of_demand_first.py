"""Demand first and phases, kept by the database: who may bid, what covers whom, and that no phase is skipped."""

from django.db import migrations

APPEND_ONLY = ("gaterule", "pair", "standingentry", "phasecondition", "phaseevidence", "phasesignoff", "gatereview",
               "need")
OPENED = ("admission", "fundingline", "standingdemand", "phase", "signal")

PHASES = """
INSERT INTO marketplace_phase (no, name, is_open, opened_at, evidence_hash) VALUES
    (1, 'Demand validation', true, now(), sha256('the market begins in phase 1')),
    (2, 'University consortium', false, NULL, NULL),
    (3, 'Production pilot', false, NULL, NULL),
    (4, 'Scale', false, NULL, NULL) ON CONFLICT DO NOTHING;
INSERT INTO marketplace_phasecondition (phase_id, code, sentence, needed) VALUES
    (2, 'funded_enterprises', 'Distinct enterprise buyers, by their last owner, that funded demand', 3),
    (2, 'needs_recorded', 'Funded enterprise buyers that recorded what hurts and what they spend today', 3),
    (2, 'price_curves', 'Funded buyers with at least two price steps for one need', 1),
    (3, 'proven_universities', 'Universities, by their last owner, with a proven node class', 5),
    (4, 'university_leases', 'Leases delivered on university machines', 1),
    (4, 'enterprise_leases', 'Leases delivered on enterprise machines', 1),
    (4, 'credits_posted', 'SLA credits posted without a claim', 1),
    (4, 'residency_exports', 'Exports of residency evidence', 1) ON CONFLICT DO NOTHING;
INSERT INTO marketplace_flag (name, is_on, opens_in_phase, reason) VALUES
    ('prosumer_parties', false, 4, 'enterprise demand comes first') ON CONFLICT DO NOTHING;
SET CONSTRAINTS ALL IMMEDIATE;
"""
NO_PHASES = "TRUNCATE marketplace_phase CASCADE;"  # with the evidence and the signatures that hang on it

FUNCTIONS = """
CREATE FUNCTION marketplace_delivery_month(moment timestamptz) RETURNS date LANGUAGE sql STABLE AS $$
    SELECT date_trunc('month', moment AT TIME ZONE 'UTC')::date
$$;

-- The funded demand of a month that a product could serve, window by window: unit-hours and the window's cover ratio.
CREATE FUNCTION marketplace_funded_demand(asked_class text, in_country text, of_tier integer, in_month date)
RETURNS TABLE (unit_hours numeric, cover_ppm bigint) LANGUAGE sql STABLE AS $$
    SELECT sum(d.quantity_units::numeric * (d.end_slot - d.start_slot)), w.cover_ppm
    FROM marketplace_demand d JOIN marketplace_window w ON w.id = d.window_id
    WHERE w.kind = 'market' AND w.state <> 'FAILED' AND d.hold_id IS NOT NULL
      AND d.state IN ('funded', 'awarded', 'lost')
      AND marketplace_delivery_month(w.starts_at) = in_month AND asked_class = ANY (d.accepted_classes)
      AND d.tier_min <= of_tier
      AND marketplace_in_zone(d.zone_id, in_country, (w.starts_at AT TIME ZONE 'UTC')::date)
    GROUP BY w.id
$$;

CREATE FUNCTION marketplace_funded_unit_hours(asked_class text, in_country text, of_tier integer, in_month date)
RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT coalesce(sum(unit_hours), 0)::bigint
    FROM marketplace_funded_demand(asked_class, in_country, of_tier, in_month)
$$;

-- What that demand lets in: each window's times its ratio.
CREATE FUNCTION marketplace_covered_unit_hours(asked_class text, in_country text, of_tier integer, in_month date)
RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT floor(coalesce(sum(unit_hours * cover_ppm), 0) / 1000000)::bigint
    FROM marketplace_funded_demand(asked_class, in_country, of_tier, in_month)
$$;

-- One at a time in a product and month: two that fit alone may be too much together.
CREATE FUNCTION marketplace_lock_product(of_class text, in_zone text, of_tier integer, in_month date)
RETURNS void LANGUAGE sql VOLATILE AS $$
    SELECT pg_advisory_xact_lock(hashtext('admission ' || of_class || ' ' || in_zone || ' ' || of_tier || ' '
        || in_month))
$$;

CREATE FUNCTION marketplace_admitted_unit_hours(asked_class text, in_zone text, of_tier integer, in_month date)
RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT coalesce(sum(a.unit_hours), 0)::bigint
    FROM marketplace_admission a JOIN marketplace_nodeclass n ON n.id = a.node_class_id
    WHERE a.state = 'ADMITTED' AND a.month = in_month AND a.zone = in_zone
      AND n.resource_class_id = asked_class AND n.tier = of_tier
$$;

CREATE FUNCTION marketplace_admission_path() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    n marketplace_nodeclass%ROWTYPE;
    at_country text;
    broken text;
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.state <> 'WAITLIST' THEN
            RAISE EXCEPTION 'admission_starts_in_the_waitlist: % is no first state', NEW.state
                USING ERRCODE = 'check_violation', CONSTRAINT = 'admission_starts_in_the_waitlist';
        END IF;
        RETURN NEW;
    END IF;
    broken := CASE
        WHEN OLD.state <> 'WAITLIST' OR (OLD.node_class_id, OLD.month, OLD.zone)
            IS DISTINCT FROM (NEW.node_class_id, NEW.month, NEW.zone) THEN 'decided_admission_stays'
    END;
    IF broken IS NULL AND NEW.state = 'ADMITTED' THEN
        SELECT * INTO n FROM marketplace_nodeclass WHERE id = NEW.node_class_id;
        SELECT country INTO at_country FROM marketplace_site WHERE id = n.site_id;
        PERFORM marketplace_lock_product(n.resource_class_id, NEW.zone, n.tier, NEW.month);
        IF NEW.unit_hours + marketplace_admitted_unit_hours(n.resource_class_id, NEW.zone, n.tier, NEW.month)
            > marketplace_covered_unit_hours(n.resource_class_id, at_country, n.tier, NEW.month) THEN
            broken := 'admission_is_covered_by_funded_demand';
        END IF;
    END IF;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION '%: % unit-hours of %', broken, NEW.unit_hours, NEW.node_class_id
            USING ERRCODE = 'check_violation', CONSTRAINT = broken;
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_bid_is_let_in() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    w marketplace_window%ROWTYPE;
    admitted bigint;
    offered numeric;
    broken text;
BEGIN
    SELECT * INTO w FROM marketplace_window WHERE id = NEW.window_id;
    IF w.kind = 'bilateral' THEN
        IF NOT EXISTS (SELECT 1 FROM marketplace_pair p WHERE p.window_id = w.id AND p.provider_id = NEW.party_id) THEN
            broken := 'bilateral_bid_is_its_providers';
        END IF;
    ELSE
        PERFORM 1 FROM marketplace_admission WHERE node_class_id = NEW.node_class_id AND state = 'ADMITTED'
            AND month = marketplace_delivery_month(w.starts_at) FOR UPDATE;
        SELECT sum(unit_hours) INTO admitted FROM marketplace_admission WHERE node_class_id = NEW.node_class_id
            AND state = 'ADMITTED' AND month = marketplace_delivery_month(w.starts_at);
        SELECT coalesce(sum(b.quantity_units::numeric * (b.end_slot - b.start_slot)), 0) INTO offered
        FROM marketplace_bid b JOIN marketplace_window o ON o.id = b.window_id
        WHERE b.node_class_id = NEW.node_class_id AND b.state IN ('sealed', 'opened', 'awarded') AND b.id <> NEW.id
          AND o.kind = 'market' AND marketplace_delivery_month(o.starts_at) = marketplace_delivery_month(w.starts_at);
        broken := CASE
            WHEN admitted IS NULL THEN 'bid_only_of_an_admitted_class'
            WHEN offered + NEW.quantity_units::numeric * (NEW.end_slot - NEW.start_slot) > admitted
                THEN 'bid_stays_within_its_admission'
        END;
    END IF;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION '%: funded demand comes first', broken
            USING ERRCODE = 'check_violation', CONSTRAINT = broken;
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_demand_is_the_pairs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT kind FROM marketplace_window WHERE id = NEW.window_id) = 'bilateral' AND NOT EXISTS (
        SELECT 1 FROM marketplace_pair p WHERE p.window_id = NEW.window_id AND p.buyer_id = NEW.party_id) THEN
        RAISE EXCEPTION 'bilateral_demand_is_its_buyers: this window is between two others'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'bilateral_demand_is_its_buyers';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_pair_has_its_window() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT kind FROM marketplace_window WHERE id = NEW.window_id) <> 'bilateral' THEN
        RAISE EXCEPTION 'pair_is_of_a_bilateral_window: a market window is for everybody'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'pair_is_of_a_bilateral_window';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_gate_rule_in_time() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT state FROM marketplace_window WHERE id = NEW.window_id) <> 'COLLECTING' THEN
        RAISE EXCEPTION 'gate_rule_is_set_while_collecting: the gate was judged'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'gate_rule_is_set_while_collecting';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_funding_line_path() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' AND NEW.state <> 'PENDING' THEN
        RAISE EXCEPTION 'funding_line_starts_pending: % is no first state', NEW.state
            USING ERRCODE = 'check_violation', CONSTRAINT = 'funding_line_starts_pending';
    ELSIF TG_OP = 'UPDATE' AND (OLD.state <> 'PENDING' OR (OLD.party_id, OLD.kind, OLD.number, OLD.limit_micros,
        OLD.asked_by, OLD.valid_until) IS DISTINCT FROM (NEW.party_id, NEW.kind, NEW.number, NEW.limit_micros,
        NEW.asked_by, NEW.valid_until)) THEN
        RAISE EXCEPTION 'funding_line_is_decided_once: what was asked for and decided stays'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'funding_line_is_decided_once';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_demand_within_its_line() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    l marketplace_fundingline%ROWTYPE;
    used numeric;
    broken text;
BEGIN
    SELECT * INTO l FROM marketplace_fundingline WHERE id = NEW.funding_line_id FOR UPDATE;
    SELECT coalesce(sum(d.quantity_units::numeric * (d.end_slot - d.start_slot) * d.price_limit_micros), 0) INTO used
    FROM marketplace_demand d
    WHERE d.funding_line_id = l.id AND d.id <> NEW.id AND d.state IN ('funded', 'awarded');
    broken := CASE
        WHEN l.party_id <> NEW.party_id OR l.kind <> NEW.funding_kind OR l.state <> 'APPROVED'
            THEN 'funding_line_is_the_buyers_and_approved'
        WHEN l.valid_until <= NEW.funded_at THEN 'funding_line_is_still_valid'
        WHEN used + NEW.quantity_units::numeric * (NEW.end_slot - NEW.start_slot) * NEW.price_limit_micros
            > l.limit_micros THEN 'funding_line_covers_its_demands'
    END;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION '%: %', broken, NEW.reference USING ERRCODE = 'check_violation', CONSTRAINT = broken;
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_entry_is_its_demand() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT 1 FROM marketplace_demand d JOIN marketplace_standingdemand s ON s.id = NEW.standing_id
        WHERE d.id = NEW.demand_id AND d.window_id = NEW.window_id AND d.party_id = s.party_id
          AND d.price_limit_micros = NEW.limit_micros AND NEW.cap_ppm = s.renewal_cap_ppm) THEN
        RAISE EXCEPTION 'standing_entry_is_the_demand_it_names: another demand stands there'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'standing_entry_is_the_demand_it_names';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_evidence_is_complete() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.is_complete AND (NOT EXISTS (SELECT 1 FROM marketplace_phasecondition WHERE phase_id = NEW.phase_id)
        OR EXISTS (SELECT 1 FROM marketplace_phasecondition c WHERE c.phase_id = NEW.phase_id
            AND coalesce((NEW.figures -> c.code ->> 'have')::bigint, 0) < c.needed)) THEN
        RAISE EXCEPTION 'complete_evidence_meets_every_condition: a figure is missing'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'complete_evidence_meets_every_condition';
    END IF;
    RETURN NEW;
END $$;

-- Who may sign: a seat of the Foundation that neither quotes in the market nor audits it.
CREATE FUNCTION marketplace_may_sign(somebody text) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT 1 FROM marketplace_seat s JOIN marketplace_user u ON u.id = s.user_id
        JOIN marketplace_party p ON p.id = s.party_id
        WHERE u.email = somebody AND p.kind = 'foundation' AND s.role IN ('owner', 'operations', 'judge', 'admin'))
$$;

CREATE FUNCTION marketplace_sign_off_is_by_a_seat() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT marketplace_may_sign(NEW.person) THEN
        RAISE EXCEPTION 'sign_off_is_by_a_foundation_seat: % may sign no phase', NEW.person
            USING ERRCODE = 'check_violation', CONSTRAINT = 'sign_off_is_by_a_foundation_seat';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_phase_path() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    seen marketplace_phaseevidence%ROWTYPE;
    broken text;
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.is_open AND NEW.no <> 1 THEN
            RAISE EXCEPTION 'phase_starts_closed: only the first phase is open from the start'
                USING ERRCODE = 'check_violation', CONSTRAINT = 'phase_starts_closed';
        END IF;
        RETURN NEW;
    END IF;
    SELECT * INTO seen FROM marketplace_phaseevidence WHERE phase_id = NEW.no ORDER BY id DESC LIMIT 1;
    broken := CASE
        WHEN OLD.is_open THEN 'open_phase_stays'
        WHEN NOT NEW.is_open THEN NULL
        WHEN NOT EXISTS (SELECT 1 FROM marketplace_phase WHERE no = NEW.no - 1 AND is_open)
            THEN 'phase_skips_no_phase'
        WHEN seen.id IS NULL OR NOT seen.is_complete OR seen.hash <> NEW.evidence_hash
            THEN 'phase_opens_on_complete_evidence'
        WHEN EXISTS (SELECT 1 FROM marketplace_signal WHERE freezes_id = NEW.no AND closed_at IS NULL)
            THEN 'frozen_phase_stays_closed'
        WHEN (SELECT count(DISTINCT person) FROM marketplace_phasesignoff WHERE evidence_id = seen.id) < 2
            THEN 'phase_needs_two_sign_offs'
    END;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION '%: phase %', broken, NEW.no USING ERRCODE = 'check_violation', CONSTRAINT = broken;
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_signal_path() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.closed_at IS NOT NULL OR (OLD.kind, OLD.title, OLD.direction, OLD.freezes_id, OLD.owner, OLD.evidence_link,
        OLD.raised_at) IS DISTINCT FROM (NEW.kind, NEW.title, NEW.direction, NEW.freezes_id, NEW.owner,
        NEW.evidence_link, NEW.raised_at) THEN
        RAISE EXCEPTION 'signal_is_closed_once_and_else_stays: %', NEW.title
            USING ERRCODE = 'check_violation', CONSTRAINT = 'signal_is_closed_once_and_else_stays';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_flag_in_its_phase() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.opens_in_phase <> OLD.opens_in_phase THEN
        RAISE EXCEPTION 'flag_keeps_its_phase: % opens in phase %', NEW.name, OLD.opens_in_phase
            USING ERRCODE = 'check_violation', CONSTRAINT = 'flag_keeps_its_phase';
    ELSIF NEW.is_on AND NOT EXISTS (
        SELECT 1 FROM marketplace_phase WHERE no = NEW.opens_in_phase AND is_open) THEN
        RAISE EXCEPTION 'flag_is_on_only_in_its_phase: % opens in phase %', NEW.name, NEW.opens_in_phase
            USING ERRCODE = 'check_violation', CONSTRAINT = 'flag_is_on_only_in_its_phase';
    END IF;
    RETURN NEW;
END $$;
"""

TRIGGERS = """
CREATE TRIGGER admission_path BEFORE INSERT OR UPDATE ON marketplace_admission
    FOR EACH ROW EXECUTE FUNCTION marketplace_admission_path();
CREATE TRIGGER bid_is_let_in BEFORE INSERT OR UPDATE OF window_id, node_class_id, quantity_units, start_slot, end_slot
    ON marketplace_bid FOR EACH ROW EXECUTE FUNCTION marketplace_bid_is_let_in();
CREATE TRIGGER bid_comes_back_let_in BEFORE UPDATE OF state ON marketplace_bid FOR EACH ROW
    WHEN (OLD.state IN ('withdrawn', 'lost') AND NEW.state IN ('sealed', 'opened', 'awarded'))
    EXECUTE FUNCTION marketplace_bid_is_let_in();
CREATE TRIGGER demand_is_the_pairs BEFORE INSERT OR UPDATE OF window_id, party_id ON marketplace_demand
    FOR EACH ROW EXECUTE FUNCTION marketplace_demand_is_the_pairs();
CREATE TRIGGER demand_within_its_line BEFORE INSERT OR UPDATE ON marketplace_demand
    FOR EACH ROW WHEN (NEW.funding_line_id IS NOT NULL AND NEW.state = 'funded')
    EXECUTE FUNCTION marketplace_demand_within_its_line();
CREATE TRIGGER pair_has_its_window BEFORE INSERT ON marketplace_pair
    FOR EACH ROW EXECUTE FUNCTION marketplace_pair_has_its_window();
CREATE TRIGGER gate_rule_in_time BEFORE INSERT ON marketplace_gaterule
    FOR EACH ROW EXECUTE FUNCTION marketplace_gate_rule_in_time();
CREATE TRIGGER funding_line_path BEFORE INSERT OR UPDATE ON marketplace_fundingline
    FOR EACH ROW EXECUTE FUNCTION marketplace_funding_line_path();
CREATE TRIGGER entry_is_its_demand BEFORE INSERT ON marketplace_standingentry
    FOR EACH ROW EXECUTE FUNCTION marketplace_entry_is_its_demand();
CREATE TRIGGER evidence_is_complete BEFORE INSERT ON marketplace_phaseevidence
    FOR EACH ROW EXECUTE FUNCTION marketplace_evidence_is_complete();
CREATE TRIGGER sign_off_is_by_a_seat BEFORE INSERT ON marketplace_phasesignoff
    FOR EACH ROW EXECUTE FUNCTION marketplace_sign_off_is_by_a_seat();
CREATE TRIGGER phase_path BEFORE INSERT OR UPDATE ON marketplace_phase
    FOR EACH ROW EXECUTE FUNCTION marketplace_phase_path();
CREATE TRIGGER signal_path BEFORE UPDATE ON marketplace_signal
    FOR EACH ROW EXECUTE FUNCTION marketplace_signal_path();
CREATE TRIGGER flag_in_its_phase BEFORE INSERT OR UPDATE ON marketplace_flag
    FOR EACH ROW EXECUTE FUNCTION marketplace_flag_in_its_phase();
"""
ON_TABLES = {
    "admission_path": "admission", "bid_is_let_in": "bid", "bid_comes_back_let_in": "bid",
    "demand_is_the_pairs": "demand", "demand_within_its_line": "demand", "pair_has_its_window": "pair",
    "gate_rule_in_time": "gaterule", "funding_line_path": "fundingline", "entry_is_its_demand": "standingentry",
    "evidence_is_complete": "phaseevidence", "sign_off_is_by_a_seat": "phasesignoff", "phase_path": "phase",
    "signal_path": "signal", "flag_in_its_phase": "flag",
}  # fmt: skip
STAYS = "".join(
    f"CREATE TRIGGER {name}_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON marketplace_{name} "
    "FOR EACH STATEMENT EXECUTE FUNCTION marketplace_deny_change();\n"
    for name in APPEND_ONLY
)
# 0005 opened what stood then; a table made later is opened here and takes no DELETE, and an append-only one no UPDATE.
GRANTS = "".join(f"GRANT SELECT, INSERT ON marketplace_{name} TO grove_app;\n" for name in (*APPEND_ONLY, *OPENED))
GRANTS += "".join(f"GRANT UPDATE ON marketplace_{name} TO grove_app;\n" for name in OPENED)
GRANTS += "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO grove_app;\n"
UNDO = (
    "".join(f"DROP TRIGGER {name}_stays ON marketplace_{name};\n" for name in APPEND_ONLY)
    + "".join(f"DROP TRIGGER {name} ON marketplace_{table};\n" for name, table in ON_TABLES.items())
    + """
DROP FUNCTION marketplace_flag_in_its_phase, marketplace_signal_path, marketplace_phase_path,
    marketplace_sign_off_is_by_a_seat, marketplace_may_sign, marketplace_evidence_is_complete,
    marketplace_entry_is_its_demand,
    marketplace_demand_within_its_line, marketplace_funding_line_path, marketplace_gate_rule_in_time,
    marketplace_pair_has_its_window, marketplace_demand_is_the_pairs, marketplace_bid_is_let_in,
    marketplace_admission_path, marketplace_lock_product, marketplace_admitted_unit_hours,
    marketplace_covered_unit_hours, marketplace_funded_unit_hours, marketplace_funded_demand,
    marketplace_delivery_month;
"""
)


class Migration(migrations.Migration):
    dependencies = [("marketplace", "0015_demand_first"), ("ledger", "0008_runtime_role")]
    operations = [
        migrations.RunSQL(PHASES, NO_PHASES),
        migrations.RunSQL(FUNCTIONS + TRIGGERS + STAYS + GRANTS, UNDO),
    ]
