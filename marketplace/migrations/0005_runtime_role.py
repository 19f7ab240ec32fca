"""What the product's role may do with the tables outside the books: work on them, and only add to what is kept.

Those that stand now are opened; one made later is closed until its own migration opens it, and a test names it.
`grove_read` gets nothing here: sessions, keys and sealed bids are no reports.
"""

from importlib import import_module

from django.db import migrations

KEPT = (
    *import_module("marketplace.migrations.0002_walls").APPEND_ONLY,
    *import_module("marketplace.migrations.0004_walls_of_whole_lines").APPEND_ONLY,
)
GRANT = """
do $$ declare
    each text;
begin
    for each in select tablename from pg_tables where schemaname = 'public'
                   and tablename ~ '^(marketplace|auth|django)_' and tablename <> 'django_migrations' loop
        execute format('grant select, insert, update on %I to grove_app', each);
    end loop;
end $$;
grant select on django_migrations to grove_app;
grant delete on django_session, marketplace_rememberedreply to grove_app;  -- what has run out, and nothing else
grant usage on all sequences in schema public to grove_app;
""" + "".join(f"revoke update on marketplace_{table} from grove_app;\n" for table in KEPT)
REVOKE = """
do $$ declare
    each text;
begin
    for each in select tablename from pg_tables where schemaname = 'public'
                   and tablename ~ '^(marketplace|auth|django)_' loop
        execute format('revoke all on %I from grove_app', each);
    end loop;
end $$;
"""


class Migration(migrations.Migration):
    dependencies = [
        ("marketplace", "0004_walls_of_whole_lines"),
        ("ledger", "0008_runtime_role"),
        ("admin", "0003_logentry_add_action_flag_choices"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
        ("sessions", "0001_initial"),
    ]

    operations = [migrations.RunSQL(GRANT, REVOKE)]
