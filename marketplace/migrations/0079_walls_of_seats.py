"""Walls: the last owner stays, a link is used once, and nobody alone asks less of himself than the rules did."""

from importlib import import_module

from django.db import migrations

BEFORE = import_module("marketplace.migrations.0028_one_place_for_each").FUNCTIONS
AFFORDABLE = BEFORE.replace(
    "        WHEN hold > r.threshold_micros AND r.needs_purchase_order",
    "        WHEN NEW.state <> 'pending' AND hold > (\n"
    "            SELECT l.order_max_micros FROM marketplace_seatlimit l WHERE l.seat_id = NEW.posted_by_id)\n"
    "            AND NOT EXISTS (SELECT 1 FROM marketplace_demandapproval a WHERE a.demand_id = NEW.id AND a.is_approved)\n"
    "            THEN 'demand_over_its_seats_limit_is_approved'\n"
    "        WHEN hold > r.threshold_micros AND r.needs_purchase_order",
)
assert AFFORDABLE != BEFORE

FUNCTIONS = """
-- The role that gives and takes seats in a party: without it nobody could ever again.
CREATE FUNCTION marketplace_is_last_owner(asked uuid) RETURNS boolean LANGUAGE sql VOLATILE AS $$
    SELECT EXISTS (
        SELECT 1 FROM marketplace_seat s JOIN marketplace_user u ON u.id = s.user_id AND u.is_active
            JOIN marketplace_party p ON p.id = s.party_id
        WHERE s.id = asked AND (s.role, p.kind = 'foundation') IN (('owner', false), ('admin', true))
            AND NOT EXISTS (
                SELECT 1 FROM marketplace_seat o JOIN marketplace_user v ON v.id = o.user_id AND v.is_active
                WHERE o.party_id = s.party_id AND o.role = s.role AND o.id <> s.id))
$$;

CREATE FUNCTION marketplace_party_keeps_an_owner() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    asked uuid;
BEGIN
    IF TG_TABLE_NAME = 'marketplace_user' THEN
        SELECT s.id INTO asked FROM marketplace_seat s WHERE s.user_id = OLD.id;
    ELSE
        asked := OLD.id;
    END IF;
    -- Two owners who switch each other off wait for each other here: the second finds itself the last.
    PERFORM pg_advisory_xact_lock(hashtext('owners'), hashtext(s.party_id::text))
        FROM marketplace_seat s WHERE s.id = asked;
    IF marketplace_is_last_owner(asked) THEN
        RAISE EXCEPTION 'the_last_owner_stays: %', asked
            USING ERRCODE = 'check_violation', CONSTRAINT = 'the_last_owner_stays';
    END IF;
    RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
END $$;

CREATE FUNCTION marketplace_invitation_is_used_once() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.accepted_at IS NOT NULL OR OLD.withdrawn_at IS NOT NULL
       OR (NEW.id, NEW.party_id, NEW.email, NEW.role, NEW.secret_sha256, NEW.invited_by_id, NEW.invited_at,
           NEW.expires_at) IS DISTINCT FROM
          (OLD.id, OLD.party_id, OLD.email, OLD.role, OLD.secret_sha256, OLD.invited_by_id, OLD.invited_at,
           OLD.expires_at) THEN
        RAISE EXCEPTION 'an_invitation_is_used_once: %', OLD.id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'an_invitation_is_used_once';
    END IF;
    IF NEW.seat_id IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM marketplace_seat s JOIN marketplace_user u ON u.id = s.user_id
        WHERE s.id = NEW.seat_id AND s.party_id = NEW.party_id AND s.role = NEW.role AND u.email = NEW.email) THEN
        RAISE EXCEPTION 'an_invitation_gives_the_seat_it_names: %', OLD.id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'an_invitation_gives_the_seat_it_names';
    END IF;
    RETURN NEW;
END $$;

-- How many people of a party could let a change: whoever approves demands, is neither who asks nor whose limit it is.
CREATE FUNCTION marketplace_second_people(asked uuid, who uuid, whose uuid) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT count(*) FROM marketplace_seat s JOIN marketplace_user u ON u.id = s.user_id AND u.is_active
    WHERE s.party_id = asked AND s.role IN ('owner', 'approver')
        AND s.id IS DISTINCT FROM who AND s.id IS DISTINCT FROM whose
$$;

CREATE FUNCTION marketplace_spending_change_path() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.decided_at IS NOT NULL OR OLD.withdrawn_at IS NOT NULL
       OR (NEW.id, NEW.party_id, NEW.kind, NEW.threshold_micros, NEW.approvals_needed, NEW.needs_purchase_order,
           NEW.seat_id, NEW.order_max_micros, NEW.proposed_by_id, NEW.proposed_at) IS DISTINCT FROM
          (OLD.id, OLD.party_id, OLD.kind, OLD.threshold_micros, OLD.approvals_needed, OLD.needs_purchase_order,
           OLD.seat_id, OLD.order_max_micros, OLD.proposed_by_id, OLD.proposed_at) THEN
        RAISE EXCEPTION 'spending_change_stays_as_proposed: %', OLD.id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'spending_change_stays_as_proposed';
    END IF;
    IF NEW.decided_by_id IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM marketplace_seat s JOIN marketplace_user u ON u.id = s.user_id AND u.is_active
        WHERE s.id = NEW.decided_by_id AND s.party_id = NEW.party_id AND s.role IN ('owner', 'approver')) THEN
        RAISE EXCEPTION 'spending_change_is_decided_by_who_may: %', OLD.id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'spending_change_is_decided_by_who_may';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_spending_rule_is_loosened_by_two() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.threshold_micros > OLD.threshold_micros OR NEW.approvals_needed < OLD.approvals_needed
        OR (OLD.needs_purchase_order AND NOT NEW.needs_purchase_order))
       AND marketplace_second_people(NEW.party_id, NEW.set_by_id, NULL) > 0
       AND (NEW.let_by_id IS NOT DISTINCT FROM OLD.let_by_id OR NOT EXISTS (
            SELECT 1 FROM marketplace_spendingchange c
            WHERE c.id = NEW.let_by_id AND c.party_id = NEW.party_id AND c.kind = 'rule' AND c.is_let
                AND (c.threshold_micros, c.approvals_needed, c.needs_purchase_order)
                    = (NEW.threshold_micros, NEW.approvals_needed, NEW.needs_purchase_order))) THEN
        RAISE EXCEPTION 'spending_rule_is_loosened_by_two: %', NEW.party_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'spending_rule_is_loosened_by_two';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_order_limit_is_loosened_by_two() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    party uuid := (SELECT s.party_id FROM marketplace_seat s WHERE s.id = NEW.seat_id);
BEGIN
    IF OLD.order_max_micros IS NOT NULL
       AND (NEW.order_max_micros IS NULL OR NEW.order_max_micros > OLD.order_max_micros)
       AND marketplace_second_people(party, NEW.order_set_by_id, NEW.seat_id) > 0
       AND (NEW.order_let_by_id IS NOT DISTINCT FROM OLD.order_let_by_id OR NOT EXISTS (
            SELECT 1 FROM marketplace_spendingchange c
            WHERE c.id = NEW.order_let_by_id AND c.seat_id = NEW.seat_id AND c.kind = 'order_limit' AND c.is_let
                AND c.order_max_micros IS NOT DISTINCT FROM NEW.order_max_micros)) THEN
        RAISE EXCEPTION 'order_limit_is_loosened_by_two: %', NEW.seat_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'order_limit_is_loosened_by_two';
    END IF;
    RETURN NEW;
END $$;

-- Whoever quotes for the Foundation does not say how far: not for oneself, and not two for each other.
CREATE FUNCTION marketplace_maker_limits_are_let_by_another_role() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.approved_by <> '' AND EXISTS (
        SELECT 1 FROM marketplace_seat s JOIN marketplace_user u ON u.id = s.user_id
            JOIN marketplace_party p ON p.id = s.party_id AND p.kind = 'foundation'
        WHERE u.email = NEW.approved_by AND s.role = 'market_maker') THEN
        RAISE EXCEPTION 'maker_limits_are_let_by_another_role: %', NEW.id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'maker_limits_are_let_by_another_role';
    END IF;
    RETURN NEW;
END $$;
"""

