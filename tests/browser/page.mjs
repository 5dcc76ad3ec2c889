// The first page in a real browser, on the demo: what a person sees while agents work, and what
// the page says when the server is gone.
//
//   node tests/browser/page.mjs PROGRAM DATA_DIR KILO_INSTALL [SCREENSHOT]
//
// Needs playwright-core to be resolvable from NODE_PATH's folder and a chromium on the PATH;
// `.ci/run` installs both.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { once } from "node:events";
import path from "node:path";
import readline from "node:readline";

const [program, dataDir, kiloInstall, screenshot] = process.argv.slice(2);
const { chromium } = createRequire(path.join(process.env.NODE_PATH, "x.js"))("playwright-core");
const PATIENCE = { timeout: 120_000 };

const demo = spawn(program, ["demo", "--data-dir", dataDir, "--kilo-install", kiloInstall], {
  stdio: ["ignore", "pipe", "inherit"],
});
const lines = readline.createInterface({ input: demo.stdout });

/** The first line of the demo that fits; lines are heard from the start. */
const line = (fits) => new Promise((resolve, reject) => {
  setTimeout(() => reject(new Error(`no line ${fits}`)), PATIENCE.timeout).unref();
  lines.on("line", (text) => {
    const found = text.match(fits);
    if (found) resolve(found);
  });
});

let browser;
try {
  const [, url] = await line(/dashboard: (\S+)/);
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync"],
  });
  const page = await (await browser.newContext()).newPage();
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));

  // The one-time key opens it, and does not stay in the address.
  await page.goto(url);
  assert.match(await page.title(), /Gastown Dashboard/);
  const text = (words) => page.getByText(words).first();
  await text("Write a short note about this repository").waitFor(PATIENCE);
  assert.equal(new URL(page.url()).hash, "");

  // Live: each bead comes to its end without a reload.
  await text("Work without credentials").waitFor(PATIENCE);
  await text(/5 of 5/).waitFor(PATIENCE);
  await page.waitForFunction(() => document.body.innerText.split("5 of 5").length > 2, null, PATIENCE);
  await text(/credentials/i).waitFor(PATIENCE);
  const shown = await page.locator("main").innerText();
  for (const words of ["Closed", "Failed", "Meet an empty answer every time"]) {
    assert.ok(shown.includes(words), `${words} is missing in:\n${shown}`);
  }
  if (screenshot) await page.screenshot({ path: screenshot, fullPage: true });
  assert.deepEqual(complaints, [], "the browser complains");

  // A person holds one rig back, sees who did, and lets it go on; what was seen is counted no more.
  const keyless = page.locator("section.rig", { has: page.getByRole("heading", { name: "keyless" }) });
  await keyless.getByRole("button", { name: "Pause" }).click();
  await keyless.getByText(/^Paused by admin \(browser\) since /).waitFor(PATIENCE);
  await keyless.getByRole("button", { name: "Resume" }).click();
  await keyless.getByText(/^Paused by /).waitFor({ state: "hidden", ...PATIENCE });
  await text("3 things need you").waitFor(PATIENCE);
  await page.getByRole("button", { name: "I have seen it" }).first().click();
  await text("2 things need you").waitFor(PATIENCE);
  await text(/seen by admin \(browser\)/).waitFor(PATIENCE);
  const town = page.locator("section.rig", { has: page.getByRole("heading", { name: "Town Demo" }) });
  await town.getByRole("button", { name: "Stop now" }).click();
  await town.getByText(/^Stopped by admin \(browser\) since /).waitFor(PATIENCE);
  await town.getByRole("button", { name: "Resume" }).click();
  await town.getByText(/^Stopped by /).waitFor({ state: "hidden", ...PATIENCE });

  // A second use of the key opens nothing.
  const stranger = await (await browser.newContext()).newPage();
  await stranger.goto(url);
  await stranger.getByRole("heading", { name: "Sign in" }).waitFor(PATIENCE);

  // The server ends: the page must not look healthy any more.
  demo.kill("SIGINT");
  const [code] = await once(demo, "exit");
  assert.equal(code, 0);
  await page.getByText(/connection lost|lost the connection/i).first().waitFor(PATIENCE);
  console.log("browser: 1 passed, 0 failed");
} finally {
  await browser?.close();
  if (demo.exitCode === null) demo.kill("SIGKILL");
}
