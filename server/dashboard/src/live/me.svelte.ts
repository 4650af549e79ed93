/** What the person at this page may do. The server decides; this only says so beforehand. */
import type { PersonView } from "../gen/ringward/v1/people_pb";
import { lacks, type Permission } from "../model/people";
import { live } from "./live.svelte";

const AGAIN_MS = 30_000;

class Me {
  person = $state.raw<PersonView | undefined>(undefined);

  /** Keeps the roles fresh while somebody is signed in; answers how to stop. */
  use(): () => void {
    let over = false;
    let wake = 0;
    const load = async () => {
      try {
        const person = await live.clients.people.whoAmI({});
        if (!over) this.person = person;
      } catch {
        // Unknown roles forbid nothing here: the server answers each order itself.
      }
      if (!over) wake = window.setTimeout(load, AGAIN_MS);
    };
    void load();
    return () => {
      over = true;
      clearTimeout(wake);
      this.person = undefined;
    };
  }

  /** Why an order that needs this is not for this person; nothing where it is. */
  lacks(permission: Permission): string | undefined {
    return lacks(this.person, permission);
  }
}

export const me = new Me();
