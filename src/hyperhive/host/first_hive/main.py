"""`hive import-first-hive` becomes this: it changes a data folder with no help of a daemon.

Standard output has the report; the exit status is 0, or 1 if nothing could be taken over (why, on standard error).
"""

import argparse
import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from hyperhive.core.errors import HiveError
from hyperhive.core.paths import decide_roots
from hyperhive.core.text import render_safe_text
from hyperhive.host.first_hive.imports import Wanted, import_first_hive
from hyperhive.host.first_hive.report import Report, render_report
from hyperhive.system.log import configure_log


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("source", type=Path)
    parser.add_argument("--data", type=Path)
    for flag in ("--with-credentials", "--dry-run", "--json"):
        parser.add_argument(flag, action="store_true")
    given = parser.parse_args()
    configure_log()
    # What agents wrote may be shown, in whatever locale.
    sys.stdout.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    try:
        roots = decide_roots(given.data, environment=os.environ, uid=os.geteuid(), working_folder=Path.cwd())
        wanted = Wanted(Path.cwd() / given.source, roots, given.with_credentials, given.dry_run)
        report = asyncio.run(_import(wanted))
    except HiveError as error:
        print(f"hive: {render_safe_text(error.message)}", file=sys.stderr)
        if error.hint:
            print(f"hint: {render_safe_text(error.hint)}", file=sys.stderr)
        sys.exit(1)
    except (asyncio.CancelledError, KeyboardInterrupt):
        sys.exit(128 + signal.SIGTERM)
    print(json.dumps(report.describe()) if given.json else render_safe_text(render_report(report)), flush=True)


async def _import(wanted: Wanted) -> Report:
    """As Ctrl-C does, a wish to end undoes what is half done."""
    task = asyncio.current_task()
    if task is not None:
        for number in (signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await import_first_hive(wanted)


if __name__ == "__main__":
    main()
