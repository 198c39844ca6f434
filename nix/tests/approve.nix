# What the manager asks for happens when it is approved, and not before.
{ hive }:
{
  name = "hyperhive-approve";

  nodes.machine = hive.makeMachine [ "tester" ];

  testScript =
    hive.prelude
    + ''
      hive("send manager 'we need a tester'")
      machine.wait_until_succeeds("hive pending --json | grep -F tester")
      assert get_row("tester") is None
      machine.fail("test -e /etc/nixos-containers/h-tester.conf")

      [request] = ask("pending")
      hive(f"approve {request['id']} --wait")
      wait_state("tester", "idle")
      wait_output("tester", "echo h3re", "h3re")

      # What is denied leaves no trace.
      hive("send manager 'we need a writer'")
      machine.wait_until_succeeds("hive pending --json | grep -F writer")
      [request] = ask("pending")
      hive(f"deny {request['id']} --reason no")
      assert get_row("writer") is None
      machine.fail("test -e /etc/nixos-containers/h-writer.conf")
    '';
}
