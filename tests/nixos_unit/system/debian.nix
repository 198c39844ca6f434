# A system that boots: the units and users that the modules declare, with a Debian's programs at /usr.
{ config, pkgs, ... }:
let
  # Of this machine's store, where they were put before: { tools, usr, etc, python, program, claude }.
  paths = builtins.fromJSON (builtins.readFile ./paths.json);
  inherit (builtins) attrNames attrValues concatStringsSep filter isBool isList map;
  lines = concatStringsSep "\n";

  # -- what is built: by the shell of the sandbox, with texts alone

  build =
    name: script:
    derivation {
      inherit name;
      inherit (pkgs) system;
      builder = "/bin/sh";
      args = [ "-ec" "PATH=${paths.tools}/bin; mkdir $out; cd $out; ${script}" ];
    };
  write = path: text: ''
    cat >${path} <<'END OF THE FILE'
    ${text}
    END OF THE FILE
  '';
  wrap = name: command: build name ''
    mkdir bin
    ln -s ${command} bin/${name}
  '';

  # -- units

  setting =
    name: value:
    if isList value then
      lines (map (setting name) value)
    else if isBool value then
      "${name}=${if value then "true" else "false"}"
    else
      "${name}=${toString value}";
  section = name: values: lines ([ "[${name}]" ] ++ map (key: setting key values.${key}) (attrNames values));
  unit =
    service:
    let
      path = map (package: "${package}/bin") (service.path or [ ]);
      environment = { PATH = concatStringsSep ":" (path ++ [ "/usr/bin" ]); } // service.environment or { };
    in
    lines [
      (section "Unit" ({ Description = service.description or ""; } // service.unitConfig or { }))
      (section "Service" (
        {
          Environment = map (name: ''"${name}=${toString environment.${name}}"'') (attrNames environment);
        }
        // service.serviceConfig
      ))
    ];
  services = config.systemd.services;
  isRun = name: (services.${name}.serviceConfig or { }) ? ExecStart;
  units = map (name: ''
    ${write "units/${name}.service" (unit services.${name})}
    ${lines (
      map (target: ''
        mkdir -p units/${target}.wants
        ln -s ../${name}.service units/${target}.wants/${name}.service
      '') (services.${name}.wantedBy or [ ])
    )}
  '') (filter isRun (attrNames services));

  # -- users

  groups = config.users.groups;
  isNumbered = entry: entry ? uid;
  users = map (
    name:
    let
      user = config.users.users.${name};
    in
    "${name} ${toString user.uid} ${toString groups.${user.group}.gid} ${user.home}"
  ) (filter (name: isNumbered config.users.users.${name}) (attrNames config.users.users));
in
{
  nixpkgs.overlays = [
    (_: previous: {
      git = wrap "git" "/usr/bin/git";
      bashInteractive = wrap "bash" "/usr/bin/bash";
      claude-code = previous.claude-code // wrap "claude" paths.claude;
      # What nix/package.nix is called to make.
      runCommand = name: _: _: wrap "hive-harness" "${paths.program}/bin/hive-harness" // { inherit name; };
    })
  ];
  system.build.toplevel = build "nixos-system-${config.networking.hostName}" ''
    mkdir units
    ${lines units}
    ${write "users" (lines users)}
    ${write "groups" (lines (map (name: "${name} ${toString groups.${name}.gid}") (attrNames groups)))}
    ${write "packages" (lines (map toString config.environment.systemPackages))}
    echo ${config.networking.hostName} >hostname
    printf %s ${pkgs.system} >system
    sed "s|@out@|$out|g" <<'END OF THE FILE' >init
    ${builtins.replaceStrings [ "@tools@" "@usr@" "@etc@" "@python@" ] [ paths.tools paths.usr paths.etc paths.python ] (builtins.readFile ./init)}
    END OF THE FILE
    chmod 755 init
    cp ${./activate} activate
    ln -s /usr sw
    mkdir bin
    ${write "bin/switch-to-configuration" ''
      #!${paths.tools}/bin/bash
      PATH=${paths.tools}/bin:/usr/bin
      bash $(readlink -f /nix/var/nix/profiles/system)/activate $(readlink -f /nix/var/nix/profiles/system)
      systemctl daemon-reload
    ''}
    chmod 755 bin/switch-to-configuration
  '';
}
