# services.hyperhive: a hive on this machine, each of whose agents has a NixOS container of its own.
{ self, nixpkgs, unstable }:
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkIf mkOption types;

  cfg = config.services.hyperhive;

  # The daemon's settings, as its code has them: see scripts/nix-settings.
  known = builtins.fromJSON (builtins.readFile ./settings.json);
  # Those that have an option of another name here, or follow from what this is.
  own = [
    "credential"
    "data"
    "driver"
    "limitCpu"
    "limitMemory"
    "limitTasks"
    "nixInputs"
    "port"
  ];

  findType =
    setting:
    let
      between = lib.attrByPath [ setting.type ] null {
        integer = types.ints.between;
        number = types.numbers.between;
      };
      plain = {
        boolean = types.bool;
        integer = types.int;
        number = types.number;
        path = types.path;
        string = types.str;
      };
    in
    if setting ? minimum && setting ? maximum then
      between setting.minimum setting.maximum
    else
      plain.${setting.type};

  describeDefault =
    value:
    if value == null || value == "" then "none" else if lib.isString value then value else builtins.toJSON value;

  makeOption =
    setting:
    mkOption {
      type = types.nullOr (findType setting);
      default = null;
      description = "${setting.description} If not set: ${describeDefault setting.default}.";
    };

  render =
    value:
    if lib.isBool value then
      lib.boolToString value
    else if lib.isString value || builtins.isPath value then
      # systemd takes a `%` for the beginning of something else.
      lib.replaceStrings [ "%" ] [ "%%" ] (toString value)
    else
      builtins.toJSON value;

  # What the unit of other machines has in a file of its own.
  environment = lib.filterAttrs (_: value: value != null) (
    lib.mapAttrs' (name: value: lib.nameValuePair known.${name}.variable value) (
      cfg.settings
      // {
        port = cfg.dashboardPort;
        limitCpu = cfg.limits.cpu;
        limitMemory = cfg.limits.memory;
        limitTasks = cfg.limits.tasks;
        driver = "nixos";
        nixInputs = lib.concatStringsSep " " (
          lib.mapAttrsToList (name: path: "${name}=${path}") cfg.inputs
        );
      }
    )
  );
