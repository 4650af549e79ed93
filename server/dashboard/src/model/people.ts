/** Roles and what they carry, as the server's `Role::allows` has it. */
import { Role, type PersonView } from "../gen/ringward/v1/people_pb";
import { listed } from "./text";

export type Permission = "stop" | "rollout" | "host" | "contain" | "approve";

const NEEDS: Record<Permission, Role[]> = {
  stop: [Role.OPERATOR, Role.RESPONDER, Role.APPROVER, Role.ADMIN],
  rollout: [Role.OPERATOR],
  host: [Role.OPERATOR],
  contain: [Role.RESPONDER],
  approve: [Role.APPROVER],
};

export const roleName: Record<Role, string> = {
  [Role.UNSPECIFIED]: "unknown",
  [Role.VIEWER]: "viewer",
  [Role.OPERATOR]: "operator",
  [Role.RESPONDER]: "responder",
  [Role.APPROVER]: "approver",
  [Role.ADMIN]: "admin",
};

/** Why a person may not; nothing where they may, or where their roles are not known yet. */
export function lacks(person: PersonView | undefined, permission: Permission): string | undefined {
  if (!person || person.grants.some((g) => NEEDS[permission].includes(g.role))) return undefined;
  const needed = NEEDS[permission].map((r) => roleName[r]);
  const article = /^[aeiou]/u.test(needed[0]!) ? "an" : "a";
  return `it needs ${permission === "stop" ? "any role but viewer" : `${article} ${listed(needed)}`}; you are ${roles(person)}`;
}

export function roles(person: PersonView): string {
  return listed([...new Set(person.grants.map((g) => roleName[g.role] ?? "unknown"))]) || "nobody here";
}
