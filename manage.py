#!/usr/bin/env python3
"""The one door: `python3 manage.py up` runs the whole market here, `python3 manage.py test` proves it.

The first call makes `.venv` from the hash-pinned lock and needs only Python 3.11 or newer. After that this is ordinary
Django. NO_BOOTSTRAP=1 uses the current interpreter and its packages.
"""

import os
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent
# These read and write no table: no server is started for them.
WITHOUT_DATABASE = {
    "", "bench", "help", "--help", "-h", "version", "--version", "check", "collectstatic", "spectacular",
}


def main(arguments):
    """Run one command; a problem of the installation is told in one sentence, without a traceback."""
    if sys.version_info < (3, 11):  # noqa: UP036  an older interpreter does run this file
        have = ".".join(map(str, sys.version_info[:2]))
        sys.exit(f"Grove Exchange needs Python 3.11 or newer; {sys.executable} is {have}.")
    sys.path.insert(0, str(CHECKOUT))
    from marketplace import bootstrap, environment, postgres

    command = arguments[0] if arguments else ""
    try:
        bootstrap.enter(arguments, CHECKOUT / "manage.py")
        if command == "test":
            os.chdir(CHECKOUT)
            os.execv(sys.executable, [sys.executable, "-m", "tests", *arguments[1:]])
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "marketplace.settings")
        if command not in WITHOUT_DATABASE and "--help" not in arguments:
            postgres.ensure_running()
        from django.core.management import execute_from_command_line

        execute_from_command_line([str(CHECKOUT / "manage.py"), *arguments])
    except (bootstrap.CannotPrepare, environment.BadSetting, postgres.PostgresUnavailable) as error:
        sys.exit(f"manage.py: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main(sys.argv[1:])
