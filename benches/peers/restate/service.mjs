// The rig transition as a virtual object of Restate: three state entries per invocation. State is
// lazy, so that a rig's history is not sent along with each call.
import * as restate from "@restatedev/restate-sdk";

// The SDK asks for Node 22; this is all that it misses in Node 20.
Promise.withResolvers ??= function () {
  let resolve, reject;
  const promise = new this((yes, no) => ([resolve, reject] = [yes, no]));
  return { promise, resolve, reject };
};

const rig = restate.object({
  name: "rig",
  options: { enableLazyState: true },
  handlers: {
    transition: async (ctx, { title, body }) => {
      const n = ((await ctx.get("count")) ?? 0) + 1;
      const now = Date.now();
      const bead = { id: n, title, body, status: "in_progress", agent: n % 8, created_at: now };
      const agent = { id: n % 8, name: `agent-${n % 8}`, hook: n, since: now };
      ctx.set(`bead/${n}`, bead);
      ctx.set(`agent/${agent.id}`, agent);
      ctx.set("count", n);
      return { bead, agent };
    },
  },
});

restate.serve({ services: [rig], port: Number(process.env.PORT) });
