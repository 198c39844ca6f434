# NixOS tests, each in a virtual machine of its own: `nix flake check`. docs/nixos.md says which have been run.
{ self, nixpkgs, unstable, pkgs }:
let
  hive = import ./hive.nix { inherit self nixpkgs unstable pkgs; };
  run = file: pkgs.testers.runNixOSTest (import file { inherit hive; });
in
{
  spawn = run ./spawn.nix;
  approve = run ./approve.nix;
  crash = run ./crash.nix;
  upgrade = run ./upgrade.nix;
  reboot = run ./reboot.nix;
}
