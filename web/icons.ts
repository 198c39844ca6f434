/** The icons of the installed pages, drawn here: a hexagon on near-black, as PNG where a system takes no SVG. */
import { crc32, deflateSync } from "node:zlib";
import type { Plugin } from "vite";

type Colour = readonly [number, number, number];
const BACKGROUND: Colour = [11, 12, 14];
const AMBER: Colour = [255, 180, 84];
const GREEN: Colour = [126, 231, 135];
/** Points for each side of a pixel, so that edges are smooth. */
const SAMPLES = 4;

interface Icon {
  fileName: string;
  size_px: number;
  /** How much of half the size the hexagon reaches; what a system may cut off is beyond 0.8. */
  reach: number;
}

const ICONS: readonly Icon[] = [
  { fileName: "icon-192.png", size_px: 192, reach: 0.8 },
  { fileName: "icon-512.png", size_px: 512, reach: 0.8 },
  { fileName: "icon-maskable-512.png", size_px: 512, reach: 0.6 },
];

export function drawIcons(): Plugin {
  return {
    name: "hyperhive-icons",
    apply: "build",
    generateBundle() {
      for (const icon of ICONS)
        this.emitFile({ type: "asset", fileName: icon.fileName, source: renderPng(icon) });
    },
  };
}

function renderPng({ size_px, reach }: Icon): Buffer {
  // Each line begins with its filter: none.
  const lines = Buffer.alloc(size_px * (1 + 3 * size_px));
  for (let y = 0; y < size_px; y += 1) {
    for (let x = 0; x < size_px; x += 1) {
      lines.set(mixPixel(x, y, size_px / 2, reach), y * (1 + 3 * size_px) + 1 + 3 * x);
    }
  }
  const header = Buffer.alloc(13);
  header.writeUInt32BE(size_px, 0);
  header.writeUInt32BE(size_px, 4);
  // 8 bits for each of red, green and blue.
  header.set([8, 2, 0, 0, 0], 8);
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  return Buffer.concat([
    signature,
    chunk("IHDR", header),
    chunk("IDAT", deflateSync(lines, { level: 9 })),
    chunk("IEND", Buffer.alloc(0)),
  ]);
}

/** The mean colour of the points of a pixel. */
function mixPixel(x: number, y: number, half_px: number, reach: number): number[] {
  const sum = [0, 0, 0];
  for (let sample = 0; sample < SAMPLES * SAMPLES; sample += 1) {
    const across = Math.abs(x + ((sample % SAMPLES) + 0.5) / SAMPLES - half_px);
    const down = Math.abs(y + (Math.floor(sample / SAMPLES) + 0.5) / SAMPLES - half_px);
    // How far out the hexagon through that point is, that stands on a corner.
    const out = Math.max((2 * across) / Math.sqrt(3), down + across / Math.sqrt(3)) / (half_px * reach);
    findColour(out).forEach((part, channel) => {
      sum[channel] = (sum[channel] ?? 0) + part;
    });
  }
  return sum.map((part) => Math.round(part / (SAMPLES * SAMPLES)));
}

/** A ring around a core. */
function findColour(out: number): Colour {
  if (out <= 0.42) return GREEN;
  return out > 0.82 && out <= 1 ? AMBER : BACKGROUND;
}

function chunk(type: string, content: Buffer): Buffer {
  const named = Buffer.concat([Buffer.from(type, "latin1"), content]);
  const framed = Buffer.alloc(8 + named.length);
  framed.writeUInt32BE(content.length, 0);
  named.copy(framed, 4);
  framed.writeUInt32BE(crc32(named), 4 + named.length);
  return framed;
}
