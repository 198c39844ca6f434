# An agent: what it may do, and what its container has. All options: docs/nixos.md of the hive.
{ pkgs, ... }:
{
  hyperhive = {
    # Whom it may send to. Empty: anyone.
    allowedRecipients = [ "operator" ];

    # Commands that it may run, and those that you are asked about.
    bash.allow = [
      "git *"
      "rg *"
    ];
    bash.ask = [ "git push *" ];

    # Where it may go, beside the model.
    network.allow = [ ];

    limits = {
      memory = "2G";
      cpu = 1;
    };

    # Packages by name; `environment.systemPackages` below is for those that take more than a name.
    packages = [ "ripgrep" ];
  };

  environment.systemPackages = [ pkgs.jq ];
}
