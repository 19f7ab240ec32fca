"""Who may come into the database: the owner, who migrates, and the product, which serves and owns nothing.

On the server of a data folder each logs in with a password of its own, in a file beside the server that only its owner
can read. On a server of yours the two logins are `DATABASE_URL` and `DATABASE_PRODUCT_URL`.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marketplace.environment import env_choice, private_text
from marketplace.postgres_programs import give_to_server_user

if TYPE_CHECKING:
    from psycopg import Connection

OWNER = "app"  # owns every database and table of the embedded server
PRODUCT = "grove_app"  # owns nothing, and may neither change nor delete what the books keep
HBA = f"""\
# Written by marketplace/postgres_roles.py. Nobody else comes in, and nobody without a password.
local  all  {OWNER},{PRODUCT}  scram-sha-256
"""


def database_role() -> str:
    """Return as whom this process works: `product`, or `owner` where a person asked for that by `DATABASE_ROLE`."""
    return env_choice("DATABASE_ROLE", default="product", choices=("owner", "product"))


def password_of(role: str, folder: Path) -> str:
    """Return the password of `owner` or `product` on the server of `folder`; made at the first call."""
    return private_text(folder / f"{role}_password", secrets.token_urlsafe(32))


def admit_by_password(connection: Connection[Any], folder: Path) -> None:
    """Give both roles their passwords and let them in by nothing else. Doing it again changes nothing.

    `connection` is the owner's. The rules come last: whoever dies before them leaves a server that still lets us in.
    """
    from psycopg import sql

    known = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [PRODUCT]).fetchone()
    if not known:
        connection.execute(sql.SQL("CREATE ROLE {} NOINHERIT").format(sql.Identifier(PRODUCT)))
    for role, name in (("owner", OWNER), ("product", PRODUCT)):
        # Only a verifier travels, so that no log of the server can hold the password.
        verifier = connection.pgconn.encrypt_password(
            password_of(role, folder).encode(), name.encode(), b"scram-sha-256"
        ).decode()
        connection.execute(sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(name), verifier))
    _write_rules(folder / "data" / "pg_hba.conf")
    connection.execute("SELECT pg_reload_conf()")


def _write_rules(path: Path) -> None:
    draft = path.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(HBA)
        file.flush()
        os.fsync(file.fileno())
    give_to_server_user(draft)
    draft.replace(path)
