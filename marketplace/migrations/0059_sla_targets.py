"""What is promised beside availability: typed targets of demands, bids and leases, off a closed menu."""

from importlib import import_module

from django.db import migrations, models
from django.db.models import F, Func, Q

# A sealed bid tells no target either.
SEAL = import_module("marketplace.migrations.0018_walls_of_the_seal").FUNCTIONS
SEAL = SEAL[SEAL.index("CREATE FUNCTION marketplace_bid_under_seal") :]
SEAL = SEAL[: SEAL.index("CREATE FUNCTION", 1)].replace("CREATE F", "CREATE OR REPLACE F")
CLOSER = SEAL.replace("NEW.sla_id)", "NEW.sla_id, NEW.sla_targets)")
# The menu of `pricing.targets`, and what contradicts; a test holds the two together.
FUNCTIONS = """
CREATE FUNCTION marketplace_targets_are_known(targets jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_typeof(targets) = 'object' AND NOT EXISTS (
        SELECT 1 FROM jsonb_each(CASE jsonb_typeof(targets) WHEN 'object' THEN targets ELSE '{}' END) AS t(name, value),
            LATERAL (SELECT CASE jsonb_typeof(t.value) WHEN 'number' THEN t.value #>> '{}' ELSE '' END AS bound) b
        WHERE NOT CASE t.name
            WHEN 'latency_p50_ms_max' THEN bound IN ('5', '10', '20', '50', '100', '250')
            WHEN 'latency_p95_ms_max' THEN bound IN ('5', '10', '20', '50', '100', '250')
            WHEN 'latency_p99_ms_max' THEN bound IN ('10', '20', '50', '100', '250', '500')
            WHEN 'throughput_spread_bps_max' THEN bound IN ('1000', '2000', '3000')
            WHEN 'start_by_minutes_max' THEN bound IN ('5', '15', '30', '60')
            WHEN 'notice_hours_min' THEN bound IN ('168', '120', '96', '72')
            WHEN 'repair_minutes_max' THEN bound IN ('15', '30', '60', '240')
            ELSE false END)
$$;
CREATE FUNCTION marketplace_targets_agree(targets jsonb, hours integer) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce((targets ->> 'latency_p50_ms_max')::int <= (targets ->> 'latency_p95_ms_max')::int, true)
        AND coalesce((targets ->> 'latency_p50_ms_max')::int <= (targets ->> 'latency_p99_ms_max')::int, true)
        AND coalesce((targets ->> 'latency_p95_ms_max')::int <= (targets ->> 'latency_p99_ms_max')::int, true)
        AND coalesce((targets ->> 'start_by_minutes_max')::int < 60 * hours, true)
        AND coalesce((targets ->> 'repair_minutes_max')::int < 60 * hours, true)
        AND (NOT targets ? 'throughput_spread_bps_max' OR hours >= 24)
$$;
"""
UNDO = "DROP FUNCTION marketplace_targets_are_known(jsonb); DROP FUNCTION marketplace_targets_agree(jsonb, integer);"


def known(name):
    condition = Func(F("sla_targets"), function="marketplace_targets_are_known", output_field=models.BooleanField())
    return models.CheckConstraint(name=name, condition=condition)


def agree(name):
    hours = F("end_slot") - F("start_slot")
    condition = Func(F("sla_targets"), hours, function="marketplace_targets_agree", output_field=models.BooleanField())
    return models.CheckConstraint(name=name, condition=condition)


def sealed(**more):
    names = ("quantity_units", "start_slot", "end_slot", "price_ask_micros", "minimum_units", "sla")
    opened = Q(state__in=("opened", "awarded", "lost"))
    for name in names:
        opened &= ~Q(**{name: None})
    return models.CheckConstraint(
        name="sealed_bid_tells_nothing",
        condition=Q(state__in=("sealed", "withdrawn"), **dict.fromkeys(names), **more) | opened,
    )


class Migration(migrations.Migration):
    dependencies = [("marketplace", "0058_parts_and_causes")]
    operations = [
        migrations.RunSQL(FUNCTIONS, UNDO),
        migrations.AddField(
            "demand", "sla_targets",
            models.JSONField(
                default=dict, blank=True, help_text="what must be promised beside availability: target and bound"
            ),
        ),
        migrations.AddField(
            "lease", "sla_targets",
            models.JSONField(default=dict, blank=True, help_text="what is promised beside availability"),
        ),
        migrations.AddField(
            "bid", "sla_targets",
            models.JSONField(null=True, help_text="what it promises beside availability: target and bound"),
        ),
        migrations.RunSQL(CLOSER, SEAL),
        migrations.AddConstraint("demand", known("demand_targets_are_on_the_menu")),
        migrations.AddConstraint("demand", agree("demand_targets_do_not_contradict")),
        migrations.AddConstraint("bid", known("bid_targets_are_on_the_menu")),
        migrations.AddConstraint("bid", agree("bid_targets_do_not_contradict")),
        migrations.AddConstraint("lease", known("lease_targets_are_on_the_menu")),
        migrations.RemoveConstraint("bid", "sealed_bid_tells_nothing"),
        migrations.AddConstraint("bid", sealed(sla_targets__isnull=True)),
    ]
