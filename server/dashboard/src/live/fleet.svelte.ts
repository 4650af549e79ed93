/** Loads the fleet page by page and keeps it fresh. */
import { Fleet } from "../model/fleet";
import { live } from "./live.svelte";
import { said } from "./clients";

const PAGE = 1_000;
/** Pause between two walks over the whole fleet; a large one takes longer by itself. */
const AGAIN_MS = 8_000;
/** Pause between pages of a later walk, so that a fleet of 100,000 costs the server next to nothing. */
const PAGE_PAUSE_MS = 250;
/** How often a change of the table is drawn while pages arrive. */
const DRAW_EVERY_MS = 250;

class FleetLive {
  fleet = new Fleet();
  revision = $state(0);
  total = $state<number | undefined>(undefined);
  /** The first walk is through. */
  complete = $state(false);
  problem = $state("");
  private users = 0;
  private walking = false;
  private drawnAt = 0;

  /** Keeps the fleet loaded while somebody looks; answers how to stop. */
  use(): () => void {
    this.users += 1;
    if (!this.walking) void this.walk();
    return () => (this.users -= 1);
  }

  private async walk(): Promise<void> {
    this.walking = true;
    while (this.users > 0) {
      try {
        await this.once();
        this.problem = "";
      } catch (error) {
        this.problem = said(error);
      }
      await sleep(AGAIN_MS);
    }
    this.walking = false;
  }

  private async once(): Promise<void> {
    let pageToken = new Uint8Array();
    do {
      const page = await live.clients.fleet.listHosts({ pageSize: PAGE, pageToken });
      this.fleet.put(page.hosts);
      this.total = Number(page.total + page.filteredOut);
      pageToken = page.nextPageToken as Uint8Array<ArrayBuffer>;
      const now = performance.now();
      if (pageToken.length === 0 || now - this.drawnAt > DRAW_EVERY_MS) {
        this.drawnAt = now;
        this.revision += 1;
      }
      if (pageToken.length > 0) await sleep(this.complete ? PAGE_PAUSE_MS : 0);
    } while (pageToken.length > 0 && this.users > 0);
    if (pageToken.length === 0) this.complete = true;
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((wake) => setTimeout(wake, ms));
}

export const fleetLive = new FleetLive();
