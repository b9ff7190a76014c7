// Chromium without a window, one with an empty profile for each test file.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import assert from 'node:assert/strict'
import { chromium } from 'playwright-core'
import { PATIENCE_MS } from '../../clients/lib/wait.js'

/** Nothing that talks to the browser's maker, and no sandbox, which containers do not allow. */
const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

/** Names that are this machine's for the browser. */
const hostRules = hosts => hosts.map(host => `MAP ${host} 127.0.0.1`).join(', ')

/**
 * Starts the browser named by PINWIRE_CHROMIUM. `hosts` are names that it takes to be this machine's; `home` holds what its
 * user trusts.
 */
export async function startBrowser({ hosts = [], home } = {}) {
  const profile = mkdtempSync(join(tmpdir(), 'pinwire-browser-'))
  const args = hosts.length === 0 ? FLAGS : [...FLAGS, `--host-resolver-rules=${hostRules(hosts)}`]
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.PINWIRE_CHROMIUM ?? '/usr/bin/chromium',
    headless: true,
    args,
    env: home === undefined ? process.env : { ...process.env, HOME: home },
    viewport: { width: 1200, height: 800 },
  })
  context.setDefaultTimeout(PATIENCE_MS)
  return {
    context,
    async stop() {
      await context.close()
      rmSync(profile, { recursive: true, force: true })
    },
  }
}

/** A new tab that notes what its page complains of. It is closed at the end of the test. */
export async function openTab(t, context) {
  const tab = await context.newPage()
  tab.complaints = []
  tab.on('pageerror', error => tab.complaints.push(String(error)))
  tab.on('console', message => {
    if (message.type() === 'error') tab.complaints.push(message.text())
  })
  t.after(() => tab.close())
  return tab
}

/** Nothing was thrown, and no policy broken. */
export function assertNoComplaints(...tabs) {
  for (const tab of tabs) assert.deepEqual(tab.complaints, [])
}
