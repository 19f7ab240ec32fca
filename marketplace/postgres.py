"""The embedded PostgreSQL: found, made, started, shared and stopped by the processes that use it.

`DATABASE_URL` wins, and then nothing is started here. Otherwise one server per data folder serves the live database,
the demo's and the tests', without root or port: it listens on a socket in a folder only its owner may enter, and lets
two roles in, each by a password (`marketplace/postgres_roles.py`).

Every process that calls `ensure_running()` is a *user* until it ends: it holds a shared lock on `users.lock`, which the
kernel drops even after `kill -9`. The last user to leave stops the server. A killed last user leaves it running; the
next one adopts it.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import glob
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from marketplace.environment import BadSetting, data_folder, env_int, env_str
from marketplace.postgres_programs import (
    PostgresUnavailable,
    as_server_user,
    give_to_server_user,
    reachable_binaries,
    server_user,
)
from marketplace.postgres_roles import OWNER, PRODUCT, admit_by_password, database_role, password_of

LOGIN = ("USER", "PASSWORD", "HOST", "PORT", "OPTIONS")  # what differs between the owner's connection and the product's
SOCKET_PATH_BYTES_MAX = 90  # the kernel allows 107 for the folder and "/.s.PGSQL.5432" together
START_SECONDS_MAX = 60
STOP_SECONDS_MAX = 30
# Nothing is tuned for speed at the price of a crash: fsync, checksums and full-page writes keep their safe defaults.
CONFIGURATION = """
listen_addresses = ''
unix_socket_permissions = 0700
max_connections = 100
shared_buffers = 128MB
max_wal_size = 2GB
wal_compression = pglz
random_page_cost = 1.1
max_parallel_workers_per_gather = 0  # two cores are shared with the workers, and small /dev/shm breaks parallel joins
timezone = 'UTC'
log_timezone = 'UTC'
"""


# -- what Django is told ------------------------------------------------------------------------------------------

def is_embedded() -> bool:
    """Say whether the server is the one of this data folder, and not one of yours."""
    return not (env_str("DATABASE_URL") or env_str("DATABASE_PRODUCT_URL"))


def product_logs_in_by_itself() -> bool:
    """Say whether this process reaches a server of yours by another login than the owner's."""
    if not env_str("DATABASE_PRODUCT_URL") or database_role() != "product":
        return False
    owner = _read_url("DATABASE_URL")["USER"] if env_str("DATABASE_URL") else None
    return bool(_read_url("DATABASE_PRODUCT_URL")["USER"] != owner)


def database_name() -> str:
    """Return the database this process works on: `DATABASE_NAME`, else the one your URL names, else `grove`."""
    named = [_read_url(url).get("NAME") for url in ("DATABASE_URL", "DATABASE_PRODUCT_URL") if env_str(url)]
    return env_str("DATABASE_NAME") or (named and named[0]) or "grove"


def django_database(data_dir: Path | None = None, *, name: str = "", role: str = "") -> dict[str, Any]:
    """Return the `DATABASES` entry for database `name` of this data folder. Starts nothing and connects nowhere.

    `role` is `owner` or `product`, else what `DATABASE_ROLE` says.
    """
    role = role or database_role()
    entry: dict[str, Any] = {"ENGINE": "django.db.backends.postgresql", "CONN_HEALTH_CHECKS": True}
    entry |= _embedded_login(data_dir or data_folder(), role) if is_embedded() else _login_of_yours(role)
    entry["NAME"] = name or database_name()
    pool_size_max = env_int("DATABASE_POOL_MAX", default=0, minimum=0, maximum=90)
    if pool_size_max:  # set by `up` for its servers; a pool and a lasting connection exclude each other
        entry["OPTIONS"]["pool"] = {"min_size": 1, "max_size": pool_size_max, "timeout": 10}
    entry["CONN_MAX_AGE"] = 0 if pool_size_max else 60
    entry["TEST"] = {"NAME": f"test_grove_{os.getpid()}"}  # several suites may run at once on one server
    return entry


@contextlib.contextmanager
def as_owner() -> Iterator[None]:
    """Let this process's connection be the owner's, who alone migrates; afterwards it is what it was.

    Raises BadSetting when nobody told this process the owner's login.
    """
    from django.db import connection

    before = {key: connection.settings_dict[key] for key in LOGIN}
    owner = django_database(name=connection.settings_dict["NAME"], role="owner")
    connection.close()
    connection.settings_dict.update({key: owner[key] for key in LOGIN})
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict.update(before)


