/** The admin API as the page calls it. */
import { Code, ConnectError, createClient, type Client, type Interceptor, type Transport } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { AuditService, FleetService, PolicyService, ReleaseService, RolloutService, SuspectService, WatchService } from "../gen/ringward/v1/admin_pb";
import { OverviewService } from "../gen/ringward/v1/overview_pb";
import { ApprovalService, OrderService, PeopleService } from "../gen/ringward/v1/people_pb";

export interface Clients {
  fleet: Client<typeof FleetService>;
  releases: Client<typeof ReleaseService>;
  rollouts: Client<typeof RolloutService>;
  policy: Client<typeof PolicyService>;
  watch: Client<typeof WatchService>;
  overview: Client<typeof OverviewService>;
  audit: Client<typeof AuditService>;
  suspects: Client<typeof SuspectService>;
  orders: Client<typeof OrderService>;
  approvals: Client<typeof ApprovalService>;
  people: Client<typeof PeopleService>;
}

/** What is learned from every answer. */
export interface Heard {
  /** The server answered; its clock said this (Unix ms), where it said so. */
  answered(serverUnixMs: number | undefined): void;
  /** The session is over or was never there. */
  signedOut(): void;
}

function listening(heard: Heard): Interceptor {
  return (next) => async (request) => {
    try {
      const response = await next(request);
      const date = Date.parse(response.header.get("date") ?? "");
      heard.answered(Number.isNaN(date) ? undefined : date);
      return response;
    } catch (error) {
      if (ConnectError.from(error).code === Code.Unauthenticated) heard.signedOut();
      throw error;
    }
  };
}

export function clients(transport: Transport): Clients {
  return {
    fleet: createClient(FleetService, transport),
    releases: createClient(ReleaseService, transport),
    rollouts: createClient(RolloutService, transport),
    policy: createClient(PolicyService, transport),
    watch: createClient(WatchService, transport),
    overview: createClient(OverviewService, transport),
    audit: createClient(AuditService, transport),
    suspects: createClient(SuspectService, transport),
    orders: createClient(OrderService, transport),
    approvals: createClient(ApprovalService, transport),
    people: createClient(PeopleService, transport),
  };
}

/** The way to the server, or to the stand-in that builds for tests hold. */
export async function connect(heard: Heard): Promise<Clients> {
  const interceptors = [listening(heard)];
  if (import.meta.env.MODE === "mock") {
    const { mockTransport } = await import("../mock/transport");
    return clients(mockTransport(new URLSearchParams(location.search), interceptors));
  }
  return clients(createGrpcWebTransport({ baseUrl: location.origin, interceptors, defaultTimeoutMs: 15_000 }));
}

/** What went wrong, in the server's words. */
export function said(error: unknown): string {
  const e = ConnectError.from(error);
  if (e.code === Code.Unavailable && e.rawMessage === "") return "the server cannot be reached";
  return e.rawMessage === "Failed to fetch" || e.rawMessage.startsWith("NetworkError")
    ? "the server cannot be reached"
    : e.rawMessage;
}

/** A request id: drawn once a click. */
export function requestId(): Uint8Array<ArrayBuffer> {
  return crypto.getRandomValues(new Uint8Array(16));
}
