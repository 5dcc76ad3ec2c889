// The rig transition as a Durable Object of workerd with SQLite storage: three rows, one implicit
// transaction; the output gate holds the answer until it is committed.
import { DurableObject } from "cloudflare:workers";

export class Rig extends DurableObject {
  constructor(ctx, env) {
    super(ctx, env);
    this.sql = ctx.storage.sql;
    this.sql.exec("CREATE TABLE IF NOT EXISTS bead (id INTEGER PRIMARY KEY, value TEXT)");
    this.sql.exec("CREATE TABLE IF NOT EXISTS agent (id INTEGER PRIMARY KEY, value TEXT)");
    this.sql.exec("CREATE TABLE IF NOT EXISTS count (id INTEGER PRIMARY KEY, value INTEGER)");
    const [row] = this.sql.exec("SELECT value FROM count WHERE id = 0").toArray();
    this.count = row ? row.value : 0;
  }

  async fetch(request) {
    const { title, body } = await request.json();
    const n = ++this.count;
    const now = Date.now();
    const bead = { id: n, title, body, status: "in_progress", agent: n % 8, created_at: now };
    const agent = { id: n % 8, name: `agent-${n % 8}`, hook: n, since: now };
    this.sql.exec("INSERT INTO bead VALUES (?, ?)", n, JSON.stringify(bead));
    this.sql.exec("INSERT OR REPLACE INTO agent VALUES (?, ?)", agent.id, JSON.stringify(agent));
    this.sql.exec("INSERT OR REPLACE INTO count VALUES (0, ?)", n);
    return Response.json({ bead, agent }, { status: 201 });
  }
}

export default {
  async fetch(request, env) {
    const rig = new URL(request.url).pathname.split("/")[2];
    return env.RIG.get(env.RIG.idFromName(rig)).fetch(request);
  },
};
