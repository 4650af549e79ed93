// Serves the dashboard built for tests, with the very headers the server sends: what the policy of
// the page forbids fails here too. `node stand-in.mjs FOLDER HEADERS PORT`
import { createServer } from "node:http";
import { readFileSync, existsSync, statSync } from "node:fs";
import { extname, join, normalize } from "node:path";

const [folder, headersFile, port] = process.argv.slice(2);
const KINDS = { ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".woff2": "font/woff2" };
const headers = Object.fromEntries(
  readFileSync(headersFile, "utf8")
    .split("\n")
    .filter((line) => line.includes(": "))
    .map((line) => [line.slice(0, line.indexOf(": ")), line.slice(line.indexOf(": ") + 2)]),
);

createServer((request, response) => {
  const path = normalize(new URL(request.url, "http://x").pathname);
  let file = join(folder, path);
  if (!existsSync(file) || statSync(file).isDirectory()) file = join(folder, "index.html");
  response.writeHead(200, { ...headers, "content-type": KINDS[extname(file)] ?? "application/octet-stream" });
  response.end(readFileSync(file));
}).listen(Number(port), "127.0.0.1");
