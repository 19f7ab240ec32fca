"""Walls of compliance: evidence has two persons, agreements their signatories, and no award goes around either."""

from django.db import migrations

APPEND_ONLY = (
    "evidence", "evidencereview", "evidenceend", "agreement", "agreementsignature", "agreementend", "zonechange",
    "zonereport", "incidentstep",
)
NEW_TABLES = (*APPEND_ONLY, "control", "tiercontrol", "tierzone", "kindlimit", "dataclass", "incident")

FUNCTIONS = """
CREATE FUNCTION marketplace_evidence_is_handed_in() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    broken text;
BEGIN
    broken := CASE
        WHEN (SELECT party_id FROM marketplace_seat WHERE id = NEW.seat_id) <> NEW.party_id THEN 'evidence_is_of_ones_own'
        WHEN NEW.site_id IS NOT NULL AND (SELECT party_id FROM marketplace_site WHERE id = NEW.site_id) <> NEW.party_id
            THEN 'evidence_is_of_ones_own_site'
        WHEN NEW.sha256 <> sha256(NEW.body) THEN 'evidence_hash_is_of_its_body'
        WHEN ((SELECT kind FROM marketplace_control WHERE code = NEW.control_id) = 'legal_control')
             <> (NEW.country ~ '^[A-Z]{2}$') THEN 'evidence_of_legal_control_names_a_country'
    END;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION '%: %', broken, NEW.file_name USING ERRCODE = 'check_violation', CONSTRAINT = broken;
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_evidence_is_reviewed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    broken text;
BEGIN
    SELECT CASE
        WHEN who.user_id = handed.user_id OR who.party_id = e.party_id THEN 'evidence_is_reviewed_by_a_second_person'
        WHEN p.kind <> 'foundation' OR who.role NOT IN ('operations', 'judge', 'admin')
            THEN 'evidence_is_reviewed_by_who_may'
        WHEN NEW.is_accepted AND e.valid_until <= NEW.at THEN 'evidence_is_accepted_before_it_ends'
    END INTO broken
    FROM marketplace_evidence e JOIN marketplace_seat handed ON handed.id = e.seat_id
        JOIN marketplace_seat who ON who.id = NEW.seat_id JOIN marketplace_party p ON p.id = who.party_id
    WHERE e.id = NEW.evidence_id;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION '%: %', broken, NEW.evidence_id USING ERRCODE = 'check_violation', CONSTRAINT = broken;
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_agreement_is_proposed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    broken text;
BEGIN
    broken := CASE
        WHEN NEW.sha256 <> sha256(NEW.body) THEN 'agreement_hash_is_of_its_body'
        WHEN (SELECT kind FROM marketplace_control WHERE code = NEW.control_id) <> 'agreement'
            THEN 'agreement_is_of_a_kind_of_agreement'
    END;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION '%: %', broken, NEW.file_name USING ERRCODE = 'check_violation', CONSTRAINT = broken;
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_agreement_is_signed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT 1 FROM marketplace_agreement a JOIN marketplace_seat s ON s.id = NEW.seat_id
        WHERE a.id = NEW.agreement_id AND s.party_id = NEW.party_id
          AND ((NEW.party_id = a.buyer_id AND s.role = 'owner')
               OR (NEW.party_id = a.provider_id AND s.role IN ('owner', 'compliance')))) THEN
        RAISE EXCEPTION 'agreement_is_signed_by_who_may: %', NEW.seat_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'agreement_is_signed_by_who_may';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_zone_past_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR (NEW.zone_id, NEW.country, NEW.valid_from) IS DISTINCT FROM
       (OLD.zone_id, OLD.country, OLD.valid_from) OR NEW.valid_until IS NULL
       OR NEW.valid_until <= CURRENT_DATE OR OLD.valid_until <= CURRENT_DATE THEN
        RAISE EXCEPTION 'zone_member_only_ends: the past of a list is not rewritten'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'zone_member_only_ends';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_node_class_suits_its_kind() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.tier > coalesce((SELECT k.tier_max FROM marketplace_kindlimit k JOIN marketplace_party p ON p.kind = k.kind
                            WHERE p.id = NEW.party_id), 3) THEN
        RAISE EXCEPTION 'node_class_tier_suits_its_kind: T%', NEW.tier
            USING ERRCODE = 'check_violation', CONSTRAINT = 'node_class_tier_suits_its_kind';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_demand_data_is_admitted() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    k marketplace_dataclass%ROWTYPE;
    broken text;
BEGIN
    IF TG_OP = 'UPDATE' AND (NEW.data_class_id, NEW.purpose, NEW.required_controls, NEW.tier_min)
       IS NOT DISTINCT FROM (OLD.data_class_id, OLD.purpose, OLD.required_controls, OLD.tier_min) THEN
        RETURN NEW;
    END IF;
    SELECT * INTO k FROM marketplace_dataclass WHERE code = NEW.data_class_id;
    broken := CASE
        WHEN TG_OP = 'UPDATE' AND (SELECT state FROM marketplace_window WHERE id = NEW.window_id) <> 'COLLECTING'
            THEN 'demand_data_is_frozen_after_collecting'
        WHEN k.is_refused THEN 'demand_data_is_not_refused'
        WHEN NEW.tier_min < k.tier_min THEN 'demand_tier_suits_its_data'
        WHEN (k.agreement_id IS NOT NULL) <> (NEW.purpose <> '') THEN 'demand_purpose_is_of_data_under_agreement'
    END;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION '%: %', broken, NEW.reference USING ERRCODE = 'check_violation', CONSTRAINT = broken;
    END IF;
    RETURN NEW;
END $$;

-- Who stands above a party in the end.
CREATE FUNCTION marketplace_top_owner(asked uuid) RETURNS uuid LANGUAGE sql STABLE AS $$
    WITH RECURSIVE above(id, parent_id) AS (
        SELECT p.id, p.parent_id FROM marketplace_party p WHERE p.id = asked
        UNION
        SELECT p.id, p.parent_id FROM marketplace_party p JOIN above ON p.id = above.parent_id)
    SELECT id FROM above WHERE parent_id IS NULL
$$;

-- Whether accepted evidence shows the control for the site through the whole span; '' is any country.
CREATE FUNCTION marketplace_holds(asked_site uuid, asked_control text, asked_country text, from_at timestamptz,
                                  until_at timestamptz) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT 1 FROM marketplace_evidence e JOIN marketplace_evidencereview r ON r.evidence_id = e.id
            JOIN marketplace_site s ON s.id = asked_site
        WHERE e.party_id = s.party_id AND (e.site_id IS NULL OR e.site_id = s.id) AND e.control_id = asked_control
          AND r.is_accepted AND e.valid_from <= from_at AND e.valid_until >= until_at
          AND (asked_country = '' OR e.country = asked_country)
          AND NOT EXISTS (SELECT 1 FROM marketplace_evidenceend x WHERE x.evidence_id = e.id))
$$;

-- The highest tier whose controls, and those of all tiers below it, the site holds through the whole span.
CREATE FUNCTION marketplace_tier_held(asked_site uuid, from_at timestamptz, until_at timestamptz) RETURNS int
LANGUAGE sql STABLE AS $$
    SELECT coalesce(min(failing.level) - 1, (SELECT k.tier_max FROM marketplace_kindlimit k
        JOIN marketplace_party p ON p.kind = k.kind JOIN marketplace_site s ON s.party_id = p.id
        WHERE s.id = asked_site), 0)
    FROM generate_series(1, 3) AS failing(level)
    WHERE failing.level > coalesce((SELECT k.tier_max FROM marketplace_kindlimit k
              JOIN marketplace_party p ON p.kind = k.kind JOIN marketplace_site s ON s.party_id = p.id
              WHERE s.id = asked_site), 0)
       OR NOT EXISTS (SELECT 1 FROM marketplace_tiercontrol c WHERE c.tier_id = failing.level)
       OR EXISTS (SELECT 1 FROM marketplace_tiercontrol c WHERE c.tier_id <= failing.level
                  AND NOT marketplace_holds(asked_site, c.control_id, '', from_at, until_at))
       OR (EXISTS (SELECT 1 FROM marketplace_tierzone z WHERE z.tier_id = failing.level)
           AND NOT EXISTS (SELECT 1 FROM marketplace_tierzone z JOIN marketplace_site s ON s.id = asked_site
                           WHERE z.tier_id = failing.level AND marketplace_in_zone(
                               z.zone_id, s.country, (from_at AT TIME ZONE 'UTC')::date)))
$$;

-- The second refusal of what needs papers: tier by evidence, controls, agreements, legal control, and no frozen party.
CREATE FUNCTION marketplace_award_has_its_papers() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    d marketplace_demand%ROWTYPE;
    b marketplace_bid%ROWTYPE;
    n marketplace_nodeclass%ROWTYPE;
    s marketplace_site%ROWTYPE;
    k marketplace_dataclass%ROWTYPE;
    top marketplace_party%ROWTYPE;
    from_at timestamptz;
    until_at timestamptz;
    held_tier int;
    broken text;
BEGIN
    SELECT * INTO d FROM marketplace_demand WHERE id = NEW.demand_id;
    SELECT * INTO b FROM marketplace_bid WHERE id = NEW.bid_id;
    SELECT * INTO n FROM marketplace_nodeclass WHERE id = b.node_class_id;
    SELECT * INTO s FROM marketplace_site WHERE id = n.site_id;
    SELECT * INTO k FROM marketplace_dataclass WHERE code = d.data_class_id;
    SELECT * INTO top FROM marketplace_party WHERE id = marketplace_top_owner(b.party_id);
    SELECT w.starts_at, w.starts_at + make_interval(hours => w.slots) INTO from_at, until_at
        FROM marketplace_window w WHERE w.id = d.window_id;
    held_tier := 0;
    -- Asked only where it matters: it costs a dozen look-ups.
    IF greatest(d.tier_min, coalesce(k.tier_min, 0)) > 0
       OR EXISTS (SELECT 1 FROM marketplace_incident i WHERE i.is_frozen AND i.tier IS NOT NULL) THEN
        held_tier := least(n.tier, marketplace_tier_held(s.id, from_at, until_at));
    END IF;
    broken := CASE
        WHEN k.is_refused THEN 'award_is_of_no_refused_data'
        WHEN d.tier_min > coalesce((SELECT l.tier_max FROM marketplace_kindlimit l JOIN marketplace_party p
            ON p.kind = l.kind WHERE p.id = s.party_id), 0) THEN 'award_suits_the_kind_of_provider'
        WHEN held_tier < greatest(d.tier_min, coalesce(k.tier_min, 0)) THEN 'award_holds_every_control_of_the_tier'
        WHEN EXISTS (SELECT 1 FROM unnest(d.required_controls || coalesce(k.controls, '{}')) AS c(code)
                     WHERE NOT marketplace_holds(s.id, c.code, '', from_at, until_at))
            THEN 'award_holds_every_asked_control'
        WHEN k.zone_id IS NOT NULL AND NOT marketplace_in_zone(k.zone_id, s.country,
            (from_at AT TIME ZONE 'UTC')::date) THEN 'award_keeps_data_in_its_zone'
        WHEN d.control_zone_id IS NOT NULL AND NOT marketplace_in_zone(d.control_zone_id, top.parent_country,
            (from_at AT TIME ZONE 'UTC')::date) THEN 'award_keeps_the_ultimate_parent'
        WHEN d.control_zone_id IS NOT NULL AND NOT (
            marketplace_holds(s.id, 'ultimate-parent', top.parent_country, from_at, until_at)
            AND marketplace_holds(s.id, 'staff-location', s.operator_country, from_at, until_at)
            AND marketplace_holds(s.id, 'key-custody', s.keys_country, from_at, until_at))
            THEN 'award_proves_legal_control'
        WHEN k.agreement_id IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM marketplace_agreement a
            WHERE a.control_id = k.agreement_id AND a.buyer_id = d.party_id AND a.provider_id = b.party_id
              AND d.purpose = ANY (a.purposes) AND a.valid_from <= from_at AND a.valid_until >= until_at
              AND NOT EXISTS (SELECT 1 FROM marketplace_agreementend x WHERE x.agreement_id = a.id)
              AND EXISTS (SELECT 1 FROM marketplace_agreementsignature g WHERE g.agreement_id = a.id
                          AND g.party_id = a.buyer_id)
              AND EXISTS (SELECT 1 FROM marketplace_agreementsignature g WHERE g.agreement_id = a.id
                          AND g.party_id = a.provider_id))
            THEN 'award_has_the_agreement_of_both'
        WHEN EXISTS (
            SELECT 1 FROM marketplace_incident i WHERE i.is_frozen
              AND (i.party_id IS NULL OR i.party_id = b.party_id)
              AND (i.resource_class_id IS NULL OR i.resource_class_id = n.resource_class_id)
              AND (i.tier IS NULL OR i.tier = held_tier)
              AND marketplace_in_zone(i.zone_id, s.country, (from_at AT TIME ZONE 'UTC')::date))
            THEN 'award_is_of_nothing_frozen'
    END;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION '%: demand % cannot be served by bid %', broken, d.reference, b.reference
            USING ERRCODE = 'check_violation', CONSTRAINT = broken;
    END IF;
    RETURN NEW;
END $$;
"""

