# makeAgent: the system of one agent's container, its config as plain data, and what packages the system has.
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

  # A text of whatever a package says, without what it would have built.
  tell = value: builtins.unsafeDiscardStringContext (toString value);
  describe =
    package:
    let
      parsed = builtins.parseDrvName package.name;
    in
    {
      name = tell (package.pname or parsed.name);
      version = tell (package.version or parsed.version);
      path = tell package.outPath;
    };
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

  # What is on claude's path, as plain data too.
  agentPackages = map describe container.config.environment.systemPackages;
}
