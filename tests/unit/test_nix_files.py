"""The hive's Nix files: what they make of a machine, of an agent's container, and of the program.

They are evaluated, with a private store: nothing is built, and no machine is started.
"""

import ast
import base64
import json
import re
from pathlib import Path
from typing import Any, cast

import pytest

from hyperhive.host.drivers.nixos_environment import ENVIRONMENT_FILE
from hyperhive.host.drivers.nixos_flake import parse_nix_inputs
from hyperhive.host.nix_settings import describe_settings
from hyperhive.wire.agent_nix import parse_agent_options
from nix_rig import ROOT, SYSTEM, Bench, EvaluationError, Variant, open_bench, parse_nix_file

NIX_FILES = [ROOT / "flake.nix", *sorted((ROOT / "nix").rglob("*.nix")), *sorted((ROOT / "tests/nix").rglob("*.nix"))]
UNIT = (ROOT / "src/hyperhive/cli/units/hyperhive.service").read_text()
# Settings that services.hyperhive has another option for, or decides itself.
OWN_SETTINGS = {
    "credential": "credential",
    "data": "/var/lib/hyperhive",
    "driver": "nixos",
    "limitCpu": "limits.cpu",
    "limitMemory": "limits.memory",
    "limitTasks": "limits.tasks",
    "nixInputs": "inputs",
    "port": "dashboardPort",
}
SAMPLES: dict[str, Any] = {"boolean": True, "integer": 7, "number": 0.5, "path": "/etc/some.pem", "string": "text 7%"}
IDENTITY = f'{{ name = "alice"; machine = "h-alice"; port = 8945; system = "{SYSTEM}"; }}'
AGENT = f"hyperhive.lib.makeAgent {{ inherit nixpkgs unstable; identity = {IDENTITY}; modules = [ ./agent.nix ]; }}"
HOST = f"""
  let
    host = nixpkgs.lib.nixosSystem {{
      modules = [ hyperhive.nixosModules.default ./host.nix {{ nixpkgs.hostPlatform = "{SYSTEM}"; }} ];
    }};
  in
  {{
    unit = {{ inherit (host.config.systemd.services.hyperhive) environment serviceConfig unitConfig after wantedBy; }};
    wrong = map (one: one.message) (builtins.filter (one: !one.assertion) host.config.assertions);
    names = builtins.attrNames host.config.services.hyperhive;
    options = builtins.attrNames host.config.services.hyperhive.settings;
    rest = {{
      inherit (host.config.networking.firewall) allowedTCPPorts;
      inherit (host.config.boot) enableContainers;
      admins = host.config.users.groups.hive-admin.members or [ ];
      packages = map nixpkgs.lib.getName host.config.environment.systemPackages;
      path = map toString host.config.systemd.services.hyperhive.path;
    }};
    inherit (host) config;
    all = [
      host.config.services.hyperhive.adminUsers
      host.config.systemd.services.hyperhive.environment
    ];
  }}
"""
CONTAINER = "nixosConfigurations.container.config"


@pytest.fixture(scope="module", params=list(Variant))
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return open_bench(tmp_path_factory.mktemp("nix"), request.param)


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return open_bench(tmp_path_factory.mktemp("nix"), Variant.STAND_IN)


