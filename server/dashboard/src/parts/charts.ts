/** ECharts with what this page draws and nothing else. */
import { BarChart, LineChart } from "echarts/charts";
import { AriaComponent, GridComponent, LegendComponent, TooltipComponent } from "echarts/components";
import { init, use, type ECharts } from "echarts/core";
import { CanvasRenderer } from "echarts/renderers";
import type { Sample } from "../model/history";
import { clock } from "../model/time";
import type { Series } from "../model/signals";

use([BarChart, LineChart, AriaComponent, GridComponent, LegendComponent, TooltipComponent, CanvasRenderer]);

export type { ECharts };

export function open(element: HTMLElement): ECharts {
  return init(element, undefined, { renderer: "canvas" });
}

/** The colour in force under a name of app.css, without its dashes. */
type Colour = (name: string) => string;

function axisOf(colour: Colour) {
  return { axisLine: { lineStyle: { color: colour("line-strong") } }, axisLabel: { color: colour("soft"), fontSize: 12 } };
}

/** What every chart has around it. */
function frame(colour: Colour) {
  return {
    textStyle: { fontFamily: "Plex, system-ui, sans-serif" },
    grid: { left: 8, right: 16, top: 52, bottom: 4, containLabel: true },
    legend: { top: 0, left: 0, itemWidth: 26, textStyle: { color: colour("ink"), fontSize: 12 } },
    // Drawn on the canvas: a tooltip of markup would need inline styles, which the page forbids.
    tooltip: {
      trigger: "axis",
      renderMode: "richText",
      backgroundColor: colour("sheet"),
      borderColor: colour("line-strong"),
      textStyle: { color: colour("ink"), fontSize: 12 },
      axisPointer: { lineStyle: { color: colour("line-strong") } },
    },
  };
}

/** Signals by kind, one bar a span of time. */
export function signals(series: Series, colour: Colour, still: boolean): Record<string, unknown> {
  const axis = axisOf(colour);
  return {
    animation: !still,
    animationDuration: 200,
    aria: { enabled: true, decal: { show: true }, label: { enabled: true, description: series.words } },
    ...frame(colour),
    xAxis: {
      type: "category",
      data: series.startsMs.map((ms) => clock(ms).replace(/:\d\d .*/u, "")),
      ...axis,
      axisTick: { show: false },
    },
    yAxis: { type: "value", minInterval: 1, ...axis, splitLine: { lineStyle: { color: colour("line") } } },
    series: series.kinds.map((kind, i) => ({
      name: kind.name,
      type: "bar",
      stack: "signals",
      barCategoryGap: "15%",
      data: kind.counts,
      itemStyle: { color: colour(SERIES_COLOURS[i % SERIES_COLOURS.length]!) },
      emphasis: { disabled: true },
    })),
  };
}

/** Told apart by ECharts' decals too. */
const SERIES_COLOURS = ["failed", "silent", "flight", "reverted", "confirmed", "away", "refused", "deferred"];

/** Exposed, confirmed and failed hosts on one time axis. */
export function exposures(samples: Sample[], untilMs: number, colour: Colour, still: boolean): Record<string, unknown> {
  const last = samples.at(-1);
  const upTo = last ? [...samples, { ...last, atMs: Math.max(untilMs, last.atMs) }] : samples;
  const line = (name: string, look: string, type: string, pick: (s: Sample) => number, symbol: string) => ({
    name,
    type: "line",
    step: "end",
    showSymbol: upTo.length < 40,
    symbol,
    symbolSize: 7,
    data: upTo.map((s) => [s.atMs, pick(s)]),
    lineStyle: { color: colour(look), width: 2, type },
    itemStyle: { color: colour(look) },
    emphasis: { disabled: true },
  });
  const axis = axisOf(colour);
  return {
    animation: !still && samples.length > 1,
    animationDuration: 200,
    aria: {
      enabled: true,
      decal: { show: true },
      label: { enabled: true, description: describe(samples) },
    },
    ...frame(colour),
    xAxis: {
      type: "time",
      minInterval: 1000,
      min: Math.min(upTo[0]?.atMs ?? untilMs, untilMs - 60_000),
      max: untilMs,
      ...axis,
      axisLabel: { ...axis.axisLabel, hideOverlap: true, formatter: (ms: number) => clock(ms).replace(/ .*/u, "") },
      splitLine: { show: false },
    },
    yAxis: { type: "value", minInterval: 1, ...axis, splitLine: { lineStyle: { color: colour("line") } } },
    series: [
      line("failure signals", "signal", "dotted", (s) => s.signals, "rect"),
      line("exposed", "flight", "solid", (s) => s.exposed, "triangle"),
      line("confirmed", "confirmed", "dashed", (s) => s.confirmed, "circle"),
      line("failed, silent or back", "failed", "solid", (s) => s.dead, "diamond"),
    ],
  };
}

/** The chart in words. */
export function describe(samples: Sample[]): string {
  const first = samples[0];
  const last = samples.at(-1);
  if (!first || !last) return "No change seen yet.";
  return `Hosts since ${clock(first.atMs)}: exposed ${first.exposed} to ${last.exposed}, confirmed ${first.confirmed} to ${last.confirmed}, failed ${first.dead} to ${last.dead}.`;
}
