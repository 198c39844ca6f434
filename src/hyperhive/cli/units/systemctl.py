"""The service manager: that of the machine, or a user's own. All of it by `systemctl`."""

import os
from collections.abc import Mapping
from pathlib import Path

from hyperhive.core.errors import UnavailableError
from hyperhive.system.process import Completed, ProcessError, run

# As long as the unit lets a start take, and a little more.
START_TIMEOUT_S = 200.0
CALL_TIMEOUT_S = 60.0
_ASKED = ("LoadState", "ActiveState", "SubState", "UnitFileState", "Result", "NRestarts", "StatusText", "MainPID")


class Systemctl:
    """Every call raises UnavailableError with what systemd says of the failure."""

    def __init__(self, *, user: bool) -> None:
        self._scope = ("--user",) if user else ()
        self._is_user = user

    def find_trouble(self, environment: Mapping[str, str]) -> str:
        """Why there is no such manager here; empty if there is one."""
        if self._is_user:
            folder = environment.get("XDG_RUNTIME_DIR", "")
            there = folder.startswith("/") and Path(folder, "systemd/private").exists()
            return "" if there else "there is no service manager of this user: is this a login of their own?"
        # What sd_booted(3) looks at.
        return "" if Path("/run/systemd/system").is_dir() else "systemd does not run this machine"

    async def show(self, unit: str) -> dict[str, str]:
        """What is known of a unit; LoadState is `not-found` for one that is not installed."""
        done = await self.call("show", f"--property={','.join(_ASKED)}", unit)
        lines = done.stdout.decode("utf-8", "replace").splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    async def call(self, *arguments: str, timeout_s: float = CALL_TIMEOUT_S) -> Completed:
        done = await self.attempt(*arguments, timeout_s=timeout_s)
        if not done.ok:
            raise UnavailableError(f"`systemctl {' '.join(arguments)}` failed: {done.error_text}", "")
        return done

    async def attempt(self, *arguments: str, timeout_s: float = CALL_TIMEOUT_S) -> Completed:
        """The same, where a failure is an answer."""
        try:
            return await run(
                ["systemctl", *self._scope, "--no-ask-password", "--no-pager", *arguments],
                timeout_s=timeout_s,
                # Its words are looked at, and shown: not in whatever language.
                env={**os.environ, "LC_ALL": "C.UTF-8"},
            )
        except ProcessError as error:
            raise UnavailableError(str(error), "is systemd installed?") from error
