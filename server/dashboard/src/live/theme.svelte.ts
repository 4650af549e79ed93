/** Dark or light: as the system says, until a person says otherwise. */
export type Theme = "system" | "light" | "dark";

const KEY = "ringward-theme";

/** Asked for the colours in force: a custom property alone keeps both, unresolved. */
const probe = document.createElement("span");

class ThemeChoice {
  choice = $state<Theme>(read());
  /** Grows when the colours changed: what is drawn on a canvas is drawn anew. */
  revision = $state(0);

  constructor() {
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => (this.revision += 1));
  }

  next(): void {
    const dark = this.isDark();
    this.choice = dark ? "light" : "dark";
    try {
      localStorage.setItem(KEY, this.choice);
    } catch {
      // Storage may be forbidden; the choice then lasts as long as the page.
    }
    this.apply();
  }

  isDark(): boolean {
    return this.choice === "dark" || (this.choice === "system" && matchMedia("(prefers-color-scheme: dark)").matches);
  }

  /** A colour of app.css as a canvas takes it: "--failed". */
  colour(name: string): string {
    if (!probe.isConnected) {
      probe.hidden = true;
      document.body.append(probe);
    }
    probe.style.color = `var(${name})`;
    return getComputedStyle(probe).color;
  }

  apply(): void {
    if (this.choice === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = this.choice;
    this.revision += 1;
  }
}

function read(): Theme {
  try {
    const kept = localStorage.getItem(KEY);
    return kept === "light" || kept === "dark" ? kept : "system";
  } catch {
    return "system";
  }
}

export const theme = new ThemeChoice();
