/** Holds the fleet as the server tells it, and keeps it fresh: the first time all of it, then changes. */
import { Fleet } from "../model/fleet";
import { live } from "./live.svelte";
import { said } from "./clients";

/** Pause between two askings for what changed; a quiet fleet answers with a few bytes. */
const AGAIN_MS = 1_500;
/** While the page is not in sight. */
const AGAIN_UNSEEN_MS = 15_000;

class FleetLive {
  fleet = new Fleet();
  revision = $state(0);
  /** Everything was told once. */
  complete = $state(false);
  problem = $state("");
  private users = 0;
  private walking = false;

  /** Keeps the fleet fresh while somebody looks; answers how to stop. */
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
      await new Promise((wake) => setTimeout(wake, document.hidden ? AGAIN_UNSEEN_MS : AGAIN_MS));
    }
    this.walking = false;
  }

  private async once(): Promise<void> {
    const { picture, revision, told } = this.fleet;
    let changed = false;
    for await (const part of live.clients.overview.fleet({ picture, revision, texts: told }, { timeoutMs: 60_000 })) {
      changed ||= part.hosts.length > 0 || part.gone.length > 0 || part.picture !== picture;
      this.fleet.put(part);
      // The first rows are drawn at once, the others when all of them are here.
      if (changed && (part.caughtUp || (!this.complete && this.revision === 0))) this.revision += 1;
      // Parts of a large fleet come faster than they are drawn: the page stays answerable between.
      if (!part.caughtUp) await new Promise((wake) => setTimeout(wake, 0));
    }
    this.complete = true;
  }
}

export const fleetLive = new FleetLive();
