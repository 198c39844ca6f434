"""A hive that is a service of a booted machine: what its API says, and until something has come about there."""

import time
from collections.abc import Callable
from typing import Any, ClassVar

import httpx

from booted import Booted


class BootedHive:
    """`patience_s`: how long something is waited for where nothing else is said."""

    patience_s: ClassVar[float] = 60

    def __init__(self, booted: Booted) -> None:
        self.booted = booted

    def get(self, path: str) -> Any:
        """An answer of the hive's. The command would be a process for each, and there is a lot to wait for."""
        transport = httpx.HTTPTransport(uds=f"{self.booted.seen_root}/run/hyperhive/hive.sock")
        with httpx.Client(transport=transport, base_url="http://hive", timeout=30) as client:
            return client.get(path).raise_for_status().json()

    def agent(self, name: str = "alice") -> dict[str, Any]:
        """Its row; an empty one if there is no such agent."""
        rows: list[dict[str, Any]] = [row for row in self.get("/api/agents") if row["name"] == name]
        return rows[0] if rows else {}

    def wait(self, condition: Callable[[], Any], what: str, timeout_s: float | None = None) -> Any:
        """Polls until `condition` gives something true, and returns that. Fails with the machine's journal."""
        patience_s = self.patience_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            try:
                found = condition()
            except (AssertionError, httpx.HTTPError):
                # A hive that is just being started answers nothing.
                found = None
            if found:
                return found
            time.sleep(0.4)
        journal = self.booted.attempt("journalctl", "-n", "60", "--no-pager").stdout
        raise AssertionError(f"waited {patience_s} s in vain for {what}\n{journal}")

    def wait_idle(self, name: str = "alice") -> dict[str, Any]:
        return self.wait(lambda: (row := self.agent(name)).get("state") == "idle" and row, f"{name} to be idle")
