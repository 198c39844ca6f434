# makeAgent: the system of one agent's container, and its config as plain data.
{ self }:
{
  nixpkgs,
  # Where claude-code is taken from; that of `nixpkgs` without one.
  unstable ? null,
  # Who it is: { name = "alice"; machine = "h-alice"; port = 8945; system = "x86_64-linux"; }
  identity,
  # Its own files: agent.nix.
  modules,
}:
let
  inherit (nixpkgs) lib;

  container = lib.nixosSystem {
    specialArgs.hive = { inherit self unstable identity; };
    modules = [
      ./agent-options.nix
      ./harness-base.nix
    ]
    ++ modules;
  };

  options = container.config.hyperhive;
  findPackage = import ./find-package.nix { inherit lib; } container.pkgs;
in
{
  nixosConfigurations.container = container;

  # The fields of AgentConfig and no others. A package that does not exist is told here, before anything is built.
  agentConfig =
    builtins.removeAttrs options [
      "allowedBashPatterns"
      "extraMcpServers"
    ]
    // {
      packages = map (name: builtins.seq (findPackage name) name) options.packages;
    };
}
