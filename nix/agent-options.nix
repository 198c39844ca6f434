# The options of agent.nix: the fields of AgentConfig (src/hyperhive/wire/agent_config.py) in camelCase, of the same
# types and with the same defaults, which a test proves. What a text or number may be in detail the hive judges when it
# reads the evaluated options: it has one set of rules for all its containers.
{ config, lib, ... }:
let
  inherit (lib) mkIf mkOption types;

  cfg = config.hyperhive;

  option =
    type: default: description:
    mkOption { inherit type default description; };
  texts = option (types.listOf types.str) [ ];
  unset = type: option (types.nullOr type) null;

  server.options = {
    command = mkOption {
      type = types.str;
      description = "The program.";
    };
    args = texts "Its arguments.";
    env = option (types.attrsOf types.str) { } "Its variables, beside those of the container.";
    allowedTools =
      option (types.listOf types.str) [ "*" ]
        "The tools of it that may be called; `*`: all; empty: none.";
  };
  servers = types.attrsOf (types.submodule server);

  scheduleEntry.options = {
    cron = mkOption {
      type = types.str;
      description = "Minute, hour, day, month, weekday, in UTC.";
    };
    message = mkOption {
      type = types.str;
      description = "What it is sent, on one line.";
    };
  };
in
{
  options.hyperhive = {
    model = option types.str "" "The model; empty: claude's default.";
    allowedRecipients = texts "Whom it may send to; empty: anyone.";
    allowedTools = texts "claude's own tools that it may call; empty: any.";
    bash = {
      allow = texts "Commands that may be run, such as `git *`; empty: any.";
      deny = texts "Commands that may not be run; counts more than allow and ask.";
      ask = texts "Commands that the operator is asked about each time.";
    };
    mcpServers = option servers { } "MCP servers, by name.";
    packages = texts "Packages of the system that it needs.";
    environment = option (types.attrsOf types.str) { } "Variables of its container.";
    network = {
      mode = option (types.enum [
        "none"
        "proxied"
        "host"
      ]) "proxied" "What it may reach at all.";
      allow = texts "What may be reached through the proxy: `HOST`, `HOST:PORT`, `GET http://HOST/PATH*`.";
    };
    limits = {
      memory = unset types.str "Such as `2G`.";
      cpu = unset types.number "Cores.";
      tasks = unset types.int "Processes and threads.";
      disk = unset types.str "What its folders may hold, such as `20G`.";
    };
    budget = {
      tokensPerDay = unset types.int "Input, output and cache writes.";
      usdPerDay = unset types.number "US dollars.";
    };
    permissions.ask = texts "Tools that the operator is asked about each time, such as `WebFetch`.";
    schedule =
      option (types.listOf (types.submodule scheduleEntry)) [ ]
        "Messages sent to it at set times.";
    warmS = unset types.number "How long claude stays open after a turn, in seconds.";
    hibernateS = unset types.number "After how long its idle container stops, in seconds.";
    autostart = option types.bool true "Whether it starts with the hive.";
    resumeAfterLimit =
      option types.bool true
        "Whether it goes on by itself when the service's usage limit has passed.";
    compactAt =
      option types.number 0.75
        "How full its context may be, from 0.1 to 0.95, before it is compacted.";
    notesLimit =
      option types.int 32768
        "How long its notes.md may be, in bytes, before it is rewritten shorter; 0: never rewritten.";

    # Names of the first hive: configs that were written for it go on.
    allowedBashPatterns = unset (types.listOf types.str) "Another name of `bash.allow`.";
    extraMcpServers = unset servers "Another name of `mcpServers`.";
  };

  config.hyperhive = {
    bash.allow = mkIf (cfg.allowedBashPatterns != null) cfg.allowedBashPatterns;
    mcpServers = mkIf (cfg.extraMcpServers != null) cfg.extraMcpServers;
  };
}
