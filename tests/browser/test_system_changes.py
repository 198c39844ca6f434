"""What an approval changes of an agent's system, in a real Chromium: below what it means, when it is worked out."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from axe import find_violations
from browser.conftest import PHONE, WIDE
from browser.test_config_story import deploy, order, propose, spawn
from hive_process import KEEP_ROOT, HiveProcess, wait_for
from nix_machines import NixMachine
from nix_rig import make_inputs

PROGRAM = str(Path(__file__).parents[1] / "nix_daemon.py")
# The same wherever it is written down: what the machine builds is what an agent.nix means.
TOOLS = """\
derivation {{
      pname = "build-tools";
      version = "{version}";
      name = "build-tools-{version}";
      system = "x86_64-linux";
      builder = "/bin/sh";
      args = [ "-c" "/usr/bin/head -c {size} /dev/urandom > $out" ];
    }}"""
OLD, NEW = TOOLS.format(version="1.9.2", size=2_000_000), TOOLS.format(version="2.0.1", size=6_000_000)
BEFORE = f"""\
{{ pkgs, ... }}:
{{
  environment.systemPackages = [
    pkgs.hello
    ({OLD})
  ];
}}
"""
AFTER = f"""\
{{ pkgs, ... }}:
{{
  hyperhive = {{
    allowedRecipients = [ "manager" "operator" ];
    bash.allow = [ "git *" "rg *" ];
    limits.memory = "2G";
  }};

  environment.systemPackages = [
    pkgs.jq
    pkgs.ripgrep
    ({NEW})
  ];
}}
"""
HOSTILE = """\
{
  environment.systemPackages = builtins.genList (n: {
    type = "derivation";
    name = "x";
    pname = "<img src=x onerror=alert(1)>" + builtins.fromJSON ''"\\u202e"'' + toString n;
    version = "<b>1</b>";
    outPath = "/nix/store/00000000000000000000000000000000-x";
  }) 60;
}
"""


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """Inputs, and a machine that has the old tools, and can fetch the new ones."""
    with tempfile.TemporaryDirectory(prefix="hive-nix-") as folder:
        place = Path(folder)
        make_inputs(place)
        machine = NixMachine(place / "machine")
        machine.store.mkdir(parents=True)
        file = place / "tools.nix"
        file.write_text(f"{{ old = {OLD}; new = {NEW}; }}")
        machine.build(file, "old")
        built = machine.build(file, "new")
        machine.publish(built)
        machine.delete(built)
        yield place


@pytest.fixture
def hive(place: Path) -> Iterator[HiveProcess]:
    with tempfile.TemporaryDirectory(prefix="hive-") as folder:
        hive = HiveProcess(Path(folder) / "data", flags=KEEP_ROOT, program=(PROGRAM, str(place))).start()
        yield hive
        hive.down()


def wait_pending(hive: HiveProcess) -> int:
    [row] = wait_for(lambda: hive.get("/api/approvals?status=pending"), "a proposal", timeout_s=60, hive=hive)
    return row["id"]


def find_system(page: Page, number: int) -> Locator:
    system = page.get_by_test_id(f"system-{number}")
    expect(system).to_be_visible(timeout=30_000)
    return system


def test_what_changes_of_the_system_is_shown_below_what_the_change_means(page: Page, hive: HiveProcess) -> None:
    spawn(hive, "alice")
    deploy(hive, "alice", agent_nix=BEFORE)
    hive.wait_state("alice", "idle")
    order(hive, "manager", *propose("alice", agent_nix=AFTER, why="ripgrep and the new tools"))
    number = wait_pending(hive)
    page.goto(f"{hive.origin}/approvals/{number}")
    system = find_system(page, number)
    rows = system.locator("tbody tr")
    expect(rows).to_have_text(["±build-tools1.9.2 → 2.0.1", "\u2212hello1.0", "+jq1.0", "+ripgrep1.0"], timeout=60_000)
    expect(system.get_by_test_id("system-sizes")).to_have_text(
        "5.7 MiB more on the disk, at most 1.9 MiB no longer needed, 5.7 MiB to download, "
        "2 packages are built here, of a size not known yet: jq, ripgrep"
    )
    meaning = page.get_by_test_id(f"meaning-{number}")
    assert meaning.evaluate("(table, other) => table.compareDocumentPosition(other)", system.element_handle()) & 4
    for size in (PHONE, WIDE):
        page.set_viewport_size(size)
        expect(rows.first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        assert find_violations(page) == []
    # And by the API as it is: for a program, or the command.
    told = hive.get(f"/api/approvals/{number}/system")
    assert [(row["change"], row["name"]) for row in told["packages"]] == [
        ("changed", "build-tools"),
        ("removed", "hello"),
        ("added", "jq"),
        ("added", "ripgrep"),
    ]
    assert (told["fetched"], told["built"], told["problem"]) == (1, ["jq", "ripgrep"], "")


def test_a_change_can_be_decided_while_its_system_is_being_worked_out(page: Page, hive: HiveProcess) -> None:
    """Its packages are evaluated for far longer than that may take, and its options are not."""
    spawn(hive, "alice")
    slow = "let slow = n: if n == 0 then 0 else builtins.seq (slow (n - 1)) (slow (n - 1)); in"
    endless = f"{{ environment.systemPackages = {slow} builtins.seq (slow 60) [ ]; }}\n"
    order(hive, "manager", *propose("alice", agent_nix=endless))
    number = wait_pending(hive)
    page.goto(f"{hive.origin}/approvals/{number}")
    expect(find_system(page, number)).to_contain_text("being worked out")
    deny = page.get_by_test_id(f"approval-{number}")
    deny.get_by_test_id("deny-open").click()
    deny.get_by_test_id("deny-reason").fill("it has no end")
    deny.get_by_test_id("deny").click()
    expect(deny).to_have_attribute("data-status", "denied", timeout=20_000)


def test_names_of_packages_are_shown_and_never_run(page: Page, hive: HiveProcess) -> None:
    spawn(hive, "alice")
    order(hive, "manager", *propose("alice", agent_nix=HOSTILE))
    number = wait_pending(hive)
    page.goto(f"{hive.origin}/approvals/{number}")
    system = find_system(page, number)
    fold = system.get_by_test_id("system-packages")
    expect(fold).to_contain_text("packages: 60 added", timeout=60_000)
    fold.locator("summary").click()
    expect(system.locator("tbody tr")).to_have_count(60)
    expect(system.locator("mark").first).to_contain_text("⟨U+202E⟩")
    assert system.locator("img, b").count() == 0
    assert "\u202e" not in system.inner_text()
    assert "onerror=alert(1)" in json.dumps(hive.get(f"/api/approvals/{number}/system"))
