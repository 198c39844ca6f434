# The container's side: a NixOS of its own, in which the harness is all that matters.
#
# The driver starts it by nixos-container, binds the agent's folders (/state, /home/agent/.claude, /config, /run/hive),
# and leaves the harness's variables at /run/hyperhive/environment.
{
  config,
  lib,
  options,
  pkgs,
  hive,
  ...
}:
let
  inherit (hive) identity;
  findPackage = import ./find-package.nix { inherit lib; } pkgs;
  hyperhive = pkgs.callPackage ./package.nix { };
  isOnHostNetwork = config.hyperhive.network.mode == "host";
in
{
  _file = ./harness-base.nix;

  config = {
    nixpkgs = {
      hostPlatform = identity.system;
      overlays = lib.optional (hive.unstable != null) (import ./overlay.nix { inherit (hive) unstable; });
      # Each agent's system evaluates a nixpkgs of its own, which has to be told, too.
      config.allowUnfreePredicate = import ./unfree.nix { inherit lib; };
    };

    # Its name since NixOS 25.11.
    boot =
      if options.boot ? isNspawnContainer then { isNspawnContainer = true; } else { isContainer = true; };

    # Nothing that a container keeps depends on it: what is kept is bound into it.
    system.stateVersion = lib.mkDefault config.system.nixos.release;
    # Two systems that differ in nothing but how their nixpkgs was named are the same one.
    system.nixos.versionSuffix = lib.mkDefault "";
    system.nixos.revision = lib.mkDefault null;
    # It has no daemon of its own to build with, and the host's is not for it.
    nix.enable = lib.mkDefault false;
    documentation.enable = lib.mkDefault false;

    # The one way out is the harness's, by a socket. With the host's network its names are the host's, too.
    networking = {
      hostName = identity.name;
      useDHCP = false;
      useHostResolvConf = lib.mkForce isOnHostNetwork;
      # Needs what a container may not do; and on the host's network it would be the host's.
      firewall.enable = lib.mkForce false;
    };

    users = {
      mutableUsers = false;
      # Nobody logs in.
      allowNoPasswordLogin = true;
      users.agent = {
        uid = 1000;
        group = "agent";
        isNormalUser = true;
        home = "/home/agent";
        shell = pkgs.bashInteractive;
      };
      groups.agent.gid = 1000;
    };

    # The folder that is bound into it was there first, as root's.
    systemd.tmpfiles.rules = [ "d /home/agent 0700 agent agent -" ];

    # What claude's shell has, besides what each NixOS has.
    environment.systemPackages = [
      pkgs.curl
      pkgs.git
    ]
    ++ map findPackage config.hyperhive.packages;

    systemd.services.hyperhive-harness = {
      description = "the harness of ${identity.name}";
      wantedBy = [ "multi-user.target" ];
      # A service does not have the PATH of the system: this is how claude finds what the system has.
      path = [
        pkgs.git
        "/run/current-system/sw"
      ];
      environment = {
        HOME = "/home/agent";
        USER = "agent";
        LANG = "C.UTF-8";
        # The rules for commands are judged as bash reads them.
        SHELL = "${pkgs.bashInteractive}/bin/bash";
        HIVE_CLAUDE = lib.getExe pkgs.claude-code;
        HYPERHIVE_GIT = "${pkgs.git}/bin/git";
      };
      unitConfig = {
        # A container is its harness: it ends with it, and the hive decides what comes then.
        SuccessAction = "exit";
        FailureAction = "exit";
      };
      serviceConfig = {
        Type = "exec";
        ExecStart = "${hyperhive}/bin/hive-harness";
        User = "agent";
        Group = "agent";
        WorkingDirectory = "/state";
        # Counts more than `environment`: a CLI that the operator names replaces that of the overlay.
        EnvironmentFile = "/run/hyperhive/environment";
        # The console is what the hive shows of a container, and keeps when it is gone.
        StandardOutput = "journal+console";
        StandardError = "journal+console";
        Restart = "no";
        # The harness ends within 5 s of a TERM, and ends claude before; what is left then is killed.
        KillMode = "mixed";
        TimeoutStopSec = 8;
        # A command of claude's that is out of memory does not end the harness.
        OOMPolicy = "continue";
        LimitCORE = 0;
        NoNewPrivileges = true;
      };
    };
  };
}
