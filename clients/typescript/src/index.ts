/**
 * A typed client of an AIOX hub. Paths, parameters, bodies and answers are those of `openapi/node.json`:
 * `schema.ts` is generated from it, and a call that the document does not know does not compile.
 */
import createClient, { type Client } from "openapi-fetch";
import type { components, paths } from "./schema.js";

export type { components, paths };
/** A document by its name, for instance `Document<"Agent">`. */
export type Document<Name extends keyof components["schemas"]> = components["schemas"][Name];
/** A client with the credential that it was made with. */
export type Hub = Client<paths>;

/**
 * A client of the hub at `url`.
 *
 * @param url base URL of the product listener, for instance `https://hub.hub-a.example`
 * @param credential access token or API key; none for the calls that sign in
 */
export function hub(url: string, credential?: string): Hub {
  const headers = credential === undefined ? {} : { Authorization: `Bearer ${credential}` };
  return createClient<paths>({ baseUrl: url.replace(/\/+$/, ""), headers });
}

/** One server-sent event. */
export interface Frame {
  event: string;
  id: string;
  data: unknown;
}

/**
 * The events of a run from after a cursor until its end. Comments (heartbeats) are left out. When the connection breaks the
 * generator ends; call it again with the `id` of the last frame.
 */
export async function* events(url: string, credential: string, run: string, after = "0"): AsyncGenerator<Frame> {
  const response = await fetch(`${url.replace(/\/+$/, "")}/api/v1/runs/${encodeURIComponent(run)}/events`, {
    headers: { Authorization: `Bearer ${credential}`, "Last-Event-ID": after },
  });
  if (response.status === 204 || response.body === null) return;
  if (!response.ok) throw new Error(`events of ${run}: ${response.status} ${await response.text()}`);
  let rest = "";
  for await (const part of response.body.pipeThrough(new TextDecoderStream())) {
    rest += part;
    for (let end = rest.indexOf("\n\n"); end >= 0; end = rest.indexOf("\n\n")) {
      const lines = rest.slice(0, end).split("\n");
      rest = rest.slice(end + 2);
      const field = (name: string) => lines.find((line) => line.startsWith(`${name}:`))?.slice(name.length + 1).trim() ?? "";
      if (field("data") !== "") yield { event: field("event"), id: field("id"), data: JSON.parse(field("data")) };
    }
  }
}
