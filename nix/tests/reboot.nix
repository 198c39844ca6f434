# The machine is started anew: agents that ran run again, with what they kept; those that were stopped stay so.
{ hive }:
{
  name = "hyperhive-reboot";

  nodes.machine = hive.makeMachine [
    "alice"
    "bob"
  ];

  testScript =
    hive.prelude
    + ''
      for name in ("alice", "bob"):
          hive(f"spawn {name}")
          wait_state(name, "idle")
      wait_output("alice", "echo k3pt > /state/k3pt; echo wr1tten", "wr1tten")
      hive("stop bob")
      wait_state("bob", "stopped")

      machine.shutdown()
      machine.start()
      machine.wait_for_unit("hyperhive.service")
      wait_state("manager", "idle")
      wait_state("alice", "idle")
      assert get_row("bob")["state"] == "stopped"
      assert find_leader("h-bob") == ""
      wait_output("alice", "cat /state/k3pt | rev", "tp3k")
    '';
}
