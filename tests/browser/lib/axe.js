// What axe-core finds wrong with a page for people who do not see it, or use no pointer.

import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import assert from 'node:assert/strict'

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
const TAGS = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']

export async function assertAccessible(tab, what) {
  // Through the debugger: the page's policy lets no script in.
  await tab.evaluate(AXE)
  const found = await tab.evaluate(async tags => {
    const { violations } = await globalThis.axe.run(document, { runOnly: tags })
    return violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(({ html }) => html).join(' | ')}`)
  }, TAGS)
  assert.deepEqual(found, [], what)
}
