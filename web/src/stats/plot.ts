import { effect } from "@preact/signals";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { isLight } from "../settings.ts";
import { type Drawing, type DrawnLine, findLonely } from "./charts.ts";
import type { Span, Stats } from "./page.ts";
import { renderTick } from "./words.ts";

export interface PlotOptions {
  stats: Stats;
  drawing: Drawing;
  span: Span;
  /** Counts are drawn as steps, levels as lines. */
  steps: boolean;
  /** How far apart figures at the left axis may be, where that is not a matter of tens. */
  axisSteps?: readonly number[];
  /** Names a figure at the left axis. */
  renderAxis: (value: number) => string;
  /** The slot that is pointed at; null: none. */
  onPoint: (slot: number | null) => void;
  /** A part was marked by drag; null: the whole is wanted back. */
  onZoom: (span: Span | null) => void;
}

/** A chart in the page. `update` wants a drawing of the same lines. */
export interface Plot {
  update(stats: Stats, drawing: Drawing, span: Span): void;
  /** Points at a slot, as the mouse would. */
  point(slot: number): void;
  close(): void;
}

export type DrawPlot = (target: HTMLElement, options: PlotOptions) => Plot;

const HEIGHT_PX = 170;
const LOOKS = 8;
const DASHES = [[], [7, 4], [2, 3], [10, 3, 2, 3]];
/** All charts of a page point at the same instant. */
const SYNC = "stats";
/** A click that trembles is no drag. */
const DRAG_LEAST_PX = 6;

export const lookColor = (look: number) => `--chart-${(look % LOOKS) + 1}`;
/** Colours come again after `LOOKS` lines, with other dashes. */
export const lookDash = (look: number) => DASHES[(look + Math.floor(look / LOOKS)) % DASHES.length] ?? [];

type ReadColor = (name: string) => string;

/** Reads colours as they are now, which a canvas cannot by itself: they depend on the theme. */
function openColors(target: HTMLElement) {
  const probe = document.createElement("span");
  probe.hidden = true;
  target.append(probe);
  const known = new Map<string, string>();
  return {
    read(name: string): string {
      const found = known.get(name);
      if (found !== undefined) return found;
      probe.style.color = `var(${name})`;
      const { color } = getComputedStyle(probe);
      known.set(name, color);
      return color;
    },
    forget: () => known.clear(),
    close: () => probe.remove(),
  };
}

export const drawPlot: DrawPlot = (target, options) => {
  let { stats, drawing, span } = options;
  const colors = openColors(target);

  const chart = new uPlot(
    {
      width: Math.max(target.clientWidth, 100),
      height: HEIGHT_PX,
      legend: { show: false },
      padding: [10, 26, 0, 0],
      scales: {
        x: { time: true, range: () => [span.from, span.to] },
        y: { range: (_, _min, max) => [0, max > 0 ? max * 1.1 : 1] },
      },
      series: [{}, ...drawing.lines.map((line) => describeSeries(line, options.steps, colors.read))],
      axes: [
        describeTimeAxis(colors.read),
        {
          ...describeAxis(colors.read),
          ...(options.axisSteps ? { incrs: [...options.axisSteps] } : {}),
          values: (_, at) => at.map(options.renderAxis),
          size: 62,
        },
      ],
      cursor: {
        y: false,
        points: { size: 7 },
        drag: { x: true, y: false, setScale: false },
        sync: { key: SYNC, filters: { pub: (type) => type === "mousemove" || type === "mouseleave" } },
        bind: {
          dblclick: () => () => {
            options.onZoom(null);
            return null;
          },
        },
      },
      hooks: {
        drawClear: [(self) => shadeMissing(self, drawing.missing, colors.read("--chart-missing"))],
        setCursor: [
          (self) => options.onPoint((self.cursor.left ?? -1) < 0 ? null : (self.cursor.idx ?? null)),
        ],
        setSelect: [
          (self) => {
            const { left, width } = self.select;
            self.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
            if (width < DRAG_LEAST_PX) return;
            options.onZoom({ from: self.posToVal(left, "x"), to: self.posToVal(left + width, "x") });
          },
        ],
      },
    },
    listColumns(stats, drawing),
    target,
  );

  const watcher = new ResizeObserver(() => {
    if (target.clientWidth > 0) chart.setSize({ width: target.clientWidth, height: HEIGHT_PX });
  });
  watcher.observe(target);
  let known = false;
  const unfollow = effect(() => {
    isLight.value;
    colors.forget();
    if (known) chart.redraw(false);
    known = true;
  });

  return {
    update(...next) {
      [stats, drawing, span] = next;
      chart.batch(() => {
        chart.setData(listColumns(stats, drawing), false);
        chart.setScale("x", { min: span.from, max: span.to });
      });
    },
    point(slot) {
      const left = chart.valToPos(stats.at[slot] ?? 0, "x");
      chart.setCursor({ left, top: chart.over.clientHeight / 2 });
    },
    close() {
      watcher.disconnect();
      unfollow();
      chart.destroy();
      colors.close();
    },
  };
};

const listColumns = (stats: Stats, drawing: Drawing): uPlot.AlignedData => [
  [...stats.at],
  ...drawing.lines.map((line) => [...line.values]),
];

function describeSeries(line: DrawnLine, steps: boolean, read: ReadColor): uPlot.Series {
  const stroke = () => read(lookColor(line.look));
  const stepped = steps ? uPlot.paths.stepped?.({ align: 1 }) : undefined;
  return {
    label: line.label,
    stroke,
    width: 1.75,
    dash: lookDash(line.look),
    ...(stepped ? { paths: stepped } : {}),
    points: {
      show: false,
      size: 5,
      fill: stroke,
      // The data of the plot, which may be newer than what it was made with.
      filter: (self, index) => findLonely((self.data[index] ?? []) as (number | null)[]),
    },
  };
}

const describeAxis = (read: ReadColor): uPlot.Axis => ({
  stroke: () => read("--dim"),
  font: `12px ${getComputedStyle(document.documentElement).fontFamily}`,
  grid: { stroke: () => read("--line"), width: 1 },
  ticks: { show: false },
});

const describeTimeAxis = (read: ReadColor): uPlot.Axis => ({
  ...describeAxis(read),
  space: 70,
  size: 28,
  values: (_, at, _axis, _space, stepS) => at.map((one) => renderTick(one, stepS)),
});

/** Hatched, so that what is missing shows without colours, too. */
function shadeMissing(self: uPlot, missing: readonly Span[], color: string): void {
  const { ctx, bbox } = self;
  ctx.save();
  ctx.beginPath();
  for (const gap of missing) {
    const left = self.valToPos(gap.from, "x", true);
    ctx.rect(left, bbox.top, self.valToPos(gap.to, "x", true) - left, bbox.height);
  }
  ctx.clip();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.strokeStyle = color;
  ctx.lineWidth = uPlot.pxRatio;
  ctx.beginPath();
  const apart = 7 * uPlot.pxRatio;
  for (let x = bbox.left - bbox.height; missing.length > 0 && x < bbox.left + bbox.width; x += apart) {
    ctx.moveTo(x, bbox.top + bbox.height);
    ctx.lineTo(x + bbox.height, bbox.top);
  }
  ctx.stroke();
  ctx.restore();
}
