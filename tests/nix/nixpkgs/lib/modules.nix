# Modules as NixOS has them: options declared in some files, defined in others, merged by type and priority.
{ lib }:
let
  typeOf = value: if builtins.isAttrs value then value._type or "" else "";
  isOption = value: typeOf value == "option";
  showOption = builtins.concatStringsSep ".";

  # A module as a list of itself and all that it imports: { file, options, config }.
  collect =
    args: default: module:
    let
      isFile = !builtins.isAttrs module && !builtins.isFunction module;
      read = if isFile then import module else module;
      called = if builtins.isFunction read then read (pick args read) else read;
      file = called._file or (if isFile then toString module else default);
      plain = removeAttrs called [ "_file" "key" "imports" ];
      whole = plain ? options || plain ? config;
    in
    [
      {
        inherit file;
        options = if whole then plain.options or { } else { };
        config = if whole then plain.config or { } else plain;
      }
    ]
    ++ builtins.concatMap (collect args file) (called.imports or [ ]);

  # Only what a module names: the others may need the very options it declares.
  pick = args: module: builtins.mapAttrs (name: _: args name) (builtins.functionArgs module);

  # Conditions and merges around a set go to what is in it, so that its names never depend on a condition.
  pushDown =
    value:
    if typeOf value == "if" then
      map (builtins.mapAttrs (_: inner: lib.mkIf value.condition inner)) (pushDown value.content)
    else if typeOf value == "merge" then
      builtins.concatMap pushDown value.contents
    else if typeOf value == "override" then
      map (builtins.mapAttrs (_: inner: lib.mkOverride value.priority inner)) (pushDown value.content)
    else
      [ value ];

  discharge =
    definition:
    let
      inherit (definition) value;
      again = content: discharge (definition // { value = content; });
    in
    if typeOf value == "if" then
      if value.condition then again value.content else [ ]
    else if typeOf value == "merge" then
      builtins.concatMap again value.contents
    else if typeOf value == "override" then
      map (inner: inner // { inherit (value) priority; }) (again value.content)
    else
      [ ({ priority = 100; } // definition) ];

  # The definitions of highest priority, without what is around them.
  settle =
    definitions:
    let
      all = builtins.concatMap discharge definitions;
      best = builtins.foldl' (least: one: if one.priority < least then one.priority else least) 9999 all;
    in
    builtins.filter (one: one.priority == best) all;

  mergeDefinitions =
    path: type: definitions:
    let
      settled = settle definitions;
      wrong = builtins.filter (one: !type.check one.value) settled;
    in
    if settled == [ ] then
      throw "The option `${showOption path}' was accessed but has no value defined. Try setting the option."
    else if wrong != [ ] then
      throw (
        "A definition for option `${showOption path}' is not of type `${type.description}'. "
        + "It is in `${(builtins.head wrong).file}'."
      )
    else
      type.merge path settled;

  # Options that several modules declare below one another.
  mergeOptions =
    path: trees:
    let
      names = lib.unique (builtins.concatMap builtins.attrNames trees);
      below = name: map (tree: tree.${name}) (builtins.filter (tree: tree ? ${name}) trees);
    in
    lib.genAttrs names (
      name:
      let
        found = below name;
      in
      if !builtins.any isOption found then
        mergeOptions (path ++ [ name ]) found
      else if builtins.length found == 1 then
        builtins.head found
      else
        throw "The option `${showOption (path ++ [ name ])}' is declared twice."
    );

  # A set of options cannot be anything but a set.
  spread =
    path: definitions:
    builtins.concatMap (
      one:
      map (
        value:
        if builtins.isAttrs value then
          {
            inherit (one) file;
            inherit value;
          }
        else
          throw "The option `${showOption path}' is a set of options. It is defined otherwise in `${one.file}'."
      ) (pushDown one.value)
    ) definitions;

  below =
    name: definitions:
    map (one: one // { value = one.value.${name}; }) (builtins.filter (one: one.value ? ${name}) definitions);

  findUnknown =
    path: options: definitions:
    builtins.concatMap (
      one:
      builtins.concatMap (
        name:
        if !(options ? ${name}) then
          [ "The option `${showOption (path ++ [ name ])}' does not exist. It is defined in `${one.file}'." ]
        else if isOption options.${name} then
          [ ]
        else
          findUnknown (path ++ [ name ]) options.${name} (
            spread (path ++ [ name ]) [ (one // { value = one.value.${name}; }) ]
          )
      ) (builtins.attrNames one.value)
    ) definitions;

  evaluate =
    path: options: definitions:
    builtins.mapAttrs (
      name: option:
      let
        own = below name definitions;
        here = path ++ [ name ];
        default = lib.optional (option ? default) {
          file = "the option's own default";
          value = lib.mkOptionDefault option.default;
        };
      in
      if isOption option then
        mergeDefinitions here (option.type or lib.types.raw) (default ++ own)
      else
        evaluate here option (spread here own)
    ) options;

  annotate =
    path: options: definitions:
    builtins.mapAttrs (
      name: option:
      if isOption option then
        option
        // {
          loc = path ++ [ name ];
          isDefined = option ? default || below name definitions != [ ];
        }
      else
        annotate (path ++ [ name ]) option (spread (path ++ [ name ]) (below name definitions))
    ) options;
in
{
  inherit mergeDefinitions;

  evalModules =
    {
      modules,
      specialArgs ? { },
      prefix ? [ ],
    }:
    let
      args =
        name:
        if name == "config" then
          config
        else if name == "options" then
          options
        else if name == "lib" then
          specialArgs.lib or lib
        else
          specialArgs.${name} or config._module.args.${name} or (throw "modules have no argument `${name}'");
      base = {
        file = "modules.nix";
        options._module.args = lib.mkOption { type = lib.types.lazyAttrsOf lib.types.raw; };
        config._module.args = { };
      };
      collected = [ base ] ++ builtins.concatMap (collect args "<unknown-file>") modules;
      declared = mergeOptions prefix (map (module: module.options) collected);
      definitions = spread prefix (
        map (module: {
          inherit (module) file;
          value = module.config;
        }) collected
      );
      options = annotate prefix declared definitions;
      config = evaluate prefix declared definitions;
      unknown = findUnknown prefix declared definitions;
      checked = value: if unknown == [ ] then value else throw (builtins.head unknown);
    in
    {
      inherit options;
      config = checked (removeAttrs config [ "_module" ]);
    };
}
