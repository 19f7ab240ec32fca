"""Walls of the seal: no terms in clear before the close, seals written once, shares given after the close only."""

from django.db import migrations

APPEND_ONLY = ("holderkey",)

FUNCTIONS = """
CREATE FUNCTION marketplace_bid_under_seal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF num_nonnulls(NEW.quantity_units, NEW.start_slot, NEW.end_slot, NEW.price_ask_micros, NEW.minimum_units,
                    NEW.sla_id) > 0
       AND (SELECT state FROM marketplace_window WHERE id = NEW.window_id) IN ('COLLECTING', 'BIDDING') THEN
        RAISE EXCEPTION 'bid_lies_under_seal_before_close: terms are written when bidding is over'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'bid_lies_under_seal_before_close';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_seal_is_final() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.bid_id, NEW.body, NEW.key_for_party, NEW.party_key_version, NEW.commitment) IS DISTINCT FROM
       (OLD.bid_id, OLD.body, OLD.key_for_party, OLD.party_key_version, OLD.commitment)
       OR (NEW.key_for_window <> OLD.key_for_window AND NEW.key_for_window <> ''::bytea) THEN
        RAISE EXCEPTION 'seal_is_written_once: a seal can only be closed for good'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'seal_is_written_once';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_share_in_time() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    broken text;
BEGIN
    broken := CASE
        WHEN (NEW.window_key_id, NEW.number, NEW.commitment) IS DISTINCT FROM
             (OLD.window_key_id, OLD.number, OLD.commitment) THEN 'share_stays_what_was_dealt'
        WHEN NEW.released IS NOT NULL AND sha256(NEW.released) <> NEW.commitment THEN 'share_is_the_one_dealt'
        WHEN NEW.released IS NOT NULL AND OLD.released IS NULL AND NEW.released_at < (
            SELECT bidding_closes_at FROM marketplace_window WHERE id = NEW.window_key_id)
            THEN 'share_is_released_after_close'
    END;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION '%: share % of window %', broken, NEW.number, NEW.window_key_id
            USING ERRCODE = 'check_violation', CONSTRAINT = broken;
    END IF;
    RETURN NEW;
END $$;
"""

TRIGGERS = """
CREATE TRIGGER bid_under_seal BEFORE INSERT OR UPDATE ON marketplace_bid
    FOR EACH ROW EXECUTE FUNCTION marketplace_bid_under_seal();
CREATE TRIGGER seal_is_final BEFORE UPDATE ON marketplace_bidseal
    FOR EACH ROW EXECUTE FUNCTION marketplace_seal_is_final();
CREATE TRIGGER share_in_time BEFORE UPDATE ON marketplace_windowshare
    FOR EACH ROW EXECUTE FUNCTION marketplace_share_in_time();
""" + "".join(
    f"CREATE TRIGGER {name}_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON marketplace_{name} "
    "FOR EACH STATEMENT EXECUTE FUNCTION marketplace_deny_change();\n"
    for name in APPEND_ONLY
)

GRANTS = """
GRANT SELECT, INSERT ON marketplace_bidseal, marketplace_keyholder, marketplace_holderkey, marketplace_windowkey,
    marketplace_windowshare TO grove_app;
GRANT UPDATE (key_for_window) ON marketplace_bidseal TO grove_app;
GRANT UPDATE (retired_at) ON marketplace_keyholder TO grove_app;
GRANT UPDATE (ended_at, ended_by) ON marketplace_windowkey TO grove_app;
GRANT UPDATE (holder_key_id, locked, released, released_at, lost_at, lost_because) ON marketplace_windowshare
    TO grove_app;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO grove_app;
"""

UNDO = (
    "".join(f"DROP TRIGGER {name}_stays ON marketplace_{name};\n" for name in APPEND_ONLY)
    + """
DROP TRIGGER share_in_time ON marketplace_windowshare;
DROP TRIGGER seal_is_final ON marketplace_bidseal;
DROP TRIGGER bid_under_seal ON marketplace_bid;
DROP FUNCTION marketplace_share_in_time, marketplace_seal_is_final, marketplace_bid_under_seal;
"""
)


class Migration(migrations.Migration):
    dependencies = [("marketplace", "0017_sealed_bids")]
    operations = [migrations.RunSQL(FUNCTIONS + TRIGGERS + GRANTS, UNDO)]
