# Types of options: { description, check, merge }.
{ lib }:
let
  showOption = builtins.concatStringsSep ".";
  make = description: check: merge: {
    _type = "option-type";
    inherit description check merge;
  };
  one =
    path: definitions:
    let
      values = lib.unique (map (definition: definition.value) definitions);
      files = builtins.concatStringsSep "', `" (map (definition: definition.file) definitions);
    in
    if builtins.length values == 1 then
      builtins.head values
    else
      throw "The option `${showOption path}' has conflicting definition values in `${files}'.";
  plain = description: check: make description check one;
  # Of several sets the values by name, each still a definition of its own.
  byName =
    definitions:
    lib.genAttrs (lib.unique (builtins.concatMap (definition: builtins.attrNames definition.value) definitions)) (
      name:
      map (definition: {
        inherit (definition) file;
        value = definition.value.${name};
      }) (builtins.filter (definition: definition.value ? ${name}) definitions)
    );
  isNumber = value: builtins.isInt value || builtins.isFloat value;
  isNamed = value: builtins.isString value || builtins.isPath value || value ? outPath;
in
rec {
  raw = make "raw value" (_: true) (
    path: definitions:
    if builtins.length definitions == 1 then (builtins.head definitions).value else one path definitions
  );
  str = plain "string" builtins.isString;
  bool = plain "boolean" builtins.isBool;
  int = plain "signed integer" builtins.isInt;
  number = plain "signed integer or floating point number" isNumber;
  path = plain "absolute path" (
    value: isNamed value && lib.hasPrefix "/" (toString value)
  );
  package = plain "package" lib.isDerivation;
  port = ints.between 0 65535;
  ints.between =
    low: high:
    plain "integer between ${toString low} and ${toString high} (both inclusive)" (
      value: builtins.isInt value && value >= low && value <= high
    );
  numbers.between =
    low: high:
    plain "integer or floating point number between ${toString low} and ${toString high} (both inclusive)" (
      value: isNumber value && value >= low && value <= high
    );
  enum =
    values:
    plain "one of ${builtins.concatStringsSep ", " (map builtins.toJSON values)}" (
      value: builtins.elem value values
    );
  nullOr =
    type:
    make "null or ${type.description}" (value: value == null || type.check value) (
      path: definitions:
      if builtins.all (definition: definition.value == null) definitions then
        null
      else if builtins.any (definition: definition.value == null) definitions then
        throw "The option `${showOption path}' is defined both null and not null."
      else
        type.merge path definitions
    );
  listOf =
    type:
    make "list of ${type.description}" builtins.isList (
      path: definitions:
      builtins.concatMap (
        definition:
        builtins.genList (
          index:
          lib.mergeDefinitions (path ++ [ "[entry ${toString (index + 1)}]" ]) type [
            {
              inherit (definition) file;
              value = builtins.elemAt definition.value index;
            }
          ]
        ) (builtins.length definition.value)
      ) definitions
    );
  lazyAttrsOf =
    type:
    make "lazy attribute set of ${type.description}" builtins.isAttrs (
      path: definitions: builtins.mapAttrs (name: lib.mergeDefinitions (path ++ [ name ]) type) (byName definitions)
    );
  attrsOf = type: (lazyAttrsOf type) // { description = "attribute set of ${type.description}"; };
  attrs = attrsOf raw;
  # Sets are merged name by name, lists put together, all else has to be said once.
  anything = make "anything" (_: true) (
    path: definitions:
    if builtins.all (one: builtins.isAttrs one.value && !lib.isDerivation one.value) definitions then
      (lazyAttrsOf anything).merge path definitions
    else if builtins.length definitions == 1 then
      (builtins.head definitions).value
    else
      one path definitions
  );
  submodule =
    modules:
    make "submodule" (value: builtins.isAttrs value || builtins.isFunction value) (
      path: definitions:
      (lib.evalModules {
        prefix = path;
        modules =
          (if builtins.isList modules then modules else [ modules ])
          ++ map (
            definition:
            if builtins.isFunction definition.value then
              definition.value
            else
              {
                _file = definition.file;
                config = definition.value;
              }
          ) definitions;
      }).config
    );
}