TRIGGERS = """
CREATE TRIGGER evidence_is_handed_in BEFORE INSERT ON marketplace_evidence
    FOR EACH ROW EXECUTE FUNCTION marketplace_evidence_is_handed_in();
CREATE TRIGGER evidence_is_reviewed BEFORE INSERT ON marketplace_evidencereview
    FOR EACH ROW EXECUTE FUNCTION marketplace_evidence_is_reviewed();
CREATE TRIGGER agreement_is_proposed BEFORE INSERT ON marketplace_agreement
    FOR EACH ROW EXECUTE FUNCTION marketplace_agreement_is_proposed();
CREATE TRIGGER agreement_is_signed BEFORE INSERT ON marketplace_agreementsignature
    FOR EACH ROW EXECUTE FUNCTION marketplace_agreement_is_signed();
CREATE TRIGGER zone_past_stays BEFORE UPDATE OR DELETE ON marketplace_zonemember
    FOR EACH ROW EXECUTE FUNCTION marketplace_zone_past_stays();
CREATE TRIGGER node_class_suits_its_kind BEFORE INSERT OR UPDATE OF tier, party_id ON marketplace_nodeclass
    FOR EACH ROW EXECUTE FUNCTION marketplace_node_class_suits_its_kind();
CREATE TRIGGER demand_data_is_admitted BEFORE INSERT OR UPDATE ON marketplace_demand
    FOR EACH ROW EXECUTE FUNCTION marketplace_demand_data_is_admitted();
CREATE TRIGGER award_has_its_papers BEFORE INSERT ON marketplace_award
    FOR EACH ROW EXECUTE FUNCTION marketplace_award_has_its_papers();
""" + "".join(
    f"CREATE TRIGGER {name}_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON marketplace_{name} "
    "FOR EACH STATEMENT EXECUTE FUNCTION marketplace_deny_change();\n"
    for name in APPEND_ONLY
)