@pytest.mark.parametrize("file", NIX_FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_file_is_nix(file: Path, tmp_path: Path) -> None:
    assert parse_nix_file(file, tmp_path)
    assert max(map(len, file.read_text().splitlines())) <= 120


# -- an agent's container ------------------------------------------------------------------------------------


def read_container(bench: Bench, attribute: str, text: str = "{ }", outputs: str = AGENT) -> Any:
    return bench.evaluate(outputs, f"{CONTAINER}.{attribute}", {"agent.nix": text})


def test_the_harness_runs_as_the_agent_in_its_folder_with_the_variables_of_the_hive(bench: Bench) -> None:
    service = read_container(bench, "systemd.services.hyperhive-harness.serviceConfig")
    assert service["ExecStart"].endswith("/bin/hive-harness")
    assert (service["User"], service["Group"], service["WorkingDirectory"]) == ("agent", "agent", "/state")
    assert service["EnvironmentFile"] == str(ENVIRONMENT_FILE)
    assert {service["StandardOutput"], service["StandardError"]} == {"journal+console"}
    user = read_container(bench, "users.users.agent")
    assert (user["uid"], user["home"]) == (1000, "/home/agent")
    assert read_container(bench, "users.groups.agent.gid") == 1000


def test_a_container_ends_with_its_harness(bench: Bench) -> None:
    unit = read_container(bench, "systemd.services.hyperhive-harness.unitConfig")
    assert (unit["SuccessAction"], unit["FailureAction"]) == ("exit", "exit")
    service = read_container(bench, "systemd.services.hyperhive-harness.serviceConfig")
    assert service["Restart"] == "no"
    assert service["TimeoutStopSec"] < 10


def test_what_an_agent_adds_to_its_system_is_on_the_path_of_claude(bench: Bench) -> None:
    text = '{ pkgs, ... }: { environment.systemPackages = [ pkgs.jq ]; hyperhive.packages = [ "hello" ]; }'
    names = re.compile(r"/nix/store/[a-z0-9]{32}-([a-z-]+?)-[0-9]")
    outputs = f"""
      let made = {AGENT}; in made // {{
        paths = map toString made.{CONTAINER}.environment.systemPackages;
        path = map toString made.{CONTAINER}.systemd.services.hyperhive-harness.path;
      }}"""
    found = bench.evaluate(outputs, "paths", {"agent.nix": text})
    assert {"jq", "hello", "git", "curl"} <= {match[1] for path in found if (match := names.match(path))}
    path = bench.evaluate(outputs, "path", {"agent.nix": text})
    assert "/run/current-system/sw" in path
    environment = read_container(bench, "systemd.services.hyperhive-harness.environment", text)
    git = environment["HYPERHIVE_GIT"]
    assert re.fullmatch(r"/nix/store/[a-z0-9]{32}-git-[0-9.]+/bin/git", git)
    assert git.removesuffix("/bin/git") in path
    assert environment["SHELL"].endswith("/bin/bash")


def test_claude_is_that_of_unstable_and_nothing_else_that_is_unfree_may_be_used(bench: Bench) -> None:
    claude = read_container(bench, "systemd.services.hyperhive-harness.environment.HIVE_CLAUDE")
    assert claude.endswith("/bin/claude")
    without = AGENT.replace("inherit nixpkgs unstable;", "inherit nixpkgs;")
    assert read_container(bench, "systemd.services.hyperhive-harness.environment.HIVE_CLAUDE", outputs=without)
    if bench.variant is not Variant.WHOLE:
        # The stand-ins have different ones.
        assert "claude-code-2.0" in claude
        assert "claude-code-1.0" in read_container(
            bench, "systemd.services.hyperhive-harness.environment.HIVE_CLAUDE", outputs=without
        )
    with pytest.raises(EvaluationError, match="unfree"):
        text = "{ pkgs, ... }: { environment.systemPackages = [ pkgs.unrar ]; }"
        read_container(bench, "system.build.toplevel.drvPath", text)


def test_the_overlay_brings_claude_and_nothing_else(stand_in: Bench) -> None:
    outputs = f"""{{
      made = hyperhive.overlays.claude-unstable {{ }} nixpkgs.legacyPackages.{SYSTEM};
      names = builtins.attrNames (hyperhive.overlays.claude-unstable {{ }} nixpkgs.legacyPackages.{SYSTEM});
      plain = nixpkgs.legacyPackages.{SYSTEM}.claude-code.outPath;
    }}"""
    assert stand_in.evaluate(outputs, "names") == ["claude-code"]
    assert "claude-code-2.0" in stand_in.evaluate(outputs, "made.claude-code.outPath")
    with pytest.raises(EvaluationError, match="unfree"):
        stand_in.evaluate(outputs, "plain")


@pytest.mark.parametrize("mode", ["none", "proxied", "host"])
def test_a_container_sets_up_no_network_and_has_the_names_of_the_host_only_on_its_network(
    bench: Bench, mode: str
) -> None:
    text = f'{{ hyperhive.network.mode = "{mode}"; }}'
    outputs = f"""
      let made = {AGENT}; in made // {{
        found = {{
          inherit (made.{CONTAINER}.networking) hostName useDHCP useHostResolvConf;
          firewall = made.{CONTAINER}.networking.firewall.enable;
        }};
      }}"""
    assert bench.evaluate(outputs, "found", {"agent.nix": text}) == {
        "hostName": "alice",
        "useDHCP": False,
        "useHostResolvConf": mode == "host",
        "firewall": False,
    }


def test_a_system_depends_on_the_name_of_its_agent_and_on_nothing_else_of_it(bench: Bench) -> None:
    first = read_container(bench, "system.build.toplevel.drvPath")
    other = AGENT.replace("h-alice", "h-other").replace("8945", "8946")
    assert read_container(bench, "system.build.toplevel.drvPath", outputs=other) == first
    named = AGENT.replace('"alice"', '"bob"')
    assert read_container(bench, "system.build.toplevel.drvPath", outputs=named) != first


def test_the_template_is_a_config(bench: Bench) -> None:
    text = (ROOT / "nix/template/agent.nix").read_text()
    read = bench.evaluate(AGENT, "agentConfig", {"agent.nix": text})
    assert parse_agent_options(json.dumps(read).encode()).packages == ["ripgrep"]
    assert read_container(bench, "system.build.toplevel.drvPath", text)
    assert (ROOT / "nix/template/prompt.md").read_text().strip()
    place = bench.evaluate("{ place = toString hyperhive.templates.default.path; }", "place")
    assert place.endswith("/nix/template")


# -- the machine ---------------------------------------------------------------------------------------------


def read_host(bench: Bench, attribute: str, settings: dict[str, Any]) -> Any:
    """What a machine has that sets these options of services.hyperhive."""
    text = "{ services.hyperhive = builtins.fromJSON (builtins.readFile ./options.json); }"
    return bench.evaluate(HOST, attribute, {"host.nix": text, "options.json": json.dumps({"enable": True, **settings})})


def find_wrong(told: list[str]) -> list[str]:
    """What is wrong with a hive: the machines here lack disks, of which NixOS tells, too."""
    return [one for one in told if one.startswith("services.hyperhive")]


def test_three_lines_are_a_hive(bench: Bench) -> None:
    unit = read_host(bench, "unit", {})
    assert unit["wantedBy"] == ["multi-user.target"]
    assert re.fullmatch(
        r"/nix/store/[a-z0-9]{32}-hyperhive-[0-9.]+/bin/hived --data=/var/lib/hyperhive",
        unit["serviceConfig"]["ExecStart"],
    )
    variables = {name: value for name, value in unit["environment"].items() if name.startswith("HIVE_")}
    assert parse_nix_inputs(variables.pop("HIVE_NIX_INPUTS")).unstable is not None
    assert variables == {"HIVE_DRIVER": "nixos", "HIVE_PORT": "7000"}
    assert find_wrong(read_host(bench, "wrong", {})) == []


def test_a_machine_without_a_hive_is_as_it_was(stand_in: Bench) -> None:
    rest = "{ services.hyperhive.enable = false; }"
    assert "hyperhive" not in stand_in.evaluate(HOST, "config.systemd.services", {"host.nix": rest})
    assert stand_in.evaluate(HOST, "config.boot.enableContainers", {"host.nix": rest}) is False
    assert stand_in.evaluate(HOST, "config.systemd.tmpfiles.rules", {"host.nix": rest}) == []


def test_every_setting_of_the_daemon_is_an_option_and_reaches_it(bench: Bench) -> None:
    described = describe_settings()
    assert set(OWN_SETTINGS) <= set(described)
    assert read_host(bench, "options", {}) == sorted(set(described) - set(OWN_SETTINGS))
    # Each is within the bounds of all that have some.
    samples = {name: SAMPLES[row["type"]] for name, row in described.items() if name not in OWN_SETTINGS}
    environment = read_host(bench, "unit.environment", {"settings": samples})
    wanted = {described[name]["variable"]: render(value) for name, value in samples.items()}
    assert {name: environment[name] for name in wanted} == wanted


def render(value: Any) -> str:
    """As systemd has it in a unit: a percent sign begins something else there."""
    return value.replace("%", "%%") if isinstance(value, str) else json.dumps(value)


def test_what_has_an_option_of_its_own_reaches_the_daemon(bench: Bench) -> None:
    given = {
        "dashboardPort": 7100,
        "limits": {"memory": "70%", "cpu": 1.5, "tasks": 100},
        "inputs": {"hyperhive": "/nix/store/other"},
        "credential": "/run/keys/account",
        "environmentFile": "/run/keys/hive.env",
    }
    unit = read_host(bench, "unit", given)
    environment = unit["environment"]
    assert environment["HIVE_PORT"] == "7100"
    limits = [environment[f"HIVE_LIMIT_{name}"] for name in ("MEMORY", "CPU", "TASKS")]
    assert limits[0] == "70%%"
    assert [float(limit) for limit in limits[1:]] == [1.5, 100]
    inputs = parse_nix_inputs(environment["HIVE_NIX_INPUTS"])
    assert inputs.hyperhive == Path("/nix/store/other")
    # The others stay as they are.
    assert inputs.unstable is not None
    assert unit["serviceConfig"]["LoadCredential"] == "hyperhive.credential:/run/keys/account"
    assert unit["serviceConfig"]["EnvironmentFile"] == ["/run/keys/hive.env"]


@pytest.mark.parametrize("option", ["credential", "environmentFile"])
def test_a_secret_is_named_by_its_path_and_never_copied_to_the_store(bench: Bench, option: str) -> None:
    [told] = find_wrong(read_host(bench, "wrong", {option: "keys/hive"}))
    assert "absolute" in told
    with pytest.raises(EvaluationError, match=rf"services.hyperhive.{option}"):
        text = f"{{ services.hyperhive = {{ enable = true; {option} = ./host.nix; }}; }}"
        bench.evaluate(HOST, "unit", {"host.nix": text})


@pytest.mark.parametrize(
    "given",
    [
        {"dashboardPort": 70000},
        {"settings": {"warmS": "long"}},
        {"settings": {"warmS": -1}},
        {"settings": {"port": 7000}},
        {"settings": {"nothing": 1}},
        {"adminUsers": "alice"},
        {"limits": {"tasks": 0.5}},
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_built(bench: Bench, given: dict[str, Any]) -> None:
    with pytest.raises(EvaluationError, match=r"services\.hyperhive"):
        read_host(bench, "all", given)


def test_a_machine_that_has_its_containers_in_another_place_is_refused(bench: Bench) -> None:
    text = '{ services.hyperhive.enable = true; system.stateVersion = "21.11"; }'
    [told] = find_wrong(bench.evaluate(HOST, "wrong", {"host.nix": text}))
    assert "22.05" in told


def test_admins_are_members_of_the_group_and_the_firewall_stays_closed(bench: Bench) -> None:
    rest = read_host(bench, "rest", {"adminUsers": ["carol"]})
    assert rest["admins"] == ["carol"]
    assert rest["allowedTCPPorts"] == []
    assert rest["enableContainers"] is True
    assert {"hyperhive", "git"} <= {name.split("-0")[0] for name in rest["packages"]}
    opened = read_host(bench, "rest", {"openFirewall": True, "dashboardPort": 7100})
    assert opened["allowedTCPPorts"] == [7100]


def test_the_service_finds_what_the_driver_runs(bench: Bench) -> None:
    path = " ".join(read_host(bench, "rest", {})["path"])
    for name in ("nix-", "systemd-", "util-linux", "bubblewrap", "git-", "coreutils"):
        assert re.search(rf"/nix/store/[a-z0-9]{{32}}-{name}", path), name
    # There NixOS has nixos-container.
    assert "/run/current-system/sw" in path


def test_the_service_is_the_one_of_other_machines_but_for_what_is_said(bench: Bench) -> None:
    unit = read_host(bench, "unit", {})
    found = {name: normalise(value) for name, value in {**unit["unitConfig"], **unit["serviceConfig"]}.items()}
    wanted = read_unit(UNIT)
    # What NixOS writes from options of its own, or fills in: other tests look at it.
    for key in ("After", "Description", "Environment", "StartLimitBurst", "StartLimitIntervalSec", "WantedBy"):
        wanted.pop(key)
        found.pop(key, None)
    for key in ("EnvironmentFile", "ExecStart", "RequiresMountsFor"):
        del wanted[key], found[key]
    # What nixos-container writes to, and nothing beyond.
    places = found.pop("ReadWritePaths")
    assert set(wanted.pop("ReadWritePaths")) <= set(places)
    assert all(re.match(r"/run$|/(etc|var/lib)/nixos-containers$|/nix/var/nix/", place) for place in places)
    assert found.pop("ProtectHome") == ["yes"]
    # After an update of the flake every agent.nix is evaluated anew before the hive is ready.
    assert (found.pop("TimeoutStartSec"), wanted.pop("TimeoutStartSec")) == (["infinity"], ["180"])
    assert found == wanted
    assert unit["environment"]["PYTHONFAULTHANDLER"] == "1"


def read_unit(text: str) -> dict[str, list[str]]:
    """The values of each key, in order."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if "=" in line and not line.startswith("#"):
            key, value = line.split("=", 1)
            found.setdefault(key, []).append(value)
    return found


def normalise(value: Any) -> list[str]:
    values = cast("list[Any]", value) if isinstance(value, list) else [value]
    return [("yes" if one else "no") if isinstance(one, bool) else str(one) for one in values]


# -- the program ---------------------------------------------------------------------------------------------


def test_the_pages_are_built_from_the_lock_file_and_each_package_is_known_by_its_hash(bench: Bench) -> None:
    outputs = f"""
      let pages = hyperhive.packages.{SYSTEM}.default.pages; in {{ inherit (pages) lock; }}
    """
    made: dict[str, Any] = json.loads(bench.evaluate(outputs, "lock"))
    lock: dict[str, Any] = json.loads((ROOT / "web/package-lock.json").read_text())
    assert set(made["packages"]) == set(lock["packages"])
    for path, entry in made["packages"].items():
        place = entry.pop("resolved", None)
        assert entry == lock["packages"][path]
        wanted = path and "linux" in entry.get("os", ["linux"]) and "x64" in entry.get("cpu", ["x64"])
        assert bool(place) == bool(wanted), path
        if place:
            name = path.rsplit("node_modules/", 1)[1].replace("@", "").replace("/", "-")
            file = re.escape(f"{name}-{entry['version']}.tgz")
            assert re.fullmatch(rf"file:/nix/store/[a-z0-9]{{32}}-{file}", place)
            assert len(base64.b64decode(entry["integrity"].removeprefix("sha512-"))) == 64


def test_the_program_takes_the_dependencies_of_the_project_and_says_which_one_nixpkgs_lacks(stand_in: Bench) -> None:
    outputs = f"{{ made = hyperhive.packages.{SYSTEM}.default.module; }}"
    found = stand_in.evaluate(outputs, "made.dependencies")
    project = (ROOT / "pyproject.toml").read_text()
    asked = re.findall(r'^  "([a-z0-9-]+)[>=]', project.split("dependencies = [")[1].split("]")[0], re.MULTILINE)
    assert [re.sub(r"^/nix/store/[a-z0-9]{32}-|-1\.0$", "", path) for path in found] == asked
    lacking = f"""
      let pkgs = nixpkgs.legacyPackages.{SYSTEM}; in {{
        made = pkgs.callPackage "${{hyperhive}}/nix/package.nix" {{
          python3 = pkgs.python3 // {{ pkgs = removeAttrs pkgs.python3.pkgs [ "uvloop" ]; }};
        }};
      }}"""
    with pytest.raises(EvaluationError, match="nixpkgs has no Python package 'uvloop'"):
        stand_in.evaluate(lacking, "made.module.dependencies")


# -- the tests in virtual machines ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["spawn", "approve", "crash", "upgrade", "reboot"])
def test_a_test_in_a_virtual_machine_can_be_evaluated_and_its_script_is_python(bench: Bench, name: str) -> None:
    outputs = f"{{ inherit (hyperhive.checks.{SYSTEM}) {name}; }}"
    assert bench.evaluate(outputs, f"{name}.drvPath")
    script = bench.evaluate(outputs, f"{name}.config.testScriptString")
    tree = ast.parse(script)
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert called - defined <= {"retry", "next"}


def test_every_output_of_the_flake_can_be_evaluated(bench: Bench) -> None:
    outputs = "{ made = hyperhive; names = builtins.attrNames hyperhive.outputs; }"
    names = set(bench.evaluate(outputs, "names"))
    assert names == {"nixosModules", "lib", "overlays", "packages", "checks", "templates", "devShells", "formatter"}
    for attribute in ("packages.SYSTEM.default", "devShells.SYSTEM.default", "formatter.SYSTEM"):
        assert bench.evaluate(outputs, f"made.{attribute.replace('SYSTEM', SYSTEM)}.drvPath")


# -- the page ------------------------------------------------------------------------------------------------


def test_every_option_of_the_machine_is_on_the_page_and_no_other(stand_in: Bench) -> None:
    names = stand_in.evaluate(HOST, "names", {"host.nix": "{ }"})
    page = (ROOT / "docs/nixos.md").read_text().split("## The options of the machine")[1].split("\n## ")[0]
    assert sorted(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == sorted(names)
