"""What each phase switches on, as rows, and the walls that keep it off until then."""

from django.db import migrations

# name, the phase it opens in, what it waits for
EFFECTS = (
    ("demand_funding", 1, "demand is what the first phase is for"),
    ("bilateral_windows", 1, "useful with one buyer and one university, before any market"),
    ("standing_demand", 2, "demand that lasts follows demand that was validated"),
    ("market_bids", 3, "providers bid once universities have proven what they have"),
    ("public_market", 3, "results of market windows are published from the pilot on"),
    ("escrow_locks", 3, "money of market windows is locked from the pilot on"),
    ("slashing", 3, "stake is taken from the pilot on; credits are paid before"),
)
ROWS = "INSERT INTO marketplace_flag (name, is_on, opens_in_phase, reason) VALUES\n" + ",\n".join(
    f"    ('{name}', EXISTS (SELECT 1 FROM marketplace_phase WHERE no = {no} AND is_open), {no}, '{reason}')"
    for name, no, reason in EFFECTS
) + "\nON CONFLICT DO NOTHING;"  # fmt: skip
NO_ROWS = "DELETE FROM marketplace_flag WHERE name IN ({});".format(", ".join(f"'{name}'" for name, _, _ in EFFECTS))

FUNCTIONS = """
CREATE FUNCTION marketplace_effect_is_on(effect text) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT coalesce((SELECT is_on FROM marketplace_flag WHERE name = effect), false)
$$;

-- The effect is the trigger's argument; what belongs to a window between two waits for no phase of the market.
CREATE FUNCTION marketplace_waits_for_its_phase() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    broken text;
BEGIN
    IF marketplace_effect_is_on(TG_ARGV[0]) THEN
        RETURN NEW;
    END IF;
    IF TG_TABLE_NAME IN ('marketplace_bid', 'marketplace_lease', 'marketplace_clearing') AND
       (SELECT kind FROM marketplace_window WHERE id = (to_jsonb(NEW) ->> 'window_id')::uuid) = 'bilateral' THEN
        RETURN NEW;
    END IF;
    broken := CASE TG_NAME
        WHEN 'prosumer_in_its_phase' THEN 'prosumer_waits_for_its_phase'
        WHEN 'funding_in_its_phase' THEN 'funding_waits_for_its_phase'
        WHEN 'standing_demand_in_its_phase' THEN 'standing_demand_waits_for_its_phase'
        WHEN 'pair_in_its_phase' THEN 'bilateral_window_waits_for_its_phase'
        WHEN 'bidding_in_its_phase' THEN 'bidding_waits_for_its_phase'
        WHEN 'bid_in_its_phase' THEN 'bid_waits_for_its_phase'
        WHEN 'clearing_in_its_phase' THEN 'clearing_waits_for_its_phase'
        WHEN 'lease_in_its_phase' THEN 'lock_waits_for_its_phase'
        WHEN 'slash_in_its_phase' THEN 'slash_waits_for_its_phase'
    END;
    RAISE EXCEPTION '%: % is off', broken, TG_ARGV[0] USING ERRCODE = 'check_violation', CONSTRAINT = broken;
END $$;
"""
# trigger, when it fires, table, effect
WAITS = (
    ("prosumer", "INSERT OR UPDATE OF kind", "party", "WHEN (NEW.kind = 'prosumer')", "prosumer_parties"),
    ("funding", "INSERT OR UPDATE OF state", "demand", "WHEN (NEW.state = 'funded')", "demand_funding"),
    ("standing_demand", "INSERT", "standingdemand", "", "standing_demand"),
    ("pair", "INSERT", "pair", "", "bilateral_windows"),
    ("bidding", "INSERT OR UPDATE OF state", "window", "WHEN (NEW.state = 'BIDDING' AND NEW.kind = 'market')",
     "market_bids"),
    ("bid", "INSERT", "bid", "", "market_bids"),
    ("clearing", "INSERT", "clearing", "", "public_market"),
    ("lease", "INSERT", "lease", "", "escrow_locks"),
    ("slash", "INSERT OR UPDATE OF outcome", "slashcase", "WHEN (NEW.outcome = 'requested')", "slashing"),
)  # fmt: skip
TRIGGERS = "".join(
    f"CREATE TRIGGER {name}_in_its_phase BEFORE {event} ON marketplace_{table} FOR EACH ROW {when} "
    f"EXECUTE FUNCTION marketplace_waits_for_its_phase('{effect}');\n"
    for name, event, table, when, effect in WAITS
)
UNDO = "".join(f"DROP TRIGGER {name}_in_its_phase ON marketplace_{table};\n" for name, _, table, _, _ in WAITS)
UNDO += "DROP FUNCTION marketplace_waits_for_its_phase, marketplace_effect_is_on;\n"


class Migration(migrations.Migration):
    dependencies = [("marketplace", "0028_one_place_for_each")]
    operations = [migrations.RunSQL(ROWS, NO_ROWS), migrations.RunSQL(FUNCTIONS + TRIGGERS, UNDO)]
