{
  description = "The stand-in of tests/nix, with systems that boot: the folder `base` beside this one is put there.";

  outputs =
    { self }:
    let
      base = (import ./base/flake.nix).outputs { self = base; };
    in
    base
    // {
      lib = base.lib // {
        nixosSystem = given: base.lib.nixosSystem (given // { modules = given.modules ++ [ ./debian.nix ]; });
      };
    };
}
