# The program with its built pages: `hive`, `hived` and `hive-harness`.
{
  lib,
  cacert,
  nodejs,
  python3,
  runCommand,
  stdenvNoCC,
}:
let
  project = (lib.importTOML ../pyproject.toml).project;
  lock = lib.importJSON ../web/package-lock.json;

  # -- the pages --

  isForHere =
    entry:
    let
      inherit (stdenvNoCC.hostPlatform.node) arch platform;
    in
    lib.elem platform (entry.os or [ platform ]) && lib.elem arch (entry.cpu or [ arch ]);

  # The lock file has no addresses: npm itself knows where packages are, and the file by what hash to know each.
  fetchNpmPackage =
    path: entry:
    let
      name = entry.name or (lib.last (lib.splitString "node_modules/" path));
      fileName = lib.replaceStrings [ "@" "/" ] [ "" "-" ] name;
    in
    stdenvNoCC.mkDerivation {
      name = "${fileName}-${entry.version}.tgz";
      outputHash = entry.integrity;
      outputHashMode = "flat";
      nativeBuildInputs = [ nodejs ];
      impureEnvVars = lib.fetchers.proxyImpureEnvVars;
      NODE_EXTRA_CA_CERTS = "${cacert}/etc/ssl/certs/ca-bundle.crt";
      dontUnpack = true;
      buildPhase = ''
        export HOME=$TMPDIR
        npm pack --ignore-scripts ${lib.escapeShellArg "${name}@${entry.version}"}
      '';
      installPhase = ''
        mv -- *.tgz "$out"
      '';
      dontFixup = true;
    };

  # The same lock file, with where each package is. What is for other machines stays away: npm leaves it out.
  lockHere = lock // {
    packages = lib.mapAttrs (
      path: entry:
      if path != "" && isForHere entry then
        entry // { resolved = "file:${fetchNpmPackage path entry}"; }
      else
        entry
    ) lock.packages;
  };

  pages = stdenvNoCC.mkDerivation {
    pname = "hyperhive-pages";
    inherit (project) version;
    src = ../web;
    nativeBuildInputs = [ nodejs ];
    lock = builtins.toJSON lockHere;
    passAsFile = [ "lock" ];
    buildPhase = ''
      runHook preBuild
      export HOME=$TMPDIR
      rm -rf node_modules
      cp "$lockPath" package-lock.json
      npm ci --offline --ignore-scripts --no-audit --no-fund
      node node_modules/vite/bin/vite.js build --outDir dist
      runHook postBuild
    '';
    installPhase = ''
      cp -r dist "$out"
    '';
  };

  # -- the program --

  # What the program is made of: it is not built anew when a text or a test changes.
  pieces = [
    "LICENSE"
    "README.md"
    "hatch_build.py"
    "pyproject.toml"
    "src"
  ];
  findTop = path: lib.head (lib.splitString "/" (lib.removePrefix "${toString ../.}/" (toString path)));

  module = python3.pkgs.buildPythonPackage {
    pname = project.name;
    inherit (project) version;
    pyproject = true;
    src = builtins.path {
      name = "hyperhive-source";
      path = ../.;
      filter = path: _: lib.elem (findTop path) pieces;
    };
    # The version of the builder is pinned for wheels; here it is that of nixpkgs.
    postPatch = ''
      sed -i 's/"hatchling==[0-9.]*"/"hatchling"/' pyproject.toml
      rm -rf src/hyperhive/host/api/pages
      cp -r ${pages} src/hyperhive/host/api/pages
      chmod -R u+w src/hyperhive/host/api/pages
    '';
    build-system = [ python3.pkgs.hatchling ];
    dependencies = map findDependency project.dependencies;
    # nixpkgs' versions are what they are: pyproject.toml has the newest that were there when it was written.
    pythonRelaxDeps = true;
    # They need a machine with containers: scripts/test.
    doCheck = false;
    pythonImportsCheck = [
      "hyperhive.cli.main"
      "hyperhive.harness.main"
      "hyperhive.host.main"
    ];
  };

  findDependency =
    requirement:
    let
      name = lib.head (builtins.match "([A-Za-z0-9_-]+).*" requirement);
      grammars = python3.pkgs.tree-sitter-grammars or { };
    in
    python3.pkgs.${name} or grammars.${name} or (throw "hyperhive: nixpkgs has no Python package '${name}'");

  # Its programs start others by `sys.executable`: that has to be a Python that has all of it.
  environment = python3.withPackages (_: [ module ]);
in
runCommand "${project.name}-${project.version}"
  {
    passthru = { inherit environment module pages; };
    meta = {
      description = project.description;
      license = lib.licenses.mit;
      mainProgram = "hive";
      platforms = lib.platforms.linux;
    };
  }
  ''
    mkdir -p "$out/bin"
    for program in hive hived hive-harness; do
      ln -s ${environment}/bin/$program "$out/bin/$program"
    done
  ''
