# An agent is made: its container runs as a machine of its own, and it has what its config says.
{ hive }:
{
  name = "hyperhive-spawn";

  nodes.machine = hive.makeMachine [ "alice" ];

  testScript =
    hive.prelude
    + ''
      hive("spawn alice")
      wait_state("alice", "idle")
      machine.succeed("systemctl is-active container@h-alice.service container@hm1nd.service")

      # Its conf: no address, no port, a user namespace.
      conf = machine.succeed("cat /etc/nixos-containers/h-alice.conf")
      assert "PRIVATE_NETWORK=1" in conf, conf
      assert "HOST_ADDRESS=10" not in conf, conf
      assert "PRIVATE_USERS=0" not in conf and "PRIVATE_USERS=no" not in conf, conf

      # Its shell is a user's, in its folder, and sees no network but its own loopback.
      wait_output("alice", "echo uid-$(id -u)-in-$(pwd)", "uid-1000-in-/state")
      wait_output("alice", "ls /sys/class/net | tr -d '[:space:]'; echo -only", "lo-only")
      # git is there, by the system's path; the host's builder is not.
      wait_output("alice", "git --version | cut -c1-11", "git version")
      wait_output("alice", "test -w /nix/var/nix/daemon-socket/socket || echo no-builder", "no-builder")

      # Who is in hive-admin may connect to host.sock, and nobody else.
      assert machine.succeed("stat -c %a:%G /run/hyperhive/host.sock").strip() == "660:hive-admin"

      # Nothing is left of it once it is destroyed.
      hive("destroy alice --yes")
      machine.wait_until_fails("test -e /etc/nixos-containers/h-alice.conf")
      assert find_leader("h-alice") == ""
    '';
}
