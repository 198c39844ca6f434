{
  description = "hyperhive: agents in containers, under one operator";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-25.11";
    # For claude-code alone, which the stable one has later.
    unstable.url = "github:NixOS/nixpkgs/nixos-unstable";
  };

  outputs =
    {
      self,
      nixpkgs,
      unstable,
    }:
    let
      forAllSystems =
        make:
        nixpkgs.lib.genAttrs [
          "x86_64-linux"
          "aarch64-linux"
        ] (system: make nixpkgs.legacyPackages.${system});
    in
    {
      # The hive on a machine: services.hyperhive.
      nixosModules.default = import ./nix/module.nix { inherit self nixpkgs unstable; };

      # The system of one agent's container: what the hive calls for each agent.
      lib.makeAgent = import ./nix/agent.nix { inherit self; };

      overlays.claude-unstable = import ./nix/overlay.nix { inherit unstable; };

      packages = forAllSystems (pkgs: rec {
        hyperhive = pkgs.callPackage ./nix/package.nix { };
        default = hyperhive;
      });

      # In virtual machines: `nix flake check`.
      checks = forAllSystems (
        pkgs: import ./nix/tests { inherit self nixpkgs unstable pkgs; }
      );

      templates.default = {
        path = ./nix/template;
        description = "The config of an agent: agent.nix and prompt.md";
      };

      devShells = forAllSystems (pkgs: {
        # scripts/test and ./hive bring their own Python packages and node.
        default = pkgs.mkShell {
          packages = [
            pkgs.bubblewrap
            pkgs.git
            pkgs.nix
            pkgs.openssl
            pkgs.python3
          ];
        };
      });

      formatter = forAllSystems (pkgs: pkgs.nixfmt-tree);
    };
}
