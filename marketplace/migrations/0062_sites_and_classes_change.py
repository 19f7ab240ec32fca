"""Sites and node classes change by their provider: on record, free of bids, and what was shown of the old is void."""

from importlib import import_module

import django.db.models.deletion
from django.db import migrations, models

APPEND_ONLY = ("supplychange",)

FUNCTIONS = """
-- Whether bids, leases or agreed backups stand on a node class in a window that is not over.
CREATE FUNCTION marketplace_is_promised(asked uuid) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT 1 FROM marketplace_bid b JOIN marketplace_window w ON w.id = b.window_id
        WHERE b.node_class_id = asked AND w.state NOT IN ('SETTLED', 'FAILED')
          AND (b.state IN ('sealed', 'opened', 'awarded')
               OR EXISTS (SELECT 1 FROM marketplace_backup k WHERE k.bid_id = b.id)))
$$;

CREATE FUNCTION marketplace_is_on_record(c marketplace_supplychange, is_now jsonb, was jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT c.id IS NOT NULL AND c.after - 'retired_at' = is_now - 'retired_at'
       AND c.before - 'retired_at' = was - 'retired_at' AND (c.after ? 'retired_at') = (is_now ? 'retired_at')
$$;

-- The columns of a row that differ from another's, of those that are named.
CREATE FUNCTION marketplace_differing(is_now jsonb, was jsonb, named text[]) RETURNS jsonb
LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(jsonb_object_agg(name, is_now -> name) FILTER (
        WHERE is_now -> name IS DISTINCT FROM was -> name), '{}') FROM unnest(named) AS name
$$;

CREATE FUNCTION marketplace_site_changes() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    c marketplace_supplychange%ROWTYPE;
    named text[] := ARRAY['city', 'country', 'lat', 'lon', 'operator_country', 'keys_country', 'retired_at'];
    is_now jsonb := marketplace_differing(to_jsonb(NEW), to_jsonb(OLD), named);
    was jsonb := marketplace_differing(to_jsonb(OLD), to_jsonb(NEW), named);
    is_moved boolean := is_now ?| ARRAY['country', 'lat', 'lon'];
    is_controlled boolean := is_now ?| ARRAY['operator_country', 'keys_country'];
    earlier jsonb;
    broken text;
BEGIN
    SELECT * INTO c FROM marketplace_supplychange WHERE site_id = NEW.id ORDER BY no DESC LIMIT 1;
    SELECT kept INTO earlier FROM marketplace_supplychange WHERE id = c.undoes_id;
    broken := CASE
        WHEN (OLD.id, OLD.party_id, OLD.code) IS DISTINCT FROM (NEW.id, NEW.party_id, NEW.code)
            THEN 'a_site_keeps_its_party_and_code'
        WHEN is_now <> '{}' AND NOT marketplace_is_on_record(c, is_now, was) THEN 'a_site_changes_on_record'
        WHEN (is_moved OR is_now ? 'city' OR (OLD.retired_at IS NULL AND NEW.retired_at IS NOT NULL)) AND EXISTS (
            SELECT 1 FROM marketplace_nodeclass n WHERE n.site_id = NEW.id AND marketplace_is_promised(n.id))
            THEN 'a_site_stays_while_bids_stand'
        WHEN OLD.retired_at IS NULL AND NEW.retired_at IS NOT NULL AND EXISTS (
            SELECT 1 FROM marketplace_nodeclass n WHERE n.site_id = NEW.id AND n.retired_at IS NULL)
            THEN 'a_site_retires_after_its_classes'
        WHEN NEW.moved_at IS DISTINCT FROM (CASE
            WHEN NOT is_moved THEN OLD.moved_at
            WHEN c.cause = 'undo' THEN (earlier ->> 'moved_at')::timestamptz ELSE c.at END)
            THEN 'a_moved_site_shows_itself_anew'
        WHEN NEW.control_changed_at IS DISTINCT FROM (CASE
            WHEN NOT is_controlled THEN OLD.control_changed_at
            WHEN c.cause = 'undo' THEN (earlier ->> 'control_changed_at')::timestamptz ELSE c.at END)
            THEN 'changed_control_is_shown_anew'
        WHEN is_moved AND c.cause <> 'undo' AND EXISTS (
            SELECT 1 FROM marketplace_sitelatency l WHERE l.site_id = NEW.id) THEN 'a_moved_site_has_no_round_trips'
        WHEN is_moved AND c.cause <> 'undo' AND EXISTS (
            SELECT 1 FROM marketplace_nodeclass n JOIN marketplace_standing t ON t.node_class_id = n.id
            WHERE n.site_id = NEW.id AND t.state IN ('PROBATION', 'PROVEN', 'DEGRADED'))
            THEN 'a_proof_does_not_move_with_its_site'
    END;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION '%: site %', broken, NEW.code USING ERRCODE = 'check_violation', CONSTRAINT = broken;
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_node_class_changes() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    c marketplace_supplychange%ROWTYPE;
    named text[] := ARRAY['claimed_name', 'units', 'tier', 'resource_class', 'retired_at'];
    after_row jsonb := to_jsonb(NEW) || jsonb_build_object('resource_class', NEW.resource_class_id);
    before_row jsonb := to_jsonb(OLD) || jsonb_build_object('resource_class', OLD.resource_class_id);
    is_now jsonb := marketplace_differing(after_row, before_row, named);
    was jsonb := marketplace_differing(before_row, after_row, named);
    broken text;
BEGIN
    IF is_now = '{}' AND (OLD.id, OLD.party_id, OLD.site_id, OLD.chain_class)
       IS NOT DISTINCT FROM (NEW.id, NEW.party_id, NEW.site_id, NEW.chain_class) THEN
        RETURN NEW;
    END IF;
    SELECT * INTO c FROM marketplace_supplychange WHERE node_class_id = NEW.id ORDER BY no DESC LIMIT 1;
    broken := CASE
        WHEN (OLD.id, OLD.party_id, OLD.site_id, OLD.chain_class) IS DISTINCT FROM
             (NEW.id, NEW.party_id, NEW.site_id, NEW.chain_class) THEN 'a_node_class_keeps_its_site_and_number'
        WHEN NOT marketplace_is_on_record(c, is_now, was) THEN 'a_node_class_changes_on_record'
        WHEN c.cause <> 'measured' AND (is_now ?| ARRAY['units', 'tier', 'resource_class']
             OR (OLD.retired_at IS NULL AND NEW.retired_at IS NOT NULL)) AND marketplace_is_promised(NEW.id)
            THEN 'a_node_class_stays_while_bids_stand'
        WHEN c.cause = 'provider' AND (NEW.units > OLD.units OR is_now ? 'resource_class'
             OR (OLD.retired_at IS NULL AND NEW.retired_at IS NOT NULL)) AND EXISTS (
            SELECT 1 FROM marketplace_standing t WHERE t.node_class_id = NEW.id
              AND t.state IN ('PROBATION', 'PROVEN', 'DEGRADED')) THEN 'a_proof_ends_with_its_machines'
        WHEN OLD.retired_at IS NOT NULL AND NEW.retired_at IS NULL AND EXISTS (
            SELECT 1 FROM marketplace_site s WHERE s.id = NEW.site_id AND s.retired_at IS NOT NULL)
            THEN 'a_node_class_comes_back_after_its_site'
    END;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION '%: class %', broken, NEW.chain_class USING ERRCODE = 'check_violation', CONSTRAINT = broken;
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_bid_is_in_service() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    gone timestamptz;
BEGIN
    -- Waits for a change that is being written, and sees it.
    SELECT retired_at INTO gone FROM marketplace_nodeclass WHERE id = NEW.node_class_id FOR KEY SHARE;
    IF gone IS NOT NULL THEN
        RAISE EXCEPTION 'bid_is_of_machines_in_service: %', NEW.node_class_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'bid_is_of_machines_in_service';
    END IF;
    RETURN NEW;
END $$;
"""
HELD = import_module("marketplace.migrations.0012_compliance_walls").FUNCTIONS
HELD = HELD[HELD.index("CREATE FUNCTION marketplace_holds") :]
HELD = HELD[: HELD.index("$$;") + 3].replace("CREATE", "CREATE OR REPLACE", 1)
# What was shown before a site moved, or of its staff and keys before their countries changed, shows nothing about it.
HELD_SINCE = HELD.replace("AND e.control_id = asked_control", """AND e.control_id = asked_control
          AND (e.control_id = 'ultimate-parent' OR ((s.moved_at IS NULL OR e.submitted_at >= s.moved_at)
               AND (e.control_id NOT IN ('staff-location', 'key-custody') OR s.control_changed_at IS NULL
                    OR e.submitted_at >= s.control_changed_at)))""")
