/** The commands of the prompt line. Pure: who carries them out is `components/prompt_line`. */

export interface Command {
  name: string;
  /** What stands after it; empty when nothing may. */
  argument: string;
  optional?: boolean;
  words: string;
}

export const COMMANDS: Command[] = [
  { name: "help", argument: "", words: "shows what can be typed here" },
  { name: "cancel", argument: "", words: "interrupts the running turn" },
  { name: "compact", argument: "", words: "makes the conversation shorter, once no turn runs" },
  { name: "model", argument: "NAME", words: "the model from the next turn on; 'default' is the config's" },
  { name: "pause", argument: "reason", optional: true, words: "no new turn begins; messages wait" },
  { name: "resume", argument: "", words: "goes on" },
];

/** What is typed: a message, one of the commands, or something that looks like one, with what is wrong with it. */
export type Typed =
  | { kind: "message"; text: string }
  | { kind: "command"; name: string; argument: string }
  | { kind: "wrong"; message: string; hint: string };

const ESCAPE = "begin with // to send it as a message that begins with /";

/** What begins with `/` is a command; with `//`, a message that begins with one `/`. */
export function parseTyped(typed: string): Typed {
  if (typed.startsWith("//")) return { kind: "message", text: typed.slice(1) };
  if (!typed.startsWith("/")) return { kind: "message", text: typed };
  const [, name = "", argument = ""] = /^\/(\S*)\s*([\s\S]*)$/.exec(typed) ?? [];
  const command = COMMANDS.find((known) => known.name === name);
  if (command === undefined) return refuse(name);
  const given = argument.trim();
  if (given && !command.argument)
    return { kind: "wrong", message: `/${name} takes nothing after it`, hint: ESCAPE };
  if (!given && command.argument && !command.optional)
    return {
      kind: "wrong",
      message: `/${name} wants ${command.argument} after it`,
      hint: `/${name} ${command.argument}`,
    };
  return { kind: "command", name, argument: given };
}

function refuse(name: string): Typed {
  const near = COMMANDS.find((known) => name !== "" && known.name.startsWith(name));
  const hint = near ? `did you mean /${near.name}? or ${ESCAPE}` : `/help lists the commands; ${ESCAPE}`;
  return { kind: "wrong", message: `there is no command /${name.slice(0, 40)}`, hint };
}

/** The commands that what is typed may become; none once it is a whole one, or no command. */
export function findCompletions(typed: string): Command[] {
  const begun = /^\/([a-z]*)$/.exec(typed)?.[1];
  if (begun === undefined) return [];
  return COMMANDS.filter((command) => command.name.startsWith(begun) && command.name !== begun);
}

/** What stands in the field when a command was chosen. */
export const renderCompletion = (command: Command) => `/${command.name}${command.argument ? " " : ""}`;
