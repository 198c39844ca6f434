# claude-code of another nixpkgs, as the stable one has it later. It is not free software: the other nixpkgs is told so
# of this one package, and of no other.
{ unstable }:
final: prev: {
  inherit
    (import unstable {
      inherit (prev.stdenv.hostPlatform) system;
      config.allowUnfreePredicate = import ./unfree.nix { inherit (prev) lib; };
    })
    claude-code
    ;
}
