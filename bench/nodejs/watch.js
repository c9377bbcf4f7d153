// What both Node peers write and count for each request: a line of JSON (pino, buffered) and two Prometheus metrics.
import pino from "pino";
import prometheus from "prom-client";

export function accessLog(file) {
  const logger = pino(pino.destination({ dest: file, sync: false, minLength: 4096 }));
  const requests = new prometheus.Counter({ name: "requests_total", help: "Requests.", labelNames: ["method", "status"] });
  const durations = new prometheus.Histogram({ name: "request_seconds", help: "Durations.", labelNames: ["method"] });
  return (request_id, client, method, path, status, bytes_out, seconds) => {
    requests.inc({ method, status });
    durations.observe({ method }, seconds);
    logger.info({ request_id, client, method, path, status, bytes_out, seconds });
  };
}
