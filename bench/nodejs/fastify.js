// Fastify as the proxy. Arguments: port, the app's host:port, the access log's file.
import { randomUUID } from "node:crypto";
import proxy from "@fastify/http-proxy";
import rateLimit from "@fastify/rate-limit";
import Fastify from "fastify";
import { accessLog } from "./watch.js";

const [port, target, file] = process.argv.slice(2);
const log = accessLog(file);
const app = Fastify({
  logger: false,
  trustProxy: "127.0.0.1",
  genReqId: () => randomUUID(),
  bodyLimit: 16 * 1024 * 1024,
  keepAliveTimeout: 60_000,
});

app.addHook("onRequest", async (request, reply) => {
  reply.header("x-request-id", request.id);
});
app.addHook("onResponse", async (request, reply) => {
  const sent = Number(reply.getHeader("content-length") ?? 0);
  log(request.id, request.ip, request.method, request.url, reply.statusCode, sent, reply.elapsedTime / 1000);
});
await app.register(rateLimit, { max: 100000, timeWindow: 1000 });
await app.register(proxy, {
  upstream: `http://${target}`,
  undici: { connections: 512, pipelining: 1 },
  replyOptions: {
    rewriteRequestHeaders: (request, fields) => ({
      ...fields,
      "x-forwarded-for": request.ip,
      "x-forwarded-proto": "http",
      "x-request-id": request.id,
    }),
  },
});
await app.listen({ port: Number(port), host: "127.0.0.1", backlog: 2048 });