def _embedded_login(data_dir: Path, role: str) -> dict[str, Any]:
    return {
        "USER": OWNER if role == "owner" else PRODUCT,
        "PASSWORD": password_of(role, _own_folder(data_dir)),
        "HOST": str(socket_folder(data_dir)),
        "PORT": "",
        "OPTIONS": {},
    }


def _login_of_yours(role: str) -> dict[str, Any]:
    """Return the login of `role`. Without one of its own the product takes the owner's and becomes the role."""
    if role == "owner":
        if not env_str("DATABASE_URL"):
            raise BadSetting("DATABASE_URL: this needs the login of the owner of the tables.", name="DATABASE_URL")
        return _read_url("DATABASE_URL")
    if env_str("DATABASE_PRODUCT_URL"):
        return _read_url("DATABASE_PRODUCT_URL")
    login = _read_url("DATABASE_URL")
    words = f"{login['OPTIONS'].get('options', '')} -c role={PRODUCT}"
    return login | {"OPTIONS": login["OPTIONS"] | {"options": words.strip()}}


def _read_url(variable: str) -> dict[str, Any]:
    split = urlsplit(env_str(variable))
    if split.scheme not in ("postgres", "postgresql"):
        raise BadSetting(f"{variable}: use postgresql://user:password@host:port/name.", name=variable)
    options = dict(parse_qsl(split.query))
    try:
        port = str(split.port or "")
    except ValueError:
        raise BadSetting(f"{variable}: the port is not a number.", name=variable) from None
    return {
        "NAME": unquote(split.path.lstrip("/")),
        "USER": unquote(split.username or ""),
        "PASSWORD": unquote(split.password or ""),
        "HOST": options.pop("host", "") or unquote(split.hostname or ""),
        "PORT": options.pop("port", "") or port,
        "OPTIONS": options,
    }


# -- where things lie ---------------------------------------------------------------------------------------------

def server_folder(data_dir: Path) -> Path:
    """Return the folder of the server: `data`, `run`, `server.log`, locks, and perhaps a copy of the binaries."""
    return data_dir / "postgres"


def socket_folder(data_dir: Path) -> Path:
    """Return the folder of the server's socket; a short one of our own in /tmp when the data folder's path is long."""
    usual = server_folder(data_dir) / "run"
    if len(os.fsencode(usual)) <= SOCKET_PATH_BYTES_MAX:
        return usual
    return Path(f"/tmp/grove-{os.geteuid()}-{sha256(os.fsencode(usual)).hexdigest()[:12]}")


# -- the life of the server ---------------------------------------------------------------------------------------

_users: dict[Path, int] = {}  # data folder -> descriptor of the shared lock this process holds


def ensure_running(data_dir: Path | None = None, *, name: str = "") -> None:
    """Make this process a user of the server, which runs when this returns and lets the product into database `name`.

    Safe to call from many processes at once, and again. Only where the product cannot log in, which is the first time
    and after an upgrade, is anything done as the owner. Raises PostgresUnavailable.
    """
    if not is_embedded():
        return
    data_dir, name = data_dir or data_folder(), name or database_name()
    with _only_one(data_dir):
        _start_unless_ready(data_dir)
        if data_dir not in _users:
            _users[data_dir] = _lock_as_user(data_dir)
            atexit.register(leave, data_dir)
        if not _lets_product_in(data_dir, name):
            _make_ready_for_product(data_dir, name)


def _lets_product_in(data_dir: Path, name: str) -> bool:
    """Say whether the product's password opens database `name`; false also where the server asks for none."""
    import psycopg

    fields = psycopg_fields(django_database(data_dir, name=name, role="product"))
    try:
        with psycopg.connect(**fields) as connection:
            return bool(connection.pgconn.used_password)
    except psycopg.OperationalError:
        return False


def _make_ready_for_product(data_dir: Path, name: str) -> None:
    import psycopg

    try:
        with psycopg.connect(**maintenance_fields(data_dir), autocommit=True) as connection:
            admit_by_password(connection, _own_folder(data_dir))
        create_database(name, data_dir)
    except psycopg.OperationalError as error:
        lost = _own_folder(data_dir) / "owner_password"
        raise PostgresUnavailable(f"The database's owner cannot log in ({error}). Put back {lost}.") from None
    give_up_at = time.monotonic() + START_SECONDS_MAX
    while not _lets_product_in(data_dir, name):  # the server reads its rules anew a moment after it was told to
        if time.monotonic() > give_up_at:
            raise PostgresUnavailable(f"The product's role cannot log in to database {name!r}.")
        time.sleep(0.02)


