{
  description = "A stand-in for nixpkgs: as much of its lib, its packages and NixOS as the hive's own Nix files use.";

  outputs =
    { self }:
    let
      lib = import ./lib;
    in
    {
      lib = lib // {
        nixosSystem = import ./system.nix { inherit lib; };
      };
      legacyPackages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (system: import ./. { inherit system; });
    };
}
