"""Walls: nobody becomes two people by switching the other one off, or by letting himself in a second time."""

from importlib import import_module

from django.db import migrations

APPEND_ONLY = ("passwordlink",)
BEFORE = import_module("marketplace.migrations.0079_walls_of_seats").FUNCTIONS


def before(name: str) -> str:
    """The text of a function as it stood until here."""
    text = BEFORE[BEFORE.index(f"CREATE FUNCTION {name}(") :]
    return text[: text.index("$$;") + 3].replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION") + "\n"


CHANGE_PATH = before("marketplace_spending_change_path")
RULE_BY_TWO = before("marketplace_spending_rule_is_loosened_by_two")
ORDER_BY_TWO = before("marketplace_order_limit_is_loosened_by_two")

FUNCTIONS = """
-- marketplace/parties/two_people.py says why so long; a test compares the two.
CREATE FUNCTION marketplace_one_person_for() RETURNS interval LANGUAGE sql IMMUTABLE AS $$
    SELECT interval '30 days'
$$;

-- Who may be behind a seat at a moment: itself, whoever let it in during the span before, whoever let those in; and,
-- where links count, whoever made a link for another password of one of them. The operator let in nobody.
CREATE FUNCTION marketplace_behind(asked uuid, moment timestamptz, with_links boolean) RETURNS SETOF uuid
LANGUAGE sql STABLE AS $$
    WITH RECURSIVE behind (seat) AS (
        SELECT asked
        UNION
        SELECT h.hand FROM behind b JOIN (
            SELECT i.seat_id AS seat, i.invited_by_id AS hand FROM marketplace_invitation i
            WHERE i.accepted_at > moment - marketplace_one_person_for()
            UNION ALL
            SELECT l.seat_id, l.made_by_id FROM marketplace_passwordlink l
            WHERE with_links AND l.made_at > moment - marketplace_one_person_for()
        ) h ON h.seat = b.seat AND h.hand IS NOT NULL)
    SELECT seat FROM behind
$$;

CREATE FUNCTION marketplace_may_be_one(one uuid, other uuid, moment timestamptz, with_links boolean) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT marketplace_behind(one, moment, with_links) INTERSECT SELECT marketplace_behind(other, moment, with_links))
$$;

-- Whether somebody who is surely not `who`, nor the one whose limit it is, approves in the party or did so lately.
CREATE FUNCTION marketplace_had_another(asked uuid, who uuid, whose uuid, moment timestamptz) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT 1 FROM marketplace_seat s JOIN marketplace_user u ON u.id = s.user_id
        WHERE s.party_id = asked AND s.id IS DISTINCT FROM who AND s.id IS DISTINCT FROM whose
            AND ((s.role IN ('owner', 'approver')
                  AND (u.is_active OR u.switched_off_at > moment - marketplace_one_person_for()))
                 OR s.approved_until > moment - marketplace_one_person_for())
            AND NOT marketplace_may_be_one(s.id, who, moment, false))
$$;

-- Whether what asks less waits: another person is there, or was lately.
CREATE FUNCTION marketplace_waits(asked uuid, who uuid, whose uuid, moment timestamptz) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT marketplace_second_people(asked, who, whose) > 0 OR marketplace_had_another(asked, who, whose, moment)
$$;

-- Who may let it: where there is or was such a person, nobody who may be `who` under another name.
CREATE FUNCTION marketplace_may_let(asked uuid, who uuid, whose uuid, moment timestamptz) RETURNS SETOF uuid
LANGUAGE sql STABLE AS $$
    SELECT s.id FROM marketplace_seat s JOIN marketplace_user u ON u.id = s.user_id AND u.is_active
    WHERE s.party_id = asked AND s.role IN ('owner', 'approver')
        AND s.id IS DISTINCT FROM who AND s.id IS DISTINCT FROM whose
        AND (NOT marketplace_had_another(asked, who, whose, moment)
             OR NOT marketplace_may_be_one(s.id, who, moment, true))
$$;

-- Of the Foundation's people, who are named by their addresses; whoever has no seat there is nobody else.
CREATE FUNCTION marketplace_people_may_be_one(one text, other text, moment timestamptz) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT 1 FROM marketplace_seat a JOIN marketplace_user u ON u.id = a.user_id AND u.email = one,
            marketplace_seat b JOIN marketplace_user v ON v.id = b.user_id AND v.email = other
        WHERE marketplace_may_be_one(a.id, b.id, moment, true))
$$;

CREATE FUNCTION marketplace_seat_says_until_when() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.role IN ('owner', 'approver') AND NEW.role NOT IN ('owner', 'approver') AND NEW.approved_until IS NULL
       OR OLD.approved_until IS NOT NULL AND NEW.role NOT IN ('owner', 'approver')
          AND (NEW.approved_until IS NULL OR NEW.approved_until < OLD.approved_until) THEN
        RAISE EXCEPTION 'a_seat_that_stops_approving_says_when: %', OLD.id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'a_seat_that_stops_approving_says_when';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_approving_limit_is_raised_by_two() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    party uuid := (SELECT s.party_id FROM marketplace_seat s WHERE s.id = NEW.seat_id);
    before bigint := CASE WHEN TG_OP = 'UPDATE' THEN OLD.limit_micros ELSE 0 END;
    let_before uuid := CASE WHEN TG_OP = 'UPDATE' THEN OLD.limit_let_by_id END;
BEGIN
    IF NEW.limit_micros > before
       AND (NEW.set_at IS NULL OR marketplace_waits(party, NEW.limit_set_by_id, NEW.seat_id, NEW.set_at))
       AND (NEW.limit_let_by_id IS NOT DISTINCT FROM let_before OR NOT EXISTS (
            SELECT 1 FROM marketplace_spendingchange c
            WHERE c.id = NEW.limit_let_by_id AND c.seat_id = NEW.seat_id AND c.kind = 'limit' AND c.is_let
                AND c.limit_micros = NEW.limit_micros)) THEN
        RAISE EXCEPTION 'approving_limit_is_raised_by_two: %', NEW.seat_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'approving_limit_is_raised_by_two';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_maker_limits_are_let_by_someone_apart() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.approved_by <> '' AND marketplace_people_may_be_one(NEW.proposed_by, NEW.approved_by, NEW.approved_at) THEN
        RAISE EXCEPTION 'maker_limits_are_let_by_someone_apart: %', NEW.id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'maker_limits_are_let_by_someone_apart';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_phase_is_signed_by_people_apart() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT 1 FROM marketplace_phasesignoff o
        WHERE o.evidence_id = NEW.evidence_id AND o.person <> NEW.person
            AND marketplace_people_may_be_one(o.person, NEW.person, NEW.at)) THEN
        RAISE EXCEPTION 'phase_is_signed_by_people_apart: %', NEW.person
            USING ERRCODE = 'check_violation', CONSTRAINT = 'phase_is_signed_by_people_apart';
    END IF;
    RETURN NEW;
END $$;
""" + CHANGE_PATH.replace(
    "NEW.seat_id, NEW.order_max_micros,", "NEW.seat_id, NEW.order_max_micros, NEW.limit_micros,"
).replace("OLD.seat_id, OLD.order_max_micros,", "OLD.seat_id, OLD.order_max_micros, OLD.limit_micros,").replace(
    "    RETURN NEW;",
    """    IF NEW.is_let AND NOT EXISTS (
        SELECT 1 FROM marketplace_may_let(NEW.party_id, NEW.proposed_by_id, NEW.seat_id, NEW.decided_at) p
        WHERE p = NEW.decided_by_id) THEN
        RAISE EXCEPTION 'spending_change_is_let_by_someone_apart: %', OLD.id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'spending_change_is_let_by_someone_apart';
    END IF;
    RETURN NEW;""",
) + RULE_BY_TWO.replace(
    "AND marketplace_second_people(NEW.party_id, NEW.set_by_id, NULL) > 0",
    "AND (NEW.set_at IS NULL OR marketplace_waits(NEW.party_id, NEW.set_by_id, NULL, NEW.set_at))",
) + ORDER_BY_TWO.replace(
    "AND marketplace_second_people(party, NEW.order_set_by_id, NEW.seat_id) > 0",
    "AND (NEW.set_at IS NULL OR marketplace_waits(party, NEW.order_set_by_id, NEW.seat_id, NEW.set_at))",
)

