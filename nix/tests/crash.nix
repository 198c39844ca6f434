# The daemon is killed: containers go on, and the next daemon adopts them. A container is killed: the hive says so.
{ hive }:
{
  name = "hyperhive-crash";

  nodes.machine = hive.makeMachine [ "alice" ];

  testScript =
    hive.prelude
    + ''
      hive("spawn alice")
      wait_state("alice", "idle")
      before = find_leader("h-alice")
      assert before

      machine.succeed("systemctl kill --kill-whom=main --signal=KILL hyperhive.service")
      machine.wait_until_succeeds("test $(systemctl show --property=NRestarts --value hyperhive.service) -ge 1")
      machine.wait_for_unit("hyperhive.service")
      wait_state("alice", "idle")
      assert find_leader("h-alice") == before
      wait_output("alice", "echo st1ll-here", "st1ll-here")

      # An agent that crashed is started again by the hive, as a new container.
      machine.succeed("machinectl kill --kill-whom=leader --signal=KILL h-alice")
      machine.wait_until_succeeds("test -n \"$(machinectl show --property=Leader --value h-alice)\"")
      wait_state("alice", "idle")
      assert find_leader("h-alice") != before
      wait_output("alice", "echo b4ck", "b4ck")
    '';
}
