// The example editor, built and served as its README says, and what a writer does in it.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { tokenEndpoint } from '../../../examples/editor/server/token.js'

export const EDITOR = fileURLToPath(new URL('../../../examples/editor', import.meta.url))
// The example's own Vite.
const { build, createServer, preview } = await import('../../../examples/editor/node_modules/vite/dist/node/index.js')

const common = { configFile: false, logLevel: 'error' }
const addressOf = server => `http://localhost:${server.httpServer.address().port}`

/** Builds `root` into a directory of its own. */
export async function buildSite(root) {
  const outDir = mkdtempSync(join(tmpdir(), 'pinwire-site-'))
  await build({ ...common, root, build: { target: 'es2022', outDir, emptyOutDir: true, chunkSizeWarningLimit: 1000 } })
  return { outDir, remove: () => rmSync(outDir, { recursive: true }) }
}

/** Serves a built site; `access` says where the node is, and what tokens are signed with. */
export async function serveSite({ outDir }, access) {
  const server = await preview({
    ...common,
    root: EDITOR,
    plugins: [tokenEndpoint(access)],
    build: { outDir },
    preview: { host: 'localhost', port: 0 },
  })
  return { url: addressOf(server), stop: () => server.close() }
}

/** `npm run dev`, with a node at `url`. */
export async function developEditor({ url }) {
  const cacheDir = mkdtempSync(join(tmpdir(), 'pinwire-vite-'))
  const server = await createServer({
    ...common,
    root: EDITOR,
    cacheDir,
    plugins: [tokenEndpoint({ url, secret: undefined })],
    server: { host: 'localhost', port: 0 },
  })
  await server.listen()
  return {
    url: addressOf(server),
    async stop() {
      await server.close()
      rmSync(cacheDir, { recursive: true, force: true })
    },
  }
}

/** What a writer sees and does. */
export class Writer {
  constructor(tab) {
    this.tab = tab
    this.content = tab.locator('.cm-content')
  }

  async open(site, document, name) {
    await this.tab.goto(`${site}/#${document}`)
    await this.content.waitFor()
    await this.tab.getByLabel('Your name').fill(name)
  }

  /** Types at the end of the text. */
  async type(text) {
    await this.content.focus()
    await this.tab.keyboard.press('Control+End')
    await this.tab.keyboard.type(text)
  }

  untilState(state) {
    return this.tab.locator(`#state[data-state=${state}]`).waitFor()
  }

  /** Waits until every one of `parts` stands in the text, and gives the text. */
  async untilHas(...parts) {
    const found = await this.tab.waitForFunction(parts => {
      // What others' cursors add is no text.
      const isText = node => !node.classList?.contains('cm-ySelectionCaret')
      const lineText = line => [...line.childNodes].filter(isText).map(node => node.textContent).join('')
      const text = [...document.querySelectorAll('.cm-line')].map(lineText).join('\n')
      return parts.every(part => text.includes(part)) && [text]
    }, parts)
    const [text] = await found.jsonValue()
    return text
  }

  /** Waits for another writer's cursor with their name. */
  untilCursorOf(name) {
    return this.tab.locator('.cm-ySelectionInfo', { hasText: name }).waitFor({ state: 'visible' })
  }
}
