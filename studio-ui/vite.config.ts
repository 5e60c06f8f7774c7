import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { defineConfig, type Plugin, type ProxyOptions } from "vite";

/** What the page is made from; a test compares it with the committed files. */
const SOURCES = ["index.html", "package-lock.json", "tsconfig.json", "vite.config.ts", "public", "src"];

function files(path: string): string[] {
  try {
    return readdirSync(path).sort().flatMap((name) => files(join(path, name)));
  } catch {
    return [path]; // not a folder
  }
}

/** Leaves the SHA-256 of the sources in build.json: name, a zero byte, content, a zero byte, for every file. */
function stamp(): Plugin {
  return {
    name: "stamp",
    generateBundle() {
      const hash = createHash("sha256");
      for (const file of SOURCES.flatMap(files)) hash.update(`${file}\0`).update(readFileSync(file)).update("\0");
      this.emitFile({ type: "asset", fileName: "build.json", source: `{"sources": "${hash.digest("hex")}"}\n` });
    },
  };
}

// The built page is committed: whoever installs impasto needs no Node.
/** `npm run dev` asks an `impasto serve` beside it, as if the page came from there. */
const SERVER: ProxyOptions = {
  target: "http://127.0.0.1:8400",
  changeOrigin: true,
  configure: (proxy) => proxy.on("proxyReq", (request) => request.removeHeader("origin")),
};

export default defineConfig({
  plugins: [stamp()],
  base: "/",
  build: {
    outDir: "../src/impasto/studio/static",
    emptyOutDir: true,
    target: "es2023",
    assetsInlineLimit: 0, // nothing inline: the page's Content-Security-Policy stays simple
    modulePreload: { polyfill: false },
  },
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  server: { proxy: Object.fromEntries(["/v1", "/readyz"].map((path) => [path, SERVER])) },
});
