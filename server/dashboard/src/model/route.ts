/** The address bar is the page's memory: what is looked at can be sent to a colleague. */
import { parseId } from "./ids";

export type Route =
  | { page: "rollouts" }
  | { page: "rollout"; id: bigint; ring: string; kind: string }
  | { page: "fleet" }
  | { page: "host"; id: bigint }
  | { page: "releases" }
  | { page: "audit" }
  | { page: "incidents" }
  | { page: "orders"; id: bigint | undefined }
  | { page: "nowhere"; path: string };

export function route(path: string, search: URLSearchParams): Route {
  const [first, second, ...rest] = path.split("/").filter((part) => part !== "");
  if (rest.length > 0) return { page: "nowhere", path };
  if (first === undefined || (first === "rollouts" && second === undefined)) return { page: "rollouts" };
  if (first === "rollouts") {
    const id = parseId("r", second!);
    if (id === undefined) return { page: "nowhere", path };
    return { page: "rollout", id, ring: search.get("ring") ?? "", kind: search.get("kind") ?? "" };
  }
  if (first === "orders") {
    const id = second === undefined ? undefined : parseId("o", second);
    return second !== undefined && id === undefined ? { page: "nowhere", path } : { page: "orders", id };
  }
  if (first === "hosts" && second !== undefined) {
    const id = parseId("h", second);
    return id === undefined ? { page: "nowhere", path } : { page: "host", id };
  }
  if (second === undefined && first === "fleet") return { page: "fleet" };
  if (second === undefined && first === "releases") return { page: "releases" };
  if (second === undefined && first === "audit") return { page: "audit" };
  if (second === undefined && first === "incidents") return { page: "incidents" };
  return { page: "nowhere", path };
}