TRIGGERS = """
CREATE TRIGGER seat_keeps_an_owner BEFORE UPDATE OF role, party_id, user_id ON marketplace_seat
    FOR EACH ROW WHEN ((OLD.role, OLD.party_id, OLD.user_id) IS DISTINCT FROM (NEW.role, NEW.party_id, NEW.user_id))
    EXECUTE FUNCTION marketplace_party_keeps_an_owner();
CREATE TRIGGER seat_goes_and_an_owner_stays BEFORE DELETE ON marketplace_seat
    FOR EACH ROW EXECUTE FUNCTION marketplace_party_keeps_an_owner();
CREATE TRIGGER user_keeps_an_owner BEFORE UPDATE OF is_active ON marketplace_user
    FOR EACH ROW WHEN (OLD.is_active AND NOT NEW.is_active) EXECUTE FUNCTION marketplace_party_keeps_an_owner();
CREATE TRIGGER invitation_used_once BEFORE UPDATE ON marketplace_invitation
    FOR EACH ROW EXECUTE FUNCTION marketplace_invitation_is_used_once();
CREATE TRIGGER spending_change_path BEFORE UPDATE ON marketplace_spendingchange
    FOR EACH ROW EXECUTE FUNCTION marketplace_spending_change_path();
CREATE TRIGGER spending_rule_by_two BEFORE UPDATE ON marketplace_spendingrule
    FOR EACH ROW EXECUTE FUNCTION marketplace_spending_rule_is_loosened_by_two();
CREATE TRIGGER order_limit_by_two BEFORE UPDATE ON marketplace_seatlimit
    FOR EACH ROW EXECUTE FUNCTION marketplace_order_limit_is_loosened_by_two();
CREATE TRIGGER maker_limits_by_another_role BEFORE INSERT OR UPDATE OF approved_by ON marketplace_makerlimits
    FOR EACH ROW EXECUTE FUNCTION marketplace_maker_limits_are_let_by_another_role();
"""

