// Reads streams of requests from standard input, each after its length (4 bytes, big-endian), with node's own HTTP
// server, and writes one line of JSON for each: what it read, or why it refused. The last request of a stream is for
// /the-end.
const http = require("http");
const crypto = require("crypto");
const { Duplex } = require("stream");

function read(data, done) {
  const found = [];
  const server = http.createServer({ maxHeaderSize: 1 << 20, requestTimeout: 0, headersTimeout: 0 }, (request, response) => {
    const hash = crypto.createHash("sha1");
    let size = 0;
    request.on("data", (part) => { hash.update(part); size += part.length; });
    request.on("end", () => {
      found.push([request.method, request.url, request.rawHeaders.length / 2, size, hash.digest("hex")]);
      response.end();
      if (request.url === "/the-end") { socket.destroy(); done(found); }
    });
  });
  server.on("clientError", (error) => { socket.destroy(); done({ refused: error.code, after: found.length }); });
  const socket = new Duplex({ read() {}, write(_part, _encoding, next) { next(); } });
  for (const name of ["setTimeout", "setNoDelay", "setKeepAlive", "ref", "unref"]) socket[name] = () => socket;
  server.emit("connection", socket);
  socket.push(data);
}

let waiting = Buffer.alloc(0);
let busy = false;

function next() {
  if (busy || waiting.length < 4) return;
  const end = 4 + waiting.readUInt32BE(0);
  if (waiting.length < end) return;
  const data = waiting.subarray(4, end);
  waiting = waiting.subarray(end);
  busy = true;
  let told = false;
  read(data, (found) => {
    if (told) return;
    told = true;
    process.stdout.write(JSON.stringify(found) + "\n");
    busy = false;
    setImmediate(next);
  });
}

process.stdin.on("data", (part) => { waiting = Buffer.concat([waiting, part]); next(); });
