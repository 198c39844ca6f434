# Every option, none at its default: full.toml says the same.
{
  hyperhive = {
    model = "claude-opus";
    allowedRecipients = [ "bob" "manager" ];
    allowedTools = [ "Read" "Bash" ];
    packages = [ "hello" "ripgrep" ];
    warmS = 60.5;
    hibernateS = 900;
    autostart = false;
    resumeAfterLimit = false;
    compactAt = 0.5;
    notesLimit = 1024;

    bash = {
      allow = [ "git *" ];
      deny = [ "git push *" ];
      ask = [ "curl *" ];
    };

    mcpServers = {
      Note_server = {
        command = "/bin/notes";
        args = [ "--all" "--all" ];
        env.NOTES_PLACE = "/state";
        allowedTools = [ "get_*" ];
      };
      other.command = "other";
    };

    environment = {
      EDITOR = "vim";
      snake_case = "stays";
    };

    network = {
      mode = "host";
      allow = [ "example.org" "*.example.org:8443" ];
    };

    limits = {
      memory = "2G";
      cpu = 1.5;
      tasks = 100;
      disk = "20G";
    };

    budget = {
      tokensPerDay = 1000000000000;
      usdPerDay = 2;
    };

    permissions.ask = [ "WebFetch" ];

    schedule = [
      {
        cron = "0 9 * * mon-fri";
        message = "good morning";
      }
    ];
  };
}