LAPSES = import_module("marketplace.migrations.0047_unused_quota_lapses")
# What was let in is given back while no bid of its month stands on it.
PATH_WITH_RETURNS = LAPSES.PATH_WITH_LAPSES.replace(LAPSES.STANDS, """WHEN OLD.state = 'ADMITTED' AND NEW.state = 'WITHDRAWN'
            AND (OLD.node_class_id, OLD.month, OLD.zone, OLD.asked_at, OLD.unit_hours)
            IS NOT DISTINCT FROM (NEW.node_class_id, NEW.month, NEW.zone, NEW.asked_at, NEW.unit_hours) AND NOT EXISTS (
            SELECT 1 FROM marketplace_bid b JOIN marketplace_window o ON o.id = b.window_id
            WHERE b.node_class_id = OLD.node_class_id AND b.state IN ('sealed', 'opened', 'awarded')
              AND o.kind = 'market' AND o.state <> 'FAILED' AND marketplace_delivery_month(o.starts_at) = OLD.month)
            THEN NULL
        """ + LAPSES.STANDS)
TRIGGERS = """
CREATE TRIGGER supply_site_changes BEFORE UPDATE ON marketplace_site
    FOR EACH ROW EXECUTE FUNCTION marketplace_site_changes();
CREATE TRIGGER supply_class_changes BEFORE UPDATE ON marketplace_nodeclass
    FOR EACH ROW EXECUTE FUNCTION marketplace_node_class_changes();
CREATE TRIGGER bid_is_in_service BEFORE INSERT ON marketplace_bid
    FOR EACH ROW EXECUTE FUNCTION marketplace_bid_is_in_service();
CREATE TRIGGER supplychange_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON marketplace_supplychange
    FOR EACH STATEMENT EXECUTE FUNCTION marketplace_deny_change();
GRANT SELECT, INSERT ON marketplace_supplychange TO grove_app;
GRANT DELETE ON marketplace_sitelatency TO grove_app;
"""
UNDO = """
REVOKE DELETE ON marketplace_sitelatency FROM grove_app;
REVOKE ALL ON marketplace_supplychange FROM grove_app;
DROP TRIGGER supplychange_stays ON marketplace_supplychange;
DROP TRIGGER bid_is_in_service ON marketplace_bid;
DROP TRIGGER supply_class_changes ON marketplace_nodeclass;
DROP TRIGGER supply_site_changes ON marketplace_site;
DROP FUNCTION marketplace_bid_is_in_service, marketplace_node_class_changes, marketplace_site_changes,
    marketplace_differing, marketplace_is_on_record, marketplace_is_promised;
"""


