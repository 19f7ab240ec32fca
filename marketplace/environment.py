"""The environment, read in one typed way: a bad value stops the start with one sentence.

Standard library only: `manage.py`, the launcher of PostgreSQL and the settings all read it before Django exists.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent


class BadSetting(Exception):
    """An environment variable, or the folder it names, cannot be used; the sentence says which and what to write."""

    code = "bad_setting"

    def __init__(self, sentence: str, **facts: object) -> None:
        super().__init__(sentence)
        self.facts = facts


def env_str(name: str, *, default: str = "") -> str:
    """Return the text of a variable without surrounding blanks; an empty one counts as not set."""
    return os.environ.get(name, "").strip() or default


def env_bool(name: str, *, default: bool) -> bool:
    """Return a switch: `1` is on, `0` is off, anything else is refused ("no" and "False" would otherwise be on)."""
    value = env_str(name)
    if value not in ("", "0", "1"):
        raise BadSetting(f"{name}={value!r}: use 1 or 0.", name=name, value=value)
    return default if value == "" else value == "1"


def env_int(name: str, *, default: int, minimum: int | None = None, maximum: int | None = None) -> int:
    """Return a whole number inside its limits."""
    text = env_str(name)
    try:
        value = int(text) if text else default
    except ValueError:
        raise BadSetting(f"{name}={text!r}: use a whole number.", name=name, value=text) from None
    if minimum is not None and value < minimum:
        raise BadSetting(f"{name}={value}: use at least {minimum}.", name=name, value=value, minimum=minimum)
    if maximum is not None and value > maximum:
        raise BadSetting(f"{name}={value}: use at most {maximum}.", name=name, value=value, maximum=maximum)
    return value


def env_choice(name: str, *, default: str, choices: Sequence[str]) -> str:
    """Return one of the words."""
    value = env_str(name) or default
    if value not in choices:
        raise BadSetting(f"{name}={value!r}: use {' or '.join(choices)}.", name=name, value=value)
    return value


@dataclass(frozen=True)
class Quorum:
    """So many of so many: `needed` signatures of a panel of `seats`."""

    needed: int
    seats: int

    def __str__(self) -> str:
        return f"{self.needed} of {self.seats}"


def env_quorum(name: str, *, default: str) -> Quorum:
    """Return a quorum written as `5/7`. More than half have to sign, two at least: else two halves could disagree."""
    text = env_str(name) or default
    needed, slash, seats = text.partition("/")
    if not (slash and needed.isascii() and needed.isdigit() and seats.isascii() and seats.isdigit()):
        raise BadSetting(f"{name}={text!r}: write needed/seats, such as 5/7.", name=name, value=text)
    quorum = Quorum(int(needed), int(seats))
    if not (2 <= quorum.needed <= quorum.seats <= 9 and 2 * quorum.needed > quorum.seats):
        raise BadSetting(f"{name}={text!r}: more than half of 9 seats at most, at least 2.", name=name, value=text)
    return quorum


def env_list(name: str, *, default: Sequence[str]) -> list[str]:
    """Return the comma-separated items of a variable; an empty item (`a,,b`) is refused."""
    text = env_str(name)
    items = [item.strip() for item in text.split(",")] if text else list(default)
    if not all(items):
        raise BadSetting(f"{name}={text!r}: an item is empty; write a,b,c.", name=name, value=text)
    return items


def data_folder() -> Path:
    """Return the folder that holds everything this checkout writes: database, keys, queue, logs. Made when missing.

    `GROVE_HOME`, else one folder per checkout under `$XDG_DATA_HOME` or `~/.local/share`; for root under
    `/var/lib`, because there PostgreSQL runs as an unprivileged user that cannot look into `/root`.
    """
    named = env_str("GROVE_HOME")
    if named:
        folder = Path(named).expanduser()
        if not folder.is_absolute():
            raise BadSetting(f"GROVE_HOME={named!r}: use an absolute path.", name="GROVE_HOME", value=named)
    else:
        folder = _base_folder() / "grove-exchange" / hashlib.sha256(str(CHECKOUT).encode()).hexdigest()[:12]
    try:
        _make_own_folder(folder)
    except OSError as error:
        raise BadSetting(
            f"The data folder {folder} cannot be made ({error.strerror}); set GROVE_HOME to a folder of yours.",
            folder=str(folder),
        ) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise BadSetting(f"The data folder {folder} is not yours to write; set GROVE_HOME.", folder=str(folder))
    return folder


def _base_folder() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib")
    return Path(env_str("XDG_DATA_HOME") or Path.home() / ".local" / "share")


def _make_own_folder(folder: Path) -> None:
    # Only folders made here get a mode. Others may pass through (x) as root, so that the database's user reaches its
    # own part below; nobody else may list.
    mode = 0o711 if os.geteuid() == 0 else 0o700
    missing = [f for f in (folder, *folder.parents) if not f.exists()]
    for each in reversed(missing):
        try:
            each.mkdir()
        except FileExistsError:
            continue
        each.chmod(mode)
    if not folder.is_dir():
        raise NotADirectoryError(20, "not a folder", str(folder))


def secret_key(folder: Path) -> str:
    """Return the signing key of this installation, made at the first call in a file only its owner can read."""
    return private_text(folder / "secret_key", secrets.token_urlsafe(64))


def sandbox_secret(folder: Path) -> str:
    """Return the secret with which this installation's card sandbox signs its webhooks."""
    return private_text(folder / "stripe_webhook_secret", f"whsec_{secrets.token_urlsafe(32)}")


def private_text(path: Path, first: str) -> str:
    """Return the text of `path`; when it is missing write `first` with mode 0600, whole or not at all."""
    if not path.exists():
        handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # mkstemp makes it 0600
        try:
            with os.fdopen(handle, "w") as file:
                file.write(first)
                file.flush()
                os.fsync(file.fileno())
            os.link(draft, path)  # unlike rename, a link never replaces what a racer wrote first
        except FileExistsError:
            pass
        finally:
            os.unlink(draft)
    if path.stat().st_mode & 0o077:
        raise BadSetting(f"{path} can be read by others; run chmod 600 on it.", file=str(path))
    return path.read_text().strip()
