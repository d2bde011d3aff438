/** Registers, makes an agent, talks to it, and follows its events: `node dist/example.js https://localhost:20443`. */
import { events, hub } from "./index.js";

const url = process.argv[2];
if (url === undefined) throw new Error("usage: node dist/example.js <URL of a hub>");

function must<T>(answer: { data?: T; error?: unknown }, what: string): T {
  if (answer.data === undefined) throw new Error(`${what}: ${JSON.stringify(answer.error)}`);
  return answer.data;
}

const name = `ts-${process.pid}-${Date.now()}`;
const body = { email: `${name}@mail.example`, username: name, password: "correct horse battery" };
const session = must(await hub(url).POST("/api/v1/auth/register", { body }), "register").data;
const api = hub(url, session.access_token);

const made = await api.POST("/api/v1/agents", { body: { name: "Example", system_prompt: "Answer briefly." } });
const agent = must(made, "create the agent").data;
const asked = await api.POST("/api/v1/agents/{agent}/chat", { params: { path: { agent: agent.id } }, body: { message: "Hello from TypeScript" } });
const reply = must(asked, "chat") as { data: { run_id: string; response: string } };
console.log(reply.data.response);
for await (const frame of events(url, session.access_token, reply.data.run_id)) console.log(frame.id, frame.event);
must(await api.DELETE("/api/v1/agents/{agent}", { params: { path: { agent: agent.id } } }), "delete the agent");
