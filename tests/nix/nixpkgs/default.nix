# Packages that are nothing but names: each can be evaluated, and none holds anything.
{
  system,
  config ? { },
  overlays ? [ ],
  claudeVersion ? "1.0",
}:
let
  lib = import ./lib;
  isAllowed = config.allowUnfreePredicate or (_: config.allowUnfree or false);
  make =
    {
      pname,
      version ? "1.0",
      free ? true,
      mainProgram ? pname,
    }:
    let
      made = derivation {
        name = "${pname}-${version}";
        inherit system;
        builder = "/bin/sh";
        args = [ "-c" "echo ${pname} > $out" ];
      };
      package = made // {
        inherit pname version;
        meta = {
          inherit mainProgram;
        };
      };
      check =
        value: if free || isAllowed package then value else throw "Package '${pname}-${version}' has an unfree license";
    in
    package
    // {
      outPath = check made.outPath;
      drvPath = check made.drvPath;
      override = _: package;
    };
  named = pname: make { inherit pname; };
  # Whatever is built is a name, too; what it is built from can be looked at.
  build =
    args:
    let
      own = removeAttrs args [ "meta" "passthru" ];
    in
    derivation (
      own
      // {
        name = args.name or "${args.pname}-${args.version}";
        inherit system;
        builder = "/bin/sh";
      }
    )
    // {
      inherit (args) meta passthru;
    };
  base = {
    inherit system lib;
    stdenv.hostPlatform = platform;
    stdenvNoCC = {
      hostPlatform = platform;
      mkDerivation = args: build ({ meta = { }; passthru = { }; } // args);
    };
    runCommand =
      name: args: script:
      build (
        {
          inherit name;
          meta = { };
          passthru = { };
        }
        // args
        // {
          args = [ "-c" script ];
        }
      )
      // (args.passthru or { });
    # A test of a machine that is never started.
    testers.runNixOSTest =
      test:
      build {
        inherit (test) name;
        machines = lib.mapAttrsToList (
          _: module:
          (import ./system.nix { inherit lib; } { modules = [ module ]; }).config.system.build.toplevel
        ) test.nodes;
        meta = { };
        passthru = { };
      }
      // {
        config.testScriptString = test.testScript;
      };
    mkShell = args: build ({ name = "shell"; meta = { }; passthru = { }; } // args);
    callPackage =
      file: more:
      let
        made = import file;
      in
      made (builtins.intersectAttrs (builtins.functionArgs made) final // more);
    python3 = named "python3" // {
      pkgs = python3Packages // {
        buildPythonPackage = args: build ({ meta = { }; passthru = { }; } // args);
      };
      withPackages =
        choose:
        build {
          name = "python3-env";
          packages = choose python3Packages;
          meta = { };
          passthru = { };
        };
    };
    inherit python3Packages;
    claude-code = make {
      pname = "claude-code";
      # As in nixpkgs the stable one lags behind.
      version = claudeVersion;
      free = false;
      mainProgram = "claude";
    };
    unrar = make {
      pname = "unrar";
      free = false;
    };
  }
  // lib.genAttrs [
    "bash"
    "bashInteractive"
    "bubblewrap"
    "cacert"
    "coreutils"
    "curl"
    "git"
    "hello"
    "jq"
    "nix"
    "nixfmt-tree"
    "nixos-container"
    "nodejs"
    "openssl"
    "ripgrep"
    "systemd"
    "util-linux"
  ] named;
  # As many as the hive has dependencies.
  python3Packages = lib.genAttrs (
    [
      "hatchling"
      "requests"
    ]
    ++ dependencies
  ) named;
  dependencies = [
    "apprise"
    "claude-agent-sdk"
    "croniter"
    "cryptography"
    "fastapi"
    "h11"
    "httpx"
    "mcp"
    "orjson"
    "prometheus-client"
    "pydantic"
    "pydantic-settings"
    "structlog"
    "textual"
    "tree-sitter"
    "tree-sitter-bash"
    "typer"
    "uvicorn"
    "uvloop"
    "websockets"
  ];
  platform = {
    inherit system;
    node = {
      platform = "linux";
      arch = if system == "aarch64-linux" then "arm64" else "x64";
    };
  };
  apply =
    previous: overlay:
    let
      next = previous // overlay next previous;
    in
    next;
  final = builtins.foldl' apply base overlays;
in
final
