/** The pages that are not the first view: fetched when they are opened, or once the first view stands. */
import type { Component } from "svelte";
import type { Route } from "../model/route";

// Each page knows its own properties; here they only pass through.
type Page = Component<any>;

const SOURCES = {
  rollout: () => import("../pages/Rollout.svelte"),
  fleet: () => import("../pages/Fleet.svelte"),
  host: () => import("../pages/Host.svelte"),
  releases: () => import("../pages/Releases.svelte"),
  audit: () => import("../pages/Audit.svelte"),
  incidents: () => import("../pages/Incidents.svelte"),
  orders: () => import("../pages/Orders.svelte"),
} satisfies Partial<Record<Route["page"], () => Promise<{ default: Page }>>>;

type Name = keyof typeof SOURCES;

export function isLate(page: Route["page"]): page is Name {
  return page in SOURCES;
}

/** What the page of a route is told of it. */
export function propsOf(route: Route): Record<string, unknown> {
  const { page: _, ...rest } = route;
  return rest;
}

class Late {
  there = $state.raw<Partial<Record<Name, Page>>>({});
  problem = $state("");

  async fetch(name: Name): Promise<void> {
    if (this.there[name]) return;
    try {
      const { default: page } = await SOURCES[name]();
      this.there = { ...this.there, [name]: page };
      this.problem = "";
    } catch {
      this.problem = "This page could not be fetched from the server. If the server runs again, load it anew: it may be another version.";
    }
  }

  /** All of them, one after another while nothing else is to do: later the server may be away. */
  async fetchAll(): Promise<void> {
    for (const name of Object.keys(SOURCES) as Name[]) {
      await new Promise<void>((idle) => (globalThis.requestIdleCallback ?? ((f: () => void) => setTimeout(f, 200)))(() => idle()));
      await this.fetch(name);
    }
  }
}

export const late = new Late();
