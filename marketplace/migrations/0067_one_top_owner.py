"""Who stands behind a party in the end is asked of one function: a second one said the same under another name."""

from importlib import import_module

from django.db import migrations

_BEFORE = import_module("marketplace.migrations.0021_walls_of_the_foundation").FUNCTIONS
_AT = _BEFORE.index("CREATE FUNCTION marketplace_award_has_two_owners")
SECOND_NAME = _BEFORE[:_AT]
_WALL = _BEFORE[_AT : _BEFORE.index("END $$;", _AT) + len("END $$;")]
_WALL = _WALL.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")

ONE_NAME = _WALL.replace("marketplace_owner_of", "marketplace_top_owner") + "\nDROP FUNCTION marketplace_owner_of;"
UNDO = SECOND_NAME + _WALL


class Migration(migrations.Migration):
    dependencies = [("marketplace", "0066_first_leases")]
    operations = [migrations.RunSQL(ONE_NAME, UNDO)]