GRANTS = """
GRANT SELECT, INSERT ON marketplace_invitation, marketplace_spendingchange TO grove_app;
GRANT UPDATE (accepted_at, seat_id, withdrawn_at) ON marketplace_invitation TO grove_app;
GRANT UPDATE (decided_by_id, decided_at, is_let, reason, withdrawn_at) ON marketplace_spendingchange TO grove_app;
"""

UNDO = """
DROP TRIGGER maker_limits_by_another_role ON marketplace_makerlimits;
DROP TRIGGER order_limit_by_two ON marketplace_seatlimit;
DROP TRIGGER spending_rule_by_two ON marketplace_spendingrule;
DROP TRIGGER spending_change_path ON marketplace_spendingchange;
DROP TRIGGER invitation_used_once ON marketplace_invitation;
DROP TRIGGER user_keeps_an_owner ON marketplace_user;
DROP TRIGGER seat_goes_and_an_owner_stays ON marketplace_seat;
DROP TRIGGER seat_keeps_an_owner ON marketplace_seat;
DROP FUNCTION marketplace_maker_limits_are_let_by_another_role, marketplace_order_limit_is_loosened_by_two,
    marketplace_spending_rule_is_loosened_by_two, marketplace_spending_change_path, marketplace_second_people,
    marketplace_invitation_is_used_once, marketplace_party_keeps_an_owner, marketplace_is_last_owner;
"""


class Migration(migrations.Migration):
    dependencies = [("marketplace", "0078_seats_are_invited")]
    operations = [migrations.RunSQL(AFFORDABLE, BEFORE), migrations.RunSQL(FUNCTIONS + TRIGGERS + GRANTS, UNDO)]