class Migration(migrations.Migration):

    dependencies = [
        ('marketplace', '0061_settlement_retries'),
    ]

    operations = [
        migrations.AddField(
            model_name='nodeclass',
            name='retired_at',
            field=models.DateTimeField(blank=True, help_text="out of service by its owner's wish", null=True),
        ),
        migrations.AddField(
            model_name='site',
            name='control_changed_at',
            field=models.DateTimeField(blank=True, help_text='evidence of legal control handed in before it no longer counts', null=True),
        ),
        migrations.AddField(
            model_name='site',
            name='moved_at',
            field=models.DateTimeField(blank=True, help_text='evidence handed in before it no longer counts', null=True),
        ),
        migrations.AddField(
            model_name='site',
            name='retired_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.CreateModel(
            name='SupplyChange',
            fields=[
                ('id', models.UUIDField(primary_key=True, serialize=False)),
                ('no', models.PositiveIntegerField(help_text="of the thing's changes, from 1")),
                ('before', models.JSONField(help_text='each changed column as it was')),
                ('after', models.JSONField(help_text='the same columns as they are from now on')),
                ('voids', models.JSONField(default=list, help_text='what no longer counts from now on')),
                ('kept', models.JSONField(default=dict, help_text='what an undo needs beside the columns')),
                ('cause', models.CharField(choices=[('provider', 'provider'), ('measured', 'measured'), ('undo', 'undo')], default='provider', max_length=10)),
                ('actor', models.CharField(max_length=120)),
                ('reason', models.CharField(max_length=300)),
                ('at', models.DateTimeField()),
                ('node_class', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='changes', to='marketplace.nodeclass')),
                ('seat', models.ForeignKey(help_text='empty: by a key', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='marketplace.seat')),
                ('site', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='changes', to='marketplace.site')),
                ('undoes', models.OneToOneField(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='undone_by', to='marketplace.supplychange')),
            ],
            options={
                'ordering': ['-at', '-no', '-id'],
                'constraints': [models.UniqueConstraint(fields=('site', 'no'), name='changes_of_a_site_are_numbered_once'), models.UniqueConstraint(fields=('node_class', 'no'), name='changes_of_a_node_class_are_numbered_once'), models.CheckConstraint(condition=models.Q(models.Q(('node_class__isnull', False), ('site__isnull', True)), models.Q(('node_class__isnull', True), ('site__isnull', False)), _connector='OR'), name='supply_change_is_of_one_thing'), models.CheckConstraint(condition=models.Q(models.Q(('actor', ''), _negated=True), models.Q(('reason', ''), _negated=True)), name='supply_change_says_who_and_why'), models.CheckConstraint(condition=models.Q(('before', models.F('after')), _negated=True), name='supply_change_changes_something'), models.CheckConstraint(condition=models.Q(models.Q(('cause__in', ('provider', 'measured')), ('undoes', None)), models.Q(('cause', 'undo'), ('undoes__isnull', False)), _connector='OR'), name='supply_change_cause_is_known')],
            },
        ),
        migrations.RunSQL(HELD_SINCE + PATH_WITH_RETURNS + FUNCTIONS + TRIGGERS, UNDO + LAPSES.PATH_WITH_LAPSES + HELD),
    ]
