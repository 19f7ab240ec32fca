"""A new key of a unit: let in as any other, it takes the number of the old one, which ends at the same instant."""

from importlib import import_module

import django.db.models.deletion
from django.db import migrations, models

BEFORE = import_module("marketplace.migrations.0082_walls_of_unit_provers").FUNCTIONS
BEFORE = BEFORE[
    BEFORE.index("CREATE FUNCTION marketplace_unit_prover_is_let_in") : BEFORE.index(
        "CREATE FUNCTION marketplace_unit_prover_stays"
    )
].replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")

FUNCTIONS = """
CREATE OR REPLACE FUNCTION marketplace_unit_prover_is_let_in() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    code marketplace_enrolment%ROWTYPE;
BEGIN
    SELECT * INTO code FROM marketplace_enrolment e
    WHERE e.id = NEW.enrolment_id AND e.node_class_id = NEW.node_class_id AND e.public_key = NEW.public_key
      AND e.is_for_a_unit AND e.is_accepted;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'a_unit_prover_was_let_in: no accepted code of that class for that key'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'a_unit_prover_was_let_in';
    END IF;
    IF code.replaces_id IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM marketplace_unitprover u
        WHERE u.enrolment_id = code.replaces_id AND u.node_class_id = NEW.node_class_id AND u.number = NEW.number
          AND u.retired_at = NEW.enrolled_at
    ) THEN
        RAISE EXCEPTION 'a_new_key_follows_that_of_its_unit: another unit, or an old key that did not end with it'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'a_new_key_follows_that_of_its_unit';
    END IF;
    RETURN NEW;
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [("marketplace", "0088_forfeits_go_round_again")]
    operations = [
        migrations.AddField(
            model_name="enrolment",
            name="replaces",
            field=models.ForeignKey(
                blank=True,
                help_text="the unit's prover that ends when this key is accepted",
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="successors",
                to="marketplace.unitprover",
            ),
        ),
        migrations.AddConstraint(
            model_name="enrolment",
            constraint=models.CheckConstraint(
                condition=models.Q(("replaces", None), ("is_for_a_unit", True), _connector="OR"),
                name="only_a_units_key_replaces_a_units",
            ),
        ),
        migrations.RunSQL(FUNCTIONS, BEFORE),
    ]
