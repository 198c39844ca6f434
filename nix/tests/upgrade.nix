# The machine's configuration moves on: the daemon is replaced under its agents, which are then stale and built anew.
{ hive }:
{
  name = "hyperhive-upgrade";

  nodes.machine = {
    imports = [ (hive.makeMachine [ "alice" ]) ];
    # The same files at another place: what systems are built from has moved, and what they are has not.
    specialisation.moved.configuration.services.hyperhive.inputs.hyperhive = hive.moved;
  };

  testScript =
    hive.prelude
    + ''
      hive("spawn alice")
      wait_state("alice", "idle")
      before = find_leader("h-alice")
      assert not get_row("alice")["needs_update"]

      machine.succeed("/run/current-system/specialisation/moved/bin/switch-to-configuration test")
      machine.wait_for_unit("hyperhive.service")
      wait_state("alice", "idle")
      assert find_leader("h-alice") == before
      assert get_row("alice")["needs_update"]

      hive("rebuild --stale")
      retry(lambda _: not get_row("alice")["needs_update"])
      wait_state("alice", "idle")
      assert find_leader("h-alice") != before
      wait_output("alice", "echo m0ved", "m0ved")
    '';
}
