// Express as the proxy. Arguments: port, the app's host:port, the access log's file.
import { randomUUID } from "node:crypto";
import http from "node:http";
import express from "express";
import { rateLimit } from "express-rate-limit";
import { createProxyMiddleware } from "http-proxy-middleware";
import { accessLog } from "./watch.js";

const [port, target, file] = process.argv.slice(2);
const log = accessLog(file);
const app = express();
app.disable("x-powered-by");
app.set("trust proxy", "127.0.0.1");

app.use((request, response, next) => {
  const id = randomUUID();
  const started = process.hrtime.bigint();
  request.headers["x-request-id"] = id;
  response.setHeader("x-request-id", id);
  response.on("finish", () => {
    const sent = Number(response.getHeader("content-length") ?? 0);
    const seconds = Number(process.hrtime.bigint() - started) / 1e9;
    log(id, request.ip, request.method, request.originalUrl, response.statusCode, sent, seconds);
  });
  next();
});
app.use(rateLimit({ windowMs: 1000, limit: 100000, standardHeaders: "draft-6", legacyHeaders: true }));
app.use(
  createProxyMiddleware({
    target: `http://${target}`,
    xfwd: true,
    agent: new http.Agent({ keepAlive: true, maxSockets: 512, maxFreeSockets: 512 }),
  }),
);

const server = app.listen(Number(port), "127.0.0.1", 2048);
server.keepAliveTimeout = 60_000;
