# What the hive's own Nix files use of nixpkgs' lib, and nothing else.
let
  lib = {
    types = import ./types.nix { inherit lib; };

    # -- sets and lists --
    inherit (builtins)
      concatStringsSep
      elem
      head
      isBool
      isString
      mapAttrs
      replaceStrings
      ;
    nameValuePair = name: value: { inherit name value; };
    mapAttrs' = change: set: builtins.listToAttrs (map (name: change name set.${name}) (builtins.attrNames set));
    filterAttrs =
      keep: set: removeAttrs set (builtins.filter (name: !keep name set.${name}) (builtins.attrNames set));
    genAttrs =
      names: make:
      builtins.listToAttrs (
        map (name: {
          inherit name;
          value = make name;
        }) names
      );
    attrByPath =
      path: default: set:
      if path == [ ] then
        set
      else if builtins.isAttrs set && set ? ${builtins.head path} then
        lib.attrByPath (builtins.tail path) default set.${builtins.head path}
      else
        default;
    mapAttrsToList = change: set: map (name: change name set.${name}) (builtins.attrNames set);
    last = items: builtins.elemAt items (builtins.length items - 1);
    inherit (builtins) all;
    importJSON = file: builtins.fromJSON (builtins.readFile file);
    importTOML = file: builtins.fromTOML (builtins.readFile file);
    optionalString = condition: text: if condition then text else "";
    escapeShellArg = text: "'${builtins.replaceStrings [ "'" ] [ "'\\''" ] text}'";
    fetchers.proxyImpureEnvVars = [ ];
    removePrefix =
      prefix: text:
      if lib.hasPrefix prefix text then
        builtins.substring (builtins.stringLength prefix) (builtins.stringLength text) text
      else
        text;
    licenses.mit = "mit";
    platforms.linux = [ "x86_64-linux" ];
    optional = condition: item: if condition then [ item ] else [ ];
    unique = builtins.foldl' (kept: item: if builtins.elem item kept then kept else kept ++ [ item ]) [ ];
    splitString = separator: text: builtins.filter builtins.isString (builtins.split (lib.escapeRegex separator) text);
    escapeRegex = builtins.replaceStrings [ "." "+" "*" ] [ "\\." "\\+" "\\*" ];
    hasPrefix = prefix: text: builtins.substring 0 (builtins.stringLength prefix) text == prefix;
    versionAtLeast = version: least: builtins.compareVersions version least >= 0;
    isDerivation = value: value.type or "" == "derivation";
    getName = package: package.pname or (builtins.parseDrvName package.name).name;
    getExe = package: "${package}/bin/${package.meta.mainProgram or (lib.getName package)}";
    boolToString = value: if value then "true" else "false";

    # -- what modules are written with --
    mkOption = options: options // { _type = "option"; };
    mkEnableOption =
      name:
      lib.mkOption {
        default = false;
        type = lib.types.bool;
        description = "Whether to enable ${name}.";
      };
    literalExpression = text: {
      _type = "literalExpression";
      inherit text;
    };
    mkIf = condition: content: {
      _type = "if";
      inherit condition content;
    };
    mkMerge = contents: {
      _type = "merge";
      inherit contents;
    };
    mkOverride = priority: content: {
      _type = "override";
      inherit priority content;
    };
    mkOptionDefault = lib.mkOverride 1500;
    mkDefault = lib.mkOverride 1000;
    mkForce = lib.mkOverride 50;

    inherit (import ./modules.nix { inherit lib; }) evalModules mergeDefinitions;
  };
in
lib