def leave(data_dir: Path) -> None:
    """Stop being a user; the last one to leave stops the server."""
    if data_dir not in _users:
        return
    with _only_one(data_dir):
        descriptor = _users.pop(data_dir)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # somebody else still works
        else:
            _stop(data_dir)
        finally:
            os.close(descriptor)


def _forget_in_forked_child() -> None:
    """A fork shares its parent's lock; it must not stop the server for it, nor keep it from being stopped."""
    while _users:
        os.close(_users.popitem()[1])


os.register_at_fork(after_in_child=_forget_in_forked_child)


def create_database(name: str, data_dir: Path | None = None) -> None:
    """Make database `name` unless it stands; two racers both find it made."""
    import psycopg
    from psycopg import errors, sql

    with psycopg.connect(**maintenance_fields(data_dir), autocommit=True) as connection:
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
            return
        with contextlib.suppress(errors.DuplicateDatabase, errors.UniqueViolation):
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


def drop_database(name: str, data_dir: Path | None = None) -> None:
    """Remove database `name` with everything in it, cutting whoever is connected."""
    import psycopg
    from psycopg import sql

    with psycopg.connect(**maintenance_fields(data_dir), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def drop_leftovers(data_dir: Path | None = None) -> list[str]:
    """Remove test databases whose process is dead and return their names. Only on the server of this machine."""
    import psycopg

    if not is_embedded():
        return []  # its other users may sit on other machines, where our process numbers mean nothing
    with psycopg.connect(**maintenance_fields(data_dir), autocommit=True) as connection:
        names = [row[0] for row in connection.execute("SELECT datname FROM pg_database").fetchall()]
    dead = [n for n in names if (m := re.match(r"test_grove_(\d+)(_|$)", n)) and not Path(f"/proc/{m[1]}").exists()]
    for name in dead:
        drop_database(name, data_dir)
    return dead


def maintenance_fields(data_dir: Path | None = None) -> dict[str, Any]:
    """Return how the owner reaches `postgres` on the same server, from where databases are made and dropped."""
    return psycopg_fields(django_database(data_dir, name="postgres", role="owner"))


def psycopg_fields(entry: dict[str, Any]) -> dict[str, Any]:
    """Return what psycopg needs to log in as a `DATABASES` entry does."""
    options = {key: value for key, value in entry["OPTIONS"].items() if key != "pool"}
    keys = {"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host", "PORT": "port"}
    return options | {ours: entry[key] for key, ours in keys.items() if entry[key]}


@contextlib.contextmanager
def _only_one(data_dir: Path) -> Iterator[None]:
    """Hold the lock under which the server is made, started, adopted and stopped."""
    descriptor = os.open(_own_folder(data_dir) / "start.lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _own_folder(data_dir: Path) -> Path:
    folder = server_folder(data_dir)
    folder.mkdir(exist_ok=True)
    if os.geteuid() == 0:
        folder.chmod(0o711)  # the server's user passes through
    return folder


def _lock_as_user(data_dir: Path) -> int:
    descriptor = os.open(server_folder(data_dir) / "users.lock", os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def _start_unless_ready(data_dir: Path) -> None:
    if _answers(data_dir):
        return
    binaries = reachable_binaries(server_folder(data_dir))
    data = server_folder(data_dir) / "data"
    if not (data / "PG_VERSION").exists():
        _make_cluster(binaries, data)
    _make_socket_folder(socket_folder(data_dir))
    _wait_for_orphans(data, socket_folder(data_dir) / ".s.PGSQL.5432.lock")
    log_path = server_folder(data_dir) / "server.log"
    with open(log_path, "ab") as log:
        server = subprocess.Popen(
            [binaries / "postgres", "-D", data, "-k", socket_folder(data_dir)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **as_server_user(),
        )
    give_up_at = time.monotonic() + START_SECONDS_MAX
    while not _answers(data_dir):
        if server.poll() is not None or time.monotonic() > give_up_at:
            tail = log_path.read_text(errors="replace").splitlines()[-5:]
            raise PostgresUnavailable("PostgreSQL did not start. Its last words:\n  " + "\n  ".join(tail))
        time.sleep(0.02)
    server.returncode = 0  # it outlives this process on purpose: no "still running" warning when the object goes


def _answers(data_dir: Path) -> bool:
    """Say whether a server takes connections. One that recovers from a crash is waited for."""
    from psycopg import pq
    from psycopg.conninfo import make_conninfo

    target = make_conninfo(**maintenance_fields(data_dir), connect_timeout=5).encode()
    give_up_at = time.monotonic() + START_SECONDS_MAX
    while (word := pq.PGconn.ping(target)) == pq.Ping.REJECT and time.monotonic() < give_up_at:
        time.sleep(0.02)
    return word == pq.Ping.OK


def _make_socket_folder(folder: Path) -> None:
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        give_to_server_user(folder)
        if folder.parent == Path("/tmp"):
            print(f"PostgreSQL's socket lies in {folder}: the data folder's path is too long for one.", file=sys.stderr)
    found = folder.lstat()
    owner = server_user().pw_uid if os.geteuid() == 0 else os.geteuid()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner or stat.S_IMODE(found.st_mode) != 0o700:
        raise PostgresUnavailable(f"{folder} exists and is not a private folder of ours; remove it and try again.")


def _make_cluster(binaries: Path, data: Path) -> None:
    """Run initdb aside and rename, so that a crash half way leaves no half cluster."""
    draft = data.with_name("data.draft")
    shutil.rmtree(draft, ignore_errors=True)
    shutil.rmtree(data, ignore_errors=True)
    draft.mkdir(mode=0o700)
    give_to_server_user(draft)
    made = subprocess.run(
        [binaries / "initdb", "-D", draft, "-U", OWNER, "-E", "UTF8", "--locale=C", "--data-checksums",
         "--auth-local=trust", "--auth-host=reject", "--no-instructions"],
        capture_output=True, text=True, **as_server_user(),
    )
    if made.returncode:
        raise PostgresUnavailable(f"initdb failed:\n{made.stderr.strip()}")
    with open(draft / "postgresql.conf", "a") as file:
        file.write(CONFIGURATION)
    draft.rename(data)


def _stop(data_dir: Path) -> None:
    """Ask the server to end (fast shutdown, nothing is lost) and wait until it is gone."""
    pid = _postmaster(data_dir)
    if pid is None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGINT)
    give_up_at = time.monotonic() + STOP_SECONDS_MAX
    while _postmaster(data_dir) is not None and time.monotonic() < give_up_at:
        time.sleep(0.02)


def _postmaster(data_dir: Path) -> int | None:
    """Return the number of the living server process of this folder, else None."""
    data = server_folder(data_dir) / "data"
    pid = _pid_in(data / "postmaster.pid")
    if pid is None:
        return None
    try:
        works_here = os.path.samefile(f"/proc/{pid}/cwd", data)  # a number may have been given to a stranger since
    except OSError:
        return None
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # our own child stays a zombie until asked for
    return pid if works_here and _process_state(pid) not in (None, "Z") else None


def _process_state(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (OSError, IndexError):
        return None


def _wait_for_orphans(data: Path, socket_lock: Path) -> None:
    """Let the children of a killed server end, and clear the lock files it left when its number is still in use.

    Process 1 of many containers reaps nothing, so the number may be that of a zombie; after a power cut it may be that
    of a stranger. PostgreSQL then believes its old self alive and refuses to start. The files go only when no process
    works in the data folder any more and nobody holds `users.lock`, because two servers on one folder destroy it.
    """
    pids = {pid for file in (data / "postmaster.pid", socket_lock) if (pid := _pid_in(file)) is not None}
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    give_up_at = time.monotonic() + START_SECONDS_MAX
    while _somebody_works_in(data):
        if time.monotonic() > give_up_at:
            raise PostgresUnavailable(f"A server that does not answer still works in {data}; end it and try again.")
        time.sleep(0.05)
    for pid in pids:
        if _process_state(pid) == "Z" or (_process_state(pid) is not None and not _is_used(data.parent)):
            for file in (data / "postmaster.pid", socket_lock):
                file.unlink(missing_ok=True)


def _is_used(folder: Path) -> bool:
    """Say whether some process is a user of the server, also one in another container on the same folder."""
    descriptor = os.open(folder / "users.lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _pid_in(file: Path) -> int | None:
    try:
        return int(file.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None


def _somebody_works_in(folder: Path) -> bool:
    for link in glob.glob("/proc/[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            if os.path.samefile(link, folder):
                return True
    return False