TRIGGERS = """
CREATE TRIGGER seat_says_until_when BEFORE UPDATE ON marketplace_seat
    FOR EACH ROW EXECUTE FUNCTION marketplace_seat_says_until_when();
CREATE TRIGGER approving_limit_by_two BEFORE INSERT OR UPDATE ON marketplace_seatlimit
    FOR EACH ROW EXECUTE FUNCTION marketplace_approving_limit_is_raised_by_two();
CREATE TRIGGER maker_limits_by_someone_apart BEFORE INSERT OR UPDATE OF approved_by ON marketplace_makerlimits
    FOR EACH ROW EXECUTE FUNCTION marketplace_maker_limits_are_let_by_someone_apart();
CREATE TRIGGER phase_by_people_apart BEFORE INSERT ON marketplace_phasesignoff
    FOR EACH ROW EXECUTE FUNCTION marketplace_phase_is_signed_by_people_apart();
CREATE TRIGGER passwordlink_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON marketplace_passwordlink
    FOR EACH STATEMENT EXECUTE FUNCTION marketplace_deny_change();
GRANT SELECT, INSERT ON marketplace_passwordlink TO grove_app;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO grove_app;
"""

UNDO = """
REVOKE ALL ON marketplace_passwordlink FROM grove_app;
DROP TRIGGER passwordlink_stays ON marketplace_passwordlink;
DROP TRIGGER phase_by_people_apart ON marketplace_phasesignoff;
DROP TRIGGER maker_limits_by_someone_apart ON marketplace_makerlimits;
DROP TRIGGER approving_limit_by_two ON marketplace_seatlimit;
DROP TRIGGER seat_says_until_when ON marketplace_seat;
DROP FUNCTION marketplace_phase_is_signed_by_people_apart, marketplace_maker_limits_are_let_by_someone_apart,
    marketplace_approving_limit_is_raised_by_two, marketplace_seat_says_until_when;
""" + CHANGE_PATH + RULE_BY_TWO + ORDER_BY_TWO + """
DROP FUNCTION marketplace_people_may_be_one, marketplace_may_let, marketplace_waits, marketplace_had_another,
    marketplace_may_be_one, marketplace_behind, marketplace_one_person_for;
"""


class Migration(migrations.Migration):
    dependencies = [("marketplace", "0084_two_people_stay_two")]
    operations = [migrations.RunSQL(FUNCTIONS + TRIGGERS, UNDO)]