in
{
  _file = ./module.nix;

  options.services.hyperhive = {
    enable = lib.mkEnableOption "the hive: agents in containers, under one operator";

    package = mkOption {
      type = types.package;
      default = pkgs.callPackage ./package.nix { };
      defaultText = lib.literalExpression "the hive of this flake, built with the machine's own packages";
      description = "The program.";
    };

    inputs = mkOption {
      type = types.attrsOf types.path;
      default = { };
      defaultText = lib.literalExpression "the hive's flake and its inputs";
      description = ''
        What systems of agents are built from: the hive itself, nixpkgs, and `unstable`, where claude-code is from.
        When one of them moves, `hive rebuild --stale` builds agents anew.
      '';
    };

    dashboardPort = mkOption {
      type = types.port;
      default = 7000;
      description = "The dashboard's port. It listens at 127.0.0.1 alone.";
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether the firewall lets the dashboard's port in. The daemon itself listens at 127.0.0.1 alone: this is for
        something on this machine that listens at the same port of other addresses and passes connections on.
      '';
    };

    settings = mkOption {
      type = types.submodule { options = lib.mapAttrs (_: makeOption) (removeAttrs known own); };
      default = { };
      example = lib.literalExpression ''{ warmS = 600; timeZone = "Europe/Berlin"; }'';
      description = "The daemon's other settings; docs/reference/settings.md says more of each.";
    };

    limits = {
      memory = makeOption known.limitMemory;
      cpu = makeOption known.limitCpu;
      tasks = makeOption known.limitTasks;
    };

    environmentFile = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "/run/keys/hive.env";
      description = ''
        A file with more settings, one `HIVE_NAME=VALUE` a line, which count more than those that stand here. It is read
        when the service starts, and is never copied to the Nix store: here belongs what others must not read.
      '';
    };

    credential = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "/run/keys/anthropic";
      description = ''
        The absolute path of a file with the API key or token, which systemd hands on to the daemon; root's, and of a
        mode that nobody else can read it. Never copied to the Nix store. Without one the machine's credential store is
        asked (`/etc/credstore/hyperhive.credential`), and agents can log in by themselves.
      '';
    };

    adminUsers = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "alice" ];
      description = ''
        Who may decide what agents become: members of the group `hive-admin`, who may connect to
        `/run/hyperhive/host.sock`, which has mode 0660.
      '';
    };
  };

  config = mkIf cfg.enable {
    assertions = [
      {
        # Before that they were in /etc/containers.
        assertion = lib.versionAtLeast config.system.stateVersion "22.05";
        message = "services.hyperhive: containers are in /etc/nixos-containers since system.stateVersion 22.05";
      }
      {
        assertion = lib.all (path: path == null || lib.hasPrefix "/" path) [
          cfg.credential
          cfg.environmentFile
        ];
        message = "services.hyperhive: credential and environmentFile have to be absolute paths";
      }
    ];

    services.hyperhive.inputs = lib.mapAttrs (_: lib.mkDefault) {
      hyperhive = "${self}";
      nixpkgs = "${nixpkgs}";
      unstable = "${unstable}";
    };

    # Containers that are made by command, too.
    boot.enableContainers = true;

    environment.systemPackages = [
      cfg.package
      # What the hive starts as root is looked for in this machine's own programs.
      pkgs.bubblewrap
      pkgs.git
    ];

    networking.firewall.allowedTCPPorts = lib.optional cfg.openFirewall cfg.dashboardPort;

    users.groups.hive-admin.members = cfg.adminUsers;

    # What `nixos-container` writes to; the service sees nothing else of /etc and /var.
    systemd.tmpfiles.rules = [
      "d /etc/nixos-containers 0755 root root -"
      "d /var/lib/nixos-containers 0700 root root -"
      "d /nix/var/nix/profiles/per-container 0755 root root -"
      "d /nix/var/nix/gcroots/per-container 0755 root root -"
    ];

    # As src/hyperhive/cli/units/hyperhive.service, which has the reasons; a test compares the two.
    systemd.services.hyperhive = {
      description = "hyperhive: agents in containers, under one operator";
      after = [ "network.target" ];
      wantedBy = [ "multi-user.target" ];
      startLimitIntervalSec = 300;
      startLimitBurst = 10;
      unitConfig.RequiresMountsFor = "/var/lib/hyperhive";

      # The machine's own programs are not on the path of a service.
      path = [
        pkgs.bubblewrap
        pkgs.coreutils
        pkgs.git
        pkgs.systemd
        pkgs.util-linux
        config.nix.package
        # nixos-container as NixOS has set it up.
        "/run/current-system/sw"
      ];

      environment = lib.mapAttrs (_: render) environment // {
        PYTHONFAULTHANDLER = "1";
        HYPERHIVE_GIT = "${pkgs.git}/bin/git";
      };

      serviceConfig = {
        Type = "notify";
        NotifyAccess = "main";
        ExecStart = "${cfg.package}/bin/hived --data=/var/lib/hyperhive";
        EnvironmentFile = lib.optional (cfg.environmentFile != null) cfg.environmentFile;
        LoadCredential = "hyperhive.credential" + lib.optionalString (cfg.credential != null) ":${cfg.credential}";
        Restart = "on-failure";
        RestartSec = 2;
        RestartPreventExitStatus = 2;
        # After an update of the flake every agent.nix is evaluated anew before it is ready.
        TimeoutStartSec = "infinity";
        TimeoutStopSec = 30;
        WatchdogSec = 30;
        TimeoutAbortSec = 10;
        LimitCORE = 0;
        LimitNOFILE = "32768:524288";
        KillMode = "process";
        OOMPolicy = "continue";
        OOMScoreAdjust = -500;
        CPUWeight = 500;
        IOWeight = 500;
        RuntimeDirectory = "hyperhive";
        RuntimeDirectoryMode = "0751";
        RuntimeDirectoryPreserve = "yes";
        StateDirectory = "hyperhive";
        StateDirectoryMode = "0700";
        ProtectSystem = "strict";
        # Besides /run: what the rules for tmpfiles above make.
        ReadWritePaths = [
          "/run"
          "/etc/nixos-containers"
          "/var/lib/nixos-containers"
          "/nix/var/nix/profiles/per-container"
          "/nix/var/nix/gcroots"
        ];
        ProtectHome = true;
        PrivateTmp = true;
        NoNewPrivileges = true;
        ProtectKernelModules = true;
        ProtectClock = true;
        CapabilityBoundingSet = [
          "~CAP_AUDIT_CONTROL CAP_AUDIT_READ CAP_AUDIT_WRITE CAP_BLOCK_SUSPEND CAP_BPF CAP_LEASE"
          "~CAP_MAC_ADMIN CAP_MAC_OVERRIDE CAP_NET_BROADCAST CAP_NET_RAW CAP_PERFMON CAP_SYSLOG"
          "~CAP_SYS_BOOT CAP_SYS_MODULE CAP_SYS_PACCT CAP_SYS_RAWIO CAP_SYS_TIME CAP_SYS_TTY_CONFIG"
          "~CAP_WAKE_ALARM"
        ];
        RestrictAddressFamilies = "AF_UNIX AF_INET AF_INET6 AF_NETLINK";
        RestrictRealtime = true;
        LockPersonality = true;
        SystemCallArchitectures = "native";
        SystemCallFilter = "~@clock @cpu-emulation @module @obsolete @raw-io @reboot @swap";
        SystemCallErrorNumber = "EPERM";
        DevicePolicy = "closed";
        DeviceAllow = [
          "/dev/net/tun rw"
          "/dev/fuse rw"
        ];
      };
    };
  };
}
