"""Facts about the process's environment that are recorded beside results."""

from __future__ import annotations

import getpass


def user_name() -> str:
    """The name of the user who runs the process; ``unknown`` in a container without such a user."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
