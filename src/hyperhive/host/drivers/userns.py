"""Why this kernel refuses user namespaces to everyone, and the command that allows them."""

from pathlib import Path

_KERNEL = Path("/proc/sys")
# (setting, the value that refuses, what allows): Debian before 11; Ubuntu from 23.10 on; any.
_SETTINGS = (
    ("kernel/unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"),
    ("user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=15000"),
)


def explain_refusal(settings_folder: Path = _KERNEL) -> str:
    """What to do when a sandbox cannot be made, from the kernel's settings; they are all that is looked at."""
    commands = [
        command for setting, refusing, command in _SETTINGS if _find_text(settings_folder / setting) == refusing
    ]
    if commands:
        return f"as root: {' && '.join(commands)} (a file in /etc/sysctl.d keeps it)"
    return "bubblewrap needs user namespaces and a /proc that nothing is mounted over; most containers deny both"


def _find_text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
