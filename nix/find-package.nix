# A package by its name in nixpkgs, with dots for what is in sets: `python3Packages.requests`.
{ lib }:
pkgs: name:
let
  found = lib.attrByPath (lib.splitString "." name) null pkgs;
in
if lib.isDerivation found then found else throw "hyperhive.packages: nixpkgs has no package '${name}'"