GRANTS = (
    f"GRANT SELECT, INSERT ON {', '.join(f'marketplace_{name}' for name in NEW_TABLES)} TO grove_app;\n"
    "GRANT UPDATE ON marketplace_incident TO grove_app;\n"
    "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO grove_app;\n"
)

UNDO = (
    f"REVOKE ALL ON {', '.join(f'marketplace_{name}' for name in NEW_TABLES)} FROM grove_app;\n"
    + "".join(f"DROP TRIGGER {name}_stays ON marketplace_{name};\n" for name in APPEND_ONLY)
    + """
DROP TRIGGER award_has_its_papers ON marketplace_award;
DROP TRIGGER demand_data_is_admitted ON marketplace_demand;
DROP TRIGGER node_class_suits_its_kind ON marketplace_nodeclass;
DROP TRIGGER zone_past_stays ON marketplace_zonemember;
DROP TRIGGER agreement_is_signed ON marketplace_agreementsignature;
DROP TRIGGER agreement_is_proposed ON marketplace_agreement;
DROP TRIGGER evidence_is_reviewed ON marketplace_evidencereview;
DROP TRIGGER evidence_is_handed_in ON marketplace_evidence;
DROP FUNCTION marketplace_award_has_its_papers, marketplace_tier_held, marketplace_holds, marketplace_top_owner,
    marketplace_demand_data_is_admitted, marketplace_node_class_suits_its_kind, marketplace_zone_past_stays,
    marketplace_agreement_is_signed, marketplace_agreement_is_proposed, marketplace_evidence_is_reviewed,
    marketplace_evidence_is_handed_in;
"""
)


class Migration(migrations.Migration):
    dependencies = [("marketplace", "0011_compliance_rows")]
    operations = [migrations.RunSQL(FUNCTIONS + TRIGGERS + GRANTS, UNDO)]
