import { useSignal } from "@preact/signals";
import type { DiffHunk, DiffLine, FileDiff } from "../api_types.ts";
import { clipHunks, countLines, pairLines } from "../diff.ts";
import { narrow, sideBySide } from "../settings.ts";
import { renderSize, renderVisible } from "../text.ts";
import { Fold } from "./fold.tsx";
import { ChangeSign } from "./meaning.tsx";
import { Exact, Inline } from "./text.tsx";

/** Lines shown at once of one file, and more on request: one huge file cannot stall the page. */
const CLIP_LINES = 1_000;
/** Characters shown at once of one line. */
const CLIP_CHARS = 2_000;
/** Files open at first; more of them are folded. */
const OPEN_FILES = 20;

/** How files differ, each in a fold of its own; a large one is closed at first unless `large` says otherwise. */
export function DiffFiles({ files, large = false }: { files: FileDiff[]; large?: boolean }) {
  if (files.length === 0) return <p class="empty">no file differs</p>;
  return (
    <div class="diff-files">
      {files.map((file, index) => (
        <DiffFile key={file.path} file={file} open={(large || !file.large) && index < OPEN_FILES} />
      ))}
    </div>
  );
}

/** Chooses between the two ways to show a diff. On a narrow screen there is only one. */
export function DiffMode() {
  if (narrow.value) return null;
  return (
    <button
      type="button"
      class="act act-quiet"
      aria-pressed={sideBySide.value}
      data-testid="diff-mode"
      data-mode={sideBySide.value ? "side-by-side" : "unified"}
      onClick={() => (sideBySide.value = !sideBySide.value)}
    >
      side by side
    </button>
  );
}

function DiffFile({ file, open }: { file: FileDiff; open: boolean }) {
  return (
    <Fold
      open={open}
      class="diff-file"
      testId={`diff-file-${file.path}`}
      summary={
        <>
          <ChangeSign change={file.change} />{" "}
          <span class="diff-path">
            <Exact text={file.path} />
          </span>{" "}
          <FileFacts file={file} />
          {file.large && countLines(file) > 0 && (
            <span class="diff-unfold">show {countLines(file)} lines</span>
          )}
        </>
      }
    >
      <FileBody file={file} />
    </Fold>
  );
}

function FileFacts({ file }: { file: FileDiff }) {
  return (
    <span class="diff-facts">
      {file.added > 0 && <span class="tone-good">+{file.added}</span>}
      {file.removed > 0 && <span class="tone-bad">−{file.removed}</span>}
      {file.binary && <span class="chip">binary</span>}
      {file.truncated && <span class="chip chip-warn">not shown whole</span>}
      {file.executable !== null && (
        <span class={file.executable ? "chip chip-warn" : "chip"}>
          {file.executable ? "becomes executable" : "no longer executable"}
        </span>
      )}
    </span>
  );
}

function FileBody({ file }: { file: FileDiff }) {
  const whole = useSignal(false);
  const { hunks, left } = clipHunks(file, whole.value ? Number.POSITIVE_INFINITY : CLIP_LINES);
  const side = sideBySide.value && !narrow.value;
  if (file.binary)
    return (
      <p class="diff-note">
        a binary file: {renderSize(file.old_size_bytes)} → {renderSize(file.new_size_bytes)}
      </p>
    );
  return (
    <>
      {file.truncated && (
        <p class="diff-note diff-note-warn">
          too long to be shown whole: {renderSize(file.old_size_bytes)} → {renderSize(file.new_size_bytes)}
        </p>
      )}
      {hunks.length === 0 && !file.truncated && <p class="diff-note">no line differs</p>}
      {hunks.length > 0 && (
        <section
          class="diff-box"
          // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
          tabIndex={0}
          aria-label={`differences in ${renderVisible(file.path)}`}
        >
          {side ? <SideBySide hunks={hunks} /> : <Unified hunks={hunks} />}
        </section>
      )}
      {left > 0 && (
        <button type="button" class="link diff-note" onClick={() => (whole.value = true)}>
          show {left} more lines
        </button>
      )}
    </>
  );
}

function Unified({ hunks }: { hunks: DiffHunk[] }) {
  return (
    <table class="diff">
      {hunks.map((hunk, index) => (
        <tbody key={index}>
          <HunkHead hunk={hunk} columns={3} />
          {hunk.lines.map((line, at) => (
            <tr key={at} class={`line line-${line.kind}`}>
              <td class="line-number">{line.old}</td>
              <td class="line-number">{line.new}</td>
              <LineText line={line} />
            </tr>
          ))}
        </tbody>
      ))}
    </table>
  );
}

function SideBySide({ hunks }: { hunks: DiffHunk[] }) {
  return (
    <table class="diff diff-split">
      <colgroup>
        <col class="line-number-column" />
        <col />
        <col class="line-number-column" />
        <col />
      </colgroup>
      {hunks.map((hunk, index) => (
        <tbody key={index}>
          <HunkHead hunk={hunk} columns={4} />
          {pairLines(hunk.lines).map(({ left, right }, at) => (
            <tr key={at} class="line">
              <td class={`line-number side-${left?.kind ?? "none"}`}>{left?.old}</td>
              <LineText line={left} />
              <td class={`line-number side-${right?.kind ?? "none"}`}>{right?.new}</td>
              <LineText line={right} />
            </tr>
          ))}
        </tbody>
      ))}
    </table>
  );
}

function HunkHead({ hunk, columns }: { hunk: DiffHunk; columns: number }) {
  return (
    <tr class="hunk-head">
      <td colSpan={columns}>
        <Inline text={hunk.header} />
      </td>
    </tr>
  );
}

const SIGNS = { added: "+", removed: "−", context: " " };

function LineText({ line }: { line: DiffLine | null }) {
  if (line === null) return <td class="line-text side-none" />;
  // What stands on neither side is no line of the file: git's note that it does not end with a line break.
  if (line.old === null && line.new === null)
    return (
      <td class={`line-text line-note side-${line.kind}`}>
        <Inline text={line.text} />
      </td>
    );
  return (
    <td class={`line-text side-${line.kind}`}>
      <span class="line-sign">{SIGNS[line.kind]}</span>
      <ClippedLine text={line.text} />
    </td>
  );
}

function ClippedLine({ text }: { text: string }) {
  const whole = useSignal(false);
  if (whole.value || text.length <= CLIP_CHARS) return <Exact text={text} />;
  return (
    <>
      <Exact text={text.slice(0, CLIP_CHARS)} />
      <button type="button" class="link" onClick={() => (whole.value = true)}>
        … {text.length - CLIP_CHARS} more characters
      </button>
    </>
  );
}
