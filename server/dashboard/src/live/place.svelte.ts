/** Where the page is: the address bar, read and written. */
import { route, type Route } from "../model/route";

class Place {
  path = $state(location.pathname);
  search = $state(location.search);
  route: Route = $derived(route(this.path, new URLSearchParams(this.search)));

  constructor() {
    addEventListener("popstate", () => this.read());
    document.addEventListener("click", (event) => this.follow(event));
  }

  private read(): void {
    this.path = location.pathname;
    this.search = location.search;
  }

  go(address: string): void {
    if (address === this.path + this.search) return;
    history.pushState(null, "", keepMock(address));
    this.read();
    scrollTo({ top: 0 });
    document.querySelector<HTMLElement>("main")?.focus({ preventScroll: true });
  }

  /** Rewrites the present address without a step back to it. */
  replace(address: string): void {
    history.replaceState(null, "", keepMock(address));
    this.read();
  }

  private follow(event: MouseEvent): void {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = (event.target as Element | null)?.closest?.("a[href]");
    if (!(link instanceof HTMLAnchorElement) || link.origin !== location.origin || link.target !== "") return;
    event.preventDefault();
    this.go(link.pathname + link.search);
  }
}

/** A build for tests names its scene in the address; it goes along. */
function keepMock(address: string): string {
  if (import.meta.env.MODE !== "mock") return address;
  const url = new URL(address, location.origin);
  const now = new URLSearchParams(location.search);
  for (const key of ["scene", "hosts", "role", "door"]) {
    const value = now.get(key);
    if (value !== null && !url.searchParams.has(key)) url.searchParams.set(key, value);
  }
  return url.pathname + url.search;
}

export const place = new Place();
