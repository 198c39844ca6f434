# NixOS as the hive's modules see it: the options they set, and a system that is nothing but a name.
{ lib }:
{
  modules,
  specialArgs ? { },
  system ? null,
}:
let
  inherit (lib) mkOption types;
  # What is set here is only read by tests.
  free = mkOption {
    type = types.anything;
    default = { };
  };
  list =
    type:
    mkOption {
      type = types.listOf type;
      default = [ ];
    };
  off = mkOption {
    type = types.bool;
    default = false;
  };
  text = default: mkOption {
    inherit default;
    type = types.str;
  };
  nixos =
    { config, ... }:
    {
      _file = "system.nix";
      options = {
        assertions = list types.attrs;
        boot.enableContainers = off;
        boot.isNspawnContainer = off;
        documentation = free;
        environment.systemPackages = list types.package;
        networking = {
          hostName = text "nixos";
          useDHCP = mkOption {
            type = types.bool;
            default = true;
          };
          useHostResolvConf = off;
          firewall.enable = mkOption {
            type = types.bool;
            default = true;
          };
          firewall.allowedTCPPorts = list types.port;
        };
        nix.enable = mkOption {
          type = types.bool;
          default = true;
        };
        nix.package = mkOption {
          type = types.package;
          default = config._module.args.pkgs.nix;
        };
        nix.settings = free;
        nixpkgs.hostPlatform = text (if system == null then "x86_64-linux" else system);
        nixpkgs.overlays = list types.raw;
        nixpkgs.config = free;
        specialisation = free;
        system.stateVersion = text "25.11";
        system.nixos = {
          release = text "25.11";
          versionSuffix = text ".stand-in";
          revision = mkOption {
            type = types.nullOr types.str;
            default = "stand-in";
          };
        };
        system.build.toplevel = mkOption { type = types.package; };
        systemd.services = free;
        systemd.tmpfiles.rules = list types.str;
        users = {
          mutableUsers = mkOption {
            type = types.bool;
            default = true;
          };
          allowNoPasswordLogin = off;
          users = free;
          groups = free;
        };
        virtualisation = free;
      };
      config = {
        _module.args.pkgs = import ./. {
          system = config.nixpkgs.hostPlatform;
          inherit (config.nixpkgs) config overlays;
        };
        system.build.toplevel = lib.mkDefault (
          let
            pkgs = config._module.args.pkgs;
          in
          derivation {
            name = "nixos-system-${config.networking.hostName}";
            system = pkgs.system;
            builder = "/bin/sh";
            args = [ "-c" "echo $packages > $out" ];
            packages = map toString config.environment.systemPackages;
            units = builtins.toJSON config.systemd.services;
          }
        );
      };
    };
  made = lib.evalModules {
    modules = [ nixos ] ++ modules;
    inherit specialArgs;
  };
in
made
// {
  pkgs = import ./. {
    system = made.config.nixpkgs.hostPlatform;
    inherit (made.config.nixpkgs) config overlays;
  };
}
