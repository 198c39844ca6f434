# A machine with a hive that nobody is behind, and what its tests say more than once.
#
# A virtual machine of a test reaches no cache: the systems that its agents are going to have are put into its store.
# What they are built from in there is the same, so that there is nothing left to build: a system depends on its agent's
# name, and on no other part of who it is.
{ self, nixpkgs, unstable, pkgs }:
let
  inherit (pkgs.stdenv.hostPlatform) system;

  makeSystem =
    name:
    (self.lib.makeAgent {
      inherit nixpkgs unstable;
      identity = {
        inherit name system;
        machine = name;
        port = 0;
      };
      modules = [ { } ];
    }).nixosConfigurations.container.config.system.build.toplevel;

  moved = pkgs.runCommand "hyperhive-moved" { } ''
    cp -r ${self} "$out"
  '';
in
{
  inherit moved;

  # `agents` are the names of those that a test makes, beside the manager.
  makeMachine =
    agents:
    { lib, ... }:
    {
      imports = [ self.nixosModules.default ];

      services.hyperhive = {
        enable = true;
        settings.rehearsal = true;
        adminUsers = [ "operator" ];
      };
      users.users.operator.isNormalUser = true;

      nix.settings = {
        experimental-features = [
          "nix-command"
          "flakes"
        ];
        substituters = lib.mkForce [ ];
      };
      virtualisation = {
        cores = 2;
        memorySize = 4096;
        diskSize = 8192;
        writableStore = true;
        additionalPaths = map makeSystem ([ "manager" ] ++ agents) ++ [
          "${self}"
          "${moved}"
          "${nixpkgs}"
          "${unstable}"
        ];
      };
    };

  # What every test begins with: the functions wait for what is to be seen, and fail when it does not come.
  prelude = ''
    import json
    import shlex

    def hive(command):
        return machine.succeed(f"hive {command}")

    def ask(command):
        return json.loads(hive(f"{command} --json"))

    def get_row(name):
        return next((row for row in ask("ps") if row["name"] == name), None)

    def wait_state(name, *states):
        def is_so(_):
            row = get_row(name)
            return row is not None and row["state"] in states

        retry(is_so)

    # The first process of an agent's container, as the machine sees it; empty if it does not run.
    def find_leader(machine_name):
        _, leader = machine.execute(f"machinectl show --property=Leader --value {machine_name}")
        return leader.strip()

    # The agent's shell runs a command, and its output comes back as a message.
    def wait_output(name, command, output):
        hive(f"send {name} {shlex.quote('run: ' + command)}")
        machine.wait_until_succeeds(f"hive inbox --json | grep -F -- {shlex.quote(output)}")

    machine.start()
    machine.wait_for_unit("hyperhive.service")
    wait_state("manager", "idle")
  '';
}
